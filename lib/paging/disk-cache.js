'use strict'

// A file that keeps chunks across runs: a head, a table with a checksum for each chunk, and the
// chunks, where nothing was written a hole.
//
//   head (4 KiB)   32 bytes a chunk   chunk 0   chunk 1   ..
//
// A checksum is over the chunk's bytes, its number, and what the file is a cache of. So whatever a
// crash, another process or another version leaves here is right or not there: a chunk that does
// not fit its checksum is fetched anew. Chunks are written before their checksums, and nothing is
// ever synchronised: that would only make the file useful sooner, not right.
//
// Nothing that goes wrong here is an error for those who read: the provider has it all.

const fs = require('node:fs')
const { createHash, randomBytes } = require('node:crypto')
const { textOf } = require('./failure.js')

const MAGIC = 'wasm-hostmap cache 1\n'
const HEAD_BYTES = 4096
const SUM_BYTES = 32
const ALIGN_BYTES = 4096
const MISSING = Buffer.alloc(SUM_BYTES)

/** What a file is a cache of, as 32 bytes. `key`: data of the provider's, or the caller's. */
function identityOf(key, byteLength, chunkBytes) {
  const text = JSON.stringify([MAGIC, key, byteLength, chunkBytes])
  return createHash('sha256').update(text).digest()
}

class DiskCache {
  #fd
  #chunkBytes
  #dataAt
  #identity
  #counts
  #isFull = false
  #sum = Buffer.alloc(SUM_BYTES)

  constructor(fd, { identity, chunkBytes, chunkCount, counts }) {
    this.#fd = fd
    this.#identity = identity
    this.#chunkBytes = chunkBytes
    this.#dataAt = Math.ceil((HEAD_BYTES + chunkCount * SUM_BYTES) / ALIGN_BYTES) * ALIGN_BYTES
    this.#counts = counts
  }

  /** Opens or makes the file; undefined where that can't be, which is counted and told. */
  static open(path, { key, byteLength, chunkBytes, counts }) {
    const identity = identityOf(key, byteLength, chunkBytes)
    const chunkCount = Math.ceil(byteLength / chunkBytes)
    try {
      const fd = openKnown(path, identity) ?? makeNew(path, identity)
      return new DiskCache(fd, { identity, chunkBytes, chunkCount, counts })
    } catch (error) {
      counts.add('diskFailures')
      counts.tell(`${path} can't be used as a cache: ${textOf(error)}`)
      return undefined
    }
  }

  /** Whether a chunk seems to be there. */
  has(chunk) {
    try {
      const isRead = readFully(this.#fd, this.#sum, HEAD_BYTES + chunk * SUM_BYTES)
      return isRead && !this.#sum.equals(MISSING)
    } catch {
      return false
    }
  }

  /** Fills `target`, a chunk's whole length, or says that there is none. */
  read(chunk, target) {
    try {
      if (!this.has(chunk)) return false
      const known = this.#sum
      const isWhole = readFully(this.#fd, target, this.#dataAt + chunk * this.#chunkBytes)
      if (isWhole && known.equals(this.#sumOf(chunk, target))) {
        this.#counts.add('diskHits')
        return true
      }
      this.#counts.add('diskFailures')
    } catch (error) {
      this.#failed(error)
    }
    return false
  }

  write(chunk, bytes) {
    if (this.#isFull) return
    try {
      writeFully(this.#fd, bytes, this.#dataAt + chunk * this.#chunkBytes)
      const sum = this.#sumOf(chunk, bytes)
      writeFully(this.#fd, sum, HEAD_BYTES + chunk * SUM_BYTES)
      this.#counts.add('diskWrites')
    } catch (error) {
      // A full disk, or a limit of the process: it would fail for each chunk.
      this.#isFull = true
      this.#failed(error)
    }
  }

  close() {
    fs.closeSync(this.#fd)
  }

  #sumOf(chunk, bytes) {
    const number = Buffer.alloc(8)
    number.writeDoubleLE(chunk)
    return createHash('sha256').update(this.#identity).update(number).update(bytes).digest()
  }

  #failed(error) {
    this.#counts.add('diskFailures')
    this.#counts.tell(`the cache on disk: ${textOf(error)}`)
  }
}

/** The file that is there, if it is a cache of the same; undefined for all else that may go. */
function openKnown(path, identity) {
  let fd
  try {
    // A FIFO that nobody writes to must not be waited for.
    fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_NONBLOCK)
  } catch (error) {
    if (error.code === 'ENOENT') return undefined
    throw error
  }
  try {
    const stat = fs.fstatSync(fd)
    if (!stat.isFile()) throw new Error('it is no file')
    // Its checksums are no signatures: a program that can write here can make both.
    if (stat.uid !== process.geteuid() || (stat.mode & 0o022) !== 0) {
      throw new Error('others may write to it')
    }
    const head = Buffer.alloc(HEAD_BYTES)
    const isWhole = readFully(fd, head, 0)
    const text = head.toString('latin1', 0, MAGIC.length)
    // Whatever else the path leads to is somebody's data.
    if (stat.size > 0 && !text.startsWith(MAGIC.slice(0, MAGIC.indexOf(' cache') + 6))) {
      throw new Error('it is something else')
    }
    const isOurs = isWhole && head.equals(headOf(identity))
    if (isOurs) return fd
  } catch (error) {
    fs.closeSync(fd)
    throw error
  }
  fs.closeSync(fd)
  return undefined
}

/** A new file takes the other's place: a process that uses that one goes on with it. */
function makeNew(path, identity) {
  const name = `${path}.${randomBytes(6).toString('hex')}.tmp`
  const { O_RDWR, O_CREAT, O_EXCL } = fs.constants
  const fd = fs.openSync(name, O_RDWR | O_CREAT | O_EXCL, 0o600)
  try {
    writeFully(fd, headOf(identity), 0)
    fs.renameSync(name, path)
  } catch (error) {
    fs.closeSync(fd)
    fs.rmSync(name, { force: true })
    throw error
  }
  return fd
}

const headOf = identity => {
  const head = Buffer.alloc(HEAD_BYTES)
  head.write(MAGIC, 'latin1')
  identity.copy(head, MAGIC.length)
  return head
}

function readFully(fd, target, position) {
  for (let at = 0; at < target.length;) {
    const count = fs.readSync(fd, target, at, target.length - at, position + at)
    if (count === 0) return false
    at += count
  }
  return true
}

function writeFully(fd, bytes, position) {
  for (let at = 0; at < bytes.length;) {
    const count = fs.writeSync(fd, bytes, at, bytes.length - at, position + at)
    at += count
  }
}

module.exports = { DiskCache }
