'use strict'

// What the scripts of the documentation name and do not make: values, their types, and files.
// snippets/check.mjs runs them.

const fs = require('node:fs')
const path = require('node:path')
const { noise } = require('./files')
const { assemble } = require('./wasm')

// What examples name and don't make, with its type. `imports` has to be an object for a module that
// imports nothing.
const NAMES = {
  allocator: 'hostmap.GuestAllocator',
  bytes: 'Uint8Array',
  child: "import('node:child_process').ChildProcess",
  engine: 'any',
  guarded: 'hostmap.GuardedMemory',
  imports: 'object',
  instance: 'hostmap.WasmInstance',
  key: 'Uint8Array',
  makeEngine: '() => Promise<any>',
  mapping: 'hostmap.Mapping',
  module: 'any',
  Module: 'any',
  parentPort: "import('node:worker_threads').MessagePort",
  pool: 'hostmap.InstancePool',
  region: 'hostmap.HostRegion',
  snapshot: 'hostmap.Snapshot',
  WebAssembly: 'any',
  window: 'hostmap.Window',
  worker: "import('node:worker_threads').Worker"
}

// Exports its state and an allocator, which gives new pages each time.
const INSTANCE = `(module
  (memory (export "memory") 1)
  (global $sum (mut i32) (i32.const 0))
  (func (export "boot"))
  (func (export "handle") (param i32) (result i32)
    (global.set $sum (i32.add (global.get $sum) (local.get 0)))
    (global.get $sum))
  (func (export "scan") (param i32 i32))
  (func (export "free") (param i32))
  (func (export "malloc") (param i32) (result i32)
    (i32.shl
      (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get 0) (i32.const 16))))
      (i32.const 16))))`

// Imports its memory, as the module of an example does, and a source.
const IMPORTER = `(module
  (import "host" "memory" (memory 1))
  (import "orders" "next" (func $next (param i32) (result i32)))
  (func (export "read") (result i32)
    (local $chunks i32)
    (block $end (loop $more
      (br_if $end (i32.eqz (call $next (i32.const 0))))
      (local.set $chunks (i32.add (local.get $chunks) (i32.const 1)))
      (br $more)))
    (local.get $chunks))
  (func (export "cents_of") (param i32) (result i64) (i64.const 0))
  (func (export "scan") (param i32 i32)))`

/** The files that examples open, in a folder. */
async function makeFiles(folder) {
  const write = (name, bytes) => fs.writeFileSync(path.join(folder, name), bytes)
  for (const name of ['orders.bin', 'orders.db', 'weights.bin']) write(name, noise(2 ** 19))
  write('numbers.bin', new BigInt64Array(2 ** 16).fill(1n))
  write('interpreter.wasm', await assemble(INSTANCE))
  write('orders.wasm', await assemble(IMPORTER.replace('"host"', '"env"')))
}

/** Values for all NAMES: new ones for each example. */
async function scope(hostmap) {
  const { GuardedMemory, HostRegion, InstancePool, Snapshot } = hostmap
  const bytes = await assemble(INSTANCE)
  const make = bytes => new WebAssembly.Instance(new WebAssembly.Module(bytes))
  const instance = make(hostmap.exposeState(bytes))
  const emscripten = make(bytes).exports
  const region = HostRegion.copyFrom(noise(2 ** 19), { name: 'dataset' })
  const guarded = GuardedMemory.from(instance.exports.memory)
  const receive = token => HostRegion.receive(structuredClone(token))
  const orders = { next: () => 0, pointer: () => 0 }
  return {
    allocator: instance.exports,
    bytes,
    child: { send: receive },
    engine: { query: () => [] },
    guarded,
    imports: { orders },
    instance,
    key: Buffer.alloc(32, 7),
    makeEngine: async () => (await globalThis.WebAssembly.instantiate(bytes)).instance,
    mapping: guarded.map(region),
    module: new WebAssembly.Module(
      await assemble(
        IMPORTER.replace(
          /\(import "orders"[^\n]*/,
          '(func $next (param i32) (result i32) (i32.const 0))'
        )
      )
    ),
    Module: {
      get HEAPU8() {
        return new Uint8Array(emscripten.memory.buffer)
      },
      _malloc: emscripten.malloc,
      _free: emscripten.free,
      _scan: emscripten.scan
    },
    parentPort: { on: (_event, listener) => listener(region.share()) },
    pool: await InstancePool.create(bytes),
    region,
    snapshot: Snapshot.of(make(hostmap.exposeState(bytes))),
    WebAssembly,
    window: guarded.window({ byteLength: 2 ** 17 }),
    worker: { postMessage: receive }
  }
}

module.exports = { NAMES, makeFiles, scope }
