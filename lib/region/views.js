'use strict'

// What JavaScript sees of a region: the ArrayBuffers of `view` and the Buffers of `bytes`, who
// holds them, and what V8 counts. Arguments were checked before. Nothing here holds a region: what
// outlives it must not keep its descriptor open.

const native = require('../platform/binding.js')
const { callNative } = require('../support/errors.js')
const { ExternalMemory } = require('../platform/external-memory.js')

// Taken now, like those of intrinsics.js.
const { from: bufferOver, alloc: newBuffer } = Buffer

// ArrayBuffers that were ever given: they look like much, but are no memories. What each shows:
// the native part of which region, and from which byte on.
const given = new WeakMap()

// What a buffer showed counts as the region's again when the buffer is gone.
const recount = new FinalizationRegistry(({ memory, views, byteLength }) => {
  const living = views.deref()
  // The region may have been collected and never closed.
  if (living === undefined) memory.close()
  memory.unshow(byteLength)
  living?.recount()
})

/** ArrayBuffers that somebody may hold. Weak: a buffer keeps its pages, the region no buffer. */
class Buffers {
  #refs = new Set()
  #atPrune = 64

  add(buffer) {
    if (this.#refs.size >= this.#atPrune) this.#prune()
    this.#refs.add(new WeakRef(buffer))
  }

  detach() {
    for (const ref of this.#refs) {
      const buffer = ref.deref()
      if (buffer !== undefined) callNative(() => native.detach(buffer))
    }
    this.#refs.clear()
  }

  #prune() {
    for (const ref of this.#refs) if (ref.deref() === undefined) this.#refs.delete(ref)
    this.#atPrune = Math.max(64, this.#refs.size * 2)
  }
}

/**
 * The memory that a region brought into the process, without what buffers show: V8 counts those by
 * itself. It stays until the region is closed and no buffer shows it any more.
 */
class RegionMemory {
  #external = new ExternalMemory()
  #byteLength
  // Pages come when they are first written, so this is brought up to date now and then.
  #heldBytes = 0
  // Each buffer counted whole, as V8 does.
  #shownBytes = 0
  #buffers = 0
  #closed = false

  constructor(byteLength) {
    this.#byteLength = byteLength
  }

  holds(bytes) {
    this.#heldBytes = bytes
    this.#count()
  }

  show(byteLength) {
    this.#buffers++
    this.#shownBytes += byteLength
  }

  unshow(byteLength) {
    this.#buffers--
    this.#shownBytes -= byteLength
    this.#count()
  }

  close() {
    this.#closed = true
    this.#count()
  }

  #count() {
    if (this.#closed && this.#buffers === 0) return this.#external.drop()
    const unseen = Math.max(0, this.#heldBytes - this.#shownBytes)
    this.#external.set(Math.min(unseen, this.#byteLength))
  }
}

class Views {
  #native
  // What `view` gave, and what `bytes` gave.
  #views = new Buffers()
  #buffers = new Buffers()
  #memory
  #onAdded
  #closed = false

  /**
   * `counted`: whether the bytes are memory that the region brought into the process. `onAdded` is
   * called after each new one, or null.
   */
  constructor(owner, byteLength, counted, onAdded) {
    this.#native = owner
    this.#onAdded = onAdded
    this.#memory = counted ? new RegionMemory(byteLength) : undefined
    this.recount()
  }

  view(byteOffset, byteLength) {
    const buffer = callNative(() => this.#native.view(byteOffset, byteLength))
    this.#add(this.#views, buffer, byteOffset, byteLength)
    return buffer
  }

  /** `access` by number. */
  bytes(byteOffset, byteLength, access) {
    const buffer = callNative(() => this.#native.bytes(byteOffset, byteLength, access))
    // No byte, no page: an empty Buffer holds nothing.
    if (buffer === null) return newBuffer(0)
    this.#add(this.#buffers, buffer, byteOffset, byteLength)
    return bufferOver(buffer)
  }

  /** What is written to a memfd adds to what it holds. */
  recount() {
    if (this.#memory === undefined || this.#closed) return
    this.#memory.holds(this.#native.heldBytes)
  }

  /** Takes the pages from the buffers: of all, or of those of `view`. */
  release(all) {
    this.#views.detach()
    if (all) this.#buffers.detach()
    callNative(() => this.#native.releaseViews(all))
  }

  /** The region is closed. */
  close() {
    this.#closed = true
    this.#memory?.close()
  }

  #add(buffers, buffer, byteOffset, byteLength) {
    buffers.add(buffer)
    given.set(buffer, { native: new WeakRef(this.#native), byteOffset })
    this.#onAdded?.()
    if (this.#memory === undefined) return
    this.#memory.show(byteLength)
    recount.register(buffer, { memory: this.#memory, views: new WeakRef(this), byteLength })
    this.recount()
  }
}

module.exports = {
  Views,
  isView: buffer => given.has(buffer),
  placeOfView: buffer => given.get(buffer)
}
