'use strict'

// What objects of an engine's JavaScript hold: the fields of classes and plain objects, and what is
// in their Maps, Sets and arrays. Functions, and objects that have state of their own elsewhere
// (memories, views of them, promises), are what they are.

const { types } = require('node:util')

const { getOwnPropertyDescriptor, isFrozen } = Object
const { ownKeys } = Reflect

/**
 * Records objects, and all that they lead to.
 *
 * @param isPassed key => boolean: fields that are neither recorded nor followed
 * @param leavesOf object => objects that are recorded, and of which what is inside is not followed
 * @returns the function that brings it all back
 */
function recordFields(roots, isPassed, leavesOf) {
  const seen = new Set()
  const leaves = new Set()
  const records = []
  const waiting = [...roots]
  for (const value of waiting) {
    if (!isFollowed(value) || seen.has(value)) continue
    seen.add(value)
    const record = recordOf(value, isPassed)
    records.push(record)
    for (const leaf of leavesOf(value)) leaves.add(leaf)
    if (!leaves.has(value)) waiting.push(...record.inside)
  }
  return () => {
    for (const { restore } of records) restore()
  }
}

function isFollowed(value) {
  if (typeof value !== 'object' || value === null) return false
  if (types.isMap(value) || types.isSet(value)) return true
  if (ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value)) return false
  if (types.isPromise(value) || types.isProxy(value)) return false
  if (types.isModuleNamespaceObject(value)) return false
  return !isOfWebAssembly(value) && !isFrozen(value)
}

const isOfWebAssembly = value =>
  Object.prototype.toString.call(value).startsWith('[object WebAssembly.')

function recordOf(value, isPassed) {
  if (types.isMap(value)) return recordMap(value)
  if (types.isSet(value)) return recordSet(value)
  return recordObject(value, isPassed)
}

function recordMap(map) {
  const entries = [...map]
  return {
    inside: entries.flat(),
    restore() {
      if (map.size === entries.length && entries.every(([key, value]) => map.get(key) === value))
        return
      map.clear()
      for (const [key, value] of entries) map.set(key, value)
    }
  }
}

function recordSet(set) {
  const values = [...set]
  return {
    inside: values,
    restore() {
      if (set.size === values.length && values.every(value => set.has(value))) return
      set.clear()
      for (const value of values) set.add(value)
    }
  }
}

function recordObject(object, isPassed) {
  const kept = []
  const known = new Set(ownKeys(object))
  for (const key of known) {
    const { writable, value } = getOwnPropertyDescriptor(object, key)
    if (writable === true && !isPassed(key)) kept.push([key, value])
  }
  const isArray = Array.isArray(object)
  return {
    inside: kept.map(([, value]) => value),
    restore() {
      // First, so that an array has no more entries than it had.
      for (let i = kept.length - 1; i >= 0; i--) {
        const [key, value] = kept[i]
        if (!Object.is(object[key], value) || !Object.hasOwn(object, key)) object[key] = value
      }
      if (isArray) return
      const keys = ownKeys(object)
      if (keys.length === known.size) return
      for (const key of keys) if (!known.has(key)) delete object[key]
    }
  }
}

module.exports = { recordFields }
