// The cost of sliding a window: from JavaScript, from a module, and by the bare system call.

import { closeSync, ftruncateSync, openSync } from 'node:fs'
import { createRequire } from 'node:module'
import { GuardedMemory, HostRegion } from '../../index.mjs'
import { GiB, MiB, WASM_PAGE } from '../lib/dataset.mjs'
import { SHORT, Samples, notMeasured, timeBatches } from '../lib/measure.mjs'
import { compile } from '../lib/module.mjs'
import { hasNative, runNative } from '../lib/native.mjs'
import { temporaryFile } from '../lib/stream.mjs'
import { formatBytes, ratioOf } from '../lib/table.mjs'

const native = createRequire(import.meta.url)('../../lib/platform/binding.js')

export const title = 'Slide'
export const measures =
  'The time until a window shows another part of a region. The first table touches no page, so it measures only the call. In the second, pages are read between slides. Each costs a page fault, also with the bare system call, and the next slide has to remove it from the page table.'

export const cases = [{}]

// V8 optimizes the calls after some tenths of a second, and starts again after a garbage
// collection.
const CALLS_BEFORE = 200_000

const BACKINGS = ['memfd', 'file']
const WINDOWS = [MiB, 2 * GiB]
const TOUCHED_PAGES = [0, 4]
// Each round of a batch shows another part, and all batches the same parts, whose pages are present
// after the first.
const REGION_BYTES = SHORT.roundsPerBatch * WINDOWS.at(-1)

const COMBINATIONS = BACKINGS.flatMap(backing =>
  TOUCHED_PAGES.flatMap(touchedPages =>
    WINDOWS.map(windowBytes => ({
      backing,
      windowBytes,
      touchedPages,
      key: `${backing} ${windowBytes} ${touchedPages}`
    }))
  )
)

const NEXT_WAT = `
(module
  (import "env" "memory" (memory 1))
  (import "data" "next" (func $next (param i32) (result i32)))
  (import "data" "pointer" (func $pointer (result i32)))
  ;; Calls next, and reads a byte of so many pages each time. The sum of those bytes.
  (func (export "run") (param $rounds i32) (param $pages i32) (param $stride i32) (result i32)
    (local $left i32) (local $at i32) (local $sum i32)
    (loop $round
      (if (i32.eqz (call $next (i32.const 0))) (then unreachable))
      (local.set $at (call $pointer))
      (local.set $left (local.get $pages))
      (block $touched
        (loop $page
          (br_if $touched (i32.eqz (local.get $left)))
          (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
          (local.set $at (i32.add (local.get $at) (local.get $stride)))
          (local.set $left (i32.sub (local.get $left) (i32.const 1)))
          (br $page)))
      (local.set $rounds (i32.sub (local.get $rounds) (i32.const 1)))
      (br_if $round (local.get $rounds)))
    (local.get $sum)))
`

function sparseFile() {
  const file = temporaryFile('sparse')
  const fd = openSync(file, 'wx')
  ftruncateSync(fd, REGION_BYTES)
  closeSync(fd)
  return file
}

export async function measure(_case, onProgress) {
  const module = await compile('next', NEXT_WAT)
  const file = sparseFile()
  const regions = {
    memfd: HostRegion.allocate(REGION_BYTES).seal(),
    file: HostRegion.open(file)
  }
  const samples = new Samples()
  const rounds = new Map(
    COMBINATIONS.map(({ backing, windowBytes, touchedPages, key }) => [
      key,
      {
        slide: slideRound(regions[backing], windowBytes, touchedPages),
        next: nextRounds(module, regions[backing], windowBytes, touchedPages)
      }
    ])
  )
  for (const { slide, next } of rounds.values()) {
    for (let calls = 0; calls < CALLS_BEFORE / COMBINATIONS.length; calls++) slide()
    for (let calls = 0; calls < CALLS_BEFORE / COMBINATIONS.length; calls += SHORT.roundsPerBatch)
      next()
  }
  for (let turn = 0; turn < SHORT.turns; turn++) {
    samples.add(
      'call',
      timeBatches(() => native.hostPageSize())
    )
    for (const { backing, windowBytes, touchedPages, key } of COMBINATIONS) {
      const { slide, next } = rounds.get(key)
      // The first one finds colder caches, so they take turns at being first.
      const ways = [
        () => samples.add(`${key} slide`, timeBatches(slide)),
        () => samples.add(`${key} next`, nextTurn(next)),
        () =>
          hasNative() &&
          samples.add(`${key} bare`, bareTurn(backing, file, windowBytes, touchedPages))
      ]
      for (let i = 0; i < ways.length; i++) ways[(turn + i) % ways.length]()
    }
    onProgress((turn + 1) / SHORT.turns)
  }

  const missing = notMeasured('no native program')
  const call = samples.summary('call')
  return COMBINATIONS.map(({ key, ...parameters }) => {
    const summary = name => samples.summary(`${key} ${name}`) ?? missing
    const bare = summary('bare')
    const limit = hasNative()
      ? { unit: 'ns', median: bare.median + call.median, samples: 1 }
      : missing
    return {
      parameters,
      cells: { slide: summary('slide'), next: summary('next'), bare, call, limit }
    }
  })
}

