'use strict'

// Files much larger than memory, seen through a window by a module that checks what it is shown.
// For stream.mjs and 38-large-windows.slow.test.js.
//
// A mark is a 64-bit integer that is made of its place. Marks are at both ends of the file and on
// both sides of each border of chunks; all else is a hole.

const fs = require('node:fs')
const path = require('node:path')
const { HostRegion, GuardedMemory, limits } = require('../..')
const { fdOf, smapsRollup, status } = require('../support/procfs')
const { assemble, WASM_PAGE } = require('../support/wasm')

const MARK_BYTES = 8
const FACTOR = 0x9e3779b97f4a7c15n

// Unaligned chunks are wanted: their borders are anywhere in a page.
const WAT = `
(module
  (import "env" "memory" (memory 1))
  (import "data" "next" (func $next (param i32) (result i32)))
  (import "data" "pointer" (func $pointer (result i32)))
  (global $position (mut i64) (i64.const 0))
  (global $chunks (mut i32) (i32.const 0))
  (global $wrong (mut i32) (i32.const 0))
  (export "position" (global $position))
  (export "chunks" (global $chunks))
  (export "wrong" (global $wrong))

  ;; Counts what is not the mark of this place.
  (func $check (param $at i32) (param $position i64)
    (if (i64.ne (i64.load align=1 (local.get $at))
                (i64.mul (i64.add (local.get $position) (i64.const 1)) (i64.const ${FACTOR})))
      (then (global.set $wrong (i32.add (global.get $wrong) (i32.const 1))))))

  ;; The sum of so many bytes.
  (func $sum (param $at i32) (param $byteLength i32) (result i64)
    (local $vectorEnd i32) (local $end i32) (local $bytes v128) (local $sums v128) (local $sum i64)
    (local.set $end (i32.add (local.get $at) (local.get $byteLength)))
    (local.set $vectorEnd (i32.add (local.get $at) (i32.and (local.get $byteLength) (i32.const -16))))
    (block $vectorsDone
      (loop $vector
        (br_if $vectorsDone (i32.eq (local.get $at) (local.get $vectorEnd)))
        (local.set $bytes (v128.load align=1 (local.get $at)))
        ;; Four sums of four bytes each, in two integers of 64 bits each.
        (local.set $bytes
          (i32x4.extadd_pairwise_i16x8_u (i16x8.extadd_pairwise_i8x16_u (local.get $bytes))))
        (local.set $sums
          (i64x2.add (local.get $sums)
            (i64x2.add (i64x2.extend_low_i32x4_u (local.get $bytes)) (i64x2.extend_high_i32x4_u (local.get $bytes)))))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br $vector)))
    (local.set $sum
      (i64.add (i64x2.extract_lane 0 (local.get $sums)) (i64x2.extract_lane 1 (local.get $sums))))
    (block $done
      (loop $byte
        (br_if $done (i32.eq (local.get $at) (local.get $end)))
        (local.set $sum (i64.add (local.get $sum) (i64.load8_u (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $byte)))
    (local.get $sum))

  ;; Looks at the marks of every chunk and, if it is to, adds up all bytes. One call for all of the
  ;; file.
  (func (export "stream") (param $addsUp i32) (result i64)
    (local $byteLength i32) (local $at i32) (local $sum i64)
    (loop $chunk
      (local.set $byteLength (call $next (i32.const 0)))
      (if (local.get $byteLength)
        (then
          (local.set $at (call $pointer))
          (call $check (local.get $at) (global.get $position))
          (global.set $position (i64.add (global.get $position) (i64.extend_i32_u (local.get $byteLength))))
          (call $check
            (i32.sub (i32.add (local.get $at) (local.get $byteLength)) (i32.const ${MARK_BYTES}))
            (i64.sub (global.get $position) (i64.const ${MARK_BYTES})))
          (global.set $chunks (i32.add (global.get $chunks) (i32.const 1)))
          (if (local.get $addsUp)
            (then (local.set $sum (i64.add (local.get $sum) (call $sum (local.get $at) (local.get $byteLength))))))
          (br $chunk))))
    (local.get $sum)))
`

const markOf = position => BigInt.asUintN(64, (BigInt(position) + 1n) * FACTOR)

/** Where marks are in a file that is read in such chunks. */
function* markPositions(byteLength, chunk) {
  for (let start = 0; start < byteLength; start += chunk) {
    yield start
    yield Math.min(start + chunk, byteLength) - MARK_BYTES
  }
}

/** Writes the marks and gives the sum of their bytes, which is that of all bytes. */
function writeMarks(fd, byteLength, chunk) {
  const bytes = Buffer.alloc(MARK_BYTES)
  let sum = 0
  for (const position of markPositions(byteLength, chunk)) {
    bytes.writeBigUInt64LE(markOf(position))
    fs.writeSync(fd, bytes, 0, MARK_BYTES, position)
    for (const byte of bytes) sum += byte
  }
  return sum
}

/** A sparse file with its marks. */
function sparseFile(directory, byteLength, chunk) {
  const file = path.join(directory, `${byteLength}.sparse`)
  const fd = fs.openSync(file, 'wx')
  try {
    fs.ftruncateSync(fd, byteLength)
    return { file, sum: writeMarks(fd, byteLength, chunk) }
  } catch (error) {
    if (error.code !== 'EFBIG') throw error
    throw new Error(
      `the file system of ${directory} has no files of ${byteLength} bytes; use another directory`,
      { cause: error }
    )
  } finally {
    fs.closeSync(fd)
  }
}

