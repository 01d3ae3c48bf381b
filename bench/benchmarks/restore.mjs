// The cost of restoring a memory to a snapshot, by written pages and by size of the heap, compared
// with other ways to get a clean heap; the memory of a thousand instances of one heap; and a pool
// that serves many requests.

import assert from 'node:assert/strict'
import { closeSync, writeFileSync } from 'node:fs'
import { GuardedMemory, InstancePool, Snapshot, limits } from '../../index.mjs'
import { GiB, KiB, MiB, WASM_PAGE, fillWithNoise, hostArray } from '../lib/dataset.mjs'
import { emptyHeapModule, importingModule, initialisedHeapModule } from '../lib/heap.mjs'
import {
  addressSpaceBytes,
  countAreas,
  pageTableBytes,
  pssBytes,
  residentBytes
} from '../lib/machine.mjs'
import {
  SHORT,
  Samples,
  bytes,
  collectGarbage,
  count,
  notMeasured,
  perSecond,
  summarize,
  timeBatches,
  timeOnce
} from '../lib/measure.mjs'
import { temporaryFile } from '../lib/stream.mjs'
import { formatBytes, ratioOf } from '../lib/table.mjs'
import { buildWasmtime, hasWasmtime, timeWasmtime } from '../lib/wasmtime.mjs'

export const title = 'Restore'
export const measures =
  'The time to store to a heap and to restore it. In each round, a Wasm loop stores one byte in each of N pages, and the heap is restored. That includes the loop, and the page faults that the previous restore caused. The whole heap has pseudo-random bytes.'

const HEAP_BYTES = 64 * MiB
const HEAPS_BYTES = [MiB, 16 * MiB, 64 * MiB, 256 * MiB, GiB]
const DIRTY_PAGES = [1, 10, 32, 100, 256, 1000, 4000]
/** Which pages are written: far apart, side by side, and side by side in a heap that was read. */
const PLACEMENTS = ['spread', 'packed', 'read']
const USUAL_PAGES = 100
/** How much a restore copies back by default. wasmtime gets the same. */
const KEEP_RESIDENT_BYTES = 512 * KiB

const INSTANCES = 1000
const REQUESTS = 100_000
const REQUEST_PAGES = 20
const REQUEST_HEAPS_BYTES = [MiB, HEAP_BYTES]
/** A way that takes longer for all requests stops then. */
const MOST_SECONDS = 8

export const cases = [
  { what: 'clean' },
  { what: 'dirty' },
  { what: 'sizes' },
  { what: 'instances' },
  ...REQUEST_HEAPS_BYTES.flatMap(heapBytes =>
    ['pool', 'instance'].map(how => ({ what: 'requests', how, heapBytes }))
  )
]

/** Called once before the first case. Returns what is missing and why, or null. */
export function prepare() {
  const reason = buildWasmtime()
  return reason && `wasmtime is missing: ${reason}`
}

const MEASURES = {
  clean: measureClean,
  dirty: measureDirty,
  sizes: measureSizes,
  instances: measureInstances,
  requests: measureRequests
}

export const measure = (caseOf, onProgress) => MEASURES[caseOf.what](onProgress, caseOf)

/** The bytes that every heap repeats. */
const noise = hostArray(16 * MiB)
const STORED = 1

/** The pages' places: spread evenly over the heap, or side by side in its second half. */
function pagesOf(placement, pages, heapBytes = HEAP_BYTES) {
  const { pageSize } = limits()
  return placement === 'spread'
    ? { first: 0, pages, stride: Math.floor(heapBytes / pages / pageSize) * pageSize }
    : { first: heapBytes / 2, pages, stride: pageSize }
}

/** Rounds with many pages take milliseconds, so fewer of them are enough. */
function planFor({ pages }) {
  const roundsPerBatch = Math.max(1, Math.min(SHORT.roundsPerBatch, Math.floor(1600 / pages)))
  return roundsPerBatch > 1
    ? { ...SHORT, roundsPerBatch }
    : { ...SHORT, warmupBatches: 3, batchesPerTurn: 10, roundsPerBatch }
}

