'use strict'

// Window: the public object of a range of a memory that shows one part of a region after another.
// It has only an entry; open.js makes it, slide.js moves it.

const { inspect } = require('node:util')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError } = require('../support/errors.js')
const { wrongType } = require('../support/wrong.js')
const { pending, tell } = require('../observe/events.js')
const { mustBeOpen, mustBeRegion, nameOf } = require('../region/host-region.js')
const { keepHere } = require('../region/share.js')
const { unmap } = require('../memory/entries.js')
const {
  pointerOf,
  faultsOf,
  checkFaultsOf,
  acknowledgeFaultsOf,
  releaseBlock
} = require('../memory/entry.js')
const { Chunks } = require('./chunks.js')
const { planFor } = require('./plan.js')
const { slideTo, slideToNothing, mustBeMapped } = require('./slide.js')
const { openSource } = require('./source.js')

// Lets this file alone make windows.
const MAKE = Symbol('make')

class Window {
  #entry

  constructor(make, entry) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'Window has no public constructor: use GuardedMemory.window'
      )
    }
    keepHere(this)
    this.#entry = entry
  }

  get address() {
    return this.#entry.start
  }

  get pointer() {
    return pointerOf(this.#entry)
  }

  get byteLength() {
    return this.#entry.request.byteLength
  }

  get access() {
    return this.#entry.request.access
  }

  get rest() {
    return this.#entry.request.trap ? 'trap' : 'zeros'
  }

  get region() {
    return this.#entry.window.region
  }

  get byteOffset() {
    return this.#entry.window.byteOffset
  }

  get shownBytes() {
    return this.#entry.window.shownBytes
  }

  get memory() {
    return this.#entry.linear.face
  }

  get unmapped() {
    return this.#entry.ended
  }

  get strayWrites() {
    return faultsOf(this.#entry).strayWrites
  }

  get faults() {
    return faultsOf(this.#entry).faults
  }

  get lastFault() {
    return faultsOf(this.#entry).lastFault
  }

  get strict() {
    return this.#entry.request.strict === true
  }

  checkFaults() {
    checkFaultsOf(this.#entry)
  }

  acknowledgeFaults() {
    return acknowledgeFaultsOf(this.#entry)
  }

  slide(region, byteOffset = 0, options = undefined) {
    const shown = this.#slide(region, byteOffset, options)
    if (pending.length > 0) tell()
    return shown
  }

  source(region, options) {
    const plan = planFor(this.#entry, region, read.source(options))
    return openSource(this.#entry, region, plan)
  }

  chunks(region, options) {
    const given = read.chunks(options)
    check.optional(given.signal, check.abortSignal, 'options.signal')
    check.optional(given.onProgress, check.callback, 'options.onProgress')
    const plan = planFor(this.#entry, region, given)
    return new Chunks(this.#entry, region, plan, given)
  }

  unmap() {
    if (!this.#entry.ended) unmap(this.#entry)
    this.#entry.window.stream?.end()
    try {
      releaseBlock(this.#entry)
    } finally {
      if (pending.length > 0) tell()
    }
  }

  [Symbol.dispose]() {
    this.unmap()
  }

  [inspect.custom](depth, options) {
    if (!(#entry in this)) return 'Window {}'
    const { pointer, byteLength, access, region, byteOffset, shownBytes, unmapped } = this
    const shown = { region: region === null ? null : nameOf(region), byteOffset, shownBytes }
    return `Window ${inspect({ pointer, byteLength, access, ...shown, unmapped }, options)}`
  }

  #slide(region, byteOffset, options) {
    const entry = this.#entry
    mustBeMapped(entry)
    if (region === null) return slideToNothing(entry)
    mustBeRegion(region, 'a HostRegion or null')
    mustBeOpen(region)
    if (typeof byteOffset === 'object' && byteOffset !== null) {
      if (options !== undefined)
        throw wrongType('byteOffset', 'a number where options follow', byteOffset)
      const {
        byteOffset: start = 0,
        byteLength,
        access
      } = read.slide(byteOffset, 'options', 'byteOffset')
      return slideTo(entry, region, start, byteLength, access, 'options.byteOffset')
    }
    const { byteLength, access } = options === undefined ? NO_OPTIONS : read.slideTo(options)
    return slideTo(entry, region, byteOffset, byteLength, access, 'byteOffset')
  }
}

const NO_OPTIONS = Object.freeze({ byteLength: undefined, access: undefined })

const makeWindow = entry => new Window(MAKE, entry)

module.exports = { Window, makeWindow }
