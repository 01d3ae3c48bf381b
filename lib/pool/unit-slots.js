'use strict'

// UnitSlots: where a pool of a factory gets its slots from, and how they get back. Each is a unit
// of its own, with a checkpoint of its own: JavaScript can't be copied. module-slots.js is the same
// for a pool of a module; lending.js knows neither.

const { isWithin } = require('../capture/context.js')
const { checkStrict } = require('../memory/faults.js')
const { boot } = require('./boot.js')
const { callsItself, takenTwice } = require('./errors.js')
const { letMemoryGo } = require('./memories.js')
const { outside } = require('./outside.js')
const { beginRequest } = require('../request/request.js')
const { linearsIn, noteUnit, settle } = require('./settle.js')

// For what is to be done where the stack has room again.
const SETTLED = Promise.resolve()

/**
 * @typedef UnitSlot a Slot (see slots.js) of a unit
 * @property shown the unit as hooks see it: see boot.js
 * @property inside what is known of its instances: see lib/capture/unit.js
 * @property checkpoint the state to which it goes back
 * @property byteLength how large its memories are then, together
 * @property entries of each memory that has some then: its mappings and windows, by their entries
 * @property hasBegun whether `before` was called, and has not failed
 */

class UnitSlots {
  /** Slots take their time: `make` and `settle` give promises. */
  isLater = true
  snapshot = null
  #asked
  // Memories, globals and tables of all units: two with the same one would see each other.
  #taken = new WeakSet()

  constructor(asked) {
    this.#asked = asked
  }

  /** There is no state that could be taken once for all. */
  first() {
    return undefined
  }

  async make() {
    const { shown, checkpoint, inside } = await boot(this, this.#asked, it => this.#take(it))
    const { value, instance, exports, memory } = shown
    const slot = {
      value,
      instance,
      instances: () => shown.instances,
      exports,
      memory,
      request: undefined,
      leased: null,
      shown,
      inside,
      checkpoint,
      byteLength: 0,
      entries: new WeakMap(),
      hasBegun: false
    }
    noteUnit(slot)
    return slot
  }

  /** Throws where make or init would wait for a unit of the pool that waits for them. */
  checkCaller() {
    if (isWithin(this)) throw callsItself()
  }

  /** Of a slot that was lent. Rejects with what `before` throws. */
  async begin(slot) {
    const { before } = this.#asked
    slot.request = beginRequest(slot.inside)
    if (before !== undefined) await slot.request.run(() => before(slot.shown))
    slot.hasBegun = true
  }

  /**
   * Ends what `begin` began: see settle.js.
   *
   * @param outcome `{ error }` where the request has thrown
   * @param isClosed whether the unit need not go back: the pool was closed
   */
  settle(slot, outcome, isClosed) {
    const { after, pending, maxMemoryBytes } = this.#asked
    const rules = { pending, maxMemoryBytes, isClosed }
    const { shown, hasBegun } = slot
    slot.hasBegun = false
    const hook =
      hasBegun && after !== undefined
        ? () => (outcome === undefined ? after(shown) : after(shown, outcome.error))
        : undefined
    // The promises of this are none that the request has left.
    return outside(() => settle(slot, rules, hook))
  }

  checkLent(slot) {
    linearsIn(slot).forEach(checkStrict)
  }

  /**
   * One that may still be running keeps its memory.
   *
   * @param tell is called with what `destroy` throws
   */
  letGo(slot, isRunning, tell) {
    slot.request?.end()
    slot.request = undefined
    // Later: what calls this may be called by the unit.
    outside(() => SETTLED.then(() => this.#destroy(slot, isRunning, tell)))
  }

  close() {}

  async #destroy(slot, isRunning, tell) {
    try {
      const { destroy } = this.#asked
      await destroy?.(slot.shown)
    } catch (error) {
      tell(error)
    }
    slot.checkpoint.close()
    if (isRunning) return
    // Finalizers would work on zeros.
    slot.inside.timeline.leave()
    linearsIn(slot).forEach(letMemoryGo)
  }

  #take(records) {
    const things = new Map()
    for (const { found } of records) {
      if (found.memory !== undefined) things.set(found.memory, 'memory')
      for (const [, global] of found.globals) things.set(global, 'global')
      for (const [, table] of found.tables) things.set(table, 'table')
    }
    for (const [thing, kind] of things) if (this.#taken.has(thing)) throw takenTwice(kind)
    for (const thing of things.keys()) this.#taken.add(thing)
  }
}

module.exports = { UnitSlots }
