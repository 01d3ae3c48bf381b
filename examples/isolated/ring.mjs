// Requests and answers in pages that two threads or processes share: a ring of slots. One end asks,
// the other answers in the slots of the requests, in their order.
//
//   page 0    two counters, of 32 bits, each with a flag whether somebody sleeps until it changes
//   page 1    the slots, which are mapped into the module; it can't reach the counters
//
// Nothing that the other end has written is trusted: a counter that can't be ends it.

import { HostRegion, limits } from 'wasm-hostmap'

const SLOTS = 64 // divides 2^32, where the counters begin again
const SLOT_BYTES = 24 // see module.c
const SUBMITTED = 0 // words of page 0, on lines of the cache of their own
const COMPLETED = 16
const SLEEPS = 1 // behind each counter

export const OPERATIONS = { sum: 0, trap: 1, endless: 2, hungry: 3 }
const SPIN_MS = 0.05
const FAILED = -(2n ** 63n) // a result that no sum here has

const pageBytes = limits().pageSize

/** The slots, for `GuardedMemory.map`. */
export const SLOTS_PART = { byteOffset: pageBytes, byteLength: pageBytes }

const next = counter => (counter + 1) | 0
const placeOf = counter => ((counter >>> 0) % SLOTS) * SLOT_BYTES

function writeRequest(slots, at, { operation, from = 0, count = 0 }) {
  slots.setUint32(at, OPERATIONS[operation], true)
  slots.setUint32(at + 4, from, true)
  slots.setUint32(at + 8, count, true)
}

const resultAt = (slots, at) => slots.getBigInt64(at + 16, true)

class End {
  region
  slots
  #counters

  constructor(region) {
    this.region = region
    this.#counters = new Int32Array(region.view({ byteLength: pageBytes }))
    this.slots = new DataView(region.view(SLOTS_PART))
  }

  count(counter) {
    return Atomics.load(this.#counters, counter)
  }

  /** Changes a counter, and wakes the other end if it sleeps: one system call, or none. */
  advance(counter, value) {
    Atomics.store(this.#counters, counter, value)
    if (Atomics.load(this.#counters, counter + SLEEPS) !== 0) this.region.notify(counter * 4)
  }

  /**
   * Says that this end sleeps until a counter changes, or no longer. The other end changes the
   * counter first and looks here then, and the kernel looks at the counter before it puts anybody
   * to sleep: so no change is missed.
   */
  sleeps(counter, yes) {
    Atomics.store(this.#counters, counter + SLEEPS, yes ? 1 : 0)
  }

  /** Blocks the thread until a counter is another than this, or the time is over. */
  block(counter, seen, timeoutMs) {
    // Sleeping and waking takes longer than most answers.
    for (const until = performance.now() + SPIN_MS; performance.now() < until;) {
      for (let n = 0; n < 100; n++) if (this.count(counter) !== seen) return
    }
    this.sleeps(counter, true)
    try {
      this.region.waitSync(counter * 4, seen, { timeoutMs })
    } finally {
      this.sleeps(counter, false)
    }
  }
}

/** The end that asks. */
export class Asker extends End {
  #submitted = 0
  #completed = 0

  constructor() {
    super(HostRegion.allocate(2 * pageBytes))
  }

  get #waiting() {
    return (this.#submitted - this.#completed) | 0
  }

  /** Whether there is a slot for another request. */
  get hasRoom() {
    return this.#waiting < SLOTS
  }

  submit(request) {
    writeRequest(this.slots, placeOf(this.#submitted), request)
    this.#submitted = next(this.#submitted)
    this.advance(SUBMITTED, this.#submitted)
  }

  get hasAnswer() {
    return this.count(COMPLETED) !== this.#completed
  }

  /** The answers that have come since: results; undefined where the module trapped. */
  *answers() {
    const answered = (this.count(COMPLETED) - this.#completed) | 0
    if (answered < 0 || answered > this.#waiting) {
      throw new Error(`the other end has counted ${answered} answers to ${this.#waiting} requests`)
    }
    for (let n = 0; n < answered; n++) {
      const result = resultAt(this.slots, placeOf(this.#completed))
      this.#completed = next(this.#completed)
      yield result === FAILED ? undefined : result
    }
  }

  /** Until an answer comes. Rejects if it is aborted. */
  async untilAnswer(signal) {
    this.sleeps(COMPLETED, true)
    try {
      await this.region.wait(COMPLETED * 4, this.#completed, { signal })
    } finally {
      this.sleeps(COMPLETED, false)
    }
  }

  /** The same, but blocks the thread, and no longer than this. */
  blockUntilAnswer(timeoutMs) {
    this.block(COMPLETED, this.#completed, timeoutMs)
  }
}

/** The end that answers. */
export class Answerer extends End {
  /** Answers a request that came another way, by the first slot. */
  answer(request, handle) {
    writeRequest(this.slots, 0, request)
    handle()
    return String(resultAt(this.slots, 0)) // JSON has no BigInt
  }

  /**
   * Answers requests as long as `isWanted()`.
   * @param handle given where a slot is in the slots, in bytes; returns once the answer is there
   */
  run(handle, isWanted) {
    for (let done = 0; isWanted();) {
      if (this.count(SUBMITTED) === done) {
        this.block(SUBMITTED, done, 500)
        continue
      }
      const at = placeOf(done)
      try {
        handle(at)
      } catch (error) {
        if (!(error instanceof WebAssembly.RuntimeError)) throw error
        this.slots.setBigInt64(at + 16, FAILED, true)
      }
      done = next(done)
      this.advance(COMPLETED, done)
    }
  }
}
