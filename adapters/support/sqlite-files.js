'use strict'

// What the VFS of adapters/sqlite.js opens: images of databases, whose bytes are a region's, and
// files in memory, such as journals. Knows nothing of SQLite but its levels of locks; addresses in
// its memory come with the array that shows the memory.

const fs = require('node:fs')

// A region is read by Buffers of this size, since one Buffer may not hold all of it: Node.js 20 has
// none above 4 GiB. Pages of databases never cross their borders.
const PART = 2 ** 30
const CHUNK = 65536
// The least page of any host: a fault makes zeros of whole ones.
const HOST_PAGE = 4096

// The levels of locks, as SQLite numbers them.
const NONE = 0
const SHARED = 1
const RESERVED = 2
const PENDING = 3
const EXCLUSIVE = 4

/** Bytes in memory that grow: what is not read from a region. */
class MemoryFile {
  size = 0
  #chunks = []

  /** Copies what is there from `offset` on. Returns how many bytes that were. */
  read(heap, address, length, offset) {
    const count = Math.max(0, Math.min(length, this.size - offset))
    for (let done = 0; done < count;) {
      const at = offset + done
      const within = at % CHUNK
      const step = Math.min(count - done, CHUNK - within)
      heap.set(this.#chunk(at).subarray(within, within + step), address + done)
      done += step
    }
    return count
  }

  write(bytes, offset) {
    // What is between has never been written, or was truncated and cleared: zeros.
    for (let done = 0; done < bytes.length;) {
      const at = offset + done
      const within = at % CHUNK
      const step = Math.min(bytes.length - done, CHUNK - within)
      this.#chunk(at).set(bytes.subarray(done, done + step), within)
      done += step
    }
    this.size = Math.max(this.size, offset + bytes.length)
  }

  truncate(size) {
    if (size >= this.size) return
    this.#chunks.length = Math.ceil(size / CHUNK)
    if (size % CHUNK !== 0) this.#chunks[(size - (size % CHUNK)) / CHUNK]?.fill(0, size % CHUNK)
    this.size = size
  }

  #chunk(offset) {
    const index = Math.floor(offset / CHUNK)
    return (this.#chunks[index] ??= new Uint8Array(CHUNK))
  }

  // Only one connection has a journal or a temporary file open for writing: it has the database's
  // lock. There is nothing more to lock.
  lock() {
    return true
  }

  unlock() {}

  isReserved() {
    return false
  }

  isMissing() {
    return false
  }
}

/**
 * The image of a database: a region's bytes, and behind them what it has grown by. Writes go to
 * copies of the pages that only this image sees.
 */
class Image {
  /** The name by which SQLite opens it. */
  filename
  isPrivate
  size
  /** How many files are open. */
  open = 0
  /** Whether it goes away once no file is open. */
  isReleased = false
  #region
  #buffers
  #arrayBuffers
  #baseLength
  #growth = new MemoryFile()
  // The file's descriptor, to learn whether it has become shorter; null for a memfd, which can't.
  #fd
  #fileSize
  #faults
  // Handles, by the lock that they hold. Several may share; one at most has `#writer`.
  #sharing = new Set()
  #writer = null
  #pending = null

  /** Takes over `fd`, null for a memfd, if all goes well. */
  constructor(region, filename, isPrivate, fd) {
    const access = isPrivate ? 'private' : 'readonly'
    const { byteLength } = region
    this.#buffers = []
    for (let byteOffset = 0; byteOffset < byteLength; byteOffset += PART) {
      const part = { byteOffset, byteLength: Math.min(PART, byteLength - byteOffset) }
      this.#buffers.push(region.bytes({ access, ...part }))
    }
    this.#arrayBuffers = this.#buffers.map(({ buffer }) => buffer)
    this.filename = filename
    this.isPrivate = isPrivate
    this.size = byteLength
    this.#baseLength = byteLength
    this.#region = region
    this.#faults = region.faults
    this.#fd = fd
    this.#fileSize = fd === null ? 0 : fs.fstatSync(fd).size
  }

  /** Copies what is there from `offset` on. Returns how many bytes that were. */
  read(heap, address, length, offset) {
    const within = offset % PART
    if (offset + length <= this.#baseLength && within + length <= PART && length > 0) {
      if (offset + length <= this.size) {
        const part = this.#arrayBuffers[(offset - within) / PART]
        heap.set(new Uint8Array(part, within, length), address)
        return length
      }
    }
    return this.#readPieces(heap, address, length, offset)
  }

