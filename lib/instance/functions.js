'use strict'

// A function belongs to its instance. For other instances, and for files, it becomes a description
// by which another instance's own one is found. What can't be found is an error: a function of
// another index would be called in its place.

const { makeError } = require('../support/errors.js')
const { Table, getValue, setEntry, contentsOf, checkEntries } = require('./globals-and-tables.js')

// What globals and tables held when their instance was new, by the object.
const firstContents = new WeakMap()

/**
 * Remembers what is there now as what each new instance has. To be called before anything of the
 * instance has run.
 */
function noteFirstContents({ globals, tables }) {
  checkEntries(tables)
  for (const [, global] of globals) firstContents.set(global, getValue(global))
  for (const [, table] of tables) firstContents.set(table, contentsOf(table))
}

/** A function of the module, by its index and where it was found. */
class ModuleFunction {
  constructor(index, exportName, whose, given) {
    this.index = index
    // null if it is not exported.
    this.exportName = exportName
    // 'own' if the instance showed it when it was new, 'foreign' if not, 'unknown' if what it
    // showed then is not known.
    this.whose = whose
    // The function itself. Weak: it holds its instance.
    this.given = given
  }
}

const SCRATCH = new Table({ __proto__: null, element: 'anyfunc', initial: 1 })

// A table of functions takes no others.
function isWasmFunction(value) {
  if (typeof value !== 'function') return false
  try {
    setEntry(SCRATCH, 0, value)
    setEntry(SCRATCH, 0, null)
    return true
  } catch {
    return false
  }
}

/** The functions that an instance shows, or showed when it was new. */
function viewOf(found) {
  const byExport = new Map(found.functions)
  const first = (it, now) => (firstContents.has(it) ? firstContents.get(it) : now(it))
  const globals = new Map(found.globals.map(([name, it]) => [name, first(it, getValue)]))
  const tables = new Map(found.tables.map(([name, it]) => [name, first(it, contentsOf)]))
  const all = new Set()
  const byIndex = new Map()
  const add = value => {
    if (all.has(value) || !isWasmFunction(value)) return
    all.add(value)
    // Two functions of one index: one of them is another module's, and nothing tells which.
    byIndex.set(value.name, byIndex.has(value.name) ? null : value)
  }
  for (const value of byExport.values()) add(value)
  for (const value of globals.values()) add(value)
  for (const entries of tables.values()) entries.forEach(add)
  return { byExport, globals, tables, all, byIndex }
}

/** Globals and tables with descriptions of functions. */
function describe({ found, globals, tables }) {
  const view = viewOf(found)
  const exportNames = new Map(found.functions.map(([name, value]) => [value, name]))
  // Only what was noted when it was new proves whose function a table holds.
  const noted = [...found.globals, ...found.tables].every(([, it]) => firstContents.has(it))
  const described = new Map()
  const describeValue = value => {
    if (!isWasmFunction(value)) return value
    if (!described.has(value)) {
      const exportName = exportNames.get(value) ?? null
      const isOwn = exportName !== null || (noted && view.all.has(value))
      const whose = isOwn ? 'own' : noted ? 'foreign' : 'unknown'
      described.set(value, new ModuleFunction(value.name, exportName, whose, new WeakRef(value)))
    }
    return described.get(value)
  }
  return {
    globals: globals.map(({ name, value }) => ({ name, value: describeValue(value) })),
    tables: tables.map(({ name, entries }) => ({ name, entries: entries.map(describeValue) }))
  }
}

/**
 * Gives another instance's function for each description. What it can't find is an error, before
 * anything is changed.
 */
function translator(found, { globals, tables }) {
  const view = viewOf(found)
  const own = new Map()
  const place = (value, candidate) => {
    if (candidate?.name === value.index && isWasmFunction(candidate)) own.set(value, candidate)
  }
  // The same place in an instance that is new holds the same function.
  const placeAt = (value, candidate) => {
    if (value instanceof ModuleFunction && value.whose !== 'foreign' && !own.has(value))
      place(value, candidate)
  }
  for (const { name, value } of globals) placeAt(value, view.globals.get(name))
  for (const { name, entries } of tables) {
    const there = view.tables.get(name)
    if (there !== undefined) entries.forEach((value, at) => placeAt(value, there[at]))
  }
  return value => {
    if (!(value instanceof ModuleFunction)) return value
    if (!own.has(value) && value.exportName !== null)
      place(value, view.byExport.get(value.exportName))
    if (!own.has(value) && value.whose === 'own') {
      // A function that both were given.
      const given = value.given?.deref()
      if (view.all.has(given)) own.set(value, given)
      else place(value, view.byIndex.get(value.index))
    }
    return own.get(value) ?? unknownFunction(value.index)
  }
}

function unknownFunction(index) {
  throw makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `a table or global holds function ${index}, and no other instance shows where to find its own: export the function, let an element segment put it into a table, or don't put functions of other modules there before the snapshot is taken`
  )
}

module.exports = {
  ModuleFunction,
  noteFirstContents,
  describe,
  translator
}
