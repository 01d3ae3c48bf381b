'use strict'

// Memories that show the files of opened snapshots. When another process wants to write such a
// file, the native part calls this thread: each memory gets a copy's pages in the place of the
// file's. Only then can the other one go on: see src/snapshot/watch.rs.

const native = require('../platform/binding.js')
const { callNative } = require('../support/errors.js')

// This thread's number for the native part, once it has opened a snapshot.
let thread
// Each memory that was ever restored to an opened snapshot: those that live are looked at.
const known = new WeakSet()
let memories = []
// How many memories there are when the dead ones are next looked for.
let sweepAt = 64

/** Before a snapshot is opened on this thread. */
function listen() {
  if (thread === undefined) thread = callNative(() => native.onFilesWanted(leaveAll))
}

/** Before a memory is restored to an opened snapshot. */
function noteShowing(linear) {
  if (known.has(linear)) return
  if (memories.length >= sweepAt) {
    memories = memories.filter(it => it.deref() !== undefined)
    sweepAt = Math.max(64, memories.length * 2)
  }
  memories.push(new WeakRef(linear))
  known.add(linear)
}

// Of a memory that can't be looked at now nothing is said, and the native part waits no longer than
// it can.
function leaveAll(round) {
  let areAllLeft = true
  for (let i = 0; i < memories.length; i++) {
    const linear = memories[i].deref()
    if (linear === undefined) continue
    try {
      if (!linear.isLost()) native.leaveFiles(linear.table.handle, linear.current())
    } catch {
      areAllLeft = false
    }
  }
  if (areAllLeft) native.filesLeft(thread, round)
}

module.exports = { listen, noteShowing }
