'use strict'

// Takes over an ArrayBuffer: the native part moves its pages into the memory, and the buffer is
// detached. What can't be moved is copied, or refused.
//
// A buffer that can't be detached is found before anything is moved (transfer.js), and it is
// detached when its bytes are in the memory. Its allocation is kept as long as they are there:
// others that still have the address (an `fs.read` that goes on) find memory, and the pages have a
// place to go back to. V8 counts its bytes no more, but those of the memory.

const { types } = require('node:util')
const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError, callNative, fromNative } = require('../support/errors.js')
const { roomOnStack } = require('../support/stack.js')
const { instead } = require('../support/given.js')
const { outOfRange, wrongType, wrongValue } = require('../support/wrong.js')
const { isJavaScriptCore, KEEPS_SENT_BUFFERS } = require('../platform/engine.js')
const { PAGE_BYTES, HUGE_PAGE_BYTES } = require('../platform/pages.js')
const { isTransferable, TakenBuffer } = require('../platform/transfer.js')
const v8 = require('../platform/v8.js')
const { AT, counts } = require('../observe/counts.js')
const { UNHEARD } = require('../observe/events.js')
const { guardFaults } = require('../fault/guard.js')
const { makeAdopted } = require('./adopted.js')
const { putInBlock } = require('./block.js')
const { isDetached } = require('./buffer.js')
const { entryAt } = require('./entry.js')
const { addEntry, notMade } = require('./entries.js')
const { growForSpace, growIfRoom } = require('./growth.js')
const { beginMap, noteMapped } = require('./told.js')

const { MAPPED } = AT

/** Why a buffer's pages can't be moved, as AdoptedBuffer.whyCopied has it, and in words. */
const WHY = {
  shared: 'it is a SharedArrayBuffer, which other threads may have',
  resizable: 'it can be resized, so V8 has more pages for it than it shows',
  pinned:
    'it may not be detached: it is a memory’s, a view of a region, a pool of Buffers, or an addon’s',
  engine: 'this is no V8, and nothing is known of how its buffers are allocated',
  small: 'it has less than 64 KiB of whole pages',
  mapped: 'its pages are a file’s, shared, or can’t be written',
  split: 'its pages are in several memory mappings of the process',
  locked: 'they are locked (mlock)',
  kernel: 'the kernel can’t move pages and leave their place (MREMAP_DONTUNMAP, from 5.7 on)',
  limited:
    'the process has a limit on its address space or data (`ulimit -v`, `ulimit -d`), or vm.overcommit_memory is 2',
  refused: 'the kernel refused'
}

/** As GuardedMemory.adopt, which gives the AdoptedBuffer. */
function adopt(linear, buffer, options) {
  const { at, allocator, copy = 'allow' } = read.adopt(options)
  const checked = check.optional(allocator, check.allocator)
  check.oneOf(copy, 'options.copy', ['allow', 'never'])
  if (checked?.owner === 'engine') {
    throw wrongValue(
      'options.allocator.owner',
      "'mapping' for a buffer",
      checked.owner,
      'its bytes begin inside a page, and an engine frees what begins a block'
    )
  }
  const start = check.optional(at, check.wholeNumberOrBigInt, 'options.at')
  const request = readRequest(buffer, copy === 'allow')
  guardFaults()
  if (allocator !== undefined) return adoptInBlock(linear, at, allocator, checked, request)
  return start === undefined
    ? adoptPastEnd(linear, request)
    : place(linear, request, { at: start, roomBytes: request.adopted.pageBytes })
}

function readRequest(buffer, mayCopy) {
  if (!types.isAnyArrayBuffer(buffer)) {
    throw wrongType('buffer', 'an ArrayBuffer', buffer, instead.buffer(buffer))
  }
  if (isDetached(buffer)) {
    throw wrongValue(
      'buffer',
      'a buffer that is there',
      buffer,
      'it is detached: it was adopted before, or transferred'
    )
  }
  const byteLength = v8.sizeOf(buffer)
  if (byteLength === 0) throw outOfRange('buffer.byteLength', 'at least 1', byteLength)
  const source = v8.arrayOver(buffer)
  const isTaken = !v8.isShared(buffer) && isTransferable(buffer)
  const why = whyStays(buffer, isTaken)
  if (why !== null && !mayCopy) throw notMovable(byteLength, why)
  const skew = callNative(() => native.skewOf(source))
  const pageBytes = Math.ceil((skew + byteLength) / PAGE_BYTES) * PAGE_BYTES
  const adopted = {
    buffer,
    source,
    isTaken,
    mayCopy,
    why,
    skew,
    pageBytes,
    copiedBytes: 0,
    held: null,
    // Whether it is known that `held` has the buffer: then nobody frees its allocation.
    isKept: false,
    back: null,
    // Whether `back` or `held` has the bytes, and the caller does not.
    isReleased: false
  }
  return {
    region: null,
    byteOffset: 0,
    byteLength,
    access: 'private',
    strict: false,
    owner: undefined,
    adopted
  }
}

