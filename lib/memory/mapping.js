'use strict'

// Mapping: the public object of a range of a region that is mapped into a memory. It has
// only an entry; map.js makes it.

const { inspect } = require('node:util')
const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError } = require('../support/errors.js')
const { pending, tell } = require('../observe/events.js')
const { runTask } = require('../platform/task.js')
const { isFile, nameOf } = require('../region/host-region.js')
const { keepHere } = require('../region/share.js')
const { unmap } = require('./entries.js')
const { moved } = require('./errors.js')
const { pointerTo } = require('./pointer.js')
const {
  pointerOf,
  faultsOf,
  checkFaultsOf,
  acknowledgeFaultsOf,
  releaseBlock
} = require('./entry.js')

// Lets this file alone make mappings.
const MAKE = Symbol('make')

class Mapping {
  #entry

  constructor(make, entry) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'Mapping has no public constructor: use GuardedMemory.map'
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

  get byteOffset() {
    return this.#entry.request.byteOffset
  }

  get access() {
    return this.#entry.request.access
  }

  get region() {
    return this.#entry.request.region
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

  async prefetch(options) {
    const given = read.prefetch(options)
    const { linear, table, start, id, ended, request } = this.#entry
    const { start: first, end } = check.part(given, request.byteLength, 'the mapping')
    const { signal } = given
    check.optional(signal, check.abortSignal, 'options.signal')
    if (request.strict) checkFaultsOf(this.#entry)
    const nothing = ended || first === end
    const array = nothing ? undefined : linear.current()
    if (!nothing && table.lost) throw moved('map again')
    const prefetch = task => {
      if (nothing) return
      const fromFile = isFile(request.region)
      return native.prefetch(task, table.handle, array, start, id, first, end, fromFile)
    }
    await runTask(prefetch, 'The prefetch', signal)
  }

  pointerOf(view) {
    return pointerTo(this.#entry, view)
  }

  unmap() {
    if (!this.#entry.ended) unmap(this.#entry)
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
    if (!(#entry in this)) return 'Mapping {}'
    const { pointer, byteLength, access, region, unmapped } = this
    return `Mapping ${inspect({ pointer, byteLength, access, region: nameOf(region), unmapped }, options)}`
  }
}

const makeMapping = entry => new Mapping(MAKE, entry)

module.exports = { Mapping, makeMapping }
