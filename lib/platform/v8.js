'use strict'

// What this V8 does with memories: found out by asking it, never by its version.

const native = require('./binding.js')
const { makeError } = require('../support/errors.js')
const intrinsics = require('../support/intrinsics.js')
const { isStackEnd } = require('../support/stack.js')

const WASM_PAGE_BYTES = 65536

// Taken now, so that nothing that is changed later comes between us and V8. The rest is in
// intrinsics.js.
const { Memory, Module, Instance } = WebAssembly
const { Uint8Array, getBuffer, growMemory, lengthOf, byteLengthOf, sharedByteLengthOf } = intrinsics

/** Whether a buffer is a SharedArrayBuffer, of any realm. */
function isShared(buffer) {
  try {
    sharedByteLengthOf(buffer)
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

/**
 * Whether a memory's addresses are numbers or BigInts; undefined where nothing tells. Asked by a
 * growth that no memory allows: V8 converts the argument first, and refuses a number for a 64-bit
 * memory with a TypeError.
 */
function addressTypeOf(memory) {
  try {
    growMemory(memory, 0xffffffff)
  } catch (error) {
    if (error.name === 'TypeError') return 'i64'
  }
  // Where modules alone can make 64-bit memories (V8 12), the JavaScript API takes numbers for all
  // of them.
  return pageLimits().i64 > 0 ? 'i32' : linkedType(memory)
}

// (module (import "" "" (memory i64 0))), and the same with (memory i64 0 262144 shared). Never one
// that imports a 32-bit memory: V8 11.3 aborts when it links that to a 64-bit one.
const IMPORT_I64 = [0, 97, 115, 109, 1, 0, 0, 0, 2, 6, 1, 0, 0, 2, 4, 0]
const IMPORT_SHARED_I64 = [0, 97, 115, 109, 1, 0, 0, 0, 2, 9, 1, 0, 0, 2, 7, 0, 128, 128, 16]

const compiled = new Map()

/** The module, compiled once, or null where this V8 has no such modules. */
function compileOnce(bytes) {
  if (!compiled.has(bytes)) {
    let module = null
    try {
      module = new Module(new Uint8Array(bytes))
    } catch (error) {
      // Else it was no memory for it, say: not known yet.
      if (error.name !== 'CompileError') return null
    }
    compiled.set(bytes, module)
  }
  return compiled.get(bytes)
}

/** Whether a module that imports a 64-bit memory links to this one. */
function linksAs64(memory) {
  const needsShared = isShared(bufferOf(memory))
  const module = compileOnce(needsShared ? IMPORT_SHARED_I64 : IMPORT_I64)
  if (module === null) return false
  try {
    new Instance(module, { '': { '': memory } })
    return true
  } catch {
    return false
  }
}

// Whether linking tells 64-bit memories from others. V8 11.3, with --experimental-wasm-memory64,
// links any memory to any import.
let linkingTells

/** The address type of a memory, by what modules can import it. */
function linkedType(memory) {
  if (!linksAs64(memory)) return 'i32'
  try {
    // Not an empty one: all of its reservation is inaccessible, and could pass for the guard of the
    // memory below.
    linkingTells ??= !linksAs64(makeMemory({ initial: 1, maximum: 1, address: 'i32' }))
  } catch {
    return undefined
  }
  return linkingTells ? 'i64' : undefined
}

/** Whether there may be 64-bit memories, if only by modules. */
const hasMemory64 = () => pageLimits().i64 > 0 || compileOnce(IMPORT_I64) !== null

// What V8 reserves from the base of a 64-bit memory on that has no maximum.
const REACH_BYTES_I64 = 2 ** 34

/**
 * The address type of a memory by its buffer, of which `array` is over the whole; undefined where
 * nothing tells. Only a 64-bit memory is larger than 4 GiB. A smaller one is none where something
 * accessible lies within the reach of a 64-bit one, and that is so above nearly every 32-bit
 * memory: the next one, or the heap.
 */
function addressTypeOfBuffer(array) {
  if (lengthOf(array) > 2 ** 32) return 'i64'
  if (!hasMemory64()) return 'i32'
  return native.isGuarded(array, 0, REACH_BYTES_I64) ? undefined : 'i32'
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

// What V8 reserved so far, in one version or another: for the first memory, since nothing was
// measured before it. A wrong one does no harm.
const USUAL_RESERVATIONS = [
  { belowBytes: 0, aboveBytes: 2 ** 33 },
  { belowBytes: 2 ** 31, aboveBytes: 2 ** 33 },
  { belowBytes: 0, aboveBytes: 2 ** 34 }
]

/**
 * Calls `make`, which makes a memory of V8's, so that it begins at a multiple of 2 MiB if that can
 * be had: huge pages of files and snapshots can be mapped as such there (src/sys/placement.rs).
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

const reservations = new Map()

/**
 * How much address space V8 reserves for a memory, measured on one: `{ belowBytes, aboveBytes }`,
 * or null if none can be made now. Two measurements must agree, since other threads change the
 * process's map too.
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
const beforeMeasuring = address =>
  reservations.has(address) ? undefined : new native.NativeMapBefore()

/**
 * Takes the measure of a memory that was made since, and may grow so far, where no other can be
 * made beside it.
 */
function measureIfAlone(before, buffer, address, mayGrowTo) {
  if (before === undefined || reservationOf(address) !== null) return
  const { belowBytes, aboveBytes } = before.reservationOf(new Uint8Array(buffer))
  // Without guards a memory reserves what it may grow to. This one could be as large as that, so it
  // proves none.
  if (aboveBytes <= mayGrowTo) return
  reservations.set(address, { belowBytes, aboveBytes })
}

function measureReservation(address) {
  let last = null
  for (let attempt = 0; attempt < 8; attempt++) {
    const before = new native.NativeMapBefore()
    let memory
    try {
      // What has guards reserves as much for the smallest memory as for the largest; else this one
      // has what it may grow to, a page.
      memory = makeMemory({ initial: 1, maximum: 1, address })
    } catch {
      return last
    }
    const { belowBytes, aboveBytes } = before.reservationOf(new Uint8Array(bufferOf(memory)))
    if (last !== null && last.belowBytes === belowBytes && last.aboveBytes === aboveBytes)
      return last
    last = { belowBytes, aboveBytes }
  }
  return last
}

// The largest address that a plain access can form: a 32-bit index plus a 32-bit offset. Of a
// 64-bit memory code checks that an address is below that of the largest memory, and leaves the
// rest to the pages.
const REACH_BYTES_I32 = 2 ** 33
const reachBytes = address =>
  address === 'i64' ? pageLimits().i64 * WASM_PAGE_BYTES : REACH_BYTES_I32

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
    reservation.aboveBytes >= reachBytes(address) &&
    native.isGuarded(array, reservation.belowBytes, reservation.aboveBytes)
  )
}

/** Tells the native part where the guard of a memory is that no growth reaches. */
function noteGuard(handle, array, address) {
  const largest = address === 'i32' ? 2 ** 32 : pageLimits().i64 * WASM_PAGE_BYTES
  // Of 64-bit memories that modules alone can make, the bound is not known.
  if (largest > 0) native.setGuard(handle, array, largest, reservationOf(address).aboveBytes)
}

module.exports = {
  WASM_PAGE_BYTES,
  bufferOf,
  growBy,
  isMemory,
  isResizable,
  isShared,
  lengthOf,
  Uint8Array,
  addressTypeOf,
  addressTypeOfBuffer,
  arrayOver,
  sizeOf,
  makeMemory,
  atHugePage,
  pageLimits,
  beforeMeasuring,
  measureIfAlone,
  reservationOf,
  hasTrapHandler,
  isGuarded,
  noteGuard
}
