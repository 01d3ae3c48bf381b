'use strict'

// The fault guard as JavaScript sees it: installing it, what faults were, and telling of them.

const native = require('../platform/binding.js')
const { makeError, callNative } = require('../support/errors.js')
const v8 = require('../platform/v8.js')

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
    callNative(() => native.onFaults(report))
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
  if (native.traps() !== 'untried') return true
  let memory
  let load
  try {
    if (!v8.hasTrapHandler()) return v8.reservationOf('i32') !== null
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

// The process may be done before its event loop gets to the reports. One listener, however many
// copies of this package.
function reportAtExit() {
  const key = Symbol.for('wasm-hostmap.reportAtExit')
  if (process[key] === undefined) {
    const reporters = new Set()
    Object.defineProperty(process, key, { __proto__: null, value: reporters })
    process.on('beforeExit', () => {
      for (const reporter of reporters) reporter()
    })
    process.on('exit', () => {
      for (const reporter of reporters) reporter(true)
    })
  }
  process[key].add(atExit => report(atExit))
}

/** For `limits()`. */
function faultGuard() {
  guardFaults()
  if (refusal !== null) return { handler: 'none', traps: false, reason: refusal }
  const found = callNative(() => native.traps())
  const traps = found === 'yes'
  const handler = callNative(() => native.faultHandler())
  const untried = !v8.hasTrapHandler()
    ? "V8's trap handler is off"
    : handler === 'first'
      ? 'no memory could be made to learn how V8 takes faults'
      : 'another handler was installed above ours before the first mapping'
  return { handler, traps, reason: traps ? null : found === 'untried' ? untried : found }
}

/**
 * Counts and the last fault, from what the native part gives: of a mapping that starts at `address`
 * of its memory, or with a null address of a region's views. `source` is the native region.
 */
function faultsFrom(found, source, address) {
  if (found === null) return { strayWrites: 0, faults: 0, unacknowledged: 0, lastFault: null }
  const { strayWrites, faults, unacknowledged, last } = found
  if (last === undefined) return { strayWrites, faults, unacknowledged, lastFault: null }
  const { regionOffset, mappingOffset, operation, cause, outcome, isShown } = last
  const lastFault = {
    address: address === null ? null : address + mappingOffset,
    byteOffset: regionOffset,
    operation,
    cause: causeOf(cause, isShown ? source : undefined, regionOffset),
    outcome
  }
  return { strayWrites, faults, unacknowledged, lastFault }
}

/**
 * The error for accesses that found no data, and that nobody has taken note of. `what` is where
 * they were, `whose` the object whose acknowledgeFaults() takes note.
 */
function faultedError(count, what, whose, lastFault) {
  const accesses = count === 1 ? 'An access to' : `${count} accesses to`
  // A stray write may have come after.
  const fault = lastFault === null || lastFault.cause === 'readonly' ? null : lastFault
  const last =
    fault === null
      ? ''
      : `, ${count === 1 ? '' : 'the last one '}at byte ${fault.byteOffset} of the region (${fault.cause})`
  return makeError(
    'ERR_HOSTMAP_FAULTED',
    `${accesses} ${what} found no data${last}: what was computed since may rest on zeros that are not in the region. ` +
      `Don't trust it, see to the cause, and call ${whose}.acknowledgeFaults() to go on`,
    { fault }
  )
}

// The kernel says only that it has no page. The file's size may say why.
function causeOf(cause, source, offset) {
  if (cause !== 'unavailable' || source === undefined) return cause
  if (source.keepsSize) return 'out-of-memory'
  const bytes = source.bytesInFile
  const page = native.hostPageSize()
  return typeof bytes === 'number' && offset >= Math.ceil(bytes / page) * page
    ? 'file-shrunk'
    : cause
}

// Each mapping and view is reported once. At the process's exit there is no next tick to wait for.
function report(atExit = false) {
  let reports
  try {
    reports = native.takeFaultReports()
  } catch {
    return
  }
  for (const found of reports) {
    const { regionName, address, byteLength, access, regionOffset, isWindow } = found
    const range = `[${address}, ${address + byteLength})`
    const isView = address === undefined
    const where = isView
      ? `a view of region "${regionName}" (${byteLength} bytes of whole pages)`
      : isWindow
        ? `the window at ${range}, where it showed ${regionName === '' ? 'nothing' : `region "${regionName}"`}`
        : `the '${access}' mapping of region "${regionName}" at ${range}`
    const object = isView ? 'region' : isWindow ? 'window' : 'mapping'
    const at = regionOffset === undefined ? '' : `, last at byte ${regionOffset} of the region`
    if (found.strayWrite) {
      warn(
        atExit,
        'HOSTMAP_STRAY_WRITE',
        `A write hit ${where}${isWindow ? ' read-only' : ', which is read-only'}${at}. It went to a private copy of the page, and the region is as it was. ` +
          (isView
            ? 'Write to a copy of the bytes instead.'
            : `See ${object}.strayWrites and ${object}.lastFault; ${isWindow ? 'slide' : 'map'} with access 'private' if writes are meant to be.`)
      )
    }
    if (found.missingPage) {
      warn(
        atExit,
        'HOSTMAP_MISSING_PAGE',
        `The contents of ${where}${isWindow ? ',' : ''} could not be had${at}, and zeros stand in their place. Did its file get shorter, or did its ` +
          `disk fail or run full? See ${object}.lastFault; HostRegion.load reads a file once and keeps it.` +
          (!isWindow && access === 'shared'
            ? ' What is written there does not reach the region.'
            : '')
      )
    }
    if (found.pastEnd) {
      warn(
        atExit,
        'HOSTMAP_PAST_END',
        `An access hit the window at ${range} past what it shows${at}, and zeros stand there now. ` +
          "See window.lastFault; open the window with rest 'zeros' if such accesses are meant to be."
      )
    }
  }
}

// Warnings of a kind that one thread gives. A program that maps for each request would drown in
// them.
const MOST_WARNINGS = 100
const given = new Map()

function warn(atExit, code, message) {
  const count = (given.get(code) ?? 0) + 1
  given.set(code, count)
  if (count > MOST_WARNINGS) return
  const text =
    count < MOST_WARNINGS ? message : `${message} No more warnings of this kind are given.`
  try {
    if (!atExit) return process.emitWarning(text, { type: 'HostmapWarning', code })
    process.emit('warning', Object.assign(new Error(text), { name: 'HostmapWarning', code }))
  } catch {
    // A script may have replaced what warnings are given with. Counts are right all the same.
  }
}

module.exports = { guardFaults, faultGuard, faultsFrom, faultedError }
