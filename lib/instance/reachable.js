'use strict'

// What an instance's exports show of its state: its memory, mutable globals, tables and functions.
// And what of it can't be restored, where exports tell. Nothing here changes an instance.

const { makeError } = require('../support/errors.js')
const v8 = require('../platform/v8.js')
const { markOf, droppedWhy, GC_WHY } = require('./module.js')
const { kindOfGlobal, isReadable, holdsObjects } = require('./globals-and-tables.js')

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
 * What of an instance can't be restored, where that can be seen: see ACCEPT in module.js. `kept`
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

module.exports = {
  reachable,
  notRestorable
}
