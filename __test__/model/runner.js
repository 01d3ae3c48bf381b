'use strict'

// Who does the steps: this process, or another one, whose end is seen as a failure and not as one's
// own.

const { fork } = require('node:child_process')
const path = require('node:path')
const { World } = require('./world')
const { specs } = require('./steps')
const { failureOf, libraryCall } = require('./steps/call')

class LocalRunner {
  #world
  #plan = null

  constructor(setup, counts = {}) {
    this.#world = new World({ ...setup, counts })
  }

  get steps() {
    return this.#world.steps
  }

  /** What is to be done, in words; null if nothing is. */
  plan({ name, args, failure }) {
    this.#plan = specs.get(name).plan(this.#world, args)
    if (this.#plan === null) return null
    const { text, call, documented } = this.#plan
    if (!call || !failure) return text
    const { syscall, errno, before } = failureOf(documented, failure)
    return `${text}, while ${syscall} fails with ${errno} after ${before}`
  }

  /** Does what was planned, and compares. */
  async run({ name, failure }) {
    const world = this.#world
    const plan = this.#plan
    await plan.prepare?.()
    if (plan.call) await libraryCall(world, name, plan, failure)
    else world.count((await plan.run()) ?? name)
    await world.compare()
  }

  async end({ failed }) {
    await this.#world.end({ failed })
  }
}

const SERVE = path.join(__dirname, 'run.mjs')

/** Every run has a process of its own. */
class RemoteRunner {
  #child
  #ended
  #waiting = []
  steps = 0

  constructor(setup) {
    this.#child = fork(SERVE, ['--serve'], {
      serialization: 'advanced',
      execArgv: process.execArgv
    })
    this.#child.on('message', ({ value, error }) => {
      const { resolve, reject } = this.#waiting.shift()
      if (error) reject(Object.assign(new Error(error), { stack: error }))
      else resolve(value)
    })
    this.#ended = new Promise(resolve =>
      this.#child.once('exit', (code, signal) => {
        const error = new Error(`The process ended: ${signal ?? code}`)
        for (const { reject } of this.#waiting.splice(0)) reject(error)
        resolve()
      })
    )
    this.#ask('start', setup).catch(() => {})
  }

  #ask(what, data) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.#child.send({ what, data }, error => error && reject(error))
    })
  }

  plan(step) {
    return this.#ask('plan', step)
  }

  run(step) {
    this.steps++
    return this.#ask('run', step)
  }

  async end(how) {
    if (this.#child.connected) await this.#ask('end', how).finally(() => this.#child.disconnect())
    await this.#ended
  }
}

/** The other end of a RemoteRunner. */
function serve() {
  let runner
  const answers = {
    start: setup => void (runner = new LocalRunner(setup)),
    plan: step => runner.plan(step),
    run: step => runner.run(step),
    end: how => runner.end(how)
  }
  let before = Promise.resolve()
  process.on('message', ({ what, data }) => {
    // One after the other.
    before = before.then(async () => {
      try {
        process.send({ value: await answers[what](data) })
      } catch (error) {
        process.send({ error: error.stack })
      }
    })
  })
  process.on('disconnect', () => process.exit())
}

module.exports = { LocalRunner, RemoteRunner, serve }
