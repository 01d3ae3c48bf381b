'use strict'

// Who called a function: the frames below it, on this thread's stack. What V8 tells of that is the
// stack of an error.

const { getOwnPropertyDescriptor } = require('./intrinsics.js')

// As they are now; a script may replace what makes the text of stacks, so that is put back.
const { captureStackTrace } = Error
const { defineProperty, deleteProperty } = Reflect

const FORMAT = 'prepareStackTrace'
const LIMIT = 'stackTraceLimit'

/**
 * What `look` gives of the frames below a function, nearest first, as CallSites of V8's. Undefined
 * where a script has made it impossible to ask: where Error is frozen.
 */
function lookAtCallers(below, limit, look) {
  const format = getOwnPropertyDescriptor(Error, FORMAT)
  const before = getOwnPropertyDescriptor(Error, LIMIT)
  let found
  const prepare = (error, sites) => {
    found = look(sites)
    return ''
  }
  try {
    if (!set(FORMAT, prepare) || !set(LIMIT, limit)) return undefined
    const asked = {}
    captureStackTrace(asked, below)
    // Only now does V8 call what formats it.
    void asked.stack
    return found
  } finally {
    putBack(FORMAT, format)
    putBack(LIMIT, before)
  }
}

const set = (name, value) =>
  defineProperty(Error, name, { value, writable: true, enumerable: true, configurable: true })

function putBack(name, descriptor) {
  if (descriptor === undefined) deleteProperty(Error, name)
  else defineProperty(Error, name, descriptor)
}

module.exports = { lookAtCallers }
