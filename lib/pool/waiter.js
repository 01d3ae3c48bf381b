'use strict'

// A waiter: somebody to whom a pool has promised an instance, and who may give up before. It is in
// the pool's list of those who wait until it is served or refused.

const { abortError } = require('../support/errors.js')
const { onAbort } = require('../support/signals.js')
const { beginStep } = require('./told.js')

/** What acquire waits for, in words. */
const ACQUIRE = 'the wait for an instance'

/**
 * @typedef Waiter
 * @property resolve of its promise
 * @property reject of its promise
 * @property signal by which it gives up; undefined: it never does
 * @property since when it began to wait, if somebody listened then: see told.js
 * @property isOver whether it was aborted
 * @property deafen lets go of the signal
 */

/** @param leave is called with the waiter when it gives up: takes it out of the list */
function waiterOf(resolve, reject, signal, leave) {
  const waiter = { resolve, reject, signal, since: beginStep(), deafen: undefined, isOver: false }
  if (signal !== undefined) {
    waiter.deafen = onAbort(signal, () => {
      waiter.isOver = true
      leave(waiter)
      stopListening(waiter)
      reject(abortError(signal, ACQUIRE))
    })
  }
  return waiter
}

/** Of one that waits no longer. */
function stopListening({ deafen }) {
  deafen?.()
}

module.exports = { ACQUIRE, waiterOf, stopListening }
