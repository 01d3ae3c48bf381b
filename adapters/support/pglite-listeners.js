'use strict'

// Who listens to the notifications of a PGlite instance. PGlite keeps that in private fields, so it
// is seen from outside: `listen`, `unlisten`, `onNotification` and `offNotification` of the one
// instance are replaced by functions that call them and take notes. PGlite and its extensions call
// them through the instance, too.

/** In the place of a transaction: Postgres's part of LISTEN and UNLISTEN is in the memory. */
const NO_SQL = { exec: async () => [{}] }

const watched = new WeakMap()

/** Follows the listeners of an instance from now on, for any number of checkpoints. */
class Listeners {
  #pg
  #listen
  #unlisten
  #on
  #off
  /** The functions that replace them. */
  #own
  /** Pairs that were added since the first checkpoint and not removed: `[channel, callback]`. */
  #pairs = new Pairs()
  #callbacks = new Set()
  /** What was added or removed: what is removed first was there before. */
  #seen = new Pairs()
  #seenCallbacks = new Set()
  #checkpoints = new Set()

  static of(pg) {
    if (!watched.has(pg)) watched.set(pg, new Listeners(pg))
    return watched.get(pg)
  }

  constructor(pg) {
    this.#pg = pg
    this.#listen = pg.listen
    this.#unlisten = pg.unlisten
    this.#on = pg.onNotification
    this.#off = pg.offNotification
    this.#own = this.#replacements()
    for (const [name, value] of Object.entries(this.#own)) {
      Object.defineProperty(pg, name, { value, writable: true, configurable: true })
    }
  }

  #replacements() {
    const listen = async (channel, callback, tx) => {
      // Before the call: PGlite adds the callback before Postgres answers.
      this.#added(nameOf(channel), callback)
      try {
        return await this.#listen.call(this.#pg, channel, callback, tx)
      } catch (error) {
        this.#pairs.delete(nameOf(channel), callback)
        throw error
      }
    }
    const unlisten = async (channel, callback, tx) => {
      if (callback !== undefined) this.#removed(nameOf(channel), callback)
      return await this.#unlisten.call(this.#pg, channel, callback, tx)
    }
    const onNotification = callback => {
      this.#callbacks.add(callback)
      this.#seenCallbacks.add(callback)
      this.#on.call(this.#pg, callback)
      return () => this.#pg.offNotification(callback)
    }
    const offNotification = callback => {
      this.#removedCallback(callback)
      this.#off.call(this.#pg, callback)
    }
    return { listen, unlisten, onNotification, offNotification }
  }

  /** Notes who listens now. */
  take() {
    const checkpoint = { pairs: this.#pairs.copy(), callbacks: new Set(this.#callbacks) }
    this.#checkpoints.add(checkpoint)
    return checkpoint
  }

  /** Forgets a checkpoint. After the last one the instance has its own functions again. */
  drop(checkpoint) {
    if (!this.#checkpoints.delete(checkpoint) || this.#checkpoints.size > 0) return
    for (const [name, value] of Object.entries(this.#own)) {
      if (this.#pg[name] === value) delete this.#pg[name]
    }
    watched.delete(this.#pg)
  }

  /** Makes those listen who did then, without a word to Postgres. */
  async restore({ pairs, callbacks }) {
    for (const callback of this.#callbacks) {
      if (!callbacks.has(callback)) this.#off.call(this.#pg, callback)
    }
    for (const callback of callbacks) {
      if (!this.#callbacks.has(callback)) this.#on.call(this.#pg, callback)
    }
    this.#callbacks = new Set(callbacks)
    for (const [channel, callback] of [...this.#pairs]) {
      if (pairs.has(channel, callback)) continue
      await this.#unlisten.call(this.#pg, quoted(channel), callback, NO_SQL)
      this.#pairs.delete(channel, callback)
    }
    for (const [channel, callback] of [...pairs]) {
      if (this.#pairs.has(channel, callback)) continue
      await this.#listen.call(this.#pg, quoted(channel), callback, NO_SQL)
      this.#pairs.add(channel, callback)
    }
  }

  #added(channel, callback) {
    this.#pairs.add(channel, callback)
    this.#seen.add(channel, callback)
  }

  #removed(channel, callback) {
    // (PGlite gives a name without its quotes to what `listen` returned, and finds nobody.)
    if (!this.#seen.hasCallback(callback)) {
      for (const { pairs } of this.#checkpoints) pairs.add(channel, callback)
      this.#seen.add(channel, callback)
    }
    this.#pairs.delete(channel, callback)
  }

  #removedCallback(callback) {
    if (!this.#seenCallbacks.has(callback)) {
      for (const { callbacks } of this.#checkpoints) callbacks.add(callback)
      this.#seenCallbacks.add(callback)
    }
    this.#callbacks.delete(callback)
  }
}

/** A set of `[channel, callback]`. */
class Pairs {
  #channels = new Map()

  add(channel, callback) {
    if (!this.#channels.has(channel)) this.#channels.set(channel, new Set())
    this.#channels.get(channel).add(callback)
  }

  delete(channel, callback) {
    this.#channels.get(channel)?.delete(callback)
  }

  has(channel, callback) {
    return this.#channels.get(channel)?.has(callback) === true
  }

  hasCallback(callback) {
    return [...this.#channels.values()].some(callbacks => callbacks.has(callback))
  }

  copy() {
    const copy = new Pairs()
    for (const [channel, callback] of this) copy.add(channel, callback)
    return copy
  }

  *[Symbol.iterator]() {
    for (const [channel, callbacks] of this.#channels) {
      for (const callback of callbacks) yield [channel, callback]
    }
  }
}

/** A channel's name as Postgres has it, which folds a name that is not in quotes. */
function nameOf(channel) {
  return /^".*"$/s.test(channel) ? channel.slice(1, -1) : channel.toLowerCase()
}

const quoted = channel => `"${channel}"`

module.exports = { Listeners }
