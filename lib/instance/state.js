'use strict'

// What an instance keeps besides its memory, as far as its exports show it: mutable globals and
// tables. They are read (a state), put back, carried to other instances of the same module, and
// written to files.

const { makeError } = require('../support/errors.js')
const { markOf, droppedWhy, GC_WHY } = require('./module.js')
const v8 = require('../platform/v8.js')

// Taken now, like those of v8.js.
const { Global, Table } = WebAssembly
const uncurryThis = Function.prototype.bind.bind(Function.prototype.call)
const accessor = (Class, name) => Object.getOwnPropertyDescriptor(Class.prototype, name)
const getValue = uncurryThis(accessor(Global, 'value').get)
const setValue = uncurryThis(accessor(Global, 'value').set)
const getLength = uncurryThis(accessor(Table, 'length').get)
const getEntry = uncurryThis(Table.prototype.get)
const setEntry = uncurryThis(Table.prototype.set)
const growTable = uncurryThis(Table.prototype.grow)

const tagOf = value =>
  typeof value === 'object' && value !== null ? value[Symbol.toStringTag] : undefined

/**
 * What an instance's exports show of its state. Each thing once, by the first of its names.
 *
 * - `memory`: the WebAssembly.Memory; undefined if there is none
 * - `globals`: `[name, WebAssembly.Global]` of each mutable one that JavaScript can read
 * - `tables`: `[name, WebAssembly.Table]`
 * - `functions`: `[name, function]`, by which other instances' functions are found
 * - `unreadableGlobals`, `unreadableTables`: names of those that JavaScript has no values for
 *   (v128, exnref)
 * - `marks`: what its module said of it when it was exposed (lib/instance/module.js)
 */
function reachable(exports) {
  const found = {
    memory: undefined,
    globals: [],
    tables: [],
    functions: [],
    unreadableGlobals: [],
    unreadableTables: [],
    marks: []
  }
  const seen = new Set()
  for (const name of Object.keys(exports)) {
    const mark = markOf(name)
    if (mark !== undefined) found.marks.push(mark)
    const value = exports[name]
    if (seen.has(value)) continue
    // By what it says it is first: asking whether it is a memory makes an error for each that is
    // none.
    const tag = typeof value === 'function' ? undefined : tagOf(value)
    if (typeof value === 'function') found.functions.push([name, value])
    else if (tag === 'WebAssembly.Global') {
      const kind = kindOfGlobal(value)
      if (kind === 'mutable') found.globals.push([name, value])
      else if (kind === 'unreadable') found.unreadableGlobals.push(name)
    } else if (tag === 'WebAssembly.Table') {
      if (isReadable(value)) found.tables.push([name, value])
      else found.unreadableTables.push(name)
    } else if (v8.isMemory(value)) {
      if (found.memory !== undefined) {
        throw makeError(
          'ERR_HOSTMAP_UNSUITABLE_MODULE',
          'the instance exports several memories; only modules with one memory are supported'
        )
      }
      found.memory = value
    } else continue
    seen.add(value)
  }
  return found
}

/**
 * What of an instance can't be restored, as far as it can be seen: see ACCEPT in module.js. `kept`
 * is its state, if that is to be looked at.
 */
function notRestorable({ unreadableGlobals, unreadableTables, marks }, kept) {
  const unreadable = names =>
    `JavaScript can't read ${names
      .slice(0, MOST_NAMED)
      .map(name => `"${name}"`)
      .join(
        ', '
      )}${names.length > MOST_NAMED ? ` and ${names.length - MOST_NAMED} more` : ''} (v128 or exnref)`
  const found = []
  if (unreadableGlobals.length > 0) found.push(['v128-globals', unreadable(unreadableGlobals)])
  if (unreadableTables.length > 0) found.push(['hidden-tables', unreadable(unreadableTables)])
  if (marks.includes('dropped-segments')) found.push(['dropped-segments', droppedWhy('a segment')])
  if (marks.includes('gc-objects')) found.push(['gc-objects', GC_WHY])
  else if (kept !== undefined && holdsObjects(kept)) {
    found.push(['gc-objects', 'a global or table holds a struct or array of the module'])
  }
  return found
}