const newMemory = heapBytes => new GuardedMemory({ initial: heapBytes / WASM_PAGE })

function snapshotOf(heapBytes, options) {
  const guarded = newMemory(heapBytes)
  fillWithNoise(new Uint8Array(guarded.buffer))
  const snapshot = guarded.snapshot(options)
  // The memory drops its own pages.
  guarded.restore(snapshot)
  return snapshot
}

/** Makes a memory, restores it once, and instantiates the program in it. */
function openHeap(module, snapshot) {
  const guarded = newMemory(snapshot.byteLength)
  const restore = () => guarded.restore(snapshot)
  restore()
  const { exports } = new WebAssembly.Instance(module, { env: { memory: guarded.memory } })
  return {
    heap: new Uint8Array(guarded.buffer),
    restore,
    store: ({ first, pages, stride }) => exports.touch(first, pages, stride, STORED),
    read: ({ first, pages, stride }) => exports.read(first, pages, stride)
  }
}

/** Checks that the restore restored something: doing nothing would be fast. */
function mustBeRestored({ heap }, { first, pages, stride }) {
  for (let at = first, left = pages; left > 0; at += stride, left--)
    assert.equal(heap[at], noise[at % noise.length])
}

/**
 * Runs rounds in a new memory: pages that earlier rounds left in the page tables would change the
 * cost of a restore.
 */
function timeRestores(module, snapshot, placement, pages) {
  const opened = openHeap(module, snapshot)
  const where = pagesOf(placement, pages, snapshot.byteLength)
  if (placement === 'read') opened.read(allPages(snapshot.byteLength))
  const samplesNs = timeBatches(() => {
    opened.store(where)
    opened.restore()
  }, planFor(where))
  mustBeRestored(opened, where)
  return samplesNs
}

/** The first one finds colder caches, so they take turns at being first. */
function inTurns(turn, ways) {
  for (let i = 0; i < ways.length; i++) ways[(turn + i) % ways.length]()
}

const compileImporting = async () => new WebAssembly.Module(await importingModule())
const NOTHING = { first: 0, pages: 0, stride: 0 }
const allPages = heapBytes => pagesOf('spread', heapBytes / limits().pageSize, heapBytes)

// Nothing was written

async function measureClean(onProgress) {
  const module = await compileImporting()
  const file = temporaryFile('heap.wasm')
  writeFileSync(file, await initialisedHeapModule(HEAP_BYTES))
  const snapshots = {
    restore: snapshotOf(HEAP_BYTES),
    dropped: snapshotOf(HEAP_BYTES, { keepResidentBytes: 0 })
  }
  const samples = new Samples()
  for (let turn = 0; turn < SHORT.turns; turn++) {
    await collectGarbage()
    const ways = Object.entries(snapshots).map(([name, snapshot]) => () => {
      const opened = openHeap(module, snapshot)
      samples.add(`untouched ${name}`, timeBatches(opened.restore))
      samples.add(`read ${name}`, timeAfterReading(opened))
      mustBeRestored(opened, allPages(HEAP_BYTES))
    })
    inTurns(turn, ways)
    if (hasWasmtime()) {
      const plans = [NOTHING, allPages(HEAP_BYTES)].map(read => ({
        ...SHORT,
        read,
        store: NOTHING
      }))
      const [untouched, read] = timeWasmtime(file, KEEP_RESIDENT_BYTES, plans)
      samples.add('untouched wasmtime', untouched)
      samples.add('read wasmtime', read)
    }
    onProgress((turn + 1) / SHORT.turns)
  }
  return cellsOf(samples, ['untouched', 'read'], ['restore', 'dropped', 'wasmtime'])
}

/** Times single restores: reading the heap between two of them takes longer than a batch. */
function timeAfterReading({ read, restore }) {
  const where = allPages(HEAP_BYTES)
  return Array.from({ length: SHORT.batchesPerTurn }, () => {
    read(where)
    return timeOnce(restore)
  })
}

// Pages were written

