'use strict'

// InstancePool: instances of one module that go back to one state after each use. Here is who waits
// and who gets which instance. Counts change after all that may fail, and before any user code is
// called, so that a pool is in order wherever the stack ends.

const { inspect } = require('node:util')
const { performance } = require('node:perf_hooks')
const { setImmediate: immediate } = require('node:timers/promises')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError, abortError } = require('../support/errors.js')
const { keepHere } = require('../region/share.js')
const { noteFirstContents } = require('../instance/functions.js')
const { captureState, checkPortable } = require('../instance/state.js')
const { checkDigest, noteDigest } = require('../snapshot/digests.js')
const { Snapshot, insideOf } = require('../snapshot/snapshot.js')
const { isStackEnd, mayPass, poolClosed } = require('./errors.js')
const { InstanceMaker } = require('./instances.js')
const { poolOptions } = require('./options.js')
const { checkLent, lend } = require('./pooled-instance.js')
const { checkSize, letGo, noteSlot, restoreSlot } = require('./slots.js')
const { prepareModule } = require('./suitable.js')
const { RestoreTimes } = require('./times.js')

// Lets this file alone make pools.
const MAKE = Symbol('make')

// For what is to be done where the stack has room again.
const SETTLED = Promise.resolve()

// What the pool was made with was checked then, by the module.
const ACCEPTED = Object.freeze(['v128-globals', 'hidden-tables', 'dropped-segments', 'gc-objects'])
const RESTORE_TO = Object.freeze({ exclusive: true, accept: ACCEPTED })

class InstancePool {
  // Makes its instances: see instances.js.
  #maker
  // For slots.js: whether memories may stay larger, and whether they have mappings or windows.
  #slotRules = { keepsGrown: false, hasMappings: false }
  #max
  #snapshot
  #ownsSnapshot = true
  // Of the bytes that the pool was made of; null where they are not known.
  #digest = null
  // The last one that was released is handed out first: its pages are warm.
  #idle = []
  // In order of time. None waits while an instance is idle, or could be made, but during a pause.
  #waiting = new Set()
  // Instances that were let go hold their address space until they are collected, which can't be
  // before this turn of the event loop ends: V8 keeps alive till then what was reached through a
  // WeakRef. So it is worth another attempt.
  #isPaused = false
  #size = 0
  #busy = 0
  #closed = false

  #created = 0
  #discarded = 0
  #acquired = 0
  #times = new RestoreTimes()
  #lastFailure = null

