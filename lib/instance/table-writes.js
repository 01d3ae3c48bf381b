'use strict'

// Which entries of a table were written, so that a restore need not read the others: reading one
// takes V8 some 35 ns, and engines have 20,000. Who can write a table:
//
// - the code of the modules that have it: their reports tell (src/module/effects.rs)
// - JavaScript, by `set` and `grow`: a table that is watched has a `set` of its own, which notes
//   the index, and what takes the place of that of all tables does (lib/capture/replacements.js):
//   of those, a class of tables calls `super.set`; growth shows by the length
// - instances that are given it later, and their element segments: see lib/capture/replacements.js
// - this package: it notes what it writes
//
// A table is known where all of these are. Of any other one all entries are read, each time.
//
// What can still go past: a script that took a function of WebAssembly before this package put
// something in its place, or has one of another realm, and calls it later with the table. So a few
// other entries of each known table are looked at in turn, too. Where one of them was written the
// table is known no more.

const native = require('../platform/binding.js')
const { getOwnPropertyDescriptor, method, weakGet } = require('../platform/intrinsics.js')
const { lengthOf } = require('./globals-and-tables.js')

// Taken now, like those of v8.js.
const { Module, Table } = WebAssembly
const { set: ofV8 } = Table.prototype
const { apply, defineProperty, getPrototypeOf } = Reflect
const weakSet = method('WeakMap', 'prototype', 'set')
const weakHas = method('WeakSet', 'prototype', 'has')
const weakAdd = method('WeakSet', 'prototype', 'add')

/** Smaller tables are read: that takes no longer than all else that a restore does. */
const FEWEST_ENTRIES = 64
/** How many writes are kept. Who has seen less than these reads all entries. */
const MOST_WRITES = 4096
/** How many other entries are looked at. */
const SAMPLE = 16

const NOTHING = Object.freeze([])

// One for a thread, whatever copies of the package it has: each may write the tables of another.
//
// - `tables`: of each table that is known, or was: its TableWrites
// - `generation`: counts how often it was not known which table was given away
// - `pending`: instantiations that are not over, of which it is not known what they were given
// - `gaps`: counts how often nobody noted for a while what instances were given
// - `noting`: what takes the place of Table.prototype.set
native.tableWrites ??= {
  tables: new WeakMap(),
  generation: 0,
  pending: 0,
  gaps: 0,
  noting: new WeakSet()
}
const shared = native.tableWrites

/** The writes to one table. It keeps nothing of those who read them. */
class TableWrites {
  #isKnown = true
  #generation = shared.generation
  #gaps = shared.gaps
  // What was put in the place of `set`; undefined where the table is not watched.
  #set = undefined
  // The indexes that were written last, in order. `#first` were written before.
  #log = []
  #first = 0

  get isKnown() {
    return this.#isKnown && this.#generation === shared.generation
  }

  /** Whether it was noted since it was new whom it was given to; of one that is watched, it is. */
  get isFollowed() {
    return this.isKnown && this.#gaps === shared.gaps
  }

  /** Whether all is noted that can be. */
  isWatched(table) {
    return (
      this.#set !== undefined &&
      this.isKnown &&
      getOwnPropertyDescriptor(table, 'set')?.value === this.#set
    )
  }

  watch(set) {
    this.#set = set
  }

  forget() {
    this.#isKnown = false
    this.#log = []
  }

  /** How many writes there were. */
  get count() {
    return this.#first + this.#log.length
  }

