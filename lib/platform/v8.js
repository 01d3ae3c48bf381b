'use strict'

// Memories and buffers of V8's, by V8's own functions, and how large they may be: found out by
// asking V8, never by its version. The process's map is reservation.js's business.

const { isSharedArrayBuffer } = require('node:util').types
const { makeError } = require('../support/errors.js')
const intrinsics = require('./intrinsics.js')
const { isStackEnd } = require('../support/stack.js')

const WASM_PAGE_BYTES = 65536

// Taken now, so that nothing that is changed later comes between us and V8. The rest is in
// intrinsics.js.
const { Memory } = WebAssembly
const { structuredClone } = globalThis
const { Uint8Array, getBuffer, growMemory, lengthOf, byteLengthOf, sharedByteLengthOf } = intrinsics

/** Whether a buffer is a SharedArrayBuffer, of any realm. */
function isShared(buffer) {
  // What throws takes 6 us, so it is asked first what will not.
  if (!isSharedArrayBuffer(buffer) && answers(byteLengthOf, buffer)) return false
  return answers(sharedByteLengthOf, buffer)
}

function answers(getter, buffer) {
  try {
    getter(buffer)
    return true
  } catch {
    return false
  }
}

/** Whether a buffer can change its size, as no Wasm memory's can that was not asked to. */
const isResizable = buffer =>
  (isShared(buffer)
    ? intrinsics.isGrowableBuffer?.(buffer)
    : intrinsics.isResizableBuffer?.(buffer)) ?? false

/**
 * A shared memory's buffer as it is now, by one that another thread's growth has left behind. V8
 * makes a clone as long as the memory is (Node 20 to 26). What is no clone is not believed.
 */
function latestOf(buffer) {
  let clone
  try {
    clone = structuredClone(buffer)
  } catch {
    return buffer
  }
  return isShared(clone) && !isResizable(clone) ? clone : buffer
}

/** The buffer of a memory of any realm. Throws a TypeError for anything else. */
const bufferOf = memory => getBuffer(memory)

// Node 20 has no typed arrays over more than 4 GiB.
const MOST_BYTES_OF_ARRAY = require('node:buffer').constants.MAX_LENGTH

/** The size of a buffer of either kind, whatever properties of that name somebody has given it. */
const sizeOf = buffer => (isShared(buffer) ? sharedByteLengthOf(buffer) : byteLengthOf(buffer))

/** A Uint8Array over all of a memory's buffer: the native part finds base and length by it. */
function arrayOver(buffer) {
  const byteLength = sizeOf(buffer)
  if (byteLength > MOST_BYTES_OF_ARRAY) {
    throw makeError(
      'ERR_HOSTMAP_NO_MEMORY64',
      `the memory has ${byteLength} bytes, and Node.js ${process.version} has no typed arrays over more than ${MOST_BYTES_OF_ARRAY}; use Node.js 22 or later`
    )
  }
  return new Uint8Array(buffer)
}

function isMemory(value) {
  if (typeof value !== 'object' || value === null) return false
  try {
    getBuffer(value)
    return true
  } catch {
    return false
  }
}

// No memory has as many, and where V8 takes a number it refuses larger ones with a TypeError, as if
// they were none.
const TOO_MANY_PAGES = 2 ** 32 - 1

/** Grows a memory as its `grow` does, by Wasm pages as a number. Gives the size before. */
function growBy(memory, wasmPages, address) {
  const takesBigInt = address === 'i64' && pageLimits().i64 > 0
  return Number(
    growMemory(memory, takesBigInt ? BigInt(wasmPages) : Math.min(wasmPages, TOO_MANY_PAGES))
  )
}

/** A memory of V8's. Sizes in Wasm pages, as numbers. */
function makeMemory({ initial, maximum, shared, address }) {
  const size = address === 'i64' ? BigInt : Number
  // V8 reads what is missing from the prototype.
  const descriptor = { __proto__: null, initial: size(initial) }
  if (maximum !== undefined) descriptor.maximum = size(maximum)
  if (shared) descriptor.shared = true
  if (address === 'i64') descriptor.address = 'i64'
  return new Memory(descriptor)
}

let pageLimitsFound

/**
 * The largest memories, in Wasm pages: V8 names the bound when it is passed, and makes nothing. 0:
 * there are none.
 */
function pageLimits() {
  pageLimitsFound ??= { i32: boundOf('i32'), i64: boundOf('i64') }
  return pageLimitsFound
}

function boundOf(address) {
  const tooMany = 2 ** 48
  try {
    makeMemory({ initial: tooMany, address })
  } catch (error) {
    const bound = /upper bound (\d+)/.exec(error.message)
    if (bound !== null) return Number(bound[1])
    // Says nothing of V8, and must not be remembered as if it did.
    if (isStackEnd(error)) throw error
    // Another wording: the specification's bound for 32 bits. 64-bit memories are not there, or
    // can't be measured.
    return address === 'i32' ? 65536 : 0
  }
  return tooMany
}

module.exports = {
  WASM_PAGE_BYTES,
  bufferOf,
  growBy,
  isMemory,
  isResizable,
  isShared,
  latestOf,
  lengthOf,
  Uint8Array,
  growMemory,
  arrayOver,
  sizeOf,
  makeMemory,
  pageLimits
}
