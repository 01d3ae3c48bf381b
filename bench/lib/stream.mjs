// The program that reads a dataset of any size: it calls `next` by itself until there is no more, and adds up the 64-bit
// integers of what it is shown. Who brings the next bytes, a window or `fs.readSync`, is all that differs.

import { randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import wabtInit from 'wabt'
import { GuardedMemory } from '../../index.mjs'
import { KiB, MiB, WASM_PAGE, hostArray } from './dataset.mjs'

// The loops of bench/native/src/sum.rs.
const STREAM_WAT = `
(module
  (import "env" "memory" (memory 1))
  (import "data" "next" (func $next (param i32) (result i32)))
  (import "data" "pointer" (func $pointer (result i32)))

  ;; The sum, modulo 2^64, of the 64-bit integers in byteLength bytes at an address. byteLength is a multiple of 64.
  (func $simd (param $at i32) (param $byteLength i32) (result i64)
    (local $end i32) (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (local.set $end (i32.add (local.get $at) (local.get $byteLength)))
    (loop $round
      (local.set $a (i64x2.add (local.get $a) (v128.load offset=0 (local.get $at))))
      (local.set $b (i64x2.add (local.get $b) (v128.load offset=16 (local.get $at))))
      (local.set $c (i64x2.add (local.get $c) (v128.load offset=32 (local.get $at))))
      (local.set $d (i64x2.add (local.get $d) (v128.load offset=48 (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 64)))
      (br_if $round (i32.ne (local.get $at) (local.get $end))))
    (local.set $a (i64x2.add (i64x2.add (local.get $a) (local.get $b)) (i64x2.add (local.get $c) (local.get $d))))
    (i64.add (i64x2.extract_lane 0 (local.get $a)) (i64x2.extract_lane 1 (local.get $a))))

  (func $scalar (param $at i32) (param $byteLength i32) (result i64)
    (local $end i32) (local $a i64) (local $b i64) (local $c i64) (local $d i64)
    (local.set $end (i32.add (local.get $at) (local.get $byteLength)))
    (loop $round
      (local.set $a (i64.add (local.get $a) (i64.load offset=0 (local.get $at))))
      (local.set $b (i64.add (local.get $b) (i64.load offset=8 (local.get $at))))
      (local.set $c (i64.add (local.get $c) (i64.load offset=16 (local.get $at))))
      (local.set $d (i64.add (local.get $d) (i64.load offset=24 (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 32)))
      (br_if $round (i32.ne (local.get $at) (local.get $end))))
    (i64.add (i64.add (local.get $a) (local.get $b)) (i64.add (local.get $c) (local.get $d))))

  ;; The sum of all that next gives.
  (func (export "simd") (result i64)
    (local $byteLength i32) (local $sum i64)
    (loop $chunk
      (local.set $byteLength (call $next (i32.const 0)))
      (if (local.get $byteLength)
        (then
          (local.set $sum (i64.add (local.get $sum) (call $simd (call $pointer) (local.get $byteLength))))
          (br $chunk))))
    (local.get $sum))
  (func (export "scalar") (result i64)
    (local $byteLength i32) (local $sum i64)
    (loop $chunk
      (local.set $byteLength (call $next (i32.const 0)))
      (if (local.get $byteLength)
        (then
          (local.set $sum (i64.add (local.get $sum) (call $scalar (call $pointer) (local.get $byteLength))))
          (br $chunk))))
    (local.get $sum)))
`

/** The compiled program, which threads share, with what V8 has optimized of it. */
export async function compileStream() {
  const wabt = await wabtInit()
  const parsed = wabt.parseWat('stream.wat', STREAM_WAT, { simd: true })
  const module = new WebAssembly.Module(parsed.toBinary({}).buffer)
  parsed.destroy()
  await warmUp(module)
  return module
}

/** Reads 64 KiB again and again, until V8 has replaced its first code by optimized code for all instances. */
async function warmUp(module) {
  const memory = new WebAssembly.Memory({ initial: 1 })
  let left
  const data = { next: () => (left-- > 0 ? 64 * KiB : 0), pointer: () => 0 }
  const { exports } = new WebAssembly.Instance(module, { env: { memory }, data })
  for (let round = 0; round < 20; round++) {
    for (const instructions of ['simd', 'scalar']) {
      left = 500
      exports[instructions]()
    }
    // V8 compiles on other threads.
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

/** A memory with so many bytes from its second Wasm page on. */
export const streamMemory = (byteLength = 0) => new GuardedMemory({ initial: 1 + byteLength / WASM_PAGE })

/** Runs the program; `data` has the functions that it imports. */
export function run(module, guarded, data, instructions) {
  const instance = new WebAssembly.Instance(module, { env: { memory: guarded.memory }, data })
  return BigInt.asUintN(64, instance.exports[instructions]())
}

/**
 * One pass through a window: opened, slid over all of the region or a part, and unmapped. Chunks are in whole Wasm pages. The
 * window stands where the library puts it: past the end of the memory, which grows for the first one of a size.
 */
export function streamByWindow(module, guarded, region, { chunk, instructions = 'simd', ...options }) {
  const window = guarded.window({ byteLength: chunk + WASM_PAGE })
  try {
    return run(module, guarded, window.source(region, { chunk, ...options }).imports, instructions)
  } finally {
    window.unmap()
  }
}

/** Where the files of the benchmarks are made. */
const directory = () => process.env.HOSTMAP_BENCH_DIR || os.tmpdir()

/** A file that is removed when the process ends. */
export function temporaryFile(name) {
  const folder = mkdtempSync(path.join(directory(), 'wasm-hostmap-bench-'))
  process.on('exit', () => rmSync(folder, { recursive: true }))
  return path.join(folder, name)
}

/** Fills a file with pseudo-random bytes, no 16 MiB of them like others, and waits until they are on the disk. */
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
