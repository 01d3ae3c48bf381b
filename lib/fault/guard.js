'use strict'

// Installs the fault guard, and lets it learn how to ask V8. What faults were is in found.js, what
// users are told of them in warnings.js. Nothing here maps anything.

const native = require('../platform/binding.js')
const { callNative } = require('../support/errors.js')
const v8 = require('../platform/v8.js')
const { COMES_TO_LOOP, isJavaScriptCore, noTraps } = require('../platform/engine.js')
const { hasTrapHandler, reservationOf } = require('../platform/reservation.js')
const { report, reportAtExit } = require('./warnings.js')

// (module (import "" "" (memory 1)) (func (export "load") (param i32) (result i32) (i32.load
// (local.get 0))))
const PROBE = 'AGFzbQEAAAABBgFgAX8BfwIGAQAAAgABAwIBAAcIAQRsb2FkAAAKCQEHACAAKAIACw=='

const { Module, Instance } = WebAssembly

let installed = false
// Why there is no handler.
let refusal = null
let isProbed = false
// After a probe that could not be made, how many calls it is left alone for: twice as many each
// time, since without address space for a memory it takes long to fail.
let callsToProbe = 0
let patience = 1

/**
 * Before the first mapping or view: installs the handler and learns how to ask V8. What can't be
 * had is tried again.
 */
function guardFaults() {
  if (installed && isProbed) return
  if (!installed) {
    refusal = callNative(() => native.installFaultGuard())
    if (refusal !== null) return
    callNative(() => native.onFaults(report, COMES_TO_LOOP))
    reportAtExit()
    installed = true
  }
  if (callsToProbe > 0) {
    callsToProbe--
    return
  }
  isProbed = callNative(probe)
  if (!isProbed) {
    callsToProbe = patience
    patience *= 2
  }
}

// Once in a process. V8 shows in the fault of a Wasm load how it can be asked: see
// src/sys/v8_trap.rs. False: it may be tried again.
function probe() {
  if (isJavaScriptCore || native.traps() !== 'untried') return true
  let memory
  let load
  try {
    if (!hasTrapHandler()) return reservationOf('i32') !== null
    // Somebody's handler above ours, Node's for a listener of a script's perhaps, would see the
    // fault first.
    if (native.faultHandler() !== 'first') return false
    memory = v8.makeMemory({ initial: 1, maximum: 1, address: 'i32' })
    load = new Instance(new Module(Buffer.from(PROBE, 'base64')), { '': { '': memory } }).exports
      .load
  } catch {
    // No descriptor to read the process's map with now, no address space for a memory, or Wasm is
    // not allowed to be compiled.
    return false
  }
  const buffer = v8.bufferOf(memory)
  if (!native.beginProbe(v8.arrayOver(buffer))) return native.traps() !== 'untried'
  try {
    load(buffer.byteLength)
  } catch {
    // Out of bounds, as it should be.
  } finally {
    native.endProbe()
  }
  return true
}

/** What `limits()` says of it. */
function faultGuard() {
  guardFaults()
  if (refusal !== null) return { handler: 'none', traps: false, reason: refusal }
  const found = callNative(() => native.traps())
  const traps = found === 'yes'
  const handler = callNative(() => native.faultHandler())
  const untried =
    isJavaScriptCore || !hasTrapHandler()
      ? noTraps()
      : handler === 'first'
        ? 'no memory could be made to learn how V8 takes faults'
        : 'another handler was installed above ours before the first mapping'
  return { handler, traps, reason: traps ? null : found === 'untried' ? untried : found }
}

module.exports = { guardFaults, faultGuard }
