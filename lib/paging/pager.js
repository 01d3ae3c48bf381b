'use strict'

// The native part of a region that is paged in, as its worker uses it. The region may be closed at
// any moment: then nothing is done, and the end of the socket is what ends the worker.

const native = require('../platform/binding.js')
const { fromNative } = require('../support/errors.js')

// As src/paging numbers the states of chunks.
const PRESENT = 2

class Pager {
  #id

  constructor(id) {
    this.#id = id
  }

  serve() {
    this.#call(() => native.pagerServe(this.#id))
  }

  isPresent(chunk) {
    return this.#call(() => native.pagerStates(this.#id, chunk, 1)[0] === PRESENT) ?? true
  }

  /** Whether it is there now. */
  provide(chunk, bytes) {
    return this.#call(() => native.pagerProvide(this.#id, chunk, bytes)) ?? false
  }

  fail(chunk) {
    this.#call(() => native.pagerFail(this.#id, chunk))
  }

  /** Whether it is gone: what is held, or was written to, is not. */
  evict(chunk) {
    return this.#call(() => native.pagerEvict(this.#id, chunk)) ?? false
  }

  /** Whether touches by libuv's pool fail at once, those that wait too. */
  refusePool(isRefused) {
    this.#call(() => native.pagerRefusePool(this.#id, isRefused))
  }

  /** Keeps chunks from being evicted. */
  pin(first, last) {
    this.#call(() => native.pagerPin(this.#id, first, last))
  }

  unpin(first, last) {
    this.#call(() => native.pagerUnpin(this.#id, first, last))
  }

  /** Receivers that nobody serves yet. */
  newcomers() {
    return this.#call(() => native.pagerNewcomers(this.#id)) ?? []
  }

  /** A receiver has ended. */
  dismiss(id) {
    this.#call(() => native.pagerDismiss(this.#id, id))
  }

  /** A receiver waits for a chunk. */
  told(chunk) {
    this.#call(() => native.pagerTold(this.#id, chunk))
  }

  /** Takes out what a receiver has made of a chunk that nobody provided. */
  sweep(chunk) {
    this.#call(() => native.pagerSweep(this.#id, chunk))
  }

  #call(call) {
    try {
      return call()
    } catch (thrown) {
      const error = fromNative(thrown)
      if (error.code === 'ERR_HOSTMAP_REGION_CLOSED') return undefined
      throw error
    }
  }
}

module.exports = { Pager, PRESENT }
