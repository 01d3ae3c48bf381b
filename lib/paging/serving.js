'use strict'

// What the worker does all its life: chunks that were touched or asked for come from the disk or
// the provider, are shown, and give way to others. Which one when, the schedule says.

const { Uint8Array } = require('../platform/intrinsics.js')
const { Schedule, ABSENT, HELD, PRESENT } = require('./schedule.js')
const { PoolWatch } = require('./pool-watch.js')
const { Sink, Buffers } = require('./sink.js')
const { textOf } = require('./failure.js')

// Chunks that are held back for readers who may never come.
const MOST_HELD = 8
const isMissing = ({ range, missing }, chunk) => missing[chunk - range.first] === 1

class Serving {
  #pager
  #byteLength
  #chunkBytes
  #provider
  #disk
  #counts
  #schedule
  #buffers
  #watch
  // Chunks that threads wait for, and whether they were fetched a second time.
  #touched = new Map()
  #held = new Map()
  #isBeginning = false
  // What was asked for, by number: its range, which chunks of it are missing, and how many.
  #wants = new Map()
  #stop = new AbortController()

  constructor({ pager, byteLength, chunkBytes, provider, disk, counts, ...limits }) {
    this.#pager = pager
    this.#byteLength = byteLength
    this.#chunkBytes = chunkBytes
    this.#provider = provider
    this.#disk = disk
    this.#counts = counts
    const { concurrency, readAheadBytes, cacheBytes, timeoutMs } = limits
    this.#schedule = new Schedule({
      chunkCount: Math.ceil(byteLength / chunkBytes),
      concurrency,
      batchChunks: Math.max(1, Math.floor(provider.mostBytes / chunkBytes)),
      readAheadChunks: Math.floor(readAheadBytes / chunkBytes),
      cacheChunks: cacheBytes === undefined ? Infinity : Math.floor(cacheBytes / chunkBytes)
    })
    this.#buffers = new Buffers(chunkBytes, concurrency + 1)
    this.#watch = new PoolWatch({
      refuse: isRefused => pager.refusePool(isRefused),
      tell: text => counts.tell(text),
      timeoutMs
    })
  }

  /** A thread waits for a chunk. */
  touch(chunk) {
    const state = this.#schedule.stateOf(chunk)
    if (state === undefined) return
    if (state === PRESENT) {
      // Told twice: the one that came first is answered already.
      if (this.#pager.isPresent(chunk)) return
      this.#schedule.set(chunk, ABSENT)
    }
    if (!this.#touched.has(chunk)) this.#touched.set(chunk, false)
    this.#schedule.touch(chunk)
    if (state === HELD) this.#showHeld(chunk)
    this.#begin()
  }

  /** Somebody asks for a range, both ends included; `done` gets an error, or nothing. */
  want(id, { first, last, kind, done, progress }) {
    const missing = new Uint8Array(last - first + 1)
    let left = 0
    for (let chunk = first; chunk <= last; chunk++) {
      if (this.#schedule.stateOf(chunk) === HELD) this.#showHeld(chunk)
      if (this.#schedule.stateOf(chunk) === PRESENT) continue
      missing[chunk - first] = 1
      left++
    }
    this.#schedule.used(first, last)
    if (left === 0) return done()
    const range = { first, last }
    this.#wants.set(id, { range, missing, left, done, progress })
    this.#schedule.want(range, kind)
    this.#begin()
  }

  /** Nobody waits for it any more. What was begun goes on. */
  drop(id) {
    const want = this.#wants.get(id)
    if (want === undefined) return
    this.#wants.delete(id)
    this.#schedule.drop(want.range)
  }

  used(first, last) {
    this.#schedule.used(first, last)
  }

  /** What somebody has kept here may go. */
  trim() {
    if (this.#isClosed) return
    try {
      this.#schedule.makeRoom(old => this.#evict(old))
    } catch (error) {
      // The next chunk that comes tries again.
      this.#counts.tell(textOf(error))
    }
  }

  /** Ends all that goes on. */
  async close() {
    this.#stop.abort(new Error('the region was closed'))
    this.#disk?.close()
    this.#disk = undefined
    await this.#provider.close()
  }

  get #isClosed() {
    return this.#stop.signal.aborted
  }

  #begin() {
    // What ends at once begins the next: here, and not one inside of the other.
    if (this.#isBeginning) return
    this.#isBeginning = true
    while (!this.#isClosed) {
      const run = this.#schedule.next()
      if (run === undefined) break
      if (run.kind === 'readAhead') this.#counts.add('readAheadChunks', run.count)
      this.#run(run)
    }
    this.#isBeginning = false
  }

  async #run({ first, count, kind }) {
    const end = first + count
    let at = first
    const arrived = bytes => {
      // Before who waits goes on, and asks.
      this.#counts.add('fetchedBytes', bytes.length)
      this.#arrived(at, bytes)
      this.#disk?.write(at, bytes)
      at++
    }
    try {
      while (at < end && !this.#isClosed) {
        if (this.#fromDisk(at)) {
          at++
          continue
        }
        // As much as is not on the disk, in one request.
        let next = at + 1
        while (next < end && !this.#disk?.has(next)) next++
        await this.#fetch(at, next, arrived)
      }
    } catch (error) {
      this.#failed(at, end, kind, error)
    }
    // A disk and some providers never wait for anything, and touches must not wait for all of them.
    if (kind !== 'touch') await new Promise(resolve => setImmediate(resolve))
    this.#schedule.ended()
    this.#begin()
  }

  async #fetch(first, end, arrived) {
    const byteOffset = first * this.#chunkBytes
    const byteLength = Math.min(end * this.#chunkBytes, this.#byteLength) - byteOffset
    const sink = new Sink({
      chunkBytes: this.#chunkBytes,
      byteLength,
      buffers: this.#buffers,
      done: arrived
    })
    const startMs = performance.now()
    this.#counts.add('requests')
    this.#watch.begin()
    try {
      await this.#provider.read(byteOffset, byteLength, sink, this.#stop.signal)
    } finally {
      this.#watch.end()
      this.#counts.add('providerMs', performance.now() - startMs)
    }
  }

  #fromDisk(chunk) {
    if (!this.#disk?.has(chunk)) return false
    const buffer = this.#buffers.take()
    const byteLength = Math.min(this.#chunkBytes, this.#byteLength - chunk * this.#chunkBytes)
    const bytes = buffer.subarray(0, byteLength)
    const isThere = this.#disk.read(chunk, bytes)
    if (isThere) this.#arrived(chunk, bytes)
    this.#buffers.give(buffer)
    return isThere
  }

  #arrived(chunk, bytes) {
    if (this.#isClosed) return
    if (!this.#isAwaited(chunk) && this.#schedule.isHeld(chunk)) {
      this.#held.set(chunk, bytes.slice())
      this.#schedule.set(chunk, HELD)
      if (this.#held.size > MOST_HELD) this.#showHeld(this.#held.keys().next().value)
    } else {
      this.#show(chunk, bytes)
    }
  }

  #isAwaited(chunk) {
    if (this.#touched.has(chunk)) return true
    for (const want of this.#wants.values()) if (isMissing(want, chunk)) return true
    return false
  }

  #showHeld(chunk) {
    const bytes = this.#held.get(chunk)
    this.#held.delete(chunk)
    try {
      this.#show(chunk, bytes)
    } catch (error) {
      this.#failed(chunk, chunk + 1, 'touch', error)
    }
  }

  #show(chunk, bytes) {
    this.#schedule.makeRoom(old => this.#evict(old))
    if (!this.#pager.provide(chunk, bytes)) return
    this.#schedule.set(chunk, PRESENT)
    this.#touched.delete(chunk)
    for (const [id, want] of this.#wants) {
      if (!isMissing(want, chunk)) continue
      want.missing[chunk - want.range.first] = 0
      want.left--
      want.progress?.(want.left)
      if (want.left === 0) this.#settle(id)
    }
  }

  #evict(chunk) {
    const isGone = this.#pager.evict(chunk)
    if (isGone) this.#counts.add('evictions')
    return isGone
  }

  #failed(first, end, kind, error) {
    if (this.#isClosed) return
    this.#counts.add('failures')
    this.#counts.tell(textOf(error))
    for (let chunk = first; chunk < end; chunk++) {
      this.#schedule.set(chunk, ABSENT)
      // Who waits for one of many that were fetched for others gets a try of his own.
      const isFirst = kind !== 'touch' && this.#touched.get(chunk) !== true
      const isOwn = kind === 'ensure' || kind === 'prefetch'
      if (isFirst && (isOwn ? this.#touched.has(chunk) : this.#isAwaited(chunk))) {
        this.#touched.set(chunk, true)
        this.#schedule.again(chunk)
        if (isOwn) this.#failWants(chunk, error)
        continue
      }
      if (this.#touched.delete(chunk)) this.#pager.fail(chunk)
      this.#failWants(chunk, error)
    }
  }

  #failWants(chunk, error) {
    for (const [id, want] of this.#wants) if (isMissing(want, chunk)) this.#settle(id, error)
  }

  #settle(id, error) {
    const { done } = this.#wants.get(id)
    this.drop(id)
    done(error)
  }
}

module.exports = { Serving }
