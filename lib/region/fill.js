'use strict'

// Filling a region from a source: one chunk at a time is asked for, and written by the native part
// before the next one is. Whatever goes wrong, the source is let go and nothing is left.

const { setImmediate } = require('node:timers')
const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { abortError, callNative, makeError } = require('../support/errors.js')
const { instead } = require('../support/given.js')
const { onAbort } = require('../support/signals.js')
const { wrongValue } = require('../support/wrong.js')
const { anyBytes } = require('../platform/bytes.js')
const { PROGRESS_INTERVAL_MS } = require('../platform/task.js')
const { readerOf } = require('./sources.js')

const WHAT = 'The fill'

// How much is written before other work of the thread has its turn: a few milliseconds' worth.
// Sources that have all of their chunks already never wait for anything.
const TURN_BYTES = 8 * 2 ** 20
const TURN_CHUNKS = 1024
// A source may take long to make a chunk.
const TURN_MS = 10

/** Waits for other things, until a signal says that they are not wanted. */
class Wish {
  #signal
  #cancel
  // What it has heard counts, whatever the signal says of itself later.
  #isAborted = false
  #deafen

  constructor(signal) {
    this.#signal = signal
    this.#deafen = onAbort(signal, () => {
      this.#isAborted = true
      this.#cancel?.(this.error())
    })
  }

  error() {
    return abortError(this.#signal, WHAT)
  }

  check() {
    if (this.#isAborted || this.#signal?.aborted) throw this.error()
  }

  /** Of one promise a call: those of the signal would pile up. */
  wait(promise) {
    if (this.#signal === undefined) return promise
    return new Promise((resolve, reject) => {
      this.#cancel = reject
      promise.then(resolve, reject)
      // Aborted before this call, by what the source did when it was asked, say: no event comes.
      if (this.#isAborted || this.#signal.aborted) reject(this.error())
    })
  }

  /** As what ends a listener: gives what the signal has thrown. */
  end() {
    this.#cancel = undefined
    return this.#deafen()
  }
}

function optionsOfFill(options) {
  const given = read.regionFrom(options)
  const { byteLength, name = 'region', hugePages = false, signal, onProgress } = given
  check.optional(byteLength, check.wholeNumber, 'options.byteLength', 1)
  check.regionName(name, 'options.name')
  check.boolean(hugePages, 'options.hugePages')
  check.optional(signal, check.abortSignal, 'options.signal')
  check.optional(onProgress, check.callback, 'options.onProgress')
  return { byteLength, name, hugePages, signal, onProgress }
}

/** Gives the native part of the region. The options were checked. */
async function fill(source, { byteLength, name, hugePages, signal, onProgress }) {
  const reader = readerOf(source)
  let wish, filling
  try {
    wish = new Wish(signal)
    wish.check()
    const expected = lengthOf(reader, byteLength)
    filling = callNative(() => new native.NativeFilling(name, expected.byteLength, hugePages))
    const written = await copy(reader, filling, expected, wish, onProgress)
    onProgress?.(written, written)
    wish.check()
    // Before there is a region, which nobody would get.
    const failed = wish.end()
    if (failed !== undefined) throw failed.error
    return callNative(() => filling.finish())
  } catch (error) {
    filling?.abandon()
    await letGo(reader, wish)
    wish?.end()
    throw error
  }
}

/** Of a source that is not wanted any more. What it says to that changes nothing. */
async function letGo(reader, wish) {
  try {
    wish?.check()
    // One that waits for what may never come is not waited for once that is aborted.
    const ended = Promise.resolve(reader.end())
    await (wish?.wait(ended) ?? ended)
  } catch {
    reader.drop()
  }
}

/** How many bytes will come, and who says so. */
function lengthOf(reader, byteLength) {
  const { byteLength: said, from } = reader
  if (said === undefined) return { byteLength, from: 'options.byteLength' }
  if (said === 0) throw noBytes()
  if (byteLength !== undefined && byteLength !== said) {
    throw wrongLength(
      `source has ${said} bytes by ${from}, and options.byteLength is ${byteLength}`
    )
  }
  return { byteLength: said, from }
}

async function copy(reader, filling, { byteLength: total, from }, wish, onProgress) {
  let written = 0
  let toldMs = performance.now()
  const tell = () => {
    const nowMs = performance.now()
    if (onProgress === undefined || nowMs - toldMs < PROGRESS_INTERVAL_MS) return
    toldMs = nowMs
    onProgress(written, total)
  }
  let turnBytes = 0
  let turnChunks = 0
  let turnMs = performance.now()
  const turn = async () => {
    turnBytes = turnChunks = 0
    await new Promise(resolve => setImmediate(resolve))
    turnMs = performance.now()
  }
  for (let index = 0; ; index++) {
    // By `onProgress`, or in the turn of others.
    wish.check()
    const { done, value } = await wish.wait(reader.next())
    // An iterable that never waits is told of an abort here.
    wish.check()
    if (done) break
    const chunk = anyBytes(value, `chunk ${index} of source`, instead.chunk)
    const { length } = chunk
    if (total !== undefined && length > total - written) {
      throw wrongLength(
        `source gives more than the ${total} bytes that it should have by ${from}: chunk ${index}, of ${length} bytes, comes after ${written}`
      )
    }
    for (let at = 0; at < length;) {
      if (turnBytes >= TURN_BYTES) {
        await turn()
        wish.check()
        // Its owner may have done anything to it meanwhile.
        if (chunk.length !== length) {
          throw wrongValue(
            `chunk ${index} of source`,
            `left alone while it is written: it had ${length} bytes`,
            value
          )
        }
      }
      const step = Math.min(length - at, TURN_BYTES - turnBytes)
      written = callNative(() => filling.append(chunk, at, step))
      at += step
      turnBytes += step
      tell()
    }
    if (++turnChunks >= TURN_CHUNKS || performance.now() - turnMs >= TURN_MS) {
      await turn()
      tell()
    }
  }
  if (written === 0) throw noBytes()
  if (total !== undefined && written < total) {
    throw wrongLength(`source has ended after ${written} bytes; it should have ${total} by ${from}`)
  }
  return written
}

const wrongLength = message => makeError('ERR_HOSTMAP_SOURCE_LENGTH', message)

const noBytes = () => wrongLength('source has no bytes; a region has at least 1')

module.exports = { fill, optionsOfFill }
