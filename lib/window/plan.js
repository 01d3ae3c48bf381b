'use strict'

// What a source or a loop over chunks reads, and in what steps: decided once, from the options,
// before anything is shown.

const os = require('node:os')
const check = require('../support/arguments.js')
const { wrongType } = require('../support/wrong.js')
const { PAGE_BYTES, HUGE_PAGE_BYTES } = require('../platform/pages.js')
const { bytesOf, isFile, mustBeOpen, mustBeRegion, partOf } = require('../region/host-region.js')
const { checkFaultsOf } = require('../memory/entry.js')
const { checkAccess, mustBeMapped } = require('./slide.js')

// `next` of a 32-bit module can't say 2^32: it would be 0, the end.
const MOST_IN_32_BITS = 2 ** 32 - PAGE_BYTES

/**
 * @typedef Plan
 * @property holds the most bytes that the window shows at once
 * @property chunk bytes of each step
 * @property overlap bytes of the step before that are kept
 * @property start where in the region it starts
 * @property end where it ends
 * @property access what the module may do with the bytes
 * @property readAhead whether pages are read before they are shown
 * @property leaveBehind whether pages are dropped once they were shown
 */
function planFor(entry, region, options) {
  const { request, linear } = entry
  mustBeMapped(entry)
  mustBeRegion(region)
  mustBeOpen(region)
  if (request.strict) checkFaultsOf(entry)
  const {
    chunk,
    overlap = 0,
    access = request.access,
    readAhead = true,
    leaveBehind = 'auto'
  } = options
  const { start, end } = partOf(region, options)
  checkAccess(request, access)
  check.boolean(readAhead, 'options.readAhead')
  if (leaveBehind !== 'auto' && typeof leaveBehind !== 'boolean') {
    throw wrongType('options.leaveBehind', "a boolean or 'auto'", leaveBehind)
  }
  // A chunk may start anywhere in a page, with what is kept in front of it.
  const windowBytes = request.byteLength
  const holds = linear.address === 'i64' ? windowBytes : Math.min(windowBytes, MOST_IN_32_BITS)
  check.wholeNumber(
    overlap,
    'options.overlap',
    0,
    holds - PAGE_BYTES,
    limitOfWindow,
    windowBytes,
    0
  )
  const most = holds - overlap
  return {
    holds,
    chunk:
      chunk === undefined
        ? wholePagesIn(most - lostAtStart(start, overlap))
        : check.wholeNumber(chunk, 'options.chunk', 1, most, limitOfWindow, windowBytes, overlap),
    overlap,
    start,
    end,
    access,
    readAhead,
    leaveBehind:
      leaveBehind === 'auto'
        ? isFile(region) && bytesOf(region) > memoryLimitBytes() / 2
        : leaveBehind
  }
}

// Where a chunk starts in its page, it loses as much room: see WindowSource.#next.
const lostAtStart = (start, overlap) =>
  Math.max(start % PAGE_BYTES, (((start - overlap) % PAGE_BYTES) + PAGE_BYTES) % PAGE_BYTES)

function wholePagesIn(room) {
  const unit = room >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : room >= PAGE_BYTES ? PAGE_BYTES : 1
  return Math.max(1, Math.floor(room / unit) * unit)
}

// Where limits come from, for messages: see `wholeNumber`.
const limitOfWindow = (windowBytes, overlap) =>
  overlap > 0
    ? `: the window has ${windowBytes} bytes, and the overlap takes ${overlap}`
    : `: the window has ${windowBytes} bytes`

// What the process may use: the machine's memory, or what its control group leaves it.
let limitBytes
function memoryLimitBytes() {
  if (limitBytes === undefined) {
    const constrained = process.constrainedMemory?.()
    limitBytes = constrained > 0 ? Math.min(constrained, os.totalmem()) : os.totalmem()
  }
  return limitBytes
}

module.exports = { planFor, memoryLimitBytes }
