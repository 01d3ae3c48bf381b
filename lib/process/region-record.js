'use strict'

// What an inspection says of a region of which nothing is known yet. Loads nothing: the command
// makes records of other processes' files, where the native part may not load.

const UNKNOWN = Object.freeze({
  id: null,
  name: null,
  state: 'unknown',
  backing: null,
  path: null,
  device: null,
  inode: null,
  fileOffset: null,
  byteLength: null,
  heldBytes: null,
  writable: null,
  sealed: null,
  holders: null,
  strayWrites: null,
  faults: null,
  unacknowledgedFaults: null,
  lastFault: null,
  resident: null
})

/** The record, with what is known. */
const regionRecord = known => ({ ...UNKNOWN, ...known })

module.exports = { regionRecord }