const OPTIONS = {
  restore: {},
  smallPages: { hugePages: false },
  copiedBack: { keepResidentBytes: HEAP_BYTES },
  dropped: { keepResidentBytes: 0 }
}
/** There are many combinations, and more turns do not change the medians. */
const DIRTY_TURNS = Math.ceil(SHORT.turns / 2)
const COMBINATIONS = PLACEMENTS.flatMap(placement =>
  DIRTY_PAGES.map(pages => ({ placement, pages, key: `${placement} ${pages}` }))
)

async function measureDirty(onProgress) {
  const importing = await compileImporting()
  const snapshots = Object.entries(OPTIONS).map(([name, options]) => [
    name,
    snapshotOf(HEAP_BYTES, options)
  ])
  const source = hostArray(HEAP_BYTES)
  const initialised = await initialisedHeapModule(HEAP_BYTES)
  const file = temporaryFile('heap.wasm')
  writeFileSync(file, initialised)
  const modules = {
    instance: new WebAssembly.Module(initialised),
    emptyInstance: new WebAssembly.Module(await emptyHeapModule(HEAP_BYTES))
  }

  const samples = new Samples()
  for (let turn = 0; turn < DIRTY_TURNS; turn++) {
    await collectGarbage()
    const copied = openHeap(importing, snapshots[0][1])
    copied.heap.set(source)
    for (const [index, { placement, pages, key }] of COMBINATIONS.entries()) {
      const where = pagesOf(placement, pages)
      const add = (name, samplesNs) => samples.add(`${key} ${name}`, samplesNs)
      const ways = snapshots.map(([name, snapshot]) => () => {
        add(name, timeRestores(importing, snapshot, placement, pages))
      })
      ways.push(() => {
        const storeAgain = () => copied.store(where)
        add('touch', timeBatches(storeAgain, planFor(where)))
      })
      inTurns(turn, ways)
      await collectGarbage()
      // For the others, earlier reads make no difference.
      if (placement === 'read') continue
      add('copy', timeCopies(copied, where, source))
      for (const [name, module] of Object.entries(modules)) {
        add(name, [timeInstance(module, where)])
        // Collects its garbage and frees its address space while nothing is timed.
        await collectGarbage()
      }
      onProgress((turn + (index + 1) / COMBINATIONS.length) / DIRTY_TURNS)
    }
    if (hasWasmtime() && turn < WASMTIME_TURNS) addWasmtime(samples, file)
  }
  const ways = [
    ...Object.keys(OPTIONS),
    'touch',
    'copy',
    ...Object.keys(modules),
    ...Object.keys(WASMTIME_KEPT)
  ]
  return cellsOf(
    samples,
    COMBINATIONS.map(({ key }) => key),
    ways
  )
}

const timeCopies = ({ store, heap }, where, source) =>
  timeBatches(
    () => {
      store(where)
      heap.set(source)
    },
    { warmupBatches: 1, batchesPerTurn: 3, roundsPerBatch: 1 }
  )

const timeInstance = (module, { first, pages, stride }) =>
  timeOnce(() => new WebAssembly.Instance(module).exports.touch(first, pages, stride, STORED))

const WASMTIME_KEPT = { wasmtime: KEEP_RESIDENT_BYTES, wasmtimeDropped: 0 }
/** Its program compiles the module for each combination. */
const WASMTIME_TURNS = 2

function addWasmtime(samples, file) {
  const plans = COMBINATIONS.map(({ placement, pages }) => {
    const store = pagesOf(placement, pages)
    return { ...planFor(store), store, read: placement === 'read' ? allPages(HEAP_BYTES) : NOTHING }
  })
  for (const [name, keepResidentBytes] of Object.entries(WASMTIME_KEPT)) {
    const turn = timeWasmtime(file, keepResidentBytes, plans)
    for (const [index, { key }] of COMBINATIONS.entries())
      samples.add(`${key} ${name}`, turn[index])
  }
}