const openWindow = windowBytes =>
  // Leaves a Wasm page before and after the window, as the native program does.
  new GuardedMemory({ initial: 2 + windowBytes / WASM_PAGE }).window({
    at: WASM_PAGE,
    byteLength: windowBytes
  })

/** One turn of slides from JavaScript, in a new memory. */
function slideRound(region, windowBytes, touchedPages) {
  const window = openWindow(windowBytes)
  const bytes = new Uint8Array(window.memory.buffer)
  const stride = windowBytes / Math.max(1, touchedPages)
  let number = 0
  return () => {
    const { address } = window.slide(region, number * windowBytes)
    number = (number + 1) % SHORT.roundsPerBatch
    for (let page = 0; page < touchedPages; page++) mustBeZero(bytes[address + page * stride])
  }
}

/** A batch of slides that a module makes in one call. */
function nextRounds(module, region, windowBytes, touchedPages) {
  const window = openWindow(windowBytes)
  const source = window.source(region, { chunk: windowBytes, readAhead: false, leaveBehind: false })
  const { exports } = new WebAssembly.Instance(module, {
    env: { memory: window.memory.memory },
    data: source.imports
  })
  const stride = windowBytes / Math.max(1, touchedPages)
  return () => {
    source.rewind()
    mustBeZero(exports.run(SHORT.roundsPerBatch, touchedPages, stride))
  }
}

const nextTurn = next =>
  timeBatches(next, { ...SHORT, roundsPerBatch: 1 }).map(ns => ns / SHORT.roundsPerBatch)

function bareTurn(backing, file, windowBytes, touchedPages) {
  const { warmupBatches, batchesPerTurn, roundsPerBatch } = SHORT
  const where = backing === 'memfd' ? 'memfd' : file
  return runNative(
    'slide',
    where,
    windowBytes,
    touchedPages,
    warmupBatches,
    batchesPerTurn,
    roundsPerBatch
  ).nsPerRound
}

/** Checks the sum: the regions consist of holes. */
function mustBeZero(sum) {
  if (sum !== 0) throw new Error(`the pages are not the region's: their sum is ${sum}`)
}

export function report([results]) {
  const rowOf = ({ parameters, cells }) => ({
    label: `${parameters.backing}, ${formatBytes(parameters.windowBytes)}`,
    parameters,
    cells
  })
  const columns = [
    { key: 'slide', label: 'slide' },
    { key: 'next', label: 'next, from a module' },
    { key: 'bare', label: 'bare mmap' },
    { key: 'call', label: 'a Node-API call' },
    { key: 'limit', label: 'mmap + call' },
    { label: 'slide : mmap + call', ratio: ['slide', 'limit'] },
    { label: 'next : mmap + call', ratio: ['next', 'limit'] }
  ]
  const note =
    "Medians, with the 10th and 90th percentile. Bare mmap: a single-threaded Rust program's `mmap(MAP_FIXED)` of the same part of the same file, or of a memfd of the same size. A Node-API call: a function of the addon that takes nothing and returns a constant."
  const tables = TOUCHED_PAGES.map(touchedPages => ({
    id: touchedPages === 0 ? 'slide' : 'slide-touched',
    title:
      touchedPages === 0
        ? 'A slide, and nothing touched'
        : `A slide, and ${touchedPages} pages of it read`,
    rowLabel: 'region, window',
    columns,
    note,
    rows: results.filter(({ parameters }) => parameters.touchedPages === touchedPages).map(rowOf)
  }))

  const [small, large] = WINDOWS
  const row = (backing, windowBytes) =>
    tables[0].rows.find(
      ({ parameters }) => parameters.backing === backing && parameters.windowBytes === windowBytes
    )
  const promises = [
    ...tables.flatMap(({ rows }, index) =>
      rows.map(each => ({
        text: `slide of a window, ${each.label}${index ? `, ${TOUCHED_PAGES[index]} pages read` : ''}, of the time for mmap and one Node-API call`,
        value: ratioOf(each, ['slide', 'limit']),
        unit: 'ratio',
        atMost: 1.3
      }))
    ),
    ...BACKINGS.map(backing => ({
      text: `slide of a window of ${formatBytes(large)}, ${backing}, of the time for ${formatBytes(small)}`,
      value: row(backing, large).cells.slide.median / row(backing, small).cells.slide.median,
      unit: 'ratio',
      atMost: 1.25
    }))
  ]
  return { tables, promises }
}
