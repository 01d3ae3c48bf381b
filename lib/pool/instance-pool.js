'use strict'

// Instances of one module that go back to one state after each use.

const { inspect, types } = require('node:util')
const { performance } = require('node:perf_hooks')
const { setImmediate: immediate } = require('node:timers/promises')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError, abortError } = require('../support/errors.js')
const { keepHere, wrongThing } = require('../region/share.js')
const { allocate } = require('../memory/allocate.js')
const {
  GuardedMemory,
  bytesIn,
  checkStrict,
  forgetFaults,
  restoreIn
} = require('../memory/guarded-memory.js')
const {
  Snapshot,
  isSnapshot,
  checkDigest,
  foundIn,
  noteDigest,
  NO_GLOBALS
} = require('../snapshot/snapshot.js')
const {
  exposeLater,
  isModule,
  reportOf,
  addedNames,
  notRestorable,
  refuseNotRestorable,
  checkAccept
} = require('../instance/module.js')
const { instrumentLater, growthOptions, refuseTooLarge } = require('../instance/growth.js')
const { rewindSourcesOf } = require('../window/window.js')
const state = require('../instance/state.js')

const { Uint8Array } = require('../support/intrinsics.js')
const { getOwnPropertyDescriptor } = Object
const { Module, Instance, compile } = WebAssembly

const MAKE = Symbol('make')
const MOST_INSTANCES = 1_000_000
// What a collection may mend.
const NO_ROOM = new Set([
  'ERR_HOSTMAP_ADDRESS_SPACE',
  'ERR_HOSTMAP_RLIMIT_AS',
  'ERR_HOSTMAP_OVERCOMMIT',
  'ERR_HOSTMAP_MAP_COUNT',
  'ERR_HOSTMAP_MEMORY_REFUSED'
])

// Of an error that may be the user's: no getter or Proxy of theirs is called.
const ownOf = (error, key) =>
  types.isNativeError(error) ? getOwnPropertyDescriptor(error, key)?.value : undefined
const messageOf = error => {
  const message = ownOf(error, 'message')
  return typeof message === 'string' ? message : ''
}

// V8's words for the end of the stack, which may come in any call where the caller is deep down.
// (Of a regular expression it makes a SyntaxError then, which ends in the same words.)
const saysStackEnd = error => messageOf(error).endsWith('Maximum call stack size exceeded')
const isStackEnd = error => saysStackEnd(error) || saysStackEnd(ownOf(error, 'cause'))

// For what is to be done where the stack has room again.
const SETTLED = Promise.resolve()

// What the pool was made with was checked then, by the module.
const ACCEPTED = Object.freeze(['v128-globals', 'hidden-tables', 'dropped-segments', 'gc-objects'])
// Whoever releases an instance of a shared memory promises that no other thread is in it. Globals
// are seen to here.
const RESTORE = Object.freeze({ exclusive: true, globals: NO_GLOBALS })
const RESTORE_TO = Object.freeze({ exclusive: true, accept: ACCEPTED })

let giveBack
let throwAway

/**
 * One instance of a pool, as the pool sees it.
 *
 * @typedef Slot
 * @property instance the WebAssembly.Instance
 * @property exports what users see of it
 * @property memory its GuardedMemory
 * @property found what can change besides the memory (lib/instance/state.js)
 * @property state how that was when the snapshot was taken, by this instance's own functions
 * @property byteLength the memory's size then
 * @property mappings the memory's mappings and windows then
 * @property leased the PooledInstance that it is lent to; null if it is idle
 */

class PooledInstance {
  #pool
  // null once it is released.
  #slot

