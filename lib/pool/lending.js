'use strict'

// Lending: what a pool has, who waits for it, and who gets which. instance-pool.js shows it, and
// module-slots.js and unit-slots.js make what is lent and bring it back. Counts change after all
// that may fail, and before any user code is called, so that a pool is in order wherever the stack
// ends.

const { performance } = require('node:perf_hooks')
const { setImmediate: immediate } = require('node:timers/promises')
const { abortError } = require('../support/errors.js')
const { roomOf, roomOnStack } = require('../support/stack.js')
const { AT, counts } = require('../observe/counts.js')
const { pending, tell } = require('../observe/events.js')
const { asFailure, isStackEnd, mayPass, poolClosed } = require('./errors.js')
const { follow } = require('./late.js')
const { outside } = require('./outside.js')
const { lend, releaseAfter, slotOf } = require('./pooled-instance.js')
const { UNHEARD, beginStep, noteStep } = require('./told.js')
const { RestoreTimes } = require('./times.js')
const { ACQUIRE, stopListening, waiterOf } = require('./waiter.js')

// For what is to be done where the stack has room again.
const SETTLED = Promise.resolve()

class Lending {
  // The pool, as listeners see it.
  #pool
  // Where its slots come from, and how they get back: ModuleSlots or UnitSlots.
  #slots
  #max
  // The last one that was released is handed out first: its pages are warm.
  #idle = []
  // In order of time. None waits while an instance is idle, or could be made, but during a pause,
  // or while a unit boots.
  #waiting = new Set()
  // Instances that were let go hold their address space until they are collected, which can't be
  // before this turn of the event loop ends: V8 keeps alive till then what was reached through a
  // WeakRef. So it is worth another attempt.
  #isPaused = false
  // One unit at a time: booting is this thread's work, so that two would both be late.
  #isBooting = false
  // Units that were released, and are idle or discarded soon.
  #settling = 0
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
    giveBack: (slot, leased, outcome) =>
      this.#slots.isLater ? this.#settle(slot, leased, outcome) : this.#giveBack(slot, leased),
    throwAway: (slot, leased) => this.#throwAway(slot, leased)
  }

  constructor(pool, slots, max) {
    this.#pool = pool
    this.#slots = slots
    this.#max = max
  }

  async fill(size) {
    const first = await this.#slots.first()
    if (first !== undefined) {
      const startTime = beginStep()
      this.#size += 1
      this.#idle.push(first)
      this.#noteMade(startTime)
    }
    const make = () => (this.#slots.isLater ? outside(() => this.#boot()) : this.#make())
    while (this.#size < size) this.#idle.push(await make())
    if (pending.length > 0) tell()
  }

  get snapshot() {
    return this.#slots.snapshot
  }

  get closed() {
    return this.#closed
  }

  /** Whether it lends units of a factory. */
  get isOfFactory() {
    return this.#slots.isLater
  }

  /** A promise of what is lent. `signal`, if there is one, ends the wait. */
  acquire(signal) {
    if (signal?.aborted) throw abortError(signal, ACQUIRE)
    if (this.#closed) throw poolClosed()
    return this.#slots.isLater ? this.#leaseUnit(signal) : this.#leaseOrWait(signal)
  }

  /** Throws where what is lent should not be used any more. */
  checkLent(slot) {
    this.#slots.checkLent(slot)
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
    roomOnStack(ROOM_TO_END)
    this.#closed = true
    const idle = this.#idle
    this.#size -= idle.length
    this.#idle = []
    for (const waiter of this.#waiting) this.#refuse(waiter, poolClosed())
    for (const slot of idle) this.#letGo(slot, false)
    this.#slots.close()
  }

  #leaseOrWait(signal) {
    const isFirst = this.#waiting.size === 0
    if (!isFirst || this.#idle.length === 0) return this.#wait(signal)
    const leased = Promise.resolve(this.#lease(UNHEARD))
    if (pending.length > 0) tell()
    return leased
  }

  /** The same of a unit, in which the request begins. */
  async #leaseUnit(signal) {
    this.#slots.checkCaller()
    roomOnStack()
    const leased = await this.#leaseOrWait(signal)
    try {
      await this.#slots.begin(slotOf(leased))
    } catch (error) {
      await releaseAfter(leased)
      throw error
    }
    return leased
  }

  // Of an idle one. Where the stack ends in here nothing was counted, and no instance is lost.
  // `since`: when its user began to wait, if somebody listened then.
  #lease(since) {
    const startTime = beginStep()
    const slot = this.#idle[this.#idle.length - 1]
    const leased = lend(this.#owner, slot)
    this.#idle.length -= 1
    slot.leased = leased
    this.#busy += 1
    this.#acquired += 1
    counts[ACQUIRED] += 1
    if (startTime !== UNHEARD)
      noteStep(this.#pool, 'acquire', since === UNHEARD ? startTime : since)
    return leased
  }

  #wait(signal) {
    return new Promise((resolve, reject) => {
      const waiter = waiterOf(resolve, reject, signal, it => this.#waiting.delete(it))
      // By a signal that called back at once.
      if (waiter.isOver) return
      this.#waiting.add(waiter)
      try {
        this.#serve()
      } catch (error) {
        this.#waiting.delete(waiter)
        stopListening(waiter)
        throw error
      }
      if (this.#waiting.has(waiter)) counts[WAITED] += 1
      if (pending.length > 0) tell()
    })
  }

  #refuse(waiter, error) {
    this.#waiting.delete(waiter)
    waiter.reject(error)
    stopListening(waiter)
  }

  // Gives those who wait what is idle, in the order in which they came, and makes more if there may
  // be more. It throws at the end of the stack alone; then all is in order, and it is to be called
  // again.
  #serve(isNewTurn = false) {
    while (this.#waiting.size > 0) {
      if (this.#idle.length > 0) {
        const [waiter] = this.#waiting
        const leased = this.#lease(waiter.since)
        this.#waiting.delete(waiter)
        waiter.resolve(leased)
        stopListening(waiter)
        continue
      }
      if (this.#isPaused || this.#size >= this.#max) return
      if (this.#slots.isLater) {
        if (!this.#isBooting && this.#settling < this.#waiting.size) this.#bootLater(isNewTurn)
        return
      }
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
      this.#refuse(waiter, error)
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
    // Nothing is to be restored, and it may run.
    if (this.#closed) {
      this.#take(slot, { isRunning: true })
      return
    }
    // Where the stack ends in what is called from here on nothing has changed, and the release can
    // be repeated.
    const started = performance.now()
    let failure
    try {
      this.#slots.restore(slot)
    } catch (error) {
      if (isStackEnd(error)) throw error
      failure = error
    }
    const milliseconds = failure === undefined ? performance.now() - started : undefined
    this.#serveSoon()
    this.#take(slot, { milliseconds, failure, isRunning: false })
  }

  // The end of a request in a unit; gives a promise where something has to be waited for. The unit
  // counts as busy till then.
  #settle(slot, leased, outcome) {
    if (slot.leased !== leased) return undefined
    // Where the stack ends in here nothing has changed, and the release can be repeated.
    roomOnStack()
    this.#serveSoon()
    const later = hasRoom() ? undefined : SETTLED.then(() => this.#settleNow(slot, outcome))
    slot.leased = null
    return later ?? this.#settleNow(slot, outcome)
  }

  #settleNow(slot, outcome) {
    const settled = this.#slots.settle(slot, outcome, () => this.#closed)
    if (settled.then === undefined) {
      this.#take(slot, settled)
      return undefined
    }
    this.#settling += 1
    const noLonger = () => {
      this.#settling -= 1
      this.#serveOrTell()
    }
    return follow(settled, noLonger, (it, isLate) => {
      if (!isLate) this.#settling -= 1
      this.#take(slot, it)
    })
  }

  // A slot that was released. Where the stack ends in here nothing has changed, or all.
  #take(slot, { milliseconds, failure, isRunning }) {
    const isKept = failure === undefined && !this.#closed
    const endTime = beginStep()
    if (milliseconds !== undefined) this.#times.add(milliseconds)
    // Nothing is called until it is done.
    slot.leased = null
    this.#busy -= 1
    if (isKept) this.#idle[this.#idle.length] = slot
    else this.#size -= 1
    if (failure === undefined) counts[RELEASED] += 1
    else {
      this.#discarded += 1
      this.#lastFailure = failure
      counts[DISCARDED] += 1
    }
    if (endTime !== UNHEARD) {
      const action = failure === undefined ? 'release' : 'discard'
      noteStep(this.#pool, action, endTime - (milliseconds ?? 0), failure)
    }
    this.#goOn(slot, isKept, isRunning)
  }

  // After a release or a discard.
  #goOn(slot, isKept, isRunning) {
    try {
      if (!isKept) this.#letGo(slot, isRunning)
      this.#serve()
      if (pending.length > 0) tell()
    } catch {
      // Then it is done soon.
    }
  }

  #throwAway(slot, leased) {
    if (slot.leased !== leased) return
    if (this.#slots.isLater) roomOnStack(ROOM_TO_END)
    this.#serveSoon()
    const startTime = beginStep()
    slot.leased = null
    this.#busy -= 1
    this.#size -= 1
    this.#discarded += 1
    counts[DISCARDED] += 1
    if (startTime !== UNHEARD) noteStep(this.#pool, 'discard', startTime)
    this.#goOn(slot, false, true)
  }

  #letGo(slot, isRunning) {
    this.#slots.letGo(slot, isRunning, error => {
      this.#lastFailure = asFailure(error)
    })
  }

  // To be called before anything changes: the stack may end in this, too.
  #serveSoon() {
    if (this.#waiting.size > 0) SETTLED.then(() => this.#serveOrTell())
  }

  // Where nobody is there to call `#serve` again.
  #serveOrTell(isNewTurn) {
    try {
      this.#serve(isNewTurn)
      if (pending.length > 0) tell()
    } catch (error) {
      this.#waiting.forEach(waiter => this.#refuse(waiter, error))
    }
  }

  /**
   * Another instance in the pool's state. It counts from now on, since imports and bind may ask the
   * pool for one, too.
   */
  #make() {
    const startTime = beginStep()
    this.#size += 1
    let slot
    try {
      slot = this.#slots.make()
      if (this.#closed) throw poolClosed()
    } catch (error) {
      this.#size -= 1
      throw error
    }
    this.#noteMade(startTime)
    return slot
  }

  /** The same of a unit. */
  async #boot() {
    const startTime = beginStep()
    this.#size += 1
    let slot
    try {
      slot = await this.#slots.make()
    } catch (error) {
      this.#size -= 1
      throw error
    }
    this.#noteMade(startTime)
    if (!this.#closed) return slot
    this.#size -= 1
    this.#letGo(slot, false)
    throw poolClosed()
  }

  #noteMade(startTime) {
    this.#created += 1
    counts[INSTANCES_MADE] += 1
    if (startTime !== UNHEARD) noteStep(this.#pool, 'make', startTime)
  }

  // Where the stack ends in here nothing has changed.
  #bootLater(isNewTurn) {
    outside(() => SETTLED.then(() => this.#bootForWaiting(isNewTurn)))
    this.#isBooting = true
  }

  async #bootForWaiting(isNewTurn) {
    try {
      // They may have got what was released meanwhile.
      if (this.#waiting.size > 0) this.#idle.push(await this.#boot())
    } catch (error) {
      if (this.#waiting.size > 0) this.#tell(error, isNewTurn)
      else if (!this.#closed) this.#lastFailure = asFailure(error)
    }
    this.#isBooting = false
    this.#serveOrTell()
  }
}

/** Whether the stack has room for a release, and for hooks that are called in it. */
function hasRoom() {
  try {
    roomOnStack(ROOM_TO_END)
    return true
  } catch {
    return false
  }
}

// More than what a request asks for when it ends, which is in the middle of a release.
const ROOM_TO_END = roomOf(48 * 1024)

const { ACQUIRED, WAITED, RELEASED, DISCARDED, INSTANCES_MADE } = AT

module.exports = { Lending }
