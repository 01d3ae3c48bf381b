'use strict'

const os = require('node:os')
const { inspect } = require('node:util')
const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError, fromNative, callNative, abortError } = require('../support/errors.js')
const { isRegion, isClosed, bytesOf, handleOf, nativeOf } = require('../region/host-region.js')
const { keepHere, wrongThing } = require('../region/share.js')
const { faultsFrom, faultedError } = require('../fault/faults.js')

const { Uint8Array } = require('../support/intrinsics.js')
const { isStackEnd } = require('../support/stack.js')

// Lets memory.js alone open windows.
const OPEN = Symbol('open')
const END = Symbol('end')

const PAGE_BYTES = native.hostPageSize()
// The one call that is made for each chunk.
const slide = native.slide

// The smallest size of huge pages, but for arm64 kernels with 16 or 64 KiB pages: there it is a
// size like any other.
const HUGE_PAGE_BYTES = 2 << 20

let slideTo
let takeOver
let entryOf
let rewindSources
let rewindsOf

class Window {
  // What memory.js knows of it: { memory, current, unmap }.
  #host
  // As memory.js has them: where it is, and what it shows.
  #entry
  #is64
  #byteLength
  #access
  #code
  #trap
  #strict
  // How often its sources had to start again.
  #rewinds = 0
  // What reads ahead for the source that slid it last.
  #stream = null

  static {
    slideTo = (window, region, byteOffset, byteLength, access) => {
      window.#mustBeOpen()
      mustBeRegion(region)
      return window.#slideTo(region, byteOffset, byteLength, access, 'byteOffset')
    }
    entryOf = window => window.#entry
    rewindsOf = window => window.#rewinds
    rewindSources = mapping => {
      if (#rewinds in mapping) mapping.#rewinds += 1
    }
    takeOver = (window, stream) => {
      if (window.#stream !== stream) window.#stream?.end()
      window.#stream = stream
    }
  }

  constructor(open, host, entry, request) {
    if (open !== OPEN) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'Window has no public constructor: use GuardedMemory.window'
      )
    }
    const { byteLength, access, trap, strict } = request
    keepHere(this)
    this.#host = host
    this.#entry = entry
    this.#is64 = host.memory.address === 'i64'
    this.#byteLength = byteLength
    this.#access = access
    this.#code = check.ACCESS.indexOf(access)
    this.#trap = trap
    this.#strict = strict === true
  }

  get address() {
    return this.#entry.start
  }

  get pointer() {
    return this.#pointerTo(this.#entry.start)
  }

  get byteLength() {
    return this.#byteLength
  }

  get access() {
    return this.#access
  }

  get rest() {
    return this.#trap ? 'trap' : 'zeros'
  }

  get region() {
    return this.#entry.shows.region
  }

  get byteOffset() {
    return this.#entry.shows.byteOffset
  }

  get shownBytes() {
    return this.#entry.shows.shownBytes
  }

  get memory() {
    return this.#host.memory
  }

  get unmapped() {
    return this.#entry.ended
  }

  get strayWrites() {
    return this.#faults().strayWrites
  }

  get faults() {
    return this.#faults().faults
  }

  get lastFault() {
    return this.#faults().lastFault
  }

  get strict() {
    return this.#strict
  }

  checkFaults() {
    const { unacknowledged, lastFault } = this.#faults()
    if (unacknowledged === 0) return
    const range = `[${this.address}, ${this.address + this.#byteLength})`
    throw faultedError(unacknowledged, `the window at ${range}`, 'window', lastFault)
  }

  acknowledgeFaults() {
    const { unacknowledged } = this.#faults()
    const { table, start, id, ended, faults } = this.#entry
    if (!ended && !table.lost)
      return callNative(() => native.acknowledgeFaults(table.handle, start, id))
    if (unacknowledged > 0) faults.unacknowledged = 0
    return unacknowledged
  }

  slide(region, byteOffset = 0, options = undefined) {
    this.#mustBeOpen()
    if (region === null) return this.#empty()
    mustBeRegion(region, 'a HostRegion or null')
    if (typeof byteOffset === 'object' && byteOffset !== null) {
      if (options !== undefined)
        throw check.wrongType('byteOffset', 'a number where options follow', byteOffset)
      const {
        byteOffset: start = 0,
        byteLength,
        access
      } = read.slide(byteOffset, 'options', 'byteOffset')
      return this.#slideTo(region, start, byteLength, access, 'options.byteOffset')
    }
    const { byteLength, access } = options === undefined ? NO_OPTIONS : read.slideTo(options)
    return this.#slideTo(region, byteOffset, byteLength, access, 'byteOffset')
  }

