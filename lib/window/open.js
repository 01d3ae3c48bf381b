'use strict'

// Opens a window: at an offset, in free space, past the memory's end, or in a block of the module's
// own, as memory/map.js does for mappings. It shows nothing yet.

const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { wrongValue } = require('../support/wrong.js')
const { PAGE_BYTES, HUGE_PAGE_BYTES } = require('../platform/pages.js')
const { AT, counts } = require('../observe/counts.js')
const { UNHEARD } = require('../observe/events.js')
const { guardFaults } = require('../fault/guard.js')
const { entryAt } = require('../memory/entry.js')
const { addEntry, notMade } = require('../memory/entries.js')
const { growForSpace, growIfRoom } = require('../memory/growth.js')
const { putInBlock } = require('../memory/block.js')
const { beginMap, noteMapped } = require('../memory/told.js')
const { makeWindow } = require('./window.js')

const { WINDOWS_OPENED } = AT

/** As GuardedMemory.window, which gives the Window. */
function openWindow(linear, options) {
  const { at, allocator, ...asked } = read.window(options)
  const request = readRequest(asked)
  const checked = check.optional(allocator, check.allocator)
  if (checked?.owner === 'engine') {
    throw wrongValue(
      'options.allocator.owner',
      "'mapping' for a window",
      checked.owner,
      'what a window shows changes, so no engine can own it'
    )
  }
  guardFaults()
  if (allocator !== undefined) return openInBlock(linear, at, allocator, checked, request)
  return at === undefined
    ? openPastEnd(linear, request)
    : openAt(linear, check.wholeNumberOrBigInt(at, 'options.at'), request, undefined)
}

function prepareWindow(linear, start, request, release) {
  const shown = { region: null, byteOffset: 0, shownBytes: 0, rewinds: 0, stream: null }
  const entry = entryAt(linear, start, request, release, shown)
  return addEntry(entry, makeWindow(entry))
}

function openAt(linear, at, request, release) {
  const { byteLength, code, trap, strict } = request
  const array = linear.currentTo(at + byteLength)
  const startTime = beginMap()
  const entry = prepareWindow(linear, at, request, release)
  try {
    entry.id = native.windowAt(linear.table.handle, array, at, byteLength, code, trap, strict)
  } catch (error) {
    throw notMade(entry, error)
  }
  counts[WINDOWS_OPENED] += 1
  if (startTime !== UNHEARD) noteMapped(entry, startTime)
  return entry.object
}

function openPastEnd(linear, request) {
  const { byteLength } = request
  // Where whole huge pages of a file can be mapped as such: see src/window/mod.rs.
  let aligned = byteLength >= HUGE_PAGE_BYTES
  for (;;) {
    const window = openInFreeSpace(linear, request, aligned)
    if (window !== undefined) return window
    if (aligned && growIfRoom(linear, byteLength + HUGE_PAGE_BYTES)) continue
    if (!aligned) growForSpace(linear, byteLength)
    // There is no room for the alignment, perhaps.
    aligned = false
  }
}

/** undefined: the memory must grow. */
function openInFreeSpace(linear, request, aligned) {
  const { byteLength, code, trap, strict } = request
  const array = linear.current()
  const startTime = beginMap()
  const entry = prepareWindow(linear, 0, request, undefined)
  try {
    const { handle } = linear.table
    const found = native.windowInFreeSpace(handle, array, byteLength, code, trap, strict, aligned)
    if (found !== null) {
      entry.start = found.start
      entry.id = found.id
      counts[WINDOWS_OPENED] += 1
      if (startTime !== UNHEARD) noteMapped(entry, startTime)
      return entry.object
    }
  } catch (error) {
    throw notMade(entry, error)
  }
  linear.entries.delete(entry)
  return undefined
}

function openInBlock(linear, at, allocator, checked, request) {
  return putInBlock(linear, at, allocator, checked, request.byteLength, (start, release) =>
    openAt(linear, start, request, release)
  )
}

function readRequest({ byteLength, access = 'readonly', rest = 'trap', strict = false }) {
  const { hostPage } = check.limits
  check.wholeNumber(byteLength, 'options.byteLength', PAGE_BYTES, undefined, hostPage, PAGE_BYTES)
  const code = check.access(access, 'options.access')
  check.oneOf(rest, 'options.rest', ['trap', 'zeros'])
  check.boolean(strict, 'options.strict')
  const wholePages = Math.ceil(byteLength / PAGE_BYTES) * PAGE_BYTES
  return { byteLength: wholePages, access, code, trap: rest === 'trap', strict }
}

/** For a pool: the sources of this window start again when their instance goes back to it. */
function rewindSources(window) {
  window.rewinds += 1
}

module.exports = { openWindow, prepareWindow, rewindSources }
