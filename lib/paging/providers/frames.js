'use strict'

// Bytes in a file of frames that were packed each by itself: zstd's seekable format, which any
// zstd unpacks as a whole, or frames of deflate in the same order. `npx wasm-hostmap chunks` writes
// both.
//
//   head (deflate only)   frame 0   frame 1   ..   table of lengths   footer
//
// Head and table are skippable frames of zstd: magic, length, content. The table has the packed and
// the unpacked length of each frame, and the footer their number and a magic of its own.
//
// All of it is done by synchronous calls: the worker has nothing else to do, and libuv's threads
// may all stand still in touches that wait for this.

const fs = require('node:fs')
const zlib = require('node:zlib')
const { failure, providerFailed, sourceChanged, textOf } = require('../failure.js')

const SKIPPABLE = 0x184d2a5e
const HEAD_SKIPPABLE = 0x184d2a50
const HEAD_TEXT = 'wasm-hostmap deflate 1\0\0'
const SEEKABLE = 0x8f92eab1
const SKIPPABLE_BYTES = 8
const FOOTER_BYTES = 9
const HAS_CHECKSUMS = 0x80
const RESERVED = 0x7c
const MOST_FRAMES = 0x8000000
const MOST_FRAME_BYTES = 2 ** 30
const MOST_TABLE_BYTES = 2 ** 30
// As large as any host page.
const CHUNK_UNIT_BYTES = 64 * 2 ** 10
const DEFAULT_CHUNK_BYTES = 256 * 2 ** 10
const MOST_DEFAULT_BYTES = 16 * 2 ** 20

const wrong = (path, what) => providerFailed(`${path} is no file of frames: ${what}`)

function readFully(fd, length, position, path) {
  const bytes = Buffer.allocUnsafeSlow(length)
  for (let at = 0; at < length;) {
    const count = fs.readSync(fd, bytes, at, length - at, position + at)
    if (count === 0) throw sourceChanged(`${path} has become shorter since it was opened`)
    at += count
  }
  return bytes
}

/** Which version a file is. */
const versionOf = ({ dev, ino, size, mtimeNs }) => `${dev}:${ino}:${size}:${mtimeNs}`

function open({ frames: path }) {
  let fd
  try {
    // A FIFO that nobody writes to must not be waited for.
    fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK)
  } catch (error) {
    throw failure('ERR_HOSTMAP_OPEN_FAILED', `can't open ${path}: ${textOf(error)}`, {
      errno: error.errno,
      syscall: error.syscall
    })
  }
  try {
    return new FramesProvider(fd, path)
  } catch (error) {
    fs.closeSync(fd)
    throw error
  }
}

class FramesProvider {
  #fd
  #path
  #version
  #unpack
  // Where each frame begins, packed and unpacked; one more entry for the end.
  #packedAt
  #at
  // The last frame that was unpacked: neighbouring chunks may be parts of it.
  #frame = { index: -1, bytes: undefined }

  constructor(fd, path) {
    this.#fd = fd
    this.#path = path
    const stat = fs.fstatSync(fd, { bigint: true })
    if (!stat.isFile()) throw wrong(path, 'it is no file')
    this.#version = versionOf(stat)
    const size = Number(stat.size)
    this.#readTable(size)
    this.#findCodec()
  }

  get byteLength() {
    return this.#at[this.#at.length - 1]
  }