  note(index) {
    if (!this.#isKnown) return
    if (this.#log.length >= 2 * MOST_WRITES) {
      this.#log = this.#log.slice(MOST_WRITES)
      this.#first += MOST_WRITES
    }
    this.#log[this.#log.length] = index
  }

  /** Notes a write to an entry that is not known. */
  noteAny() {
    this.#first = this.count + 1
    this.#log = []
  }

  /** What was written after the first `count` writes; undefined where that is not kept any more. */
  since(count) {
    if (count < this.#first) return undefined
    return count === this.count ? NOTHING : this.#log.slice(count - this.#first)
  }
}

const writesTo = table => weakGet(shared.tables, table)

// A script may have `set` of a table, and put what calls it in the place of that of all tables.
let isCalling = false

/** As Table.prototype.set, of a table that is watched. */
const { set } = {
  set(...given) {
    if (isCalling) return setNoted(ofV8, this, given)
    isCalling = true
    try {
      const method = getPrototypeOf(this).set
      return weakHas(shared.noting, method)
        ? apply(method, this, given)
        : setNoted(method, this, given)
    } finally {
      isCalling = false
    }
  }
}
defineProperty(set, 'length', { value: 1 })

/** Calls a `set` of a table, which may be watched. */
function setNoted(method, table, given) {
  const writes = writesTo(table)
  if (writes === undefined) return apply(method, table, given)
  const index = given[0]
  const isNumber = typeof index === 'number' || typeof index === 'bigint'
  if (isNumber) writes.note(Math.trunc(Number(index)))
  if (isNumber && method === ofV8) return apply(method, table, given)
  // It calls code of scripts, which may do anything before something is written.
  try {
    return apply(method, table, given)
  } finally {
    writes.noteAny()
  }
}

/** What takes the place of a Table.prototype.set: notes what it writes to tables that are known. */
function notingSet(previous) {
  const noting = new Proxy(previous, { apply: setNoted })
  weakAdd(shared.noting, noting)
  return noting
}

/** To be called of a table that is new, and that nobody can have given away. */
function beginTable(table) {
  if (writesTo(table) === undefined) weakSet(shared.tables, table, new TableWrites())
}

/**
 * Of a table that somebody has who is not known, or whose code writes to it: nor does `beginTable`
 * make it known after that.
 */
function forgetTable(table) {
  let writes = writesTo(table)
  if (writes === undefined && typeof table === 'object' && table !== null) {
    writes = new TableWrites()
    weakSet(shared.tables, table, writes)
  }
  writes?.forget()
}

/**
 * Notes what the code of a new instance can do with its tables.
 *
 * @param exports all of them, with those that were added
 * @param found see reachable.js
 * @param report of its module: see lib/instance/module.js; undefined if it is not known
 */
function noteCode(exports, { tables }, report) {
  // Its element segments are in what is watched already.
  for (const [, table] of tables)
    if (report?.tables === undefined || writesTo(table)?.isWatched(table)) forgetTable(table)
  for (const { exportName, imported, changed } of report?.tables ?? []) {
    const table = exports[exportName]
    if (!imported) beginTable(table)
    if (changed) forgetTable(table)
  }
}

/** Where nobody noted up to now what instances are given, and somebody does from now on. */
function noteGap() {
  shared.gaps += 1
}

/** Where it is not known which tables somebody has. */
function forgetAll() {
  shared.generation += 1
}

/**
 * Watches a table, if it is known and worth it. False if it was not, or is watched already. Who
 * calls it notes from then on whom the table is given to, or nobody has it.
 */
function watchTable(table) {
  const writes = writesTo(table)
  if (writes?.isFollowed !== true || lengthOf(table) < FEWEST_ENTRIES) return false
  // Of a script, or watched already.
  if (getOwnPropertyDescriptor(table, 'set') !== undefined) return false
  const property = { value: set, writable: true, enumerable: false, configurable: true }
  if (!defineProperty(table, 'set', property)) return false
  writes.watch(set)
  return true
}

/** Notes what this package is about to write. */
function noteWrite(table, index) {
  writesTo(table)?.note(index)
}

/** What somebody has seen of a table who has just read it, for `lookAt`. */
const seenOf = table => {
  const seen = { count: 0, length: 0, next: 0 }
  noteSeen(table, seen)
  return seen
}

/** Notes that all is seen that was written up to now. */
function noteSeen(table, seen) {
  const writes = writesTo(table)
  seen.count = writes?.isWatched(table) ? writes.count : -1
  seen.length = lengthOf(table)
}

/**
 * Calls `look` of each entry that may have been written since it was seen, and of some others.
 * `look` gets the index, and gives true where the entry must be written.
 *
 * @param seen see seenOf; undefined where nothing was seen
 */
function lookAt(table, seen, look) {
  const length = lengthOf(table)
  const written = writtenSince(table, seen, length)
  if (written !== undefined) {
    for (let i = 0; i < written.length; i++) {
      const at = written[i]
      if (at >= 0 && at < length) look(at)
    }
    if (isSampleAsSeen(seen, length, written, look)) return
    forgetTable(table)
  }
  for (let at = 0; at < length; at++) look(at)
}

/** The indexes; undefined where all entries must be read. */
function writtenSince(table, seen, length) {
  const writes = writesTo(table)
  if (seen === undefined || seen.count < 0 || seen.length !== length || shared.pending > 0)
    return undefined
  return writes?.isWatched(table) ? writes.since(seen.count) : undefined
}

function isSampleAsSeen(seen, length, written, look) {
  for (let i = 0; i < SAMPLE; i++) {
    const at = seen.next < length ? seen.next : 0
    seen.next = at + 1
    if (look(at) && !written.includes(at)) return false
  }
  return true
}

/** Notes which tables an instance is given of which nothing else is known. */
function noteGiven(module, imports) {
  try {
    for (const { kind, module: from, name } of Module.imports(module))
      // V8 reads it, too.
      if (kind === 'table') forgetTable(imports?.[from]?.[name])
  } catch {
    // It is no module of V8's, or a getter throws.
    forgetAll()
  }
}

/**
 * The same where the module is compiled meanwhile: until it is known, no table is.
 *
 * @param make gives a promise of an object with the module
 * @param moduleOf gives the module where the promise is rejected; it throws where there is none
 */
async function noteGivenLater(imports, make, moduleOf) {
  shared.pending += 1
  let made
  try {
    made = await make()
    noteGiven(made?.module, imports)
  } catch (error) {
    noteGivenInVain(imports, moduleOf)
    throw error
  } finally {
    shared.pending -= 1
  }
  return made
}

/** What an instance was given that could not be made: its element segments may be in tables. */
function noteGivenInVain(imports, moduleOf) {
  let module
  try {
    module = moduleOf()
  } catch {
    return
  }
  noteGiven(module, imports)
}

module.exports = {
  beginTable,
  noteCode,
  forgetTable,
  noteGap,
  notingSet,
  watchTable,
  noteWrite,
  seenOf,
  noteSeen,
  lookAt,
  noteGiven,
  noteGivenLater,
  noteGivenInVain
}
