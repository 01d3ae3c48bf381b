'use strict'

// Snapshot: the state of a memory at one moment, its pages (native) and what JavaScript sees of the
// rest. How one is taken, restored, saved and loaded is in the files beside this one; the class
// puts them together.

const { inspect } = require('node:util')
const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError, callNative } = require('../support/errors.js')
const { instead } = require('../support/given.js')
const { roomOnStack } = require('../support/stack.js')
const { wrongType } = require('../support/wrong.js')
const { moduleBytes, unshared } = require('../platform/bytes.js')
const { ExternalMemory } = require('../platform/external-memory.js')
const { runTask } = require('../platform/task.js')
const { UNHEARD, pending, tell } = require('../observe/events.js')
const { SNAPSHOT, keepHere, makeToken, readToken, wrongThing } = require('../region/share.js')
const { findLinear } = require('../memory/find.js')
const {
  exposeLater,
  isModule,
  reportOf,
  notRestorable,
  refuseNotRestorable,
  checkAccept
} = require('../instance/module.js')
const { noteFirstContents } = require('../instance/functions.js')
const { noteSizes } = require('../instance/grown-tables.js')
const { notRestorable: notRestorableOf } = require('../instance/reachable.js')
const state = require('../instance/state.js')
const { noteGiven } = require('../instance/table-writes.js')
const { capture } = require('./capture.js')
const { noteDigest, digestOfInstance, checkDigest, checkSame } = require('./digests.js')
const { publicMapping } = require('./grants.js')
const { foundIn } = require('./instances.js')
const { secretKey, macOf, authenticate } = require('./keys.js')
const { readLoaded } = require('./load.js')
const { listen } = require('./opened.js')
const { loadOptions, openOptions } = require('./options.js')
const { BY_CALLER, restore } = require('./restore.js')
const { beginSnapshot, noteClosed, noteMade } = require('./told.js')

// Taken now, like those of v8.js.
const { compile, instantiate } = WebAssembly

// Lets this file alone make snapshots.
const MAKE = Symbol('make')
const NOTHING = Object.freeze([])

let insideOf
let isSnapshot
let residentBytesOf
let handleOfSnapshot

class Snapshot {
  #native
  #byteLength
  #name
  #address
  #moduleDigest
  // Globals and tables; null if none are kept.
  #state
  // Why it can't be saved; null if it can.
  #unsaveable
  // What a restore needs of it; null once it is closed. `origin`: the memory it was taken of, weak,
  // since a snapshot keeps no memory.
  #inside
  // Of each kept mapping: what `NativeKept` of src/js/snapshot.rs has, and its region.
  #kept
  #mappings
  #closed = false
  #external = new ExternalMemory()
  // What may stay as a program leaves it: said when it was taken.
  #accepted = NOTHING

