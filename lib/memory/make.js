'use strict'

// Makes a new memory of V8's, from a descriptor as `new WebAssembly.Memory` takes it. Never hands
// the caller's object to V8: it is read once, and checked.

const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError, callNative } = require('../support/errors.js')
const { wrongDescriptor, wrongType } = require('../support/wrong.js')
const v8 = require('../platform/v8.js')
const { RUNTIME } = require('../platform/engine.js')
const { allocate } = require('../platform/allocation.js')
const { beforeMeasuring, measureIfAlone } = require('../platform/reservation.js')
const { guardFaults } = require('../fault/guard.js')
const { giveRoom } = require('./growth.js')
const { LinearMemory } = require('./linear-memory.js')

const { WASM_PAGE_BYTES } = v8

function makeLinear(descriptor) {
  const wanted = readDescriptor(descriptor)
  const { initial, maximum, shared, address, room } = wanted
  const before = callNative(() => beforeMeasuring(address))
  callNative(() => native.checkHeadroom())
  const asked = {
    address,
    isRefusal: () => true,
    what: `V8 could not allocate a memory of ${initial} Wasm pages`,
    // Without guards each takes what it needs by itself: at least its first size, and a shared one,
    // which can't be moved, all that it may grow to.
    leastBytes: (shared ? maximum : initial) * WASM_PAGE_BYTES,
    commitBytes: initial * WASM_PAGE_BYTES
  }
  const memory = allocate(asked, () => v8.makeMemory(wanted))
  const buffer = v8.bufferOf(memory)
  const mayGrowTo = Math.min(maximum ?? Infinity, v8.pageLimits()[address]) * WASM_PAGE_BYTES
  callNative(() => measureIfAlone(before, buffer, address, mayGrowTo))
  const linear = new LinearMemory({ memory, buffer, address, maximum })
  if (room > 0) {
    giveRoom(linear, (initial - room) * WASM_PAGE_BYTES, initial * WASM_PAGE_BYTES)
    // Who asks for room wants the first mapping to be quick: the process's first one would wait for
    // this, 0.5 to 8 ms.
    guardFaults()
  }
  return linear
}

function readDescriptor(descriptor) {
  if (descriptor === undefined || v8.isMemory(descriptor)) throw wrongDescriptor(descriptor)
  const {
    initial,
    maximum,
    shared = false,
    address = 'i32',
    room
  } = read.descriptor(descriptor, 'descriptor')
  check.oneOf(address, 'descriptor.address', ['i32', 'i64'])
  check.boolean(shared, 'descriptor.shared')
  const most = v8.pageLimits()[address]
  if (most === 0) {
    throw makeError(
      'ERR_HOSTMAP_NO_MEMORY64',
      `descriptor.address is 'i64', and ${RUNTIME} has no 64-bit memories; use Node.js 24 or later`
    )
  }
  const { wasmPages } = check.limits
  const pages = (value, name, min, max = most) =>
    check.wholeNumberOrBigInt(value, `${name} (in Wasm pages)`, min, max, wasmPages, max)
  const first = pages(initial, 'descriptor.initial', 0)
  const last = maximum === undefined ? undefined : pages(maximum, 'descriptor.maximum', first)
  if (shared && last === undefined) {
    throw wrongType(
      'descriptor.maximum',
      'a number of Wasm pages where descriptor.shared is true',
      maximum
    )
  }
  const more =
    room === undefined ? 0 : pages(room, 'descriptor.room', 0, Math.min(most, last ?? most) - first)
  return { initial: first + more, maximum: last, shared, address, room: more }
}

module.exports = { makeLinear }
