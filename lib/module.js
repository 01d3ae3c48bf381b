'use strict'

// Modules, and exports for the state that they hide: see src/module.rs.

const { types } = require('node:util')
const native = require('./binding.js')
const check = require('./arguments.js')
const { callNative } = require('./errors.js')

const { Module } = WebAssembly
const { Uint8Array } = globalThis

const SECTION = 'wasm-hostmap'

/** The module with its state exported, and a report of it: see NativeReport in src/js/module.rs. */
function expose(module, name) {
  const given = check.bytes(module, name)
  // Other threads may write what is shared.
  const bytes = types.isSharedArrayBuffer(given.buffer) ? new Uint8Array(given) : given
  return callNative(() => native.exposeState(bytes))
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
  if (sections.length !== 1) return undefined
  const report = callNative(() => native.readReport(new Uint8Array(sections[0])))
  if (report === null || report === undefined) return undefined
  const shown = new Map(Module.exports(module).map(({ name, kind }) => [name, kind]))
  const isShown = kind => it => shown.get(it.exportName) === kind
  const { memory, globals, tables } = report
  // A section that was copied from another module.
  const fits =
    (!memory || isShown('memory')(memory)) &&
    globals.every(isShown('global')) &&
    tables.every(isShown('table'))
  return fits ? report : undefined
}

module.exports = { expose, exposeState, isModule, reportOf }
