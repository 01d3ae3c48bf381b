'use strict'

// Checkpoint: the state of an engine at one moment: the memories, globals and tables of its
// instances, and what functions of the caller keep of its JavaScript. A restore refuses what it
// refuses before anything is changed; what fails later leaves a checkpoint that says it is broken.

const { inspect, types } = require('node:util')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError } = require('../support/errors.js')
const { received } = require('../support/given.js')
const { roomOnStack } = require('../support/stack.js')
const { messageOf } = require('../support/thrown.js')
const { wrongList, wrongType } = require('../support/wrong.js')
const { weakGet } = require('../platform/intrinsics.js')
const { pending, tell } = require('../observe/events.js')
const { keepHere } = require('../region/share.js')
const { checkAccept, refuseNotRestorable } = require('../instance/module.js')
const { holdsObjects } = require('../instance/globals-and-tables.js')
const { BY_CALLER } = require('../snapshot/restore.js')
const {
  insideOf,
  residentBytesOf,
  restoreSnapshot,
  takeSnapshot
} = require('../snapshot/snapshot.js')
const { checkCalls } = require('./calls.js')
const {
  addChanges,
  functionsOf,
  keepGlobalsAndTables,
  noteTables,
  putEntries,
  putGlobals
} = require('./tables.js')
const { targetOf } = require('./subject.js')

// Lets this file alone make checkpoints.
const MAKE = Symbol('make')

let restoreUnit

/** Takes the state of a unit, of what a captured factory gave, or of an instance. */
function checkpoint(target, options) {
  const asked = checkpointOptions(options)
  const { groups, calls, timeline } = targetOf(target, asked.module, asked.accept)
  checkCalls(calls, 'a checkpoint is taken')
  const restores = asked.state.map(keepState)
  const members = []
  try {
    const own = functionsOf(groups)
    for (const group of groups) members.push(memberOf(group, own, asked))
    const taken = new Checkpoint(MAKE, { members, calls, timeline, restores, ...asked })
    if (pending.length > 0) tell()
    return taken
  } catch (error) {
    members.forEach(dropMember)
    throw error
  }
}

/**
 * What is kept of a group: `snapshot`, null where it has no memory, and what needs the engine to be
 * there. A checkpoint keeps no engine that nobody else holds.
 */
function memberOf(group, own, { accept, snapshot }) {
  const { linear } = group
  const kept = keepGlobalsAndTables(group, own)
  if (!accept.includes('gc-objects') && holdsObjects(kept)) {
    refuseNotRestorable(
      [['gc-objects', 'a global or table holds a struct or array of the module']],
      accept
    )
  }
  const held = { linear, kept }
  if (linear === undefined) return { snapshot: null, memory: undefined, held }
  return {
    snapshot: takeSnapshot(linear, snapshot),
    memory: new WeakRef(linear.memory),
    held: new WeakMap([[linear.memory, held]])
  }
}

/** Undefined where the engine is gone. */
function heldBy({ memory, held }) {
  if (memory === undefined) return held
  const living = memory.deref()
  return living === undefined ? undefined : weakGet(held, living)
}

const dropMember = ({ snapshot }) => snapshot?.close()

function checkpointOptions(options) {
  const {
    state = [],
    module,
    accept = [],
    exclusive,
    keepResidentBytes,
    hugePages,
    name = 'checkpoint'
  } = read.checkpoint(options)
  if (!check.isArray(state)) throw wrongList('options.state', state)
  state.forEach((value, index) => check.callback(value, `options.state[${index}]`))
  check.regionName(name, 'options.name')
  check.optional(exclusive, check.boolean, 'options.exclusive')
  check.optional(keepResidentBytes, check.wholeNumber, 'options.keepResidentBytes')
  check.optional(hugePages, check.boolean, 'options.hugePages')
  return {
    state: [...state],
    module,
    accept: checkAccept(accept),
    exclusive,
    name,
    snapshot: { exclusive, keepResidentBytes, hugePages, name }
  }
}

function keepState(keep, index) {
  const restore = keep()
  if (typeof restore === 'function') return restore
  const remedy = types.isPromise(restore) ? '; what it needs to await, await before' : ''
  throw makeError(
    'ERR_INVALID_ARG_TYPE',
    `options.state[${index}] must give a function that restores; it gave ${received(restore)}${remedy}`
  )
}

class Checkpoint {
  // Of each group that still lives: see memberOf.
  #members
  #calls
  // Of what was captured, and when in it this is. Undefined for all else.
  #timeline
  #mark
  // What the functions of `state` gave.
  #restores
  #name
  // Of each restore of a memory.
  #options
  #byteLength
  #closed = false
  #isRestoring = false
  // What ended a restore in the middle; null if nothing has.
  #failure = null

  static {
    restoreUnit = it => it.#restore()
  }

