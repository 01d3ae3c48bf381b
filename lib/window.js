'use strict'

const { inspect } = require('node:util')
const native = require('./binding.js')
const check = require('./arguments.js')
const { makeError, fromNative, callNative, abortError } = require('./errors.js')
const { isRegion, handleOf, nativeOf } = require('./region.js')
const { faultsFrom } = require('./faults.js')

const { Uint8Array } = globalThis

// Lets memory.js alone open windows.
const OPEN = Symbol('open')

// As src/js/memory.rs numbers them.
const ACCESS = ['readonly', 'private', 'shared']

class Window {
  // What memory.js knows of it: { memory, table, current, unmap }.
  #host
  #id
  #address
  #is64
  #byteLength
  #access
  #trap
  #release
  #region = null
  #byteOffset = 0
  #shownBytes = 0
  #unmapped = false
  #finalFaults

  constructor(open, host, { id, address, byteLength, access, trap, release }) {
    if (open !== OPEN) {
      throw makeError('ERR_ILLEGAL_CONSTRUCTOR', 'Window has no public constructor: use GuardedMemory.window')
    }
    this.#host = host
    this.#id = id
    this.#address = address
    this.#is64 = host.memory.address === 'i64'
    this.#byteLength = byteLength
    this.#access = access
    this.#trap = trap
    this.#release = release
  }

  get address() {
    return this.#address
  }

  get pointer() {
    return this.#pointerTo(this.#address)
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
    return this.#region
  }

  get byteOffset() {
    return this.#byteOffset
  }

  get shownBytes() {
    return this.#shownBytes
  }

  get memory() {
    return this.#host.memory
  }

