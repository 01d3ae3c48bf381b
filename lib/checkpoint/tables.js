'use strict'

// The globals and tables of a unit at one moment, and how they get back there. What glue keeps in
// JavaScript of a table must still fit it afterwards. So a function in an entry that was empty
// stays there: addFunction and dlsym remember where they put it, and hand out its index again.
// Where the view of the glue would not fit, and that shows, nothing is changed.
//
// Of a table only what was written since is looked at, where that is known. It is enough: what was
// found right, put back, or left where glue had put it, would be found so again.

const { makeError } = require('../support/errors.js')
const {
  getValue,
  setValue,
  getLength,
  getEntry,
  setEntry,
  takesAnything,
  contentsOf,
  checkEntries
} = require('../instance/globals-and-tables.js')
const { checkGrown } = require('../instance/grown-tables.js')
const { lookAt, noteSeen, noteWrite, seenOf } = require('../instance/table-writes.js')

/**
 * The functions of all instances of some groups. Weak: what is kept of one group must not keep the
 * others, which nobody else may hold.
 */
const functionsOf = groups =>
  new WeakSet(
    groups.flatMap(({ parts }) => parts.flatMap(({ found }) => found.functions.map(([, it]) => it)))
  )

/**
 * Throws `ERR_HOSTMAP_NOT_RESTORABLE` where a table shows an instance that was not captured.
 *
 * @param group see insideFrom in lib/capture/unit.js
 * @param own see functionsOf; what the tables have is added
 */
function keepGlobalsAndTables({ globals, tables, lengths, first }, own) {
  checkEntries(tables)
  const added = new Set()
  const kept = tables.map(([name, table]) => {
    const entries = contentsOf(table)
    // Glue keeps no indices of functions there, and a function is one value of many.
    const isOfFunctions = !takesAnything(table)
    const last = isOfFunctions ? entries.length : 0
    for (let at = 0; at < last; at++) {
      const entry = entries[at]
      if (at >= lengths.get(table) && isForeign(entry, own)) throw isNew(name, at, LATE)
      if (first !== undefined && isAdded(entry) && !first.has(entry)) added.add(entry)
    }
    return {
      name,
      table,
      is64: typeof getLength(table) === 'bigint',
      isOfFunctions,
      entries,
      seen: seenOf(table)
    }
  })
  for (const { entries, isOfFunctions } of kept)
    for (const entry of isOfFunctions ? entries : [])
      if (typeof entry === 'function') own.add(entry)
  return {
    globals: globals.map(([name, global]) => ({ name, global, value: getValue(global) })),
    tables: kept,
    added,
    own
  }
}

/**
 * Adds what has to be written to tables to a list: table, index and entry in turn. Throws
 * `ERR_HOSTMAP_NOT_RESTORABLE` where the glue could not go on afterwards, or what is new in a table
 * can't become null.
 */
function addChanges(changes, { tables, added, own }) {
  for (let i = 0; i < tables.length; i++) {
    const { name, table, is64, isOfFunctions, entries, seen } = tables[i]
    let takesNull = false
    lookAt(table, seen, at => {
      const index = is64 ? BigInt(at) : at
      const now = getEntry(table, index)
      const then = at < entries.length ? entries[at] : null
      if (Object.is(now, then)) return false
      if (isOfFunctions) {
        if (added.has(then)) throw wasRemoved(name, at)
        if (at >= entries.length && isForeign(now, own)) throw isNew(name, at, SINCE)
        if (then === null && isGlues(now, own, at >= entries.length)) return false
      }
      if (at >= entries.length && !takesNull) {
        checkGrown(name, table, entries.length, true)
        takesNull = true
      }
      changes.push(table, index, then)
      return true
    })
  }
}

/** Writes changes, which other checkpoints of the same tables have to see. */
function putEntries(changes) {
  for (let i = 0; i < changes.length; i += 3) {
    const table = changes[i]
    const index = changes[i + 1]
    noteWrite(table, Number(index))
    setEntry(table, index, changes[i + 2])
  }
}

/** To be called when all changes are made. */
function noteTables({ tables }) {
  for (let i = 0; i < tables.length; i++) noteSeen(tables[i].table, tables[i].seen)
}

function putGlobals({ globals }) {
  for (let i = 0; i < globals.length; i++) setValue(globals[i].global, globals[i].value)
}

// A function of JavaScript's gets into a table through a module that imports and exports it, and
// does nothing else: its index there is 0, which is the name that V8 gives it.
const isAdded = entry => typeof entry === 'function' && entry.name === '0'

/**
 * Whether glue has put this into an entry that was empty: a function of JavaScript's, or where the
 * table has grown also one of the engine's own. Elsewhere the engine's code may have done that.
 */
const isGlues = (entry, own, isGrown) =>
  typeof entry === 'function' && (own.has(entry) ? isGrown : isAdded(entry))

const isForeign = (entry, own) => typeof entry === 'function' && !isAdded(entry) && !own.has(entry)

const wasRemoved = (name, index) =>
  makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `entry ${index} of table "${name}" had a function of JavaScript's, which was removed since the checkpoint (by removeFunction, say, when something was closed): its glue would give the entry away again; make a new engine, and close or remove after the last restore only`
  )

const isNew = (name, index, why) =>
  makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `entry ${index} of table "${name}" has a function of an instance that was made since ${why}`
  )

// By dlopen, mostly, of an extension.
const LATE =
  'the capture, so that its state is not known; load all that the engine will need (extensions, shared libraries) within make'
const SINCE =
  'the checkpoint, of which its glue would go on to believe that it is loaded; make a new engine, and load all that it will need (extensions, shared libraries) within make'

module.exports = {
  functionsOf,
  keepGlobalsAndTables,
  addChanges,
  putEntries,
  noteTables,
  putGlobals
}