  static {
    residentBytesOf = snapshot => snapshot.#native.residentBytes
    handleOfSnapshot = snapshot => snapshot.#inside?.handle
    isSnapshot = value => typeof value === 'object' && value !== null && #native in value
    // The hot path of a restore.
    insideOf = snapshot => {
      if (!isSnapshot(snapshot))
        throw wrongThing('snapshot', 'a Snapshot', snapshot, instead.snapshot)
      if (snapshot.#closed) throw closed(snapshot.#name)
      return snapshot.#inside
    }
  }

  constructor(make, owner, parts) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'Snapshot has no public constructor: use GuardedMemory.snapshot, Snapshot.of, load, open, fromFd or receive'
      )
    }
    keepHere(this)
    const { address, moduleDigest, kept, state, unsaveable, origin } = parts
    this.#native = owner
    this.#byteLength = owner.byteLength
    this.#name = owner.name
    this.#address = address
    this.#moduleDigest = moduleDigest
    this.#kept = kept
    this.#mappings = Object.freeze(kept.map(publicMapping))
    this.#state = state
    this.#unsaveable = unsaveable
    this.#inside = {
      // By which the native part finds it fast. #native owns it.
      handle: owner.handle,
      name: this.#name,
      address,
      byteLength: this.#byteLength,
      moduleDigest,
      kept,
      state,
      isOfFile: owner.isOfFile,
      origin: origin === undefined ? undefined : new WeakRef(origin)
    }
    this.#external.set(owner.residentBytes)
  }

  static of(instance, options) {
    const { accept = NOTHING, ...rest } = read.snapshotOf(options)
    const accepted = checkAccept(accept)
    const found = foundIn(instance)
    const kept = state.captureState(found, accepted.includes('grown-tables'))
    refuseNotRestorable(notRestorableOf(found, kept), accepted)
    const snapshot = takeSnapshot(findLinear(found.memory), rest, kept)
    snapshot.#accepted = accepted
    if (pending.length > 0) tell()
    return snapshot
  }

  static async load(path, options) {
    const text = check.path(path)
    const startTime = beginSnapshot()
    const { signal, key, keepResidentBytes, hugePages, ...rest } = loadOptions(
      read.loadSnapshot(options)
    )
    const start = task => native.NativeSnapshot.load(task, text, keepResidentBytes, hugePages)
    const what = `The load of ${text}`
    const owner = await runTask(start, what, signal)
    if (key !== undefined) await authenticate(owner, key, what, signal, text)
    return announced(new Snapshot(MAKE, owner, readLoaded(owner, rest)), 'load', startTime)
  }

  static async open(path, options) {
    const text = check.path(path)
    const startTime = beginSnapshot()
    const { signal, key, keepResidentBytes, verify, ...rest } = openOptions(
      read.openSnapshot(options)
    )
    listen()
    const start = task => native.NativeSnapshot.open(task, text, keepResidentBytes, verify)
    const what = `The opening of ${text}`
    const owner = await runTask(start, what, signal)
    if (key !== undefined) await authenticate(owner, key, what, signal, text)
    return announced(new Snapshot(MAKE, owner, readLoaded(owner, rest)), 'open', startTime)
  }

  static fromFd(fd, options) {
    check.fileDescriptor(fd)
    listen()
    const { keepResidentBytes, ...rest } = loadOptions(read.snapshotFromFd(options))
    const startTime = beginSnapshot()
    const owner = callNative(() => native.NativeSnapshot.fromFd(fd, keepResidentBytes))
    return announced(new Snapshot(MAKE, owner, readLoaded(owner, rest)), 'fromFd', startTime)
  }

  static receive(token, options) {
    const offer = readToken(token, SNAPSHOT)
    const { keepResidentBytes, ...rest } = loadOptions(read.snapshotFromFd(options))
    listen()
    const startTime = beginSnapshot()
    // The token is used up from here on.
    roomOnStack()
    const owner = callNative(() => native.NativeSnapshot.receive(offer, keepResidentBytes))
    return announced(new Snapshot(MAKE, owner, readLoaded(owner, rest)), 'receive', startTime)
  }

  static unshare(token) {
    const { pid, nonce } = readToken(token, SNAPSHOT)
    return pid === process.pid && callNative(() => native.endShare(nonce))
  }

  get byteLength() {
    return this.#byteLength
  }

  get residentBytes() {
    return this.#native.residentBytes
  }

  get address() {
    return this.#address
  }

  get name() {
    return this.#name
  }

  share() {
    roomOnStack()
    return makeToken(
      SNAPSHOT,
      callNative(() => this.#native.share())
    )
  }

  duplicateFd() {
    return callNative(() => this.#native.duplicateFd())
  }

  get moduleDigest() {
    return this.#moduleDigest
  }

  get mappings() {
    return this.#mappings
  }

  get closed() {
    return this.#closed
  }

  restoreTo(instance, options) {
    insideOf(this)
    const { exclusive, accept = NOTHING } = read.restoreTo(options)
    const accepted = this.#accepts(accept)
    const found = foundIn(instance)
    refuseNotRestorable(notRestorableOf(found), accepted)
    const linear = findLinear(found.memory)
    const takesGrown = accepted.includes('grown-tables')
    // All that may be refused comes first.
    let putBack
    if (this.#state?.from === found) {
      state.checkOwn(this.#state, takesGrown)
      putBack = () => state.restoreState(found, this.#state, takesGrown)
    } else {
      checkSame(this.#moduleDigest, digestOfInstance(instance), "the instance's module")
      checkComplete(this.#state, found)
      putBack =
        this.#state === null ? undefined : state.prepareRestore(found, this.#state, takesGrown)
    }
    // The memory without its globals would be no state at all.
    roomOnStack()
    // Only now: all above may run the caller's code, which may close it.
    restore(linear, insideOf(this), exclusive, BY_CALLER)
    putBack?.()
    if (pending.length > 0) tell()
  }

  async instantiate(module, imports, options) {
    insideOf(this)
    check.optional(imports, check.object, 'imports')
    const { accept = NOTHING } = read.instantiate(options)
    const accepted = this.#accepts(accept)
    const bytes = isModule(module) ? undefined : unshared(moduleBytes(module, 'module'))
    if (bytes !== undefined) checkDigest(this.#moduleDigest, bytes, 'module')
    const exposed = bytes === undefined ? undefined : await exposeLater(bytes, 'module')
    const report = exposed === undefined ? reportOf(module) : exposed.report
    if (report !== undefined) refuseNotRestorable(notRestorable(report), accepted)
    const compiled = exposed === undefined ? module : await compile(exposed.bytes)
    noteGiven(compiled, imports)
    const instance = await instantiate(compiled, imports)
    const found = foundIn(instance)
    noteSizes(instance.exports, report)
    noteFirstContents(found)
    if (bytes !== undefined) noteDigest(instance, this.#moduleDigest)
    this.restoreTo(instance, { exclusive: true, accept: accepted })
    return instance
  }

  #accepts(accept) {
    const more = accept === NOTHING ? accept : checkAccept(accept)
    return more.length === 0 ? this.#accepted : [...this.#accepted, ...more]
  }

  async save(path, options) {
    const text = check.path(path)
    const { signal, key } = read.save(options)
    check.optional(signal, check.abortSignal, 'options.signal')
    const secret = check.optional(key, secretKey, 'options.key')
    insideOf(this)
    if (this.#unsaveable !== null) throw makeError('ERR_HOSTMAP_NOT_RESTORABLE', this.#unsaveable)
    const what = `The save to ${text}`
    const held = callNative(() => this.#native.hold())
    try {
      const mac = secret === undefined ? null : await macOf(held, secret, what, signal)
      await runTask(task => held.save(task, text, mac), what, signal)
    } finally {
      held.release()
    }
  }

  close() {
    if (this.#closed) return
    const startTime = beginSnapshot()
    this.#closed = true
    this.#state = null
    this.#inside = null
    this.#external.drop()
    callNative(() => this.#native.close())
    if (startTime !== UNHEARD) noteClosed(this, startTime)
    if (pending.length > 0) tell()
  }

  [Symbol.dispose]() {
    if (#native in this) this.close()
    else throw wrongType('this', 'a Snapshot', this)
  }

  [inspect.custom](depth, options) {
    if (!isSnapshot(this)) return 'Snapshot {}'
    const { name, byteLength, residentBytes, address, closed } = this
    const mappings = this.#kept.length
    return `Snapshot ${inspect({ name, byteLength, residentBytes, address, mappings, closed }, options)}`
  }
}

const closed = name =>
  makeError('ERR_HOSTMAP_SNAPSHOT_CLOSED', `snapshot "${name}" was closed; take or load a new one`)

/** Refuses an instance with state that would stay as it is, and not fit the memory. */
function checkComplete(kept, found) {
  const missing = state.missingIn(kept, found)
  if (missing === undefined) return
  throw makeError(
    'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
    `the snapshot lacks the instance's "${missing}"; take it from a pool, or by Snapshot.of from an instance of what exposeState gives (or restore the memory alone, by GuardedMemory.restore)`
  )
}

function announced(snapshot, how, startTime) {
  noteMade(snapshot, how, startTime)
  if (pending.length > 0) tell()
  return snapshot
}

/** As GuardedMemory.snapshot. `captured`: the globals and tables, where it is of an instance. */
function takeSnapshot(linear, options, captured) {
  const startTime = beginSnapshot()
  const { owner, parts } = capture(linear, options, captured)
  try {
    return noteMade(new Snapshot(MAKE, owner, parts), 'take', startTime)
  } catch (error) {
    owner.close()
    throw error
  }
}

/** As GuardedMemory.restore. */
function restoreSnapshot(linear, snapshot, { exclusive, globals }) {
  restore(linear, insideOf(snapshot), exclusive, globals)
}

/** What a restore needs of a snapshot. Throws where it is none, or closed. */
const partsOf = snapshot => insideOf(snapshot)

module.exports = {
  Snapshot,
  isSnapshot,
  insideOf: partsOf,
  residentBytesOf,
  handleOfSnapshot,
  takeSnapshot,
  restoreSnapshot
}
