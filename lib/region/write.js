'use strict'

// Writing into a region: bytes at an offset, and streams that write one chunk after another. All
// of it is the native part's `write`, which checks the region at each call: it may be sealed or
// closed while a stream is open.

const { Writable } = require('node:stream')
const { setImmediate } = require('node:timers')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { callNative, makeError } = require('../support/errors.js')
const { instead } = require('../support/given.js')
const { Uint8Array } = require('../platform/intrinsics.js')
const { anyBytes } = require('../platform/bytes.js')

const NONE = new Uint8Array(0)

// As in fill.js: sources that have all of their chunks already never wait for anything.
const TURN_BYTES = 8 * 2 ** 20
const TURN_CHUNKS = 1024

// What is given as a region here is what HostRegion's `#open` says of one.

/** What writes to a part of a region from its start on. */
class PartWriter {
  #of
  #at
  #start
  #end
  #turnBytes = 0
  #turnChunks = 0

  constructor(of, options) {
    const part = check.part(read.writeStream(options), of.byteLength, `region "${of.name}"`)
    this.#of = of
    this.#start = this.#at = part.start
    this.#end = part.end
    // Refused here where it can't be written at all.
    callNative(() => of.native.write(NONE, part.start))
  }

  get bytesWritten() {
    return this.#at - this.#start
  }

  /** Says whether other work of the thread should have its turn before the next chunk. */
  write(chunk) {
    this.#of.mustBeOpen()
    const array = anyBytes(chunk, 'chunk', instead.chunk)
    const rest = this.#end - this.#at
    if (array.length > rest) {
      const message = `the stream gives more than fits: a chunk of ${array.length} bytes after ${this.bytesWritten}, and the part of region "${this.#of.name}" has ${this.#end - this.#start}`
      throw makeError('ERR_HOSTMAP_SOURCE_LENGTH', message)
    }
    callNative(() => this.#of.native.write(array, this.#at))
    this.#of.recount()
    this.#at += array.length
    this.#turnBytes += array.length
    if (++this.#turnChunks < TURN_CHUNKS && this.#turnBytes < TURN_BYTES) return false
    this.#turnBytes = this.#turnChunks = 0
    return true
  }
}

/** Gives how many bytes there were. */
function write(of, source, byteOffset) {
  const array = anyBytes(source, 'source')
  const most = of.byteLength - array.length
  const limit = () => `: the ${array.length} bytes of source must end in region "${of.name}"`
  if (most < 0) {
    const message = `source must have at most ${of.byteLength} bytes, as many as region "${of.name}"; it has ${array.length}`
    throw makeError('ERR_OUT_OF_RANGE', message)
  }
  check.wholeNumber(byteOffset, 'byteOffset', 0, most, limit)
  callNative(() => of.native.write(array, byteOffset))
  of.recount()
  return array.length
}

/** A Writable of Node's. */
class RegionWritable extends Writable {
  #writer

  constructor(writer) {
    super()
    this.#writer = writer
  }

  get bytesWritten() {
    return this.#writer.bytesWritten
  }

  _write(chunk, _encoding, callback) {
    let isTurn
    try {
      isTurn = this.#writer.write(chunk)
    } catch (error) {
      return callback(error)
    }
    if (isTurn) setImmediate(callback)
    else callback()
  }
}

const createWriteStream = (of, options) => new RegionWritable(new PartWriter(of, options))

/** A WritableStream. */
function writableStream(of, options) {
  const writer = new PartWriter(of, options)
  return new WritableStream({
    async write(chunk) {
      if (writer.write(chunk)) await new Promise(resolve => setImmediate(resolve))
    }
  })
}

module.exports = { write, createWriteStream, writableStream }