/** For each row, the figures by name that were measured. */
function cellsOf(samples, rows, names) {
  const missing = name =>
    name.startsWith('wasmtime') ? notMeasured('no program with wasmtime') : undefined
  const figure = (row, name) => samples.summary(`${row} ${name}`) ?? missing(name)
  return Object.fromEntries(
    rows.map(row => [row, Object.fromEntries(names.map(name => [name, figure(row, name)]))])
  )
}

// Heaps of other sizes

async function measureSizes(onProgress) {
  const module = await compileImporting()
  const snapshots = HEAPS_BYTES.map(heapBytes => snapshotOf(heapBytes))
  const samples = new Samples()
  for (let turn = 0; turn < SHORT.turns; turn++) {
    await collectGarbage()
    const ways = snapshots.map(snapshot => () => {
      const heapBytes = snapshot.byteLength
      samples.add(`${heapBytes} untouched`, timeBatches(openHeap(module, snapshot).restore))
      const fd = snapshot.duplicateFd()
      const dropping = Snapshot.fromFd(fd, { keepResidentBytes: 0 })
      closeSync(fd)
      samples.add(`${heapBytes} dropped`, timeRestores(module, dropping, 'spread', USUAL_PAGES))
      dropping.close()
      for (const placement of PLACEMENTS) {
        samples.add(
          `${heapBytes} ${placement}`,
          timeRestores(module, snapshot, placement, USUAL_PAGES)
        )
      }
    })
    inTurns(turn, ways)
    onProgress((turn + 1) / SHORT.turns)
  }
  return cellsOf(samples, HEAPS_BYTES, ['untouched', ...PLACEMENTS, 'dropped'])
}

// A thousand instances

async function measureInstances(onProgress) {
  const module = await compileImporting()
  await collectGarbage()
  const emptyPss = pssBytes()
  const snapshot = snapshotOf(HEAP_BYTES)
  const where = pagesOf('spread', REQUEST_PAGES)
  const instances = []
  const samplesNs = []
  while (instances.length < INSTANCES) {
    let opened
    samplesNs.push(timeOnce(() => (opened = openHeap(module, snapshot))))
    instances.push(opened)
    opened.store(where)
    opened.restore()
    mustBeRestored(opened, where)
    onProgress(instances.length / INSTANCES)
  }
  // Makes all pages of the snapshot count in the process's PSS.
  instances[0].read(allPages(HEAP_BYTES))
  await collectGarbage()
  const result = {
    made: summarize(samplesNs),
    emptyPss: bytes(emptyPss),
    pss: bytes(pssBytes()),
    pageTables: bytes(pageTableBytes()),
    areas: count(countAreas())
  }
  // Keeps them alive until here.
  for (const opened of instances) mustBeRestored(opened, where)
  return result
}

// Requests

/** The process's resources, sampled every few requests. */
class Watch {
  #samples = []

  look() {
    this.#samples.push({
      resident: residentBytes(),
      areas: countAreas(),
      addressSpace: addressSpaceBytes()
    })
  }

  /** The medians of the first and last quarters of the samples, and the maximum. */
  summary(name, unit) {
    const values = this.#samples.map(sample => sample[name])
    const quarter = Math.ceil(values.length / 4)
    const median = list => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)]
    return {
      [`${name}First`]: unit(median(values.slice(0, quarter))),
      [`${name}Last`]: unit(median(values.slice(-quarter))),
      [`${name}Most`]: unit(Math.max(...values))
    }
  }
}

async function measureRequests(onProgress, { how, heapBytes }) {
  const program = await initialisedHeapModule(heapBytes)
  const { first, pages, stride } = pagesOf('spread', REQUEST_PAGES, heapBytes)
  const serve = ({ exports }) => {
    assert.equal(exports.read(first, 1, stride), noise[first])
    exports.touch(first, pages, stride, STORED)
  }
  const { request, every, close } = await WAYS_TO_SERVE[how](program, serve)

  const watch = new Watch()
  let served = 0
  let ns = 0
  let error = null
  while (served < REQUESTS && ns < MOST_SECONDS * 1e9 && !error) {
    const startNs = process.hrtime.bigint()
    try {
      for (const end = Math.min(served + every, REQUESTS); served < end; served++) await request()
    } catch (thrown) {
      error = thrown.message
    }
    ns += Number(process.hrtime.bigint() - startNs)
    watch.look()
    onProgress(Math.max(served / REQUESTS, ns / (MOST_SECONDS * 1e9)))
  }
  close()
  return {
    error,
    served: count(served),
    rate: perSecond(served / (ns / 1e9)),
    ...watch.summary('resident', bytes),
    ...watch.summary('areas', count),
    ...watch.summary('addressSpace', bytes)
  }
}

