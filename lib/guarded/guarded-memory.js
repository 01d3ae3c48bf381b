'use strict'

// GuardedMemory: the public object of a WebAssembly.Memory that regions can be mapped into. What it
// does is in the rooms below: memory/ finds, grows and maps, window/ and snapshot/ are built on
// that. Each method hands its memory and arguments on, and nothing is decided here.

const { inspect } = require('node:util')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError } = require('../support/errors.js')
const { sizeOf } = require('../platform/v8.js')
const { pending, tell } = require('../observe/events.js')
const { keepHere } = require('../region/share.js')
const { hidden } = require('../memory/errors.js')
const { live, checkFaults, acknowledgeFaults } = require('../memory/faults.js')
const { findLinear } = require('../memory/find.js')
const { grow } = require('../memory/growth.js')
const { reserve } = require('../memory/reserve.js')
const { makeLinear } = require('../memory/make.js')
const { map } = require('../memory/map.js')
const { adopt } = require('../memory/adopt.js')
const { openWindow } = require('../window/open.js')
const { takeSnapshot, restoreSnapshot } = require('../snapshot/snapshot.js')
const { reset } = require('../snapshot/restore.js')
const { layoutOf } = require('./layout.js')
const { unmapAll } = require('./unmap-all.js')

// Lets this file alone make objects of memories that exist.
const MAKE = Symbol('make')

class GuardedMemory {
  #linear

  constructor(descriptor, make, existing) {
    keepHere(this)
    this.#linear = make === MAKE ? existing : makeLinear(descriptor)
    this.#linear.face = this
  }

  static from(memory, options) {
    const { address } = read.from(options)
    check.optional(address, check.oneOf, 'options.address', ['i32', 'i64'])
    const linear = findLinear(memory, address)
    if (address !== undefined && address !== linear.address) {
      throw makeError(
        'ERR_INVALID_ARG_VALUE',
        `options.address is '${address}', and this memory has the address type '${linear.address}'`
      )
    }
    return guardedOf(linear)
  }

  get memory() {
    const { memory } = this.#linear
    if (memory === null)
      throw hidden('it was made from a buffer, so there is no WebAssembly.Memory to give')
    return memory
  }

  get buffer() {
    return this.#linear.latestBuffer
  }

  get byteLength() {
    return this.#linear.byteLength
  }

  get address() {
    return this.#linear.address
  }

  get guarded() {
    return this.#linear.guarded
  }

  grow(wasmPages) {
    check.wholeNumberOrBigInt(wasmPages, 'wasmPages')
    try {
      return grow(this.#linear, Number(wasmPages))
    } finally {
      if (pending.length > 0) tell()
    }
  }

  reserve(byteLength, options) {
    try {
      reserve(this.#linear, byteLength, read.reserve(options))
    } finally {
      if (pending.length > 0) tell()
    }
  }

  map(region, options) {
    try {
      return map(this.#linear, region, options)
    } finally {
      // It may have grown, and failed then.
      if (pending.length > 0) tell()
    }
  }

  adopt(buffer, options) {
    try {
      return adopt(this.#linear, buffer, options)
    } finally {
      if (pending.length > 0) tell()
    }
  }

  window(options) {
    try {
      return openWindow(this.#linear, options)
    } finally {
      if (pending.length > 0) tell()
    }
  }

  get mappings() {
    return [...live(this.#linear).values()]
      .sort((a, b) => a.start - b.start)
      .map(entry => entry.object)
  }

  checkFaults() {
    checkFaults(this.#linear)
  }

  acknowledgeFaults() {
    return acknowledgeFaults(this.#linear)
  }

  snapshot(options) {
    try {
      return takeSnapshot(this.#linear, read.snapshot(options))
    } finally {
      if (pending.length > 0) tell()
    }
  }

  restore(snapshot, options) {
    try {
      restoreSnapshot(this.#linear, snapshot, read.restore(options))
    } finally {
      if (pending.length > 0) tell()
    }
  }

  reset(options) {
    reset(this.#linear, options)
    if (pending.length > 0) tell()
  }

  layout() {
    return layoutOf(this.#linear)
  }

  [Symbol.dispose]() {
    unmapAll(this.#linear)
  }

  [inspect.custom](depth, options) {
    if (!(#linear in this)) return 'GuardedMemory {}'
    const linear = this.#linear
    const { address, guarded } = linear
    // Not by the caller's function: looking at an object runs nothing.
    const byteLength = sizeOf(linear.knownBuffer)
    const mappings = live(linear).size
    return `GuardedMemory ${inspect({ byteLength, address, guarded, mappings }, options)}`
  }
}

/** The one GuardedMemory of a memory. */
const guardedOf = linear => linear.face ?? new GuardedMemory(undefined, MAKE, linear)

module.exports = { GuardedMemory, guardedOf }
