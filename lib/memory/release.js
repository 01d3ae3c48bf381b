'use strict'

// Gives the bytes of an adopted buffer back to JavaScript, in the buffer that they came from where
// they were moved, or in a new one. Nothing may fail after the native call.

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

/** As AdoptedBuffer.release. */
function release(entry) {
  const { linear, table, start, id, ended, request } = entry
  const { adopted, byteLength } = request
  if (ended) {
    const { back } = adopted
    if (back === null) throw isGone(entry, 'was released or unmapped')
    releaseBlock(entry)
    adopted.back = null
    return back
  }
  const array = linear.current()
  if (table.lost) throw moved('copy them out of the memory, at `pointer`, and unmap')
  // A message that was received, and not handed on, would be lost.
  roomOnStack()
  const buffer = adopted.held?.receive() ?? newBuffer(byteLength)
  if (buffer === undefined) {
    throw makeError(
      'ERR_HOSTMAP_OUT_OF_MEMORY',
      `V8 has no memory for a buffer of ${byteLength} bytes; they are still in the memory: unmap other things, or copy a part at a time`
    )
  }
  const into = new Uint8Array(buffer)
  const startTime = beginUnmap()
  const message = startTime === UNHEARD ? undefined : messageOf(entry)
  let copied
  try {
    copied = native.releaseAdopted(table.handle, array, into, start, id, adopted.mayCopy)
  } catch (error) {
    throw fromNative(error)
  }
  entry.ended = true
  adopted.held = null
  if (copied === null) throw isGone(entry, 'was unmapped by another thread')
  // Until the caller has it: `free` may throw.
  adopted.back = buffer
  counts[UNMAPPED] += 1
  try {
    forget(linear, entry)
  } catch {
    // The end of the stack: it is done when the mappings are next looked at.
  }
  if (message !== undefined) noteUnmapped(message, startTime)
  releaseBlock(entry)
  adopted.back = null
  return buffer
}

const isGone = ({ start, request }, how) =>
  makeError(
    'ERR_HOSTMAP_MAPPING_UNMAPPED',
    `the adopted buffer at ${start + request.adopted.skew} ${how}, so it has no bytes to give`
  )

module.exports = { release }
