'use strict'

// The exports of Binaryen's pass Asyncify that say when a call is suspended, and counterparts that
// count such calls. The counterparts are functions of WebAssembly, as what they stand for: the glue
// of a module that loads others puts every export into a table, which takes no function of
// JavaScript's.

const { Uint8Array } = require('../platform/intrinsics.js')

// Taken now, like those of v8.js.
const { Module, Instance } = WebAssembly

// Glue calls the first to suspend a call, and the second once it goes on.
const SUSPEND = 'asyncify_start_unwind'
const RESUME = 'asyncify_stop_rewind'

const I32 = 0x7f
const I64 = 0x7e

const countsSuspended = exports =>
  typeof exports[SUSPEND] === 'function' && typeof exports[RESUME] === 'function'

/**
 * Puts counterparts in the place of the two.
 *
 * @param exports an object of exports that may be changed
 * @param calls `suspended` is counted, see CaptureContext
 */
function countSuspended(exports, calls, is64) {
  const { [SUSPEND]: suspend, [RESUME]: resume } = exports
  const counting = pointer => {
    suspend(pointer)
    calls.suspended += 1
  }
  exports[SUSPEND] = asWasm(counting, [is64 ? I64 : I32])
  exports[RESUME] = asWasm(() => {
    resume()
    calls.suspended -= 1
  }, [])
}

// By the types of parameters.
const modules = new Map()

/** A function of WebAssembly that calls one of JavaScript's: imported, and exported again. */
function asWasm(call, parameters) {
  const key = parameters.join()
  if (!modules.has(key)) modules.set(key, new Module(bytesOf(parameters)))
  return new Instance(modules.get(key), { e: { f: call } }).exports.f
}

const bytesOf = parameters =>
  new Uint8Array([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    // One type: (func (param ...)).
    ...[0x01, 4 + parameters.length, 0x01, 0x60, parameters.length, ...parameters, 0x00],
    // (import "e" "f" (func (type 0)))
    ...[0x02, 0x07, 0x01, 0x01, 0x65, 0x01, 0x66, 0x00, 0x00],
    // (export "f" (func 0))
    ...[0x07, 0x05, 0x01, 0x01, 0x66, 0x00, 0x00]
  ])

module.exports = { countsSuspended, countSuspended }
