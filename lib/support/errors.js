'use strict'

// The errors that users see. The native part throws its own, in the realm that loaded it first
// (under jest, not the user's); `fromNative` makes them anew in this one.

const CLASSES = new Map([
  ['ERR_INVALID_ARG_TYPE', TypeError],
  ['ERR_INVALID_ARG_VALUE', TypeError],
  ['ERR_ILLEGAL_CONSTRUCTOR', TypeError],
  ['ERR_INVALID_THIS', TypeError],
  ['ERR_OUT_OF_RANGE', RangeError]
])

/**
 * An error with a stable code; its class follows from the code. `extra` holds `syscall`, `errno` or
 * `cause`.
 */
function makeError(code, message, extra) {
  const Class = CLASSES.get(code) ?? Error
  const error = new Class(message)
  error.code = code
  return extra === undefined ? error : Object.assign(error, extra)
}

/** What Node's own functions reject with when a signal ends them. */
function abortError(signal, what) {
  let cause
  try {
    cause = signal.reason
  } catch (error) {
    // Of a signal of somebody's own making: the caller is told of the abort all the same.
    cause = error
  }
  const error = new Error(`${what} was aborted`, { cause })
  error.name = 'AbortError'
  error.code = 'ABORT_ERR'
  return error
}

/** The error for one that the native part threw. */
function fromNative(native) {
  const text = String(native?.message)
  // `CODE SYSCALL ERRNO`, then the message: see src/js/mod.rs. No regular expression: one that is
  // not compiled yet is a SyntaxError at the end of the stack (Node.js 26).
  const end = text.indexOf('\n')
  const [code, syscall, errno] = text.slice(0, Math.max(end, 0)).split(' ')
  if (errno === undefined || !(code.startsWith('ERR_') || code.startsWith('ABORT_'))) {
    // The end of the stack, which any call may meet: nothing was done, and it is nobody's mistake.
    if (text === 'Maximum call stack size exceeded') return native
    const message = `wasm-hostmap failed in a way that it should not: ${native?.message ?? native}; please report it`
    return makeError('ERR_HOSTMAP_INTERNAL', message, { cause: native })
  }
  const message = text.slice(end + 1)
  // Negative, as in Node's own system errors, so that util.getSystemErrorName takes it.
  return makeError(code, message, syscall === '-' ? undefined : { errno: -Number(errno), syscall })
}

/** Calls the native part. Not for hot paths, which catch by themselves. */
function callNative(call) {
  try {
    return call()
  } catch (error) {
    throw fromNative(error)
  }
}

module.exports = { makeError, abortError, fromNative, callNative }
