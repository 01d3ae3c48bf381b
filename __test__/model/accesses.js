'use strict'

// Every way in which the model test reads and writes a memory: what is done, beside what it means
// to the model. An access is plain data, so that a worker can do it too: `{ name, at, length,
// value, from }`, value a BigInt.

const { compileWith } = require('../support/wasm')

/** What `memory.init` takes its bytes from. */
const SEGMENT = Buffer.from('The quick brown fox jumps over the lazy dog, sixty-four bytes...')

/** A static offset, as compilers put them on loads of a structure's fields. */
const OFFSET = 4096
/** How far an access can reach past its address. */
const FAR = 4294967288
/**
 * The constant address of a store. V8 may leave it without protection, since it is in every
 * memory that is that large.
 */
const CONSTANT = 1000

function guestWat(memory, at) {
  const load = (name, code) => `(func (export "${name}") (param ${at}) (result i64) ${code})`
  const store = (name, code) => `(func (export "${name}") (param ${at} i64) ${code})`
  const [p, v] = ['(local.get 0)', '(local.get 1)']
  const far = `offset=${FAR}`
  return `(module
    ${memory}
    (data $segment "${SEGMENT}")
    (func (export "grow") (param ${at}) (result ${at}) (memory.grow ${p}))
    (func (export "size") (result ${at}) memory.size)
    ${load('load8', `(i64.load8_u ${p})`)}
    ${load('load16', `(i64.load16_u ${p})`)}
    ${load('load32', `(i64.load32_u ${p})`)}
    ${load('load64', `(i64.load ${p})`)}
    ${load('loadF64', `(i64.reinterpret_f64 (f64.load ${p}))`)}
    ${load('loadV128', `(i64.xor (i64x2.extract_lane 0 (v128.load ${p})) (i64x2.extract_lane 1 (v128.load ${p})))`)}
    ${load('loadOffset', `(i64.load offset=${OFFSET} ${p})`)}
    ${load('loadFar', `(i64.load ${far} ${p})`)}
    ${store('store8', `(i64.store8 ${p} ${v})`)}
    ${store('store16', `(i64.store16 ${p} ${v})`)}
    ${store('store32', `(i64.store32 ${p} ${v})`)}
    ${store('store64', `(i64.store ${p} ${v})`)}
    ${store('storeF64', `(f64.store ${p} (f64.reinterpret_i64 ${v}))`)}
    ${store('storeV128', `(v128.store ${p} (i64x2.splat ${v}))`)}
    ${store('storeOffset', `(i64.store offset=${OFFSET} ${p} ${v})`)}
    ${store('storeFar', `(i64.store ${far} ${p} ${v})`)}
    (func (export "storeConstant") (param i64) (i64.store (${at}.const ${CONSTANT}) (local.get 0)))
    (func (export "fill") (param ${at} i32 ${at}) (memory.fill ${p} ${v} (local.get 2)))
    (func (export "copy") (param ${at} ${at} ${at}) (memory.copy ${p} ${v} (local.get 2)))
    (func (export "init") (param ${at} i32 i32) (memory.init $segment ${p} ${v} (local.get 2)))
    ${load('atomicLoad32', `(i64.atomic.load32_u ${p})`)}
    ${load('atomicLoad64', `(i64.atomic.load ${p})`)}
    ${store('atomicStore64', `(i64.atomic.store ${p} ${v})`)}
    (func (export "atomicAdd8") (param ${at} i64) (result i64) (i64.atomic.rmw8.add_u ${p} ${v}))
    (func (export "atomicAdd32") (param ${at} i64) (result i64) (i64.atomic.rmw32.add_u ${p} ${v}))
    (func (export "atomicSwap64") (param ${at} i64) (result i64) (i64.atomic.rmw.xchg ${p} ${v}))
    (func (export "atomicCompare64") (param ${at} i64 i64) (result i64)
      (i64.atomic.rmw.cmpxchg ${p} ${v} (local.get 2)))
  )`
}

/** A module's instance, and the memory as JavaScript sees it. */
class Guest {
  #bytes = null

  constructor(module, memory, { address, shared }) {
    this.exports = new WebAssembly.Instance(module, memory ? { env: { memory } } : {}).exports
    this.memory = memory ?? this.exports.memory
    this.pointer = address === 'i64' ? BigInt : Number
    this.shared = shared
  }

