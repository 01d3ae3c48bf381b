'use strict'

// The globals and tables of a unit at one moment, and how they get back there. A table can't
// shrink: entries that it has more become null. What glue keeps in JavaScript of a table must still
// fit it afterwards: where it would not, and that shows, nothing is changed.

const { makeError } = require('../support/errors.js')
const {
  getValue,
  setValue,
  getLength,
  getEntry,
  setEntry,
  lengthOf,
  contentsOf,
  checkEntries
} = require('../instance/globals-and-tables.js')

/** @param group see insideFrom in lib/capture/unit.js */
function keepGlobalsAndTables({ parts, globals, tables, first }) {
  checkEntries(tables)
  const kept = tables.map(([name, table]) => ({
    name,
    table,
    is64: typeof getLength(table) === 'bigint',
    entries: contentsOf(table)
  }))
  const all = kept.flatMap(({ entries }) => entries)
  return {
    globals: globals.map(([name, global]) => ({ name, global, value: getValue(global) })),
    tables: kept,
    added: new Set(first === undefined ? [] : all.filter(it => isAdded(it) && !first.has(it))),
    own: new Set([...parts.flatMap(({ found }) => found.functions.map(([, it]) => it)), ...all])
  }
}

/**
 * Adds what has to be written to tables to a list: table, index and entry in turn. Throws
 * `ERR_HOSTMAP_NOT_RESTORABLE` where the glue could not go on afterwards.
 */
function addChanges(changes, { tables, added, own }) {
  for (let i = 0; i < tables.length; i++) {
    const { name, table, is64, entries } = tables[i]
    const length = lengthOf(table)
    for (let at = 0; at < length; at++) {
      const index = is64 ? BigInt(at) : at
      const now = getEntry(table, index)
      const then = at < entries.length ? entries[at] : null
      if (Object.is(now, then)) continue
      if (added.has(then)) throw wasRemoved(name, at)
      if (at >= entries.length && isForeign(now, own)) throw isNew(name, at)
      changes.push(table, index, then)
    }
  }
}

function putEntries(changes) {
  for (let i = 0; i < changes.length; i += 3) setEntry(changes[i], changes[i + 1], changes[i + 2])
}

function putGlobals({ globals }) {
  for (let i = 0; i < globals.length; i++) setValue(globals[i].global, globals[i].value)
}

// A function of JavaScript's gets into a table through a module that imports and exports it, and
// does nothing else: its index there is 0, which is the name that V8 gives it.
const isAdded = entry => typeof entry === 'function' && entry.name === '0'

const isForeign = (entry, own) => typeof entry === 'function' && !isAdded(entry) && !own.has(entry)

const wasRemoved = (name, index) =>
  makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `entry ${index} of table "${name}" had a function of JavaScript's, which was removed since the checkpoint (by removeFunction, say, when something was closed): its glue would give the entry away again; make a new engine, and close or remove after the last restore only`
  )

const isNew = (name, index) =>
  makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `entry ${index} of table "${name}" has a function of an instance that was made since the checkpoint (by dlopen, say, of an extension), of which its glue would believe that it is loaded; make a new engine, and load all that it needs before the checkpoint`
  )

module.exports = { keepGlobalsAndTables, addChanges, putEntries, putGlobals }
