'use strict'

// The model: the contents of files, regions, views and memories, page by page, in plain JavaScript.
// It never calls the library. The steps tell it what was done, and world.js compares the two.
//
//   Backing   a file or memfd: bytes, and the windows that show them
//   Window    pages of a backing that are mapped somewhere: a mapping in a memory, or a view
//   AdoptedPages  the pages of an adopted buffer
//   Sliding   a window that shows one part after another: what the library calls a window
//   Memory    its own pages, with windows in place of some

const WASM_PAGE = 65536

/** What a page of a window shows. */
const FILE = 0 // the backing's page, or nothing, if the file ends before it
const COPY = 1 // a private copy of it
const ZEROS = 2 // what was put there when the file's page was missing
const REST = 3 // zeros, or nothing, where a sliding window shows nothing

/**
 * Pages of a window that lose their protection one by one; the next so many times a block does,
 * then one of twice the size.
 */
const STRAY_PAGES = 32
const FIRST_BLOCK_PAGES = 16

const roundUp = (bytes, unit) => Math.ceil(bytes / unit) * unit

class Backing {
  /**
   * Past `size`, the rest of the last page. The kernel keeps what a shared mapping of a memfd
   * writes there.
   */
  #bytes
  windows = new Set()
  sealed = false
  /** Whether somebody whom the model has lost sight of may still have it mapped for writing. */
  maybeInUse = false

  constructor(page, size, { memfd, inode }) {
    this.page = page
    this.size = size
    this.memfd = memfd
    this.inode = inode
    this.#bytes = Buffer.alloc(roundUp(size, page))
  }

  get bytes() {
    return this.#bytes
  }

  isPresent(offset) {
    return offset < this.size
  }

  /** What `write` on a descriptor does: a file gets longer where that is needed. */
  write(at, bytes) {
    if (at + bytes.length > this.size) this.resize(at + bytes.length)
    bytes.copy(this.#bytes, at)
  }

  resize(size) {
    if (size < this.size) {
      this.#bytes.fill(0, size)
      // Private copies of pages past the new end go as well: the kernel unmaps them.
      for (const window of this.windows) window.loseCopiesFrom(roundUp(size, this.page))
    }
    const length = roundUp(size, this.page)
    if (length > this.#bytes.length) {
      const longer = Buffer.alloc(length)
      this.#bytes.copy(longer)
      this.#bytes = longer
    }
    this.size = size
  }
}

/** What a mapping, or a region for all of its views, is to have counted. */
class Tally {
  strayWrites = 0
  faults = 0
  /** Of the faults those that somebody has taken note of. */
  acknowledged = 0
  /**
   * Faults of the step that is run now: any of them may be the last one, by what the model knows.
   */
  happened = []

  get isFaulted() {
    return this.faults > this.acknowledged
  }

  /** Gives how many there were. */
  acknowledge() {
    const count = this.faults - this.acknowledged
    this.acknowledged = this.faults
    return count
  }
}

class Window {
  #copies = null
  #strayPages = 0

  /** @param sharing 'shared', 'private', or 'readonly': then a write is a stray one */
  constructor(backing, offset, byteLength, sharing, tally) {
    this.backing = backing
    this.offset = offset
    this.sharing = sharing
    this.tally = tally
    this.page = backing.page
    this.pages = Math.ceil(byteLength / this.page)
    this.byteLength = byteLength
    this.state = new Uint8Array(this.pages)
    // Read-only pages that may be written at this moment, without anybody being told.
    this.bare = new Uint8Array(this.pages)
    // Whether a stray write left pages unprotected since they were last protected.
    this.wasStray = false
    // What the process was to be warned of: once, whatever comes after.
    this.warnings = new Set()
    backing.windows.add(this)
  }

  remove() {
    this.backing.windows.delete(this)
  }

  get length() {
    return this.pages * this.page
  }

  isMissing(index) {
    return this.state[index] === FILE && !this.backing.isPresent(this.offset + index * this.page)
  }

  /** Whether a read gets no bytes. */
  isUnreadable(index) {
    return this.isMissing(index)
  }

  isProtected(index) {
    return this.sharing === 'readonly' && this.bare[index] === 0
  }