  get unmapped() {
    return this.#unmapped
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

  slide(region, byteOffset = 0, options = undefined) {
    this.#mustBeOpen()
    if (region === null) return this.#empty()
    if (!isRegion(region)) throw check.wrongType('region', 'a HostRegion or null', region)
    if (region.closed) {
      throw makeError('ERR_HOSTMAP_REGION_CLOSED', `region "${region.name}" was closed; make a new one`)
    }
    check.wholeNumber(byteOffset, 'byteOffset', 0, region.byteLength - 1)
    const { byteLength, access = this.#access } = options === undefined ? NO_OPTIONS : check.options(options)
    const code = ACCESS.indexOf(access)
    if (code < 0) check.oneOf(access, 'options.access', ACCESS)
    if (access !== this.#access && access !== 'readonly' && this.#access !== 'shared') {
      throw makeError(
        'ERR_INVALID_ARG_VALUE',
        `options.access is '${access}', and the window was opened with '${this.#access}'; open it with access '${access}'`
      )
    }
    const skew = byteOffset % native.hostPageSize()
    const most = Math.min(this.#byteLength - skew, region.byteLength - byteOffset)
    const length =
      byteLength === undefined ? most : check.wholeNumber(byteLength, 'options.byteLength', 1, most)
    const { table, current } = this.#host
    const array = current()
    let there
    try {
      const start = byteOffset - skew
      there = native.slide(
        table.handle,
        array,
        this.#address,
        this.#id,
        handleOf(region),
        start,
        skew + length,
        code
      )
    } catch (error) {
      throw fromNative(error)
    }
    if (!there) throw gone()
    this.#region = region
    this.#byteOffset = byteOffset
    this.#shownBytes = length
    const address = this.#address + skew
    return { address, pointer: this.#pointerTo(address), byteLength: length }
  }

  source(region, options) {
    this.#mustBeOpen()
    if (!isRegion(region)) throw check.wrongType('region', 'a HostRegion', region)
    return new WindowSource(OPEN, this, region, planOf(this, region, check.options(options)), this.#is64)
  }

  chunks(region, options) {
    this.#mustBeOpen()
    if (!isRegion(region)) throw check.wrongType('region', 'a HostRegion', region)
    const given = check.options(options)
    check.optional(given.signal, check.abortSignal, 'options.signal')
    check.optional(given.onProgress, check.callback, 'options.onProgress')
    const plan = planOf(this, region, given)
    return new Chunks(new WindowSource(OPEN, this, region, plan, false), given.signal, given.onProgress)
  }

  unmap() {
    if (this.#unmapped) return
    this.#finalFaults = this.#host.unmap(this.#id, this.#address)
    this.#unmapped = true
    this.#region = null
    this.#shownBytes = 0
    this.#release?.()
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
    const { table, current } = this.#host
    const array = current()
    if (!callNative(() => native.slideToNothing(table.handle, array, this.#address, this.#id))) throw gone()
    this.#region = null
    this.#byteOffset = 0
    this.#shownBytes = 0
    return { address: this.#address, pointer: this.pointer, byteLength: 0 }
  }

  #pointerTo(address) {
    return this.#is64 ? BigInt(address) : address
  }

  #faults() {
    const { table } = this.#host
    const flat = this.#unmapped
      ? this.#finalFaults
      : callNative(() => native.faultsOf(table.handle, this.#address, this.#id))
    const skew = this.#byteOffset % native.hostPageSize()
    const source = this.#region === null ? NO_SOURCE : nativeOf(this.#region)
    return faultsFrom(flat, source, this.#address, this.#byteOffset - skew)
  }

  #mustBeOpen() {
    if (this.#unmapped) throw gone()
  }
}

const NO_OPTIONS = Object.freeze({})
// A window that shows nothing has no file to ask.
const NO_SOURCE = { keepsSize: false, bytesInFile: undefined }

const gone = () =>
  makeError(
    'ERR_HOSTMAP_WINDOW_UNMAPPED',
    'the window was unmapped; open a new one with GuardedMemory.window'
  )

/** What a source shows, and in what steps. */
function planOf(window, region, { chunk, overlap = 0, from = 0, to = region.byteLength }) {
  check.wholeNumber(to, 'options.to', 0, region.byteLength)
  check.wholeNumber(from, 'options.from', 0, to)
  check.wholeNumber(overlap, 'options.overlap')
  // A chunk may start anywhere in a page.
  const room = window.byteLength - (native.hostPageSize() - 1) - overlap
  if (room < 1) {
    throw check.outOfRange(
      'options.overlap',
      `less than the window's byteLength, ${window.byteLength}, by at least a host page`,
      overlap
    )
  }
  const step = chunk === undefined ? room : check.wholeNumber(chunk, 'options.chunk', 1, room)
  return { chunk: step, overlap, from, to }
}

class WindowSource {
  #window
  #region
  #plan
  #is64
  // The next byte to be shown for the first time.
  #position
  // What is shown now.
  #start
  #pointer

  constructor(open, window, region, plan, is64) {
    if (open !== OPEN) {
      throw makeError('ERR_ILLEGAL_CONSTRUCTOR', 'WindowSource has no public constructor: use Window.source')
    }
    this.#window = window
    this.#region = region
    this.#plan = plan
    this.#is64 = is64
    this.rewind()
    // Handed to modules as they are.
    const count = is64 ? BigInt : Number
    this.imports = Object.freeze({
      next: keep => count(this.#next(keep === undefined ? undefined : Number(keep))),
      pointer: () => this.#pointer
    })
    this.next = this.imports.next
  }

  get window() {
    return this.#window
  }

  get region() {
    return this.#region
  }

  get position() {
    return this.#position
  }

  get start() {
    return this.#start
  }

  get pointer() {
    return this.#pointer
  }

  seek(byteOffset) {
    const { from, to } = this.#plan
    check.wholeNumber(byteOffset, 'byteOffset', from, to)
    this.#position = byteOffset
    this.#start = byteOffset
    this.#pointer = this.#window.pointer
  }

  rewind() {
    this.seek(this.#plan.from)
  }

  /** How many bytes it reads in all, and how many of them were shown. For chunks. */
  get progress() {
    const { from, to } = this.#plan
    return [this.#position - from, to - from]
  }

  [inspect.custom](depth, options) {
    if (!(#plan in this)) return 'WindowSource {}'
    const { region, position } = this
    return `WindowSource ${inspect({ region: region.name, position, ...this.#plan }, options)}`
  }

  #next(keep = this.#plan.overlap) {
    const { chunk, to } = this.#plan
    check.wholeNumber(keep, 'keep')
    if (this.#position >= to) return 0
    // No more than was shown can be kept, and at the start nothing was.
    const start = Math.max(this.#position - keep, this.#start)
    const skew = start % native.hostPageSize()
    const room = this.#window.byteLength - skew - (this.#position - start)
    if (room < 1) {
      throw check.outOfRange(
        'keep',
        `so small that the window, of ${this.#window.byteLength} bytes, has room for more`,
        keep
      )
    }
    const end = this.#position + Math.min(chunk, to - this.#position, room)
    const { pointer, byteLength } = this.#window.slide(this.#region, start, { byteLength: end - start })
    this.#start = start
    this.#position = end
    this.#pointer = pointer
    return byteLength
  }
}

class Chunks {
  #source
  #signal
  #onProgress

  constructor(source, signal, onProgress) {
    this.#source = source
    this.#signal = signal
    this.#onProgress = onProgress
  }

  *[Symbol.iterator]() {
    const source = this.#source
    source.rewind()
    for (;;) {
      if (this.#signal?.aborted) throw abortError(this.#signal, `Reading region "${source.region.name}"`)
      const byteLength = source.next()
      if (byteLength === 0) return
      const { window, pointer, start: byteOffset } = source
      const address = Number(pointer)
      const bytes = new Uint8Array(window.memory.buffer, address, byteLength)
      yield { address, pointer, byteOffset, byteLength, bytes }
      this.#onProgress?.(...source.progress)
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
const openWindow = (host, found) => new Window(OPEN, host, found)

module.exports = { Window, WindowSource, openWindow }
