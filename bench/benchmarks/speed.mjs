// All that has to be fast, in one run: as ratios to another build, and beside what does the same
// without this package. Each figure is explained where it is measured alone.

import {
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeFileSync
} from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildOf } from '../lib/builds.mjs'
import { GiB, KiB, MiB, QUICK, WASM_PAGE, hostArray } from '../lib/dataset.mjs'
import { measureMap } from '../lib/first-map.mjs'
import { SCAN_BYTES, measureFirstScan } from '../lib/first-scan.mjs'
import { emptyHeapModule, initialisedHeapModule } from '../lib/heap.mjs'
import { OPERATIONS, cleanUp } from '../lib/hot-calls.mjs'
import {
  SHORT,
  Samples,
  collectGarbage,
  count,
  notMeasured,
  ratio,
  summarize,
  timeBatches,
  timeOnce
} from '../lib/measure.mjs'
import { hasNative, runNative, timeSystemCalls } from '../lib/native.mjs'
import { measureFaults } from '../lib/own-faults.mjs'
import { formatBytes } from '../lib/table.mjs'
import { temporaryFile } from '../lib/temporary.mjs'
import { buildWasmtime, hasWasmtime, timeWasmtime } from '../lib/wasmtime.mjs'

export const title = 'Speed'
export const measures =
  'All that has to be fast, in this build and in the one that `--base` names, in processes that take turns; and what does the same without this package.'

const BASE = process.env.HOSTMAP_BENCH_BASE
const PAIRS = QUICK ? 1 : 3
/** What else is in a process that faults: mappings, and compiled functions. */
const SURROUNDINGS = { few: [1, 0], most: [10_000, 0], functions: [1, 10_000] }

const GROUPS = [
  { group: 'scan' },
  { group: 'map' },
  { group: 'calls' },
  ...Object.keys(SURROUNDINGS).map(beside => ({ group: 'faults', beside }))
]

/** Each build goes first in half of the pairs. Peers, which take long to start, are in one. */
export const cases = [
  ...Array.from({ length: PAIRS }, (_, pair) =>
    GROUPS.flatMap(group => {
      const builds = BASE === undefined ? ['here'] : ['base', 'here']
      if (pair % 2 === 1) builds.reverse()
      return builds.map(build => ({
        ...group,
        build,
        pair,
        // Each mapping that faults emits a warning.
        env: { NODE_NO_WARNINGS: '1' }
      }))
    })
  ).flat(),
  { group: 'peers' }
]

/** Called once before the first case. Returns what is missing and why, or null. */
export function prepare() {
  const reason = buildWasmtime()
  const missing = [
    BASE === undefined && 'Without --base DIR, nothing is compared with another build.',
    reason && `wasmtime is missing: ${reason}`
  ]
  return missing.filter(Boolean).join('\n') || null
}

/** Gives figures by name. */
export async function measure({ group, beside, build, pair }, onProgress) {
  if (group === 'peers') return measurePeers(onProgress)
  const package_ = await buildOf(build)
  // The first process of this build takes the peers along, over the same pages.
  if (group === 'scan')
    return measureFirstScan(package_, build === 'here' && pair === 0, onProgress)
  if (group === 'map') return measureMap(package_, onProgress)
  if (group === 'calls') return measureCalls(package_, onProgress)
  return measureFaults(package_, ...SURROUNDINGS[beside], onProgress)
}

const CALLS = [
  'map and unmap, at an address',
  'slide, memfd',
  'slide, file',
  'restore, nothing written',
  'restore, 100 pages written',
  'pool, acquire and release'
]
const CALL_TURNS = QUICK ? 2 : 6
const CALL_BATCHES = 20
// V8 optimizes the calls after some tenths of a second.
const CALLS_BEFORE = QUICK ? 500 : 5_000