const WAYS_TO_SERVE = {
  async pool(program, serve) {
    const pool = await InstancePool.create(program)
    return { request: () => pool.run(serve), every: 500, close: () => pool.close() }
  },
  async instance(program, serve) {
    const module = new WebAssembly.Module(program)
    return { request: async () => serve(new WebAssembly.Instance(module)), every: 25, close() {} }
  }
}

// The report

const BESIDE = [
  { key: 'copy', label: 'TypedArray.set' },
  { key: 'instance', label: 'new Instance' },
  { key: 'emptyInstance', label: 'new Instance, zeros' },
  { key: 'wasmtime', label: 'wasmtime' },
  { key: 'wasmtimeDropped', label: 'wasmtime, all dropped' }
]

export function report(results) {
  const resultOf = ({ what, ...more }) =>
    results[
      cases.findIndex(
        each => each.what === what && Object.keys(more).every(key => each[key] === more[key])
      )
    ]
  const tables = [
    cleanTable(resultOf({ what: 'clean' })),
    ...PLACEMENTS.map(placement => dirtyTable(placement, resultOf({ what: 'dirty' }))),
    sizesTable(resultOf({ what: 'sizes' })),
    instancesTable(resultOf({ what: 'instances' })),
    requestsTable(resultOf)
  ]
  const [clean, spread, packed, read, sizes, instances, requests] = tables
  return {
    tables,
    promises: [
      ...cleanPromises(clean),
      ...dirtyPromises([spread, packed, read]),
      ...sizesPromises(sizes),
      ...instancesPromises(instances),
      ...requestsPromises(requests)
    ],
    plots: [plotOf([spread, packed])]
  }
}

function cleanTable(rows) {
  const labels = { untouched: 'nothing was touched', read: 'all of it was read' }
  return {
    id: 'restore-clean',
    title: `${formatBytes(HEAP_BYTES)}, and nothing written since the last restore`,
    rowLabel: 'since the last restore',
    columns: [
      { key: 'restore', label: 'restore' },
      { key: 'dropped', label: 'all dropped' },
      { key: 'wasmtime', label: 'wasmtime' }
    ],
    note: `All dropped: a snapshot with \`keepResidentBytes: 0\`. wasmtime: makes and drops an instance in one slot of the pooling allocator, with a memory image, PAGEMAP_SCAN, and ${formatBytes(KEEP_RESIDENT_BYTES)} kept resident. Restores after reading are timed one by one, without the reading; for wasmtime, the heap was read once beforehand.`,
    rows: Object.entries(labels).map(([key, label]) => ({
      label,
      parameters: { since: key },
      cells: rows[key]
    }))
  }
}

const cleanPromises = ({ rows }) =>
  rows.map(({ label, cells }) => ({
    text: `restore of ${formatBytes(HEAP_BYTES)}, ${label}`,
    value: cells.restore.median,
    unit: 'ns',
    atMost: 5_000
  }))

const WHERE = {
  spread: 'spread evenly',
  packed: 'side by side',
  read: 'side by side, in a heap that was read'
}

