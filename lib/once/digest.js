'use strict'

// Which state an instance is in: the SHA-256 of its module, its memory, its globals and its tables.
// Two instances with the same digest do the same from there on, but for what their imports give.

const { createHash } = require('node:crypto')
const native = require('../platform/binding.js')
const { makeError, callNative } = require('../support/errors.js')
const { lengthOf } = require('../platform/v8.js')
const { encodeState } = require('../instance/encoding.js')
const { captureState } = require('../instance/state.js')

// OpenSSL takes less than 2 GiB at once.
const MOST_AT_ONCE = 1 << 30

/**
 * As hexadecimal digits. Pages of zeros count by what is not there, so the cost goes with the
 * pages that were ever written.
 */
function digestOfState({ linear, found }, moduleDigest) {
  refuseMapped(linear)
  const array = linear.current()
  const { handle } = linear.table
  const spans = callNative(() => native.dataIn(handle, array))
  const state = encodeState(captureState(found))
  const hash = createHash('sha256')
  const head = JSON.stringify(
    ['hostmap:once', moduleDigest, linear.address, lengthOf(array), Array.from(spans), state],
    exactly
  )
  hash.update(`${Buffer.byteLength(head)} ${head}`)
  for (let i = 0; i < spans.length; i += 2) {
    const end = spans[i] + spans[i + 1]
    for (let at = spans[i]; at < end; at += MOST_AT_ONCE) {
      hash.update(array.subarray(at, Math.min(end, at + MOST_AT_ONCE)))
    }
  }
  return hash.digest('hex')
}

/** What JSON has no text for, or the same for two. */
function exactly(key, value) {
  if (value instanceof Uint32Array) return Array.from(value)
  if (typeof value !== 'number' || (Number.isSafeInteger(value) && !Object.is(value, -0))) {
    return value
  }
  const bytes = Buffer.alloc(8)
  bytes.writeDoubleBE(value)
  return `float ${bytes.toString('hex')}`
}

function refuseMapped(linear) {
  if (callNative(() => native.entries(linear.table.handle)).length === 0) return
  throw makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    'the memory has mappings or windows, and once can not tell what another process would see there; unmap them, and map again afterwards'
  )
}

module.exports = { digestOfState, refuseMapped }