/**
 * The module over a window, and the window's source; `onChunk` is called before each slide but the
 * first.
 */
async function reader(region, windowBytes, options, onChunk) {
  const guarded = new GuardedMemory({ initial: 2 + Math.ceil(windowBytes / WASM_PAGE) })
  const window = guarded.window({ at: WASM_PAGE, byteLength: windowBytes })
  const source = window.source(region, options)
  const { next, pointer } = source.imports
  let shown = false
  const data = {
    pointer,
    next(keep) {
      if (shown) onChunk?.(source)
      shown = true
      return next(keep)
    }
  }
  const module = new WebAssembly.Module(await assemble(WAT))
  const { exports } = new WebAssembly.Instance(module, { env: { memory: guarded.memory }, data })
  return { window, exports }
}

/**
 * What the module found: bytes, chunks, marks that are not as they must be, and the sum of all
 * bytes.
 */
function found({ position, chunks, wrong }, sum) {
  return {
    byteLength: Number(position.value),
    chunks: chunks.value,
    wrong: wrong.value,
    sum: Number(sum)
  }
}

/** What a process holds of memory now, in bytes. */
function holdings() {
  return { rss: process.memoryUsage().rss, pss: smapsRollup('Pss'), pageTables: status('VmPTE') }
}

/**
 * The largest chunks that fit into a window wherever they start in a page: all borders but the
 * first are unaligned.
 */
const chunkOf = windowBytes => windowBytes - limits().pageSize + 1

/**
 * Reads every byte of a sparse file through a window.
 *
 * @param onSample called before each slide, when all of the chunk was read, with what the process
 *   holds and how far it is
 * @returns what was found, what should be, and the samples
 */
async function streamInFull({ directory, byteLength, windowBytes, onSample, ...options }) {
  const chunk = chunkOf(windowBytes)
  const { file, sum } = sparseFile(directory, byteLength, chunk)
  const region = HostRegion.open(file)
  const before = holdings()
  const samples = []
  const { window, exports } = await reader(
    region,
    windowBytes,
    { chunk, ...options },
    ({ position }) => {
      samples.push({ position, ...holdings() })
      onSample?.(samples.at(-1))
    }
  )
  const startMs = performance.now()
  const total = exports.stream(1)
  const seconds = (performance.now() - startMs) / 1000
  window.unmap()
  region.close()
  fs.rmSync(file)
  return {
    found: found(exports, total),
    expected: { byteLength, chunks: Math.ceil(byteLength / chunk), wrong: 0, sum },
    before,
    samples,
    seconds
  }
}

/**
 * Slides over all of a sparse file, or of a memfd, and touches its marks only. Nothing is read
 * ahead: that would touch all of it.
 */
async function slideOver({ directory, backing, byteLength, windowBytes }) {
  const chunk = chunkOf(windowBytes)
  const file = backing === 'file' ? sparseFile(directory, byteLength, chunk).file : null
  const region = file ? HostRegion.open(file) : HostRegion.allocate(byteLength, { name: 'sparse' })
  if (!file) {
    writeMarks(fdOf(region), byteLength, chunk)
    region.seal()
  }
  const options = { chunk, readAhead: false, leaveBehind: false }
  const { window, exports } = await reader(region, windowBytes, options)
  const startMs = performance.now()
  exports.stream(0)
  const seconds = (performance.now() - startMs) / 1000
  // What the region takes of memory or of the disk: little, if holes stayed holes.
  const heldBytes = fs.fstatSync(fdOf(region)).blocks * 512
  window.unmap()
  region.close()
  if (file) fs.rmSync(file)
  return {
    found: found(exports, 0),
    expected: { byteLength, chunks: Math.ceil(byteLength / chunk), wrong: 0, sum: 0 },
    heldBytes,
    seconds
  }
}

const median = values => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]

/**
 * What grew while a file was streamed. `most`: more than a few chunks at any time. `drift`: the
 * last quarter holds more than the second; the first is left out, since the window and the
 * read-ahead find their pages there.
 */
function growth({ before, samples }, windowBytes) {
  const MiB = 2 ** 20
  // The chunk that is shown, the one that is read ahead, one that is on its way out, and what else
  // goes on. Page tables of what was read ahead stay for 32 GiB, 2 MiB for each.
  const allowedMost = {
    rss: 3 * windowBytes + 64 * MiB,
    pss: 3 * windowBytes + 64 * MiB,
    pageTables: 80 * MiB
  }
  const allowedDrift = {
    rss: windowBytes / 4 + 16 * MiB,
    pss: windowBytes / 4 + 16 * MiB,
    pageTables: 2 * MiB
  }
  const quarter = i => samples.slice((samples.length * i) / 4, (samples.length * (i + 1)) / 4)
  return Object.keys(allowedMost).map(name => {
    const values = part => part.map(sample => sample[name])
    const most = Math.max(...values(samples)) - before[name]
    const drift = median(values(quarter(3))) - median(values(quarter(1)))
    return {
      name,
      most,
      drift,
      isConstant: most <= allowedMost[name] && drift <= allowedDrift[name]
    }
  })
}

module.exports = { streamInFull, slideOver, growth }