  /** What is not one piece of one part: at the end, or across a border. */
  #readPieces(heap, address, length, offset) {
    const count = Math.max(0, Math.min(length, this.size - offset))
    for (let done = 0; done < count;) {
      const at = offset + done
      const step = this.#piece(at, count - done)
      if (at >= this.#baseLength)
        this.#growth.read(heap, address + done, step, at - this.#baseLength)
      else heap.set(this.#bytesAt(at, step), address + done)
      done += step
    }
    return count
  }

  write(bytes, offset) {
    // As in a file, what was never written between reads as zeros.
    if (offset > this.size) this.#clear(this.size, offset)
    for (let done = 0; done < bytes.length;) {
      const at = offset + done
      const step = this.#piece(at, bytes.length - done)
      const piece = bytes.subarray(done, done + step)
      if (at >= this.#baseLength) this.#growth.write(piece, at - this.#baseLength)
      else this.#bytesAt(at, step).set(piece)
      done += step
    }
    this.size = Math.max(this.size, offset + bytes.length)
  }

  truncate(size) {
    this.#growth.truncate(Math.max(0, size - this.#baseLength))
    this.size = Math.min(this.size, size)
  }

  #clear(from, to) {
    for (let at = from; at < Math.min(to, this.#baseLength);) {
      const step = this.#piece(at, to - at)
      this.#bytesAt(at, step).fill(0)
      at += step
    }
  }

  /** How many of `length` bytes from `offset` are in one part, or all behind the region. */
  #piece(offset, length) {
    if (offset >= this.#baseLength) return length
    return Math.min(length, PART - (offset % PART), this.#baseLength - offset)
  }

  #bytesAt(offset, length) {
    const within = offset % PART
    return new Uint8Array(this.#arrayBuffers[(offset - within) / PART], within, length)
  }

  /**
   * Whether what was just read may lack bytes, because the region's file has become shorter or its
   * pages could not be read. They are zeros then: from the start of a host page, or, in the file's
   * last page, to its end. Only reads with such zeros ask the kernel.
   */
  isMissing(heap, address, length, offset) {
    if (offset >= this.#baseLength || !mayLack(heap, address, length, offset)) return false
    if (this.#region.faults !== this.#faults) return true
    return this.#fd !== null && fs.fstatSync(this.#fd).size < this.#fileSize
  }

  /** Whether this handle may go up to that level. It may have been given a part of the way. */
  lock(handle, level) {
    if (level === SHARED) {
      if (this.#pending !== null && this.#pending !== handle) return false
      this.#sharing.add(handle)
      handle.level = SHARED
      return true
    }
    if (this.#writer !== null && this.#writer !== handle) return false
    this.#writer = handle
    handle.level = RESERVED
    if (level === RESERVED) return true
    // No new readers from here on. Those that are there finish first.
    this.#pending = handle
    handle.level = PENDING
    if (level === PENDING || this.#sharing.size > 1) return level === PENDING
    handle.level = EXCLUSIVE
    return true
  }

  unlock(handle, level) {
    if (level >= handle.level) return
    if (this.#writer === handle) this.#writer = null
    if (this.#pending === handle) this.#pending = null
    if (level === NONE) this.#sharing.delete(handle)
    handle.level = level
  }

  isReserved() {
    return this.#writer !== null
  }

  /** Gives the pages back. No file may be open. */
  close() {
    this.#buffers = this.#arrayBuffers = []
    this.#growth = new MemoryFile()
    if (this.#fd !== null) fs.closeSync(this.#fd)
    this.#fd = null
  }
}

function mayLack(heap, address, length, offset) {
  const end = address + length
  if (isZero(heap, Math.max(address, end - 4), end)) return true
  for (let at = address; at < end;) {
    if (isZero(heap, at, Math.min(at + 4, end))) return true
    at += HOST_PAGE - ((offset + at - address) % HOST_PAGE)
  }
  return false
}

function isZero(heap, from, to) {
  for (let at = from; at < to; at++) if (heap[at] !== 0) return false
  return true
}

module.exports = { MemoryFile, Image }
