'use strict'

// InstancePool: instances of one module, or units of one factory, that go back to one state after
// each use. Here is what the user sees and gives; lending.js says who waits and who gets which.

const { inspect } = require('node:util')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError } = require('../support/errors.js')
const { keepHere } = require('../region/share.js')
const { Lending } = require('./lending.js')
const { noteLiving } = require('./living.js')
const { ModuleSlots } = require('./module-slots.js')
const { factoryOptions, isFactory, poolOptions } = require('./options.js')
const { inRequest, releaseAfter, slotOf } = require('./pooled-instance.js')
const { UnitSlots } = require('./unit-slots.js')

// Lets this file alone make pools.
const MAKE = Symbol('make')

let lookAt

class InstancePool {
  #lending

  static {
    lookAt = pool => ({
      closed: pool.#lending.closed,
      snapshot: pool.#lending.snapshot,
      isOfFactory: pool.#lending.isOfFactory,
      stats: pool.#lending.stats()
    })
  }

  constructor(make, slots, max) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'InstancePool has no public constructor: use InstancePool.create'
      )
    }
    keepHere(this)
    this.#lending = new Lending(this, slots, max)
    noteLiving(this)
  }

  static async create(module, options) {
    const ofFactory = isFactory(module)
    const asked = ofFactory ? factoryOptions(module, options) : poolOptions(options)
    const slots = ofFactory ? new UnitSlots(asked) : await ModuleSlots.of(module, asked)
    const pool = new InstancePool(MAKE, slots, asked.max)
    try {
      await pool.#lending.fill(asked.size)
    } catch (error) {
      pool.close()
      throw error
    }
    return pool
  }

  get snapshot() {
    return this.#lending.snapshot
  }

  get closed() {
    return this.#lending.closed
  }

  acquire(options) {
    try {
      const { signal } = read.acquire(options)
      if (signal !== undefined) check.abortSignal(signal, 'options.signal')
      return this.#lending.acquire(signal)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  async run(fn, options) {
    check.callback(fn, 'fn')
    const leased = await this.acquire(options)
    let outcome
    try {
      const result = await inRequest(slotOf(leased), leased, fn)
      const slot = slotOf(leased)
      if (slot !== null) this.#lending.checkLent(slot)
      return result
    } catch (error) {
      outcome = { error }
      throw error
    } finally {
      const settled = releaseAfter(leased, outcome)
      if (settled !== undefined) await settled
    }
  }

  stats() {
    return this.#lending.stats()
  }

  close() {
    this.#lending.close()
  }

  [Symbol.dispose]() {
    this.close()
  }

  [inspect.custom](depth, options) {
    if (!(#lending in this)) return 'InstancePool {}'
    const { size, idle, busy, waiting, max } = this.stats()
    return `InstancePool ${inspect({ size, idle, busy, waiting, max, closed: this.#lending.closed }, options)}`
  }
}

/** What it has, whatever a script has made of its methods. */
const seenPool = pool => lookAt(pool)

module.exports = { InstancePool, seenPool }
