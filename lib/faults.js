'use strict'

// The fault guard as JavaScript sees it: installing it, what faults were, and telling of them.

const native = require('./binding.js')
const { callNative } = require('./errors.js')
const v8 = require('./v8.js')

// As src/js/fault.rs numbers them.
const CAUSES = ['readonly', 'unavailable', 'memory-error']
const OUTCOMES = ['trap', 'private-page', 'zeros']

// (module (import "" "" (memory 1)) (func (export "load") (param i32) (result i32) (i32.load (local.get 0))))
const PROBE = 'AGFzbQEAAAABBgFgAX8BfwIGAQAAAgABAwIBAAcIAQRsb2FkAAAKCQEHACAAKAIACw=='

const { Module, Instance } = WebAssembly

let ready = false
// Why there is no handler.
let refusal = null

/** Before the first mapping or view: installs the handler and learns how to ask V8. */
function guardFaults() {
  if (ready) return
  ready = true
  refusal = callNative(() => native.installFaultGuard())
  if (refusal !== null) return
  callNative(probe)
  callNative(() => native.onFaults(report))
  // The process may be done before its event loop gets to the reports.
  process.on('beforeExit', report)
}

// Once in a process. V8 shows in the fault of a Wasm load how it can be asked: see src/sys/v8_trap.rs.
function probe() {
  if (native.traps() !== 'untried' || !v8.hasTrapHandler()) return
  let memory
  let load
  try {
    memory = v8.makeMemory({ initial: 1, maximum: 1, address: 'i32' })
    load = new Instance(new Module(Buffer.from(PROBE, 'base64')), { '': { '': memory } }).exports.load
  } catch {
    // No address space for it now, or Wasm is not allowed to be compiled: another memory may have more luck.
    ready = false
    return
  }
  const buffer = v8.bufferOf(memory)
  if (!native.beginProbe(new Uint8Array(buffer))) return
  try {
    load(buffer.byteLength)
  } catch {
    // Out of bounds, as it should be.
  } finally {
    native.endProbe()
  }
}

/** For `limits()`. */
function faultGuard() {
  guardFaults()
  if (refusal !== null) return { handler: 'none', traps: false, reason: refusal }
  const found = callNative(() => native.traps())
  const traps = found === 'yes'
  const reason = found === 'untried' ? "V8's trap handler is off" : found
  return { handler: callNative(() => native.faultHandler()), traps, reason: traps ? null : reason }
}

/**
 * Counts and the last fault, from what the native part gives: of a mapping that starts at `address` of its memory and
 * at `byteOffset` of its region, or with a null address of a region's views. `source` is the native region.
 */
function faultsFrom(flat, source, address, byteOffset) {
  if (flat === null) return { strayWrites: 0, faults: 0, lastFault: null }
  const [strayWrites, faults, offset, write, cause, outcome] = flat
  if (flat.length === 2) return { strayWrites, faults, lastFault: null }
  const lastFault = {
    address: address === null ? null : address + offset - byteOffset,
    byteOffset: offset,
    operation: write === 1 ? 'write' : 'read',
    cause: causeOf(CAUSES[cause], source, offset),
    outcome: OUTCOMES[outcome]
  }
  return { strayWrites, faults, lastFault }
}

// The kernel says only that it has no page. The file's size may say why.
function causeOf(cause, source, offset) {
  if (cause !== 'unavailable') return cause
  if (source.keepsSize) return 'out-of-memory'
  const bytes = source.bytesInFile
  const page = native.hostPageSize()
  return typeof bytes === 'number' && offset >= Math.ceil(bytes / page) * page ? 'file-shrunk' : cause
}

// Each mapping and view is reported once.
function report() {
  let reports
  try {
    reports = native.takeFaultReports()
  } catch {
    return
  }
  for (const found of reports) {
    const { regionName, address, byteLength, access, regionOffset } = found
    const where =
      address === undefined
        ? `a view of region "${regionName}" (${byteLength} bytes of whole pages)`
        : `the '${access}' mapping of region "${regionName}" at [${address}, ${address + byteLength})`
    const at = regionOffset === undefined ? '' : `, last at byte ${regionOffset} of the region`
    if (found.strayWrite) {
      warn(
        'HOSTMAP_STRAY_WRITE',
        `A write hit ${where}, which is read-only${at}. It went to a private copy of the page, and the region is as it was. ` +
          (address === undefined
            ? 'Write to a copy of the bytes instead.'
            : "See mapping.strayWrites and mapping.lastFault; map with access 'private' if writes are meant to be.")
      )
    }
    if (found.missingPage) {
      warn(
        'HOSTMAP_MISSING_PAGE',
        `The contents of ${where} could not be had${at}, and zeros stand in their place. Did its file get shorter, or did its ` +
          `disk fail? See ${address === undefined ? 'region' : 'mapping'}.lastFault; HostRegion.load reads a file once and keeps it.` +
          (access === 'shared' ? ' What is written there does not reach the region.' : '')
      )
    }
  }
}

function warn(code, message) {
  process.emitWarning(message, { type: 'HostmapWarning', code })
}

module.exports = { guardFaults, faultGuard, faultsFrom }
