'use strict'

// What an instance's globals and tables hold, by its own objects: the fast way back for this
// instance. A live state keeps its instance alive: what outlives it keeps a State instead.

const { makeError } = require('../support/errors.js')
const {
  getValue,
  setValue,
  getLength,
  getEntry,
  setEntry,
  growTable,
  lengthOf,
  contentsOf,
  checkEntries
} = require('./globals-and-tables.js')

/**
 * What an instance has now, by its own objects: the fast way back for this instance. It keeps the
 * instance alive.
 */
function captureLive(found) {
  checkEntries(found.tables)
  return {
    found,
    globals: found.globals.map(([name, global]) => ({ name, global, value: getValue(global) })),
    tables: found.tables.map(([name, table]) => ({ name, table, entries: contentsOf(table) }))
  }
}

/** Throws `ERR_HOSTMAP_NOT_RESTORABLE` if a table has grown. */
function checkLive({ tables }) {
  checkLengths(tables)
}

/** After `checkLive`. */
function restoreLive({ globals, tables }) {
  putBack(globals, tables)
}

function checkLengths(tables) {
  for (let i = 0; i < tables.length; i++) {
    const { name, table, entries } = tables[i]
    if (lengthOf(table) > entries.length) {
      throw makeError(
        'ERR_HOSTMAP_NOT_RESTORABLE',
        `table "${name}" has grown from ${entries.length} to ${lengthOf(table)} entries, and tables can't shrink; use a new instance`
      )
    }
  }
}

function putBack(globals, tables) {
  for (let i = 0; i < tables.length; i++) {
    const { table, entries } = tables[i]
    const length = getLength(table)
    if (typeof length === 'bigint') {
      if (length < entries.length) growTable(table, BigInt(entries.length) - length)
      for (let at = 0; at < entries.length; at++) {
        const index = BigInt(at)
        if (!Object.is(getEntry(table, index), entries[at])) setEntry(table, index, entries[at])
      }
    } else {
      if (length < entries.length) growTable(table, entries.length - length)
      for (let at = 0; at < entries.length; at++) {
        if (!Object.is(getEntry(table, at), entries[at])) setEntry(table, at, entries[at])
      }
    }
  }
  for (let i = 0; i < globals.length; i++) setValue(globals[i].global, globals[i].value)
}

module.exports = {
  captureLive,
  checkLive,
  restoreLive,
  checkLengths,
  putBack
}
