'use strict'

// Where bytes come from, made alike: `readerOf` finds out what a source is and gives
//
//   { byteLength, from,   how many bytes it will give, where it says so, and who says it
//     next(),             a promise of { done, value }
//     end(),              lets go of what was not read, and waits until the source is done with it
//     drop() }            the same without waiting, for one that may never answer
//
// By what it can do, never by `instanceof`: a source may be of another realm, or a package's own.

const { types } = require('node:util')
const check = require('../support/arguments.js')
const { instead } = require('../support/given.js')
const { wrongType, wrongValue } = require('../support/wrong.js')
const { anyBytes } = require('../platform/bytes.js')

const NAME = 'source'
const EXPECTED =
  'bytes, a Blob, a Response, a readable stream, or an iterable of ArrayBuffers or views'

const isMethod = (value, key) => typeof value[key] === 'function'
const isBytes = value => types.isAnyArrayBuffer(value) || ArrayBuffer.isView(value)

function readerOf(source) {
  if (isBytes(source)) return one(source)
  if (!check.isObject(source)) throw wrongType(NAME, EXPECTED, source, instead.source(source))
  if (isMethod(source, 'getReader')) return ofWebStream(source)
  if (isMethod(source, 'arrayBuffer') && typeof source.bodyUsed === 'boolean') {
    return ofResponse(source)
  }
  if (isMethod(source, Symbol.asyncIterator)) {
    return isMethod(source, 'destroy') && typeof source.readableObjectMode === 'boolean'
      ? ofNodeStream(source)
      : ofIterator(source[Symbol.asyncIterator](), false)
  }
  // By its stream alone: of 4 GiB and more that a file has, Node's `size` is wrong (20 to 26).
  if (isMethod(source, 'stream') && typeof source.size === 'number') {
    return readerOf(source.stream())
  }
  if (isMethod(source, Symbol.iterator)) return ofIterator(source[Symbol.iterator]())
  throw wrongType(NAME, EXPECTED, source, instead.source(source))
}

const nothing = () => {}

/** Calls what may throw, now or later, and is not wanted any more. */
function quietly(call) {
  try {
    return Promise.resolve(call()).catch(nothing)
  } catch {
    return Promise.resolve()
  }
}

function one(source) {
  const array = anyBytes(source, NAME)
  let given = false
  return {
    byteLength: array.length,
    from: 'itself',
    async next() {
      const step = { done: given, value: given ? undefined : array }
      given = true
      return step
    },
    end: nothing,
    drop: nothing
  }
}

function ofWebStream(stream) {
  if (stream.locked === true) {
    throw wrongValue(NAME, 'a stream that nobody else reads; this one is locked', stream)
  }
  const reader = stream.getReader()
  // What waits for a chunk is told at once that there is none.
  const drop = () => {
    const cancelled = quietly(() => reader.cancel())
    quietly(() => reader.releaseLock())
    return cancelled
  }
  return {
    byteLength: undefined,
    async next() {
      const step = await reader.read()
      if (step.done) reader.releaseLock()
      return step
    },
    // Not waited for: one branch of a tee, as of a response that was cloned, answers when the other
    // one has ended, too.
    end: () => void drop(),
    drop
  }
}

function ofResponse(response) {
  const { body, bodyUsed, ok, status, headers } = response
  if (bodyUsed) throw wrongValue(NAME, 'a response whose body was not read yet', response)
  if (ok === false) {
    const remedy = `its status is ${status}; look at response.ok first, or pass response.body if you want what such a response says`
    throw wrongValue(NAME, 'a response that has succeeded', response, remedy)
  }
  // Of a HEAD request, or 204: no bytes.
  if (body === null || body === undefined) return ofIterator([][Symbol.iterator]())
  // The body is locked from here on, so what may throw comes before.
  const length = lengthOf(headers)
  return { ...readerOf(body), ...length }
}

/** What is packed arrives unpacked, and its length is that of the packed bytes. */
function lengthOf(headers) {
  const coding = headers?.get?.('content-encoding')
  const text = headers?.get?.('content-length')
  if (typeof text !== 'string' || !/^\d{1,15}$/.test(text)) return undefined
  if (typeof coding === 'string' && coding.trim().toLowerCase() !== 'identity') return undefined
  return { byteLength: Number(text), from: 'its Content-Length' }
}

function ofNodeStream(stream) {
  // Before anybody has read it.
  if (stream.destroyed && stream.errored) throw stream.errored
  if (stream.destroyed || stream.readableEnded === true) {
    throw wrongValue(NAME, 'a stream that has not ended and was not destroyed', stream)
  }
  if (typeof stream.readableEncoding === 'string') {
    const remedy = `it has the encoding '${stream.readableEncoding}' and gives strings; leave that out`
    throw wrongValue(NAME, 'a stream that gives bytes', stream, remedy)
  }
  if (isRead(stream)) {
    const remedy =
      'this one is read by another call, a loop or a pipe, or by a listener of its data or readable events, and each would get a part'
    throw wrongValue(NAME, 'a stream that nobody else reads', stream, remedy)
  }
  const { end, drop, ...reader } = ofIterator(stream[Symbol.asyncIterator](), false)
  // An iterator that was never asked neither destroys the stream nor hears of its errors, such as
  // that of a file that can't be opened, which would be an `error` event without a listener.
  const destroy = () =>
    quietly(() => {
      stream.on?.('error', nothing)
      stream.destroy()
    })
  return {
    ...reader,
    end() {
      const ended = end()
      destroy()
      return ended
    },
    drop() {
      // What waits for a chunk fails then.
      const dropped = destroy()
      drop()
      return dropped
    }
  }
}

/** Paused streams are read, too, by listeners that wait for `resume`. */
const isRead = stream =>
  stream.readableFlowing === true ||
  (isMethod(stream, 'listenerCount') &&
    (stream.listenerCount('data') > 0 || stream.listenerCount('readable') > 0))

// Iterators that are being read: a generator is its own, so that two calls would get a part each.
const inUse = new WeakSet()

/** `isSync`: it may give promises of chunks. */
function ofIterator(iterator, isSync = true) {
  if (inUse.has(iterator)) {
    const remedy = 'another call reads this one, and each would get a part'
    throw wrongValue(NAME, 'an iterator that nobody else reads', iterator, remedy)
  }
  // What is no object fails when it is asked.
  if (check.isObject(iterator)) inUse.add(iterator)
  let isOver = false
  const over = () => {
    isOver = true
    inUse.delete(iterator)
  }
  const end = () => {
    if (isOver) return undefined
    over()
    return quietly(() => iterator.return?.())
  }
  return {
    byteLength: undefined,
    async next() {
      let step
      try {
        step = await iterator.next()
        if (typeof step !== 'object' || step === null) {
          throw wrongType(
            'what the iterator of source gives',
            'an object with done and value',
            step
          )
        }
        if (step.done) over()
      } catch (error) {
        // One that has failed is over by itself.
        over()
        throw error
      }
      if (isOver) return { done: true, value: undefined }
      const { value } = step
      // The language would ask a revoked Proxy whether it is a promise.
      return { done: false, value: isSync && !check.isRevoked(value) ? await value : value }
    },
    end,
    drop: end
  }
}

module.exports = { readerOf }
