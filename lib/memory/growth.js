'use strict'

// Growing a memory: for its owner, for space to map in, and for a module that asks the host. V8
// makes all of a memory writable when it grows, so every way ends with `sync`, which protects
// read-only mappings again.

const native = require('../platform/binding.js')
const { makeError, callNative } = require('../support/errors.js')
const v8 = require('../platform/v8.js')
const { AT, counts } = require('../observe/counts.js')
const { UNHEARD } = require('../observe/events.js')
const { refusal } = require('../platform/allocation.js')
const { isRangeError } = require('../platform/error-classes.js')
const { hidden } = require('./errors.js')
const { knownLinear } = require('./find.js')
const { beginGrowth, noteGrowth } = require('./told.js')

const { WASM_PAGE_BYTES, lengthOf } = v8
const { GROWN, GROWN_BYTES } = AT

const MOST_PAGES_I64 = 2 ** 18 // 16 GiB, in each V8 that has such memories

/**
 * Grows a memory by Wasm pages, and gives the size before, in Wasm pages.
 *
 * @param forUs whether what the memory grows by is to be free space of our own
 * @param forBytes what was asked for, for messages
 */
function grow(linear, wasmPages, forUs = false, forBytes = undefined) {
  if (linear.memory === null) {
    throw hidden(
      'only the module can grow it: use `at`, or `allocator` with the exports of its malloc and free'
    )
  }
  const before = lengthOf(linear.current()) / WASM_PAGE_BYTES
  // 0: V8 does not tell, since its JavaScript can't make memories of this kind.
  const most = Math.min(linear.maximum ?? Infinity, v8.pageLimits()[linear.address] || Infinity)
  const full = reason =>
    makeError(
      'ERR_HOSTMAP_MEMORY_FULL',
      `the memory can't grow by ${wasmPages} Wasm pages of 64 KiB${forBytes === undefined ? '' : `, for ${forBytes} bytes`}: it has ${before}, and ${reason}`
    )
  if (wasmPages > most - before) {
    const bytesMeant =
      forBytes === undefined &&
      wasmPages >= WASM_PAGE_BYTES &&
      Math.ceil(wasmPages / WASM_PAGE_BYTES)
    const remedy = bytesMeant
      ? `${wasmPages} bytes would be ${bytesMeant}`
      : moreRoom(linear.address, most, before + wasmPages)
    throw full(`its maximum is ${most}; ${remedy}`)
  }
  const startTime = beginGrowth()
  let was
  try {
    was = v8.growBy(linear.memory, wasmPages, linear.address)
  } catch {
    const array = linear.current()
    callNative(() => native.sync(linear.table.handle, array))
    // The stack may end when it has grown.
    if (!linear.shared && lengthOf(array) > before * WASM_PAGE_BYTES) was = before
  }
  if (was === undefined) throw whyNotGrown(linear, wasmPages, full)
  if (forUs) setUnclaimed(linear, was * WASM_PAGE_BYTES, (was + wasmPages) * WASM_PAGE_BYTES)
  linear.sync()
  countGrowth(linear, 'host', was, wasmPages, startTime)
  return was
}

function countGrowth(linear, by, before, wasmPages, startTime) {
  if (wasmPages === 0) return
  const grownBytes = wasmPages * WASM_PAGE_BYTES
  counts[GROWN] += 1
  counts[GROWN_BYTES] += grownBytes
  if (startTime === UNHEARD) return
  noteGrowth(linear, by, grownBytes, before * WASM_PAGE_BYTES + grownBytes, startTime)
}

function whyNotGrown(linear, wasmPages, full) {
  const what = `V8 could not grow the memory by ${wasmPages} Wasm pages`
  const cause = refusal(what, 0, wasmPages * WASM_PAGE_BYTES + readOnlyBytes(linear))
  // V8 does not tell the maximum of a memory that it did not make for us.
  return cause.code === 'ERR_HOSTMAP_MEMORY_REFUSED' && linear.maximum === undefined
    ? full('its maximum, which V8 does not tell, is reached; use a module with a larger one')
    : cause
}

/** What V8 makes writable as well, until it is protected again: what this thread has mapped. */
function readOnlyBytes({ entries }) {
  let bytes = 0
  for (const { id, request } of entries) {
    if (id !== 0 && request.access === 'readonly') bytes += request.byteLength
  }
  return bytes
}

function moreRoom(address, most, needed) {
  if (most < v8.pageLimits()[address])
    return 'make it with a larger maximum, or map with `at` inside it'
  const parts =
    'no memory of this kind can have more: show one part after another, through a window'
  // Node.js 20 and 22 have no 64-bit memories, and their V8 does not tell how large others are.
  const largest = v8.pageLimits().i64 || MOST_PAGES_I64
  if (address === 'i64' || needed > largest) return parts
  return `${parts}, or use a 64-bit memory (address: 'i64', Node.js 24 or later)`
}

/**
 * What the memory grows by is ours alone, even if other threads grow it too. One of them may still
 * take it from the free space before the caller does: then it grows once more.
 */
function growForSpace(linear, byteLength) {
  if (claim(linear)) return
  grow(linear, Math.ceil(byteLength / WASM_PAGE_BYTES), true, byteLength)
  claim(linear)
}

/** Of a memory that is new: what was made for mappings is free space. */
function giveRoom(linear, start, end) {
  setUnclaimed(linear, start, end)
  claim(linear)
}

function setUnclaimed({ unclaimed }, start, end) {
  unclaimed.start = start
  unclaimed.end = end
}

function claim(linear) {
  const { start, end } = linear.unclaimed
  if (end === 0) return false
  const array = linear.current()
  callNative(() => native.addFreeSpace(linear.table.handle, array, start, end))
  linear.unclaimed.end = 0
  return true
}

/**
 * The same if there is room. False: it was refused, now or the last time. Asking again would be
 * most of what a mapping costs, where the one before has left its place.
 */
function growIfRoom(linear, wanted) {
  const size = lengthOf(linear.current())
  if (linear.refused.size === size && linear.refused.wanted <= wanted) return false
  try {
    growForSpace(linear, wanted)
    return true
  } catch (error) {
    // Ours all have codes; what has none is a mistake, or the end of the stack.
    if (error.code === undefined) throw error
    linear.refused = { size, wanted }
    return false
  }
}

/**
 * What `memory.grow` does in a module, but for read-only mappings, which are protected again before
 * it goes on. Gives the size before, or -1.
 */
function growAsModule(memory, wasmPages, address) {
  const known = knownLinear(memory)
  const startTime = beginGrowth()
  let before
  try {
    before = v8.growBy(memory, wasmPages, address)
  } catch (error) {
    if (!isRangeError(error)) throw error
    // V8 says no more. It may have made pages writable before it gave up.
    if (known !== undefined) {
      const array = known.current()
      callNative(() => native.sync(known.table.handle, array))
    }
    return -1
  }
  known?.sync()
  countGrowth(known, 'module', before, wasmPages, startTime)
  return before
}

module.exports = { grow, giveRoom, growForSpace, growIfRoom, growAsModule }
