'use strict'

// Growing a memory: for its owner, for space to map in, and for a module that asks the host. V8
// makes all of a memory writable when it grows, so every way ends with `sync`, which protects
// read-only mappings again.

const native = require('../platform/binding.js')
const { makeError, callNative } = require('../support/errors.js')
const v8 = require('../platform/v8.js')
const { refusal } = require('../platform/allocation.js')
const { hidden } = require('./errors.js')
const { knownLinear } = require('./find.js')

const { WASM_PAGE_BYTES, lengthOf } = v8

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
      : moreRoom(linear.address, most)
    throw full(`its maximum is ${most}; ${remedy}`)
  }
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
  if (forUs) {
    linear.unclaimed.start = was * WASM_PAGE_BYTES
    linear.unclaimed.end = (was + wasmPages) * WASM_PAGE_BYTES
  }
  linear.sync()
  return was
}

function whyNotGrown(linear, wasmPages, full) {
  const what = `V8 could not grow the memory by ${wasmPages} Wasm pages`
  const cause = refusal(what, 0, wasmPages * WASM_PAGE_BYTES)
  // V8 does not tell the maximum of a memory that it did not make for us.
  return cause.code === 'ERR_HOSTMAP_MEMORY_REFUSED' && linear.maximum === undefined
    ? full('its maximum, which V8 does not tell, is reached; use a module with a larger one')
    : cause
}

function moreRoom(address, most) {
  if (most < v8.pageLimits()[address])
    return 'make it with a larger maximum, or map with `at` inside it'
  const larger = address === 'i32' ? " or use a 64-bit memory (address: 'i64')" : ''
  return `no memory of this kind can have more: map less at once, through a window perhaps${larger}`
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
  let before
  try {
    before = v8.growBy(memory, wasmPages, address)
  } catch (error) {
    if (error.name !== 'RangeError') throw error
    // V8 says no more. It may have made pages writable before it gave up.
    if (known !== undefined) {
      const array = known.current()
      callNative(() => native.sync(known.table.handle, array))
    }
    return -1
  }
  known?.sync()
  return before
}

module.exports = { grow, growForSpace, growIfRoom, growAsModule }
