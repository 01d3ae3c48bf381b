'use strict'

// A slot is one instance of a pool, as the pool sees it: what it was like in the pool's state, and
// how it gets back there. A slot that can't get back is the pool's to throw away.

const { makeError } = require('../support/errors.js')
const { lengthOf } = require('../platform/v8.js')
const { checkStrict, forgetFaults, live } = require('../memory/faults.js')
const { rewindSources } = require('../window/open.js')
const { captureLive, checkLive, restoreLive } = require('../instance/live-state.js')
const { BY_CALLER, reset } = require('../snapshot/restore.js')
const { restoreSnapshot } = require('../snapshot/snapshot.js')

/**
 * @typedef Slot
 * @property instance the WebAssembly.Instance
 * @property exports what users see of it
 * @property memory its GuardedMemory
 * @property linear the LinearMemory behind that
 * @property found what can change besides the memory (lib/instance/reachable.js)
 * @property state how that was when the snapshot was taken, by this instance's own functions
 * @property byteLength the memory's size then
 * @property entries the memory's mappings and windows then, by their entries
 * @property leased the PooledInstance that it is lent to; null if it is idle
 */
const slotOf = (instance, exports, memory, linear, found) => ({
  instance,
  exports,
  memory,
  linear,
  found,
  state: undefined,
  byteLength: 0,
  entries: NO_ENTRIES,
  leased: null
})

const NO_ENTRIES = Object.freeze([])

// Code that releases an instance of a shared memory promises that no other thread is in it.
const RESTORE = Object.freeze({ exclusive: true, globals: BY_CALLER })

/** Notes what a restore will compare with. The slot is in the pool's state. */
function noteSlot(slot, { hasMappings }) {
  slot.state = captureLive(slot.found)
  slot.byteLength = slot.linear.byteLength
  slot.entries = hasMappings ? entriesOf(slot) : NO_ENTRIES
  rewindSourcesIn(slot.entries)
}

function restoreSlot(slot, snapshot, { hasMappings, keepsGrown }) {
  const { linear } = slot
  if (!keepsGrown && bytesIn(linear) > slot.byteLength) throw hasGrown(slot)
  checkLive(slot.state)
  restoreSnapshot(linear, snapshot, RESTORE)
  restoreLive(slot.state)
  const entries = hasMappings ? entriesOf(slot) : NO_ENTRIES
  checkEntries(slot, entries)
  checkStrict(linear)
  // What its user did not ask for is none of the next one's.
  forgetFaults(linear)
  // Each user of an instance finds its sources at their start.
  rewindSourcesIn(entries)
}

const entriesOf = ({ linear }) => [...live(linear).values()]

/** Gives the memory of a discarded instance back now: it may be long until it is collected. */
function letGo({ linear }) {
  try {
    reset(linear, { exclusive: true, keepResidentBytes: 0 })
  } catch {
    // Then it goes when it is collected.
  }
}

/** The memory's size, without a look at its buffer where that is as it was. */
function bytesIn(linear) {
  // A growth detaches the buffer, but for that of a shared memory.
  const bytes = linear.shared ? 0 : lengthOf(linear.array)
  return bytes > 0 ? bytes : linear.byteLength
}

function rewindSourcesIn(entries) {
  for (let i = 0; i < entries.length; i++) {
    const { window } = entries[i]
    if (window !== null) rewindSources(window)
  }
}

// No memory can shrink.
function checkSize({ byteLength }, wanted) {
  if (byteLength <= wanted) return
  throw makeError(
    'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
    `the memory of a new instance has ${byteLength} bytes, and in the pool's state it has ${wanted}; let options.imports give one of that size, and bind not grow it, or name 'grown-memory' in options.accept`
  )
}

// A restore makes new objects for what was unmapped. Code that has the old ones, or
// their sources, would find them dead.
function checkEntries(slot, entries) {
  const isSame = (entry, index) => entry === slot.entries[index]
  if (entries.length === slot.entries.length && entries.every(isSame)) return
  throw makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    "a mapping or window of the pool's state was unmapped, and its object, which imports may use, can't be brought back; unmap only what was mapped since the instance was acquired"
  )
}

const hasGrown = ({ linear, byteLength }) =>
  makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `the memory has grown from ${byteLength} to ${linear.byteLength} bytes, and memories can't shrink. Where programs may see that, name 'grown-memory' in options.accept; or let init allocate and free as much as they need`
  )

module.exports = { slotOf, noteSlot, restoreSlot, checkSize, letGo }
