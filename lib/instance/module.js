'use strict'

// Modules, and exports for the state that they hide: see src/module. What of a module's state can't
// be restored is told here, and refused where nobody accepts it. Nothing here runs a module.

const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const { makeError, callNative } = require('../support/errors.js')
const { wrongList } = require('../support/wrong.js')
const { moduleBytes, unshared } = require('../platform/bytes.js')
const { runTask } = require('../platform/task.js')

// Taken now, like those of v8.js.
const { Module, validate } = WebAssembly
const { Uint8Array } = require('../platform/intrinsics.js')

const SECTION = 'wasm-hostmap'
// V8 takes no more on Node 20 and 22, and a million later.
const EXPORTS_OF_EVERY_V8 = 100_000
// Names of exports that were added, and that say what can't be restored: see What in
// src/module/report.rs.
const MARK = /^hostmap:(dropped-segments|gc-objects)(:\d+)?$/

/** The module with its state exported, and a report of it: see NativeReport in src/js/module.rs. */
function expose(module, name) {
  const bytes = unshared(moduleBytes(module, name))
  return checked(
    bytes,
    callNative(() => native.exposeState(bytes))
  )
}

/** The same, with the work on another thread. */
async function exposeLater(module, name) {
  const bytes = unshared(moduleBytes(module, name))
  const start = task => native.exposeStateLater(task, bytes)
  return checked(bytes, await runTask(start, 'The exposure of the module'))
}

/** Refuses a module that V8 would take no more, with all that was added. */
function checked(bytes, exposed) {
  const { exportCount, added } = exposed.report
  if (
    exportCount > EXPORTS_OF_EVERY_V8 &&
    added !== '' &&
    !validate(exposed.bytes) &&
    validate(bytes)
  ) {
    throw makeError(
      'ERR_HOSTMAP_UNSUITABLE_MODULE',
      `with its state exported the module would have ${exportCount} exports, which is more than V8 takes; pass one that exports less, or that keeps its state in memory`
    )
  }
  return exposed
}

function exposeState(module) {
  const { bytes } = expose(module, 'module')
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function isModule(value) {
  if (typeof value !== 'object' || value === null) return false
  try {
    Module.exports(value)
    return true
  } catch {
    return false
  }
}

/** The report in a compiled module; undefined if it was not made from what `exposeState` gives. */
function reportOf(module) {
  const sections = Module.customSections(module, SECTION)
  if (sections.length !== 1 || sections[0].byteLength === 0) return undefined
  const report = callNative(() => native.readReport(new Uint8Array(sections[0])))
  if (report === null || report === undefined) return undefined
  const shown = new Map(Module.exports(module).map(({ name, kind }) => [name, kind]))
  const { memory, exportCount, tables = [] } = report
  // Or else the section was copied from another module.
  const fits =
    shown.size === exportCount &&
    (!memory || shown.get(memory.exportName) === 'memory') &&
    addedNames(report).every(name => shown.has(name)) &&
    tables.every(({ exportName }) => shown.get(exportName) === 'table')
  return fits ? report : undefined
}

/** The names of the exports that were added. */
const addedNames = ({ added }) => (added === '' ? [] : added.slice(0, -1).split('\n'))

/**
 * What can't be restored of an instance, by the name that its exports have for it:
 * `dropped-segments`, `gc-objects`.
 */
const markOf = name => MARK.exec(name)?.[1]

// What a caller may take as it is: see ACCEPT. Of each: what is wrong then.
function notRestorable({ unreadableGlobals, unreadableTables, droppedSegments, gcObjects }) {
  const found = []
  if (unreadableGlobals !== '')
    found.push(['v128-globals', `JavaScript can't read ${unreadableGlobals}`])
  if (unreadableTables !== '')
    found.push(['hidden-tables', `JavaScript can't read ${unreadableTables}`])
  if (droppedSegments !== '') found.push(['dropped-segments', droppedWhy(droppedSegments)])
  if (gcObjects) found.push(['gc-objects', GC_WHY])
  return found
}

const droppedWhy = what =>
  `code that runs after the start function may drop ${what}, and nothing brings that back`
const GC_WHY = 'its globals or tables may lead to structs or arrays with mutable fields'

const ACCEPT = [
  'hidden-globals',
  'hidden-tables',
  'v128-globals',
  'dropped-segments',
  'gc-objects',
  'grown-memory',
  'grown-tables'
]

function checkAccept(accept) {
  if (!check.isArray(accept)) throw wrongList('options.accept', accept)
  accept.forEach((value, index) => check.oneOf(value, `options.accept[${index}]`, ACCEPT))
  return [...accept]
}

/** Throws for the first of what was found that nobody accepts. */
function refuseNotRestorable(found, accept) {
  const refused = found.filter(([name]) => !accept.includes(name))
  if (refused.length === 0) return
  const reasons = refused.map(([name, why]) => `${why} ('${name}')`).join('; ')
  throw makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `not all of an instance's state can be restored: ${reasons}. What may stay as a program left it can be named in options.accept`
  )
}

module.exports = {
  expose,
  exposeLater,
  exposeState,
  isModule,
  reportOf,
  addedNames,
  markOf,
  notRestorable,
  refuseNotRestorable,
  checkAccept,
  droppedWhy,
  GC_WHY
}
