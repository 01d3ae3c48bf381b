'use strict'

// Waiting for a word of a region, and waking who waits: by a futex of the kernel's, so between
// memories, threads and processes.

const { isMainThread } = require('node:worker_threads')
const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const { makeError, abortError, callNative, fromNative } = require('../support/errors.js')
const { onAbort } = require('../support/signals.js')
const { wrongType, outOfRange } = require('../support/wrong.js')

// As src/js/wait.rs numbers them; 3 is a wait that was cancelled.
const ENDED = ['ok', 'not-equal', 'timed-out']
const [, CHANGED, TIMED_OUT, CANCELLED] = [0, 1, 2, 3]

const WORD_BYTES = 4
const MOST_WAITERS = 2 ** 31 - 1
// A worker that is terminated is ended between two of them.
const SLICE_MS = 50

function offsetOf(byteOffset, byteLength) {
  check.wholeNumber(byteOffset, 'byteOffset')
  if (byteOffset % WORD_BYTES !== 0 || byteOffset + WORD_BYTES > byteLength) {
    const expected = `a multiple of ${WORD_BYTES} with ${WORD_BYTES} bytes of the region behind it, which has ${byteLength}`
    throw outOfRange('byteOffset', expected, byteOffset)
  }
  return byteOffset
}

/** A 32-bit number with or without a sign, as the kernel compares it. */
const wordOf = value => check.wholeNumber(value, 'expected', -(2 ** 31), 2 ** 32 - 1) >>> 0

function timeoutOf(timeoutMs) {
  if (timeoutMs === undefined) return Infinity
  if (typeof timeoutMs !== 'number') throw wrongType('options.timeoutMs', 'a number', timeoutMs)
  if (!(timeoutMs >= 0)) throw outOfRange('options.timeoutMs', '0 or more', timeoutMs)
  return timeoutMs
}

/** `region` is its number for the native part, `byteLength` its size. */
function waitAsync(region, byteLength, byteOffset, expected, { timeoutMs, signal }) {
  const offset = offsetOf(byteOffset, byteLength)
  const value = wordOf(expected)
  const timeout = timeoutOf(timeoutMs)
  check.optional(signal, check.abortSignal, 'options.signal')
  if (signal?.aborted) throw abortError(signal, 'The wait')
  const word = callNative(() => new native.NativeWord(region, offset))
  return new Promise((resolve, reject) => {
    const cancel = () => word.cancel()
    let deafen
    const done = ended => {
      const failed = deafen?.()
      if (ended === CANCELLED) return reject(abortError(signal, 'The wait'))
      if (ended >= 0) return failed === undefined ? resolve(ENDED[ended]) : reject(failed.error)
      try {
        word.why(-ended)
      } catch (error) {
        reject(fromNative(error))
      }
    }
    // Held by `done` until it is called: what is collected is cancelled.
    callNative(() => word.wait(value, timeout, done))
    try {
      deafen = onAbort(signal, cancel)
    } catch (error) {
      cancel()
      reject(error)
    }
  })
}

function waitSync(region, byteLength, byteOffset, expected, { timeoutMs }) {
  const offset = offsetOf(byteOffset, byteLength)
  const value = wordOf(expected)
  const timeout = timeoutOf(timeoutMs)
  if (isMainThread && timeout === Infinity) {
    throw makeError(
      'ERR_INVALID_ARG_VALUE',
      'options.timeoutMs must be given on the main thread, which nothing could end otherwise; use `await region.wait()`, or wait in a worker'
    )
  }
  const word = callNative(() => new native.NativeWord(region, offset))
  const started = performance.now()
  for (let waited = false; ; waited = true) {
    const left = timeout - (performance.now() - started)
    const ended = callNative(() => word.waitHere(value, Math.max(0, Math.min(left, SLICE_MS))))
    // The word has changed between two slices: as good as a notification.
    if (ended === CHANGED && waited) return 'ok'
    if (ended !== TIMED_OUT || left <= SLICE_MS) return ENDED[ended]
  }
}

function notify(region, byteLength, byteOffset, count) {
  const offset = offsetOf(byteOffset, byteLength)
  const most = count === Infinity ? MOST_WAITERS : check.wholeNumber(count, 'count')
  return callNative(() =>
    new native.NativeWord(region, offset).notify(Math.min(most, MOST_WAITERS))
  )
}

module.exports = { waitAsync, waitSync, notify }
