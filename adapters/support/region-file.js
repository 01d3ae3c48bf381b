'use strict'

// A file whose contents are a region, for engines that read and write by position. It is of any
// size on every Node.js: the region is seen through Buffers of at most 1 GiB, and what is written
// past its end is kept here. Knows no engine.

const { makeError } = require('./errors.js')

// Node.js 20 has no Buffer of more than 4 GiB.
const PART_BYTES = 2 ** 30
const CHUNK_BYTES = 2 ** 20

class RegionFile {
  #region
  #parts = []
  // Up to here the bytes are the region's.
  #limit
  // Behind it, by number of chunk; a missing one is zeros.
  #tail = new Map()

  /** `region` is null for a file that begins empty. */
  constructor(region, access) {
    this.#region = region
    this.#limit = region?.byteLength ?? 0
    this.access = access
    this.byteLength = this.#limit
    // All Buffers now: the region may be closed before the engine comes to the last of them.
    for (let start = 0; start < this.#limit; start += PART_BYTES) {
      const byteLength = Math.min(PART_BYTES, this.#limit - start)
      this.#parts.push(region.bytes({ access, byteOffset: start, byteLength }))
    }
  }

  get writable() {
    return this.access !== 'readonly'
  }

  /** The bytes at `position`, as many of `count` as are in one piece; undefined for zeros. */
  #piece(position, count) {
    if (position < this.#limit) {
      const start = position % PART_BYTES
      const part = this.#parts[(position - start) / PART_BYTES]
      const end = Math.min(start + count, part.length, start + this.#limit - position)
      return { bytes: part.subarray(start, end), length: end - start }
    }
    const start = (position - this.#limit) % CHUNK_BYTES
    const index = (position - this.#limit - start) / CHUNK_BYTES
    const length = Math.min(count, CHUNK_BYTES - start)
    return { bytes: this.#tail.get(index)?.subarray(start, start + length), length, start, index }
  }

  /**
   * Copies bytes from `position` on to `target` and returns how many there were. Throws
   * ERR_HOSTMAP_FAULTED if the region's file has lost them.
   */
  read(target, position) {
    const count = Math.max(0, Math.min(target.length, this.byteLength - position))
    for (let done = 0; done < count;) {
      const { bytes, length } = this.#piece(position + done, count - done)
      if (bytes === undefined) target.fill(0, done, done + length)
      else target.set(bytes, done)
      done += length
    }
    this.#region?.checkFaults()
    return count
  }

  /** Writes all of `source`. The file grows as needed, with zeros in a gap. */
  write(source, position) {
    if (!this.writable) throw makeError('ERR_HOSTMAP_REGION_READONLY', 'The file is read-only')
    for (let done = 0; done < source.length;) {
      const piece = this.#piece(position + done, source.length - done)
      let { bytes } = piece
      if (bytes === undefined) {
        const chunk = Buffer.alloc(CHUNK_BYTES)
        this.#tail.set(piece.index, chunk)
        bytes = chunk.subarray(piece.start, piece.start + piece.length)
      }
      bytes.set(source.subarray(done, done + piece.length))
      done += piece.length
    }
    this.byteLength = Math.max(this.byteLength, position + source.length)
  }

  /** Cuts the file off, or makes it longer with zeros. */
  truncate(byteLength) {
    if (!this.writable) throw makeError('ERR_HOSTMAP_REGION_READONLY', 'The file is read-only')
    if (byteLength < this.#limit) {
      // What follows is not the region's any more, even if the file grows again.
      this.#limit = byteLength
      this.#tail.clear()
    } else if (byteLength < this.byteLength) {
      const start = byteLength - this.#limit
      for (const [index, chunk] of this.#tail) {
        if (index * CHUNK_BYTES >= start) this.#tail.delete(index)
        else chunk.fill(0, Math.min(CHUNK_BYTES, start - index * CHUNK_BYTES))
      }
    }
    this.byteLength = byteLength
  }
}

module.exports = { RegionFile }
