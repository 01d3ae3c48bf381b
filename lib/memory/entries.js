'use strict'

// Entries of a memory come and go here: before the native call that makes a mapping, when that
// failed, and when it is unmapped. After the native call nothing may fail.

const native = require('../platform/binding.js')
const { fromNative } = require('../support/errors.js')
const { AT, counts } = require('../observe/counts.js')
const { UNHEARD } = require('../observe/events.js')
const { forget } = require('./faults.js')
const { beginUnmap, messageOf, noteUnmapped } = require('./told.js')

const { UNMAPPED } = AT

/**
 * Adds an entry and its object before the native call that makes it. Until it has an id it counts
 * for nothing.
 */
function addEntry(entry, object) {
  entry.object = object
  entry.linear.entries.add(entry)
  return entry
}

/** Takes it back, where the native call failed, and gives the error for users. */
function notMade(entry, error) {
  entry.linear.entries.delete(entry)
  return fromNative(error)
}

function unmap(entry) {
  const { linear, table, start, id, request } = entry
  let array
  try {
    array = linear.current()
  } catch (error) {
    if (!table.lost) throw error
  }
  const startTime = beginUnmap()
  const message = startTime === UNHEARD ? undefined : messageOf(entry)
  // Where the memory moved, its faults were taken then.
  let { faults } = entry
  if (!table.lost) {
    try {
      // What an engine that has the block back wrote there since is the engine's.
      faults =
        (request.owner === 'engine'
          ? native.unmapUnwritten(table.handle, array, start, id)
          : native.unmap(table.handle, array, start, id)) ?? null
    } catch (error) {
      throw fromNative(error)
    }
  }
  entry.faults = faults
  entry.ended = true
  counts[UNMAPPED] += 1
  try {
    forget(linear, entry)
  } catch {
    // The end of the stack: it is done when the mappings are next looked at.
  }
  const { window } = entry
  if (window !== null) {
    window.region = null
    window.byteOffset = 0
    window.shownBytes = 0
  }
  if (message !== undefined) noteUnmapped(message, startTime)
}

module.exports = { addEntry, notMade, unmap }
