'use strict'

// What this thread has done, in numbers, for metrics(). The array is over the thread's own block in
// the native part, which adds up those of all threads (src/totals.rs). So a hot call counts by an
// addition to an element: no call, and nothing that may fail where the stack ends.

const native = require('../platform/binding.js')

// How many numbers a block has: WORDS in src/totals.rs.
const WORDS = 32

// One for a thread: copies of the package and realms share it. Where there can be no buffer over
// native memory (in Electron), the thread's counts are seen by this thread alone.
if (native.counts === undefined) {
  const buffer = native.threadTotals()
  native.isCountedApart = buffer === null
  native.counts = new Float64Array(buffer ?? WORDS)
}

/** Where each count is. The native part writes the first two, and knows no other. */
const AT = Object.freeze({
  COPIED_PAGES: 0,
  DROPPING_RESTORES: 1,
  MAPPED: 2,
  WINDOWS_OPENED: 3,
  UNMAPPED: 4,
  SLID: 5,
  GROWN: 6,
  GROWN_BYTES: 7,
  RESTORED: 8,
  RESET: 9,
  SNAPSHOTS_MADE: 10,
  REGIONS_MADE: 11,
  ACQUIRED: 12,
  WAITED: 13,
  RELEASED: 14,
  DISCARDED: 15,
  INSTANCES_MADE: 16
})

/** Of the whole process: the native part's numbers, and what all threads have counted. */
function processTotals() {
  const totals = native.processTotals()
  if (native.isCountedApart) {
    for (let i = 0; i < WORDS; i++) totals.counts[i] += native.counts[i]
  }
  return totals
}

module.exports = { AT, counts: native.counts, processTotals }
