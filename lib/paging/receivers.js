'use strict'

// Other processes that have the region, as the thread that serves it sees them: what their threads
// touch, and what they ask. Whatever comes from them is looked at before it is believed.

const fs = require('node:fs')
const { PROGRESS_INTERVAL_MS } = require('../platform/task.js')
const { dataOf, textOf } = require('./failure.js')
const { Lines } = require('./lines.js')
const { readNumbers } = require('./numbers.js')

// With a chunk's number: pages of it were made past the provider. See src/js/paging.rs.
const SWEEP = 2n ** 63n

// What is looked after for one receiver at a time, what he may ask for beyond that, and what he may
// hold and leave unread.
const MOST_WANTS = 1000
const MOST_WAITING = 10_000
const MOST_PINS = 10_000
const MOST_UNREAD_BYTES = 2 ** 23

const KINDS = ['ensure', 'prefetch']

class Receivers {
  #pager
  #serving
  #counts
  #chunkCount

  constructor({ pager, serving, counts, chunkCount }) {
    this.#pager = pager
    this.#serving = serving
    this.#counts = counts
    this.#chunkCount = chunkCount
  }

  /** Those who have come. */
  take() {
    for (const newcomer of this.#pager.newcomers()) this.#serve(newcomer)
  }

  #serve({ id, touchesFd, callsFd }) {
    let calls
    try {
      calls = new Calls(callsFd, {
        pager: this.#pager,
        serving: this.#serving,
        counts: this.#counts,
        chunkCount: this.#chunkCount
      })
    } catch {
      fs.closeSync(callsFd)
    }
    try {
      // As long as this end is open, what the receiver shows stays.
      readNumbers(
        touchesFd,
        number => this.#touch(number),
        () => {
          calls?.end()
          this.#dismiss(id)
        }
      )
    } catch {
      fs.closeSync(touchesFd)
      calls?.end()
      this.#dismiss(id)
    }
  }

  #dismiss(id) {
    this.#pager.dismiss(id)
    this.#serving.trim()
  }

  #touch(number) {
    const chunk = Number(number >= SWEEP ? number - SWEEP : number)
    if (chunk >= this.#chunkCount) return
    if (number >= SWEEP) return this.#sweep(chunk)
    this.#pager.told(chunk)
    this.#serving.touch(chunk)
  }

  #sweep(chunk) {
    try {
      this.#pager.sweep(chunk)
    } catch (error) {
      // What the kernel refuses is that receiver's loss, and not the end of the provider.
      this.#counts.tell(textOf(error))
    }
  }
}

/**
 * What a receiver's `ensure` and `prefetch` ask. It all ends with the connection; but where that is
 * closed here, the receiver may go on reading what he holds, which stays until he has ended.
 */
class Calls {
  #lines
  #pager
  #serving
  #counts
  #chunkCount
  // By the receiver's numbers: what is wanted, and how many chunks; what is pinned, and how often.
  #wants = new Map()
  // Asked for, and not begun before others are done.
  #waiting = new Map()
  #isBeginning = false
  #pins = []
  #wantedChunks = 0
  #isRefused = false

  constructor(fd, { pager, serving, counts, chunkCount }) {
    this.#pager = pager
    this.#serving = serving
    this.#counts = counts
    this.#chunkCount = chunkCount
    this.#lines = new Lines(
      fd,
      message => this.#take(message),
      () => this.#closed()
    )
    this.#post({ type: 'counts' })
  }

  /** The receiver has ended. */
  end() {
    this.#unpinAll()
    this.#lines.close()
  }

  #take(message) {
    try {
      this.#hear(message)
    } catch {
      this.#refuse()
    }
  }

  #refuse() {
    this.#isRefused = true
    this.#lines.close()
  }

  #hear({ type, id, first, last, kind, isTold }) {
    if (type === 'drop') return this.#drop(id)
    const isRange =
      Number.isSafeInteger(first) &&
      Number.isSafeInteger(last) &&
      first >= 0 &&
      first <= last &&
      last < this.#chunkCount
    if (!isRange) throw new Error('no range of chunks')
    if (type === 'pin') return this.#pin(first, last)
    if (type === 'unpin') return this.#unpin(first, last)
    if (type !== 'want' || !KINDS.includes(kind)) throw new Error('no message')
    this.#want(id, { first, last, kind, isTold })
  }

  #want(id, { first, last, kind, isTold }) {
    const isKnown = this.#wants.has(id) || this.#waiting.has(id)
    if (!Number.isSafeInteger(id) || isKnown || this.#waiting.size >= MOST_WAITING) {
      throw new Error('too much')
    }
    this.#waiting.set(id, { first, last, kind, isTold, count: last - first + 1 })
    this.#beginWaiting()
  }

  #beginWaiting() {
    // What is done at once makes room for the next: here, and not one inside of the other.
    if (this.#isBeginning) return
    this.#isBeginning = true
    try {
      for (const [id, want] of this.#waiting) {
        if (!this.#hasRoomFor(want.count)) break
        this.#waiting.delete(id)
        this.#begin(id, want)
      }
    } catch {
      // No memory for it, say.
      this.#refuse()
    }
    this.#isBeginning = false
  }

  #hasRoomFor(count) {
    const { size } = this.#wants
    const isFew = this.#wantedChunks + count <= this.#chunkCount + MOST_WANTS
    return size === 0 || (size < MOST_WANTS && isFew)
  }

  #begin(id, { first, last, kind, isTold, count }) {
    const key = Symbol('want')
    this.#wants.set(id, { key, count })
    this.#wantedChunks += count
    let toldMs = performance.now()
    const progress = missing => {
      const nowMs = performance.now()
      if (nowMs - toldMs < PROGRESS_INTERVAL_MS) return
      toldMs = nowMs
      this.#post({ type: 'progress', id, missing })
    }
    this.#serving.want(key, {
      first,
      last,
      kind,
      progress: isTold === true ? progress : undefined,
      done: error => {
        this.#forget(id)
        this.#post({ type: 'done', id, error: error && dataOf(error) })
        this.#beginWaiting()
      }
    })
  }

  #forget(id) {
    const want = this.#wants.get(id)
    if (want === undefined) return undefined
    this.#wants.delete(id)
    this.#wantedChunks -= want.count
    return want.key
  }

  #drop(id) {
    if (this.#waiting.delete(id)) return
    const key = this.#forget(id)
    if (key === undefined) return
    this.#serving.drop(key)
    this.#beginWaiting()
  }

  #pin(first, last) {
    if (this.#pins.length >= MOST_PINS) throw new Error('too much')
    this.#pager.pin(first, last)
    this.#pins.push([first, last])
  }

  #unpin(first, last) {
    const at = this.#pins.findIndex(pin => pin[0] === first && pin[1] === last)
    if (at === -1) return
    this.#pins.splice(at, 1)
    this.#pager.unpin(first, last)
  }

  #post(message) {
    if (this.#lines.waiting > MOST_UNREAD_BYTES) return this.#refuse()
    // What is counted here, the receiver can't count.
    this.#lines.post({ ...message, counts: this.#counts.read() })
  }

  #closed() {
    this.#waiting.clear()
    for (const id of [...this.#wants.keys()]) this.#drop(id)
    if (!this.#isRefused) this.#unpinAll()
  }

  #unpinAll() {
    for (const [first, last] of this.#pins) this.#pager.unpin(first, last)
    this.#pins = []
  }
}

module.exports = { Receivers }
