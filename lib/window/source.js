'use strict'

// WindowSource: one pass over a region through a window, step by step, as its module asks for it.
// Until all is done that may fail a step has not gone on: a chunk that nobody saw would be missed.

const { inspect } = require('node:util')
const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const { makeError, fromNative } = require('../support/errors.js')
const { outOfRange } = require('../support/wrong.js')
const { isRangeError } = require('../platform/error-classes.js')
const { PAGE_BYTES } = require('../platform/pages.js')
const { pending, tell } = require('../observe/events.js')
const { handleOf, mustBeOpen, nameOf } = require('../region/host-region.js')
const { keepHere } = require('../region/share.js')
const { pointerOf, checkFaultsOf } = require('../memory/entry.js')
const { memoryLimitBytes } = require('./plan.js')
const { slideTo, mustBeMapped } = require('./slide.js')

// Lets this file alone make sources.
const MAKE = Symbol('make')
const END = Symbol('end')

// Less is not worth a call to another thread.
const LEAST_AHEAD_BYTES = 8 << 20

class WindowSource {
  #entry
  #region
  #plan
  #imports
  // The next byte that was never shown.
  #position
  // What is shown now.
  #start
  #pointer
  // Reads ahead and leaves behind; null where nothing is to be done, undefined before the first
  // step.
  #stream
  // How far it was told to.
  #aheadTo
  #restart = false
  // Of the window, when it was last looked at; null for a loop over chunks, which goes on where it
  // is.
  #rewinds

  constructor(make, entry, region, plan, followsPool = true) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'WindowSource has no public constructor: use Window.source'
      )
    }
    keepHere(this)
    this.#entry = entry
    this.#region = region
    this.#plan = plan
    this.#rewinds = followsPool ? entry.window.rewinds : null
    this.#seek(plan.start)
    const is64 = entry.linear.address === 'i64'
    // A module's numbers come signed. What is none of its numbers comes from JavaScript.
    const given = keep =>
      keep === undefined ? plan.overlap : check.wholeNumberOrBigInt(keep, 'keep')
    const next = is64
      ? keep =>
          this.#next(typeof keep === 'bigint' ? Number(BigInt.asUintN(64, keep)) : given(keep))
      : keep => this.#next(typeof keep === 'number' ? keep >>> 0 : given(keep))
    this.#imports = Object.freeze({ next, pointer: () => this.pointer })
  }

  get imports() {
    return this.#imports
  }

  get window() {
    return this.#entry.object
  }

  get region() {
    return this.#region
  }

  get position() {
    this.#rewindIfReleased()
    return this.#position
  }

  get start() {
    this.#rewindIfReleased()
    return this.#start
  }

  get pointer() {
    this.#rewindIfReleased()
    return this.#pointer
  }

  next(keep) {
    const kept = keep === undefined ? this.#plan.overlap : check.wholeNumberOrBigInt(keep, 'keep')
    return this.#next(kept)
  }

  seek(byteOffset) {
    const { start, end } = this.#plan
    this.#rewindIfReleased()
    const ofPart = () => ', the part that the source reads'
    this.#seek(check.wholeNumber(byteOffset, 'byteOffset', start, end, ofPart))
  }

  rewind() {
    this.#seek(this.#plan.start)
  }

  [inspect.custom](depth, options) {
    if (!(#plan in this)) return 'WindowSource {}'
    const { start: byteOffset, end, chunk, overlap } = this.#plan
    const shown = {
      region: nameOf(this.#region),
      byteOffset,
      byteLength: end - byteOffset,
      chunk,
      overlap
    }
    return `WindowSource ${inspect({ ...shown, position: this.#position }, options)}`
  }

  /** For chunks: nothing more is read ahead. */
  [END]() {
    this.#stream?.end()
    this.#restart = true
  }

  #seek(byteOffset) {
    this.#position = byteOffset
    this.#start = byteOffset
    this.#pointer = pointerOf(this.#entry)
    this.#aheadTo = byteOffset
    this.#restart = true
  }

  // Where it was belongs to a program that has given its instance back.
  #rewindIfReleased() {
    const { rewinds } = this.#entry.window
    if (this.#rewinds === null || rewinds === this.#rewinds) return
    this.#rewinds = rewinds
    this.#seek(this.#plan.start)
  }

  // Gives a BigInt to a 64-bit module. Until all is done that may fail it has not gone on: a chunk
  // that nobody saw would be missed.
  #next(keep) {
    const { chunk, holds, end: last, access } = this.#plan
    const is64 = typeof this.#pointer === 'bigint'
    this.#rewindIfReleased()
    mustBeMapped(this.#entry)
    if (this.#position >= last) {
      // What was shown last may have been zeros in the place of data.
      if (this.#entry.request.strict) checkFaultsOf(this.#entry)
      this[END]()
      return is64 ? 0n : 0
    }
    // No more than was shown can be kept, and at the start nothing was.
    const start = Math.max(this.#position - keep, this.#start)
    const kept = this.#position - start
    const room = holds - (start % PAGE_BYTES) - kept
    if (room < 1) {
      throw outOfRange(
        'keep',
        `less: the window, of ${this.#entry.request.byteLength} bytes, has no room beside what is kept; a longer record needs a larger window`,
        keep
      )
    }
    const end = this.#position + Math.min(chunk, last - this.#position, room)
    mustBeOpen(this.#region)
    const { pointer, byteLength } = slideTo(
      this.#entry,
      this.#region,
      start,
      end - start,
      access,
      'byteOffset'
    )
    const shown = is64 ? BigInt(byteLength) : byteLength
    if (this.#stream !== null) this.#advance(start, end)
    this.#start = start
    this.#position = end
    this.#pointer = pointer
    if (pending.length > 0) tell()
    return shown
  }

  // Tells the threads that read ahead where the module is: not at each step, where steps are small.
  #advance(start, position) {
    const { chunk, end, access, readAhead, leaveBehind } = this.#plan
    const distance = Math.max(chunk, Math.min(LEAST_AHEAD_BYTES, memoryLimitBytes() / 16))
    const isDue = position + distance / 2 > this.#aheadTo && this.#aheadTo < end
    if (!isDue && !this.#restart) return
    try {
      const entry = this.#entry
      this.#stream ??= new native.NativeStream(
        handleOf(this.#region),
        check.ACCESS.indexOf(access),
        readAhead,
        leaveBehind
      )
      if (this.#stream.idle) {
        this.#stream = null
        return
      }
      takeOver(entry.window, this.#stream)
      const aheadTo = Math.min(end, position + distance)
      this.#stream.advance(start, position, aheadTo, this.#restart)
      this.#aheadTo = aheadTo
      this.#restart = false
    } catch (error) {
      // The chunk is there. What could not be started makes the next ones slower, no more.
      this.#stream = null
      if (!isRefusal(error)) throw error
    }
  }
}

// Of the system, or of the stack, which may end anywhere. All else is our own mistake.
const isRefusal = error => isRangeError(error) || fromNative(error).code !== 'ERR_HOSTMAP_INTERNAL'

/** Ends what reads ahead for another source of the window. */
function takeOver(window, stream) {
  if (window.stream !== stream) window.stream?.end()
  window.stream = stream
}

/**
 * `followsPool`: whether it starts again where its instance goes back to a pool; a loop over chunks
 * goes on where it is.
 */
const openSource = (entry, region, plan, followsPool = true) =>
  new WindowSource(MAKE, entry, region, plan, followsPool)

/** For a loop over chunks that ends: nothing more is read ahead. */
const endSource = source => source[END]()

module.exports = { WindowSource, openSource, endSource }