const MOST_NAMED = 5

// A table that takes structs and arrays of modules, and no object of JavaScript's; undefined where
// V8 has none.
const OBJECTS = (() => {
  try {
    return new Table({ element: 'eqref', initial: 1 })
  } catch {
    return undefined
  }
})()

function isObjectOfModule(value) {
  if (OBJECTS === undefined || typeof value !== 'object' || value === null) return false
  try {
    setEntry(OBJECTS, 0, value)
    setEntry(OBJECTS, 0, null)
    return true
  } catch {
    return false
  }
}

const holdsObjects = ({ globals, tables }) =>
  globals.some(({ value }) => isObjectOfModule(value)) ||
  tables.some(({ entries }) => entries.some(isObjectOfModule))

const PROBE = new Error('probe')
const THROWS = {
  valueOf() {
    throw PROBE
  }
}

/**
 * Whether a global is `'mutable'`, `'immutable'` or `'unreadable'`. No property tells; V8 refuses
 * to set an immutable one before it converts the value. A number is not written back: V8 may change
 * the bits of a NaN that goes through JavaScript.
 */
function kindOfGlobal(global) {
  let value
  try {
    value = getValue(global)
  } catch {
    return isImmutable(global) ? 'immutable' : 'unreadable'
  }
  if (isNumber(global, value)) return 'mutable'
  try {
    setValue(global, value)
    return 'mutable'
  } catch {
    return 'immutable'
  }
}

/**
 * Whether a global's type is a number type, and it is mutable. Holding a number proves nothing:
 * externref does too.
 */
function isNumber(global, value) {
  if (typeof value !== 'number' && typeof value !== 'bigint') return false
  try {
    setValue(global, THROWS)
  } catch (error) {
    return error === PROBE
  }
  setValue(global, value)
  return false
}

// Of a global that can't be read only the wording tells.
function isImmutable(global) {
  try {
    setValue(global, 0)
    return false
  } catch (error) {
    return /immutable/.test(error.message)
  }
}

const lengthOf = table => Number(getLength(table))

// The index of an entry, as this table takes it: 64-bit tables take BigInts.
const indexFor = (table, index) => (typeof getLength(table) === 'bigint' ? BigInt(index) : index)

function isReadable(table) {
  if (lengthOf(table) === 0) return true
  try {
    getEntry(table, indexFor(table, 0))
    return true
  } catch {
    return false
  }
}

function contentsOf(table) {
  const is64 = typeof getLength(table) === 'bigint'
  const length = lengthOf(table)
  const entries = new Array(length)
  for (let i = 0; i < length; i++) entries[i] = getEntry(table, is64 ? BigInt(i) : i)
  return entries
}

// Each entry is a reference in some lists of ours: a module of a few bytes may have a table of ten
// million.
const MOST_TABLE_ENTRIES = 1_000_000

function checkEntries(tables) {
  const count = tables.reduce((sum, [, table]) => sum + lengthOf(table), 0)
  if (count <= MOST_TABLE_ENTRIES) return
  throw makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `the instance's tables have ${count} entries, and at most ${MOST_TABLE_ENTRIES} can be kept; use a module with smaller tables`
  )
}

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

// The live form of states, as long as both the state and its instance's memory live: by the memory,
// then by the state's key. So whoever keeps a state keeps no instance.
const lives = new WeakMap()

function liveOf({ strong, anchor, key }) {
  return strong ?? lives.get(anchor?.deref())?.get(key)
}

/**
 * The state, as it is now. `from` is whom it was taken from, `null` if that is gone or it came from
 * a file.
 */
