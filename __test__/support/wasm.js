'use strict'

// The modules under test: WAT, assembled by wabt once and kept in node_modules/.cache.

const { createHash } = require('node:crypto')
const fs = require('node:fs')
const path = require('node:path')
const { skipUnless } = require('./skip')

const CACHE = path.join(__dirname, '../../node_modules/.cache/wasm-hostmap-test')
const FEATURES = {
  simd: true,
  threads: true,
  memory64: true,
  bulk_memory: true,
  sign_extension: true
}

const WASM_PAGE = 65536
const KiB = 1024
const MiB = 1024 * KiB
const GiB = 1024 * MiB

const assembled = new Map()

/** The binary of a module in WAT. */
async function assemble(wat) {
  const wabtVersion = require('wabt/package.json').version
  const key = createHash('sha256')
    .update(`${wabtVersion}\n${JSON.stringify(FEATURES)}\n${wat}`)
    .digest('hex')
  if (!assembled.has(key)) assembled.set(key, assembleCached(wat, path.join(CACHE, `${key}.wasm`)))
  return assembled.get(key)
}

async function assembleCached(wat, file) {
  try {
    return fs.readFileSync(file)
  } catch {
    // Not there yet.
  }
  const wabt = await require('wabt')()
  const parsed = wabt.parseWat('module.wat', wat, FEATURES)
  parsed.validate(FEATURES)
  const binary = Buffer.from(parsed.toBinary({}).buffer)
  parsed.destroy()
  // Written beside and renamed, so that no other test process reads half of it.
  fs.mkdirSync(CACHE, { recursive: true })
  fs.writeFileSync(`${file}.${process.pid}`, binary)
  fs.renameSync(`${file}.${process.pid}`, file)
  return binary
}

/**
 * A module that touches its memory in each way that a trap can stop. `memory` is its memory clause,
 * `at` the type of its addresses.
 */
function probeWat(memory, at) {
  // Nothing but an offset can reach past 4 GiB from a 32-bit address.
  const farOffset = at === 'i32' ? 'offset=4294967288' : 'offset=0'
  return `(module
    ${memory}
    (func (export "size") (result ${at}) memory.size)
    (func (export "grow") (param ${at}) (result ${at}) (memory.grow (local.get 0)))

    (func (export "load8") (param ${at}) (result i32) (i32.load8_u (local.get 0)))
    (func (export "load16") (param ${at}) (result i32) (i32.load16_u (local.get 0)))
    (func (export "load32") (param ${at}) (result i32) (i32.load (local.get 0)))
    (func (export "load64") (param ${at}) (result i64) (i64.load (local.get 0)))
    (func (export "loadF64") (param ${at}) (result f64) (f64.load (local.get 0)))
    (func (export "loadV128") (param ${at}) (result i64) (i64x2.extract_lane 1 (v128.load (local.get 0))))
    (func (export "loadFar") (param ${at}) (result i64) (i64.load ${farOffset} (local.get 0)))

    (func (export "store8") (param ${at} i32) (i32.store8 (local.get 0) (local.get 1)))
    (func (export "store16") (param ${at} i32) (i32.store16 (local.get 0) (local.get 1)))
    (func (export "store32") (param ${at} i32) (i32.store (local.get 0) (local.get 1)))
    (func (export "store64") (param ${at} i64) (i64.store (local.get 0) (local.get 1)))
    (func (export "storeF32") (param ${at} f32) (f32.store (local.get 0) (local.get 1)))
    (func (export "storeF64") (param ${at} f64) (f64.store (local.get 0) (local.get 1)))
    (func (export "storeV128") (param ${at} i64) (v128.store (local.get 0) (i64x2.splat (local.get 1))))

    ;; The sum of the 64-bit words of [start, end).
    (func (export "sum") (param $p ${at}) (param $end ${at}) (result i64) (local $sum i64)
      (block $done
        (loop $next
          (br_if $done (${at}.ge_u (local.get $p) (local.get $end)))
          (local.set $sum (i64.add (local.get $sum) (i64.load (local.get $p))))
          (local.set $p (${at}.add (local.get $p) (${at}.const 8)))
          (br $next)))
      (local.get $sum))

    ;; The first of the words at start, start + stride, ... below end that is not first, first + 1,
    ;; ...; or -1.
    (func (export "mismatch") (param $p ${at}) (param $end ${at}) (param $stride ${at}) (param $word i64) (result i64)
      (local $index i64)
      (loop $next
        (if (${at}.ge_u (local.get $p) (local.get $end)) (then (return (i64.const -1))))
        (if (i64.ne (i64.load (local.get $p)) (i64.add (local.get $word) (local.get $index)))
          (then (return (local.get $index))))
        (local.set $index (i64.add (local.get $index) (i64.const 1)))
        (local.set $p (${at}.add (local.get $p) (local.get $stride)))
        (br $next))
      unreachable)

    ;; Writes first, first + 1, ... at start, start + stride, ... below end.
    (func (export "mark") (param $p ${at}) (param $end ${at}) (param $stride ${at}) (param $word i64)
      (loop $next
        (if (${at}.ge_u (local.get $p) (local.get $end)) (then (return)))
        (i64.store (local.get $p) (local.get $word))
        (local.set $word (i64.add (local.get $word) (i64.const 1)))
        (local.set $p (${at}.add (local.get $p) (local.get $stride)))
        (br $next)))

    (func (export "atomicAdd") (param ${at} i32) (result i32) (i32.atomic.rmw.add (local.get 0) (local.get 1)))
  )`
}

