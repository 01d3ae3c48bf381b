'use strict'

// What listeners are told of snapshots: see lib/observe/events.js.

const { AT, counts } = require('../observe/counts.js')
const { UNHEARD, begin, channels, note } = require('../observe/events.js')

const { snapshot: snapshots } = channels
const { SNAPSHOTS_MADE } = AT

const beginSnapshot = () => begin(snapshots)

/** A snapshot that was made, which it gives back. `how`: 'take', or the function that made it. */
function noteMade(snapshot, how, startTime) {
  counts[SNAPSHOTS_MADE] += 1
  if (startTime !== UNHEARD) note(snapshots, startTime, { action: 'made', snapshot, how })
  return snapshot
}

function noteClosed(snapshot, startTime) {
  note(snapshots, startTime, { action: 'closed', snapshot, how: null })
}

module.exports = { beginSnapshot, noteMade, noteClosed }