  /**
   * How many pages lose their protection one by one; then blocks do, and the order of the writes
   * shows in the count.
   */
  get strayPagesLeft() {
    return Math.max(0, STRAY_PAGES - this.#strayPages)
  }

  loseProtection() {
    if (this.sharing === 'readonly') this.bare.fill(1)
  }

  protect() {
    this.bare.fill(0)
    if (this.wasStray) this.#strayPages = 0
    this.wasStray = false
  }

  forgetStrays() {
    this.#strayPages = 0
  }

  /** A view is mapped anew, when its region is sealed or could not be. */
  turn(sharing) {
    this.sharing = sharing
    this.state.fill(FILE)
    this.protect()
  }

  loseCopiesFrom(fileOffset) {
    const first = Math.max(0, Math.ceil((fileOffset - this.offset) / this.page))
    for (let index = first; index < this.pages; index++) {
      if (this.state[index] === COPY) this.state[index] = FILE
    }
  }

  /** The buffer and offset in it that hold what is at a page. */
  bytesOf(index) {
    const at = index * this.page
    return this.state[index] === FILE ? [this.backing.bytes, this.offset + at] : [this.#copies, at]
  }

  /** Zeros that can be written. */
  blank(index) {
    this.#copies ??= Buffer.alloc(this.length)
    this.#copies.fill(0, index * this.page, (index + 1) * this.page)
  }

  #keep(index, state, bytes) {
    this.#copies ??= Buffer.alloc(this.length)
    const at = index * this.page
    if (bytes)
      this.backing.bytes.copy(this.#copies, at, this.offset + at, this.offset + at + this.page)
    else this.#copies.fill(0, at, at + this.page)
    this.state[index] = state
  }

  // The block that holds the page, where it looks the same to the kernel: protected, and of the
  // file or of zeros.
  #layBare(index) {
    const doublings = Math.floor(this.#strayPages++ / STRAY_PAGES)
    const block = doublings === 0 ? 1 : FIRST_BLOCK_PAGES << (doublings - 1)
    const lowest = index - (index % block)
    const isZeros = i => this.state[i] === ZEROS || this.state[i] === REST
    const isAlike = i => this.bare[i] === 0 && isZeros(i) === isZeros(index)
    let start = index
    while (start > lowest && isAlike(start - 1)) start--
    let end = index + 1
    while (end < Math.min(lowest + block, this.pages) && isAlike(end)) end++
    this.bare.fill(1, start, end)
  }

  /**
   * An access that V8 can't turn into a trap: it always gets a page that it may have. `first` and
   * `last` are the bytes of the page that are accessed, `either` says that it may be a read or a
   * write first.
   */
  touch({ index, first, last, write, either }) {
    if (write && this.isProtected(index)) {
      this.tally.strayWrites++
      this.wasStray = true
      this.warnings.add('HOSTMAP_STRAY_WRITE')
      this.note({ index, first, last, write, cause: 'readonly', outcome: 'private-page' })
      this.#layBare(index)
    }
    if (this.isMissing(index)) {
      this.tally.faults++
      this.note({ index, first, last, write, either, cause: 'missing', outcome: 'zeros' })
      this.warnings.add('HOSTMAP_MISSING_PAGE')
      this.#keep(index, ZEROS, false)
    }
    if (write && this.sharing !== 'shared' && this.state[index] === FILE)
      this.#keep(index, COPY, true)
  }

  /** Whether an access that V8 can trap is one. */
  trap({ index, first, last, write }) {
    if (write && this.isProtected(index)) {
      this.note({ index, first, last, write, cause: 'readonly', outcome: 'trap' })
      return true
    }
    if (this.isMissing(index)) {
      this.tally.faults++
      this.note({ index, first, last, write, cause: 'missing', outcome: 'trap' })
      return true
    }
    return false
  }

  note({ index, first, last, ...fault }) {
    const at = index * this.page
    const { backing, offset, shownRegion } = this
    const shown = { window: this, backing, offset, shownRegion }
    this.tally.happened.push({ ...shown, first: at + first, last: at + last, ...fault })
  }

  /**
   * Whether a write would land in the part of a file's last page that is not the file's: the kernel
   * promises nothing.
   */
  writesPastEnd(index, last) {
    if (this.sharing !== 'shared' || this.backing.memfd || this.state[index] !== FILE) return false
    const at = this.offset + index * this.page
    return this.backing.isPresent(at) && at + last >= this.backing.size
  }
}

/** The pages of an adopted buffer: the memory's own, which can always be read and written. */
class AdoptedPages extends Window {
  isAdopted = true

  constructor(page, skew, bytes) {
    const length = roundUp(skew + bytes.length, page)
    const backing = new Backing(page, length, { memfd: true, inode: 0 })
    backing.write(skew, bytes)
    super(backing, 0, length, 'shared', new Tally())
  }
}

const PAST_END = { cause: 'past-end', outcome: 'zeros' }

/** Stands for the backing of a window that shows nothing. */
const nothing = page => ({
  page,
  size: 0,
  bytes: null,
  memfd: false,
  inode: 0,
  isPresent: () => true,
  windows: new Set()
})

/**
 * What the library calls a window: it shows one part of a region after the other, and behind it its
 * rest.
 */
class Sliding extends Window {
  /** How many pages show a region. */
  shownPages = 0

  /** @param most what a slide may ask for at most; @param rest 'trap' or 'zeros' */
  constructor(page, byteLength, most, rest, tally) {
    super(nothing(page), 0, byteLength, most, tally)
    this.most = most
    this.rest = rest
    this.shownRegion = null
    this.layRest(0)
  }

  get restIsWritable() {
    return this.rest === 'zeros' && this.most !== 'readonly'
  }

  /** What was written to the rest is forgotten. */
  layRest(shownPages) {
    for (let index = shownPages; index < this.pages; index++) {
      this.state[index] = REST
      this.bare[index] = 0
      this.blank(index)
    }
    this.shownPages = shownPages
  }

  /** @param region the model's, or null; `offset` in its file */
  slide({
    region,
    backing = nothing(this.page),
    offset = 0,
    shownPages = 0,
    sharing = this.sharing
  }) {
    // Nobody can have written to a rest that is protected, by what the library knows.
    if (shownPages < this.shownPages || this.restIsWritable) {
      this.layRest(Math.min(shownPages, this.shownPages))
    }
    this.backing.windows.delete(this)
    backing.windows.add(this)
    Object.assign(this, { backing, offset, sharing, shownPages, shownRegion: region })
    this.state.fill(FILE, 0, shownPages)
    this.bare.fill(0, 0, shownPages)
    this.forgetStrays()
  }

  /** Whether nothing can be done there. */
  isHidden(index) {
    return this.state[index] === REST && this.rest === 'trap' && this.bare[index] === 0
  }

  isUnreadable(index) {
    return super.isUnreadable(index) || this.isHidden(index)
  }

  isProtected(index) {
    if (this.state[index] !== REST) return super.isProtected(index)
    return this.rest === 'zeros' && this.most === 'readonly' && this.bare[index] === 0
  }

  loseProtection() {
    for (let index = 0; index < this.pages; index++) {
      const isWritable =
        this.state[index] === REST ? this.restIsWritable : this.sharing !== 'readonly'
      if (!isWritable) this.bare[index] = 1
    }
  }

  protect() {
    for (let index = this.shownPages; index < this.pages; index++) {
      if (this.bare[index] === 1) this.blank(index)
    }
    super.protect()
  }

  touch(part) {
    if (this.isHidden(part.index)) {
      this.tally.faults++
      this.note({ ...part, ...PAST_END })
      this.warnings.add('HOSTMAP_PAST_END')
      this.wasStray = true
      // All of it, since a loop does not stop after a page.
      this.bare.fill(1, this.shownPages)
    }
    super.touch(part)
  }

  trap(part) {
    if (!this.isHidden(part.index)) return super.trap(part)
    this.tally.faults++
    this.note({ ...part, cause: 'past-end', outcome: 'trap' })
    return true
  }
}

/** A view: a window that JavaScript sees from some byte on. */
class View {
  constructor(backing, fileOffset, byteLength, sharing, tally) {
    const start = Math.floor(fileOffset / backing.page) * backing.page
    this.skew = fileOffset - start
    this.byteLength = byteLength
    this.window = new Window(backing, start, byteLength + this.skew, sharing, tally)
  }

  *parts(at, length) {
    yield* partsOf(this.window, at + this.skew, length)
  }
}

/** The pages of a window that a range of it touches: `{ window, index, first, last }`. */
function* partsOf(window, at, length) {
  const { page } = window
  for (let rest = length, from = at; rest > 0;) {
    const first = from % page
    const count = Math.min(rest, page - first)
    yield { window, index: Math.floor(from / page), first, last: first + count - 1 }
    from += count
    rest -= count
  }
}

class Memory {
  /** In order of address: `{ start, end, window, ... }`. */
  mappings = []
  /** Faults of what was unmapped since, that nobody has taken note of. */
  unseenFaults = 0
  #own = Buffer.alloc(0)
  /** By host page: whether it is ours to map in without being asked where. */
  #free = []

  constructor(page, { wasmPages, maximum }) {
    this.page = page
    this.maximum = maximum
    this.byteLength = 0
    this.grow(wasmPages)
  }

  get wasmPages() {
    return this.byteLength / WASM_PAGE
  }

  get own() {
    return this.#own
  }

  grow(wasmPages) {
    const own = Buffer.alloc(this.byteLength + wasmPages * WASM_PAGE)
    this.#own.copy(own)
    this.#own = own
    this.byteLength = own.length
  }

  /** What V8 does when a memory grows: all of it becomes writable. */
  loseProtection() {
    for (const { window } of this.mappings) window.loseProtection()
  }

  /**
   * What a call into the library does: it protects what was unprotected, since it asks the kernel.
   *
   * @param known the memory's size, as the library knows it. It does not see what is
   *   beyond
   */
  protect(known = this.byteLength) {
    for (const { window, end } of this.mappings) if (end <= known) window.protect()
  }

  mappingAt(address) {
    return this.mappings.find(({ start, end }) => start <= address && address < end)
  }

  overlaps(start, end) {
    return this.mappings.some(mapping => mapping.start < end && start < mapping.end)
  }

  // The free space.

  addFree(start, end) {
    for (let at = start; at < end; at += this.page) {
      if (!this.mappingAt(at)) this.#free[at / this.page] = true
    }
  }

  isFree(start, end) {
    for (let at = start; at < end; at += this.page) if (!this.#free[at / this.page]) return false
    return true
  }

  forgetFree() {
    this.#free = []
  }

  /** The longest run of free pages, in bytes. */
  longestFree() {
    let longest = 0
    let run = 0
    for (let i = 0; i < this.#free.length; i++) {
      run = this.#free[i] ? run + this.page : 0
      longest = Math.max(longest, run)
    }
    return longest
  }

  map(mapping) {
    mapping.fromFree = this.isFree(mapping.start, mapping.end)
    for (let at = mapping.start; at < mapping.end; at += this.page)
      this.#free[at / this.page] = false
    this.mappings.push(mapping)
    this.mappings.sort((a, b) => a.start - b.start)
  }

  unmap(mapping) {
    this.mappings.splice(this.mappings.indexOf(mapping), 1)
    mapping.window.remove()
    this.unseenFaults += mapping.tally.acknowledge()
    this.#own.fill(0, mapping.start, mapping.end)
    if (mapping.fromFree) this.addFree(mapping.start, mapping.end)
  }

  /** The pages of windows that a range touches. Pages of its own are no concern of anybody's. */
  *parts(at, length) {
    for (const { start, end, window } of this.mappings) {
      const from = Math.max(at, start)
      const to = Math.min(at + length, end)
      if (from < to) yield* partsOf(window, from - start, to - from)
    }
  }

  /** Runs of bytes that are together in one buffer: `visit(buffer, offset, address, length)`. */
  eachRun(at, length, visit) {
    const end = at + length
    for (const mapping of this.mappings) {
      if (mapping.end <= at) continue
      if (mapping.start >= end) break
      if (at < mapping.start) visit(this.#own, at, at, mapping.start - at)
      at = Math.max(at, mapping.start)
      const to = Math.min(end, mapping.end)
      eachRunOf(mapping.window, at - mapping.start, to - at, (buffer, offset, skew, count) =>
        visit(buffer, offset, mapping.start + skew, count)
      )
      at = to
    }
    if (at < end) visit(this.#own, at, at, end - at)
  }

  read(at, length) {
    const bytes = Buffer.alloc(length)
    this.eachRun(at, length, (buffer, offset, address, count) => {
      buffer.copy(bytes, address - at, offset, offset + count)
    })
    return bytes
  }

  /** Where pages were touched before, so that each has a place for the bytes. */
  write(at, bytes) {
    this.eachRun(at, bytes.length, (buffer, offset, address, count) => {
      bytes.copy(buffer, offset, address - at, address - at + count)
    })
  }
}

/**
 * The same for a range of a window. A page that can't be read has no bytes: `visit` is not called
 * for it.
 */
function eachRunOf(window, at, length, visit) {
  const { page } = window
  const end = at + length
  while (at < end) {
    const index = Math.floor(at / page)
    const state = window.state[index]
    const missing = window.isUnreadable(index)
    let to = (index + 1) * page
    // Pages that are together in one buffer are one run.
    for (let next = index + 1; to < end; next++, to += page) {
      if (window.state[next] !== state && (window.state[next] === FILE || state === FILE)) break
      if (window.isUnreadable(next) !== missing) break
    }
    to = Math.min(to, end)
    if (!missing) {
      const [buffer, offset] = window.bytesOf(index)
      visit(buffer, offset + (at % page), at, to - at)
    }
    at = to
  }
}

function readView(view, at, length) {
  const bytes = Buffer.alloc(length)
  eachRunOf(view.window, at + view.skew, length, (buffer, offset, skew, count) => {
    buffer.copy(bytes, skew - view.skew - at, offset, offset + count)
  })
  return bytes
}

function writeView(view, at, bytes) {
  eachRunOf(view.window, at + view.skew, bytes.length, (buffer, offset, skew, count) => {
    const from = skew - view.skew - at
    bytes.copy(buffer, offset, from, from + count)
  })
}

module.exports = {
  WASM_PAGE,
  FILE,
  ZEROS,
  REST,
  PAST_END,
  roundUp,
  Backing,
  Tally,
  Window,
  Sliding,
  AdoptedPages,
  View,
  Memory,
  eachRunOf,
  readView,
  writeView
}
