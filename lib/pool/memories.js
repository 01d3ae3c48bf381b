'use strict'

// What pools of modules and of factories do alike to the memories of their slots: their mappings
// and windows, their faults, and how they are let go.

const { makeError } = require('../support/errors.js')
const { checkStrict, forgetFaults, live } = require('../memory/faults.js')
const { rewindSources } = require('../window/open.js')
const { reset } = require('../snapshot/restore.js')

const NO_ENTRIES = Object.freeze([])

/** A memory's mappings and windows, by their entries. */
const entriesOf = linear => (linear.entries.size === 0 ? NO_ENTRIES : [...live(linear).values()])

/**
 * What is done once a memory is restored. Throws where it can't be handed out so.
 *
 * @param then its entries in the pool's state
 */
function checkRestored(linear, then) {
  const entries = entriesOf(linear)
  checkEntries(then, entries)
  checkStrict(linear)
  // What its user did not ask for is none of the next one's.
  forgetFaults(linear)
  // Each user of an instance finds its sources at their start.
  rewindSourcesIn(entries)
}

/** Gives a memory back now: it may be long until it is collected. */
function letMemoryGo(linear) {
  try {
    reset(linear, { exclusive: true, keepResidentBytes: 0 })
  } catch {
    // Then it goes when it is collected.
  }
}

function rewindSourcesIn(entries) {
  for (let i = 0; i < entries.length; i++) {
    const { window } = entries[i]
    if (window !== null) rewindSources(window)
  }
}

// A restore makes new objects for what was unmapped. Code that has the old ones, or
// their sources, would find them dead.
function checkEntries(then, entries) {
  const isSame = (entry, index) => entry === then[index]
  if (entries.length === then.length && entries.every(isSame)) return
  throw makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    "a mapping or window of the pool's state was unmapped, and its object, which imports may use, can't be brought back; unmap only what was mapped since the instance was acquired"
  )
}

module.exports = { NO_ENTRIES, entriesOf, checkRestored, letMemoryGo, rewindSourcesIn }