async function measureCalls(build, onProgress) {
  const samples = new Samples()
  for (const [index, name] of CALLS.entries()) {
    const { make, calls = 64 } = OPERATIONS[name]
    for (let turn = -1; turn < CALL_TURNS; turn++) {
      const { round, isAsync = false, close } = await make(build, 'i32')
      const batches = turn < 0 ? Math.ceil(CALLS_BEFORE / calls) : CALL_BATCHES
      const times = []
      for (let batch = -2; batch < batches; batch++) {
        const startNs = process.hrtime.bigint()
        if (isAsync) for (let i = 0; i < calls; i++) await round()
        else for (let i = 0; i < calls; i++) round()
        if (batch >= 0) times.push(Number(process.hrtime.bigint() - startNs) / calls)
      }
      if (turn >= 0) samples.add(name, times)
      await close?.()
      await collectGarbage()
    }
    onProgress((index + 1) / CALLS.length)
  }
  cleanUp()
  return Object.fromEntries(CALLS.map(name => [name, samples.summary(name)]))
}

const PART_BYTES = MiB
const HEAP_BYTES = 64 * MiB
const DIRTY_PAGES = 100
/** What a restore copies back by default. */
const KEEP_RESIDENT_BYTES = 512 * KiB
const COPY_TURNS = QUICK ? 1 : 3

/** The same without this package: bare system calls, wasmtime, and copies in JavaScript. */
async function measurePeers(onProgress) {
  const samples = new Samples()
  const file = temporaryFile('sparse')
  const fd = openSync(file, 'wx')
  ftruncateSync(fd, SHORT.roundsPerBatch * PART_BYTES)
  closeSync(fd)
  for (let turn = 0; hasNative() && turn < SHORT.turns; turn++) {
    const calls = { calls: 'bare', access: 'readonly', byteLength: PART_BYTES }
    samples.add('bare map', timeSystemCalls(calls))
    const { warmupBatches, batchesPerTurn, roundsPerBatch } = SHORT
    for (const where of ['memfd', file]) {
      const plan = [PART_BYTES, 0, warmupBatches, batchesPerTurn, roundsPerBatch]
      const { nsPerRound } = runNative('slide', where, ...plan)
      samples.add(where === 'memfd' ? 'bare slide, memfd' : 'bare slide, file', nsPerRound)
    }
  }
  onProgress(0.3)
  if (hasWasmtime()) {
    const module = temporaryFile('heap.wasm')
    writeFileSync(module, await initialisedHeapModule(HEAP_BYTES))
    const nothing = { first: 0, pages: 0, stride: 0 }
    const dirty = { first: 0, pages: DIRTY_PAGES, stride: 4 * KiB }
    const plans = [nothing, dirty].map(store => ({
      ...SHORT,
      roundsPerBatch: 16,
      read: nothing,
      store
    }))
    const [clean, written] = timeWasmtime(module, KEEP_RESIDENT_BYTES, plans)
    samples.add('wasmtime, clean', clean)
    samples.add('wasmtime, written', written)
  }
  onProgress(0.6)
  const heap = new Uint8Array(HEAP_BYTES)
  const source = hostArray(QUICK ? HEAP_BYTES : GiB)
  const copy = byteLength => () => heap.set(source.subarray(0, byteLength))
  samples.add('copy a part', timeBatches(copy(PART_BYTES)))
  const module = new WebAssembly.Module(await emptyHeapModule(HEAP_BYTES))
  for (let turn = 0; turn < COPY_TURNS; turn++) {
    for (let i = 0; i < 5; i++) samples.add('copy a heap', [timeOnce(copy(HEAP_BYTES))])
    samples.add('instance', [timeOnce(() => new WebAssembly.Instance(module))])
    const memory = new WebAssembly.Memory({ initial: source.byteLength / WASM_PAGE })
    const bytes = new Uint8Array(memory.buffer)
    samples.add('copy a gigabyte', [timeOnce(() => bytes.set(source))])
    await collectGarbage()
  }
  return Object.fromEntries(PEERS.map(name => [name, samples.summary(name)]))
}

const PEERS = [
  ...['bare map', 'bare slide, memfd', 'bare slide, file'],
  ...['wasmtime, clean', 'wasmtime, written'],
  ...['copy a part', 'copy a heap', 'copy a gigabyte', 'instance']
]

