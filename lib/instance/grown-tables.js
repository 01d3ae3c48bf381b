'use strict'

// Tables that have grown. They can't shrink: what is new in them becomes null, where it can be.
// Code that has learnt the size of its table keeps books of it in memory, which a restore takes
// back: that of wasm-bindgen aborts where another one seems to have grown its table. So such a
// table is put back only where somebody accepts that.

const { makeError } = require('../support/errors.js')
const { getEntry, getLength, lengthOf, setEntry } = require('./globals-and-tables.js')

// Of tables of instances whose modules are known: whose code may learn their size, and whose not.
const sized = new WeakSet()
const unsized = new WeakSet()

/**
 * @param exports all of an instance, with those that were added
 * @param report of its module: see lib/instance/module.js; undefined if it is not known
 */
function noteSizes(exports, report) {
  for (const { exportName, sized: isSized } of report?.tables ?? [])
    (isSized ? sized : unsized).add(exports[exportName])
}

/** Throws `ERR_HOSTMAP_NOT_RESTORABLE` unless what is new in a table can become null. */
function checkGrown(name, table, length, isAccepted) {
  const grown = `table "${name}" has grown from ${length} to ${lengthOf(table)} entries, and tables can't shrink`
  if (!takesNull(table)) {
    throw makeError(
      'ERR_HOSTMAP_NOT_RESTORABLE',
      `${grown}. Its new entries can't be null either; use a new instance`
    )
  }
  if (isAccepted || (unsized.has(table) && !sized.has(table))) return
  throw makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `${grown}. ${sized.has(table) ? "The module's code may have learnt its size" : "It is not known whether the module's code has learnt its size"}, and would find more than it remembers. Use a new instance; or where that does no harm name 'grown-tables' in options.accept, and the new entries become null`
  )
}

/** Whether an entry of a table that is not empty can be null. */
function takesNull(table) {
  const length = getLength(table)
  const last = typeof length === 'bigint' ? length - 1n : length - 1
  const entry = getEntry(table, last)
  try {
    setEntry(table, last, null)
  } catch {
    return false
  }
  setEntry(table, last, entry)
  return true
}

module.exports = { noteSizes, checkGrown }