  /** The memory's bytes now. */
  get bytes() {
    const { buffer } = this.memory
    if (this.#bytes?.buffer !== buffer) this.#bytes = Buffer.from(buffer)
    return this.#bytes
  }

  grow(wasmPages) {
    return Number(this.exports.grow(this.pointer(wasmPages)))
  }
}

async function makeGuest(type, memory) {
  const module = await compileWith(guestWat, memory ? { ...type, initial: undefined } : type)
  return new Guest(module, memory, type)
}

const mask = (value, size) => BigInt.asUintN(8 * Math.min(size, 8), value)

/** A number's bytes; a vector is its 64-bit number twice. */
function toBytes(value, size) {
  const bytes = Buffer.alloc(Math.max(size, 8))
  bytes.writeBigUInt64LE(mask(value, 8))
  if (size === 16) bytes.copyWithin(8, 0, 8)
  return bytes.subarray(0, size)
}

function toValue(bytes) {
  if (bytes.length === 16) return bytes.readBigUInt64LE() ^ bytes.readBigUInt64LE(8)
  const word = Buffer.alloc(8)
  bytes.copy(word)
  return word.readBigUInt64LE()
}

// How an access meets a page that refuses it: 'plain' traps, 'native' gets a page of its own, 'any'
// does the one or the other. `either`: it may read or write first. `reads` and `writes` give the
// ranges that are touched, in bytes; `effect` is what it does to the model, after they were
// touched.

const plainLoad = (size, offset = 0) => ({
  how: 'plain',
  reads: a => [[a.at + offset, size]],
  effect: (a, memory) => toValue(memory.read(a.at + offset, size)),
  perform: (guest, a) => mask(guest.exports[a.name](guest.pointer(a.at)), 8)
})

const plainStore = (size, offset = 0) => ({
  how: 'plain',
  writes: a => [[a.at + offset, size]],
  effect: (a, memory) => memory.write(a.at + offset, toBytes(a.value, size)),
  perform: (guest, a) => guest.exports[a.name](guest.pointer(a.at), a.value)
})

// Whether an atomic traps depends on the compiler and its version.
const atomic = (size, { write = true, update = value => value, result = true } = {}) => ({
  how: 'any',
  either: write && result,
  // An atomic that is not aligned traps, wherever it is.
  traps: a => a.at % size !== 0,
  align: size,
  reads: a => (write ? [] : [[a.at, size]]),
  writes: a => (write ? [[a.at, size]] : []),
  effect: (a, memory) => {
    const old = toValue(memory.read(a.at, size))
    if (write) memory.write(a.at, toBytes(update(a.value, old), size))
    return result ? old : undefined
  },
  perform: (guest, a) => {
    const value = guest.exports[a.name](guest.pointer(a.at), a.value)
    return value === undefined ? undefined : mask(value, size)
  }
})

const WASM = {
  load8: plainLoad(1),
  load16: plainLoad(2),
  load32: plainLoad(4),
  load64: plainLoad(8),
  loadF64: plainLoad(8),
  loadV128: plainLoad(16),
  loadOffset: plainLoad(8, OFFSET),
  loadFar: plainLoad(8, FAR),
  store8: plainStore(1),
  store16: plainStore(2),
  store32: plainStore(4),
  store64: plainStore(8),
  storeF64: plainStore(8),
  storeV128: plainStore(16),
  storeOffset: plainStore(8, OFFSET),
  storeFar: plainStore(8, FAR),
  storeConstant: {
    how: 'any',
    writes: () => [[CONSTANT, 8]],
    effect: (a, memory) => memory.write(CONSTANT, toBytes(a.value, 8)),
    perform: (guest, a) => guest.exports.storeConstant(a.value)
  },
  fill: {
    how: 'native',
    long: true,
    writes: a => [[a.at, a.length]],
    effect: (a, memory) => memory.write(a.at, Buffer.alloc(a.length, Number(a.value & 255n))),
    perform: (guest, a) =>
      guest.exports.fill(guest.pointer(a.at), Number(a.value & 255n), guest.pointer(a.length))
  },
  copy: {
    how: 'native',
    long: true,
    reads: a => [[a.from, a.length]],
    writes: a => [[a.at, a.length]],
    effect: (a, memory) => memory.write(a.at, memory.read(a.from, a.length)),
    perform: (guest, a) =>
      guest.exports.copy(guest.pointer(a.at), guest.pointer(a.from), guest.pointer(a.length))
  },
  init: {
    how: 'native',
    most: SEGMENT.length,
    writes: a => [[a.at, a.length]],
    effect: (a, memory) => memory.write(a.at, SEGMENT.subarray(0, a.length)),
    perform: (guest, a) => guest.exports.init(guest.pointer(a.at), 0, a.length)
  },
  atomicLoad32: atomic(4, { write: false }),
  atomicLoad64: atomic(8, { write: false }),
  atomicStore64: atomic(8, { result: false }),
  atomicAdd8: atomic(1, { update: (value, old) => old + value }),
  atomicAdd32: atomic(4, { update: (value, old) => old + value }),
  atomicSwap64: atomic(8),
  atomicCompare64: {
    ...atomic(8),
    // The value that is there is passed, so that it writes on every processor.
    needsOld: 8,
    perform: (guest, a) =>
      mask(guest.exports.atomicCompare64(guest.pointer(a.at), a.old, a.value), 8)
  }
}

const scripted = { how: 'native', script: true }

/** By JavaScript, over the memory's buffer. `bytes` is a Buffer over all of it. */
const SCRIPT = {
  jsElement: {
    ...scripted,
    size: 1,
    outside: true,
    writes: a => [[a.at, 1]],
    effect: (a, memory) => memory.write(a.at, toBytes(a.value, 1)),
    perform: (bytes, a) => void (bytes[a.at] = Number(a.value & 255n))
  },
  jsLoad: {
    ...scripted,
    size: 1,
    outside: true,
    reads: a => [[a.at, 1]],
    effect: (a, memory) => toValue(memory.read(a.at, 1)),
    perform: (bytes, a) => (bytes[a.at] === undefined ? undefined : BigInt(bytes[a.at]))
  },
  jsSet: {
    ...scripted,
    long: true,
    writes: a => [[a.at, a.length]],
    effect: (a, memory) => memory.write(a.at, pattern(a)),
    perform: (bytes, a) => bytes.set(pattern(a), a.at)
  },
  jsFill: {
    ...scripted,
    long: true,
    writes: a => [[a.at, a.length]],
    effect: (a, memory) => memory.write(a.at, Buffer.alloc(a.length, Number(a.value & 255n))),
    perform: (bytes, a) => void bytes.fill(Number(a.value & 255n), a.at, a.at + a.length)
  },
  jsCopyWithin: {
    ...scripted,
    long: true,
    reads: a => [[a.from, a.length]],
    writes: a => [[a.at, a.length]],
    effect: (a, memory) => memory.write(a.at, memory.read(a.from, a.length)),
    perform: (bytes, a) => void bytes.copyWithin(a.at, a.from, a.from + a.length)
  },
  jsDataView: {
    ...scripted,
    size: 8,
    writes: a => [[a.at, 8]],
    effect: (a, memory) => memory.write(a.at, toBytes(a.value, 8)),
    perform: (bytes, a) =>
      new DataView(bytes.buffer, bytes.byteOffset, bytes.length).setBigUint64(a.at, a.value, true)
  },
  jsAtomics: {
    ...scripted,
    size: 8,
    align: 8,
    // V8 does it by a load and a compare-and-swap.
    either: true,
    writes: a => [[a.at, 8]],
    effect: (a, memory) => {
      const old = toValue(memory.read(a.at, 8))
      memory.write(a.at, toBytes(old + a.value, 8))
      return old
    },
    perform: (bytes, a) =>
      Atomics.add(new BigUint64Array(bytes.buffer, bytes.byteOffset + a.at, 1), 0, a.value)
  },
  jsRead: {
    ...scripted,
    long: true,
    reads: a => [[a.at, a.length]],
    effect: (a, memory) => memory.read(a.at, a.length).toString('latin1'),
    perform: (bytes, a) => bytes.toString('latin1', a.at, a.at + a.length)
  }
}

/** Bytes that differ, from a number. */
function pattern({ value, length }) {
  const bytes = Buffer.alloc(length)
  let state = Number(value & 0xffffn) | 1
  for (let i = 0; i < length; i++) {
    state = (state * 75 + 74) % 65537
    bytes[i] = state
  }
  return bytes
}

const ACCESSES = { ...WASM, ...SCRIPT }

/** Does it. Gives `{ value }`, or `{ trap }` where the module trapped. */
function perform(guest, access) {
  const { perform, script } = ACCESSES[access.name]
  try {
    return { value: perform(script ? guest.bytes : guest, access) }
  } catch (error) {
    if (error.name !== 'RuntimeError') throw error
    return { trap: error.message }
  }
}

module.exports = { WASM, SCRIPT, ACCESSES, CONSTANT, makeGuest, perform, toValue }
