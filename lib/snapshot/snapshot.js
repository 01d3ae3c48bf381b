'use strict'

// A memory's state at one moment: its pages (native), and what JavaScript sees of the rest:
// globals, tables, regions.

const { createHash, createHmac, createSecretKey, timingSafeEqual } = require('node:crypto')
const { constants } = require('node:buffer')
const { inspect, types } = require('node:util')
const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError, callNative } = require('../support/errors.js')
const { isRegion, handleOf } = require('../region/host-region.js')
const { SNAPSHOT, keepHere, makeToken, readToken, wrongThing } = require('../region/share.js')
const { runTask } = require('../support/task.js')
const {
  exposeLater,
  isModule,
  reportOf,
  notRestorable,
  refuseNotRestorable,
  checkAccept
} = require('../instance/module.js')
const { roomOnStack } = require('../support/stack.js')
const state = require('../instance/state.js')

const { Uint8Array } = require('../support/intrinsics.js')
const { compile, instantiate } = WebAssembly

const MAKE = Symbol('make')
const NOTHING = Object.freeze([])
const DEFAULT_KEEP_RESIDENT_BYTES = 512 * 1024

let handleOfOpen
let insideOf
let isSnapshot

class Snapshot {
  #native
  // By which the native part finds it fast. #native owns it.
  #handle
  #byteLength
  #name
  #address
  #moduleDigest
  // Globals and tables; null if none are kept.
  #state
  // Why it can't be saved; null if it can.
  #unsaveable
  // What memory.js needs of it. `origin`: the memory it was taken of, weak, since a snapshot keeps
  // no memory.
  #inside
  // Of each kept mapping: what `NativeKept` of src/js/snapshot.rs has, and its region.
  #kept
  #mappings
  #closed = false
  #placeholder
  // What may stay as a program leaves it, by whoever took it.
  #accepted = NOTHING