function captureState(found) {
  const live = captureLive(found)
  const key = {}
  const parts = { ...describe(live), key, strong: undefined, anchor: undefined }
  if (found.memory === undefined) {
    // Globals alone, which nothing else may hold.
    parts.strong = live
  } else {
    if (!lives.has(found.memory)) lives.set(found.memory, new WeakMap())
    lives.get(found.memory).set(key, live)
    parts.anchor = new WeakRef(found.memory)
  }
  return makeState(parts)
}

const makeState = parts => ({
  ...parts,
  get from() {
    return liveOf(this)?.found ?? null
  }
})

/**
 * Puts a state back, into the instance that it was taken from or another one. Nothing is changed
 * where it throws `ERR_HOSTMAP_SNAPSHOT_MISMATCH` (the instance lacks something) or
 * `ERR_HOSTMAP_NOT_RESTORABLE` (a table has grown, or a function can't be found), but where a table
 * can't be grown.
 */
function restoreState(found, state) {
  // Whoever it was taken from is gone.
  if (found === null) return
  const live = liveOf(state)
  if (live?.found === found) {
    checkLive(live)
    restoreLive(live)
  } else prepareRestore(found, state)()
}

/**
 * Throws what `restoreState` would for the instance that the state was taken of: to be called
 * before its memory is changed.
 */
function checkOwn(state) {
  const live = liveOf(state)
  if (live !== undefined) checkLive(live)
}

/** Checks all that `restoreState` checks, and gives the function that does the rest. */
function prepareRestore(found, state) {
  const globals = new Map(found.globals)
  const tables = new Map(found.tables)
  const { source, translate } = sourceFor(found, state)
  const toGlobals = source.globals.map(({ name, value }) => {
    const global = globals.get(name) ?? missing('mutable global', name)
    const next = translate(value)
    if (!takes(global, next)) throw mismatch(`its global "${name}" is of another type`)
    return { global, value: next }
  })
  const toTables = source.tables.map(({ name, entries }) => {
    const table = tables.get(name) ?? missing('table', name)
    return { name, table, entries: entries.map(translate) }
  })
  checkLengths(toTables)
  return () => {
    try {
      putBack(toGlobals, toTables)
    } catch (error) {
      throw mismatch(`V8 refused a value: ${error.message}`, error)
    }
  }
}

/**
 * The state's live form where these are the objects that it was taken from, and else the
 * descriptions to be translated.
 */
function sourceFor(found, state) {
  const live = liveOf(state)
  if (live !== undefined) {
    const taken = new Map([...live.found.globals, ...live.found.tables])
    const shown = new Map([...found.globals, ...found.tables])
    const wanted = new Set([...state.globals, ...state.tables].map(({ name }) => name))
    if ([...wanted].every(name => shown.has(name) && shown.get(name) === taken.get(name))) {
      const isWanted = ({ name }) => wanted.has(name)
      const source = {
        globals: live.globals.filter(isWanted),
        tables: live.tables.filter(isWanted)
      }
      return { source, translate: value => value }
    }
  }
  return { source: state, translate: translator(found, state) }
}

/**
 * A name of a global or table of the instance's that the state lacks; `undefined` if there is none.
 */
function missingIn(state, { globals, tables }) {
  const names = new Set(
    [...(state?.globals ?? []), ...(state?.tables ?? [])].map(({ name }) => name)
  )
  return [...globals, ...tables].find(([name]) => !names.has(name))?.[0]
}

function takes(global, next) {
  const value = getValue(global)
  if (isNumber(global, value)) return typeof next === typeof value
  try {
    setValue(global, next)
    setValue(global, value)
    return true
  } catch {
    return false
  }
}

function missing(kind, name) {
  throw mismatch(`it has no ${kind} "${name}"`)
}

const mismatch = (why, cause) =>
  makeError(
    'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
    `the snapshot is not one of this instance's module: ${why}`,
    cause === undefined ? undefined : { cause }
  )

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

// From here on: states for other instances, and for files. A function belongs to its instance, so
// it becomes a description, by which another instance's own one is found.

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

/**
 * Throws if other instances can't be brought into this state. What the instance held when it was
 * new must be noted.
 */
