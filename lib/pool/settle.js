'use strict'

// The end of a request in a unit: what it left unfinished, and the way back. It is done at once
// where nothing has to be waited for.

const { performance } = require('node:perf_hooks')
const { restoreQuietly } = require('../checkpoint/checkpoint.js')
const { groupsIn } = require('../capture/unit.js')
const { turn } = require('../request/request.js')
const {
  asFailure,
  isStackEnd,
  isCallPending,
  requestPending,
  unitTooLarge
} = require('./errors.js')
const { NO_ENTRIES, checkRestored, entriesOf, rewindSourcesIn } = require('./memories.js')

/**
 * @typedef Settled how a request has ended
 * @property milliseconds how long the restore took; undefined if the unit can't be used any more
 * @property failure why not
 * @property isRunning whether something may go on in the unit
 */

/**
 * Gives a Settled, or a promise of one. Throws nothing, and never rejects.
 *
 * @param {UnitSlot} slot see unit-slots.js
 * @param rules `pending` and `maxMemoryBytes`, as the pool's options have them, and `isClosed`:
 *   whether the unit need not go back
 * @param after what is called first: a function without arguments, or undefined
 */
function settle(slot, rules, after) {
  try {
    const given = after === undefined ? undefined : slot.request.run(after)
    if (typeof given?.then === 'function') {
      return Promise.resolve(given).then(
        () => settleNow(slot, rules, false),
        error => failed(slot, error)
      )
    }
  } catch (error) {
    return failed(slot, error)
  }
  return settleNow(slot, rules, false)
}

// What threw may have left anything.
const failed = ({ request }, error) => ({
  failure: asFailure(error),
  isRunning: request?.pending() !== undefined
})

/** `isLast`: whether another turn of the event loop was waited for. */
function settleNow(slot, rules, isLast) {
  try {
    const left = slot.request?.pending()
    if (left !== undefined && !isHarmless(left, rules.pending)) {
      // Most of it is over in a moment: a stream that closes, a promise that is settled.
      if (!isLast) return inAnotherTurn(slot, rules)
      return { failure: asFailure(requestPending(left)), isRunning: true }
    }
    if (rules.isClosed()) return { failure: undefined, isRunning: left !== undefined }
    return restore(slot, rules, isLast)
  } catch (error) {
    // What options.pending threw.
    return { failure: asFailure(error), isRunning: true }
  }
}

const inAnotherTurn = (slot, rules) => turn().then(() => settleNow(slot, rules, true))

function isHarmless(left, rule) {
  if (rule === 'ignore') return true
  return rule !== 'discard' && rule(left) === true
}

function restore(slot, rules, isLast) {
  try {
    checkSize(slot, rules.maxMemoryBytes ?? slot.byteLength + MOST_GROWTH)
    const started = performance.now()
    restoreQuietly(slot.checkpoint)
    const milliseconds = performance.now() - started
    for (const linear of linearsIn(slot)) {
      checkRestored(linear, slot.entries.get(linear) ?? NO_ENTRIES)
    }
    slot.request?.end()
    slot.request = undefined
    return { milliseconds, failure: undefined, isRunning: false }
  } catch (error) {
    const isPending = isCallPending(error)
    // In another turn the stack has room again, and no call of the unit is on it.
    if (!isLast && (isPending || isStackEnd(error))) return inAnotherTurn(slot, rules)
    return { failure: asFailure(error), isRunning: isPending }
  }
}

// Allocators that don't use again what an earlier request has grown (wasi-libc's, Rust's) come to
// the end of what a memory may have, and then each request fails.
const MOST_GROWTH = 2 ** 30

function checkSize(slot, most) {
  const bytes = bytesIn(slot)
  if (bytes > most) throw unitTooLarge(bytes, most)
}

/** How many bytes the memories of a unit have together. */
const bytesIn = slot => linearsIn(slot).reduce((sum, { byteLength }) => sum + byteLength, 0)

/** The memories of a unit that somebody holds. */
const linearsIn = ({ inside }) =>
  groupsIn(inside)
    .map(({ linear }) => linear)
    .filter(linear => linear !== undefined)

/** Notes what a restore will compare with. The unit is in the state to which it goes back. */
function noteUnit(slot) {
  slot.byteLength = bytesIn(slot)
  for (const linear of linearsIn(slot)) {
    const entries = entriesOf(linear)
    rewindSourcesIn(entries)
    if (entries.length > 0) slot.entries.set(linear, entries)
  }
}

module.exports = { settle, linearsIn, noteUnit }
