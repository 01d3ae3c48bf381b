'use strict'

// capture: runs a factory, and gives what it made together with the unit of its instances. Every
// instance that is made in the factory's async context is made from bytes that export its state.

const check = require('../support/arguments.js')
const { makeError } = require('../support/errors.js')
const { CaptureContext, run, rest } = require('./context.js')
const { install, uninstall } = require('./replacements.js')
const { makeUnit } = require('./unit.js')

// How many captures run.
let running = 0

async function capture(make) {
  check.callback(make, 'make')
  const context = new CaptureContext()
  begin()
  let value
  try {
    value = await run(context, () => make())
  } catch (error) {
    context.take()
    // The glue of engines tells errors in words of its own.
    throw context.problem ?? error
  } finally {
    context.ended = true
    end()
  }
  const records = context.take()
  if (context.problem !== undefined) throw context.problem
  if (context.pending > 0) throw notAwaited(context.pending)
  if (records.length === 0) throw NOTHING()
  return { value, unit: makeUnit(records, context, value) }
}

function begin() {
  if (running === 0) install()
  running += 1
}

function end() {
  running -= 1
  if (running > 0) return
  uninstall()
  rest()
}

const notAwaited = count =>
  makeError(
    'ERR_HOSTMAP_NOT_CAPTURED',
    `make gave its value while ${count === 1 ? 'an instance was' : `${count} instances were`} still being made; let it give a promise of what is ready`
  )

const NOTHING = () =>
  makeError(
    'ERR_HOSTMAP_NOT_CAPTURED',
    'make made no instance; what counts is made by WebAssembly.instantiate, instantiateStreaming or new WebAssembly.Instance, looked up during make and in its async context, so neither before, nor in a worker, nor after make has given its value'
  )

module.exports = { capture }