function checkPortable(found, state) {
  const translate = translator(found, state)
  for (const { value } of state.globals) translate(value)
  for (const { entries } of state.tables) entries.forEach(translate)
}

/**
 * The state as files have it: `values`, each once; `globals` and `tables` name them by their place
 * there. Of a table's entries 0 is null, and other numbers are one more than a value's place.
 */
function encodeState({ globals, tables }) {
  const values = []
  const places = new Map()
  const placeOf = (value, where) => {
    // A Map takes 0 and -0 for one key.
    const key = Object.is(value, -0) ? MINUS_ZERO : value
    let place = places.get(key)
    if (place === undefined) {
      values.push(encodeValue(value, where))
      places.set(key, (place = values.length - 1))
    }
    return place
  }
  return {
    globals: globals.map(({ name, value }) => ({
      name: wellFormed(name, 'the name of a global'),
      value: placeOf(value, `global "${name}"`)
    })),
    tables: tables.map(({ name, entries }) => ({
      name: wellFormed(name, 'the name of a table'),
      entries: Uint32Array.from(entries, (value, at) =>
        value === null ? 0 : placeOf(value, `entry ${at} of table "${name}"`) + 1
      )
    })),
    values
  }
}

const MINUS_ZERO = Symbol('-0')
const MAX_DIGITS = 40

function encodeValue(value, where) {
  const refuse = why => {
    throw makeError(
      'ERR_HOSTMAP_NOT_RESTORABLE',
      `${where} ${why}; clear it before the snapshot is taken`
    )
  }
  if (value instanceof ModuleFunction) {
    const { index, exportName, whose } = value
    if (!/^\d{1,9}$/.test(index)) refuse('holds a function that no file can name')
    if (exportName !== null) wellFormed(exportName, 'the name of an export')
    return {
      kind: 'function',
      function: { index: Number(index), exportName: exportName ?? undefined, whose }
    }
  }
  if (value === null) return { kind: 'null' }
  switch (typeof value) {
    case 'number':
      return { kind: 'number', number: value }
    case 'bigint': {
      const text = `${value}`
      if (text.length > MAX_DIGITS) refuse(`holds a BigInt of more than ${MAX_DIGITS} digits`)
      return { kind: 'bigint', text }
    }
    case 'string':
      return { kind: 'string', text: wellFormed(value, where) }
    case 'boolean':
      return { kind: 'boolean', boolean: value }
    case 'undefined':
      return { kind: 'undefined' }
  }
  return refuse('refers to an object of this process, which no file can hold')
}

function wellFormed(text, where) {
  if (text.isWellFormed()) return text
  throw makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `${where} holds half a surrogate pair, which no file can; change it before the snapshot is taken`
  )
}

/** The state that `encodeState` encoded. The native part has checked it. */
function decodeState({ values: encoded, globals, tables }) {
  const values = encoded.map(decodeValue)
  return makeState({
    key: undefined,
    strong: undefined,
    anchor: undefined,
    globals: globals.map(({ name, value }) => ({ name, value: values[value] })),
    tables: tables.map(({ name, entries }) => ({
      name,
      entries: Array.from(entries, entry => (entry === 0 ? null : values[entry - 1]))
    }))
  })
}

function decodeValue({ kind, boolean, number, text, function: found }) {
  switch (kind) {
    case 'function':
      return new ModuleFunction(
        String(found.index),
        found.exportName ?? null,
        found.whose,
        undefined
      )
    case 'number':
      return number
    case 'bigint':
      return BigInt(text)
    case 'string':
      return text
    case 'boolean':
      return boolean
    case 'null':
      return null
  }
  return undefined
}

module.exports = {
  reachable,
  notRestorable,
  noteFirstContents,
  captureLive,
  checkLive,
  restoreLive,
  captureState,
  prepareRestore,
  restoreState,
  checkOwn,
  missingIn,
  checkPortable,
  encodeState,
  decodeState
}
