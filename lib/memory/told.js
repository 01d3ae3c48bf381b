'use strict'

// What listeners are told of mappings, windows and growth: see lib/observe/events.js. Nothing here
// changes anything.

const { begin, channels, note } = require('../observe/events.js')
const { kindOf, regionOf } = require('./entry.js')

const { map, unmap, grow } = channels

const beginMap = () => begin(map)
const beginUnmap = () => begin(unmap)
const beginGrowth = () => begin(grow)

/** An entry as a message has it. */
function messageOf(entry) {
  const { linear, start, request, window, object } = entry
  return {
    kind: kindOf(entry),
    mapping: object,
    memory: linear.face ?? null,
    address: start + (request.adopted?.skew ?? 0),
    byteLength: request.byteLength,
    access: request.access,
    region: regionOf(entry),
    byteOffset: (window ?? request).byteOffset
  }
}

const noteMapped = (entry, startTime) => note(map, startTime, messageOf(entry))

/** `message`: what `messageOf` gave before. */
const noteUnmapped = (message, startTime) => note(unmap, startTime, message)

/** `by`: 'host' or 'module'. `linear`: undefined if the package does not know the memory. */
function noteGrowth(linear, by, grownBytes, byteLength, startTime) {
  note(grow, startTime, { by, memory: linear?.face ?? null, byteLength, grownBytes })
}

module.exports = {
  beginMap,
  beginUnmap,
  beginGrowth,
  messageOf,
  noteMapped,
  noteUnmapped,
  noteGrowth
}
