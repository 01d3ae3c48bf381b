'use strict'

// A linear memory of V8's as the library knows it: the one object for it, behind its GuardedMemory.
// Its buffer comes anew with each growth, and the memory itself may move: `current` finds that out.
//
// All of its state is here; what maps into it, grows it or restores it is in files of its own. No
// address of a memory is ever kept in JavaScript: each native call takes the array over the buffer
// as it is now, from which V8 tells base and length.

const native = require('../platform/binding.js')
const { makeError, callNative } = require('../support/errors.js')
const v8 = require('../platform/v8.js')
const { noteGuard, proveGuard } = require('../platform/reservation.js')
const { isJavaScriptCore } = require('../platform/engine.js')
const { PASS_A_FUNCTION, hidden, moved, unguarded } = require('./errors.js')
const { bufferFrom } = require('./buffer.js')
const { byBuffer, register, forgetBases } = require('./registry.js')
const { attach, isAt } = require('./table.js')
const { isMapped } = require('./entry.js')
const { remember, rememberLost } = require('./faults.js')

const { lengthOf, isShared } = v8

class LinearMemory {
  /**
   * The WebAssembly.Memory; null where a module shows the buffer only. A buffer keeps its memory
   * alive, even when it is detached.
   */
  memory
  buffer
  /** Gives the buffer as it is now, where the caller has said how; null where not. */
  find = null
  shared
  /** Over the whole buffer: the native part finds base and length by it. */
  array
  /** The largest size that was seen. */
  seenBytes
  /** See table.js. */
  table
  /** 'i32' or 'i64'. */
  address
  /** In Wasm pages; undefined if not known: V8 does not tell it of a memory that exists. */
  maximum
  /** Whether everything around the memory is inaccessible. */
  guarded
  /** Entries of the mappings and windows that this thread made; some of them failed or ended. */
  entries = new Set()
  /**
   * What the memory grew by and the table was not told of: where the stack ended, the next growth
   * makes up for it.
   */
  unclaimed = { start: 0, end: 0 }
  /** The growth for huge pages that was refused last, in bytes, and the memory's size then. */
  refused = { size: -1, wanted: 0 }
  /**
   * Faults that nobody had acknowledged when their mapping or window was unmapped: where the last
   * of these was, and how many the native part does not count.
   */
  unseen = null
  /** Its GuardedMemory, once somebody has asked for it. */
  face = undefined

  /** `guard`: the proof of its guard, where there is one already. */
  constructor({ memory, buffer, address, maximum, guard: known }) {
    this.memory = memory
    this.buffer = buffer
    this.address = address
    this.maximum = maximum
    this.array = v8.arrayOver(buffer)
    this.seenBytes = lengthOf(this.array)
    this.shared = isShared(buffer)
    const guard = known ?? callNative(() => proveGuard(this.array, address))
    if (guard === null && isJavaScriptCore) throw unguarded()
    this.guarded = guard !== null
    callNative(() => {
      this.table = attach(this.array)
      if (this.guarded) noteGuard(this.table.handle, this.array, address, guard)
    })
    register(this, buffer, this.array)
  }

  /** The buffer as the module shows it now: that of a shared memory may be behind. */
  get freshBuffer() {
    if (this.memory !== null) return v8.bufferOf(this.memory)
    return this.find === null ? this.buffer : this.#foundBuffer()
  }

  /** The buffer as it is now. */
  get latestBuffer() {
    if (this.memory !== null || !this.shared) return this.freshBuffer
    this.currentTo(Infinity)
    return this.buffer
  }

  /** Without a call of the caller's function, which may be behind by a growth. */
  get knownBuffer() {
    return this.memory === null ? this.buffer : v8.bufferOf(this.memory)
  }

  get byteLength() {
    return v8.sizeOf(this.latestBuffer)
  }