  // What its instances call when they are released or discarded.
  #owner = {
    giveBack: (slot, leased) => this.#giveBack(slot, leased),
    throwAway: (slot, leased) => this.#throwAway(slot, leased)
  }

  constructor(make, maker, asked) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'InstancePool has no public constructor: use InstancePool.create'
      )
    }
    keepHere(this)
    this.#maker = maker
    this.#max = asked.max
    this.#slotRules.keepsGrown = asked.accept.includes('grown-memory')
  }

  static async create(module, options) {
    const asked = poolOptions(options)
    const prepared = await prepareModule(module, asked)
    const pool = new InstancePool(MAKE, new InstanceMaker(prepared, asked), asked)
    try {
      await pool.#fill(asked, prepared.bytes)
    } catch (error) {
      pool.close()
      throw error
    }
    return pool
  }

  async #fill({ init, snapshot, size, keepResidentBytes }, bytes) {
    if (snapshot !== undefined) {
      if (bytes !== undefined) checkDigest(insideOf(snapshot).moduleDigest, bytes, 'module')
      this.#snapshot = snapshot
      this.#ownsSnapshot = false
      this.#look(bytes)
    } else {
      this.#size += 1
      const first = this.#maker.make()
      const { found } = first
      noteFirstContents(found)
      if (init !== undefined) await init(first.instance, first.memory)
      this.#useSnapshot(first.instance, { keepResidentBytes, module: bytes })
      this.#look(bytes)
      noteDigest(first.instance, this.#digest)
      noteSlot(first, this.#slotRules)
      checkPortable(found, captureState(found))
      this.#created += 1
      this.#idle.push(first)
    }
    while (this.#size < size) this.#idle.push(this.#make())
  }

  #look(bytes) {
    const { kept, moduleDigest } = insideOf(this.#snapshot)
    this.#slotRules.hasMappings = kept.length > 0
    if (bytes !== undefined) this.#digest = moduleDigest
  }

  #useSnapshot(instance, options) {
    // Whatever can't be restored was accepted.
    this.#snapshot = Snapshot.of(instance, { ...options, exclusive: true, accept: ACCEPTED })
  }

  get snapshot() {
    return this.#snapshot
  }

  get closed() {
    return this.#closed
  }

  acquire(options) {
    try {
      const { signal } = read.acquire(options)
      if (signal !== undefined) {
        check.abortSignal(signal, 'options.signal')
        if (signal.aborted) throw abortError(signal, ACQUIRE)
      }
      if (this.#closed) throw poolClosed()
      const isFirst = this.#waiting.size === 0
      return isFirst && this.#idle.length > 0 ? Promise.resolve(this.#lease()) : this.#wait(signal)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  async run(fn, options) {
    check.callback(fn, 'fn')
    const leased = await this.acquire(options)
    try {
      const result = await fn(leased)
      checkLent(leased)
      return result
    } finally {
      leased.release()
    }
  }

  stats() {
    return {
      size: this.#size,
      idle: this.#idle.length,
      busy: this.#busy,
      waiting: this.#waiting.size,
      max: this.#max,
      created: this.#created,
      discarded: this.#discarded,
      acquired: this.#acquired,
      ...this.#times.asStats(),
      lastFailure: this.#lastFailure
    }
  }

  close() {
    if (this.#closed) return
    this.#closed = true
    this.#size -= this.#idle.length
    this.#idle = []
    this.#maker.forget()
    for (const waiter of this.#waiting) {
      this.#stopWaiting(waiter)
      waiter.reject(poolClosed())
    }
    if (this.#ownsSnapshot) this.#snapshot?.close()
  }

  [Symbol.dispose]() {
    this.close()
  }

  [inspect.custom](depth, options) {
    if (!(#idle in this)) return 'InstancePool {}'
    const { size, idle, busy, waiting, max } = this.stats()
    return `InstancePool ${inspect({ size, idle, busy, waiting, max, closed: this.#closed }, options)}`
  }

  // Of an idle one. Where the stack ends in here nothing was counted, and no instance is lost.
  #lease() {
    const slot = this.#idle[this.#idle.length - 1]
    const leased = lend(this.#owner, slot)
    this.#idle.length -= 1
    slot.leased = leased
    this.#busy += 1
    this.#acquired += 1
    return leased
  }

  #wait(signal) {
    return new Promise((resolve, reject) => {
      const waiter = { resolve, reject, signal, onAbort: undefined }
      if (signal !== undefined) {
        waiter.onAbort = () => {
          this.#stopWaiting(waiter)
          reject(abortError(signal, ACQUIRE))
        }
        signal.addEventListener('abort', waiter.onAbort, { __proto__: null, once: true })
      }
      this.#waiting.add(waiter)
      try {
        this.#serve()
      } catch (error) {
        this.#waiting.delete(waiter)
        throw error
      }
    })
  }

  #stopWaiting(waiter) {
    this.#waiting.delete(waiter)
    try {
      waiter.signal?.removeEventListener('abort', waiter.onAbort)
    } catch {
      // A signal of the user's own making: nobody waits any more in any case.
    }
  }

  // Gives those who wait what is idle, in the order in which they came, and makes more if there may
  // be more. It throws at the end of the stack alone; then all is in order, and it is to be called
  // again.
  #serve(isNewTurn = false) {
    while (this.#waiting.size > 0) {
      if (this.#idle.length > 0) {
        const [waiter] = this.#waiting
        const leased = this.#lease()
        this.#waiting.delete(waiter)
        waiter.resolve(leased)
        this.#stopWaiting(waiter)
        continue
      }
      if (this.#isPaused || this.#size >= this.#max) return
      let slot
      try {
        slot = this.#make()
      } catch (error) {
        this.#tell(error, isNewTurn)
        continue
      }
      this.#idle[this.#idle.length] = slot
    }
  }

  // Everybody who waits gets a new instance or the reason why there is none: nobody may be there to
  // wake them later.
  #tell(error, isNewTurn) {
    const [waiter] = this.#waiting
    if (waiter === undefined) return
    if (isNewTurn || !mayPass(error)) {
      waiter.reject(error)
      this.#stopWaiting(waiter)
      return
    }
    const nextTurn = SETTLED.then(() => immediate())
    nextTurn.then(() => {
      this.#isPaused = false
      this.#serveOrTell(true)
    })
    this.#isPaused = true
  }

  #giveBack(slot, leased) {
    // Imports and bind of the next instance may release this one again.
    if (slot.leased !== leased) return
    if (this.#closed) {
      slot.leased = null
      this.#busy -= 1
      this.#size -= 1
      return
    }
    // Where the stack ends in what is called from here on nothing has changed, and the release can
    // be repeated.
    const started = performance.now()
    let failure
    try {
      restoreSlot(slot, this.#snapshot, this.#slotRules)
    } catch (error) {
      if (isStackEnd(error)) throw error
      failure = error
    }
    const milliseconds = performance.now() - started
    this.#serveSoon()
    if (failure === undefined) this.#times.add(milliseconds)
    // Nothing is called until it is done.
    slot.leased = null
    this.#busy -= 1
    if (failure === undefined) {
      this.#idle[this.#idle.length] = slot
    } else {
      this.#size -= 1
      this.#discarded += 1
      this.#lastFailure = failure
    }
    try {
      if (failure !== undefined) letGo(slot)
      this.#serve()
    } catch {
      // Then it is done soon.
    }
  }

  #throwAway(slot, leased) {
    if (slot.leased !== leased) return
    this.#serveSoon()
    slot.leased = null
    this.#busy -= 1
    this.#size -= 1
    this.#discarded += 1
    try {
      this.#serve()
    } catch {
      // Then it is done soon.
    }
  }

  // To be called before anything changes: the stack may end in this, too.
  #serveSoon() {
    if (this.#waiting.size > 0) SETTLED.then(() => this.#serveOrTell())
  }

  // Where nobody is there to call `#serve` again.
  #serveOrTell(isNewTurn) {
    try {
      this.#serve(isNewTurn)
    } catch (error) {
      this.#waiting.forEach(waiter => {
        this.#stopWaiting(waiter)
        waiter.reject(error)
      })
    }
  }

  /**
   * Another instance in the pool's state. It counts from now on, since imports and bind may ask the
   * pool for one, too.
   */
  #make() {
    this.#size += 1
    let slot
    try {
      slot = this.#maker.make()
      if (!this.#slotRules.keepsGrown) checkSize(slot.linear, insideOf(this.#snapshot).byteLength)
      noteDigest(slot.instance, this.#digest)
      this.#snapshot.restoreTo(slot.instance, RESTORE_TO)
      noteSlot(slot, this.#slotRules)
      if (this.#closed) throw poolClosed()
    } catch (error) {
      this.#size -= 1
      throw error
    }
    this.#created += 1
    return slot
  }
}

const ACQUIRE = 'the wait for an instance'

module.exports = { InstancePool }
