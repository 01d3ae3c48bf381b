'use strict'

// Paged regions beside their model. Each has a memory of its own, since looking at bytes brings
// them: what is compared is what the steps touch.

const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')
const { HostRegion, GuardedMemory, limits } = require('../..')
const { countOpen } = require('../support/procfs')
const { WASM_PAGE, probe } = require('../support/wasm')
const { bytesAt } = require('./provider')

const PAGE = limits().pageSize
const CHUNK = 4 * PAGE
const MODULE = path.join(__dirname, 'provider.js')
/** The least that there is. */
const CACHE_CHUNKS = 16
const LATE_MS = 20_000

/** What a page of a mapping or view shows. */
const BYTES = 0 // the region's, or nothing yet
const ZEROS = 1 // what was put there when its chunk failed

let regions = 0

/** A mapping, view or window: what its pages show, and what it has counted. */
class Shown {
  pages = new Map()
  faults = 0
  /** As the world's windows have it. */
  warnings = new Set()

  /** @param start the part's first byte in the region; `byteLength` its length */
  constructor(kind, real, start, byteLength) {
    Object.assign(this, { kind, real, start, byteLength })
    /** Written pages, by number: what is there. */
    this.copies = new Map()
  }

  get isMapped() {
    return this.kind.startsWith('mapping') || this.kind.startsWith('window')
  }

  get isPrivate() {
    return this.kind.endsWith('(private)')
  }

  /** A window shows another part, and forgets what it did with the last one. */
  slide(start, byteLength) {
    Object.assign(this, { start, byteLength })
    this.pages.clear()
    this.copies.clear()
  }
}

class Paged {
  shown = []
  holds = []
  closed = false
  /** How many failures the provider was told to have; those that are left are in `failing`. */
  granted = 0
  failedTouches = 0
  /** Faults of views that are gone. */
  viewFaults = 0
  wasPinned = false

  static async make({ chunks, rest, cached, readAhead, userfaultfd }) {
    const paged = new Paged()
    const byteLength = (chunks - 1) * CHUNK + rest
    const [failing, calls] = [chunks, 1].map(n => new Int32Array(new SharedArrayBuffer(4 * n)))
    const name = `paged ${++regions} of the model`
    Object.assign(paged, { name, chunks, byteLength, cached, readAhead, failing, calls })
    paged.real = await HostRegion.paged({
      provider: { module: MODULE, data: { byteLength, chunkBytes: CHUNK, failing, calls } },
      chunkBytes: CHUNK,
      cacheBytes: cached ? CACHE_CHUNKS * CHUNK : undefined,
      readAheadBytes: readAhead ? 8 * CHUNK : 0,
      userfaultfd,
      name
    })
    // Two of all of it, a window, and what fails to be mapped.
    const pages = Math.ceil(byteLength / WASM_PAGE)
    paged.guarded = new GuardedMemory({ initial: 1, maximum: 10 + 8 * pages })
    paged.guest = await probe(paged.guarded.memory)
    return paged
  }

  /** Which chunks are here, once nothing is on its way. */
  async settle() {
    if (this.closed) return this.here
    const late = performance.now() + LATE_MS
    for (;;) {
      this.here = this.real.paging.chunks()
      // It is counted a moment after it has come.
      const { requests, failures } = this.real.paging.stats()
      const isCounted = requests === Atomics.load(this.calls, 0) && failures === this.failures
      if (!this.here.includes(1) && isCounted) return this.here
      if (performance.now() > late)
        throw new Error(`${this.name}: a chunk stays on its way, or uncounted`)
      await sleep(1)
    }
  }

  /** What an `ensure` that has failed has asked for besides may come still. */
  async calm() {
    for (let same = 0, calls = -1; same < 3;) {
      await sleep(2)
      const now = Atomics.load(this.calls, 0)
      same = now === calls ? same + 1 : 0
      calls = now
    }
    return this.settle()
  }

  /** How often the provider has failed. */
  get failures() {
    return this.failing.reduce((count, left) => count - left, this.granted)
  }

  letFail(chunk, times) {
    this.granted += times - Atomics.exchange(this.failing, chunk, times)
  }

  bytes(at, length) {
    return bytesAt(at, Math.min(length, this.byteLength - at))
  }

  /** Chunks that must stay. */
  pinned() {
    const pinned = new Set(this.holds.flatMap(({ chunks }) => chunks))
    // With it, a copy of a page stays without its chunk.
    if (this.real.paging.userfaultfd) return pinned
    for (const { copies, start } of this.shown)
      for (const [page, { chunkWasHere }] of copies)
        if (chunkWasHere) pinned.add(Math.floor((start + page * PAGE) / CHUNK))
    return pinned
  }

  close() {
    this.closed = true
    this.real.close()
    for (const shown of this.shown.filter(({ kind }) => kind === 'view')) this.drop(shown)
  }

  drop(shown) {
    this.shown.splice(this.shown.indexOf(shown), 1)
    if (!shown.isMapped) this.viewFaults += shown.faults
  }

  /** All of it is let go. Its worker takes a moment to end. */
  async end() {
    this.real.close({ views: 'detach' })
    for (const { isMapped, real } of this.shown) if (isMapped) real.unmap()
    const late = performance.now() + LATE_MS
    while (countOpen(this.name) > 0 && performance.now() < late) await sleep(1)
  }
}

module.exports = { Paged, Shown, PAGE, CHUNK, CACHE_CHUNKS, BYTES, ZEROS }
