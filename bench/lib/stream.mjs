// The program that reads a dataset of any size: it calls `next` until there is no more, and adds up
// the 64-bit integers. Either a window or `fs.readSync` provides the next bytes.

import { randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs'
import { GuardedMemory } from '../../index.mjs'
import { KiB, MiB, WASM_PAGE, hostArray } from './dataset.mjs'
import { compile, warmUp } from './module.mjs'
import { SUM_FUNCTIONS } from './sum.mjs'

export { temporaryFile } from './temporary.mjs'

/** The sum of everything that `next` provides. */
const sumOfAll = instructions => `
  (func (export "${instructions}") (result i64)
    (local $byteLength i32) (local $sum i64)
    (loop $chunk
      (local.set $byteLength (call $next (i32.const 0)))
      (if (local.get $byteLength)
        (then
          (local.set $sum
            (i64.add (local.get $sum) (call $${instructions} (call $pointer) (local.get $byteLength))))
          (br $chunk))))
    (local.get $sum))`

const STREAM_WAT = `
(module
  (import "env" "memory" (memory 1))
  (import "data" "next" (func $next (param i32) (result i32)))
  (import "data" "pointer" (func $pointer (result i32)))
  ${SUM_FUNCTIONS}
  ${sumOfAll('simd')}
  ${sumOfAll('scalar')})
`

/** The compiled program, which threads share, including V8's optimized code. */
export async function compileStream() {
  const module = await compile('stream', STREAM_WAT, { simd: true })
  const memory = new WebAssembly.Memory({ initial: 1 })
  // 64 KiB, repeatedly.
  let left
  const data = { next: () => (left-- > 0 ? 64 * KiB : 0), pointer: () => 0 }
  const { exports } = new WebAssembly.Instance(module, { env: { memory }, data })
  await warmUp(() => {
    for (const instructions of ['simd', 'scalar']) {
      left = 500
      exports[instructions]()
    }
  })
  return module
}

/** A memory with this many bytes from its second Wasm page on. */
export const streamMemory = (byteLength = 0) =>
  new GuardedMemory({ initial: 1 + byteLength / WASM_PAGE })

/** Runs the program; `data` has the functions that it imports. */
export function run(module, guarded, data, instructions) {
  const instance = new WebAssembly.Instance(module, { env: { memory: guarded.memory }, data })
  return BigInt.asUintN(64, instance.exports[instructions]())
}

/**
 * One pass through a window: opened, slid over all of the region or a part, and unmapped. Chunks
 * are in whole Wasm pages. The window stands where the library puts it: past the end of the memory,
 * which grows for the first one of a size.
 */
export function streamByWindow(
  module,
  guarded,
  region,
  { chunk, instructions = 'simd', ...options }
) {
  const window = guarded.window({ byteLength: chunk + WASM_PAGE })
  try {
    return run(module, guarded, window.source(region, { chunk, ...options }).imports, instructions)
  } finally {
    window.unmap()
  }
}

/**
 * Fills a file with pseudo-random bytes that do not repeat, and waits until they are on disk.
 */
export function writeNoise(file, byteLength, onProgress) {
  const bytes = hostArray(16 * MiB)
  const fd = openSync(file, 'wx')
  try {
    for (let written = 0; written < byteLength; written += bytes.byteLength) {
      bytes.set(randomBytes(64 * KiB))
      for (let done = 0; done < bytes.byteLength;) done += writeSync(fd, bytes, done)
      onProgress(written / byteLength)
    }
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
