// The program that reads a dataset: it adds up 64-bit integers, 64 bytes in each round, and so
// waits for nothing but memory.

import { KiB, WASM_PAGE } from './dataset.mjs'
import { assemble, compile, warmUp } from './module.mjs'

/** The loops of bench/native/src/sum.rs. */
export const SUM_FUNCTIONS = `
  ;; The sum, modulo 2^64, of the 64-bit integers in byteLength bytes at an address. Both are
  ;; multiples of 64.
  (func $simd (param $at i32) (param $byteLength i32) (result i64)
    (local $end i32) (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (local.set $end (i32.add (local.get $at) (local.get $byteLength)))
    (loop $next
      (local.set $a (i64x2.add (local.get $a) (v128.load offset=0 (local.get $at))))
      (local.set $b (i64x2.add (local.get $b) (v128.load offset=16 (local.get $at))))
      (local.set $c (i64x2.add (local.get $c) (v128.load offset=32 (local.get $at))))
      (local.set $d (i64x2.add (local.get $d) (v128.load offset=48 (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 64)))
      (br_if $next (i32.ne (local.get $at) (local.get $end))))
    (local.set $a (i64x2.add (i64x2.add (local.get $a) (local.get $b)) (i64x2.add (local.get $c) (local.get $d))))
    (i64.add (i64x2.extract_lane 0 (local.get $a)) (i64x2.extract_lane 1 (local.get $a))))

  (func $scalar (param $at i32) (param $byteLength i32) (result i64)
    (local $end i32) (local $a i64) (local $b i64) (local $c i64) (local $d i64)
    (local.set $end (i32.add (local.get $at) (local.get $byteLength)))
    (loop $next
      (local.set $a (i64.add (local.get $a) (i64.load offset=0 (local.get $at))))
      (local.set $b (i64.add (local.get $b) (i64.load offset=8 (local.get $at))))
      (local.set $c (i64.add (local.get $c) (i64.load offset=16 (local.get $at))))
      (local.set $d (i64.add (local.get $d) (i64.load offset=24 (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 32)))
      (br_if $next (i32.ne (local.get $at) (local.get $end))))
    (i64.add (i64.add (local.get $a) (local.get $b)) (i64.add (local.get $c) (local.get $d))))
`

const wat = memory => `
(module
  ${memory}
  ${SUM_FUNCTIONS}
  (export "simd" (func $simd))
  (export "scalar" (func $scalar)))
`

/** The program with its own memory, of this many bytes. */
export const sumModule = byteLength =>
  assemble('sum', wat(`(memory ${Math.ceil(byteLength / WASM_PAGE)})`), { simd: true })

/**
 * Compiles and optimizes the program. The returned function makes an instance over a memory and
 * returns its `simd` and `scalar`.
 */
export async function compileSums() {
  const module = await compile('sum', wat('(import "env" "memory" (memory 1))'), { simd: true })
  const over = memory => new WebAssembly.Instance(module, { env: { memory } }).exports
  const byteLength = 64 * KiB
  const { simd, scalar } = over(new WebAssembly.Memory({ initial: 1 }))
  await warmUp(() => {
    for (let i = 0; i < 500; i++) {
      simd(0, byteLength)
      scalar(0, byteLength)
    }
  })
  return over
}

/** The same. The returned function returns `simd`. */
export async function compileSum() {
  const over = await compileSums()
  return memory => over(memory).simd
}
