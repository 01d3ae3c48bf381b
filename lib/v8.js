'use strict'

// What this V8 does with memories: found out by asking it, never by its version.

const { types } = require('node:util')
const native = require('./binding.js')

const WASM_PAGE_BYTES = 65536

// Taken now, so that nothing that is changed later on the prototypes comes between us and V8.
const { Memory } = WebAssembly
const bufferGetter = Object.getOwnPropertyDescriptor(Memory.prototype, 'buffer').get
const growMethod = Memory.prototype.grow
const uncurryThis = Function.prototype.bind.bind(Function.prototype.call)

const getBuffer = uncurryThis(bufferGetter)
const growMemory = uncurryThis(growMethod)

// Node 20 has `resizable`, and no `growable` without a flag.
const never = () => false
const getterOf = (Class, name) => {
  const getter = Object.getOwnPropertyDescriptor(Class.prototype, name)?.get
  return getter === undefined ? never : uncurryThis(getter)
}
const isResizableBuffer = getterOf(ArrayBuffer, 'resizable')
const isGrowableBuffer = getterOf(SharedArrayBuffer, 'growable')

/** How many elements a typed array has, whatever a script made of `length`. Mapping trusts it. */
const lengthOf = getterOf(Object.getPrototypeOf(Uint8Array), 'length')

/** Whether a buffer can change its size, as no Wasm memory's can that was not asked to. */
const isResizable = buffer =>
  types.isSharedArrayBuffer(buffer) ? isGrowableBuffer(buffer) : isResizableBuffer(buffer)

/** The buffer of a memory of any realm. Throws a TypeError for anything else. */
const bufferOf = memory => getBuffer(memory)

function isMemory(value) {
  if (typeof value !== 'object' || value === null) return false
  try {
    getBuffer(value)
    return true
  } catch {
    return false
  }
}

/**
 * Whether a memory's addresses are numbers or BigInts. Asked by a growth that no memory allows: V8 converts the
 * argument first, and refuses a number for a 64-bit memory with a TypeError.
 */
function addressTypeOf(memory) {
  try {
    growMemory(memory, 0xffffffff)
  } catch (error) {
    if (error.name === 'TypeError') return 'i64'
  }
  return 'i32'
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

// What V8 reserved so far, in one version or another: for the first memory, since nothing was measured before it. A wrong one does no harm.
const USUAL_RESERVATIONS = [
  { belowBytes: 0, aboveBytes: 2 ** 33 },
  { belowBytes: 2 ** 31, aboveBytes: 2 ** 33 },
  { belowBytes: 0, aboveBytes: 2 ** 34 }
]

/**
 * Calls `make`, which makes a memory of V8's, so that it begins at a multiple of 2 MiB if that can be had: huge pages of files
 * and snapshots can be mapped as such there (src/sys/placement.rs).
 */
function atHugePage(address, make) {
  const known = reservations.get(address)
  for (const { belowBytes, aboveBytes } of known === undefined ? USUAL_RESERVATIONS : [known]) {
    native.placeNextMemory(belowBytes, aboveBytes)
  }
  try {
    return make()
  } finally {
    native.memoryIsPlaced()
  }
}

let pageLimitsFound

/** The largest memories, in Wasm pages: V8 names the bound when it is passed, and makes nothing. 0: there are none. */
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
    // Another wording: the specification's bound for 32 bits. 64-bit memories are not there, or can't be measured.
    return address === 'i32' ? 65536 : 0
  }
  return tooMany
}

const reservations = new Map()

/**
 * How much address space V8 reserves for a memory, measured on one: `{ belowBytes, aboveBytes }`, or null if none
 * can be made now. Two measurements must agree, since other threads change the process's map too.
 */
function reservationOf(address) {
  if (!reservations.has(address)) {
    const found = measureReservation(address)
    if (found === null) return null
    reservations.set(address, found)
  }
  return reservations.get(address)
}

/** The process's map, if nothing was measured for this kind of memory yet. */
const beforeMeasuring = address => (reservations.has(address) ? undefined : new native.NativeMapBefore())

/** Takes the measure of a memory that was made since, where no other can be made beside it. */
function measureIfAlone(before, buffer, address) {
  if (before === undefined || reservationOf(address) !== null) return
  const [belowBytes, aboveBytes] = before.reservationOf(new Uint8Array(buffer))
  reservations.set(address, { belowBytes, aboveBytes })
}

function measureReservation(address) {
  let last = null
  for (let attempt = 0; attempt < 8; attempt++) {
    const before = new native.NativeMapBefore()
    let memory
    try {
      memory = makeMemory({ initial: 1, address })
    } catch {
      return last
    }
    const [belowBytes, aboveBytes] = before.reservationOf(new Uint8Array(bufferOf(memory)))
    if (last !== null && last.belowBytes === belowBytes && last.aboveBytes === aboveBytes) return last
    last = { belowBytes, aboveBytes }
  }
  return last
}

// The largest address that a plain access can form: a 32-bit index plus a 32-bit offset.
const REACH_BYTES_I32 = 2 ** 33

/** Whether V8 leaves checking bounds to inaccessible pages. */
function hasTrapHandler() {
  return (reservationOf('i32')?.aboveBytes ?? 0) >= REACH_BYTES_I32
}

/** Whether everything round a memory of this kind is inaccessible, by the process's map. */
function isGuarded(array, address) {
  const reservation = reservationOf(address)
  return (
    reservation !== null &&
    hasTrapHandler() &&
    native.isGuarded(array, reservation.belowBytes, reservation.aboveBytes)
  )
}

module.exports = {
  WASM_PAGE_BYTES,
  bufferOf,
  growMemory,
  isMemory,
  isResizable,
  lengthOf,
  addressTypeOf,
  makeMemory,
  atHugePage,
  pageLimits,
  beforeMeasuring,
  measureIfAlone,
  reservationOf,
  hasTrapHandler,
  isGuarded
}
