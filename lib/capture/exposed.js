'use strict'

// Modules and instances that are made in a capture: modules from bytes that export their state,
// instances whose exports look as if they had not. Here is what is made; replacements.js says when.

const { types } = require('node:util')
const { makeError } = require('../support/errors.js')
const { bytes: checkBytes } = require('../platform/bytes.js')
const { Uint8Array, getter, weakGet } = require('../platform/intrinsics.js')
const { contentsOf, hasTooManyEntries } = require('../instance/globals-and-tables.js')
const { expose, exposeLater, reportOf, addedNames } = require('../instance/module.js')
const { reachable } = require('../instance/reachable.js')
const { noteCode } = require('../instance/table-writes.js')
const { countSuspended, countsSuspended } = require('./suspended.js')

// Taken now, like those of v8.js.
const { validate } = WebAssembly
const { defineProperty, freeze, keys } = Object
const trueExports = getter('WebAssembly', 'Instance', 'prototype', 'exports')

// Of each module that was compiled in a capture: its report, or why it has none.
const modules = new WeakMap()

/** Whether a value is what V8 compiles: bytes that are not empty. */
function isBytes(value) {
  if (!ArrayBuffer.isView(value) && !types.isAnyArrayBuffer(value)) return false
  try {
    return value.byteLength > 0
  } catch {
    // A DataView of a detached buffer can't be asked.
    return false
  }
}

/**
 * What to compile in the place of bytes: `bytes`, and for `noteModule` a `report` or an `error`.
 * What V8 refuses is left to V8, which says why: engines try so what it can do.
 */
function exposedBytes(given) {
  const copy = copyOf(given)
  try {
    return fromExposed(expose(copy, 'module'))
  } catch (error) {
    return unexposed(copy, error)
  }
}

/** The same, with the work on another thread. */
async function exposedBytesLater(given) {
  const copy = copyOf(given)
  try {
    return fromExposed(await exposeLater(copy, 'module'))
  } catch (error) {
    return unexposed(copy, error)
  }
}

// As V8 does, which compiles what the bytes are now.
const copyOf = given => new Uint8Array(checkBytes(given, 'module'))

const fromExposed = ({ bytes, report }) => ({
  bytes: new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength),
  report,
  error: undefined
})

const unexposed = (bytes, error) => ({
  bytes,
  report: undefined,
  error: validate(bytes) ? error : undefined
})

/** What a script has put in the place of V8's functions may give anything. */
function noteModule(module, { report, error }) {
  if (typeof module === 'object' && module !== null) modules.set(module, { report, error })
}

/** Why an instance of a module can't be captured, as an error; undefined if it can. */
function refusalOf(module) {
  const { report, error } = known(module)
  if (error !== undefined) {
    const message = `make instantiated a module whose state can't be exposed: ${error.message}`
    return makeError('ERR_HOSTMAP_NOT_CAPTURED', message, { cause: error })
  }
  if (report === undefined) {
    return makeError(
      'ERR_HOSTMAP_NOT_CAPTURED',
      "make instantiated a WebAssembly.Module that was compiled before, or elsewhere, so that what it hides of its state can't be reached; let make compile it (engines keep modules from one call to the next, and most have an option for a module of yours), or compile what exposeState gives of its bytes"
    )
  }
  if (report.memoryCount <= 1) return undefined
  return makeError(
    'ERR_HOSTMAP_UNSUITABLE_MODULE',
    `make instantiated a module with ${report.memoryCount} memories, and only one can be restored`
  )
}

/** What is known of a module: `report` is undefined where it was compiled elsewhere. */
function known(module) {
  const noted = weakGet(modules, module)
  if (noted !== undefined) return noted
  let report
  try {
    report = reportOf(module)
  } catch (error) {
    return { report: undefined, error }
  }
  return { report, error: undefined }
}

/**
 * What is known of a new instance. Its exports are made to look as if its module were as it was:
 * engines go through them.
 *
 * @param context see CaptureContext
 */
function recordOf(instance, module, { calls, tables }) {
  const { report } = known(module)
  const exports = trueExports(instance)
  const found = reachable(exports)
  noteFirst(found, tables)
  noteCode(exports, found, report)
  const hidden = new Set(addedNames(report))
  const counted = countsSuspended(exports)
  if (hidden.size > 0 || counted) {
    const shown = { __proto__: null }
    for (const name of keys(exports)) if (!hidden.has(name)) shown[name] = exports[name]
    if (counted) countSuspended(shown, calls, report?.memory?.is64 === true)
    defineProperty(instance, 'exports', {
      value: freeze(shown),
      enumerable: false,
      configurable: true
    })
  }
  return { instance, found, report }
}

/**
 * Notes what tables have that come with an instance. What is put there later may be JavaScript's:
 * see `isAdded` in lib/checkpoint/tables.js, which is why only functions of that name count.
 */
function noteFirst(found, { seen, first }) {
  // No checkpoint is taken of them.
  if (hasTooManyEntries(found.tables)) return
  for (const [, table] of found.tables) {
    if (seen.has(table)) continue
    seen.add(table)
    for (const entry of contentsOf(table))
      if (typeof entry === 'function' && entry.name === '0') first.add(entry)
  }
}

module.exports = {
  copyOf,
  isBytes,
  exposedBytes,
  exposedBytesLater,
  noteModule,
  refusalOf,
  recordOf
}