  constructor(make, pool, slot) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'PooledInstance has no public constructor: use InstancePool.acquire'
      )
    }
    keepHere(this)
    this.#pool = pool
    this.#slot = slot
  }

  get instance() {
    return this.#current().instance
  }

  get exports() {
    return this.#current().exports
  }

  get memory() {
    return this.#current().memory
  }

  get released() {
    return this.#slot === null
  }

  release() {
    const slot = this.#slot
    if (slot === null) return
    giveBack(this.#pool, slot, this)
    this.#slot = null
  }

  discard() {
    const slot = this.#slot
    if (slot === null) return
    throwAway(this.#pool, slot, this)
    this.#slot = null
  }

  [Symbol.dispose]() {
    this.release()
  }

  #current() {
    if (this.#slot !== null) return this.#slot
    throw makeError(
      'ERR_HOSTMAP_INSTANCE_RELEASED',
      'the instance was released, and others may use it now; acquire one'
    )
  }

  [inspect.custom](depth, options) {
    if (!(#slot in this)) return 'PooledInstance {}'
    return `PooledInstance ${inspect({ released: this.released }, options)}`
  }
}

class InstancePool {
  #module
  #imports
  #bind
  // An InstrumentedModule; undefined without options.growth.
  #instrumented
  // Exports that were added.
  #hidden
  #importsState
  #keepsGrown
  #max
  #snapshot
  #ownsSnapshot = true
  // What the module says of its memory, which V8 may not tell: options of GuardedMemory.from.
  #from
  // Whether it has mappings or windows.
  #hasMappings = false
  // Of the bytes that the pool was made of; null where they are not known.
  #digest = null
  // Memories, globals and tables that instances were given: two with the same one would see each
  // other.
  #taken = new WeakSet()
  // The last one that was released is handed out first: its pages are warm.
  #idle = []
  // In order of time. None waits while an instance is idle, or could be made, but during a pause.
  #waiting = new Set()
  // Instances that were let go hold their address space until they are collected, which can't be
  // before this turn of the event loop ends: V8 keeps alive till then what was reached through a
  // WeakRef. So it is worth another attempt.
  #isPaused = false
  #size = 0
  #busy = 0
  #closed = false

  #nextIndex = 0
  #created = 0
  #discarded = 0
  #acquired = 0
  #restored = 0
  #lastMilliseconds = 0
  #sumMilliseconds = 0
  #maxMilliseconds = 0
  #lastFailure = null

  static {
    throwAway = (pool, slot, leased) => pool.#throwAway(slot, leased)
    giveBack = (pool, slot, leased) => pool.#giveBack(slot, leased)
  }

  constructor(make, parts) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'InstancePool has no public constructor: use InstancePool.create'
      )
    }
    keepHere(this)
    const { module, report, instrumented, added, imports, bind, accept, max } = parts
    this.#module = module
    this.#imports = imports
    this.#bind = bind
    this.#max = max
    this.#keepsGrown = accept.includes('grown-memory')
    this.#instrumented = instrumented
    if (report?.memory) this.#from = { address: report.memory.is64 ? 'i64' : 'i32' }
    this.#hidden = new Set([...added, ...(report === undefined ? [] : addedNames(report))])
    this.#importsState = Module.imports(module).some(({ kind }) =>
      ['memory', 'global', 'table'].includes(kind)
    )
  }

  static async create(module, options) {
    const asked = poolOptions(options)
    const given = isModule(module) ? undefined : copyOf(module)
    if (given === undefined && asked.growth !== undefined) {
      throw unsuitable("options.growth rewrites its code; pass the module's bytes")
    }
    const { instrumented, added } =
      asked.growth === undefined ? NOT_INSTRUMENTED : await instrumentLater(given, asked.growth)
    // An instance's functions have other indices then, so a state of the one module is none of the
    // other.
    const bytes = instrumented?.bytes ?? given
    const exposed = bytes === undefined ? undefined : await exposeLater(bytes, 'module')
    const report = exposed === undefined ? reportOf(module) : exposed.report
    if (report === undefined) refuseUnknown(module, asked)
    else refuseUnsuitable(report, asked)
    const compiled =
      exposed === undefined ? module : await compileExposed(exposed, instrumented && given)
    const pool = new InstancePool(MAKE, { ...asked, module: compiled, report, instrumented, added })
    try {
      await pool.#fill(asked, bytes)
    } catch (error) {
      pool.close()
      throw error
    }
    return pool
  }

  async #fill({ init, snapshot, size, keepResidentBytes }, bytes) {
    if (snapshot !== undefined) {
      if (bytes !== undefined) checkDigest(snapshot.moduleDigest, bytes, 'module')
      this.#snapshot = snapshot
      this.#ownsSnapshot = false
      this.#look(bytes)
    } else {
      this.#size += 1
      const first = this.#instantiate()
      const { found } = first
      state.noteFirstContents(found)
      if (init !== undefined) await init(first.instance, first.memory)
      this.#useSnapshot(first.instance, { keepResidentBytes, module: bytes })
      this.#look(bytes)
      noteDigest(first.instance, this.#digest)
      first.state = state.captureLive(first.found)
      first.byteLength = first.memory.byteLength
      first.mappings = this.#mappingsOf(first)
      state.checkPortable(found, state.captureState(found))
      first.mappings.forEach(rewindSourcesOf)
      this.#created += 1
      this.#idle.push(first)
    }
    while (this.#size < size) this.#idle.push(this.#make())
  }

  #look(bytes) {
    const { mappings, moduleDigest } = this.#snapshot
    this.#hasMappings = mappings.length > 0
    if (bytes !== undefined) this.#digest = moduleDigest
  }

  #useSnapshot(instance, options) {
    // Whatever can't be restored was accepted.
    this.#snapshot = Snapshot.of(instance, { ...options, exclusive: true, accept: ACCEPTED })
  }

  get snapshot() {
    return this.#snapshot
  }

  get closed() {
    return this.#closed
  }

  acquire(options) {
    try {
      const { signal } = read.acquire(options)
      if (signal !== undefined) {
        check.abortSignal(signal, 'options.signal')
        if (signal.aborted) throw abortError(signal, ACQUIRE)
      }
      if (this.#closed) throw poolClosed()
      const isFirst = this.#waiting.size === 0
      return isFirst && this.#idle.length > 0 ? Promise.resolve(this.#lease()) : this.#wait(signal)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  async run(fn, options) {
    check.callback(fn, 'fn')
    const leased = await this.acquire(options)
    try {
      const result = await fn(leased)
      if (!leased.released) checkStrict(leased.memory)
      return result
    } finally {
      leased.release()
    }
  }

  stats() {
    const mean = this.#restored === 0 ? 0 : this.#sumMilliseconds / this.#restored
    return {
      size: this.#size,
      idle: this.#idle.length,
      busy: this.#busy,
      waiting: this.#waiting.size,
      max: this.#max,
      created: this.#created,
      discarded: this.#discarded,
      acquired: this.#acquired,
      restored: this.#restored,
      restoreMicroseconds: {
        last: 1000 * this.#lastMilliseconds,
        mean: 1000 * mean,
        max: 1000 * this.#maxMilliseconds
      },
      lastFailure: this.#lastFailure
    }
  }

  close() {
    if (this.#closed) return
    this.#closed = true
    this.#size -= this.#idle.length
    this.#idle = []
    this.#taken = new WeakSet()
    for (const waiter of this.#waiting) {
      this.#stopWaiting(waiter)
      waiter.reject(poolClosed())
    }
    if (this.#ownsSnapshot) this.#snapshot?.close()
  }

  [Symbol.dispose]() {
    this.close()
  }

  [inspect.custom](depth, options) {
    if (!(#idle in this)) return 'InstancePool {}'
    const { size, idle, busy, waiting, max } = this.stats()
    return `InstancePool ${inspect({ size, idle, busy, waiting, max, closed: this.#closed }, options)}`
  }

  // Of an idle one. Where the stack ends in here nothing was counted, and no instance is lost.
  #lease() {
    const slot = this.#idle[this.#idle.length - 1]
    const leased = new PooledInstance(MAKE, this, slot)
    this.#idle.length -= 1
    slot.leased = leased
    this.#busy += 1
    this.#acquired += 1
    return leased
  }

  #wait(signal) {
    return new Promise((resolve, reject) => {
      const waiter = { resolve, reject, signal, onAbort: undefined }
      if (signal !== undefined) {
        waiter.onAbort = () => {
          this.#stopWaiting(waiter)
          reject(abortError(signal, ACQUIRE))
        }
        signal.addEventListener('abort', waiter.onAbort, { __proto__: null, once: true })
      }
      this.#waiting.add(waiter)
      try {
        this.#serve()
      } catch (error) {
        this.#waiting.delete(waiter)
        throw error
      }
    })
  }

  #stopWaiting(waiter) {
    this.#waiting.delete(waiter)
    try {
      waiter.signal?.removeEventListener('abort', waiter.onAbort)
    } catch {
      // A signal of the user's own making: nobody waits any more in any case.
    }
  }

  // Gives those who wait what is idle, in the order in which they came, and makes more if there may
  // be more. It throws at the end of the stack alone; then all is in order, and it is to be called
  // again.
  #serve(isNewTurn = false) {
    while (this.#waiting.size > 0) {
      if (this.#idle.length > 0) {
        const [waiter] = this.#waiting
        const leased = this.#lease()
        this.#waiting.delete(waiter)
        waiter.resolve(leased)
        this.#stopWaiting(waiter)
        continue
      }
      if (this.#isPaused || this.#size >= this.#max) return
      let slot
      try {
        slot = this.#make()
      } catch (error) {
        this.#tell(error, isNewTurn)
        continue
      }
      this.#idle[this.#idle.length] = slot
    }
  }

  // Everybody who waits gets a new instance or the reason why there is none: nobody may be there to
  // wake them later.
  #tell(error, isNewTurn) {
    const [waiter] = this.#waiting
    if (waiter === undefined) return
    if (isNewTurn || !(NO_ROOM.has(ownOf(error, 'code')) || isStackEnd(error))) {
      waiter.reject(error)
      this.#stopWaiting(waiter)
      return
    }
    const nextTurn = SETTLED.then(() => immediate())
    nextTurn.then(() => {
      this.#isPaused = false
      this.#serveOrTell(true)
    })
    this.#isPaused = true
  }

  #giveBack(slot, leased) {
    // Imports and bind of the next instance may release this one again.
    if (slot.leased !== leased) return
    if (this.#closed) {
      slot.leased = null
      this.#busy -= 1
      this.#size -= 1
      return
    }
    // Where the stack ends in what is called from here on nothing has changed, and the release can
    // be repeated.
    const started = performance.now()
    let failure
    try {
      this.#restore(slot)
    } catch (error) {
      if (isStackEnd(error)) throw error
      failure = error
    }
    const milliseconds = performance.now() - started
    this.#serveSoon()
    // Nothing is called until it is done.
    slot.leased = null
    this.#busy -= 1
    if (failure === undefined) {
      this.#restored += 1
      this.#lastMilliseconds = milliseconds
      this.#sumMilliseconds += milliseconds
      if (milliseconds > this.#maxMilliseconds) this.#maxMilliseconds = milliseconds
      this.#idle[this.#idle.length] = slot
    } else {
      this.#size -= 1
      this.#discarded += 1
      this.#lastFailure = failure
    }
    try {
      if (failure !== undefined) letGo(slot)
      this.#serve()
    } catch {
      // Then it is done soon.
    }
  }

  #throwAway(slot, leased) {
    if (slot.leased !== leased) return
    this.#serveSoon()
    slot.leased = null
    this.#busy -= 1
    this.#size -= 1
    this.#discarded += 1
    try {
      this.#serve()
    } catch {
      // Then it is done soon.
    }
  }

  // To be called before anything changes: the stack may end in this, too.
  #serveSoon() {
    if (this.#waiting.size > 0) SETTLED.then(() => this.#serveOrTell())
  }

  // Where nobody is there to call `#serve` again.
  #serveOrTell(isNewTurn) {
    try {
      this.#serve(isNewTurn)
    } catch (error) {
      this.#waiting.forEach(waiter => {
        this.#stopWaiting(waiter)
        waiter.reject(error)
      })
    }
  }

  #restore(slot) {
    if (!this.#keepsGrown && bytesIn(slot.memory) > slot.byteLength) throw hasGrown(slot)
    state.checkLive(slot.state)
    restoreIn(slot.memory, this.#snapshot, RESTORE)
    state.restoreLive(slot.state)
    const mappings = this.#mappingsOf(slot)
    checkMappings(slot, mappings)
    checkStrict(slot.memory)
    // What its user did not ask for is none of the next one's.
    forgetFaults(slot.memory)
    // Each user of an instance finds its sources at their start.
    mappings.forEach(rewindSourcesOf)
  }

  #mappingsOf({ memory }) {
    return this.#hasMappings ? memory.mappings : NO_MAPPINGS
  }

  /**
   * Another instance in the pool's state. It counts from now on, since imports and bind may ask the
   * pool for one, too.
   */
  #make() {
    this.#size += 1
    let slot
    try {
      slot = this.#instantiate()
      if (!this.#keepsGrown) checkSize(slot.memory, this.#snapshot)
      noteDigest(slot.instance, this.#digest)
      this.#snapshot.restoreTo(slot.instance, RESTORE_TO)
      slot.state = state.captureLive(slot.found)
      slot.byteLength = slot.memory.byteLength
      slot.mappings = this.#mappingsOf(slot)
      slot.mappings.forEach(rewindSourcesOf)
      if (this.#closed) throw poolClosed()
    } catch (error) {
      this.#size -= 1
      throw error
    }
    this.#created += 1
    return slot
  }

  #instantiate() {
    const index = this.#nextIndex++
    const bind = this.#bind
    const given = importsFor(index, this.#imports)
    const growth = this.#instrumented?.importsFor(given)
    const instance = instantiate(this.#module, growth === undefined ? given : growth.imports)
    growth?.bind(instance)
    const all = foundIn(instance)
    if (this.#importsState) this.#take(all, index)
    const memory = GuardedMemory.from(all.memory, this.#from)
    if (bind !== undefined) refuseLater(bind(instance, memory), 'what options.bind gives')
    const exports =
      this.#hidden.size === 0 ? instance.exports : without(instance.exports, this.#hidden)
    return {
      instance,
      exports,
      memory,
      found: all,
      state: undefined,
      byteLength: 0,
      mappings: NO_MAPPINGS,
      leased: null
    }
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

const NO_MAPPINGS = Object.freeze([])
const NOT_INSTRUMENTED = Object.freeze({ instrumented: undefined, added: [] })
const ACQUIRE = 'the wait for an instance'

/** Gives the memory of a discarded instance back now: it may be long until it is collected. */
function letGo({ memory }) {
  try {
    memory.reset({ exclusive: true, keepResidentBytes: 0 })
  } catch {
    // Then it goes when it is collected.
  }
}

function poolOptions(options) {
  const {
    imports,
    bind,
    init,
    snapshot,
    size = 1,
    max = 64,
    accept = [],
    keepResidentBytes,
    growth
  } = read.pool(options)
  if (typeof imports !== 'function' || check.isRevoked(imports))
    check.optional(imports, check.object, 'options.imports')
  if (types.isPromise(imports)) refuseLater(imports, 'options.imports')
  check.optional(bind, check.callback, 'options.bind')
  check.optional(init, check.callback, 'options.init')
  check.optional(snapshot, snapshotGiven, 'options.snapshot')
  if (init !== undefined && snapshot !== undefined) {
    throw makeError(
      'ERR_INVALID_ARG_VALUE',
      'options.init and options.snapshot are both given; a snapshot holds what init did: give one of them'
    )
  }
  check.wholeNumber(max, 'options.max', 1, MOST_INSTANCES)
  check.wholeNumber(size, 'options.size', 0, max, () => ', options.max')
  check.optional(keepResidentBytes, check.wholeNumber, 'options.keepResidentBytes')
  return {
    imports,
    bind,
    init,
    snapshot,
    size,
    max,
    accept: checkAccept(accept),
    keepResidentBytes,
    growth: growth === undefined ? undefined : growthOptions(growth, 'options.growth')
  }
}

function snapshotGiven(value, name) {
  if (!isSnapshot(value)) throw wrongThing(name, 'a Snapshot', value, check.instead.snapshot)
  return value
}

/** `uninstrumented`: the bytes that were given, where they were rewritten. */
async function compileExposed({ bytes }, uninstrumented) {
  try {
    return await compile(bytes)
  } catch (error) {
    if (uninstrumented !== undefined) refuseTooLarge(uninstrumented, bytes)
    throw error
  }
}

/** The module's bytes as they are now. */
function copyOf(module) {
  if (!ArrayBuffer.isView(module) && !types.isAnyArrayBuffer(module)) {
    throw check.wrongModule(module)
  }
  return new Uint8Array(check.moduleBytes(module, 'module'))
}

function importsFor(index, imports) {
  if (typeof imports !== 'function') return imports
  const made = imports(index)
  if (types.isPromise(made)) refuseLater(made, `what options.imports(${index}) gives`)
  return made
}

/** Refuses a promise: what is done later would be done to somebody's instance. */
function refuseLater(value, name) {
  if (typeof value?.then !== 'function') return
  // It may be rejected, too, and this says enough.
  if (types.isPromise(value)) value.catch(() => {})
  throw check.wrongType(
    name,
    'there at once, and no promise: await it before create, or in init',
    value
  )
}

const unsuitable = why =>
  makeError('ERR_HOSTMAP_UNSUITABLE_MODULE', `the module can't have a pool: ${why}`)

function refuseSharedMemory(imports) {
  if (typeof imports === 'function') return
  throw unsuitable(
    'it imports its memory, and each instance needs one of its own: let options.imports be a function that makes a new WebAssembly.Memory in each call'
  )
}

/** Refuses a module that can't have a pool, by its report. */
function refuseUnsuitable(report, { imports, accept }) {
  const { memoryCount, memory } = report
  if (memoryCount === 0) throw unsuitable('it has no memory; make its instances without a pool')
  if (memoryCount > 1)
    throw unsuitable(`it has ${memoryCount} memories, and only one can be restored`)
  if (memory.import) refuseSharedMemory(imports)
  refuseNotRestorable(notRestorable(report), accept)
}

/**
 * The same for a compiled module that was not exposed: only its imports and exports can be told.
 */
function refuseUnknown(module, { imports, accept }) {
  const isMemory = ({ kind }) => kind === 'memory'
  const instead = "pass the module's bytes, or compile what exposeState gives"
  if (!Module.exports(module).some(isMemory)) throw unsuitable(`it exports no memory; ${instead}`)
  if (Module.imports(module).some(isMemory)) refuseSharedMemory(imports)
  const found = [
    ['hidden-globals', `mutable globals that it does not export can't be reached; ${instead}`],
    ['hidden-tables', `tables that it does not export can't be reached; ${instead}`]
  ]
  refuseNotRestorable(found, accept)
}

const instantiate = (module, imports) =>
  allocate(
    {
      address: 'i32',
      // V8's words for a memory that it gets no address space for.
      isRefusal: error => /allocate/.test(messageOf(error)) && error.name === 'RangeError',
      what: 'V8 could not allocate the memory of an instance'
    },
    () => new Instance(module, imports)
  )

/** An instance's exports but for those. */
function without(exports, hidden) {
  const shown = { __proto__: null }
  for (const name of Object.keys(exports)) if (!hidden.has(name)) shown[name] = exports[name]
  return Object.freeze(shown)
}

// No memory can shrink.
function checkSize({ byteLength }, snapshot) {
  if (byteLength <= snapshot.byteLength) return
  throw makeError(
    'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
    `the memory of a new instance has ${byteLength} bytes, and in the pool's state it has ${snapshot.byteLength}; let options.imports give one of that size, and bind not grow it, or name 'grown-memory' in options.accept`
  )
}

// A restore makes new objects for what was unmapped. Whoever has the old ones, or sources of
// theirs, would find them dead.
function checkMappings(slot, mappings) {
  const isSame = (mapping, index) => mapping === slot.mappings[index]
  if (mappings.length === slot.mappings.length && mappings.every(isSame)) return
  throw makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    "a mapping or window of the pool's state was unmapped, and its object, which imports may use, can't be brought back; unmap only what was mapped since the instance was acquired"
  )
}

const poolClosed = () => makeError('ERR_HOSTMAP_POOL_CLOSED', 'the pool was closed; make a new one')

const hasGrown = ({ memory, byteLength }) =>
  makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `the memory has grown from ${byteLength} to ${memory.byteLength} bytes, and memories can't shrink. Where programs may see that, name 'grown-memory' in options.accept; or let init allocate and free as much as they need`
  )

module.exports = { InstancePool, PooledInstance }
