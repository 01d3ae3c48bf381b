'use strict'

// A loop over the chunks of a region, as JavaScript has it: `for (const chunk of
// window.chunks(...))`, or `for await`, which lets timers and sockets have their turn. Each loop
// has a source of its own.

// Taken now: under fake timers the global one never calls.
const { setImmediate } = require('node:timers')
const { abortError } = require('../support/errors.js')
const { Uint8Array } = require('../platform/intrinsics.js')
const { nameOf } = require('../region/host-region.js')
const { openSource, endSource } = require('./source.js')

class Chunks {
  #region
  #entry
  #plan
  #name
  #signal
  #onProgress

  constructor(entry, region, plan, { signal, onProgress }) {
    this.#entry = entry
    this.#region = region
    this.#name = nameOf(region)
    this.#plan = plan
    this.#signal = signal
    this.#onProgress = onProgress
  }

  *[Symbol.iterator]() {
    const source = openSource(this.#entry, this.#region, this.#plan, false)
    const { start, end } = this.#plan
    try {
      for (;;) {
        if (this.#signal?.aborted) throw abortError(this.#signal, `Reading region "${this.#name}"`)
        const byteLength = Number(source.next())
        if (byteLength === 0) return
        const { pointer, start: byteOffset } = source
        const address = Number(pointer)
        const bytes = new Uint8Array(this.#entry.linear.freshBuffer, address, byteLength)
        yield { address, pointer, byteOffset, byteLength, bytes }
        this.#onProgress?.(source.position - start, end - start)
      }
    } finally {
      endSource(source)
    }
  }

  async *[Symbol.asyncIterator]() {
    for (const chunk of this) {
      yield chunk
      // Everybody else's turn: timers, sockets, and what aborts this.
      await new Promise(resolve => setImmediate(resolve))
    }
  }
}

module.exports = { Chunks }
