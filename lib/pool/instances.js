'use strict'

// Makes the instances of a pool: imports, memory, bind. All that it calls is the user's code, which
// may call the pool again, so nothing of the pool may be half done when an instance is made.

const { types } = require('node:util')
const { makeError } = require('../support/errors.js')
const { allocate } = require('../platform/allocation.js')
const { watchTables } = require('../capture/tables.js')
const { noteSizes } = require('../instance/grown-tables.js')
const { noteCode, noteGiven, watchTable } = require('../instance/table-writes.js')
const { findLinear } = require('../memory/find.js')
const { guardedOf } = require('../guarded/guarded-memory.js')
const { foundIn, noteFound } = require('../snapshot/instances.js')
const { saysNoSpace } = require('./errors.js')
const { refuseLater } = require('./options.js')
const { slotOf } = require('./slots.js')

// Taken now, like those of v8.js.
const { Module, Instance } = WebAssembly
const { defineProperty } = Object

class InstanceMaker {
  #module
  #imports
  #bind
  // An InstrumentedModule; undefined without options.growth.
  #instrumented
  // Exports that were added.
  #hidden
  #importsState
  #report
  // What the module says of its memory, which V8 may not tell.
  #address
  // Memories, globals and tables that instances were given: two with the same one would see each
  // other.
  #taken = new WeakSet()
  #nextIndex = 0

  constructor({ module, report, instrumented, hidden }, { imports, bind }) {
    this.#module = module
    this.#imports = imports
    this.#bind = bind
    this.#instrumented = instrumented
    this.#hidden = hidden
    this.#report = report
    if (report?.memory) this.#address = report.memory.is64 ? 'i64' : 'i32'
    this.#importsState = Module.imports(module).some(({ kind }) =>
      ['memory', 'global', 'table'].includes(kind)
    )
  }

  /** A new instance, as a slot that was never restored. */
  make() {
    const index = this.#nextIndex++
    const bind = this.#bind
    const given = importsFor(index, this.#imports)
    const growth = this.#instrumented?.importsFor(given)
    const imports = growth === undefined ? given : growth.imports
    // It may be a table of a captured engine.
    noteGiven(this.#module, imports)
    const instance = this.#instantiate(imports)
    growth?.bind(instance)
    const found = foundIn(instance)
    this.#watch(instance, found)
    if (this.#importsState) this.#take(found, index)
    const linear = findLinear(found.memory, this.#address)
    const memory = guardedOf(linear)
    if (bind !== undefined) refuseLater(bind(instance, memory), 'what options.bind gives')
    const exports =
      this.#hidden.size === 0 ? instance.exports : without(instance.exports, this.#hidden)
    return slotOf(instance, exports, memory, linear, found)
  }

  /**
   * Watches the tables that no code of the module changes, before the user's code has them. One
   * that the module does not show is hidden, so that nobody has it.
   */
  #watch(instance, found) {
    const { exports } = instance
    noteCode(exports, found, this.#report)
    noteSizes(exports, this.#report)
    const fixed = (this.#report?.tables ?? []).filter(
      ({ imported, changed }) => !imported && !changed
    )
    // These first: what begins to note whom tables are given to knows nothing of those before.
    const unseen = new Set(
      fixed.filter(it => it.added && watchTable(exports[it.exportName])).map(it => it.exportName)
    )
    const named = ({ exportName }) => [exportName, exports[exportName]]
    watchTables(fixed.filter(({ added }) => !added).map(named))
    if (unseen.size === 0) return
    defineProperty(instance, 'exports', {
      value: without(exports, unseen),
      enumerable: false,
      configurable: true
    })
    noteFound(instance, found)
  }

  /** Of a closed pool: what it gave to instances is nobody's business any more. */
  forget() {
    this.#taken = new WeakSet()
  }

  #instantiate(imports) {
    const asked = {
      address: this.#address ?? 'i32',
      isRefusal: saysNoSpace,
      what: 'V8 could not allocate the memory of an instance'
    }
    return allocate(asked, () => new Instance(this.#module, imports))
  }

  #take({ memory, globals, tables }, index) {
    const things = [
      ['memory', memory],
      ...globals.map(it => ['global', it[1]]),
      ...tables.map(it => ['table', it[1]])
    ]
    for (const [kind, thing] of things) {
      if (this.#taken.has(thing)) {
        throw makeError(
          'ERR_HOSTMAP_UNSUITABLE_MODULE',
          `options.imports(${index}) gave a ${kind} that another instance has; make a new one in each call`
        )
      }
      this.#taken.add(thing)
    }
  }
}

function importsFor(index, imports) {
  if (typeof imports !== 'function') return imports
  const made = imports(index)
  if (types.isPromise(made)) refuseLater(made, `what options.imports(${index}) gives`)
  return made
}

/** An instance's exports but for those. */
function without(exports, hidden) {
  const shown = { __proto__: null }
  for (const name of Object.keys(exports)) if (!hidden.has(name)) shown[name] = exports[name]
  return Object.freeze(shown)
}

module.exports = { InstanceMaker }
