'use strict'

// A touch by a thread of libuv's pool (of `zlib.gzip(view)`, say) keeps that thread until its chunk
// is there. Where all of the pool waits, and the provider needs a thread of it, neither goes on. It
// is noticed here, in the provider's thread: then the pool's touches fail until the pool has moved.
//
// Nothing is refused that could go on by itself. All of the pool waits for chunks, our own task
// is not begun meanwhile, and the provider has begun something that is known to be the pool's, or
// its time is over.

const { createHook } = require('node:async_hooks')
const fs = require('node:fs')
const native = require('../platform/binding.js')

const LOOK_MS = 500
// As Node names what waits for the pool, each time in its own way.
const OF_POOL = /^(?:FSReq|GetAddrInfoReq|GetNameInfoReq)/i

/**
 * Counts what this thread has asked of the pool, and is known to be its. Node 26 does not
 * list `fs.promises.readFile` among its active resources: beginnings and ends are watched there.
 */
function countingRequests() {
  const listed = () => (process.getActiveResourcesInfo?.() ?? []).filter(it => OF_POOL.test(it))
  // No file has no name. A thread that ends meanwhile would leave open what had been opened.
  fs.promises.readFile('').catch(() => {})
  if (listed().includes('FSReqPromise')) return () => listed().length
  const begun = new Set()
  const init = (id, type) => {
    if (OF_POOL.test(type)) begun.add(id)
  }
  createHook({ init, destroy: id => begun.delete(id), trackPromises: false }).enable()
  return () => begun.size
}

const DEFAULT_THREADS = 4
const MOST_THREADS = 1024

/** How many threads there are, as libuv reads it. */
function poolThreads() {
  const text = process.env.UV_THREADPOOL_SIZE
  if (text === undefined) return DEFAULT_THREADS
  return Math.min(MOST_THREADS, Math.max(1, Number.parseInt(text, 10) || 1))
}

class PoolWatch {
  #refuse
  #tell
  #timeoutMs
  #threads = poolThreads()
  #requests = countingRequests()
  #reads = 0
  #isTimed = false
  // Since when all of the pool waits.
  #sinceMs
  // Our own task is in the pool's queue.
  #isAsking = false
  #isRefused = false

  /** `refuse(isRefused)`: touches by the pool fail from then on, or wait again. */
  constructor({ refuse, tell, timeoutMs }) {
    this.#refuse = refuse
    this.#tell = tell
    this.#timeoutMs = timeoutMs
  }

  /** The provider is asked for something that is not there at once. */
  begin() {
    this.#reads++
    // One timer for all that are begun meanwhile: one for each would cost touches.
    if (!this.#isTimed) this.#lookLater()
  }

  end() {
    this.#reads--
  }

  #lookLater() {
    this.#isTimed = true
    setTimeout(() => this.#look(), LOOK_MS).unref()
  }

  #look() {
    this.#isTimed = false
    if (this.#reads === 0) {
      this.#sinceMs = undefined
      return
    }
    this.#lookLater()
    if (this.#isRefused) return
    const isAll = native.poolWaits() >= this.#threads
    if (!isAll) {
      this.#sinceMs = undefined
    } else if (this.#sinceMs === undefined) {
      this.#sinceMs = performance.now()
      this.#ask()
    } else if (this.#isNeeded()) {
      this.#isRefused = true
      this.#tell(
        `all ${this.#threads} threads of libuv's pool wait for chunks, and the provider needs one of them; ` +
          'ensure what asynchronous calls read, or set UV_THREADPOOL_SIZE higher'
      )
      this.#refuse(true)
    }
  }

  /** Answered when the pool has a free thread. */
  #ask() {
    if (this.#isAsking) return
    this.#isAsking = true
    fs.stat('/', () => {
      this.#isAsking = false
      this.#sinceMs = undefined
      if (!this.#isRefused) return
      this.#isRefused = false
      this.#refuse(false)
    })
  }

  #isNeeded() {
    const lateMs = this.#timeoutMs - 2 * LOOK_MS
    if (performance.now() - this.#sinceMs >= lateMs) return true
    // One is ours.
    return this.#requests() > 1
  }
}

module.exports = { PoolWatch }