function dirtyTable(placement, rows) {
  const [fewest] = DIRTY_PAGES
  const kept = formatBytes(KEEP_RESIDENT_BYTES)
  return {
    id: `restore-${placement}`,
    title: `${formatBytes(HEAP_BYTES)}, and N pages written, ${WHERE[placement]}`,
    rowLabel: 'pages',
    columns: [
      { key: 'touch', label: 'storing alone' },
      { key: 'restore', label: 'restore' },
      { key: 'smallPages', label: 'small pages' },
      { key: 'copiedBack', label: 'all copied back' },
      { key: 'dropped', label: 'all dropped' },
      { label: 'restore : all dropped', ratio: ['restore', 'dropped'] },
      ...BESIDE.filter(({ key }) => rows[`${placement} ${fewest}`][key])
    ],
    note: `Storing alone: into present pages. Restore: of a snapshot that keeps ${kept}, the default. Small pages: of one with \`hugePages: false\`. All copied back, all dropped: of snapshots that keep everything and nothing. TypedArray.set: the whole heap, into present pages. New Instance: of a module whose data segment is the whole heap, and of one whose heap is zeros, without collecting their garbage. wasmtime: makes an instance in one slot of the pooling allocator, stores, and drops it, with a memory image, PAGEMAP_SCAN, and ${kept} or nothing kept resident.`,
    rows: DIRTY_PAGES.map(pages => ({
      label: pages === fewest ? `${pages} page` : String(pages),
      parameters: { placement, pages },
      cells: rows[`${placement} ${pages}`]
    }))
  }
}

const rowWith = ({ rows }, parameters) =>
  rows.find(row => Object.keys(parameters).every(key => row.parameters[key] === parameters[key]))

const dirtyPromises = tables =>
  tables.map(table => ({
    text: `restore of ${formatBytes(HEAP_BYTES)}, ${USUAL_PAGES} pages, ${WHERE[table.rows[0].parameters.placement]}, of the time for dropping them`,
    value: ratioOf(rowWith(table, { pages: USUAL_PAGES }), ['restore', 'dropped']),
    unit: 'ratio',
    atMost: 0.6
  }))

const READ_NOTE =
  'In a heap that was read: all of it, before the first round, so that all of its pages are in the page tables.'

function sizesTable(rows) {
  return {
    id: 'restore-sizes',
    title: `Heaps of other sizes, and ${USUAL_PAGES} pages written`,
    rowLabel: 'heap',
    columns: [
      { key: 'untouched', label: 'nothing written' },
      ...PLACEMENTS.map(key => ({ key, label: WHERE[key] })),
      { key: 'dropped', label: 'spread evenly, all dropped' },
      { label: 'of that', ratio: ['spread', 'dropped'] }
    ],
    note: `Pages spread over more page tables take longer to store to and to find, in every way. ${READ_NOTE}`,
    rows: HEAPS_BYTES.map(heapBytes => ({
      label: formatBytes(heapBytes),
      parameters: { heapBytes },
      cells: rows[heapBytes]
    }))
  }
}

function sizesPromises(table) {
  const [smallest, largest] = [HEAPS_BYTES[0], HEAPS_BYTES.at(-1)]
  const [small, large] = [smallest, largest].map(heapBytes => rowWith(table, { heapBytes }).cells)
  return ['untouched', ...PLACEMENTS].map(key => ({
    text: `restore of ${formatBytes(largest)}, ${WHERE[key] ?? 'nothing written'}, of the time for ${formatBytes(smallest)}`,
    value: large[key].median / small[key].median,
    unit: 'ratio',
    atMost: 1.5
  }))
}

function instancesTable(cells) {
  return {
    id: 'restore-instances',
    title: `${INSTANCES.toLocaleString('en-US')} instances of one heap of ${formatBytes(HEAP_BYTES)}`,
    rowLabel: 'instances',
    columns: [
      { key: 'made', label: 'one more' },
      { key: 'emptyPss', label: 'PSS before' },
      { key: 'pss', label: 'PSS' },
      { key: 'pageTables', label: 'page tables' },
      { key: 'areas', label: 'memory areas' }
    ],
    note: `One more: makes and restores a memory, and instantiates the program in it. Then the program stores to ${REQUEST_PAGES} pages and is restored again. PSS is the whole process's. One of the instances has read the whole heap, so that it counts.`,
    rows: [
      { label: INSTANCES.toLocaleString('en-US'), parameters: { instances: INSTANCES }, cells }
    ]
  }
}

