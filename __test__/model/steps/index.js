'use strict'

// The steps of the model test. Each is plain data that fast-check makes up and shrinks: which step,
// and numbers that choose among what there is when it is run. Its plan finds out what is to be
// done, and what the model says to it; where the step makes no sense at that moment, there is none.

const fc = require('fast-check')
const { sometimes } = require('./arguments')
const { FAILURE } = require('./call')

const specs = new Map(
  [
    'regions',
    'data',
    'names',
    'paged',
    'files',
    'memories',
    'mappings',
    'adopted',
    'windows',
    'accesses',
    'threads'
  ]
    .flatMap(name => require(`./${name}`).steps)
    .map(spec => [spec.name, spec])
)

/** One step, as fast-check's commands are. A runner does it: see runner.js. */
class Step {
  #text

  constructor(name, args, failure) {
    this.data = { name, args, failure }
  }

  async check(runner) {
    const text = await runner.plan(this.data)
    this.#text = text ?? this.#text
    return text !== null
  }

  run(runner) {
    return runner.run(this.data)
  }

  toString() {
    return `\n  ${this.#text ?? this.data.name}`
  }
}

/** Steps of all kinds, and with `inject` system calls that fail. */
function anyStep({ inject }) {
  const failure = inject ? sometimes(FAILURE, 3) : fc.constant(null)
  const choices = Array.from(specs.values(), ({ name, weight, args }) => ({
    weight,
    arbitrary: fc
      .tuple(fc.record(args), failure)
      .map(([args, failure]) => new Step(name, args, failure))
  }))
  return fc.oneof(...choices)
}

module.exports = { specs, anyStep }
