'use strict'

// PooledInstance: the public object of an instance, or of a factory's unit, that a pool has lent.
// After its release it knows nothing of that any more: others may use it now.

const { inspect } = require('node:util')
const check = require('../support/arguments.js')
const { makeError } = require('../support/errors.js')
const { keepHere } = require('../region/share.js')

// Lets this file alone make them.
const MAKE = Symbol('make')

let slotIn
let release

class PooledInstance {
  // What its pool does when it is released or discarded: { giveBack, throwAway }.
  #pool
  // See slots.js. null once it is released.
  #slot
  // A promise while the pool waits for something before the slot is restored.
  #settled = undefined

  static {
    slotIn = leased => leased.#slot
    release = (leased, outcome) => {
      const slot = leased.#slot
      if (slot === null) return leased.#settled
      leased.#settled = leased.#pool.giveBack(slot, leased, outcome)
      leased.#slot = null
      return leased.#settled
    }
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

  get value() {
    return this.#current().value
  }

  get instance() {
    return this.#current().instance
  }

  get instances() {
    return this.#current().instances()
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

  run(fn) {
    check.callback(fn, 'fn')
    return inRequest(this.#current(), this, fn)
  }

  release() {
    release(this)
  }

  discard() {
    const slot = this.#slot
    if (slot === null) return
    this.#pool.throwAway(slot, this)
    this.#slot = null
  }

  [Symbol.dispose]() {
    release(this)
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

/** Calls a function with what is lent, so that what it begins counts as the request's. */
const inRequest = ({ request }, leased, fn) =>
  request === undefined ? fn(leased) : request.run(() => fn(leased))

/** The slot that is lent; null once it was released. */
const slotOf = leased => slotIn(leased)

/**
 * Releases it, and gives a promise where that takes its time.
 *
 * @param outcome `{ error }` where a function that had it has thrown
 */
const releaseAfter = (leased, outcome) => release(leased, outcome)

module.exports = { PooledInstance, lend, inRequest, slotOf, releaseAfter }