const instancesPromises = ({ rows: [{ cells }] }) => [
  {
    text: `PSS of ${INSTANCES.toLocaleString('en-US')} instances: 1.1 heaps and 1 MiB each`,
    value: cells.pss.median,
    unit: 'bytes',
    atMost: 1.1 * HEAP_BYTES + INSTANCES * MiB
  }
]

function requestsTable(resultOf) {
  const labels = { pool: 'a pool of one', instance: 'an instance each' }
  const rows = REQUEST_HEAPS_BYTES.flatMap(heapBytes =>
    Object.entries(labels).map(([how, label]) => ({
      label: `${formatBytes(heapBytes)}, ${label}`,
      parameters: { heapBytes, how },
      cells: resultOf({ what: 'requests', how, heapBytes })
    }))
  )
  const ends = rows.filter(({ cells }) => cells.served.median < REQUESTS).map(endOf)
  return {
    id: 'restore-requests',
    title: `${REQUESTS.toLocaleString('en-US')} requests, one after another`,
    rowLabel: 'heap, way',
    columns: [
      { key: 'served', label: 'served' },
      { key: 'rate', label: 'requests a second' },
      { key: 'residentFirst', label: 'RSS, first quarter' },
      { key: 'residentLast', label: 'last' },
      { key: 'areasFirst', label: 'memory areas, first quarter' },
      { key: 'areasLast', label: 'last' },
      { key: 'addressSpaceFirst', label: 'address space, first quarter' },
      { key: 'addressSpaceLast', label: 'last' },
      { key: 'addressSpaceMost', label: 'most' }
    ],
    note: [
      `A request stores to ${REQUEST_PAGES} pages. The heap comes from a data segment of the same size. Figures are medians of samples of the whole process.`,
      ...ends
    ].join(' '),
    rows
  }
}

function endOf({ label, cells: { served, error } }) {
  const what = `${label}: ended after ${served.median.toLocaleString('en-US')} requests`
  return error
    ? `${what}, by the error "${error}".`
    : `${what}, because ${MOST_SECONDS} seconds had passed.`
}

const requestsPromises = table =>
  REQUEST_HEAPS_BYTES.flatMap(heapBytes => {
    const [pool, instance] = ['pool', 'instance'].map(
      how => rowWith(table, { heapBytes, how }).cells
    )
    const heap = `heap of ${formatBytes(heapBytes)}`
    const flat = Object.entries({
      resident: 'RSS',
      areas: 'memory areas',
      addressSpace: 'address space'
    }).map(([name, label]) => ({
      text: `pool, ${heap}: ${label} in the last quarter of the requests, of that in the first`,
      value: pool[`${name}Last`].median / pool[`${name}First`].median,
      unit: 'ratio',
      atMost: 1.05
    }))
    return [
      {
        text: `pool, ${heap}: requests served`,
        value: pool.served.median,
        unit: 'count',
        atLeast: REQUESTS
      },
      ...flat,
      {
        text: `pool, ${heap}: requests a second, to those with an instance for each`,
        value: pool.rate.median / instance.rate.median,
        unit: 'ratio',
        atLeast: 10
      }
    ]
  })

/** What is drawn: one line each. */
const DRAWN = [
  { key: 'restore', label: 'wasm-hostmap' },
  { key: 'dropped', label: 'wasm-hostmap, all dropped' },
  { key: 'copy', label: 'TypedArray.set' },
  { key: 'instance', label: 'new WebAssembly.Instance' },
  { key: 'wasmtime', label: 'wasmtime' }
]

const plotOf = tables => ({
  name: 'restore',
  title: `Storing to pages of a heap of ${formatBytes(HEAP_BYTES)} and restoring it`,
  xLabel: 'pages written',
  panels: tables.map(({ rows }, index) => ({
    title: WHERE[PLACEMENTS[index]],
    lines: DRAWN.map(({ key, label }) => ({
      label,
      points: rows
        .filter(({ cells }) => cells[key].unit === 'ns')
        .map(({ parameters, cells }) => [parameters.pages, cells[key].median])
    }))
  }))
})
