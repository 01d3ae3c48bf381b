'use strict'

// `region.paging`: what of a region is here, and what to bring before it is touched.

const { isMainThread } = require('node:worker_threads')
const { Uint8Array } = require('../platform/intrinsics.js')
const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const { PRESENT } = require('./pager.js')
const read = require('../support/options.js')
const { abortError, callNative, makeError } = require('../support/errors.js')

// What `chunks` gives; the native part says the same of the first, and more of the second.
const MISSING = 0
const COMING = 1

let closePaging
let showHeld

// Holds that nobody released and nobody has any more.
const dropped = new FinalizationRegistry(release => release())

// Node ends worker threads one after the other, and one that waits for a chunk ends with its wait.
// Whose region is collected or closed, and mapped, is not known here, so this stays.
let closesAtExit = false

function closeAtExit() {
  if (closesAtExit) return
  process.once('exit', () => native.pagersClose(isMainThread))
  closesAtExit = true
}

/** Chunks that stay where they are until it is released. */
class Hold {
  #release

  constructor(part, release) {
    this.byteOffset = part.start
    this.byteLength = part.end - part.start
    this.#release = release
    dropped.register(this, release, release)
  }

  release() {
    if (this.#release === undefined) return
    dropped.unregister(this.#release)
    this.#release()
    this.#release = undefined
  }

  [Symbol.dispose]() {
    this.release()
  }
}

class Paging {
  // The pager lives as long as this does.
  // eslint-disable-next-line no-unused-private-class-members -- holding it is all that it is for
  #owner
  #pager
  #service
  #counts
  #name
  #byteLength
  #chunkBytes
  #isLimited
  #isAsked
  #userfaultfd
  // What was ensured, by its hold's `release`: what is shown later shows that, too.
  #holds
  #isClosed = false
  #seen

  static {
    closePaging = paging => paging.#close()
    showHeld = paging => paging.#holds?.forEach(({ first, last }) => paging.#show(first, last))
  }

  constructor({
    owner,
    pager,
    service,
    counts,
    name,
    byteLength,
    chunkBytes,
    isLimited,
    isAsked = false,
    userfaultfd
  }) {
    this.#owner = owner
    this.#pager = pager
    this.#service = service
    this.#counts = counts
    this.#name = name
    this.#byteLength = byteLength
    this.#chunkBytes = chunkBytes
    this.#isLimited = isLimited
    this.#isAsked = isAsked
    this.#userfaultfd = userfaultfd
    this.#holds = userfaultfd ? undefined : new Map()
    closeAtExit()
  }

  get chunkBytes() {
    return this.#chunkBytes
  }

  get userfaultfd() {
    return this.#userfaultfd
  }

  async ensure(options) {
    const { signal, ...given } = read.ensure(options)
    const what = 'The ensuring'
    const { part, chunks } = this.#partOf(given, signal, what)
    if (chunks === undefined) return new Hold(part, () => {})
    const { first, last } = chunks
    this.#service.pin(this.#pager, first, last)
    const release = () => {
      this.#holds?.delete(release)
      try {
        this.#service.unpin(this.#pager, first, last)
      } catch (error) {
        // A region that is closed has no chunks to let go.
        if (error.code !== 'ERR_HOSTMAP_REGION_CLOSED') throw error
      }
    }
    try {
      // From here on nothing that is here goes.
      if (!this.#isAsked && this.#isAll(first, last)) {
        if (this.#isLimited) this.#service.post({ type: 'used', first, last })
      } else {
        await this.#service.ask({ type: 'want', kind: 'ensure', first, last }, { signal, what })
      }
      this.#holds?.set(release, chunks)
      this.#show(first, last)
      return new Hold(part, release)
    } catch (error) {
      release()
      throw error
    }
  }

  async prefetch(options) {
    const { signal, onProgress, ...given } = read.prefetchPaged(options)
    check.optional(onProgress, check.callback, 'options.onProgress')
    const what = 'The prefetch'
    const { part, chunks } = this.#partOf(given, signal, what)
    const total = part.end - part.start
    if (chunks !== undefined && !this.#isAll(chunks.first, chunks.last)) {
      const message = {
        type: 'want',
        kind: 'prefetch',
        ...chunks,
        isTold: onProgress !== undefined
      }
      const onMissing = missing =>
        onProgress(Math.max(0, total - missing * this.#chunkBytes), total)
      await this.#service.ask(message, { signal, what, onMissing })
    }
    onProgress?.(total, total)
  }

  chunks(options) {
    const { chunks } = this.#partOf(read.pagedChunks(options))
    if (chunks === undefined) return new Uint8Array(0)
    const { first, last } = chunks
    return this.#states(first, last).map(state =>
      state === MISSING || state === PRESENT ? state : COMING
    )
  }

  stats() {
    const { diskHits, diskWrites, diskFailures, ...provided } = this.#counts.read()
    // Of a region that was closed, as it was then.
    if (!this.#isClosed) this.#seen = callNative(() => native.pagerStats(this.#pager))
    const { faults, failedTouches, present } = this.#seen
    return {
      touches: faults,
      failedTouches,
      presentChunks: present,
      ...provided,
      disk: { hits: diskHits, writes: diskWrites, failures: diskFailures }
    }
  }

  #close() {
    if (this.#isClosed) return
    this.#seen = callNative(() => native.pagerStats(this.#pager))
    this.#isClosed = true
    this.#owner = undefined
    // Mappings may be left, whose touches must not wait for what will not come.
    callNative(() => native.pagerClose(this.#pager))
    this.#service.close()
  }

  /** Arguments that were checked, and a signal: the part, and its chunks unless it is empty. */
  #partOf(given, signal, what) {
    check.optional(signal, check.abortSignal, 'options.signal')
    if (this.#isClosed) {
      throw makeError(
        'ERR_HOSTMAP_REGION_CLOSED',
        `region "${this.#name}" was closed; make a new one`
      )
    }
    const part = check.part(given, this.#byteLength, `region "${this.#name}"`)
    if (signal?.aborted) throw abortError(signal, what)
    if (part.start === part.end) return { part, chunks: undefined }
    const first = Math.floor(part.start / this.#chunkBytes)
    const last = Math.floor((part.end - 1) / this.#chunkBytes)
    return { part, chunks: { first, last } }
  }

  /** In each view by now: without userfaultfd, touches show chunks, system calls don't. */
  #show(first, last) {
    if (!this.#userfaultfd) callNative(() => native.pagerShow(this.#pager, first, last))
  }

  #states(first, last) {
    return callNative(() => native.pagerStates(this.#pager, first, last - first + 1))
  }

  #isAll(first, last) {
    return this.#states(first, last).every(state => state === PRESENT)
  }
}

module.exports = {
  Paging,
  closePaging: paging => closePaging(paging),
  showHeld: paging => showHeld(paging)
}
