'use strict'

// What an instance's globals and tables hold, by its own objects: the fast way back for this
// instance. A live state keeps its instance alive: what outlives it keeps a State instead.

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
const { checkGrown } = require('./grown-tables.js')
const { lookAt, noteSeen, noteWrite, seenOf } = require('./table-writes.js')

/**
 * What an instance has now, by its own objects: the fast way back for this instance. It keeps the
 * instance alive.
 */
function captureLive(found) {
  checkEntries(found.tables)
  return {
    found,
    globals: found.globals.map(([name, global]) => ({ name, global, value: getValue(global) })),
    tables: found.tables.map(([name, table]) => ({
      name,
      table,
      entries: contentsOf(table),
      seen: seenOf(table)
    }))
  }
}

/**
 * Throws `ERR_HOSTMAP_NOT_RESTORABLE` if a table has grown that can't be put back: see
 * grown-tables.js.
 */
function checkLive({ tables }, takesGrown) {
  checkLengths(tables, takesGrown)
}

/** After `checkLive`. */
function restoreLive({ globals, tables }) {
  putBack(globals, tables)
}

function checkLengths(tables, takesGrown) {
  for (let i = 0; i < tables.length; i++) {
    const { name, table, entries } = tables[i]
    if (lengthOf(table) > entries.length) checkGrown(name, table, entries.length, takesGrown)
  }
}

/** `seen` of a table: what was seen of it when it had these entries; undefined if nothing was. */
function putBack(globals, tables) {
  for (let i = 0; i < tables.length; i++) putTable(tables[i])
  for (let i = 0; i < globals.length; i++) setValue(globals[i].global, globals[i].value)
}

function putTable({ table, entries, seen }) {
  const is64 = typeof getLength(table) === 'bigint'
  const missing = entries.length - lengthOf(table)
  if (missing > 0) growTable(table, is64 ? BigInt(missing) : missing)
  lookAt(table, seen, at => {
    const index = is64 ? BigInt(at) : at
    const then = at < entries.length ? entries[at] : null
    if (Object.is(getEntry(table, index), then)) return false
    noteWrite(table, at)
    setEntry(table, index, then)
    return true
  })
  if (seen !== undefined) noteSeen(table, seen)
}

module.exports = {
  captureLive,
  checkLive,
  restoreLive,
  checkLengths,
  putBack
}
