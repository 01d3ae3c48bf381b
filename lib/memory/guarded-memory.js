'use strict'

const { inspect, types } = require('node:util')
const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError, fromNative, callNative } = require('../support/errors.js')
const { allocate, refusal } = require('./allocate.js')
const { runTask } = require('../support/task.js')
const {
  isRegion,
  isClosed,
  bytesOf,
  isHuge,
  handleOf,
  nativeOf,
  isView
} = require('../region/host-region.js')
const { keepHere, wrongThing } = require('../region/share.js')
const { guardFaults, faultsFrom, faultedError } = require('../fault/faults.js')
const { makeLayout } = require('./layout.js')
const { openWindow, release, HUGE_PAGE_BYTES } = require('../window/window.js')
const {
  handleOfOpen,
  insideOf,
  takeSnapshot,
  NO_GLOBALS,
  DEFAULT_KEEP_RESIDENT_BYTES
} = require('../snapshot/snapshot.js')
const { checkOwn, prepareRestore, reachable, restoreState } = require('../instance/state.js')
const v8 = require('../platform/v8.js')

const { WASM_PAGE_BYTES, Uint8Array, isShared, lengthOf } = v8

// Lets this module alone make mappings, and memories around existing ones.
const MAKE = Symbol('make')

// A memory's object, found by what the caller has. Weak both ways: while V8 holds a memory, its
// object stays; the object alone holds the memory, so the two go together.
const byMemory = new WeakMap()
const byBuffer = new WeakMap()
// By base address, for a memory that is met by another way than before. An entry counts only while
// its object lives, which holds its memory, so the base can't have come back for another one.
const byBase = new Map()
const forgetBase = new FinalizationRegistry(base => {
  if (byBase.get(base)?.deref() === undefined) byBase.delete(base)
})

let unmapIn
let snapshotIn
let restoreIn
let bytesIn
let growIn
let checkStrict
let forgetFaults
let currentIn

/**
 * A mapping or window as the native part's table has it. What a native call changes is written here
 * by plain assignments: any call may fail where the stack ends, even one that looks as if it could
 * not, and then a mapping would be there that nobody knows.
 *
 * @typedef Entry
 * @property table the mapping table that it is in
 * @property start its offset in the memory
 * @property id 0 until it is there
 * @property ended whether it was unmapped
 * @property faults its faults, once it is unmapped or lost
 * @property release gives an allocator's block back; undefined where there is none, or once it did
 * @property object the Mapping or Window
 * @property shows of a window: { region, byteOffset, shownBytes }; null for a mapping
 */
const entryAt = (table, start, release, shows) => ({
  table,
  start,
  id: 0,
  ended: false,
  faults: null,
  release,
  object: null,
  shows
})

class GuardedMemory {
  // null where a module shows the buffer only. A buffer keeps its memory alive, even when it is
  // detached.
  #memory
  #buffer
  // Gives the buffer as it is now, where the caller has said how; null where he has not.
  #find = null
  #shared
  // Over the whole buffer: the native part finds base and length by it.
  #array
  // The largest size that was seen.
  #seenBytes
  // Its mapping table: { owner, handle, lost }.
  #table
  #address
  // In Wasm pages; undefined where it is not known, since V8 does not tell it of a memory that
  // exists.
  #maximum
  #guarded
  // Entries of the mappings and windows that this thread made, and of some that failed or ended.
  #entries = new Set()
  // What windows need of it.
  #host = { memory: this, current: () => this.#current(), unmap: entry => this.#unmap(entry) }
  // What the memory grew by and the table was not told of: where the stack ended, the next growth
  // makes up for it.
  #unclaimed = { start: 0, end: 0 }
  // The growth for huge pages that was refused last, in bytes, and the size of the memory then.
  #refused = { size: -1, wanted: 0 }
  // Faults that nobody had acknowledged when their mapping or window was unmapped: where the last
  // of these was, and how many the native part does not count.
  #unseen = null

