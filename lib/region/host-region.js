'use strict'

// HostRegion: bytes that the host owns, behind a file descriptor. The functions at the end are for
// the rooms above: they read private fields, which no caller can have changed, and a caller's
// object is never asked by its public getters.

const { inspect } = require('node:util')
const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError, callNative } = require('../support/errors.js')
const { roomOnStack } = require('../support/stack.js')
const { bytes } = require('../platform/bytes.js')
const { UNHEARD } = require('../observe/events.js')
const { guardFaults } = require('../fault/guard.js')
const { openPaged } = require('../paging/paged.js')
const { closePaging, showHeld } = require('../paging/paging.js')
const { optionsOfPaged } = require('../paging/options.js')
const { receivedPaging } = require('../paging/received.js')
const { faultsFrom, faultedError } = require('../fault/found.js')
const { REGION, accessToShare, keepHere, makeToken, readToken, wrongThing } = require('./share.js')
const { beginRegion, closedRegion, madeRegion } = require('./told.js')
const { fill, optionsOfFill } = require('./fill.js')
const loading = require('./load.js')
const names = require('./names.js')
const { mustFitBuffer, optionsOfAllocate, optionsOfFd, optionsOfOpen } = require('./options.js')
const reading = require('./read.js')
const { splitPart } = require('./split.js')
const { Views } = require('./views.js')
const wait = require('./wait.js')
const writing = require('./write.js')

// More workers than any machine has.
const MOST_PARTS = 2 ** 20

// Lets this module alone make regions.
const MAKE = Symbol('make')

let isRegion
let bytesOf
let isClosed
let handleOf
let nativeOf
let isHuge
let nameOf
let isFile

class HostRegion {
  #native
  // By which the native part finds the region fast. #native owns it.
  #handle
  #byteLength
  #backing
  #name
  #closed = false
  // Whether it was filled with huge pages.
  #huge
  #views
  // Of a region whose bytes come when they are touched; null for others.
  #paging
  // How many faults of its views the caller has taken note of.
  #acknowledgedFaults = 0

  static {
    isRegion = value => typeof value === 'object' && value !== null && #native in value
    bytesOf = region => region.#byteLength
    isClosed = region => region.#closed
    handleOf = region => region.#handle
    nativeOf = region => region.#native
    isHuge = region => region.#huge
    nameOf = region => region.#name
    isFile = region => region.#backing === 'file'
  }

