'use strict'

// The errors that users see. The native part throws its own, in the realm that loaded it first (under jest, not
// the user's); `fromNative` makes them anew in this one.

const CLASSES = new Map([
  ['ERR_INVALID_ARG_TYPE', TypeError],
  ['ERR_INVALID_ARG_VALUE', TypeError],
  ['ERR_ILLEGAL_CONSTRUCTOR', TypeError],
  ['ERR_INVALID_THIS', TypeError],
  ['ERR_OUT_OF_RANGE', RangeError]
])

/** An error with a stable code; its class follows from the code. `extra` holds `syscall`, `errno` or `cause`. */
function makeError(code, message, extra) {
  const Class = CLASSES.get(code) ?? Error
  const error = new Class(message)
  error.code = code
  return extra === undefined ? error : Object.assign(error, extra)
}

/** What Node's own functions reject with when a signal ends them. */
function abortError(signal, what) {
  const error = new Error(`${what} was aborted`, { cause: signal.reason })
  error.name = 'AbortError'
  error.code = 'ABORT_ERR'
  return error
}

// `CODE SYSCALL ERRNO`, then the message: see src/js/mod.rs.
const NATIVE = /^((?:ERR|ABORT)_\w+) (\S+) (\d+)\n([^]*)$/

/** The error for one that the native part threw. */
function fromNative(native) {
  const parts = NATIVE.exec(native?.message ?? '')
  if (parts === null) {
    // The end of the stack, which any call may meet: nothing was done, and it is nobody's mistake.
    if (native?.message === 'Maximum call stack size exceeded') return native
    const message = `wasm-hostmap failed in a way that it should not: ${native?.message ?? native}; please report it`
    return makeError('ERR_HOSTMAP_INTERNAL', message, { cause: native })
  }
  const [, code, syscall, errno, message] = parts
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
