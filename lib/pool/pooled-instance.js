'use strict'

// PooledInstance: the public object of an instance that a pool has lent. After its release it knows
// nothing of the instance any more: others may use that now.

const { inspect } = require('node:util')
const { makeError } = require('../support/errors.js')
const { keepHere } = require('../region/share.js')
const { checkStrict } = require('../memory/faults.js')

// Lets this file alone make them.
const MAKE = Symbol('make')

let slotIn

class PooledInstance {
  // What its pool does when it is released or discarded: { giveBack, throwAway }.
  #pool
  // See slots.js. null once it is released.
  #slot

  static {
    slotIn = leased => leased.#slot
  }

  constructor(make, pool, slot) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'PooledInstance has no public constructor: use InstancePool.acquire'
      )
    }
    keepHere(this)
    this.#pool = pool
    this.#slot = slot
  }

  get instance() {
    return this.#current().instance
  }

  get exports() {
    return this.#current().exports
  }

  get memory() {
    return this.#current().memory
  }

  get released() {
    return this.#slot === null
  }

  release() {
    const slot = this.#slot
    if (slot === null) return
    this.#pool.giveBack(slot, this)
    this.#slot = null
  }

  discard() {
    const slot = this.#slot
    if (slot === null) return
    this.#pool.throwAway(slot, this)
    this.#slot = null
  }

  [Symbol.dispose]() {
    this.release()
  }

  #current() {
    if (this.#slot !== null) return this.#slot
    throw makeError(
      'ERR_HOSTMAP_INSTANCE_RELEASED',
      'the instance was released, and others may use it now; acquire one'
    )
  }

  [inspect.custom](depth, options) {
    if (!(#slot in this)) return 'PooledInstance {}'
    return `PooledInstance ${inspect({ released: this.released }, options)}`
  }
}

const lend = (pool, slot) => new PooledInstance(MAKE, pool, slot)

/** Throws where it is not released, and something strict has faults that nobody acknowledged. */
function checkLent(leased) {
  const slot = slotIn(leased)
  if (slot !== null) checkStrict(slot.linear)
}

module.exports = { PooledInstance, lend, checkLent }
