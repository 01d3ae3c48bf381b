// The modules that the smoke script uses, as WebAssembly text. They are assembled here, so that the
// script itself needs no assembler:
//
//   node e2e/smoke/modules.mjs [--check]
//
// writes modules.json, or says whether it is what the text gives.
import fs from 'node:fs'
import wabt from 'wabt'

const functions = type => `
  (func (export "grow") (param ${type}) (result ${type}) (memory.grow (local.get 0)))
  (func (export "load8") (param ${type}) (result i32) (i32.load8_u (local.get 0)))
  (func (export "load64") (param ${type}) (result i64) (i64.load (local.get 0)))
  (func (export "store8") (param ${type} i32) (i32.store8 (local.get 0) (local.get 1)))
  (func (export "store64") (param ${type} i64) (i64.store (local.get 0) (local.get 1)))
  (func (export "store128") (param ${type} i64)
    (v128.store (local.get 0) (i64x2.splat (local.get 1))))
  (func (export "fill") (param ${type} i32 ${type})
    (memory.fill (local.get 0) (local.get 1) (local.get 2)))
  (func (export "copy") (param ${type} ${type} ${type})
    (memory.copy (local.get 0) (local.get 1) (local.get 2)))
  (func (export "add") (param ${type} i64) (result i64)
    (i64.atomic.rmw.add (local.get 0) (local.get 1)))
  (func (export "exchange") (param ${type} i64 i64) (result i64)
    (i64.atomic.rmw.cmpxchg (local.get 0) (local.get 1) (local.get 2)))
  (func $sum (export "sum") (param $at ${type}) (param $end ${type}) (result i64)
    (local $sum i64)
    (block $done (loop $next
      (br_if $done (${type}.ge_u (local.get $at) (local.get $end)))
      (local.set $sum (i64.add (local.get $sum) (i64.load (local.get $at))))
      (local.set $at (${type}.add (local.get $at) (${type}.const 8)))
      (br $next)))
    (local.get $sum))`

const texts = {
  probe: `(module (import "env" "memory" (memory 1)) ${functions('i32')})`,
  probe64: `(module (import "env" "memory" (memory i64 1)) ${functions('i64')})`,
  shared: `(module (import "env" "memory" (memory 1 1000 shared)) ${functions('i32')})`,
  // Sums a region through a window, and asks for each chunk itself.
  scan: `(module
    (import "source" "next" (func $next (param i32) (result i32)))
    (import "source" "pointer" (func $pointer (result i32)))
    (import "env" "memory" (memory 1))
    ${functions('i32')}
    (func (export "scan") (result i64) (local $sum i64) (local $bytes i32)
      (block $done (loop $more
        (local.set $bytes (call $next (i32.const 0)))
        (br_if $done (i32.eqz (local.get $bytes)))
        (local.set $sum (i64.add (local.get $sum)
          (call $sum (call $pointer) (i32.add (call $pointer) (local.get $bytes)))))
        (br $more)))
      (local.get $sum)))`,
  // State in memory, in globals that are hidden, and in a table.
  state: `(module
    (memory (export "memory") 4)
    (table $t 4 funcref)
    (global $n (mut i32) (i32.const 7))
    (global $booted (mut i32) (i32.const 0))
    (elem (i32.const 0) $one $two)
    (func $one (result i32) (i32.const 1))
    (func $two (result i32) (i32.const 2))
    (func (export "boot") (result i32)
      (i32.store (i32.const 100) (i32.const 42))
      (table.set $t (i32.const 3) (ref.func $two))
      (global.set $booted (i32.const 1))
      (i32.const 100))
    (func (export "handle") (param i32) (result i32)
      (global.set $n (i32.add (global.get $n) (local.get 0)))
      (i32.store (i32.const 100) (i32.add (i32.load (i32.const 100)) (local.get 0)))
      (i32.store (i32.const 200000) (local.get 0))
      (i32.add
        (i32.add (global.get $n) (i32.mul (i32.const 1000) (i32.load (i32.const 100))))
        (i32.mul (i32.const 1000000) (global.get $booted))))
    (func (export "second") (result i32) (call_indirect $t (result i32) (i32.const 3)))
    (func (export "grow") (result i32) (memory.grow (i32.const 1)))
    (func (export "crash")
      (global.set $n (i32.const -5))
      (i32.store (i32.const 100) (i32.const -1))
      (table.set $t (i32.const 3) (ref.null func))
      unreachable))`
}

const { parseWat } = await wabt()
const features = {
  simd: true,
  threads: true,
  memory64: true,
  bulk_memory: true,
  reference_types: true
}
const modules = {}
for (const [name, text] of Object.entries(texts)) {
  const { buffer } = parseWat(name, text, features).toBinary({})
  modules[name] = Buffer.from(buffer).toString('base64')
}
const file = new URL('modules.json', import.meta.url)
const written = `${JSON.stringify(modules, null, 2)}\n`
if (!process.argv.includes('--check')) fs.writeFileSync(file, written)
else if (fs.readFileSync(file, 'utf8') !== written) {
  console.error(
    'e2e/smoke/modules.json is not what modules.mjs gives: run node e2e/smoke/modules.mjs'
  )
  process.exitCode = 1
}
