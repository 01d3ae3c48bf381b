'use strict'

// The bytes of one mounted file: those of the region, without a copy, and behind them what the
// program wrote past the region's end. Reads, writes and changes of size; nothing here knows FS.
//
//   position   0                        base                usedBytes
//              | pieces: the region's    | tail: plain memory |
//
// `base` is where the region's part ends. It begins at the region's length and only falls: what a
// truncation cut off must read as zeros if the file grows again, so the tail takes over from there.

const { constants } = require('node:buffer')

/** Where one Buffer can't hold the region (Node.js 20, more than 4 GiB), pieces of this size do. */
const PIECE_BYTES = 2 ** 30

const PAGE_BYTES = 4096

/** After how many zeros at the end of a read the region is asked whether they are its bytes. */
const ZEROS_TO_ASK = 64

/** The smallest room for a tail, and up to which size it doubles. */
const SMALLEST_TAIL = 4096
const LARGEST_DOUBLING = 16 * 2 ** 20

class FileContents {
  #region
  #start
  #access
  #pieces
  #base
  #tail = new Uint8Array(0)
  #size
  /** One bit for each page of the region's part that was written; null before the first write. */
  #written = null
  /** The region's bytes, which written pages of a copy-on-write file can go back to. */
  #pristine
  #faults
  /** From here on the region's file has lost its bytes. */
  #lost = Infinity

