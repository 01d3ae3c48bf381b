'use strict'

// Reading and writing WebAssembly.Global and WebAssembly.Table by V8's own functions, and what V8
// does not tell of them: whether a global is mutable, what a table can hold. Whatever is tried on
// one of them is undone before the function returns.

const { makeError } = require('../support/errors.js')
const { getter, setter, method } = require('../platform/intrinsics.js')

// Taken now, like those of v8.js.
const { Table } = WebAssembly
const getValue = getter('WebAssembly', 'Global', 'prototype', 'value')
const setValue = setter('WebAssembly', 'Global', 'prototype', 'value')
const getLength = getter('WebAssembly', 'Table', 'prototype', 'length')
const getEntry = method('WebAssembly', 'Table', 'prototype', 'get')
const setEntry = method('WebAssembly', 'Table', 'prototype', 'set')
const growTable = method('WebAssembly', 'Table', 'prototype', 'grow')

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

/** Whether a table takes any value of JavaScript's: growing by nothing tells. */
function takesAnything(table) {
  try {
    growTable(table, indexFor(table, 0), {})
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

// Each entry is a reference in some of our lists: a module of a few bytes may have a table of ten
// million.
const MOST_TABLE_ENTRIES = 1_000_000

const entriesIn = tables => tables.reduce((sum, [, table]) => sum + lengthOf(table), 0)

/** Whether they have more entries than can be kept. */
const hasTooManyEntries = tables => entriesIn(tables) > MOST_TABLE_ENTRIES

function checkEntries(tables) {
  if (!hasTooManyEntries(tables)) return
  const count = entriesIn(tables)
  throw makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `the instance's tables have ${count} entries, and at most ${MOST_TABLE_ENTRIES} can be kept; use a module with smaller tables`
  )
}

module.exports = {
  Table,
  getValue,
  setValue,
  getLength,
  getEntry,
  setEntry,
  growTable,
  kindOfGlobal,
  takes,
  lengthOf,
  isReadable,
  takesAnything,
  contentsOf,
  holdsObjects,
  hasTooManyEntries,
  checkEntries
}
