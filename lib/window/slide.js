'use strict'

// Sliding a window: the one call that is made for each chunk. What the window shows is written down
// by assignments after the native call (see memory/entry.js), and no object is made on the way but
// the one that is given back.

const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const { makeError, fromNative, callNative } = require('../support/errors.js')
const { ownOf } = require('../platform/intrinsics.js')
const { PAGE_BYTES } = require('../platform/pages.js')
const { AT, counts } = require('../observe/counts.js')
const { UNHEARD, begin, channels, note } = require('../observe/events.js')
const { bytesOf, handleOf, limitOfRegion, restOfRegion } = require('../region/host-region.js')
const { pointerOf, checkFaultsOf } = require('../memory/entry.js')
const { moved } = require('../memory/errors.js')

// Looked up once.
const nativeSlide = native.slide
const { slide: slides } = channels
const { SLID } = AT

/** Shows a part of a region, as Window.slide. `called`: what the caller calls byteOffset. */
function slideTo(entry, region, byteOffset, byteLength, access, called) {
  const { request } = entry
  const regionBytes = bytesOf(region)
  check.wholeNumber(byteOffset, called, 0, regionBytes - 1, limitOfRegion, region)
  const code = access === undefined ? request.code : checkAccess(request, access)
  const skew = byteOffset % PAGE_BYTES
  const most = Math.min(request.byteLength - skew, regionBytes - byteOffset)
  // An object for the message only, and not for each slide.
  if (typeof byteLength === 'number' && byteLength > most)
    refuseLength(byteLength, most, { windowBytes: request.byteLength, region, byteOffset })
  const length =
    byteLength === undefined ? most : check.wholeNumber(byteLength, 'options.byteLength', 1, most)
  const address = entry.start + skew
  const pointer = entry.linear.address === 'i64' ? BigInt(address) : address
  const startTime = begin(slides)
  callSlide(entry, handleOf(region), byteOffset - skew, skew + length, code)
  const { window } = entry
  window.region = region
  window.byteOffset = byteOffset
  window.shownBytes = length
  counts[SLID] += 1
  if (startTime !== UNHEARD) noteSlide(entry, startTime)
  return { address, pointer, byteLength: length }
}

/** Shows nothing, as Window.slide(null). */
function slideToNothing(entry) {
  const { window } = entry
  const pointer = pointerOf(entry)
  const startTime = begin(slides)
  callSlide(entry, 0, 0, 0, 0)
  window.region = null
  window.byteOffset = 0
  window.shownBytes = 0
  counts[SLID] += 1
  if (startTime !== UNHEARD) noteSlide(entry, startTime)
  return { address: entry.start, pointer, byteLength: 0 }
}

function noteSlide({ object, linear, window }, startTime) {
  const { region, byteOffset, shownBytes: byteLength } = window
  note(slides, startTime, {
    window: object,
    memory: linear.face ?? null,
    region,
    byteOffset,
    byteLength
  })
}

function callSlide(entry, region, start, length, code) {
  const { table } = entry
  const array = entry.linear.current()
  if (table.lost) throw moved('open a new window')
  let there
  try {
    there = nativeSlide(table.handle, array, entry.start, entry.id, region, start, length, code)
  } catch (error) {
    seeWhatIsLeft(entry)
    const failure = fromNative(error)
    // It says more.
    if (failure.code === 'ERR_HOSTMAP_FAULTED') checkFaultsOf(entry)
    throw failure
  }
  // undefined: it is.
  if (there === false) throw unmapped()
}

// After a slide that failed: what it showed before, or less of it, or nothing.
function seeWhatIsLeft({ table, start, window }) {
  const entries = callNative(() => native.entries(table.handle))
  let pageBytes = 0
  for (let i = 0; i < entries.length; i++)
    if (entries[i].start === start) pageBytes = ownOf(entries[i], 'shownBytes') ?? 0
  const left = pageBytes - (window.byteOffset % PAGE_BYTES)
  if (left > 0) {
    window.shownBytes = Math.min(window.shownBytes, left)
  } else {
    window.region = null
    window.byteOffset = 0
    window.shownBytes = 0
  }
}

/** The number of an access that a window of this kind can slide with. */
function checkAccess(request, access) {
  const code = check.access(access, 'options.access')
  if (!check.accessAllows(request.code, code)) {
    throw makeError(
      'ERR_INVALID_ARG_VALUE',
      `options.access is '${access}', and the window was opened with '${request.access}'; open it with access '${access}'`
    )
  }
  return code
}

function mustBeMapped(entry) {
  if (entry.ended) throw unmapped()
}

const unmapped = () =>
  makeError(
    'ERR_HOSTMAP_WINDOW_UNMAPPED',
    'the window was unmapped; open a new one with GuardedMemory.window'
  )

const limitOfSlide = (most, { windowBytes, region, byteOffset }) =>
  most === bytesOf(region) - byteOffset
    ? restOfRegion(region, byteOffset)
    : `: the window has ${windowBytes} bytes, and byteOffset is ${byteOffset % PAGE_BYTES} bytes into a page`

const refuseLength = (value, most, about) =>
  check.wholeNumber(value, 'options.byteLength', 1, most, limitOfSlide, most, about)

module.exports = { slideTo, slideToNothing, checkAccess, mustBeMapped }