/**
 * What is in the table: of which group and name, beside which peers. A peer is a figure of the case
 * `peers`, or [group, name].
 */
const SCAN_SIZE = formatBytes(SCAN_BYTES)
const scanRow = (name, label) => ({
  ...{ group: 'scan', name, label: `first scan of ${SCAN_SIZE}, ${label}` },
  native: ['scan', `${name} native`],
  wasmtime: ['scan', `${name} wasmtime`],
  copying: ['scan', 'copied']
})
const faultRow = (beside, name, label) => ({
  ...{ group: `faults ${beside}`, name, label },
  native: [`faults ${beside}`, 'copy']
})
const ROWS = [
  scanRow('memfd', 'in memory'),
  scanRow('file', 'of a file'),
  {
    ...{ group: 'map', name: 'grows', label: 'first `map` of 1 GiB, the memory grows' },
    copying: 'copy a gigabyte'
  },
  {
    ...{ group: 'map', name: 'first', label: 'first `map` of 1 GiB, with room if there is' },
    copying: 'copy a gigabyte'
  },
  {
    ...{ group: 'map', name: 'later', label: 'the next `map` of 1 GiB' },
    copying: 'copy a gigabyte'
  },
  faultRow('few', 'js write', 'a stray write'),
  faultRow('most', 'js write', 'a stray write, beside 10,000 mappings'),
  faultRow('functions', 'atomic store', 'an atomic on a read-only page, 10,000 functions'),
  faultRow('few', 'first', 'the first fault of a mapping, with its report'),
  faultRow('few', 'first alone', 'the same, after 5 ms of other work'),
  faultRow('few', 'second alone', 'the second fault of a mapping, after 5 ms of other work'),
  ...CALLS.map(name => ({ group: 'calls', name, label: name, ...peersOfCall(name) }))
]

function peersOfCall(name) {
  return {
    'map and unmap, at an address': { native: 'bare map', copying: 'copy a part' },
    'slide, memfd': { native: 'bare slide, memfd', copying: 'copy a part' },
    'slide, file': { native: 'bare slide, file', copying: 'copy a part' },
    'restore, nothing written': { wasmtime: 'wasmtime, clean', copying: 'copy a heap' },
    'restore, 100 pages written': { wasmtime: 'wasmtime, written', copying: 'copy a heap' },
    'pool, acquire and release': { wasmtime: 'wasmtime, clean', copying: 'instance' }
  }[name]
}

const MISSING = {
  base: 'no --base',
  native: 'no native program',
  wasmtime: 'no program with wasmtime'
}

const middleOf = values => [...values].sort((a, b) => a - b)[(values.length - 1) >> 1]

export function report(results) {
  const found = (group, build) =>
    results.filter((_, at) => {
      const { group: name, beside, build: its } = cases[at]
      return its === build && group === (beside ? `${name} ${beside}` : name)
    })
  /** The medians of the processes of a build. */
  const medians = (group, name, build) =>
    found(group, build).flatMap(figures => figures[name]?.median ?? [])
  const figure = (group, name, build) => {
    const all = medians(group, name, build)
    return all.length === 0 ? undefined : summarize(all)
  }
  const peer = where => {
    if (where === undefined) return undefined
    return Array.isArray(where) ? figure(...where, 'here') : results.at(-1)[where]
  }
  const rows = ROWS.map(({ group, name, label, ...peers }) => {
    const [base, here] = ['base', 'here'].map(build => medians(group, name, build))
    const cells = {
      base: figure(group, name, 'base'),
      here: figure(group, name, 'here'),
      ...Object.fromEntries(['native', 'wasmtime', 'copying'].map(it => [it, peer(peers[it])]))
    }
    // Where there is nothing like it, the cell is empty.
    const wanted = { base: true, ...peers }
    const missing = Object.keys(MISSING).filter(key => wanted[key] && cells[key] === undefined)
    const times =
      base.length === 0 ? undefined : ratio(middleOf(here.map((ns, pair) => ns / base[pair])))
    return {
      label,
      parameters: { group, name },
      cells: {
        ...cells,
        ...Object.fromEntries(missing.map(key => [key, notMeasured(MISSING[key])])),
        times
      }
    }
  })
  const table = {
    id: 'speed',
    title: 'All that has to be fast',
    rowLabel: 'what',
    columns: [
      { key: 'base', label: 'other build' },
      { key: 'here', label: 'this build' },
      { key: 'times', label: 'this : other' },
      { key: 'native', label: 'native' },
      { label: 'this : native', ratio: ['here', 'native'] },
      { key: 'wasmtime', label: 'wasmtime' },
      { label: 'this : wasmtime', ratio: ['here', 'wasmtime'] },
      { key: 'copying', label: 'copying' },
      { label: 'this : copying', ratio: ['here', 'copying'] }
    ],
    note: `Medians of ${PAIRS} processes of each build; this : other is the median of the quotients of neighbors. Native: the bare system calls, a Rust program that reads its own mapping, or the kernel's own copy of a page of a private mapping. wasmtime: a scan of the same pages by the same module, or an instance in a slot of the pooling allocator. Copying: the same module's scan of a heap, \`TypedArray.set\` of the same bytes, or a new instance.`,
    rows
  }
  return { tables: [table, instructionTable()].filter(Boolean), promises: promisesOf(rows) }
}