/** Why its pages stay; null where they may be moved, for all that V8 tells. */
function whyStays(buffer, isTaken) {
  if (v8.isShared(buffer)) return 'shared'
  if (v8.isResizable(buffer)) return 'resizable'
  if (!isTaken) return 'pinned'
  return isJavaScriptCore ? 'engine' : null
}

const notMovable = (byteLength, reason) =>
  makeError(
    'ERR_HOSTMAP_BUFFER_NOT_MOVABLE',
    `the pages of the buffer of ${byteLength} bytes can't be moved: ${WHY[reason]}; with options.copy 'allow' they are copied`,
    { reason }
  )

function adoptPastEnd(linear, request) {
  const { pageBytes, source } = request.adopted
  if (request.adopted.why === null && pageBytes >= HUGE_PAGE_BYTES) {
    const found = place(linear, request, { congruent: true })
    if (found !== undefined) return found
    const array = linear.current()
    const growth = callNative(() => native.growthForAdopted(linear.table.handle, array, source))
    // 0: another thread gave a place back since.
    if (growIfRoom(linear, growth || pageBytes + 2 * HUGE_PAGE_BYTES)) {
      const grown = place(linear, request, { congruent: true })
      if (grown !== undefined) return grown
    }
  }
  for (;;) {
    const found = place(linear, request, {})
    if (found !== undefined) return found
    growForSpace(linear, pageBytes)
  }
}

function adoptInBlock(linear, at, allocator, checked, request) {
  const { pageBytes, why } = request.adopted
  // So that there is a place in it to which page tables can be moved.
  const more = why === null && pageBytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 0
  const roomBytes = pageBytes + more
  return putInBlock(linear, at, allocator, checked, roomBytes, (start, release) =>
    place(linear, request, { at: start, roomBytes, release })
  )
}

/** undefined: the memory must grow. */
function place(linear, request, { at = null, roomBytes = 0, congruent = false, release }) {
  const { byteLength, adopted } = request
  const { source, why, mayCopy } = adopted
  // Making it runs code of others (async_hooks): before anybody looks at the memory or the buffer.
  const box = adopted.isTaken ? new TakenBuffer() : null
  let array
  try {
    array = at === null ? linear.current() : linear.currentTo(at + roomBytes)
    // An allocator, or the function that gives a hidden memory, is the caller's code.
    if (v8.lengthOf(source) !== byteLength) {
      throw wrongValue(
        'buffer',
        'a buffer that is there',
        adopted.buffer,
        'a function of yours has detached or resized it meanwhile'
      )
    }
    // After the pages were moved nothing may fail.
    roomOnStack()
  } catch (error) {
    box?.drop()
    throw error
  }
  const startTime = beginMap()
  const entry = entryAt(linear, at ?? 0, request, release, null)
  addEntry(entry, makeAdopted(entry))
  let found
  try {
    const { handle } = linear.table
    found = native.adopt(handle, array, source, at, roomBytes, congruent, why === null, mayCopy)
  } catch (error) {
    box?.drop()
    throw notMade(entry, error)
  }
  if (found === null || found.id === 0) {
    box?.drop()
    linear.entries.delete(entry)
    if (found === null) return undefined
    throw notMovable(byteLength, found.why)
  }
  // Before anything is called: a time limit may end any call, and then it is among the mappings.
  entry.start = found.start
  entry.id = found.id
  adopted.copiedBytes = found.copiedBytes
  if (found.why !== undefined) adopted.why = found.why
  take(entry, array, found.id, box)
  counts[MAPPED] += 1
  if (startTime !== UNHEARD) noteMapped(entry, startTime)
  return entry.object
}

/** Detaches the buffer. Where that fails, its bytes go back. */
function take(entry, array, id, box) {
  const { linear, start, request } = entry
  const { adopted, byteLength } = request
  const { buffer, source, isTaken } = adopted
  adopted.buffer = null
  adopted.source = null
  if (!isTaken) return
  let cause
  try {
    // Where all was copied, its allocation is of no use.
    if (adopted.copiedBytes < byteLength) adopted.held = box
    box.take(buffer)
    if (isDetached(buffer)) {
      if (adopted.held === null) box.drop()
      else adopted.isKept = KEEPS_SENT_BUFFERS
      return
    }
  } catch (error) {
    cause = error
  }
  adopted.held = null
  box.drop()
  try {
    native.releaseAdopted(linear.table.handle, array, source, start, id, true)
  } catch (error) {
    // The bytes are still there, and it is among the mappings: that has them.
    throw fromNative(error)
  }
  entry.id = 0
  linear.entries.delete(entry)
  throw makeError(
    'ERR_HOSTMAP_OUT_OF_MEMORY',
    'V8 could not detach the buffer, which is as it was',
    {
      cause
    }
  )
}

module.exports = { adopt }
