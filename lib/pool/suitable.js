'use strict'

// Which modules can have a pool: what their report, or their imports and exports, tell. Compiles a
// module with its state exported.

const { types } = require('node:util')
const { wrongModule } = require('../support/wrong.js')
const { moduleBytes } = require('../platform/bytes.js')
const { Uint8Array } = require('../platform/intrinsics.js')
const {
  exposeLater,
  isModule,
  reportOf,
  addedNames,
  notRestorable,
  refuseNotRestorable
} = require('../instance/module.js')
const { instrumentLater, refuseTooLarge } = require('../growth/instrumented-module.js')
const { unsuitable } = require('./errors.js')

// Taken now, like those of v8.js.
const { Module, compile } = WebAssembly

const NOT_INSTRUMENTED = Object.freeze({ instrumented: undefined, added: [] })

/**
 * What a pool makes its instances of, from bytes or a compiled module.
 *
 * - `module`: compiled, with its state exported where its bytes were given
 * - `report`: of its state; undefined where the module was compiled without `exposeState`
 * - `instrumented`: an InstrumentedModule; undefined without `options.growth`
 * - `hidden`: the exports that were added
 * - `bytes`: those that a digest is taken of; undefined where they are not known
 */
async function prepareModule(module, asked) {
  const given = isModule(module) ? undefined : copyOf(module)
  if (given === undefined && asked.growth !== undefined) {
    throw unsuitable("options.growth rewrites its code; pass the module's bytes")
  }
  const { instrumented, added } =
    asked.growth === undefined ? NOT_INSTRUMENTED : await instrumentLater(given, asked.growth)
  // An instance's functions have other indices then, so a state of the one module is none of the
  // other.
  const bytes = instrumented?.bytes ?? given
  const exposed = bytes === undefined ? undefined : await exposeLater(bytes, 'module')
  const report = exposed === undefined ? reportOf(module) : exposed.report
  if (report === undefined) refuseUnknown(module, asked)
  else refuseUnsuitable(report, asked)
  const compiled =
    exposed === undefined ? module : await compileExposed(exposed, instrumented && given)
  const hidden = new Set([...added, ...(report === undefined ? [] : addedNames(report))])
  return { module: compiled, report, instrumented, hidden, bytes }
}

/** `uninstrumented`: the bytes that were given, where they were rewritten. */
async function compileExposed({ bytes }, uninstrumented) {
  try {
    return await compile(bytes)
  } catch (error) {
    if (uninstrumented !== undefined) refuseTooLarge(uninstrumented, bytes)
    throw error
  }
}

/** The module's bytes as they are now. */
function copyOf(module) {
  if (!ArrayBuffer.isView(module) && !types.isAnyArrayBuffer(module)) {
    throw wrongModule(module)
  }
  return new Uint8Array(moduleBytes(module, 'module'))
}

function refuseSharedMemory(imports) {
  if (typeof imports === 'function') return
  throw unsuitable(
    'it imports its memory, and each instance needs one of its own: let options.imports be a function that makes a new WebAssembly.Memory in each call'
  )
}

/** Refuses a module that can't have a pool, by its report. */
function refuseUnsuitable(report, { imports, accept }) {
  const { memoryCount, memory } = report
  if (memoryCount === 0) throw unsuitable('it has no memory; make its instances without a pool')
  if (memoryCount > 1)
    throw unsuitable(`it has ${memoryCount} memories, and only one can be restored`)
  if (memory.import) refuseSharedMemory(imports)
  refuseNotRestorable(notRestorable(report), accept)
}

/**
 * The same for a compiled module that was not exposed: only its imports and exports can be told.
 */
function refuseUnknown(module, { imports, accept }) {
  const isMemory = ({ kind }) => kind === 'memory'
  const instead = "pass the module's bytes, or compile what exposeState gives"
  if (!Module.exports(module).some(isMemory)) throw unsuitable(`it exports no memory; ${instead}`)
  if (Module.imports(module).some(isMemory)) refuseSharedMemory(imports)
  const found = [
    ['hidden-globals', `mutable globals that it does not export can't be reached; ${instead}`],
    ['hidden-tables', `tables that it does not export can't be reached; ${instead}`]
  ]
  refuseNotRestorable(found, accept)
}

module.exports = { prepareModule }