  constructor(make, { members, calls, timeline, restores, name, exclusive } = {}) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'Checkpoint has no public constructor: use checkpoint'
      )
    }
    keepHere(this)
    this.#members = members
    this.#calls = calls
    this.#timeline = timeline
    this.#mark = timeline?.mark()
    this.#restores = restores
    this.#name = name
    this.#options = { exclusive, globals: BY_CALLER }
    this.#byteLength = sumOf(members, ({ snapshot }) => insideOf(snapshot).byteLength)
  }

  get name() {
    return this.#name
  }

  get byteLength() {
    return this.#byteLength
  }

  get residentBytes() {
    return sumOf(this.#members, ({ snapshot }) => residentBytesOf(snapshot))
  }

  get closed() {
    return this.#closed
  }

  get failure() {
    return this.#failure
  }

  restore() {
    try {
      this.#restore()
    } finally {
      if (pending.length > 0) tell()
    }
  }

  #restore() {
    this.#mustBeWhole()
    checkCalls(this.#calls, 'it is restored')
    const living = this.#living()
    const changes = []
    for (const { kept } of living) addChanges(changes, kept)
    this.#isRestoring = true
    let isChanged = false
    try {
      // The memory without its globals would be no state at all.
      roomOnStack()
      for (const { linear, snapshot } of living) {
        if (snapshot === null) continue
        restoreSnapshot(linear, snapshot, this.#options)
        isChanged = true
      }
      this.#timeline?.returnTo(this.#mark)
      putEntries(changes)
      for (const { kept } of living) {
        noteTables(kept)
        putGlobals(kept)
      }
      this.#restores.forEach(restoreState)
    } catch (error) {
      if (!isChanged) throw error
      this.#failure = error
      throw this.#broken()
    } finally {
      this.#isRestoring = false
    }
  }

  close() {
    if (this.#closed) return
    if (this.#isRestoring) throw restoring('close')
    this.#closed = true
    this.#members.forEach(dropMember)
    this.#members = []
    this.#restores = []
  }

  [Symbol.dispose]() {
    if (#members in this) this.close()
    else throw wrongType('this', 'a Checkpoint', this)
  }

  [inspect.custom](depth, options) {
    if (!(#members in this)) return 'Checkpoint {}'
    const { name, byteLength, residentBytes, closed, failure } = this
    return `Checkpoint ${inspect({ name, byteLength, residentBytes, closed, failure }, options)}`
  }

  #mustBeWhole() {
    if (this.#closed) {
      throw makeError('ERR_HOSTMAP_CHECKPOINT_CLOSED', `checkpoint "${this.#name}" was closed`)
    }
    if (this.#failure !== null) throw this.#broken()
    if (this.#isRestoring) throw restoring('restore')
  }

  /** What is there to be restored. What nobody holds any more is forgotten. */
  #living() {
    const living = []
    for (const member of this.#members) {
      const held = heldBy(member)
      if (held === undefined) dropMember(member)
      else living.push({ ...held, snapshot: member.snapshot, member })
    }
    if (living.length < this.#members.length) this.#members = living.map(({ member }) => member)
    return living.length > 1 ? living.sort(mappedFirst) : living
  }

  #broken() {
    return makeError(
      'ERR_HOSTMAP_CHECKPOINT_BROKEN',
      `a restore of checkpoint "${this.#name}" failed when the memory was back already (${wordsOf(this.#failure)}), so that the engine is in no state that it ever had; throw it away, and make a new one`,
      { cause: this.#failure }
    )
  }
}

// A memory that was mapped into since may refuse, which is no harm while no other one is changed.
const mappedFirst = (a, b) => isMappedInto(b) - isMappedInto(a)
const isMappedInto = ({ linear }) => (linear?.entries.size > 0 ? 1 : 0)

const sumOf = (members, bytesOf) =>
  members.reduce((sum, it) => sum + (it.snapshot === null ? 0 : bytesOf(it)), 0)

function restoreState(restore, index) {
  const given = restore()
  if (typeof given === 'function') {
    throw makeError(
      'ERR_INVALID_ARG_TYPE',
      `what options.state[${index}] gave does not restore: it gave a function, as what keeps state does (emscriptenState(module), say); give what that one gives: emscriptenState(module)()`
    )
  }
  if (!types.isPromise(given)) return
  // Nobody waits for it.
  given.catch(() => {})
  throw makeError(
    'ERR_INVALID_ARG_TYPE',
    `what options.state[${index}] gave restores later, by a promise; it must be done when it returns`
  )
}

const restoring = what =>
  makeError(
    'ERR_HOSTMAP_CALL_PENDING',
    `${what} was called by a function of options.state, while the checkpoint is being restored`
  )

const wordsOf = error => messageOf(error) || received(error)

/** Of a pool, which tells listeners when it is done with the unit. */
const restoreQuietly = it => restoreUnit(it)

module.exports = { Checkpoint, checkpoint, restoreQuietly }