  constructor(region, byteOffset, byteLength, access) {
    this.#region = region
    this.#start = byteOffset
    this.#access = access
    this.#base = this.#size = byteLength
    this.#faults = region.faults
    this.#pieces = []
    const pieceBytes = byteLength > constants.MAX_LENGTH ? PIECE_BYTES : Math.max(byteLength, 1)
    for (let at = 0; at === 0 || at < byteLength; at += pieceBytes) {
      const length = Math.min(pieceBytes, byteLength - at)
      const bytes = region.bytes({ access, byteOffset: byteOffset + at, byteLength: length })
      this.#pieces.push({
        buffer: bytes,
        // A Buffer's subarray makes Buffers, at twice the cost.
        array: new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      })
    }
    this.pieceBytes = pieceBytes
    // Now, since the region may be closed before somebody records the file.
    if (access === 'private') {
      this.#pristine = new FileContents(region, byteOffset, byteLength, 'readonly')
    }
  }

  get region() {
    return this.#region
  }
  /** The region's byte at position 0. */
  get start() {
    return this.#start
  }
  get access() {
    return this.#access
  }
  /** The size of the file. */
  get size() {
    return this.#size
  }
  /** How many of its leading bytes are the region's. */
  get base() {
    return this.#base
  }
  /** The Buffer over the region, or over its first piece. */
  get buffer() {
    return this.#pieces[0].buffer
  }

  /**
   * Copies from `position` on into `target` at `offset`. Returns how many bytes there were, or -1
   * if the file under the region has lost some of them.
   */
  read(target, offset, length, position) {
    if (position >= this.#size) return 0
    const end = Math.min(position + length, this.#size)
    const split = Math.min(end, this.#base)
    let at = position
    while (at < split) {
      const from = at % this.pieceBytes
      const upTo = Math.min(split - at + from, this.pieceBytes)
      target.set(this.#pieces[(at - from) / this.pieceBytes].array.subarray(from, upTo), offset)
      offset += upTo - from
      at += upTo - from
    }
    if (position < split && this.#hasLost(target, offset, position, split)) return -1
    if (at < end) target.set(this.#tail.subarray(at - this.#base, end - this.#base), offset)
    return end - position
  }

  /**
   * Whether what was read into `target`, up to `offset`, is of pages that the region's file has
   * lost: they read as zeros, which is no answer. Asking the region costs microseconds, so it is
   * asked only after zeros: a file loses its end, and a read that touched what it lost ends in
   * zeros.
   */
  #hasLost(target, offset, from, end) {
    if (this.#region.backing !== 'file') return false
    for (let at = offset - 1; at >= offset - Math.min(end - from, ZEROS_TO_ASK); at--) {
      if (target[at] !== 0) return false
    }
    if (this.#region.faults !== this.#faults) {
      this.#lost = Math.min(this.#lost, this.#firstLost(from))
      this.#faults = this.#region.faults
    }
    return end > this.#lost
  }

  /**
   * Where the bytes that the region's file has lost begin: Infinity if it has them all. A page that
   * somebody accessed is one of zeros by now, so the region is asked for others. Where it can't be,
   * since it is closed: `from`.
   */
  #firstLost(from) {
    if (this.#region.closed) return from
    const end = this.#start + this.#base
    let [first, last] = [Math.floor(this.#start / PAGE_BYTES), Math.ceil(end / PAGE_BYTES)]
    while (first < last) {
      const page = Math.floor((first + last) / 2)
      if (this.#isPageLost(page)) last = page
      else first = page + 1
    }
    if (first * PAGE_BYTES < end) return Math.max(0, first * PAGE_BYTES - this.#start)
    // The file has its length, and its disk failed.
    const at = this.#region.lastFault?.byteOffset ?? -1
    return at < this.#start ? Infinity : Math.max(0, at - (at % PAGE_BYTES) - this.#start)
  }

  #isPageLost(page) {
    try {
      this.#region.bytes({ access: 'readonly', byteOffset: page * PAGE_BYTES, byteLength: 1 })
      return false
    } catch (error) {
      if (error.code !== 'ERR_HOSTMAP_FILE_SHRUNK') throw error
      return true
    }
  }

  /** Whether the region's file has lost bytes of [position, position + length). */
  isLost(position, length) {
    const end = Math.min(position + length, this.#base)
    if (position >= end) return false
    const last = new Uint8Array(1)
    return this.read(last, 0, 1, end - 1) < 0
  }

  /** The same bytes as an array: without a copy if they are in one piece. */
  slice(position, length) {
    const end = Math.min(position + length, this.#size)
    if (position >= end) return new Uint8Array(0)
    const from = position % this.pieceBytes
    if (end <= this.#base && end - position + from <= this.pieceBytes) {
      const { array } = this.#pieces[(position - from) / this.pieceBytes]
      return array.subarray(from, from + end - position)
    }
    const copy = new Uint8Array(end - position)
    this.read(copy, 0, end - position, position)
    return copy
  }

  /** Writes bytes at `position`; the file grows if it must, by a RangeError if it can't. */
  write(bytes, position) {
    const end = position + bytes.length
    if (end > this.#size) this.resize(end)
    const split = Math.max(0, Math.min(end, this.#base) - position)
    this.#put(bytes.subarray(0, split), position)
    if (split > 0 && this.#access === 'private') this.#markWritten(position, position + split)
    if (split < bytes.length) {
      this.#tail.set(bytes.subarray(split), position + split - this.#base)
    }
  }

  /** Writes to the region's part. */
  #put(bytes, position) {
    for (let done = 0; done < bytes.length;) {
      const from = (position + done) % this.pieceBytes
      const count = Math.min(bytes.length - done, this.pieceBytes - from)
      const { array } = this.#pieces[(position + done - from) / this.pieceBytes]
      array.set(bytes.subarray(done, done + count), from)
      done += count
    }
  }

  /** Makes the file shorter, or longer by zeros. A shared one can't exceed its region. */
  resize(size) {
    if (this.#access === 'shared') {
      if (size > this.#base) {
        throw new RangeError(`a shared file can't exceed the ${this.#base} bytes of its region`)
      }
      // What a truncation cut off reads as zeros when the file grows again.
      if (size > this.#size) this.#zero(this.#size, size)
    } else if (size < this.#base) {
      this.#base = size
      this.#tail = new Uint8Array(0)
    } else {
      const length = size - this.#base
      if (size < this.#size) this.#tail.fill(0, length, this.#size - this.#base)
      else if (length > this.#tail.length) this.#growTail(length)
    }
    this.#size = size
  }

  /**
   * Records the bytes and the size, and returns a function that brings them back, at the cost of
   * what was written. What a shared file wrote is the region's, and stays.
   */
  record() {
    const { size } = this
    const base = this.#base
    const tail = this.#tail.slice(0, size - base)
    const written = this.#written?.slice() ?? null
    if (this.#access !== 'private') return () => this.#setSize(size, base, tail)
    const copies = new Map()
    this.eachWrittenPage(0, base, (at, end) => copies.set(at, this.slice(at, end - at).slice()))
    return () => {
      this.#setSize(size, base, tail)
      this.eachWrittenPage(0, base, (at, end) => {
        this.#put(copies.get(at) ?? this.#pristine.slice(at, end - at), at)
      })
      this.#written = written?.slice() ?? null
    }
  }

  #setSize(size, base, tail) {
    this.#base = base
    this.#tail = tail.slice()
    this.#size = size
  }

  #zero(from, end) {
    for (let at = from; at < end;) {
      const offset = at % this.pieceBytes
      const count = Math.min(end - at, this.pieceBytes - offset)
      this.#pieces[(at - offset) / this.pieceBytes].array.fill(0, offset, offset + count)
      at += count
    }
  }

  #growTail(length) {
    const had = this.#tail.length
    const more = had < LARGEST_DOUBLING ? 2 * had : Math.ceil(had * 1.125)
    const tail = new Uint8Array(Math.max(length, more, SMALLEST_TAIL))
    tail.set(this.#tail)
    this.#tail = tail
  }

  #markWritten(from, end) {
    const pages = Math.ceil((this.#pieces.length * this.pieceBytes) / PAGE_BYTES)
    this.#written ??= new Uint8Array(Math.ceil(pages / 8))
    const last = Math.floor((end - 1) / PAGE_BYTES)
    for (let page = Math.floor(from / PAGE_BYTES); page <= last; page++) {
      this.#written[page >> 3] |= 1 << (page & 7)
    }
  }

  /**
   * Calls `each` for the ranges of [from, end) that differ from the region: pages that were
   * written, and what is past `base`.
   */
  eachOwn(from, end, each) {
    this.eachWrittenPage(from, end, each)
    const own = Math.max(from, this.#base)
    const last = Math.min(end, this.#size)
    if (own < last) each(own, last)
  }

  /** Calls `each` for the parts of [from, end) in pages of the region's part that were written. */
  eachWrittenPage(from, end, each) {
    if (this.#written === null) return
    const upTo = Math.min(end, this.#base)
    for (let at = from - (from % PAGE_BYTES); at < upTo; at += PAGE_BYTES) {
      const page = at / PAGE_BYTES
      // Most bytes of the map are 0: eight pages at once.
      if ((page & 7) === 0 && this.#written[page >> 3] === 0) at += 7 * PAGE_BYTES
      else if ((this.#written[page >> 3] >> (page & 7)) & 1) {
        each(Math.max(from, at), Math.min(at + PAGE_BYTES, upTo))
      }
    }
  }
}

module.exports = { FileContents, PAGE_BYTES }
