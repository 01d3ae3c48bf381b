'use strict'

// What the worker counts, where the region's thread reads it without asking: that thread may stand
// still in a touch, and a message for each event would pile up.

const { Uint8Array } = require('../platform/intrinsics.js')

const NAMES = [
  'requests',
  'fetchedBytes',
  'readAheadChunks',
  'failures',
  'retries',
  'evictions',
  'diskHits',
  'diskWrites',
  'diskFailures',
  'providerMs'
]
const AT = Object.fromEntries(NAMES.map((name, index) => [name, index]))

const NUMBERS_BYTES = NAMES.length * 8
const MOST_TEXT_BYTES = 1000
// Words before the text: how often it was begun and finished, and its length.
const [BEGUN, FINISHED, LENGTH] = [0, 1, 2]
const HEAD_BYTES = 16

class Counts {
  #numbers
  #head
  #text

  constructor(shared) {
    this.#numbers = new Float64Array(shared, 0, NAMES.length)
    this.#head = new Int32Array(shared, NUMBERS_BYTES, 3)
    this.#text = new Uint8Array(shared, NUMBERS_BYTES + HEAD_BYTES, MOST_TEXT_BYTES)
  }

  static make() {
    return new SharedArrayBuffer(NUMBERS_BYTES + HEAD_BYTES + MOST_TEXT_BYTES)
  }

  /** Of one thread only. */
  add(name, count = 1) {
    this.#numbers[AT[name]] += count
  }

  /** The last error's text. Of one thread only. */
  tell(text) {
    const bytes = Buffer.from(text).subarray(0, MOST_TEXT_BYTES)
    Atomics.add(this.#head, BEGUN, 1)
    this.#text.set(bytes)
    Atomics.store(this.#head, LENGTH, bytes.length)
    Atomics.add(this.#head, FINISHED, 1)
  }

  read() {
    const numbers = Object.fromEntries(NAMES.map(name => [name, this.#numbers[AT[name]]]))
    return { ...numbers, lastError: this.#lastError() }
  }

  #lastError() {
    // Written again while it is read: the next one is there soon.
    for (let attempt = 0; attempt < 100; attempt++) {
      const finished = Atomics.load(this.#head, FINISHED)
      if (finished === 0) return null
      const text = Buffer.from(this.#text.slice(0, Atomics.load(this.#head, LENGTH))).toString()
      if (Atomics.load(this.#head, BEGUN) === finished) return text
    }
    return null
  }
}

/** Before anything was counted. */
const NO_COUNTS = new Counts(Counts.make()).read()

module.exports = { Counts, NO_COUNTS }
