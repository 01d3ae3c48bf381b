// Writes the corpus, with the addon as it is built: node fuzz/seeds.mjs
//
// corpus/module: modules of a few lines each, as they are and exposed.
// corpus/snapshot: snapshots without the bytes of their memory, see `snapshot` in src/lib.rs.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import wabt from 'wabt'
import { GuardedMemory, HostRegion, Snapshot, exposeState } from '../index.mjs'

const CORPUS = fileURLToPath(new URL('corpus', import.meta.url))
const HEADER_BYTES = 256
// In the header: where the second section is, which follows the bytes of the memory.
const METADATA_OFFSET_AT = 96

const MODULES = {
  empty: '(module)',
  hidden: `(module (memory 1 4) (global $sp (mut i32) (i32.const 7)) (table 3 funcref)
    (func (export "f") (table.set 0 (i32.const 1) (ref.null func))))`,
  exported: '(module (memory (export "memory") 1) (global (export "g") (mut i64) (i64.const 1)))',
  imported: `(module (import "env" "memory" (memory 1 8)) (import "env" "t" (table 1 externref))
    (import "hostmap" "f" (func)) (start 0))`,
  grows: `(module (memory $heap 1) (func $grow (export "grow") (param $n i32) (result i32)
    (memory.grow (local.get $n))) (func (result i32) (call 0 (i32.const 1))))`,
  'grows-64': '(module (memory i64 1 9) (func (result i64) (memory.grow (i64.const 2))))',
  'grows-imported': `(module (import "env" "memory" (memory 1 8)) (import "env" "f" (func))
    (func (export "hostmap:memory") (result i32) (call 0) (memory.grow (i32.const 1))))`,
  segments: `(module (memory 1) (data $d "abc") (elem $e func $f) (table 2 funcref)
    (func $f (memory.init $d (i32.const 0) (i32.const 0) (i32.const 3)) (data.drop $d)
      (table.init $e (i32.const 0) (i32.const 0) (i32.const 1)) (elem.drop $e))
    (export "f" (func $f)))`,
  vector: '(module (memory 1) (global (mut v128) (v128.const i64x2 1 2)))',
  tables: `(module (import "env" "t" (table $i 1 funcref)) (memory 1) (table $t (export "t") 1 externref)
    (func $size (result i32) (table.size $i)) (func (export "f") (result i32) (table.fill $t (i32.const 0)
      (ref.null extern) (i32.const 1)) (i32.add (call $size) (table.grow $t (ref.null extern) (i32.const 1)))))`
}

const write = (target, name, bytes) => fs.writeFileSync(path.join(CORPUS, target, name), bytes)

for (const target of ['module', 'snapshot']) {
  fs.rmSync(path.join(CORPUS, target), { recursive: true, force: true })
  fs.mkdirSync(path.join(CORPUS, target), { recursive: true })
}

const { parseWat } = await wabt()
for (const [name, text] of Object.entries(MODULES)) {
  const parsed = parseWat(name, text, { memory64: true, reference_types: true, bulk_memory: true })
  const { buffer } = parsed.toBinary({ write_debug_names: true })
  write('module', name, buffer)
  write('module', `${name}-exposed`, exposeState(buffer))
}

/** The header, and what follows the bytes of the memory. */
function inputOf(file) {
  const offset = Number(file.readBigUInt64LE(METADATA_OFFSET_AT))
  return Buffer.concat([file.subarray(0, HEADER_BYTES), file.subarray(offset)])
}

async function writeSnapshot(name, snapshot) {
  const file = path.join(os.tmpdir(), `hostmap-seed-${process.pid}`)
  await snapshot.save(file, { key: Buffer.alloc(32, 7) })
  write('snapshot', name, inputOf(fs.readFileSync(file)))
  fs.rmSync(file)
}

const memory = new GuardedMemory({ initial: 1, maximum: 4 })
// The checksum fits the zeros that the target reads for the memory's bytes.
await writeSnapshot('zeros', memory.snapshot())
const region = HostRegion.copyFrom(new Uint8Array(8192).fill(1))
const mapping = memory.map(region, { access: 'private' })
const window = memory.window({ byteLength: 8192 })
window.slide(region)
new Uint8Array(memory.memory.buffer)[0] = 1
new Uint8Array(memory.memory.buffer)[mapping.address] = 2
await writeSnapshot(
  'mappings',
  memory.snapshot({ module: exposeState(Buffer.from('\0asm\x01\0\0\0', 'latin1')) })
)

const stateful = `(module (memory 1) (global (mut i64) (i64.const -12)) (global (mut f64) (f64.const 1.5))
  (global (mut externref) (ref.null extern)) (table 4 funcref) (elem (i32.const 1) func $f $g)
  (func $f (table.set 0 (i32.const 0) (ref.null func))) (func $g) (export "f" (func $f)))`
const { buffer } = parseWat('state', stateful, { reference_types: true }).toBinary({})
const { instance } = await WebAssembly.instantiate(exposeState(buffer))
await writeSnapshot('state', Snapshot.of(instance))