  #slideTo(region, byteOffset, byteLength, access, called) {
    const regionBytes = bytesOf(region)
    check.wholeNumber(byteOffset, called, 0, regionBytes - 1, check.limits.bytesOfRegion, region)
    const code = access === undefined ? this.#code : this.#checkAccess(access)
    const skew = byteOffset % PAGE_BYTES
    const most = Math.min(this.#byteLength - skew, regionBytes - byteOffset)
    // An object for the message only, and not for each slide.
    if (typeof byteLength === 'number' && byteLength > most)
      refuseLength(byteLength, most, { window: this, region, byteOffset })
    const length =
      byteLength === undefined ? most : check.wholeNumber(byteLength, 'options.byteLength', 1, most)
    const entry = this.#entry
    const address = entry.start + skew
    const pointer = this.#pointerTo(address)
    this.#slide(
      handleOf(region),
      byteOffset - skew,
      skew + length,
      code,
      region,
      byteOffset,
      length
    )
    return { address, pointer, byteLength: length }
  }

  source(region, options) {
    return new WindowSource(OPEN, this, region, this.#plan(region, read.source(options)))
  }

  chunks(region, options) {
    const given = read.chunks(options)
    check.optional(given.signal, check.abortSignal, 'options.signal')
    check.optional(given.onProgress, check.callback, 'options.onProgress')
    const plan = this.#plan(region, given)
    return new Chunks(() => new WindowSource(OPEN, this, region, plan, false), plan, given)
  }

  unmap() {
    const entry = this.#entry
    if (!entry.ended) this.#host.unmap(entry)
    this.#stream?.end()
    if (entry.release !== undefined) release(entry)
  }

  [Symbol.dispose]() {
    this.unmap()
  }

  [inspect.custom](depth, options) {
    if (!(#host in this)) return 'Window {}'
    const { pointer, byteLength, access, region, byteOffset, shownBytes, unmapped } = this
    const shown = { region: region?.name ?? null, byteOffset, shownBytes }
    return `Window ${inspect({ pointer, byteLength, access, ...shown, unmapped }, options)}`
  }

  #empty() {
    const { start } = this.#entry
    const pointer = this.#pointerTo(start)
    this.#slide(0, 0, 0, 0, null, 0, 0)
    return { address: start, pointer, byteLength: 0 }
  }

  // What it shows is written down by assignments: see memory.js.
  #slide(handle, start, length, code, region, byteOffset, shownBytes) {
    const entry = this.#entry
    const { table, shows } = entry
    const array = this.#host.current()
    if (table.lost) throw moved()
    let there
    try {
      there = slide(table.handle, array, entry.start, entry.id, handle, start, length, code)
    } catch (error) {
      this.#seeWhatIsLeft()
      const failure = fromNative(error)
      // It says more.
      if (failure.code === 'ERR_HOSTMAP_FAULTED') this.checkFaults()
      throw failure
    }
    // undefined: it is.
    if (there === false) throw gone()
    shows.region = region
    shows.byteOffset = byteOffset
    shows.shownBytes = shownBytes
  }

  // After a slide that failed: what it showed before, or less of it, or nothing.
  #seeWhatIsLeft() {
    const { table, start, shows } = this.#entry
    const found = callNative(() => native.entries(table.handle)).find(it => it.start === start)
    const left = (found?.shownBytes ?? 0) - (shows.byteOffset % PAGE_BYTES)
    if (left > 0) {
      shows.shownBytes = Math.min(shows.shownBytes, left)
    } else {
      shows.region = null
      shows.byteOffset = 0
      shows.shownBytes = 0
    }
  }

  #checkAccess(access) {
    const code = check.access(access, 'options.access')
    if (access !== this.#access && access !== 'readonly' && this.#access !== 'shared') {
      throw makeError(
        'ERR_INVALID_ARG_VALUE',
        `options.access is '${access}', and the window was opened with '${this.#access}'; open it with access '${access}'`
      )
    }
    return code
  }

  // What a source shows, and in what steps.
  #plan(region, options) {
    this.#mustBeOpen()
    mustBeRegion(region)
    if (this.#strict) this.checkFaults()
    const {
      chunk,
      overlap = 0,
      access = this.#access,
      readAhead = true,
      leaveBehind = 'auto'
    } = options
    const { start, end } = check.part(options, region)
    this.#checkAccess(access)
    check.boolean(readAhead, 'options.readAhead')
    if (leaveBehind !== 'auto' && typeof leaveBehind !== 'boolean') {
      throw check.wrongType('options.leaveBehind', "a boolean or 'auto'", leaveBehind)
    }
    // A chunk may start anywhere in a page, with what is kept in front of it.
    const holds = this.#is64 ? this.#byteLength : Math.min(this.#byteLength, MOST_IN_32_BITS)
    check.wholeNumber(overlap, 'options.overlap', 0, holds - PAGE_BYTES, limitOfWindow, this, 0)
    const most = holds - overlap
    // Where a chunk starts in its page, it loses as much room: see #next.
    const room =
      most -
      Math.max(start % PAGE_BYTES, (((start - overlap) % PAGE_BYTES) + PAGE_BYTES) % PAGE_BYTES)
    const unit = room >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : room >= PAGE_BYTES ? PAGE_BYTES : 1
    const whole = Math.max(1, Math.floor(room / unit) * unit)
    return {
      holds,
      chunk:
        chunk === undefined
          ? whole
          : check.wholeNumber(chunk, 'options.chunk', 1, most, limitOfWindow, this, overlap),
      overlap,
      start,
      end,
      access,
      readAhead,
      leaveBehind:
        leaveBehind === 'auto'
          ? region.backing === 'file' && region.byteLength > memoryLimitBytes() / 2
          : leaveBehind
    }
  }

  #pointerTo(address) {
    return this.#is64 ? BigInt(address) : address
  }

  #faults() {
    const { table, start, id, ended, faults, shows } = this.#entry
    const { region } = shows
    const flat =
      ended || table.lost ? faults : callNative(() => native.faultsOf(table.handle, start, id))
    return faultsFrom(flat, region === null ? undefined : nativeOf(region), start)
  }

  #mustBeOpen() {
    if (this.#entry.ended) throw gone()
  }
}