/** Of what neither a busy machine nor a noisy one changes: the counts of both repositories. */
function instructionTable() {
  const countsIn = root => {
    const file = path.join(root, 'bench', 'instructions', 'figures.json')
    return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {}
  }
  const here = countsIn(fileURLToPath(new URL('../..', import.meta.url)))
  const base = BASE === undefined ? {} : countsIn(BASE)
  const [place] = Object.keys(here)
  const total = calls => count(Object.values(calls).reduce((sum, each) => sum + each, 0))
  const cellsOf = (figures, name) => {
    const { instructions, systemCalls } = figures[place]?.[name] ?? {}
    return {
      instructions: Number.isFinite(instructions) ? count(instructions) : notMeasured('no count'),
      calls: systemCalls === undefined ? notMeasured('no count') : total(systemCalls)
    }
  }
  return {
    id: 'speed-instructions',
    title: 'Instructions and system calls of a call',
    rowLabel: 'call',
    columns: [
      { key: 'baseInstructions', label: 'other build' },
      { key: 'instructions', label: 'this build' },
      { label: 'this : other', ratio: ['instructions', 'baseInstructions'] },
      { key: 'baseCalls', label: 'system calls, other' },
      { key: 'calls', label: 'system calls, this' }
    ],
    note: `As bench/instructions/figures.json has them in both: ${place}. Not optimized, on one thread: \`npm run bench:instructions\`.`,
    rows: Object.keys(here[place]).map(name => {
      const { instructions: baseInstructions, calls: baseCalls } = cellsOf(base, name)
      const cells = { baseInstructions, baseCalls, ...cellsOf(here, name) }
      return { label: name, parameters: { name }, cells }
    })
  }
}

function promisesOf(rows) {
  const at = (group, name) =>
    rows.find(({ parameters }) => parameters.group === group && parameters.name === name).cells
  const ns = (group, name, atMost) => ({
    text: rows.find(({ cells }) => cells === at(group, name)).label,
    value: at(group, name).here.median,
    unit: 'ns',
    atMost
  })
  const scan = (name, where) => ({
    text: `scan of a copied heap, of the time of the first scan of what was mapped, ${where}`,
    value: at('scan', name).copying.median / at('scan', name).here.median,
    unit: 'ratio',
    atLeast: 0.95
  })
  return [
    scan('memfd', 'in memory'),
    scan('file', 'of a file'),
    ns('map', 'first', 60_000),
    ns('map', 'later', 10_000),
    ns('faults functions', 'atomic store', 20_000),
    ns('faults few', 'first', 20_000),
    ns('faults few', 'first alone', 20_000),
    {
      text: 'a stray write beside 10,000 mappings, of the time beside one',
      value: at('faults most', 'js write').here.median / at('faults few', 'js write').here.median,
      unit: 'ratio',
      atMost: 1.25
    }
  ]
}