  get identity() {
    return ['frames', this.#path, this.#version]
  }

  /** A frame is unpacked as a whole, so that is what a chunk should be. */
  get defaultChunkBytes() {
    const frameBytes = this.#at[1]
    const isGood = frameBytes % CHUNK_UNIT_BYTES === 0 && frameBytes <= MOST_DEFAULT_BYTES
    return isGood ? frameBytes : DEFAULT_CHUNK_BYTES
  }

  /** One chunk at a time: nothing is saved by more, and touches would wait for it. */
  get mostBytes() {
    return 0
  }

  read(byteOffset, byteLength, sink) {
    const end = byteOffset + byteLength
    for (let at = byteOffset; at < end;) {
      const index = this.#frameOf(at)
      const bytes = this.#unpacked(index)
      const from = at - this.#at[index]
      const count = Math.min(bytes.length - from, end - at)
      sink.write(bytes.subarray(from, from + count))
      at += count
    }
  }

  close() {
    fs.closeSync(this.#fd)
  }

  #readTable(size) {
    const path = this.#path
    if (size < SKIPPABLE_BYTES + FOOTER_BYTES) throw wrong(path, `it has ${size} bytes`)
    const footer = readFully(this.#fd, FOOTER_BYTES, size - FOOTER_BYTES, path)
    if (footer.readUInt32LE(5) !== SEEKABLE) {
      throw wrong(path, 'it does not end as one; `npx wasm-hostmap chunks` makes one')
    }
    const count = footer.readUInt32LE(0)
    const flags = footer[4]
    if (count === 0 || count > MOST_FRAMES || (flags & RESERVED) !== 0) {
      throw wrong(path, `its table has ${count} frames and the flags ${flags}`)
    }
    const entryBytes = flags & HAS_CHECKSUMS ? 12 : 8
    const tableBytes = count * entryBytes
    const tableAt = size - FOOTER_BYTES - tableBytes - SKIPPABLE_BYTES
    if (tableAt < 0 || tableBytes > MOST_TABLE_BYTES) {
      throw wrong(path, `its table of ${count} frames is longer than the file`)
    }
    const table = readFully(this.#fd, SKIPPABLE_BYTES + tableBytes, tableAt, path)
    if (
      table.readUInt32LE(0) !== SKIPPABLE ||
      table.readUInt32LE(4) !== tableBytes + FOOTER_BYTES
    ) {
      throw wrong(path, 'its table does not begin where it should')
    }
    this.#packedAt = new Float64Array(count + 1)
    this.#at = new Float64Array(count + 1)
    let packed = 0
    let unpacked = 0
    let frames = 0
    for (let i = 0; i < count; i++) {
      const entry = SKIPPABLE_BYTES + i * entryBytes
      const packedBytes = table.readUInt32LE(entry)
      const bytes = table.readUInt32LE(entry + 4)
      if (bytes > MOST_FRAME_BYTES) {
        throw wrong(path, `frame ${i} has ${bytes} bytes, and at most ${MOST_FRAME_BYTES} are read`)
      }
      packed += packedBytes
      // An empty one, such as our head, holds no byte that could be asked for.
      if (bytes === 0) {
        this.#packedAt[frames] = packed
        continue
      }
      unpacked += bytes
      frames++
      this.#packedAt[frames] = packed
      this.#at[frames] = unpacked
    }
    if (packed !== tableAt) throw wrong(path, `its frames have ${packed} bytes of ${tableAt}`)
    if (unpacked === 0) throw wrong(path, 'it has no bytes')
    this.#packedAt = this.#packedAt.subarray(0, frames + 1)
    this.#at = this.#at.subarray(0, frames + 1)
  }

  #findCodec() {
    const headBytes = SKIPPABLE_BYTES + HEAD_TEXT.length
    const start = readFully(this.#fd, Math.min(headBytes, this.#packedAt[1]), 0, this.#path)
    const isDeflate =
      start.length === headBytes &&
      start.readUInt32LE(0) === HEAD_SKIPPABLE &&
      start.toString('latin1', SKIPPABLE_BYTES) === HEAD_TEXT
    this.#unpack = isDeflate ? zlib.inflateSync : zlib.zstdDecompressSync
    if (this.#unpack === undefined) {
      throw providerFailed(
        `${this.#path} is packed by zstd, which Node.js has from 22.15 on (this is ${process.version}); ` +
          'use that, or `npx wasm-hostmap chunks --codec deflate`'
      )
    }
  }

  #frameOf(at) {
    let low = 0
    let high = this.#at.length - 1
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if (this.#at[middle] <= at) low = middle
      else high = middle
    }
    return low
  }

  #unpacked(index) {
    if (this.#frame.index === index) return this.#frame.bytes
    const from = this.#packedAt[index]
    const length = this.#at[index + 1] - this.#at[index]
    const packed = readFully(this.#fd, this.#packedAt[index + 1] - from, from, this.#path)
    let bytes
    try {
      bytes = this.#unpack(packed, { maxOutputLength: length })
    } catch (error) {
      this.#mustBeSame()
      throw providerFailed(`frame ${index} of ${this.#path} can't be unpacked: ${textOf(error)}`)
    }
    this.#mustBeSame()
    if (bytes.length !== length) {
      throw providerFailed(
        `frame ${index} of ${this.#path} has ${bytes.length} bytes, and by its table ${length}`
      )
    }
    this.#frame = { index, bytes }
    return bytes
  }

  #mustBeSame() {
    if (versionOf(fs.fstatSync(this.#fd, { bigint: true })) === this.#version) return
    throw sourceChanged(`${this.#path} has changed since it was opened; open the region again`)
  }
}

module.exports = { open }