const NO_OPTIONS = Object.freeze({ byteLength: undefined, access: undefined })

/**
 * Gives an allocator's block back, once: also where the module's own `free` fails. But where the
 * stack ends it was not called at all, in all likelihood, and the next `unmap` calls it.
 */
function release(entry) {
  const give = entry.release
  entry.release = undefined
  try {
    give()
  } catch (error) {
    entry.release = give
    if (!isStackEnd(error)) entry.release = undefined
    throw error
  }
}

const moved = () =>
  makeError(
    'ERR_HOSTMAP_MEMORY_MOVED',
    'V8 has moved the memory to another place when it grew, and the window is lost: what it showed is a copy now; open a new one'
  )
const gone = () =>
  makeError(
    'ERR_HOSTMAP_WINDOW_UNMAPPED',
    'the window was unmapped; open a new one with GuardedMemory.window'
  )

function mustBeRegion(region, what = 'a HostRegion') {
  if (!isRegion(region)) throw wrongThing('region', what, region)
  if (isClosed(region)) {
    throw makeError(
      'ERR_HOSTMAP_REGION_CLOSED',
      `region "${region.name}" was closed; make a new one`
    )
  }
}

// Where limits come from, for messages: see `wholeNumber`.
const limitOfWindow = (window, overlap) =>
  overlap > 0
    ? `: the window has ${window.byteLength} bytes, and the overlap takes ${overlap}`
    : `: the window has ${window.byteLength} bytes`
const limitOfSlide = (most, { window, region, byteOffset }) =>
  most === region.byteLength - byteOffset
    ? check.limits.restOfRegion(region, byteOffset)
    : `: the window has ${window.byteLength} bytes, and byteOffset is ${byteOffset % PAGE_BYTES} bytes into a page`

const refuseLength = (value, most, about) =>
  check.wholeNumber(value, 'options.byteLength', 1, most, limitOfSlide, most, about)

// `next` of a 32-bit module can't say 2^32: it would be 0, the end.
const MOST_IN_32_BITS = 2 ** 32 - PAGE_BYTES

// Less is not worth a call to another thread.
const LEAST_AHEAD_BYTES = 8 << 20

// What the process may use: the machine's memory, or what its control group leaves it.
let limitBytes
function memoryLimitBytes() {
  if (limitBytes === undefined) {
    const constrained = process.constrainedMemory?.()
    limitBytes = constrained > 0 ? Math.min(constrained, os.totalmem()) : os.totalmem()
  }
  return limitBytes
}

