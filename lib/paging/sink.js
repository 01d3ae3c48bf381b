'use strict'

// Bytes that come in pieces of any length become chunks.

const { Uint8Array } = require('../platform/intrinsics.js')

class Sink {
  #chunkBytes
  #left
  #done
  #buffers
  #buffer
  #filled = 0

  /**
   * `byteLength` bytes in all, from the start of a chunk on. `done` gets each chunk when it is
   * whole, and may use it until it returns. `buffers`: spare ones, of `chunkBytes`.
   */
  constructor({ chunkBytes, byteLength, buffers, done }) {
    this.#chunkBytes = chunkBytes
    this.#left = byteLength
    this.#buffers = buffers
    this.#done = done
  }

  /** How many bytes are still missing, the begun chunk's included. */
  get left() {
    return this.#left - this.#filled
  }

  /** Where the rest of the chunk that is due goes; `add` says how much is there. */
  get space() {
    const whole = Math.min(this.#chunkBytes, this.#left)
    this.#buffer ??= this.#buffers.take()
    return this.#buffer.subarray(this.#filled, whole)
  }

  add(count) {
    this.#filled += count
    const whole = Math.min(this.#chunkBytes, this.#left)
    if (this.#filled < whole) return
    const buffer = this.#buffer
    this.#buffer = undefined
    this.#filled = 0
    this.#left -= whole
    this.#done(buffer.subarray(0, whole))
    this.#buffers.give(buffer)
  }

  /** At most `left` bytes. */
  write(bytes) {
    for (let at = 0; at < bytes.length;) {
      const { space } = this
      const count = Math.min(space.length, bytes.length - at)
      space.set(bytes.subarray(at, at + count))
      at += count
      this.add(count)
    }
  }

  /** What has come of the begun chunk does not count: it is fetched anew. */
  restart() {
    this.#filled = 0
  }

  /** The begun chunk's bytes go where a reader who has kept its space can't write any more. */
  seize() {
    const { buffer } = this.#buffer
    this.#buffer = new Uint8Array(
      buffer.transfer?.() ?? structuredClone(buffer, { transfer: [buffer] })
    )
  }

  /** The buffer of a reader that may still write to it is never used again. */
  abandon() {
    this.#buffer = undefined
    this.#filled = 0
  }
}

/** Buffers that are used again, so that no fetch waits for new pages. */
class Buffers {
  #byteLength
  #most
  #spare = []

  constructor(byteLength, most) {
    this.#byteLength = byteLength
    this.#most = most
  }

  take() {
    return this.#spare.pop() ?? new Uint8Array(this.#byteLength)
  }

  give(buffer) {
    // Its reader may have transferred it.
    if (buffer.byteLength === this.#byteLength && this.#spare.length < this.#most) {
      this.#spare.push(buffer)
    }
  }
}

module.exports = { Sink, Buffers }
