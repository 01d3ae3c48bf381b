'use strict'

// States as files have them, and back. Only what every process can make again is encoded; all else
// is an error when the snapshot is taken, not when it is loaded.

const { makeError } = require('../support/errors.js')
const { ModuleFunction } = require('./functions.js')

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
  return {
    globals: globals.map(({ name, value }) => ({ name, value: values[value] })),
    tables: tables.map(({ name, entries }) => ({
      name,
      entries: Array.from(entries, entry => (entry === 0 ? null : values[entry - 1]))
    }))
  }
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
  encodeState,
  decodeState
}
