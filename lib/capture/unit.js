'use strict'

// CapturedUnit: the instances that one `make` made, which go back together. It holds none of them:
// a factory may make more than it keeps (PGlite makes a whole engine that only fills the database),
// and what nobody holds has no state that matters.

const { inspect } = require('node:util')
const { makeError } = require('../support/errors.js')
const { keepHere } = require('../region/share.js')
const { weakGet } = require('../platform/intrinsics.js')
const { findLinear } = require('../memory/find.js')
const { lengthOf } = require('../instance/globals-and-tables.js')
const { watchTables } = require('./tables.js')

// Lets this file alone make units.
const MAKE = Symbol('make')

// By what a factory gave, and by each of the instances.
const units = new WeakMap()

let insideOf

class CapturedUnit {
  #inside

  static {
    insideOf = value =>
      typeof value === 'object' && value !== null && #inside in value ? value.#inside : undefined
  }

  constructor(make, inside) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'CapturedUnit has no public constructor: use capture'
      )
    }
    keepHere(this)
    this.#inside = inside
  }

  get memoryCount() {
    return this.#inside.memories.length
  }

  get instanceCount() {
    return this.#inside.instanceCount
  }

  [inspect.custom](depth, options) {
    if (!(#inside in this)) return 'CapturedUnit {}'
    const { instanceCount, memoryCount } = this
    return `CapturedUnit ${inspect({ instanceCount, memoryCount }, options)}`
  }
}

/**
 * What is kept of instances.
 *
 * - `memories`: WeakRefs of their memories. Whatever holds an instance, or one of its functions,
 *   holds its memory.
 * - `groups`: by the memory, the group of instances that have it; weak, too
 * - `loose`: the group of those without a memory, if they have globals or tables; these are held
 * - `calls`: how many calls are suspended
 * - `timeline`: see timeline.js; undefined if it was not captured
 *
 * A group has, each thing once:
 *
 * - `linear`: the memory; undefined in `loose`
 * - `parts`: of each instance: `found` (lib/instance/reachable.js), and the `report` of its module
 *   (lib/instance/module.js)
 * - `globals`, `tables`: `[name, WebAssembly.Global]`, `[name, WebAssembly.Table]`
 * - `lengths`: how many entries each table had then, by the table
 * - `first`: functions that tables had when their instances were new; undefined if not known
 *
 * @param records of each instance: `instance`, `found`, `report`
 * @param first see CaptureContext; undefined where it is not known, as `timeline` is
 */
function insideFrom(records, calls, { first, timeline } = {}) {
  const byMemory = new Map()
  for (const { found, report } of records) {
    if (!byMemory.has(found.memory)) byMemory.set(found.memory, [])
    byMemory.get(found.memory).push({ found, report })
  }
  const inside = {
    instanceCount: records.length,
    memories: [],
    groups: new WeakMap(),
    loose: undefined,
    calls,
    timeline
  }
  for (const [memory, parts] of byMemory) {
    const group = {
      linear: undefined,
      parts,
      globals: each(parts, 'globals'),
      tables: each(parts, 'tables'),
      lengths: new Map(),
      first
    }
    for (const [, table] of group.tables) group.lengths.set(table, lengthOf(table))
    if (memory !== undefined) {
      group.linear = findLinear(memory, addressIn(parts))
      inside.memories.push(new WeakRef(memory))
      inside.groups.set(memory, group)
    } else if (group.globals.length + group.tables.length > 0) inside.loose = group
  }
  return inside
}

const each = (parts, kind) => [
  ...new Map(
    parts.flatMap(({ found }) => found[kind].map(([name, it]) => [it, [name, it]]))
  ).values()
]

/** What a module says of its memory, which V8 may not tell. */
function addressIn(parts) {
  const memory = parts.find(({ report }) => report?.memory)?.report.memory
  return memory === undefined ? undefined : memory.is64 ? 'i64' : 'i32'
}

/** The groups whose memories somebody holds. */
function groupsIn({ memories, groups, loose }) {
  const living = memories.map(it => it.deref()).filter(it => it !== undefined)
  return [...living.map(it => weakGet(groups, it)), ...(loose === undefined ? [] : [loose])]
}

/** @param value what the factory gave, by which the unit is found, too. */
function makeUnit(records, { calls, tables, timeline }, value) {
  const unit = new CapturedUnit(MAKE, insideFrom(records, calls, { ...tables, timeline }))
  for (const { instance, found } of records) {
    units.set(instance, unit)
    watchTables(found.tables)
  }
  const isKey = (typeof value === 'object' && value !== null) || typeof value === 'function'
  if (isKey) units.set(value, unit)
  return unit
}

/** The inside of a unit, or of the unit of an engine; undefined where there is none. */
const unitInside = target => insideOf(target) ?? insideOf(weakGet(units, target))

module.exports = { CapturedUnit, makeUnit, insideFrom, groupsIn, unitInside }
