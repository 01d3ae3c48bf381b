'use strict'

// Bytes that a caller passes: checked, and seen through V8's own Uint8Array, whatever scripts have
// made of the global one. Never a copy: `unshared` makes one where other threads may write.

const { types } = require('node:util')
const { wrongType, wrongValue } = require('../support/wrong.js')
const { instead } = require('../support/given.js')
const { Uint8Array, arrayParts, dataViewParts, valuesOf } = require('./intrinsics.js')

/** Any object with bytes, as a Uint8Array over them. */
function bytes(value, name, remedyFor = instead.bytes) {
  const isView = ArrayBuffer.isView(value)
  if (!isView && !types.isAnyArrayBuffer(value)) throw notBytes(value, name, remedyFor)
  // A detached buffer can't be asked for more than its length, which is 0 then.
  if (value.byteLength === 0)
    throw wrongValue(name, 'at least 1 byte long, and not detached', value)
  return isView
    ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
    : new Uint8Array(value)
}

/** The same, where there may be none. Asks V8 and no property of the caller's. */
function anyBytes(value, name, remedyFor = instead.bytes) {
  const isView = ArrayBuffer.isView(value)
  if (!isView && !types.isAnyArrayBuffer(value)) throw notBytes(value, name, remedyFor)
  const { buffer, byteOffset, byteLength } = types.isDataView(value) ? dataViewParts : arrayParts
  try {
    if (!isView) return new Uint8Array(value)
    const length = byteLength(value)
    // Of an array that its buffer has shrunk away from V8 says 0 for all, and refuses this alone.
    if (length === 0 && !types.isDataView(value)) valuesOf(value)
    return new Uint8Array(buffer(value), byteOffset(value), length)
  } catch {
    // V8 makes no array over what is detached, or has shrunk to where the view is not.
    throw wrongValue(name, 'not detached, nor outside of its buffer', value)
  }
}

const notBytes = (value, name, remedyFor) =>
  wrongType(name, 'an ArrayBuffer, a SharedArrayBuffer, or a view of one', value, remedyFor(value))

/** The bytes of a module, if a look at their beginning does not refuse them. */
function moduleBytes(value, name) {
  const array = bytes(value, name, instead.module)
  const isModule = array[0] === 0 && array[1] === 0x61 && array[2] === 0x73 && array[3] === 0x6d
  if (isModule || array.length < 4) return array
  const text = Buffer.from(array.subarray(0, 4)).toString('latin1')
  const isText = /^\s*\(/.test(Buffer.from(array.subarray(0, 100)).toString('latin1'))
  const remedy = isText
    ? 'it is in text format: assemble it first, by wat2wasm or the package wabt'
    : `they begin with ${JSON.stringify(text)}`
  throw wrongValue(
    name,
    'the bytes of a WebAssembly module, which begin with "\\0asm"',
    value,
    remedy
  )
}

/**
 * The bytes, or a copy of those that other threads may write: what is checked must be what is used.
 */
const unshared = array => (types.isSharedArrayBuffer(array.buffer) ? new Uint8Array(array) : array)

module.exports = { anyBytes, bytes, moduleBytes, unshared }