  constructor(make, owner, counted, paging = null) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'HostRegion has no public constructor: use HostRegion.allocate, copyFrom, from, load, open, fromFd, paged, receive or find'
      )
    }
    this.#native = owner
    this.#handle = owner.handle
    this.#byteLength = owner.byteLength
    this.#backing = owner.isMemfd ? 'memfd' : 'file'
    this.#name = owner.name
    this.#huge = owner.isHuge
    this.#paging = paging
    this.#views = new Views(owner, this.#byteLength, counted, paging && (() => showHeld(paging)))
    keepHere(this)
  }

  static allocate(byteLength, options) {
    check.regionSize(byteLength, 'byteLength')
    const { name, hugePages } = optionsOfAllocate(options)
    return make('allocate', true, () => native.NativeRegion.allocate(byteLength, name, hugePages))
  }

  static copyFrom(source, options) {
    const array = bytes(source, 'source')
    const { name, hugePages } = optionsOfAllocate(options)
    return make('copyFrom', true, () => native.NativeRegion.copyFrom(array, name, hugePages))
  }

  static async from(source, options) {
    const given = optionsOfFill(options)
    const startTime = beginRegion()
    const owner = await fill(source, given)
    return madeRegion(new HostRegion(MAKE, owner, true), 'from', startTime)
  }

  static async load(path, options) {
    const given = loading.optionsOfLoad(path, options)
    const startTime = beginRegion()
    const owner = await loading.load(given)
    const region = new HostRegion(MAKE, owner, true)
    try {
      given.onProgress?.(region.#byteLength, region.#byteLength)
    } catch (error) {
      region.close()
      throw error
    }
    return madeRegion(region, 'load', startTime)
  }

  static open(path, options) {
    const text = check.path(path)
    const { byteOffset, byteLength, writable } = optionsOfOpen(options)
    return make('open', false, () =>
      native.NativeRegion.open(text, byteOffset, byteLength, writable)
    )
  }

  static fromFd(fd, options) {
    check.fileDescriptor(fd)
    const { byteOffset, byteLength } = optionsOfFd(options)
    return make('fromFd', false, () => native.NativeRegion.fromFd(fd, byteOffset, byteLength))
  }

  static async paged(options) {
    const given = optionsOfPaged(options)
    guardFaults()
    const startTime = beginRegion()
    const { owner, paging } = await openPaged(given)
    return madeRegion(new HostRegion(MAKE, owner, false, paging), 'paged', startTime)
  }

  static receive(token, options) {
    return receive('receive', names.toReceive(token, options))
  }

  static unshare(token) {
    const { pid, nonce } = readToken(token, REGION)
    return pid === process.pid && callNative(() => native.endShare(nonce))
  }

  static find(name, options) {
    return receive('find', names.toFind(name, options))
  }

  static watch(name, options) {
    return names.watch(name, options, owner => receive('find', () => owner))
  }

  static published(options) {
    return names.list(options)
  }

  get byteLength() {
    return this.#byteLength
  }

  get backing() {
    return this.#backing
  }

  get name() {
    return this.#name
  }

  get writable() {
    return this.#native.writable
  }

  get sealed() {
    return this.#native.sealed
  }

  get paging() {
    return this.#paging
  }

  get closed() {
    return this.#closed
  }

  get hugePages() {
    if (this.#closed) return { bytes: 0, reason: 'the region was closed' }
    const { bytes, reason } = callNative(() => this.#native.hugePages())
    return { bytes, reason: reason ?? null }
  }

  get holders() {
    const { views, buffers, bytes } = callNative(() => this.#native.held())
    return { views, buffers, byteLength: bytes }
  }

  get strayWrites() {
    return this.#viewFaults().strayWrites
  }

  get faults() {
    return this.#viewFaults().faults
  }

  get lastFault() {
    return this.#viewFaults().lastFault
  }

  checkFaults() {
    const { faults, lastFault } = this.#viewFaults()
    const count = faults - this.#acknowledgedFaults
    if (count > 0) throw faultedError(count, `views of region "${this.#name}"`, 'region', lastFault)
  }

  acknowledgeFaults() {
    const { faults } = this.#viewFaults()
    const count = faults - this.#acknowledgedFaults
    this.#acknowledgedFaults = faults
    return count
  }

  view(byteOffset = 0, byteLength = undefined) {
    this.#mustBeOpen()
    if (typeof byteOffset === 'object' && byteOffset !== null && byteLength === undefined) {
      const part = read.view(byteOffset, 'part', 'byteOffset')
      return this.view(part.byteOffset, part.byteLength)
    }
    check.wholeNumber(byteOffset, 'byteOffset', 0, this.#byteLength - 1, limitOfRegion, this)
    const rest = this.#byteLength - byteOffset
    const length =
      byteLength === undefined
        ? rest
        : check.wholeNumber(byteLength, 'byteLength', 1, rest, restOfRegion, this, byteOffset)
    mustFitBuffer(length, 'byteLength')
    guardFaults()
    roomOnStack()
    return this.#views.view(byteOffset, length)
  }

  bytes(options) {
    const given = read.bytes(options)
    this.#mustBeOpen()
    const { access = 'private' } = given
    const code = check.access(access, 'options.access')
    const { start, end } = partOf(this, given)
    mustFitBuffer(end - start, 'options.byteLength')
    guardFaults()
    roomOnStack()
    return this.#views.bytes(start, end - start, code)
  }

  write(source, byteOffset = 0) {
    return writing.write(this.#open(), source, byteOffset)
  }

  createWriteStream(options) {
    return writing.createWriteStream(this.#open(), options)
  }

  writableStream(options) {
    return writing.writableStream(this.#open(), options)
  }

  createReadStream(options) {
    return reading.createReadStream(this.#open(), options)
  }

  readableStream(options) {
    return reading.readableStream(this.#open(), options)
  }

  blob(options) {
    return reading.blob(this.#open(), part => this.bytes(part), options)
  }

  async wait(byteOffset, expected, options) {
    this.#mustBeOpen()
    return wait.waitAsync(this.#handle, this.#byteLength, byteOffset, expected, read.wait(options))
  }

  waitSync(byteOffset, expected, options) {
    this.#mustBeOpen()
    return wait.waitSync(
      this.#handle,
      this.#byteLength,
      byteOffset,
      expected,
      read.waitSync(options)
    )
  }

  notify(byteOffset, count = Infinity) {
    this.#mustBeOpen()
    return wait.notify(this.#handle, this.#byteLength, byteOffset, count)
  }

  split(count, options) {
    check.wholeNumber(count, 'count', 1, MOST_PARTS)
    const given = read.split(options)
    const part = partOf(this, given)
    const { align = native.hostPageSize() } = given
    return splitPart(part, count, check.wholeNumber(align, 'options.align', 1))
  }

  share(options) {
    this.#mustBeOpen()
    const { access, enforce } = read.share(options)
    const { isReadonly, isEnforced } = accessToShare(access, enforce, this.writable)
    roomOnStack()
    return makeToken(
      REGION,
      callNative(() => this.#native.share(isReadonly, isEnforced))
    )
  }

  publish(name, options) {
    this.#mustBeOpen()
    return names.publish(this, this.#handle, this.writable, name, options)
  }

  duplicateFd() {
    this.#mustBeOpen()
    return callNative(() => this.#native.duplicateFd())
  }

  seal() {
    this.#mustBeOpen()
    guardFaults()
    roomOnStack()
    callNative(() => this.#native.seal())
    this.#views.recount()
    return this
  }

  close(options = undefined) {
    const { views } = read.close(options)
    check.optional(views, check.oneOf, 'options.views', ['detach', 'keep'])
    if (this.#closed && views !== 'detach') return
    // All but the last step can be done again, should the stack end in the middle.
    roomOnStack()
    const startTime = beginRegion()
    names.closePublications(this)
    if (views !== 'keep') this.#views.release(views === 'detach')
    if (this.#closed) return
    if (this.#paging !== null) closePaging(this.#paging)
    callNative(() => this.#native.close())
    this.#views.close()
    this.#closed = true
    if (startTime !== UNHEARD) closedRegion(this, startTime)
  }

  [Symbol.dispose]() {
    this.close()
  }

  [inspect.custom](depth, options) {
    if (!isRegion(this)) return 'HostRegion {}'
    const { name, byteLength, backing, writable, sealed, closed, holders } = this
    const shown = { name, byteLength, backing, writable, sealed, closed, holders }
    return `HostRegion ${inspect(shown, options)}`
  }

  #viewFaults() {
    return faultsFrom(
      callNative(() => this.#native.viewFaults()),
      this.#native,
      null
    )
  }

  #mustBeOpen() {
    mustBeOpen(this)
  }

  /** What the files beside this one use of it. */
  #open() {
    this.#mustBeOpen()
    return {
      native: this.#native,
      name: this.#name,
      byteLength: this.#byteLength,
      paging: this.#paging,
      mustBeOpen: () => this.#mustBeOpen(),
      recount: () => this.#views.recount()
    }
  }
}

/** Makes a region of what the native part gives. `counted`: as in the constructor. */
function make(how, counted, call, pagingOf = undefined) {
  const startTime = beginRegion()
  const owner = callNative(call)
  return madeRegion(new HostRegion(MAKE, owner, counted, pagingOf?.(owner)), how, startTime)
}

/** The same of one that another process may serve. */
const receive = (how, call) => make(how, false, call, owner => receivedPaging(owner, guardFaults))

function mustBeRegion(region, expected = 'a HostRegion') {
  if (!isRegion(region)) throw wrongThing('region', expected, region)
}

function mustBeOpen(region) {
  if (!isClosed(region)) return
  throw makeError(
    'ERR_HOSTMAP_REGION_CLOSED',
    `region "${nameOf(region)}" was closed; make a new one`
  )
}

/** The part of a region that options give: where it starts and ends. */
const partOf = (region, options) =>
  check.part(options, bytesOf(region), `region "${nameOf(region)}"`)

// Where limits come from, for messages: see `wholeNumber`.
const limitOfRegion = region => `, below the ${bytesOf(region)} bytes of region "${nameOf(region)}"`
const restOfRegion = (region, byteOffset) =>
  `, what region "${nameOf(region)}" has from byteOffset ${byteOffset} on`

module.exports = {
  HostRegion,
  isRegion,
  bytesOf,
  isClosed,
  isFile,
  isHuge,
  nameOf,
  handleOf,
  nativeOf,
  mustBeRegion,
  mustBeOpen,
  partOf,
  limitOfRegion,
  restOfRegion
}
