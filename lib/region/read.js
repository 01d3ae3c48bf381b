'use strict'

// The way out of a region: streams of a part of it, and Blobs. Streams read through the region's
// descriptor, by Node's threads: nothing is mapped, nothing blocks, and a file that got shorter is
// an error and never zeros.

const fs = require('node:fs')
const { Blob } = require('node:buffer')
const { Readable } = require('node:stream')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError, callNative } = require('../support/errors.js')
const { wrongType } = require('../support/wrong.js')

// Where nobody says how much at once.
const CHUNK_BYTES = 256 * 2 ** 10
const MOST_CHUNK_BYTES = 2 ** 30

// A Blob copies each of its parts into a buffer of its own, and takes any number of them.
const BLOB_PART_BYTES = 2 ** 30

// What is given as a region here is what HostRegion's `#open` says of one.

/** Reads a part of a region, one chunk after another, from its start to its end. */
class PartReader {
  #of
  #at
  #end
  #fileOffset
  #chunkBytes
  // Holds the region's descriptor, from the first read on.
  #held
  #isReading = false
  #isClosed = false
  // Ends the wait for bytes that nobody wants any more.
  #ended = new AbortController()

  constructor(of, options) {
    const { chunk = CHUNK_BYTES, ...part } = read.readStream(options)
    const { start, end } = check.part(part, of.byteLength, `region "${of.name}"`)
    this.#chunkBytes = check.wholeNumber(chunk, 'options.chunk', 1, MOST_CHUNK_BYTES)
    this.#of = of
    this.#at = start
    this.#end = end
  }

  get chunkBytes() {
    return this.#chunkBytes
  }

  get left() {
    return this.#end - this.#at
  }

  /**
   * Fills an array, or the beginning of it, and calls back with an error or with how many bytes
   * there were. One call at a time.
   */
  read(array, callback) {
    // A reader's own array may be longer than what Node.js reads at once, 2^31 - 1.
    const byteLength = Math.min(array.byteLength, this.left, MOST_CHUNK_BYTES)
    try {
      this.#open()
    } catch (error) {
      return process.nextTick(callback, error)
    }
    this.#isReading = true
    const { paging } = this.#of
    if (paging === null) return this.#readHere(array, byteLength, callback)
    // The kernel does not wait for what is missing: it would read zeros.
    const part = { byteOffset: this.#at, byteLength, signal: this.#ended.signal }
    paging.ensure(part).then(
      hold =>
        this.#readHere(array, byteLength, (...said) => {
          hold.release()
          callback(...said)
        }),
      error => {
        this.#isReading = false
        this.close()
        callback(error)
      }
    )
  }

  #readHere(array, byteLength, callback) {
    let fd
    const position = this.#fileOffset + this.#at
    try {
      fd = callNative(() => this.#held.fd)
    } catch (error) {
      this.#isReading = false
      return process.nextTick(callback, error)
    }
    fs.read(fd, array, 0, byteLength, position, (error, bytesRead) => {
      this.#isReading = false
      if (error || bytesRead === 0) this.#isClosed = true
      if (this.#isClosed) this.#held.close()
      if (error) return callback(this.#failed(error))
      if (bytesRead === 0) return callback(this.#shrunk(position))
      this.#at += bytesRead
      if (this.left === 0) this.close()
      callback(null, bytesRead)
    })
  }

  /** A read that goes on keeps the descriptor until it is done. */
  close() {
    this.#isClosed = true
    this.#ended.abort()
    if (!this.#isReading) this.#held?.close()
  }

  #open() {
    if (this.#held !== undefined) return
    const { mustBeOpen, native, paging } = this.#of
    mustBeOpen()
    this.#fileOffset = native.fileOffset
    this.#held = callNative(() => (paging === null ? native.reader() : native.pagedReader()))
    // From here on the region may be closed.
    this.#of = { name: this.#of.name, paging }
  }

  #failed({ message, errno, syscall }) {
    return makeError(
      'ERR_HOSTMAP_READ_FAILED',
      `can't read region "${this.#of.name}": ${message}`,
      { errno, syscall }
    )
  }

  #shrunk(position) {
    return makeError(
      'ERR_HOSTMAP_FILE_SHRUNK',
      `can't read region "${this.#of.name}": its file ends at byte ${position} or before, and the part ends at byte ${this.#fileOffset + this.#end} of it; open it again`
    )
  }
}

/** A Readable of Node's. */
class RegionReadable extends Readable {
  #reader

  constructor(reader) {
    super({ highWaterMark: reader.chunkBytes })
    this.#reader = reader
  }

  _read() {
    const { chunkBytes, left } = this.#reader
    if (left === 0) return this.push(null)
    const chunk = Buffer.allocUnsafeSlow(Math.min(chunkBytes, left))
    this.#reader.read(chunk, (error, bytesRead) => {
      if (error) return this.destroy(error)
      if (this.destroyed) return
      this.push(bytesRead < chunk.length ? chunk.subarray(0, bytesRead) : chunk)
    })
  }

  _destroy(error, callback) {
    this.#reader.close()
    callback(error)
  }
}

const createReadStream = (of, options) => new RegionReadable(new PartReader(of, options))

/** A ReadableStream of bytes, which fills what its reader brings. */
function readableStream(of, options) {
  const reader = new PartReader(of, options)
  return new ReadableStream({
    type: 'bytes',
    // What is read of a short part must not keep a long buffer. No stream takes 0.
    autoAllocateChunkSize: Math.max(1, Math.min(reader.chunkBytes, reader.left)),
    start(controller) {
      if (reader.left === 0) controller.close()
    },
    pull: controller =>
      new Promise((resolve, reject) => {
        const request = controller.byobRequest
        reader.read(request.view, (error, bytesRead) => {
          if (error) return reject(error)
          try {
            request.respond(bytesRead)
            if (reader.left === 0) {
              controller.close()
              // Who asks for more gets nothing.
              controller.byobRequest?.respond(0)
            }
            resolve()
          } catch (refused) {
            // It was cancelled meanwhile.
            reject(refused)
          }
        })
      }),
    cancel: () => reader.close()
  })
}

/** A Blob with a copy of a part. `show` gives a Buffer that shows it. */
function blob({ name, native, paging }, show, options) {
  const { type = '', ...part } = read.blob(options)
  if (typeof type !== 'string') throw wrongType('options.type', 'a string', type)
  const before = native.viewFaults().faults
  const bytes = show({ ...part, access: 'readonly' })
  const parts = []
  for (let at = 0; at < bytes.length; at += BLOB_PART_BYTES) {
    parts.push(bytes.subarray(at, at + BLOB_PART_BYTES))
  }
  const copy = new Blob(parts, { type })
  // What was missing was copied as zeros.
  if (native.viewFaults().faults === before) return copy
  if (paging !== null) {
    const why = paging.stats().lastError ?? 'the provider has not answered in time'
    throw makeError(
      'ERR_HOSTMAP_PROVIDER_FAILED',
      `can't copy region "${name}" to a Blob: some of its bytes did not come: ${why}`
    )
  }
  throw makeError(
    'ERR_HOSTMAP_FILE_SHRUNK',
    `can't copy region "${name}" to a Blob: its file got shorter meanwhile; open it again`
  )
}

module.exports = { createReadStream, readableStream, blob }