  static {
    isSnapshot = value => typeof value === 'object' && value !== null && #native in value
    // The hot path of a restore.
    handleOfOpen = snapshot => {
      if (!isSnapshot(snapshot))
        throw wrongThing('snapshot', 'a Snapshot', snapshot, check.instead.snapshot)
      if (snapshot.#closed) throw closed(snapshot.#name)
      return snapshot.#handle
    }
    insideOf = snapshot => snapshot.#inside
  }

  constructor(make, owner, parts) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'Snapshot has no public constructor: use GuardedMemory.snapshot, Snapshot.of, load, fromFd or receive'
      )
    }
    keepHere(this)
    const { address, moduleDigest, kept, state, unsaveable, origin } = parts
    this.#native = owner
    this.#handle = owner.handle
    this.#byteLength = owner.byteLength
    this.#name = owner.name
    this.#address = address
    this.#moduleDigest = moduleDigest
    this.#kept = kept
    this.#mappings = Object.freeze(kept.map(publicMapping))
    this.#state = state
    this.#unsaveable = unsaveable
    this.#inside = {
      address,
      byteLength: this.#byteLength,
      kept,
      state,
      origin: origin === undefined ? undefined : new WeakRef(origin)
    }
    this.#count()
  }

  static of(instance, options) {
    const { accept = NOTHING, ...rest } = read.snapshotOf(options)
    const accepted = checkAccept(accept)
    const found = foundIn(instance)
    const kept = state.captureState(found)
    refuseNotRestorable(state.notRestorable(found, kept), accepted)
    const snapshot = memoryFile().snapshotWith(memoryOf(found), rest, kept)
    snapshot.#accepted = accepted
    return snapshot
  }

  static async load(path, options) {
    const text = check.path(path)
    const { signal, key, keepResidentBytes, hugePages, ...rest } = loadOptions(
      read.loadSnapshot(options)
    )
    const start = task => native.NativeSnapshot.load(task, text, keepResidentBytes, hugePages)
    const what = `The load of ${text}`
    const owner = await runTask(start, what, signal)
    if (key !== undefined) await authenticate(owner, key, what, signal, text)
    return makeLoaded(owner, rest)
  }

  static fromFd(fd, options) {
    check.fileDescriptor(fd)
    const { keepResidentBytes, ...rest } = loadOptions(read.snapshotFromFd(options))
    return makeLoaded(
      callNative(() => native.NativeSnapshot.fromFd(fd, keepResidentBytes)),
      rest
    )
  }

  static receive(token, options) {
    const offer = readToken(token, SNAPSHOT)
    const { keepResidentBytes, ...rest } = loadOptions(read.snapshotFromFd(options))
    // The token is used up from here on.
    roomOnStack()
    return makeLoaded(
      callNative(() => native.NativeSnapshot.receive(offer, keepResidentBytes)),
      rest
    )
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
    handleOfOpen(this)
    const { exclusive, accept = NOTHING } = read.restoreTo(options)
    const accepted = this.#accepts(accept)
    const found = foundIn(instance)
    refuseNotRestorable(state.notRestorable(found), accepted)
    const memory = memoryOf(found)
    // All that may be refused comes first.
    let putBack
    if (this.#state?.from === found) {
      state.checkOwn(this.#state)
      putBack = () => state.restoreState(found, this.#state)
    } else {
      checkSame(this.#moduleDigest, digests.get(instance.exports) ?? null, "the instance's module")
      checkComplete(this.#state, found)
      putBack = this.#state === null ? undefined : state.prepareRestore(found, this.#state)
    }
    // The memory without its globals would be no state at all.
    roomOnStack()
    memory.restore(this, { exclusive, globals: NO_GLOBALS })
    putBack?.()
  }

  async instantiate(module, imports, options) {
    handleOfOpen(this)
    check.optional(imports, check.object, 'imports')
    const { accept = NOTHING } = read.instantiate(options)
    const accepted = this.#accepts(accept)
    const bytes = isModule(module) ? undefined : unshared(check.moduleBytes(module, 'module'))
    if (bytes !== undefined) checkDigest(this.#moduleDigest, bytes, 'module')
    const exposed = bytes === undefined ? undefined : await exposeLater(bytes, 'module')
    const report = exposed === undefined ? reportOf(module) : exposed.report
    if (report !== undefined) refuseNotRestorable(notRestorable(report), accepted)
    const compiled = exposed === undefined ? module : await compile(exposed.bytes)
    const instance = await instantiate(compiled, imports)
    const found = foundIn(instance)
    state.noteFirstContents(found)
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
    handleOfOpen(this)
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
    this.#closed = true
    this.#state = null
    this.#inside = null
    if (this.#placeholder !== undefined) native.detach(this.#placeholder)
    this.#placeholder = undefined
    callNative(() => this.#native.close())
  }

  [Symbol.dispose]() {
    if (#native in this) this.close()
    else throw check.wrongType('this', 'a Snapshot', this)
  }

  [inspect.custom](depth, options) {
    if (!isSnapshot(this)) return 'Snapshot {}'
    const { name, byteLength, residentBytes, address, closed } = this
    const mappings = this.#kept.length
    return `Snapshot ${inspect({ name, byteLength, residentBytes, address, mappings, closed }, options)}`
  }

  // As HostRegion does: V8 counts ArrayBuffers and nothing else, so one stands for the memory that
  // this holds.
  #count() {
    const bytes = Math.min(this.residentBytes, constants.MAX_LENGTH)
    try {
      if (bytes > 0) this.#placeholder = native.placeholder(bytes)
    } catch {
      // No mapping to be had for it: then it is not counted.
    }
  }
}

// Says to `GuardedMemory.restore` that globals are seen to.
const NO_GLOBALS = Object.freeze({ __proto__: null })

const closed = name =>
  makeError('ERR_HOSTMAP_SNAPSHOT_CLOSED', `snapshot "${name}" was closed; take or load a new one`)

// What each instance shows, by its exports, once found out.
const known = new WeakMap()

function foundIn(instance) {
  const exports = check.isObject(instance) ? instance.exports : undefined
  if (!check.isObject(exports)) {
    throw check.wrongInstance(instance)
  }
  let found = known.get(exports)
  if (found === undefined) {
    found = state.reachable(exports)
    if (found.memory === undefined) {
      throw makeError(
        'ERR_HOSTMAP_UNSUITABLE_MODULE',
        'the instance exports no memory; compile what exposeState makes of its module, or take a snapshot of its memory alone'
      )
    }
    known.set(exports, found)
  }
  return found
}

// Of the modules of instances, by their exports, where they are known.
const digests = new WeakMap()

/** Remembers of which module an instance is. */
function noteDigest(instance, digest) {
  if (digest !== null) digests.set(instance.exports, digest)
}

/** Refuses an instance with state that would stay as it is, and not fit the memory. */
function checkComplete(kept, found) {
  const missing = state.missingIn(kept, found)
  if (missing === undefined) return
  throw makeError(
    'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
    `the snapshot lacks the instance's "${missing}"; take it from a pool, or by Snapshot.of from an instance of what exposeState gives (or restore the memory alone, by GuardedMemory.restore)`
  )
}

// Not before it is needed: memory.js needs this file.
const memoryFile = () => require('../memory/guarded-memory.js')

function memoryOf({ memory }) {
  return memoryFile().GuardedMemory.from(memory)
}

// A memory that the module hides can be held by its buffer's keeper only.
function anchorOf(memory) {
  try {
    return memory.memory
  } catch {
    return memory
  }
}

// Other threads may write what is shared: what is digested must be what is compiled.
const unshared = bytes => (types.isSharedArrayBuffer(bytes.buffer) ? new Uint8Array(bytes) : bytes)

function digestOf(module, name = 'options.module') {
  return `sha256-${createHash('sha256')
    .update(check.bytes(module, name, check.instead.module))
    .digest('hex')}`
}

/**
 * Refuses a module that is not the one a snapshot was taken of, if the snapshot says which that
 * was.
 */
function checkDigest(expected, bytes, name) {
  if (expected !== null) checkSame(expected, digestOf(bytes, name), name)
}

function checkSame(expected, given, name) {
  if (expected === null || given === null || given === expected) return
  throw makeError(
    'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
    `the snapshot is one of another module: of ${expected}, and ${name} is ${given}; both must be of the same bytes, exposed or not`
  )
}

/**
 * Of `GuardedMemory.snapshot`. `ground` gives the memory's table and array, and its mappings by
 * their address, as they are when all options were read; `captured` the globals and tables, if it
 * is of an instance.
 */
function takeSnapshot(memory, ground, options, captured) {
  const {
    globals,
    module,
    keepResidentBytes = DEFAULT_KEEP_RESIDENT_BYTES,
    hugePages = true,
    name = 'snapshot'
  } = options
  check.regionName(name, 'options.name')
  check.wholeNumber(keepResidentBytes, 'options.keepResidentBytes')
  check.boolean(hugePages, 'options.hugePages')
  const moduleDigest = module === undefined ? null : digestOf(module)
  const kept = captured ?? (globals === undefined ? null : captureGlobals(globals, memory))
  const { table, array, mappings } = ground()
  const shown = []
  for (const { start } of callNative(() => native.entries(table.handle))) {
    const it = mappings.get(start)
    if (it !== undefined) shown.push(whatShows(it))
  }
  const owner = callNative(() =>
    native.NativeSnapshot.capture(
      table.handle,
      array,
      name,
      keepResidentBytes,
      hugePages,
      shown.map(({ region, ...it }) => ({
        ...it,
        region: region === null ? undefined : handleOf(region)
      }))
    )
  )
  try {
    const parts = complete(owner, { shown, kept, moduleDigest, address: memory.address })
    return new Snapshot(MAKE, owner, { ...parts, origin: memory })
  } catch (error) {
    owner.close()
    throw error
  }
}

/** Writes what only JavaScript knows into a snapshot, and seals it. */
function complete(owner, { shown, kept, moduleDigest, address }) {
  const regions = new Map(shown.map(it => [it.address, it.region]))
  const { encoded, refusal } = encode(kept)
  const about = {
    address,
    moduleDigest: moduleDigest ?? undefined,
    unsaveable: refusal ?? undefined
  }
  const unsaveable = callNative(() =>
    owner.finish(about, encoded?.values ?? null, encoded?.globals ?? null, encoded?.tables ?? null)
  )
  // The native part has found each of them in `shown`.
  const mappings = callNative(() => owner.mappings()).map(it => ({
    ...it,
    region: regions.get(it.address)
  }))
  return { address, moduleDigest, kept: mappings, state: kept, unsaveable }
}

function captureGlobals(globals, memory) {
  check.exportsOf(globals, 'options.globals')
  const found = state.reachable(globals)
  // The state lives as long as the memory that it belongs to.
  return state.captureState({ ...found, tables: [], memory: found.memory ?? anchorOf(memory) })
}

function encode(kept) {
  if (kept === null) return { encoded: null, refusal: null }
  try {
    return { encoded: state.encodeState(kept), refusal: null }
  } catch (error) {
    // Anything else (no stack left, say) is no property of the state.
    if (error.code !== 'ERR_HOSTMAP_NOT_RESTORABLE') throw error
    return { encoded: null, refusal: error.message }
  }
}

function whatShows(it) {
  const { address, region, byteOffset } = it
  if (region !== null && region.closed) {
    throw makeError(
      'ERR_HOSTMAP_REGION_CLOSED',
      `region "${region.name}" was closed, and the memory has a mapping of it, which no other memory could be given; unmap it, or close the region after the snapshot`
    )
  }
  return {
    address,
    region,
    byteOffset,
    byteLength: it.shownBytes ?? it.byteLength,
    strict: it.strict
  }
}

function publicMapping({
  address,
  placeBytes,
  access,
  windowAccess,
  regionName,
  byteOffset,
  byteLength
}) {
  const isWindow = windowAccess !== undefined
  return Object.freeze({
    kind: isWindow ? 'window' : 'mapping',
    address,
    byteLength: isWindow ? placeBytes : byteLength,
    access: check.ACCESS[windowAccess ?? access],
    regionName: regionName ?? null,
    byteOffset
  })
}

function loadOptions(given) {
  const {
    module,
    regions,
    key,
    signal,
    keepResidentBytes = DEFAULT_KEEP_RESIDENT_BYTES,
    hugePages = true
  } = given
  check.optional(regions, check.callback, 'options.regions')
  check.optional(signal, check.abortSignal, 'options.signal')
  check.wholeNumber(keepResidentBytes, 'options.keepResidentBytes')
  check.boolean(hugePages, 'options.hugePages')
  return {
    moduleDigest: module === undefined ? undefined : digestOf(module),
    regions,
    key: check.optional(key, secretKey, 'options.key'),
    signal,
    keepResidentBytes,
    hugePages
  }
}

const MIN_KEY_BYTES = 16

/** A copy of it, since the caller may wipe or change the bytes before all is read. */
function secretKey(value, name) {
  if (check.isObject(value) && types.isKeyObject(value)) {
    if (value.type !== 'secret') throw check.wrongValue(name, 'a secret key', value)
    if (value.symmetricKeySize < MIN_KEY_BYTES) throw shortKey(name)
    return value
  }
  if (typeof value === 'string') {
    throw check.wrongType(
      name,
      'bytes or a secret KeyObject (Buffer.from(text, encoding) makes bytes)',
      '...'
    )
  }
  // Not a word of what it is: errors end in logs.
  if (!ArrayBuffer.isView(value) && !types.isAnyArrayBuffer(value)) {
    throw check.wrongType(name, 'an ArrayBuffer, a view of one, or a secret KeyObject', value)
  }
  if (value.byteLength < MIN_KEY_BYTES) throw shortKey(name)
  return createSecretKey(new Uint8Array(check.bytes(value, name)))
}

const shortKey = name =>
  makeError(
    'ERR_INVALID_ARG_VALUE',
    `${name} must have at least ${MIN_KEY_BYTES} bytes, and better 32 random ones`
  )

/**
 * The authentication code of a snapshot: of its own sealed pages, and not of a file that another
 * process may change meanwhile.
 */
async function macOf(held, key, what, signal) {
  const hmac = createHmac('sha256', key)
  let from = 0
  while (from !== undefined && from !== null) {
    const at = from
    const part = await runTask(task => held.part(task, at), what, signal)
    hmac.update(part.bytes)
    from = part.next
  }
  return hmac.digest()
}

/** Refuses what was not saved with this key, before anybody hears of what it says. */
async function authenticate(owner, key, what, signal, path) {
  const refuse = why =>
    makeError('ERR_HOSTMAP_SNAPSHOT_INVALID', `can't load a snapshot from ${path}: ${why}`)
  const held = owner.hold()
  try {
    const expected = owner.mac() ?? null
    if (expected === null) throw refuse('options.key is given, and it was saved without a key')
    if (!timingSafeEqual(await macOf(held, key, what, signal), expected)) {
      throw refuse('it was not saved with options.key, or it was altered since')
    }
  } catch (error) {
    owner.close()
    throw error
  } finally {
    held.release()
  }
}

/** A snapshot from what another thread or process made. */
function makeLoaded(owner, { moduleDigest, regions }) {
  try {
    const about = callNative(() => owner.about())
    const digest = about.moduleDigest ?? null
    if (moduleDigest !== undefined && digest !== moduleDigest) {
      throw makeError(
        'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
        digest === null
          ? 'options.module is given, and the snapshot does not say of which module it is; take it with the option `module`, or from a pool that is made of bytes'
          : `the snapshot is one of another module: of ${digest}, and options.module is ${moduleDigest}`
      )
    }
    if (typeof about.unsaveable === 'string') {
      throw makeError('ERR_HOSTMAP_NOT_RESTORABLE', about.unsaveable)
    }
    const saved = callNative(() => owner.savedMappings())
    const grants = saved.map(mapping => grantFor(mapping, regions))
    callNative(() =>
      owner.grant(
        grants.map(({ region, access }) => ({
          region: region === null ? undefined : handleOf(region),
          access
        }))
      )
    )
    const kept = callNative(() => owner.mappings()).map((it, index) => ({
      ...it,
      region: grants[index].region
    }))
    const encoded = callNative(() => owner.takeState()) ?? null
    return new Snapshot(MAKE, owner, {
      address: about.address,
      moduleDigest: digest,
      kept,
      state: encoded === null ? null : state.decodeState(encoded),
      unsaveable: null,
      origin: undefined
    })
  } catch (error) {
    owner.close()
    throw error
  }
}

// Their numbers.
const [PRIVATE, SHARED] = [check.ACCESS.indexOf('private'), check.ACCESS.indexOf('shared')]

/**
 * The region of a saved mapping, and the most that a module may do with it. A file can say what it
 * likes: so nothing but the caller's own word lets a module write to a region.
 */
function grantFor(mapping, regions) {
  const { address, byteOffset, byteLength } = mapping
  const isEmpty = mapping.regionName === undefined
  const wantsShared = (mapping.windowAccess ?? mapping.access) === SHARED
  if (isEmpty && !wantsShared) return { region: null, access: PRIVATE }
  const name = isEmpty ? 'an empty window' : `${kindOf(mapping)} of region "${mapping.regionName}"`
  if (regions === undefined) {
    throw makeError(
      'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
      isEmpty
        ? `the snapshot has ${name} with access 'shared' at ${address}, which options.regions must grant`
        : `the snapshot has ${name}, which it does not contain; give it by options.regions`
    )
  }
  const given = regions(publicMapping(mapping))
  const { region, access } = isRegion(given) ? { region: given } : readGrant(given)
  if (!isEmpty && !isRegion(region))
    throw wrongThing('what options.regions gave', GRANT, region ?? given)
  if (isEmpty && region !== undefined && region !== null) {
    throw check.wrongValue(
      'what options.regions gave for an empty window',
      'an access without a region',
      region
    )
  }
  if (access === undefined && wantsShared) {
    throw makeError(
      'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
      `the snapshot has ${name} with access 'shared' at ${address}, by which the module could write to the region; if you want that, let options.regions return { region, access: 'shared' }, and else name a lesser access`
    )
  }
  const granted =
    access === undefined ? PRIVATE : check.access(access, 'access of what options.regions gave')
  if (isEmpty) return { region: null, access: granted }
  if (region.closed) {
    throw makeError(
      'ERR_HOSTMAP_REGION_CLOSED',
      `region "${region.name}" was closed; make a new one`
    )
  }
  if (region.byteLength - byteOffset < byteLength) {
    throw makeError(
      'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
      `the mapping at ${address} shows ${byteLength} bytes from ${byteOffset} on, and region "${region.name}" has ${region.byteLength} bytes`
    )
  }
  return { region, access: granted }
}

const GRANT = 'a HostRegion, or { region, access }'
const kindOf = ({ windowAccess }) => (windowAccess === undefined ? 'a mapping' : 'a window')

function readGrant(given) {
  if (!check.isObject(given)) throw wrongThing('what options.regions gave', GRANT, given)
  return read.grant(given, 'what options.regions gave')
}

module.exports = {
  Snapshot,
  isSnapshot,
  handleOfOpen,
  insideOf,
  takeSnapshot,
  checkDigest,
  foundIn,
  noteDigest,
  NO_GLOBALS,
  DEFAULT_KEEP_RESIDENT_BYTES
}
