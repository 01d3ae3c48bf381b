'use strict'

// AdoptedBuffer: the public object of a buffer whose bytes are in a memory. It has only an entry;
// adopt.js makes it.

const { inspect } = require('node:util')
const { makeError } = require('../support/errors.js')
const { pending, tell } = require('../observe/events.js')
const { keepHere } = require('../region/share.js')
const { unmap } = require('./entries.js')
const { releaseBlock } = require('./entry.js')
const { release } = require('./release.js')

// Lets this file alone make them.
const MAKE = Symbol('make')

class AdoptedBuffer {
  #entry

  constructor(make, entry) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'AdoptedBuffer has no public constructor: use GuardedMemory.adopt'
      )
    }
    keepHere(this)
    this.#entry = entry
  }

  get address() {
    const { start, request } = this.#entry
    return start + request.adopted.skew
  }

  get pointer() {
    const { address } = this
    return this.#entry.linear.address === 'i64' ? BigInt(address) : address
  }

  get byteLength() {
    return this.#entry.request.byteLength
  }

  get copiedBytes() {
    return this.#entry.request.adopted.copiedBytes
  }

  get whyCopied() {
    return this.#entry.request.adopted.why
  }

  get memory() {
    return this.#entry.linear.face
  }

  get unmapped() {
    return this.#entry.ended
  }

  release() {
    const entry = this.#entry
    try {
      return release(entry)
    } finally {
      if (pending.length > 0) tell()
    }
  }

  unmap() {
    const entry = this.#entry
    if (!entry.ended) {
      unmap(entry)
      const { adopted } = entry.request
      const { held } = adopted
      adopted.held = null
      held?.drop()
    }
    try {
      releaseBlock(entry)
    } finally {
      if (pending.length > 0) tell()
    }
  }

  [Symbol.dispose]() {
    this.unmap()
  }

  [inspect.custom](depth, options) {
    if (!(#entry in this)) return 'AdoptedBuffer {}'
    const { pointer, byteLength, copiedBytes, unmapped } = this
    return `AdoptedBuffer ${inspect({ pointer, byteLength, copiedBytes, unmapped }, options)}`
  }
}

const makeAdopted = entry => new AdoptedBuffer(MAKE, entry)

module.exports = { AdoptedBuffer, makeAdopted }
