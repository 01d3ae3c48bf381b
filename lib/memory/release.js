'use strict'

// Gives the bytes of an adopted buffer back to JavaScript, in the buffer that they came from where
// they were moved, or in a new one.
//
// Large ones are moved while V8 knows of no buffer yet. When it hears of one it begins to collect
// garbage in threads of its own, and the kernel would have to interrupt each CPU that runs one for
// every 2 MiB that it moves: 5 to 10 ms for 1 GiB, and not 0.2. Others are received first, since a
// time limit that ends just that call loses the message (the buffer is a new one then, and its
// bytes are copied).

const native = require('../platform/binding.js')
const { makeError, fromNative } = require('../support/errors.js')
const { roomOnStack } = require('../support/stack.js')
const { newBuffer } = require('../platform/transfer.js')
const { Uint8Array } = require('../platform/v8.js')
const { AT, counts } = require('../observe/counts.js')
const { UNHEARD } = require('../observe/events.js')
const { releaseBlock } = require('./entry.js')
const { moved } = require('./errors.js')
const { forget } = require('./faults.js')
const { beginUnmap, messageOf, noteUnmapped } = require('./told.js')

const { UNMAPPED } = AT

/** Less than that and V8 does nothing at once (Node 20 to 26). */
const LARGE_BYTES = 64 * 2 ** 20

/** As AdoptedBuffer.release. */
function release(entry) {
  const { linear, table, start, id, ended, request } = entry
  const { adopted, byteLength } = request
  if (ended) {
    if (!adopted.isReleased) throw isGone(entry, 'was released or unmapped')
    return handOver(entry)
  }
  const array = linear.current()
  if (table.lost) throw moved('copy them out of the memory, at `pointer`, and unmap')
  // A message that was received, and not handed on, would be lost.
  roomOnStack()
  const isMovedFirst = adopted.isKept && byteLength >= LARGE_BYTES && adopted.held.isThere()
  const buffer = isMovedFirst ? null : (adopted.held?.receive() ?? newBuffer(byteLength))
  if (buffer === undefined) {
    throw makeError(
      'ERR_HOSTMAP_OUT_OF_MEMORY',
      `V8 has no memory for a buffer of ${byteLength} bytes; they are still in the memory: unmap other things, or copy a part at a time`
    )
  }
  const into = buffer === null ? null : new Uint8Array(buffer)
  const startTime = beginUnmap()
  const message = startTime === UNHEARD ? undefined : messageOf(entry)
  let copied
  try {
    copied = native.releaseAdopted(table.handle, array, into, start, id, adopted.mayCopy)
  } catch (error) {
    throw fromNative(error)
  }
  entry.ended = true
  if (copied === null) {
    adopted.held?.drop()
    adopted.held = null
    throw isGone(entry, 'was unmapped by another thread')
  }
  adopted.back = buffer
  if (buffer !== null) adopted.held = null
  adopted.isReleased = true
  counts[UNMAPPED] += 1
  try {
    forget(linear, entry)
  } catch {
    // The end of the stack: it is done when the mappings are next looked at.
  }
  if (message !== undefined) noteUnmapped(message, startTime)
  return handOver(entry)
}

/** Gives what is ready, and can be called again until the caller has it: `free` may throw. */
function handOver(entry) {
  const { adopted } = entry.request
  if (adopted.back === null) {
    roomOnStack()
    const buffer = adopted.held.receive()
    adopted.held = null
    if (buffer === undefined) {
      adopted.isReleased = false
      throw isGone(entry, 'was lost in a call that was ended')
    }
    adopted.back = buffer
  }
  releaseBlock(entry)
  const { back } = adopted
  adopted.back = null
  adopted.isReleased = false
  return back
}

const isGone = ({ start, request }, how) =>
  makeError(
    'ERR_HOSTMAP_MAPPING_UNMAPPED',
    `the adopted buffer at ${start + request.adopted.skew} ${how}, so it has no bytes to give`
  )

module.exports = { release }