  static {
    unmapIn = (guarded, entry) => guarded.#unmap(entry)
    snapshotIn = (guarded, given, captured) => guarded.#snapshot(given, captured)
    restoreIn = (guarded, snapshot, given) => guarded.#restore(snapshot, given)
    bytesIn = guarded => {
      // A growth detaches the buffer, but for that of a shared memory.
      const bytes = guarded.#shared ? 0 : lengthOf(guarded.#array)
      return bytes > 0 ? bytes : guarded.byteLength
    }
    growIn = (memory, wasmPages, address) => GuardedMemory.#growIn(memory, wasmPages, address)
    currentIn = guarded => guarded.#current()
    checkStrict = guarded => guarded.#checkStrict()
    forgetFaults = guarded => {
      if (guarded.#entries.size > 0 || guarded.#unseen !== null || guarded.#shared)
        guarded.acknowledgeFaults()
    }
  }

  constructor(descriptor, make, existing) {
    keepHere(this)
    if (make === MAKE) {
      this.#memory = existing.memory
      this.#buffer = existing.buffer
      this.#address = existing.address
      this.#maximum = undefined
    } else {
      const { initial, maximum, shared, address } = memoryDescriptor(descriptor)
      const before = callNative(() => v8.beforeMeasuring(address))
      this.#memory = makeMemory({ initial, maximum, shared, address })
      this.#buffer = v8.bufferOf(this.#memory)
      const mayGrowTo = Math.min(maximum ?? Infinity, v8.pageLimits()[address]) * WASM_PAGE_BYTES
      callNative(() => v8.measureIfAlone(before, this.#buffer, address, mayGrowTo))
      this.#address = address
      this.#maximum = maximum
    }
    this.#array = v8.arrayOver(this.#buffer)
    this.#seenBytes = lengthOf(this.#array)
    this.#shared = isShared(this.#buffer)
    callNative(() => {
      this.#guarded = make === MAKE ? existing.guarded : v8.isGuarded(this.#array, this.#address)
      this.#table = attach(this.#array)
      if (this.#guarded) v8.noteGuard(this.#table.handle, this.#array, this.#address)
    })
    this.#register()
  }

  static from(memory, options) {
    const { address } = read.from(options)
    check.optional(address, check.oneOf, 'options.address', ['i32', 'i64'])
    const guarded = GuardedMemory.#from(memory, address)
    if (address !== undefined && address !== guarded.#address) {
      throw makeError(
        'ERR_INVALID_ARG_VALUE',
        `options.address is '${address}', and this memory has the address type '${guarded.#address}'`
      )
    }
    return guarded
  }

  static #from(memory, address) {
    if (v8.isMemory(memory)) return GuardedMemory.#fromMemory(memory, address)
    if (types.isAnyArrayBuffer(memory)) return GuardedMemory.#fromBuffer(memory, address)
    if (typeof memory !== 'function') throw check.wrongMemory(memory)
    const guarded = GuardedMemory.#fromBuffer(bufferFrom(memory, check.wrongMemory), address)
    guarded.#find = memory
    return guarded
  }

  static #fromMemory(memory, asked) {
    const known = byMemory.get(memory)
    if (known !== undefined) return known.#sync()
    const buffer = v8.bufferOf(memory)
    const array = v8.arrayOver(buffer)
    const other = GuardedMemory.#livingAt(array)
    if (other !== undefined && other.#memory === null) {
      // Until now only its buffer was known.
      other.#memory = memory
      other.#sync()
      byMemory.set(memory, other)
      return other
    }
    const address = v8.addressTypeOf(memory) ?? asked
    if (address === undefined) throw unknownAddress()
    const guarded = callNative(() => v8.isGuarded(array, address))
    return new GuardedMemory(undefined, MAKE, { memory, buffer, address, guarded })
  }

  // What `memory.grow` does in a module, but for read-only mappings, which are protected again
  // before it goes on. Gives the size before, or -1.
  static #growIn(memory, wasmPages, address) {
    let known = byMemory.get(memory)
    // By its buffer perhaps.
    if (known === undefined && byBase.size > 0) {
      const other = GuardedMemory.#livingAt(new Uint8Array(v8.bufferOf(memory)))
      if (other !== undefined) known = GuardedMemory.#fromMemory(memory)
    }
    let before
    try {
      before = v8.growBy(memory, wasmPages, address)
    } catch (error) {
      if (error.name !== 'RangeError') throw error
      // V8 says no more. It may have made pages writable before it gave up.
      if (known !== undefined) {
        const array = known.#current()
        callNative(() => native.sync(known.#table.handle, array))
      }
      return -1
    }
    known?.#sync()
    return before
  }

  static #fromBuffer(buffer, asked) {
    const known = byBuffer.get(buffer)
    if (known !== undefined && known.#isCurrent(buffer)) return known.#sync()
    if (isDetached(buffer)) {
      throw notWasmMemory('it is detached: the memory has grown; pass its new buffer')
    }
    if (isView(buffer)) throw notWasmMemory('it is a view of a HostRegion')
    if (v8.isResizable(buffer))
      throw notWasmMemory('it can be resized; pass the WebAssembly.Memory itself')
    const array = v8.arrayOver(buffer)
    const other = GuardedMemory.#livingAt(array)
    if (other !== undefined) {
      // The same memory, met by its buffer, or by its buffer after a growth.
      // An older buffer of a shared memory is shorter, and still there.
      if (other.#memory === null && !(other.#shared && lengthOf(array) < lengthOf(other.#array)))
        other.#refresh(buffer)
      other.#sync()
      byBuffer.set(buffer, other)
      return other
    }
    if (!callNative(() => v8.hasTrapHandler())) {
      throw notWasmMemory(
        'V8 runs without its trap handler, so no guard proves what the buffer is; pass the WebAssembly.Memory itself'
      )
    }
    const address = asked ?? callNative(() => v8.addressTypeOfBuffer(array))
    if (!callNative(() => native.mayBeLinear(array) && v8.isGuarded(array, address ?? 'i32'))) {
      const why =
        address === 'i64' && v8.pageLimits().i64 === 0
          ? `64-bit memories have no guards in Node.js ${process.version}; pass the WebAssembly.Memory itself`
          : 'there is no reservation with guards around it, by the process map'
      throw notWasmMemory(why)
    }
    if (address === undefined) throw unknownAddress()
    return new GuardedMemory(undefined, MAKE, { memory: null, buffer, address, guarded: true })
  }

  // The object of the memory that lies where this array does, if there is one.
  static #livingAt(array) {
    const found = byBase.get(callNative(() => native.baseOf(array)))?.deref()
    // V8 may have moved that one since, and given its base to another.
    if (found === undefined || (!found.#shared && lengthOf(array) < found.#seenBytes))
      return undefined
    if (found.#memory !== null) found.#current()
    return isAt(found.#table.handle, array) ? found : undefined
  }

  get memory() {
    if (this.#memory === null)
      throw hidden('it was made from a buffer, so there is no WebAssembly.Memory to give')
    return this.#memory
  }

  get buffer() {
    if (this.#memory !== null) return v8.bufferOf(this.#memory)
    return this.#find === null ? this.#buffer : this.#foundBuffer()
  }

  get byteLength() {
    return v8.sizeOf(this.buffer)
  }

  get address() {
    return this.#address
  }

  get guarded() {
    return this.#guarded
  }

  grow(wasmPages) {
    check.wholeNumberOrBigInt(wasmPages, 'wasmPages')
    return this.#grow(Number(wasmPages))
  }

  map(region, options) {
    if (!isRegion(region)) throw wrongThing('region', 'a HostRegion', region)
    const {
      at,
      byteOffset = 0,
      byteLength,
      access = 'readonly',
      populate = false,
      hugePages,
      allocator,
      strict = false
    } = read.map(options)
    check.wholeNumber(byteOffset, 'options.byteOffset')
    check.boolean(populate, 'options.populate')
    check.boolean(strict, 'options.strict')
    check.optional(hugePages, check.boolean, 'options.hugePages')
    const code = check.access(access, 'options.access')
    if (isClosed(region))
      throw makeError(
        'ERR_HOSTMAP_REGION_CLOSED',
        `region "${region.name}" was closed; make a new one`
      )
    const regionBytes = bytesOf(region)
    if (byteOffset >= regionBytes) {
      throw check.outOfRange(
        'options.byteOffset',
        `below the ${region.byteLength} bytes of region "${region.name}"`,
        byteOffset
      )
    }
    const length =
      byteLength === undefined
        ? regionBytes - byteOffset
        : check.wholeNumber(
            byteLength,
            'options.byteLength',
            1,
            regionBytes - byteOffset,
            check.limits.restOfRegion,
            region,
            byteOffset
          )
    const request = {
      region,
      byteOffset,
      byteLength: length,
      access,
      code,
      populate,
      hugePages,
      strict
    }
    guardFaults()
    if (allocator !== undefined) return this.#mapInBlock(at, allocator, request)
    return at === undefined
      ? this.#mapPastEnd(request)
      : this.#mapAt(check.wholeNumberOrBigInt(at, 'options.at'), request)
  }

  window(options) {
    const {
      byteLength,
      at,
      access = 'readonly',
      rest = 'trap',
      allocator,
      strict = false
    } = read.window(options)
    const page = native.hostPageSize()
    check.wholeNumber(
      byteLength,
      'options.byteLength',
      page,
      undefined,
      check.limits.hostPage,
      page
    )
    const code = check.access(access, 'options.access')
    check.oneOf(rest, 'options.rest', ['trap', 'zeros'])
    check.boolean(strict, 'options.strict')
    const trap = rest === 'trap'
    const length = Math.ceil(byteLength / page) * page
    guardFaults()
    const request = { byteLength: length, access, code, trap, strict }
    if (allocator !== undefined) return this.#windowInBlock(at, allocator, request)
    return at === undefined
      ? this.#windowPastEnd(request)
      : this.#windowAt(check.wholeNumberOrBigInt(at, 'options.at'), request)
  }

  get mappings() {
    return [...this.#live().values()].sort((a, b) => a.address - b.address)
  }

  checkFaults() {
    const live = this.#live()
    for (const { start, unacknowledged } of callNative(() =>
      native.faultedIn(this.#table.handle)
    )) {
      live.get(start)?.checkFaults()
      // It is another thread's, or was acknowledged meanwhile.
      const what = `the mapping or window at ${start}, which another thread made,`
      if (!live.has(start)) throw faultedError(unacknowledged, what, 'memory', null)
    }
    this.#checkGone()
  }

  acknowledgeFaults() {
    this.#live()
    const count = callNative(() => native.acknowledgeAllFaults(this.#table.handle))
    const before = this.#unseen?.lost ?? 0
    this.#unseen = null
    return before + count
  }

  snapshot(options) {
    return this.#snapshot(read.snapshot(options))
  }

  restore(snapshot, options) {
    this.#restore(snapshot, read.restore(options))
  }

  #restore(snapshot, { exclusive, globals }) {
    const handle = handleOfOpen(snapshot)
    this.#mustBeAlone('a restore', exclusive)
    const { state, origin, kept } = insideOf(snapshot)
    const putBack =
      globals === undefined || globals === NO_GLOBALS ? undefined : prepareGlobals(globals, state)
    const isOwn = globals === undefined && state !== null && origin?.deref() === this
    if (isOwn) checkOwn(state)
    const array = this.#fitted(snapshot)
    const prepared = kept.length > 0 ? this.#prepareAll(kept) : NO_ENTRIES
    let made
    try {
      made = native.restore(this.#table.handle, array, handle)
    } catch (error) {
      throw fromNative(error)
    }
    if (kept.length > 0) this.#noteRestored(kept, prepared, made ?? NO_ENTRIES)
    if (putBack !== undefined) putBack()
    else if (isOwn) restoreState(state.from, state)
  }

  reset(options) {
    const { exclusive, keepResidentBytes = DEFAULT_KEEP_RESIDENT_BYTES } = read.reset(options)
    this.#mustBeAlone('a reset', exclusive)
    check.wholeNumber(keepResidentBytes, 'options.keepResidentBytes')
    const array = this.#current()
    callNative(() => native.reset(this.#table.handle, array, keepResidentBytes))
  }

  layout() {
    const array = this.#current()
    callNative(() => native.sync(this.#table.handle, array))
    const entries = []
    const live = this.#live()
    for (const { start, end, access, byteOffset, shownBytes: windowBytes } of callNative(() =>
      native.entries(this.#table.handle)
    )) {
      const region = live.get(start)?.region ?? null
      entries.push({ start, end, access, region, byteOffset, windowBytes })
    }
    const reservation = callNative(() => v8.reservationOf(this.#address))
    const maximum = this.#maximum ?? (v8.pageLimits()[this.#address] || Infinity)
    return makeLayout({
      byteLength: lengthOf(array),
      maximumBytes: maximum * WASM_PAGE_BYTES,
      // Without guards the reservation depends on the memory's maximum, and nothing is known of it.
      belowBytes: (this.#guarded && reservation?.belowBytes) || 0,
      aboveBytes: (this.#guarded && reservation?.aboveBytes) || lengthOf(array),
      mappings: entries
    })
  }

  [inspect.custom](depth, options) {
    if (!(#table in this)) return 'GuardedMemory {}'
    const { address, guarded } = this
    // Not by the caller's function: looking at an object runs nothing.
    const byteLength = v8.sizeOf(this.#memory === null ? this.#buffer : v8.bufferOf(this.#memory))
    return `GuardedMemory ${inspect({ byteLength, address, guarded, mappings: this.#live().size }, options)}`
  }

  // The mappings and windows that are there, by address.
  #live() {
    const live = new Map()
    this.#entries.forEach(entry => {
      if (entry.id !== 0 && !entry.ended) live.set(entry.start, entry.object)
      else this.#forget(entry)
    })
    return live
  }

  // Before the native call that makes it: afterwards nothing may fail. Until it has an id it counts
  // for nothing.
  #prepareMapping(start, request, release) {
    const entry = entryAt(this.#table, start, release, null)
    entry.object = new Mapping(MAKE, this, entry, request)
    this.#entries.add(entry)
    return entry
  }

  #prepareWindow(start, request, release) {
    const shows = { region: null, byteOffset: 0, shownBytes: 0 }
    const entry = entryAt(this.#table, start, release, shows)
    entry.object = openWindow(this.#host, entry, request)
    this.#entries.add(entry)
    return entry
  }

  #notMade(entry, error) {
    this.#entries.delete(entry)
    return fromNative(error)
  }

  // `captured`: globals and tables that Snapshot.of has captured.
  #snapshot(given, captured) {
    this.#mustBeAlone('a snapshot', given.exclusive)
    return takeSnapshot(
      this,
      () => ({ array: this.#current(), table: this.#table, mappings: this.#live() }),
      given,
      captured
    )
  }

  #mustBeAlone(what, exclusive) {
    if (exclusive !== undefined) check.boolean(exclusive, 'options.exclusive')
    if (this.#shared && exclusive !== true) {
      throw makeError(
        'ERR_HOSTMAP_SHARED_MEMORY',
        `the memory is shared, and ${what} must have it alone; pass exclusive: true to promise that no other thread is in it until the call returns`
      )
    }
  }

  // Refuses a snapshot of another type of memory. Grows the memory to the snapshot's size, and gives
  // the array over it.
  #fitted(snapshot) {
    const { address, byteLength } = insideOf(snapshot)
    if (address !== this.#address) {
      throw makeError(
        'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
        `snapshot "${snapshot.name}" is of a memory with address type '${address}', and this one has '${this.#address}'`
      )
    }
    const array = this.#current()
    const missing = byteLength - lengthOf(array)
    if (missing <= 0) return array
    this.#grow(missing / WASM_PAGE_BYTES)
    return this.#current()
  }

  // The entry of each kept mapping and window, in order: that which is there, or one for the
  // restore to make. Unlike afterwards, this may still fail.
  #prepareAll(kept) {
    guardFaults()
    const there = new Map()
    this.#entries.forEach(entry => {
      if (entry.id !== 0 && !entry.ended) there.set(entry.start, entry)
    })
    return kept.map(it => there.get(it.address) ?? this.#prepareKept(it))
  }

  // `made`: those that the restore has made, by their place in `kept`.
  #noteRestored(kept, prepared, made) {
    for (let i = 0; i < made.length; i++) {
      const { index, id } = made[i]
      // Another thread had unmapped what this one knew of.
      if (prepared[index].id !== 0) prepared[index] = this.#prepareKept(kept[index])
      prepared[index].id = id
    }
    for (let i = 0; i < prepared.length; i++) {
      const { id, shows } = prepared[i]
      // It was there already, and is another thread's.
      if (id === 0) this.#entries.delete(prepared[i])
      if (shows === null) continue
      const { region, byteOffset, byteLength } = kept[i]
      shows.region = region
      shows.byteOffset = byteOffset
      shows.shownBytes = byteLength
    }
  }

  #prepareKept(kept) {
    const { address, windowAccess, region, byteOffset, byteLength, strict } = kept
    if (windowAccess === undefined) {
      const access = check.ACCESS[kept.access]
      return this.#prepareMapping(address, { region, byteOffset, byteLength, access, strict })
    }
    const { placeBytes, tailTraps: trap } = kept
    const request = { byteLength: placeBytes, access: check.ACCESS[windowAccess], trap, strict }
    const entry = this.#prepareWindow(address, request)
    Object.assign(entry.shows, { region, byteOffset, shownBytes: byteLength })
    return entry
  }

  #register(buffer = this.#buffer, array = this.#array) {
    if (this.#memory !== null) byMemory.set(this.#memory, this)
    byBuffer.set(buffer, this)
    const base = native.baseOf(array)
    byBase.set(base, new WeakRef(this))
    forgetBase.register(this, base)
  }

  #isCurrent(buffer) {
    const current = this.#memory === null ? this.#buffer : v8.bufferOf(this.#memory)
    return current === buffer && v8.sizeOf(buffer) > 0
  }

  // The function is foreign code and may do anything, map and grow included: only what it gives is
  // looked at, and nothing here is changed before that was found to be this memory's.
  #foundBuffer() {
    const buffer = bufferFrom(this.#find)
    if (buffer === this.#buffer) return buffer
    const array = v8.arrayOver(buffer)
    if (
      isShared(buffer) !== this.#shared ||
      v8.isResizable(buffer) ||
      this.#table.lost ||
      !isAt(this.#table.handle, array)
    ) {
      this.#isLost()
      throw makeError(
        'ERR_HOSTMAP_MEMORY_MOVED',
        'the function that was passed to GuardedMemory.from gave a buffer at another address: either it is that of another memory, ' +
          'or V8 moved this one when it grew, and its mappings are lost; call GuardedMemory.from again for the memory as it is now'
      )
    }
    // A shared memory's older buffers are shorter, and never detached.
    return this.#shared && lengthOf(array) < lengthOf(this.#array) ? this.#buffer : buffer
  }

  // The array over the buffer as it is now. Every growth makes a new buffer.
  #current() {
    // A growth detaches the buffer, but for that of a shared memory.
    if (!this.#shared && lengthOf(this.#array) > 0) return this.#array
    const buffer = this.buffer
    if (buffer !== this.#buffer) this.#refresh(buffer)
    if (this.#memory === null && this.#find === null && lengthOf(this.#array) === 0) {
      if (this.#isLost()) {
        throw moved('pass its new buffer to GuardedMemory.from, and map again')
      }
      throw hidden(
        `the module has grown its memory, and the buffer that was given is detached; ${PASS_A_FUNCTION}`
      )
    }
    return this.#array
  }

  #refresh(buffer) {
    const array = v8.arrayOver(buffer)
    if (!this.#table.lost && callNative(() => native.isAt(this.#table.handle, array))) {
      byBuffer.set(buffer, this)
      this.#setBuffer(buffer, array)
    } else this.#move(buffer, array)
  }

  #setBuffer(buffer, array) {
    const bytes = lengthOf(array)
    this.#buffer = buffer
    this.#array = array
    if (bytes > this.#seenBytes) this.#seenBytes = bytes
  }

  // Read-only mappings that a growth laid bare are protected again.
  #sync() {
    const array = this.#current()
    callNative(() => native.sync(this.#table.handle, array))
    return this
  }

  // V8 copied the memory elsewhere. Whatever fails, the next call does all of it again.
  #move(buffer, array) {
    const guarded = callNative(() => v8.isGuarded(array, this.#address))
    const table = attach(array)
    if (guarded) callNative(() => v8.noteGuard(table.handle, array, this.#address))
    this.#forgetBases()
    this.#lose()
    this.#register(buffer, array)
    const entries = new Set()
    this.#setBuffer(buffer, array)
    this.#table = table
    this.#guarded = guarded
    this.#entries = entries
    this.#unclaimed.end = 0
  }

  // The mappings are gone, and what they showed is plain memory: each says so when it is used.
  #lose() {
    const { handle } = this.#table
    this.#entries.forEach(entry => {
      if (entry.id === 0 || entry.ended) return
      const faults = callNative(() => native.faultsOf(handle, entry.start, entry.id))
      // Of a table that was forgotten, where this was begun before: they were taken then.
      if (faults === null) return
      entry.faults = faults
      if (faults.unacknowledged > 0)
        this.#remember(faults, entry.start, entry.object, faults.unacknowledged)
    })
    this.#table.lost = true
    callNative(() => native.forgetLost(handle))
    // No table counts these any more.
    const gone = callNative(() => native.acknowledgeAllFaults(handle))
    if (gone > 0) {
      const unseen = this.#unseen ?? SOMETHING_GONE
      this.#unseen = { ...unseen, lost: unseen.lost + gone }
    }
  }

  // Of a memory whose new buffer nobody has told: whether the kernel has its mappings no more.
  #isLost() {
    if (!this.#table.lost && callNative(() => native.isLost(this.#table.handle))) {
      this.#forgetBases()
      this.#lose()
    }
    return this.#table.lost
  }

  #forgetBases() {
    for (const [base, found] of byBase) if (found.deref() === this) byBase.delete(base)
  }

  // `forUs`: what the memory grows by is to be free space of ours. `forBytes`: what was asked for,
  // for messages.
  #grow(wasmPages, forUs = false, forBytes = undefined) {
    if (this.#memory === null)
      throw hidden(
        'only the module can grow it: use `at`, or `allocator` with the exports of its malloc and free'
      )
    const before = lengthOf(this.#current()) / WASM_PAGE_BYTES
    // 0: V8 does not tell, since its JavaScript can't make memories of this kind.
    const most = Math.min(this.#maximum ?? Infinity, v8.pageLimits()[this.#address] || Infinity)
    const full = reason =>
      makeError(
        'ERR_HOSTMAP_MEMORY_FULL',
        `the memory can't grow by ${wasmPages} Wasm pages of 64 KiB${forBytes === undefined ? '' : `, for ${forBytes} bytes`}: it has ${before}, and ${reason}`
      )
    if (wasmPages > most - before) {
      const bytesMeant =
        forBytes === undefined &&
        wasmPages >= WASM_PAGE_BYTES &&
        Math.ceil(wasmPages / WASM_PAGE_BYTES)
      throw full(
        `its maximum is ${most}; ${bytesMeant ? `${wasmPages} bytes would be ${bytesMeant}` : this.#moreRoom(most)}`
      )
    }
    let was
    try {
      was = v8.growBy(this.#memory, wasmPages, this.#address)
    } catch {
      const array = this.#current()
      callNative(() => native.sync(this.#table.handle, array))
      // The stack may end when it has grown.
      if (!this.#shared && lengthOf(array) > before * WASM_PAGE_BYTES) was = before
    }
    if (was === undefined) {
      const cause = refusal(
        `V8 could not grow the memory by ${wasmPages} Wasm pages`,
        0,
        wasmPages * WASM_PAGE_BYTES
      )
      // V8 does not tell the maximum of a memory that it did not make for us.
      const unexplained = cause.code === 'ERR_HOSTMAP_MEMORY_REFUSED' && this.#maximum === undefined
      throw unexplained
        ? full('its maximum, which V8 does not tell, is reached; use a module with a larger one')
        : cause
    }
    if (forUs) {
      this.#unclaimed.start = was * WASM_PAGE_BYTES
      this.#unclaimed.end = (was + wasmPages) * WASM_PAGE_BYTES
    }
    // Read-only mappings are protected again.
    this.#sync()
    return was
  }

  #moreRoom(most) {
    if (most < v8.pageLimits()[this.#address])
      return 'make it with a larger maximum, or map with `at` inside it'
    const larger = this.#address === 'i32' ? " or use a 64-bit memory (address: 'i64')" : ''
    return `no memory of this kind can have more: map less at once, through a window perhaps${larger}`
  }

  #mapAt(at, request, release) {
    const array = this.#current()
    const { region, byteOffset, byteLength, code, populate, strict } = request
    const regionHandle = handleOf(region)
    const entry = this.#prepareMapping(at, request, release)
    try {
      entry.id = native.mapAt(
        this.#table.handle,
        array,
        regionHandle,
        at,
        byteOffset,
        byteLength,
        code,
        populate ? 1 : 0,
        strict ? 1 : 0
      )
    } catch (error) {
      throw this.#notMade(entry, error)
    }
    return entry.object
  }

  #mapPastEnd(request) {
    const { region, byteLength, hugePages } = request
    // Where its huge pages can be mapped as such: see src/region/thp.rs.
    const wanted = byteLength >= HUGE_PAGE_BYTES && (hugePages ?? isHuge(region))
    if (wanted) {
      const mapping = this.#mapInFreeSpace(request, true)
      if (mapping !== undefined) return mapping
      // Space that is there already is worth more, unless it is asked for by name.
      const free = hugePages === true ? undefined : this.#mapInFreeSpace(request, false)
      if (free !== undefined) return free
      if (this.#growIfRoom(this.#growthForCongruent(request))) {
        const grown = this.#mapInFreeSpace(request, true)
        if (grown !== undefined) return grown
      }
    }
    for (;;) {
      const mapping = this.#mapInFreeSpace(request, false)
      if (mapping !== undefined) return mapping
      this.#growBy(byteLength)
    }
  }

  #mapInFreeSpace(request, congruent) {
    const { region, byteOffset, byteLength, code, populate, strict } = request
    const array = this.#current()
    const regionHandle = handleOf(region)
    const entry = this.#prepareMapping(0, request)
    try {
      const found = native.mapInFreeSpace(
        this.#table.handle,
        array,
        regionHandle,
        byteOffset,
        byteLength,
        code,
        populate,
        strict,
        congruent
      )
      if (found !== null) {
        entry.start = found.start
        entry.id = found.id
        return entry.object
      }
    } catch (error) {
      throw this.#notMade(entry, error)
    }
    this.#entries.delete(entry)
    return undefined
  }

  // Up to 2 MiB more than the mapping has.
  #growthForCongruent({ region, byteOffset, byteLength }) {
    const array = this.#current()
    const growth = callNative(() =>
      native.growthForCongruent(this.#table.handle, array, handleOf(region), byteOffset, byteLength)
    )
    // 0: another thread gave a place back since.
    return growth || byteLength + 2 * HUGE_PAGE_BYTES
  }

  #windowAt(at, request, release) {
    const array = this.#current()
    const { byteLength, code, trap, strict } = request
    const entry = this.#prepareWindow(at, request, release)
    try {
      entry.id = native.windowAt(this.#table.handle, array, at, byteLength, code, trap, strict)
    } catch (error) {
      throw this.#notMade(entry, error)
    }
    return entry.object
  }

  #windowPastEnd(request) {
    const { byteLength, code, trap, strict } = request
    // Where whole huge pages of a file can be mapped as such: see Memory::window_in_free_space.
    let aligned = byteLength >= HUGE_PAGE_BYTES
    for (;;) {
      const array = this.#current()
      const entry = this.#prepareWindow(0, request)
      try {
        const found = native.windowInFreeSpace(
          this.#table.handle,
          array,
          byteLength,
          code,
          trap,
          strict,
          aligned
        )
        if (found !== null) {
          entry.start = found.start
          entry.id = found.id
          return entry.object
        }
      } catch (error) {
        throw this.#notMade(entry, error)
      }
      this.#entries.delete(entry)
      if (aligned && this.#growIfRoom(byteLength + HUGE_PAGE_BYTES)) continue
      if (!aligned) this.#growBy(byteLength)
      // There is no room for the alignment, perhaps.
      aligned = false
    }
  }

  // False: it was refused, now or the last time. Asking again would be most of what a mapping
  // costs, where the one before has left its place.
  #growIfRoom(wanted) {
    const size = lengthOf(this.#current())
    if (this.#refused.size === size && this.#refused.wanted <= wanted) return false
    try {
      this.#growBy(wanted)
      return true
    } catch (error) {
      // Ours all have codes; what has none is a mistake, or the end of the stack.
      if (error.code === undefined) throw error
      this.#refused = { size, wanted }
      return false
    }
  }

  // What the memory grows by is ours alone, even if other threads grow it too. One of them may
  // still take it from the free space before the caller does: then it grows once more.
  #growBy(byteLength) {
    if (this.#claim()) return
    this.#grow(Math.ceil(byteLength / WASM_PAGE_BYTES), true, byteLength)
    this.#claim()
  }

  #claim() {
    const { start, end } = this.#unclaimed
    if (end === 0) return false
    const array = this.#current()
    callNative(() => native.addFreeSpace(this.#table.handle, array, start, end))
    this.#unclaimed.end = 0
    return true
  }

  // Not in `map`: closures would show in what every mapping costs.
  #mapInBlock(at, allocator, request) {
    return this.#inBlock(at, allocator, request.byteLength, (start, release) =>
      this.#mapAt(start, request, release)
    )
  }

  #windowInBlock(at, allocator, request) {
    return this.#inBlock(at, allocator, request.byteLength, (start, release) =>
      this.#windowAt(start, request, release)
    )
  }

  // Puts something of so many bytes into a block of the module's own, which is given back if that
  // fails.
  #inBlock(at, allocator, byteLength, put) {
    if (at !== undefined) {
      throw makeError(
        'ERR_INVALID_ARG_VALUE',
        'options.at and options.allocator are both given; give one of them'
      )
    }
    const { malloc, free } = check.allocator(allocator)
    // One page more than the pages themselves: the block may start anywhere in a page.
    const page = native.hostPageSize()
    const blockBytes = Math.ceil(byteLength / page) * page + page
    const is64 = this.#address === 'i64'
    const failed = why =>
      makeError('ERR_HOSTMAP_ALLOCATOR_FAILED', `options.allocator.malloc(${blockBytes}): ${why}`)
    // A 32-bit malloc would see its argument modulo 2^32, and give a block that is far too small.
    if (!is64 && blockBytes >= 2 ** 32)
      throw failed('more than a 32-bit module can be asked for; map less of the region')
    const given = malloc.call(allocator, is64 ? BigInt(blockBytes) : blockBytes)
    const gave = () => `it gave ${check.received(given)}, `
    // What can't be a block is not given back either.
    const start = addressOf(given, is64)
    if (start === undefined) throw failed(`${gave()}which is no address`)
    if (start === 0)
      throw failed(`${gave()}so the module has no block of this size; let its memory grow further`)
    // No memory of the kind reaches further.
    const most = (v8.pageLimits()[this.#address] || Infinity) * WASM_PAGE_BYTES
    let release = start + blockBytes <= most ? () => free.call(allocator, given) : undefined
    try {
      // Only now, since malloc may have grown the memory.
      const byteLength = lengthOf(this.#current())
      if (start + blockBytes > byteLength) {
        // A shared memory may be larger than the last buffer that was seen; else it is no block of
        // the module's.
        const isStale = this.#memory === null && this.#shared
        if (!isStale) release = undefined
        const hint = isStale ? `, by the buffer that is known; ${PASS_A_FUNCTION}` : ''
        throw failed(`${gave()}and the memory ends before the block does, at ${byteLength}${hint}`)
      }
      return put(Math.ceil(start / page) * page, release)
    } catch (error) {
      try {
        release?.()
      } catch (cause) {
        error.cause ??= cause
      }
      throw error
    }
  }

  #unmap(entry) {
    let array
    try {
      array = this.#current()
    } catch (error) {
      if (!entry.table.lost) throw error
    }
    let faults = entry.faults
    if (!entry.table.lost) {
      try {
        faults = native.unmap(entry.table.handle, array, entry.start, entry.id) ?? null
      } catch (error) {
        throw fromNative(error)
      }
    }
    entry.faults = faults
    entry.ended = true
    try {
      this.#forget(entry)
    } catch {
      // The end of the stack: it is done when the mappings are next looked at.
    }
    const { shows } = entry
    if (shows !== null) {
      shows.region = null
      shows.byteOffset = 0
      shows.shownBytes = 0
    }
  }

  // An entry of what is not there. Faults that nobody has acknowledged are remembered.
  #forget(entry) {
    if (entry.ended && !entry.table.lost && entry.faults?.unacknowledged > 0) {
      this.#remember(entry.faults, entry.start, entry.object)
    }
    this.#entries.delete(entry)
  }

  // Of what was unmapped: the native part counts, since any thread may have done it.
  #checkGone() {
    const gone = callNative(() => native.goneFaults(this.#table.handle))
    const count = gone + (this.#unseen?.lost ?? 0)
    // What this thread remembers may have been acknowledged by another one.
    if (count === 0) this.#unseen = null
    else {
      const { what, lastFault } = this.#unseen ?? SOMETHING_GONE
      throw faultedError(count, what, 'memory', lastFault)
    }
  }

  // As checkFaults, of what is strict.
  #checkStrict() {
    this.#entries.forEach(entry => {
      if (entry.id !== 0 && !entry.ended && entry.object.strict) entry.object.checkFaults()
    })
    if (this.#unseen?.strict) this.#checkGone()
  }

  // No mapping or region is kept by this, only what is to be said of them.
  // `lost`: how many of the faults the native part counts no more.
  #remember(flat, start, mapping, lost = 0) {
    const region = mapping?.region ?? null
    const { lastFault } = faultsFrom(flat, region === null ? undefined : nativeOf(region), start)
    const what = `mappings or windows that were unmapped since, the last at ${start},`
    this.#unseen = {
      lost: (this.#unseen?.lost ?? 0) + lost,
      strict: this.#unseen?.strict || mapping?.strict === true,
      what,
      lastFault
    }
  }
}

const NO_ENTRIES = []
/** Where another thread unmapped it. */
const SOMETHING_GONE = {
  lost: 0,
  strict: false,
  what: 'mappings or windows that were unmapped since',
  lastFault: null
}

function prepareGlobals(globals, state) {
  check.exportsOf(globals, 'options.globals')
  if (state === null) {
    throw makeError(
      'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
      'options.globals is given, and the snapshot has no globals; take it with the option `globals`'
    )
  }
  return prepareRestore(reachable(globals), { ...state, tables: [] })
}

class Mapping {
  #memory
  #entry
  // What was asked for: { region, byteOffset, byteLength, access, strict }.
  #request

  constructor(make, memory, entry, request) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'Mapping has no public constructor: use GuardedMemory.map'
      )
    }
    keepHere(this)
    this.#memory = memory
    this.#entry = entry
    this.#request = request
  }

  get address() {
    return this.#entry.start
  }

  get pointer() {
    return this.#memory.address === 'i64' ? BigInt(this.#entry.start) : this.#entry.start
  }

  get byteLength() {
    return this.#request.byteLength
  }

  get byteOffset() {
    return this.#request.byteOffset
  }

  get access() {
    return this.#request.access
  }

  get region() {
    return this.#request.region
  }

  get memory() {
    return this.#memory
  }

  get unmapped() {
    return this.#entry.ended
  }

  get strayWrites() {
    return this.#faults().strayWrites
  }

  get faults() {
    return this.#faults().faults
  }

  get lastFault() {
    return this.#faults().lastFault
  }

  get strict() {
    return this.#request.strict === true
  }

  checkFaults() {
    const { unacknowledged, lastFault } = this.#faults()
    if (unacknowledged === 0) return
    const range = `[${this.address}, ${this.address + this.byteLength})`
    const what = `the mapping of region "${this.region.name}" at ${range}`
    throw faultedError(unacknowledged, what, 'mapping', lastFault)
  }

  acknowledgeFaults() {
    const { unacknowledged } = this.#faults()
    const { table, start, id, ended, faults } = this.#entry
    if (!ended && !table.lost)
      return callNative(() => native.acknowledgeFaults(table.handle, start, id))
    if (unacknowledged > 0) faults.unacknowledged = 0
    return unacknowledged
  }

  async prefetch(options) {
    const given = read.prefetch(options)
    const { start: first, end } = check.part(given, this, 'the mapping')
    const { signal } = given
    check.optional(signal, check.abortSignal, 'options.signal')
    const isFile = this.#request.region.backing === 'file'
    if (this.#request.strict) this.checkFaults()
    const { table, start, id, ended } = this.#entry
    const nothing = ended || first === end
    const array = nothing ? undefined : currentIn(this.#memory)
    if (!nothing && table.lost) throw moved('map again')
    const prefetch = task => {
      if (nothing) return
      return native.prefetch(task, table.handle, array, start, id, first, end, isFile)
    }
    await runTask(prefetch, 'The prefetch', signal)
  }

  unmap() {
    if (!this.#entry.ended) unmapIn(this.#memory, this.#entry)
    if (this.#entry.release !== undefined) release(this.#entry)
  }

  [Symbol.dispose]() {
    this.unmap()
  }

  #faults() {
    const { table, start, id, ended, faults } = this.#entry
    const flat =
      ended || table.lost ? faults : callNative(() => native.faultsOf(table.handle, start, id))
    return faultsFrom(flat, nativeOf(this.#request.region), start)
  }

  [inspect.custom](depth, options) {
    if (!(#entry in this)) return 'Mapping {}'
    const { pointer, byteLength, access, region, unmapped } = this
    return `Mapping ${inspect({ pointer, byteLength, access, region: region.name, unmapped }, options)}`
  }
}

/**
 * An address that a module's function gave, as a number. 32-bit ones above 2 GiB come as negative
 * numbers.
 */
function addressOf(given, is64) {
  if (typeof given !== 'number' && typeof given !== 'bigint') return undefined
  if (typeof given === 'number' && !Number.isInteger(given)) return undefined
  const [lowest, highest] = is64 ? [-(2n ** 63n), 2n ** 64n - 1n] : [-(2n ** 31n), 2n ** 32n - 1n]
  const address = BigInt(given)
  if (address < lowest || address > highest) return undefined
  return Number(BigInt.asUintN(is64 ? 64 : 32, address))
}

/**
 * The mapping table of the memory that this array is over. The handle is a number, and good as long
 * as its owner is held.
 */
function attach(array) {
  const owner = new native.NativeMemory(array)
  return { owner, handle: owner.handle, lost: false }
}

function memoryDescriptor(descriptor) {
  if (descriptor === undefined || v8.isMemory(descriptor)) throw check.wrongDescriptor(descriptor)
  const {
    initial,
    maximum,
    shared = false,
    address = 'i32'
  } = read.descriptor(descriptor, 'descriptor')
  check.oneOf(address, 'descriptor.address', ['i32', 'i64'])
  check.boolean(shared, 'descriptor.shared')
  const most = v8.pageLimits()[address]
  if (most === 0) {
    throw makeError(
      'ERR_HOSTMAP_NO_MEMORY64',
      `descriptor.address is 'i64', and Node.js ${process.version} has no 64-bit memories; use Node.js 24 or later`
    )
  }
  const first = check.wholeNumberOrBigInt(
    initial,
    'descriptor.initial (in Wasm pages)',
    0,
    most,
    check.limits.wasmPages,
    most
  )
  const last = check.optional(
    maximum,
    check.wholeNumberOrBigInt,
    'descriptor.maximum (in Wasm pages)',
    first,
    most,
    check.limits.wasmPages,
    most
  )
  if (shared && last === undefined) {
    throw check.wrongType(
      'descriptor.maximum',
      'a number of Wasm pages where descriptor.shared is true',
      maximum
    )
  }
  return { initial: first, maximum: last, shared, address }
}

function makeMemory(descriptor) {
  callNative(() => native.checkHeadRoom())
  const { initial, maximum, shared, address } = descriptor
  const asked = {
    address,
    isRefusal: () => true,
    what: `V8 could not allocate a memory of ${initial} Wasm pages`,
    // Without guards each takes what it needs by itself: at least its first size, and a shared one,
    // which can't be moved, all that it may grow to.
    leastBytes: (shared ? maximum : initial) * WASM_PAGE_BYTES,
    commitBytes: initial * WASM_PAGE_BYTES
  }
  return allocate(asked, () => v8.makeMemory(descriptor))
}

/** Whether the buffer of this array, of any kind, is that of the memory with this table. */
function isAt(table, array) {
  try {
    return callNative(() => native.isAt(table, array))
  } catch (error) {
    if (error.code === 'ERR_HOSTMAP_NOT_WASM_MEMORY') return false
    throw error
  }
}

const THE_FUNCTION = 'the function that was passed to GuardedMemory.from'
const PASS_A_FUNCTION =
  'pass GuardedMemory.from a function that gives the buffer as it is now, such as () => Module.HEAPU8.buffer'

/** What a function gave that is to give a memory's buffer as it is now. */
function bufferFrom(find, wrong = notBuffer) {
  let buffer
  try {
    buffer = find()
  } catch (cause) {
    throw Object.assign(hidden(`${THE_FUNCTION} threw; see cause`), { cause })
  }
  if (!types.isAnyArrayBuffer(buffer)) throw wrong(buffer, 'given by the function')
  if (isDetached(buffer)) {
    throw hidden(
      `${THE_FUNCTION} gave a buffer that is detached; it must look the buffer up each time, as () => Module.HEAPU8.buffer does`
    )
  }
  return buffer
}

const notBuffer = given =>
  hidden(`${THE_FUNCTION} gave ${check.received(given)} and not the memory's buffer`)

// Node 20 has no `ArrayBuffer.prototype.detached`; there, no view can be made over a detached
// buffer.
function isDetached(buffer) {
  if (v8.sizeOf(buffer) > 0) return false
  try {
    new Uint8Array(buffer)
    return false
  } catch {
    return true
  }
}

const unknownAddress = () =>
  makeError(
    'ERR_HOSTMAP_ADDRESS_UNKNOWN',
    "nothing tells whether the memory's addresses have 32 or 64 bits; pass options.address, 'i32' or 'i64', as its module declares it"
  )

const moved = what =>
  makeError(
    'ERR_HOSTMAP_MEMORY_MOVED',
    `V8 has moved the memory to another place when it grew, and its mappings are lost: their bytes are copies now; ${what}`
  )
const notWasmMemory = why =>
  makeError('ERR_HOSTMAP_NOT_WASM_MEMORY', `memory is not a WebAssembly memory's buffer: ${why}`)
const hidden = why => makeError('ERR_HOSTMAP_MEMORY_HIDDEN', `the module hides its memory: ${why}`)

/** For Snapshot.of. */
const snapshotWith = (...args) => snapshotIn(...args)

module.exports = {
  GuardedMemory,
  Mapping,
  growIn,
  /** As the methods, for the pool, which has read options and knows its receiver. */
  restoreIn: (guarded, snapshot, given) => restoreIn(guarded, snapshot, given),
  bytesIn: guarded => bytesIn(guarded),
  snapshotWith,
  /**
   * For the pool: throws where a strict mapping or window has unacknowledged faults, or had them
   * when it was unmapped.
   */
  checkStrict: guarded => checkStrict(guarded),
  /** For the pool: takes note of all faults, so that the next user of a memory finds none. */
  forgetFaults: guarded => forgetFaults(guarded)
}
