// The cost of the most frequent calls, compared with another build of the package in the same
// process.

import { execFileSync } from 'node:child_process'
import { closeSync, existsSync, ftruncateSync, openSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { MiB, QUICK, WASM_PAGE, fillWithNoise } from '../lib/dataset.mjs'
import { emptyHeapModule } from '../lib/heap.mjs'
import { Samples, collectGarbage } from '../lib/measure.mjs'
import { compile } from '../lib/module.mjs'
import { majorHere } from '../lib/nodes.mjs'

const require = createRequire(import.meta.url)

export const title = 'Against another build'
export const measures =
  'The most frequent calls in this build and in the one that `--base` names. Both take turns of some dozen calls in the same process, on one processor.'

// Each turn has new objects, because a memory's place in the tree of VMAs changes the time by up to
// half. Its blocks follow each other, one per build, in random order.
const TURNS = QUICK ? 3 : 100
const BLOCKS = QUICK ? 4 : 5
const BLOCKS_BEFORE = 2
// V8 optimizes the calls after some tenths of a second.
const CALLS_BEFORE = QUICK ? 500 : 20_000
const MOST = 1.05

const WINDOW_BYTES = MiB
const REGION_BYTES = 64 * MiB
const HEAP_BYTES = 64 * MiB
const DIRTY_PAGES = 100
const PAGE_BYTES = 4096

/**
 * Each makes the function to time, with a build of the package. `calls`: how many in a block, by
 * default 64. `is32`: there is only a 32-bit variant.
 */
const OPERATIONS = {
  'map and unmap, at an address': { make: mapAt(0) },
  'map and unmap, at an address, beside 8 mappings': { make: mapAt(8) },
  'map and unmap, in free space': { make: mapInFreeSpace(0) },
  'map and unmap, in free space, beside 8 mappings': { make: mapInFreeSpace(8) },
  'slide, memfd': { make: slide('memfd') },
  'slide, memfd, options': {
    make: slide('memfd', { byteLength: WINDOW_BYTES, access: 'readonly' })
  },
  'slide, file': { make: slide('file') },
  'slide, file, options': { make: slide('file', { byteLength: WINDOW_BYTES, access: 'readonly' }) },
  'source.next, memfd': { make: next('memfd') },
  'source.next, file': { make: next('file') },
  'source.next by a module, memfd': { make: nextOfModule, is32: true },
  'restore, nothing written': { make: restore(0) },
  [`restore, ${DIRTY_PAGES} pages written`]: { make: restore(DIRTY_PAGES), calls: 16 },
  'pool, acquire and release': { make: pool, is32: true }
}

export const cases = Object.entries(OPERATIONS).flatMap(([name, { is32 = false }]) =>
  ['i32', 'i64'].filter(address => !is32 || address === 'i32').map(address => ({ name, address }))
)

/** Returns why it can't be measured, or null. */
export function prepare() {
  if (process.env.HOSTMAP_BENCH_BASE === undefined) throw new Error('`against` needs --base DIR')
  return needsTaskset()
}

export function needsTaskset() {
  try {
    execFileSync('taskset', ['--version'])
  } catch {
    return '`taskset` is missing (util-linux), so the turns may run on several processors.'
  }
}

// Only the measuring thread. V8's other threads may run anywhere.
const pin = () =>
  execFileSync('taskset', [
    '--cpu-list',
    '--pid',
    String(os.availableParallelism() - 1),
    String(process.pid)
  ])

/**
 * A build of the package with its own native part. The package itself refuses two builds in one
 * process, so its loader is passed by.
 */
function load(root) {
  // Where it is, and where it was before lib/ had folders.
  const folder = ['lib/platform', 'lib'].find(it => existsSync(path.join(root, it, 'binding.js')))
  const { binaryPath, target } = require(path.join(root, folder, 'platform.js'))
  // Next to package.json, where a build is put.
  const binary = binaryPath?.() ?? require(path.join(root, folder, 'place.js')).builtFile(target())
  const loader = path.join(root, folder, 'binding.js')
  require.cache[loader] = { id: loader, loaded: true, exports: require(binary) }
  return require(path.join(root, 'index.js'))
}

export const measure = (caseOf, onProgress) =>
  compare(caseOf, path.resolve(process.env.HOSTMAP_BENCH_BASE), onProgress)

/** Compares a build in a folder with this one. */
export async function compare({ name, address }, base, onProgress) {
  if (address === 'i64' && Number(majorHere) < 24) return null
  const builds = {
    base: load(base),
    here: load(fileURLToPath(new URL('../..', import.meta.url)))
  }
  const { make, calls = 64 } = OPERATIONS[name]
  const samples = new Samples()
  try {
    pin()
  } catch {
    // If it is missing, `prepare` has said so.
  }
  for (let turn = -1; turn < TURNS; turn++) {
    const rounds = new Map()
    for (const build of shuffled(Object.keys(builds)))
      rounds.set(build, await make(builds[build], address))
    const times = { base: [], here: [] }
    // The first turn only warms up V8.
    const blocks = turn < 0 ? Math.ceil(CALLS_BEFORE / calls) : BLOCKS
    for (let block = -BLOCKS_BEFORE; block < blocks; block++) {
      for (const build of shuffled(Object.keys(builds))) {
        const ns = await timeBlock(rounds.get(build), calls)
        if (block >= 0) times[build].push(ns)
      }
    }
    for (const { close } of rounds.values()) await close?.()
    if (turn >= 0) for (const build of Object.keys(builds)) samples.add(build, times[build])
    rounds.clear()
    await collectGarbage()
    onProgress((turn + 2) / (TURNS + 1))
  }
  rmSync(FILE, { force: true })
  return {
    base: samples.summary('base'),
    here: samples.summary('here'),
    ...samples.ratioWithin('here', 'base')
  }
}

async function timeBlock({ round, isAsync = false }, calls) {
  const startNs = process.hrtime.bigint()
  if (isAsync) for (let i = 0; i < calls; i++) await round()
  else for (let i = 0; i < calls; i++) round()
  return Number(process.hrtime.bigint() - startNs) / calls
}

const shuffled = ([first, second]) => (Math.random() < 0.5 ? [first, second] : [second, first])

// The operations

/** Makes a memory with this many read-only mappings of 64 KiB, above the first Wasm page. */
function memoryWith({ GuardedMemory, HostRegion }, address, others) {
  const region = HostRegion.allocate(MiB).seal()
  const guarded = new GuardedMemory({ initial: 64, address })
  for (let i = 1; i <= others; i++)
    guarded.map(region, { at: 2 * i * WASM_PAGE, byteOffset: 0, byteLength: WASM_PAGE })
  return { region, guarded }
}

function mapAt(others) {
  return (build, address) => {
    const { region, guarded } = memoryWith(build, address, others)
    return { round: () => guarded.map(region, { at: 32 * WASM_PAGE }).unmap() }
  }
}

function mapInFreeSpace(others) {
  return (build, address) => {
    const { region, guarded } = memoryWith(build, address, others)
    const options = {
      byteOffset: 0,
      byteLength: 4 * WASM_PAGE,
      access: 'readonly',
      populate: false
    }
    // The first one makes the memory grow.
    return { round: () => guarded.map(region, { ...options }).unmap() }
  }
}

const FILE = path.join(
  process.env.HOSTMAP_BENCH_DIR ?? os.tmpdir(),
  `hostmap-against-${process.pid}`
)

function regionOf({ HostRegion }, backing) {
  if (backing === 'memfd') return HostRegion.allocate(REGION_BYTES).seal()
  const fd = openSync(FILE, 'a')
  ftruncateSync(fd, REGION_BYTES)
  closeSync(fd)
  return HostRegion.open(FILE)
}

function windowOn(build, backing, address) {
  const region = regionOf(build, backing)
  const guarded = new build.GuardedMemory({ initial: 1, address })
  return { region, guarded, window: guarded.window({ byteLength: WINDOW_BYTES }) }
}

function slide(backing, options) {
  return (build, address) => {
    const { region, window } = windowOn(build, backing, address)
    let at = 0
    return {
      round() {
        if (options === undefined) window.slide(region, at)
        else window.slide(region, at, { ...options })
        at = (at + WINDOW_BYTES) % REGION_BYTES
      }
    }
  }
}

function next(backing) {
  return (build, address) => {
    const { region, window } = windowOn(build, backing, address)
    const source = window.source(region, {
      chunk: WINDOW_BYTES,
      readAhead: false,
      leaveBehind: false
    })
    return {
      round() {
        if (Number(source.next()) === 0) source.rewind()
      }
    }
  }
}

const NEXT_WAT = `
(module
  (import "env" "memory" (memory 1))
  (import "data" "next" (func $next (param i32) (result i32)))
  (func (export "next") (result i32) (call $next (i32.const 0))))
`

async function nextOfModule(build, address) {
  const { region, window } = windowOn(build, 'memfd', address)
  const source = window.source(region, {
    chunk: WINDOW_BYTES,
    readAhead: false,
    leaveBehind: false
  })
  const { exports } = new WebAssembly.Instance(
    await moduleOf('next', () => compile('next', NEXT_WAT)),
    {
      env: { memory: window.memory.memory },
      data: source.imports
    }
  )
  return {
    round() {
      if (exports.next() === 0) source.rewind()
    }
  }
}

function restore(dirtyPages) {
  return ({ GuardedMemory }, address) => {
    const guarded = new GuardedMemory({ initial: HEAP_BYTES / WASM_PAGE, address })
    const bytes = new Uint8Array(guarded.buffer)
    fillWithNoise(bytes.subarray(0, DIRTY_PAGES * PAGE_BYTES))
    const snapshot = guarded.snapshot()
    return {
      round() {
        for (let page = 0; page < dirtyPages; page++) bytes[page * PAGE_BYTES] = page
        guarded.restore(snapshot)
      }
    }
  }
}

async function pool({ InstancePool }) {
  const program = await moduleOf('heap', () => emptyHeapModule(HEAP_BYTES))
  const instances = await InstancePool.create(program)
  return {
    isAsync: true,
    round: async () => (await instances.acquire()).release(),
    close: () => instances.close()
  }
}

const modules = new Map()

async function moduleOf(name, make) {
  if (!modules.has(name)) modules.set(name, await make())
  return modules.get(name)
}

export const report = results =>
  reportOf({ cases, results, id: 'against', title: 'Ratio to the other build', most: MOST })

/** A table of ratios, and promises that none is above `most`. */
export function reportOf({ cases, results, id, title, most, other = 'the other build' }) {
  const rows = cases
    .map(({ name, address }, index) => ({
      label: address === 'i64' ? `${name}, 64-bit` : name,
      parameters: { operation: name, address },
      cells: results[index]
    }))
    .filter(({ cells }) => cells !== null)
  const table = {
    id,
    title,
    rowLabel: 'operation',
    columns: [
      { key: 'base', label: other },
      { key: 'here', label: 'this build' },
      { key: 'ratio', label: 'this : other' },
      { key: 'lower', label: 'from' },
      { key: 'upper', label: 'to' }
    ],
    note: `Medians, with the 10th and 90th percentile of ${TURNS * BLOCKS} blocks of some dozen calls. This : other is the median of the quotients of ${TURNS} turns, each with its own memories and regions. From and to bound it with a confidence of 95 %, without assumptions about the distribution of the quotients. Windows have 1 MiB and show parts of 64 MiB, the heap has 64 MiB.`,
    rows
  }
  const promises = rows.map(({ label, cells }) => ({
    text: `${label}, of the time of ${other}`,
    value: cells.ratio.median,
    unit: 'ratio',
    atMost: most
  }))
  return { tables: [table], promises }
}
