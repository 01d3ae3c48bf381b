'use strict'

// How much address space V8 reserves for a memory, measured by one thread of the process for each
// kind, and whether everything around a memory is inaccessible. Nothing here trusts a version of
// V8. JavaScriptCore's are known, and recognized by the process's map (engine.js).

const native = require('./binding.js')
const { isJavaScriptCore, FAST_MEMORY, REACH_BYTES_I32 } = require('./engine.js')
const { Uint8Array, WASM_PAGE_BYTES, bufferOf, makeMemory, pageLimits } = require('./v8.js')

// What V8 reserved so far, in one version or another: for the first memory, since nothing was
// measured before it. A wrong one does no harm.
const USUAL_RESERVATIONS = [
  { belowBytes: 0, aboveBytes: 2 ** 33 },
  { belowBytes: 2 ** 31, aboveBytes: 2 ** 33 },
  { belowBytes: 0, aboveBytes: 2 ** 34 }
]

const isSameReservation = (one, other) =>
  one?.belowBytes === other?.belowBytes && one?.aboveBytes === other?.aboveBytes

// Without guards the one that is measured reserves what it may grow to.
const UNGUARDED = { belowBytes: 0, aboveBytes: WASM_PAGE_BYTES }

const isUsual = found =>
  [...USUAL_RESERVATIONS, UNGUARDED].some(usual => isSameReservation(usual, found))

// Where another thread makes memories meanwhile, side by side with the one that is measured, many
// measurements are wrong, and by the same. So what is usual is believed when it was seen twice, and
// all else only if nothing else was seen so often.
const AGREE_USUAL = 2
const AGREE_UNUSUAL = 16
const MOST_MEASUREMENTS = 64

const reservations = new Map()

// Kinds of memories of which one was found to have its guards, by what was measured.
const proven = new Set()
// How often what was measured is doubted, where no memory was ever found to have guards.
let doubts = 8

/**
 * Calls `make`, which makes a memory of V8's, so that it begins at a multiple of 2 MiB if that can
 * be had: huge pages of files and snapshots can be mapped as such there (src/sys/placement.rs).
 */
function atHugePage(address, make) {
  // Its own allocator decides.
  if (isJavaScriptCore) return make()
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

/**
 * Whether it is known, here or since a memory of another thread was found to have its guards. What
 * another thread has measured may be wrong, and true of memories that are side by side. So it is
 * doubted as what was measured here is.
 */
function isKnown(address) {
  if (reservations.has(address)) return true
  const found = native.provenReservation(address === 'i64')
  if (found === null) return false
  const { belowBytes, aboveBytes } = found
  reservations.set(address, { belowBytes, aboveBytes })
  return true
}

/**
 * How much address space V8 reserves for a memory, measured on one: `{ belowBytes, aboveBytes }`,
 * or null if none can be made now. Several measurements must agree, since other threads change the
 * process's map too.
 */
function reservationOf(address) {
  if (isJavaScriptCore) return address === 'i32' ? FAST_MEMORY : null
  if (!isKnown(address)) {
    const found = measureReservation(address)
    if (found === null) return null
    reservations.set(address, found)
  }
  return reservations.get(address)
}

/** The process's map, if nothing was measured for this kind of memory yet. */
const beforeMeasuring = address =>
  isJavaScriptCore || isKnown(address) ? undefined : new native.NativeMapBefore()

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
  const seen = []
  let last = null
  let agreeing = 0
  for (let attempt = 0; attempt < MOST_MEASUREMENTS; attempt++) {
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
    const found = { belowBytes, aboveBytes }
    agreeing = isSameReservation(found, last) ? agreeing + 1 : 1
    last = found
    seen.push(found)
    const isSeenOften = seen.filter(it => isSameReservation(it, found)).length >= AGREE_USUAL
    if (isUsual(found) ? isSeenOften : agreeing >= AGREE_UNUSUAL) return found
  }
  return last
}

// The largest address that a plain access can form. Of a 64-bit memory code checks that an address
// is below that of the largest memory, and leaves the rest to the pages.
const reachBytes = address =>
  address === 'i64' ? pageLimits().i64 * WASM_PAGE_BYTES : REACH_BYTES_I32

/** Whether the engine leaves checking bounds to inaccessible pages. */
function hasTrapHandler() {
  return (reservationOf('i32')?.aboveBytes ?? 0) >= REACH_BYTES_I32
}

// A block of JavaScriptCore's heap may have something inaccessible above it. But that does not end
// just where a fast memory would.
const pastFastMemory = FAST_MEMORY.aboveBytes + WASM_PAGE_BYTES

/**
 * Proves by the process's map that everything round a memory of this kind is inaccessible, and
 * gives the native part's proof. Null: something is not.
 *
 * A wrong measure proves nothing that is not so, but may miss what is. So it is taken anew where
 * no memory of the kind was found to have guards before.
 */
function proveGuard(array, address) {
  for (;;) {
    const reservation = reservationOf(address)
    const mayHaveGuard =
      reservation !== null && hasTrapHandler() && reservation.aboveBytes >= reachBytes(address)
    if (!mayHaveGuard) return null
    if (isJavaScriptCore && native.isGuarded(array, 0, pastFastMemory)) return null
    const { belowBytes, aboveBytes } = reservation
    const guard = native.proveGuard(array, address === 'i64', belowBytes, aboveBytes)
    if (guard !== null) proven.add(address)
    if (proven.has(address) || isJavaScriptCore || doubts === 0) return guard
    doubts -= 1
    const anew = measureReservation(address)
    // Where no memory can be made now, the measure is as good as it was.
    if (anew === null || isSameReservation(anew, reservation)) return null
    reservations.set(address, anew)
  }
}

/** Tells the native part of the guard of a memory, by its proof. */
function noteGuard(handle, array, address, guard) {
  if (address === 'i32') native.setGuard(handle, array, guard, null)
  else {
    // Of 64-bit memories that modules alone can make, the bound is not known.
    const largest = pageLimits().i64 * WASM_PAGE_BYTES
    if (largest > 0) native.setGuard(handle, array, guard, largest)
  }
}

module.exports = {
  atHugePage,
  beforeMeasuring,
  measureIfAlone,
  measureReservation,
  reservationOf,
  hasTrapHandler,
  proveGuard,
  noteGuard
}