const compiled = new Map()

/**
 * What `watOf(memory, address)` gives, compiled. Without `initial` it imports its memory as
 * `env.memory`, with it it exports one of its own.
 */
async function compileWith(watOf, { address = 'i32', shared = false, initial, maximum } = {}) {
  const is64 = address === 'i64'
  // A shared memory's type needs a maximum, and any memory fits under the largest; without one, any
  // unshared memory fits.
  const largest = shared ? (is64 ? 262144 : 65536) : ''
  const limits = initial === undefined ? `0 ${largest}` : `${initial} ${maximum ?? largest}`
  const type = `${is64 ? 'i64 ' : ''}${limits}${shared ? ' shared' : ''}`
  const clause =
    initial === undefined
      ? `(import "env" "memory" (memory ${type}))`
      : `(memory (export "memory") ${type})`
  const wat = watOf(clause, address)
  if (!compiled.has(wat)) compiled.set(wat, new WebAssembly.Module(await assemble(wat)))
  return compiled.get(wat)
}

const compileProbe = options => compileWith(probeWat, options)

/**
 * The probe's functions, with addresses as numbers whatever the memory's kind, and bytes in words
 * as BigInts.
 */
class Probe {
  constructor(instance, address) {
    this.exports = instance.exports
    this.memory = instance.exports.memory
    this.pointer = address === 'i64' ? BigInt : Number
  }
  size() {
    return Number(this.exports.size())
  }
  grow(wasmPages) {
    return Number(this.exports.grow(this.pointer(wasmPages)))
  }
  /** Calls `load8`, `store32`, ... by name. */
  touch(name, at, ...values) {
    return this.exports[name](this.pointer(at), ...values)
  }
  load8(at) {
    return this.exports.load8(this.pointer(at))
  }
  load64(at) {
    return this.exports.load64(this.pointer(at))
  }
  store8(at, value) {
    this.exports.store8(this.pointer(at), value)
  }
  store64(at, value) {
    this.exports.store64(this.pointer(at), value)
  }
  sum(start, end) {
    return this.exports.sum(this.pointer(start), this.pointer(end))
  }
  mismatch(start, end, stride, first) {
    return Number(
      this.exports.mismatch(this.pointer(start), this.pointer(end), this.pointer(stride), first)
    )
  }
  mark(start, end, stride, first) {
    this.exports.mark(this.pointer(start), this.pointer(end), this.pointer(stride), first)
  }
  /** `byteLength` bytes as the module loads them, one by one. */
  bytes(at, byteLength) {
    return Buffer.from(Array.from({ length: byteLength }, (_, i) => this.load8(at + i)))
  }
}

/** A probe over this memory. */
async function probe(memory, { address = 'i32' } = {}) {
  const shared = Object.prototype.toString.call(memory.buffer) === '[object SharedArrayBuffer]'
  const module = await compileProbe({ address, shared })
  return new Probe(new WebAssembly.Instance(module, { env: { memory } }), address)
}

/** A probe with a memory of its own, `probe.memory`. */
async function probeWithMemory({ address = 'i32', shared = false, initial, maximum }) {
  const module = await compileProbe({ address, shared, initial, maximum })
  return new Probe(new WebAssembly.Instance(module), address)
}

/** Whether this V8 has 64-bit memories. */
const hasMemory64 = (() => {
  try {
    return typeof new WebAssembly.Memory({ address: 'i64', initial: 1n }).grow(0n) === 'bigint'
  } catch {
    return false
  }
})()

/** `test` where this V8 has 64-bit memories. */
const test64 =
  typeof test === 'undefined' ? undefined : skipUnless('needs 64-bit memories', hasMemory64).test

module.exports = {
  compileWith,
  KiB,
  MiB,
  GiB,
  WASM_PAGE,
  assemble,
  compileProbe,
  probe,
  probeWithMemory,
  hasMemory64,
  test64
}
