// The program of the benchmark `restore`: it stores or reads a byte at each of N places of its
// heap. The heap is full of pseudo-random bytes; no page is all zeros.

import { WASM_PAGE, hostArray } from './dataset.mjs'
import { assemble } from './module.mjs'

const wat = memory => `
(module
  ${memory}
  (func (export "touch") (param $at i32) (param $count i32) (param $stride i32) (param $value i32)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (i32.store8 (local.get $at) (local.get $value))
        (local.set $at (i32.add (local.get $at) (local.get $stride)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next))))
  (func (export "read") (param $at i32) (param $count i32) (param $stride i32) (result i32)
    (local $sum i32)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
        (local.set $at (i32.add (local.get $at) (local.get $stride)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
    (local.get $sum)))
`

/** The program with its own memory, all zeros. */
export const emptyHeapModule = byteLength =>
  assemble('heap', wat(`(memory (export "memory") ${byteLength / WASM_PAGE})`))

/** The program that imports its memory, `env.memory`. */
export const importingModule = () => assemble('heap', wat('(import "env" "memory" (memory 1))'))

function leb128(number) {
  const bytes = []
  for (; number >= 0x80; number = Math.floor(number / 0x80)) bytes.push((number % 0x80) + 0x80)
  return [...bytes, number]
}

/** The program with its own memory, which a data segment of the same size initializes. */
export async function initialisedHeapModule(byteLength) {
  const module = await emptyHeapModule(byteLength)
  // One active segment, at address 0: flags, `i32.const 0`, `end`, its length.
  const segment = [1, 0, 0x41, 0, 0x0b, ...leb128(byteLength)]
  // Appends the data section, which is the last one, because assembling that much text takes
  // minutes.
  const section = [11, ...leb128(segment.length + byteLength), ...segment]
  return Buffer.concat([module, Uint8Array.from(section), hostArray(byteLength)])
}
