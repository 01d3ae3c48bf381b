'use strict'

// The buffer of a memory that its module hides: what the caller's function gives, and whether a
// buffer is detached. The function is foreign code and may do anything, so nothing may be half done
// when it is called.

const { types } = require('node:util')
const { received } = require('../support/given.js')
const { sizeOf, Uint8Array } = require('../platform/v8.js')
const { THE_FUNCTION, hidden } = require('./errors.js')

/** What a function gives that is to give a memory's buffer as it is now. */
function bufferFrom(find, wrong = notBuffer) {
  let buffer
  try {
    buffer = find()
  } catch (cause) {
    throw Object.assign(hidden(`${THE_FUNCTION} threw; see cause`), { cause })
  }
  if (!types.isAnyArrayBuffer(buffer)) throw wrong(buffer, 'given by the function')
  if (isDetached(buffer)) {
    throw hidden(
      `${THE_FUNCTION} gave a buffer that is detached; it must look the buffer up each time, as () => Module.HEAPU8.buffer does`
    )
  }
  return buffer
}

const notBuffer = given =>
  hidden(`${THE_FUNCTION} gave ${received(given)} and not the memory's buffer`)

// Node 20 has no `ArrayBuffer.prototype.detached`; there, no view can be made over a detached
// buffer.
function isDetached(buffer) {
  if (sizeOf(buffer) > 0) return false
  try {
    new Uint8Array(buffer)
    return false
  } catch {
    return true
  }
}

module.exports = { bufferFrom, isDetached }
