'use strict'

// Which chunks are fetched next, together, and which give way: what is wanted, by whom, and where
// each chunk is. Nothing here fetches, waits, or knows bytes: serving.js does what this says.

const { Uint8Array } = require('../platform/intrinsics.js')
const { ReadAhead } = require('./read-ahead.js')

// Where a chunk is.
const ABSENT = 0
const FETCHING = 1
// Its bytes are here, and nobody sees them yet: see read-ahead.js.
const HELD = 2
const PRESENT = 3

// What goes first: touches, by themselves; then ranges, in this order.
const KINDS = ['ensure', 'readAhead', 'prefetch']

// How many pinned chunks are passed to find one that can go.
const MOST_PASSED = 256

// How many ranges may wait to be read ahead.
const MOST_READ_AHEAD = 64

class Schedule {
  #concurrency
  #batchChunks
  #cacheChunks
  #readAhead
  #states
  // Each once: who sends numbers may send one again and again.
  #touched = new Set()
  // Ranges by kind, each with a cursor: what is before it was asked for.
  #ranges = Object.fromEntries(KINDS.map(kind => [kind, []]))
  #running = 0
  // Present chunks, the least recently wanted first; only where their number is limited.
  #order = new Set()

  /**
   * `batchChunks`: how many chunks one request may have. `cacheChunks`: how many may be present,
   * Infinity for all.
   */
  constructor({ chunkCount, concurrency, batchChunks, readAheadChunks, cacheChunks }) {
    this.#concurrency = concurrency
    this.#batchChunks = batchChunks
    this.#cacheChunks = cacheChunks
    // What is read ahead must not push out what was before its reader is there.
    const most = Math.min(readAheadChunks, Math.floor(cacheChunks / 4))
    this.#readAhead = new ReadAhead(most, chunkCount)
    this.#states = new Uint8Array(chunkCount)
  }

  stateOf(chunk) {
    return this.#states[chunk]
  }

  isHeld(chunk) {
    return this.#readAhead.isHeld(chunk)
  }

  /** A missing chunk was touched: it is fetched before all that is not. */
  touch(chunk) {
    this.#follow(chunk, chunk)
    if (this.#states[chunk] === ABSENT) this.#touched.add(chunk)
  }

  /** A chunk whose fetching has failed for others, and that somebody has touched meanwhile. */
  again(chunk) {
    this.#touched.add(chunk)
  }

  /** `range`: `{ first, last }`, whose identity `drop` takes. */
  want(range, kind) {
    this.#ranges[kind].push({ range, cursor: range.first })
    if (kind === 'ensure') this.#follow(range.first, range.last)
  }

  drop(range) {
    for (const kind of KINDS) {
      this.#ranges[kind] = this.#ranges[kind].filter(entry => entry.range !== range)
    }
  }

  /** The next chunks to fetch together, `{ first, count, kind }`, which count as begun; or none. */
  next() {
    if (this.#running >= this.#concurrency) return undefined
    const run = this.#nextTouched() ?? this.#nextOfRanges()
    if (run === undefined) return undefined
    this.#states.fill(FETCHING, run.first, run.first + run.count)
    this.#running++
    return run
  }

  /** A run of `next` has ended, well or not: its chunks were told one by one. */
  ended() {
    this.#running--
  }

  set(chunk, state) {
    this.#states[chunk] = state
    if (this.#cacheChunks === Infinity) return
    if (state === PRESENT) this.#order.add(chunk)
    else this.#order.delete(chunk)
  }

  /** Present chunks that somebody uses go last. */
  used(first, last) {
    if (this.#cacheChunks === Infinity) return
    for (let chunk = first; chunk <= last; chunk++) {
      if (this.#order.delete(chunk)) this.#order.add(chunk)
    }
  }

  /**
   * Makes room for one more. `evict` says whether a chunk could go: those that somebody holds
   * can't, and the limit is passed rather than anything refused.
   */
  makeRoom(evict) {
    let passed = 0
    for (const chunk of this.#order) {
      if (this.#order.size < this.#cacheChunks || passed === MOST_PASSED) return
      if (evict(chunk)) {
        this.set(chunk, ABSENT)
      } else {
        this.#order.delete(chunk)
        this.#order.add(chunk)
        passed++
      }
    }
  }

  #follow(first, last) {
    const range = this.#readAhead.touched(first, last)
    if (range === undefined) return
    const ranges = this.#ranges.readAhead
    ranges.push({ range, cursor: range.first })
    // Readers that are behind need their last ones, and come to no harm without.
    if (ranges.length > MOST_READ_AHEAD) ranges.shift()
  }

  #nextTouched() {
    for (const first of this.#touched) {
      this.#touched.delete(first)
      if (this.#states[first] === ABSENT) return { first, count: 1, kind: 'touch' }
    }
    return undefined
  }

  #nextOfRanges() {
    // One place is left for touches.
    const isFull = this.#concurrency > 1 && this.#running >= this.#concurrency - 1
    if (isFull) return undefined
    for (const kind of KINDS) {
      const ranges = this.#ranges[kind]
      while (ranges.length > 0) {
        const run = this.#runOf(ranges[0])
        if (run !== undefined) return { ...run, kind }
        ranges.shift()
      }
    }
    return undefined
  }

  #runOf(entry) {
    const { last } = entry.range
    while (entry.cursor <= last && this.#states[entry.cursor] !== ABSENT) entry.cursor++
    if (entry.cursor > last) return undefined
    const first = entry.cursor
    const most = Math.min(last - first + 1, this.#batchChunks)
    let count = 1
    while (count < most && this.#states[first + count] === ABSENT) count++
    entry.cursor += count
    return { first, count }
  }
}

module.exports = { Schedule, ABSENT, FETCHING, HELD, PRESENT }