class WindowSource {
  #window
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

  constructor(open, window, region, plan, followsPool = true) {
    if (open !== OPEN) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'WindowSource has no public constructor: use Window.source'
      )
    }
    keepHere(this)
    this.#window = window
    this.#region = region
    this.#plan = plan
    this.#rewinds = followsPool ? rewindsOf(window) : null
    this.#seek(plan.start)
    const is64 = window.memory.address === 'i64'
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
    return this.#window
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
      region: this.#region.name,
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
    this.#pointer = this.#window.pointer
    this.#aheadTo = byteOffset
    this.#restart = true
  }

  // Where it was belongs to a program that has given its instance back.
  #rewindIfReleased() {
    const rewinds = rewindsOf(this.#window)
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
    if (entryOf(this.#window).ended) throw gone()
    if (this.#position >= last) {
      // What was shown last may have been zeros in the place of data.
      if (this.#window.strict) this.#window.checkFaults()
      this[END]()
      return is64 ? 0n : 0
    }
    // No more than was shown can be kept, and at the start nothing was.
    const start = Math.max(this.#position - keep, this.#start)
    const kept = this.#position - start
    const room = holds - (start % PAGE_BYTES) - kept
    if (room < 1) {
      throw check.outOfRange(
        'keep',
        `less: the window, of ${this.#window.byteLength} bytes, has no room beside what is kept; a longer record needs a larger window`,
        keep
      )
    }
    const end = this.#position + Math.min(chunk, last - this.#position, room)
    const { pointer, byteLength } = slideTo(this.#window, this.#region, start, end - start, access)
    const shown = is64 ? BigInt(byteLength) : byteLength
    if (this.#stream !== null) this.#advance(start, end)
    this.#start = start
    this.#position = end
    this.#pointer = pointer
    return shown
  }

  // Tells the threads that read ahead where the module is: not at each step, where steps are small.
  #advance(start, position) {
    const { chunk, end, access, readAhead, leaveBehind } = this.#plan
    const distance = Math.max(chunk, Math.min(LEAST_AHEAD_BYTES, memoryLimitBytes() / 16))
    const isDue = position + distance / 2 > this.#aheadTo && this.#aheadTo < end
    if (!isDue && !this.#restart) return
    try {
      const entry = entryOf(this.#window)
      this.#stream ??= new native.NativeStream(
        entry.table.handle,
        entry.start,
        handleOf(this.#region),
        check.ACCESS.indexOf(access),
        readAhead,
        leaveBehind
      )
      if (this.#stream.idle) {
        this.#stream = null
        return
      }
      takeOver(this.#window, this.#stream)
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

// Of the system, or of the stack, which may end anywhere. All else is a mistake of ours.
const isRefusal = error =>
  error?.name === 'RangeError' || fromNative(error).code !== 'ERR_HOSTMAP_INTERNAL'

class Chunks {
  #open
  #plan
  #signal
  #onProgress

  constructor(open, plan, { signal, onProgress }) {
    this.#open = open
    this.#plan = plan
    this.#signal = signal
    this.#onProgress = onProgress
  }

  *[Symbol.iterator]() {
    const source = this.#open()
    const { start, end } = this.#plan
    try {
      for (;;) {
        if (this.#signal?.aborted)
          throw abortError(this.#signal, `Reading region "${source.region.name}"`)
        const byteLength = Number(source.next())
        if (byteLength === 0) return
        const { window, pointer, start: byteOffset } = source
        const address = Number(pointer)
        const bytes = new Uint8Array(window.memory.buffer, address, byteLength)
        yield { address, pointer, byteOffset, byteLength, bytes }
        this.#onProgress?.(source.position - start, end - start)
      }
    } finally {
      source[END]()
    }
  }

  async *[Symbol.asyncIterator]() {
    for (const chunk of this) {
      yield chunk
      // Everybody else's turn: timers, sockets, and what aborts this.
      await new Promise(resolve => setImmediate(resolve))
    }
  }
}

/** What memory.js calls. */
const openWindow = (host, entry, request) => new Window(OPEN, host, entry, request)

/** For the pool: sources of this window, if it is one, start again. */
const rewindSourcesOf = mapping => rewindSources(mapping)

module.exports = { Window, WindowSource, openWindow, release, rewindSourcesOf, HUGE_PAGE_BYTES }
