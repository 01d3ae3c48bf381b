'use strict'

// capture: runs a factory, and gives what it made together with the unit of its instances. Every
// instance that is made in the factory's async context is made from bytes that export its state.

const check = require('../support/arguments.js')
const { makeError } = require('../support/errors.js')
const { CaptureContext } = require('./context.js')
const { begin, end } = require('./replacements.js')
const { run } = require('./scope.js')
const { makeUnit } = require('./unit.js')

async function capture(make) {
  check.callback(make, 'make')
  const { value, unit } = await captureSteps({ make })
  return { value, unit }
}

/**
 * The same in several steps, which are one capture.
 *
 * @param make the factory
 * @param then what is called with what it gave, and with what its instances are: it may make more
 * @param owner see CaptureContext
 * @returns {{ value, unit, records }} `records`: see recordOf in exposed.js
 */
async function captureSteps({ make, then, owner }) {
  const context = new CaptureContext(owner)
  begin(true)
  try {
    const value = await run(context, () => make())
    if (then !== undefined) {
      const soFar = [...context.records.values()]
      mustBeCaptured(context, soFar, GAVE)
      await run(context, () => then(value, soFar))
    }
    context.ended = true
    const records = context.take()
    mustBeCaptured(context, records, then === undefined ? GAVE : 'init was done')
    // Before `end`: whom a table is given to is noted without a gap.
    return { value, unit: makeUnit(records, context, value), records }
  } catch (error) {
    context.take()
    // The glue of engines tells errors in words of its own.
    throw context.problem ?? error
  } finally {
    context.ended = true
    end(true)
  }
}

const GAVE = 'make gave its value'

function mustBeCaptured({ problem, pending }, records, when) {
  if (problem !== undefined) throw problem
  if (pending > 0) throw notAwaited(pending, when)
  if (records.length === 0) throw NOTHING()
}

const notAwaited = (count, when) =>
  makeError(
    'ERR_HOSTMAP_NOT_CAPTURED',
    `${when} while ${count === 1 ? 'an instance was' : `${count} instances were`} still being made; let it give a promise that waits for them`
  )

const NOTHING = () =>
  makeError(
    'ERR_HOSTMAP_NOT_CAPTURED',
    'make made no instance; what counts is made by WebAssembly.instantiate, instantiateStreaming or new WebAssembly.Instance, looked up during make and in its async context, so neither before, nor in a worker, nor after make has given its value'
  )

module.exports = { capture, captureSteps }
