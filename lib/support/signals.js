'use strict'

// Signals are anybody's objects, and may throw whatever they are asked.

/**
 * Calls `hear` when the signal is aborted. Gives what ends that: it never throws, since it comes
 * where something else has just ended, but gives what the signal has thrown, as `{ error }`.
 */
function onAbort(signal, hear) {
  if (signal === undefined) return nothing
  const stop = () => {
    try {
      signal.removeEventListener('abort', hear)
      return undefined
    } catch (error) {
      return { error }
    }
  }
  try {
    signal.addEventListener('abort', hear, { __proto__: null, once: true })
  } catch (error) {
    // It may have kept it all the same.
    stop()
    throw error
  }
  return stop
}

const nothing = () => {}

/** Of one that was asked before, and may have begun to throw. */
function isAborted(signal) {
  try {
    return Boolean(signal?.aborted)
  } catch {
    return false
  }
}

module.exports = { onAbort, isAborted }
