'use strict'

// The faults of a memory's mappings and windows, of all threads, and of those that were unmapped
// before anybody acknowledged them. Nothing here keeps a mapping or region alive: only what is to
// be said of them.

const native = require('../platform/binding.js')
const { callNative } = require('../support/errors.js')
const { nativeOf } = require('../region/host-region.js')
const { faultsFrom, faultedError } = require('../fault/found.js')
const { isMapped, regionOf, checkFaultsOf } = require('./entry.js')

/** Of what another thread unmapped. */
const SOMETHING_GONE = {
  lost: 0,
  strict: false,
  what: 'mappings or windows that were unmapped since',
  lastFault: null
}

/**
 * The objects of the mappings and windows that this thread made and that are there, by address.
 * Forgets all others.
 */
function live(linear) {
  const found = new Map()
  linear.entries.forEach(entry => {
    if (isMapped(entry)) found.set(entry.start, entry)
    else forget(linear, entry)
  })
  return found
}

/** Drops an entry of what is not there. Faults that nobody has acknowledged are remembered. */
function forget(linear, entry) {
  const { ended, table, faults } = entry
  if (ended && !table.lost && faults?.unacknowledged > 0) remember(linear, entry, 0)
  linear.entries.delete(entry)
}

/** `lost`: how many of its faults the native part counts no more. */
function remember(linear, entry, lost) {
  const { start, faults, request } = entry
  const region = regionOf(entry)
  const { lastFault } = faultsFrom(faults, region === null ? undefined : nativeOf(region), start)
  linear.unseen = {
    lost: (linear.unseen?.lost ?? 0) + lost,
    strict: linear.unseen?.strict || request.strict === true,
    what: `mappings or windows that were unmapped since, the last at ${start},`,
    lastFault
  }
}

/** The same of an unknown number of mappings that the native part counts no more. */
function rememberLost(linear, lost) {
  const unseen = linear.unseen ?? SOMETHING_GONE
  linear.unseen = { ...unseen, lost: unseen.lost + lost }
}

/** Throws where anything in the memory has faults that nobody has acknowledged. */
function checkFaults(linear) {
  const mine = live(linear)
  const faulted = callNative(() => native.faultedIn(linear.table.handle))
  for (const { start, unacknowledged } of faulted) {
    const entry = mine.get(start)
    if (entry === undefined) {
      const what = `the mapping or window at ${start}, which another thread made,`
      throw faultedError(unacknowledged, what, 'memory', null)
    }
    // They may have been acknowledged meanwhile.
    checkFaultsOf(entry)
  }
  checkGone(linear)
}

/** Of what was unmapped: the native part counts, since any thread may have done it. */
function checkGone(linear) {
  const gone = callNative(() => native.goneFaults(linear.table.handle))
  const count = gone + (linear.unseen?.lost ?? 0)
  // What this thread remembers may have been acknowledged by another one.
  if (count === 0) linear.unseen = null
  else {
    const { what, lastFault } = linear.unseen ?? SOMETHING_GONE
    throw faultedError(count, what, 'memory', lastFault)
  }
}

/** As checkFaults, of what is strict. */
function checkStrict(linear) {
  linear.entries.forEach(entry => {
    if (isMapped(entry) && entry.request.strict) checkFaultsOf(entry)
  })
  if (linear.unseen?.strict) checkGone(linear)
}

/** Takes note of all faults, and gives how many they were. */
function acknowledgeFaults(linear) {
  live(linear)
  const count = callNative(() => native.acknowledgeAllFaults(linear.table.handle))
  const before = linear.unseen?.lost ?? 0
  linear.unseen = null
  return before + count
}

/** For a pool: the same, so that the next user of a memory finds none. */
function forgetFaults(linear) {
  if (linear.entries.size > 0 || linear.unseen !== null || linear.shared) acknowledgeFaults(linear)
}

module.exports = {
  live,
  forget,
  remember,
  rememberLost,
  checkFaults,
  checkStrict,
  acknowledgeFaults,
  forgetFaults
}
