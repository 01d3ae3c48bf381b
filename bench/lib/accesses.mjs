// What benchmarks of faults run: a program with an access of each kind, and compiled functions.

import { WASM_PAGE } from './dataset.mjs'
import { compile, warmUp } from './module.mjs'

const ACCESSES_WAT = `
(module
  (import "env" "memory" (memory 1))
  ;; Writes byteLength bytes at an address. Both are multiples of 64.
  (func (export "write") (param $at i32) (param $byteLength i32)
    (local $end i32) (local $value v128)
    (local.set $end (i32.add (local.get $at) (local.get $byteLength)))
    (local.set $value (i32x4.splat (local.get $at)))
    (loop $next
      (v128.store offset=0 (local.get $at) (local.get $value))
      (v128.store offset=16 (local.get $at) (local.get $value))
      (v128.store offset=32 (local.get $at) (local.get $value))
      (v128.store offset=48 (local.get $at) (local.get $value))
      (local.set $at (i32.add (local.get $at) (i32.const 64)))
      (br_if $next (i32.ne (local.get $at) (local.get $end)))))
  (func (export "load") (param i32) (drop (i32.load8_u (local.get 0))))
  (func (export "store") (param i32) (i32.store8 (local.get 0) (i32.const 1)))
  (func (export "atomicStore") (param i32) (i32.atomic.store8 (local.get 0) (i32.const 1)))
  (func (export "fill") (param i32) (memory.fill (local.get 0) (i32.const 1) (i32.const 1))))
`

/** Compiles the program. The returned function makes an instance over a memory and warms it up. */
export async function compileAccesses() {
  const module = await compile('accesses', ACCESSES_WAT, {
    simd: true,
    threads: true,
    bulk_memory: true
  })
  const accessesOf = memory => new WebAssembly.Instance(module, { env: { memory } }).exports
  const own = accessesOf(new WebAssembly.Memory({ initial: 1 }))
  await warmUp(() => {
    for (let i = 0; i < 500; i++) {
      for (const access of [own.load, own.store, own.atomicStore, own.fill]) access(i)
      own.write(0, WASM_PAGE)
    }
  })
  return accessesOf
}

/** Makes this many compiled Wasm functions with a load each, which live as long as the result. */
export async function compileFunctions(count) {
  const functions = Array.from(
    { length: count },
    (_, index) => `(func (export "${index}") (param i32) (drop (i32.load8_u (local.get 0))))`
  )
  const module = await compile('functions', `(module (memory 1) ${functions.join('\n')})`)
  const { exports } = new WebAssembly.Instance(module)
  // V8 compiles a function when it is first called.
  for (let index = 0; index < count; index++) exports[index](index)
  return exports
}