  /** The array over the buffer as it is now. Every growth makes a new buffer. */
  current() {
    // A growth detaches the buffer, but for that of a shared memory.
    if (!this.shared && lengthOf(this.array) > 0) return this.array
    const buffer = this.freshBuffer
    if (buffer !== this.buffer) this.refresh(buffer)
    if (this.memory === null && this.find === null && lengthOf(this.array) === 0) {
      if (this.isLost()) throw moved('pass its new buffer to GuardedMemory.from, and map again')
      throw hidden(
        `the module has grown its memory, and the buffer that was given is detached; ${PASS_A_FUNCTION}`
      )
    }
    return this.array
  }

  /**
   * The same for what ends there. Another thread may have grown a shared memory, which its module
   * shows only when it looks itself: then V8 is asked.
   */
  currentTo(end) {
    const array = this.current()
    if (this.memory !== null || !this.shared || lengthOf(array) >= end) return array
    const buffer = v8.latestOf(this.buffer)
    if (v8.sizeOf(buffer) > lengthOf(array)) this.refresh(buffer)
    return this.array
  }

  refresh(buffer) {
    const array = v8.arrayOver(buffer)
    if (!this.table.lost && callNative(() => native.isAt(this.table.handle, array))) {
      byBuffer.set(buffer, this)
      this.#setBuffer(buffer, array)
    } else this.#move(buffer, array)
  }

  /** Protects read-only mappings again that a growth made writable. */
  sync() {
    const array = this.current()
    callNative(() => native.sync(this.table.handle, array))
    return this
  }

  /** Of a memory whose new buffer nobody has told: whether the kernel has its mappings no more. */
  isLost() {
    if (!this.table.lost && callNative(() => native.isLost(this.table.handle))) {
      forgetBases(this)
      this.#lose()
    }
    return this.table.lost
  }

  // The function is foreign code and may do anything, map and grow included: only what it gives is
  // looked at, and nothing here is changed before that was found to be this memory's.
  #foundBuffer() {
    const buffer = bufferFrom(this.find)
    if (buffer === this.buffer) return buffer
    const array = v8.arrayOver(buffer)
    if (
      isShared(buffer) !== this.shared ||
      v8.isResizable(buffer) ||
      this.table.lost ||
      !isAt(this.table, array)
    ) {
      this.isLost()
      throw makeError(
        'ERR_HOSTMAP_MEMORY_MOVED',
        'the function that was passed to GuardedMemory.from gave a buffer at another address: either it is that of another memory, ' +
          'or V8 moved this one when it grew, and its mappings are lost; call GuardedMemory.from again for the memory as it is now'
      )
    }
    // A shared memory's older buffers are shorter, and never detached.
    return this.shared && lengthOf(array) < lengthOf(this.array) ? this.buffer : buffer
  }

  #setBuffer(buffer, array) {
    const bytes = lengthOf(array)
    this.buffer = buffer
    this.array = array
    if (bytes > this.seenBytes) this.seenBytes = bytes
  }

  // V8 copied the memory elsewhere. Whatever fails, the next call does all of it again.
  #move(buffer, array) {
    const guard = callNative(() => proveGuard(array, this.address))
    if (guard === null && isJavaScriptCore) throw unguarded()
    const table = attach(array)
    if (guard !== null) callNative(() => noteGuard(table.handle, array, this.address, guard))
    forgetBases(this)
    this.#lose()
    register(this, buffer, array)
    const entries = new Set()
    this.#setBuffer(buffer, array)
    this.table = table
    this.guarded = guard !== null
    this.entries = entries
    this.unclaimed.end = 0
  }

  // The mappings are gone, and what they showed is plain memory: each says so when it is used.
  #lose() {
    const { handle } = this.table
    this.entries.forEach(entry => {
      if (!isMapped(entry)) return
      const faults = callNative(() => native.faultsOf(handle, entry.start, entry.id))
      // Of a table that was forgotten, where this was begun before: they were taken then.
      if (faults === null) return
      entry.faults = faults
      if (faults.unacknowledged > 0) remember(this, entry, faults.unacknowledged)
    })
    this.table.lost = true
    callNative(() => native.forgetLost(handle))
    // No table counts these any more.
    const gone = callNative(() => native.acknowledgeAllFaults(handle))
    if (gone > 0) rememberLost(this, gone)
  }
}

module.exports = { LinearMemory }
