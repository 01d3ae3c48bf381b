// The most frequent calls, on each supported Node.js.

import { GuardedMemory, HostRegion } from '../../index.mjs'
import { GiB, MiB, QUICK, WASM_PAGE, fillWithNoise, hostArray } from '../lib/dataset.mjs'
import {
  SHORT,
  Samples,
  collectGarbage,
  notMeasured,
  rate,
  timeBatches,
  timeOnce
} from '../lib/measure.mjs'
import { hasNative, timeSystemCalls } from '../lib/native.mjs'
import { MAJORS, majorHere, nodeOf } from '../lib/nodes.mjs'
import { compileSum } from '../lib/sum.mjs'

export const title = 'Node.js releases'
export const measures =
  'The other benchmarks in brief, on each release: mapping and unmapping a dataset, sliding a window, restoring a heap that was not written, and reading a dataset again. Each release runs in its own process.'

export const cases = MAJORS.map(major => ({ major, execPath: nodeOf(major) }))

const DATASET_BYTES = GiB
const SCAN_BYTES = QUICK ? 32 * MiB : 256 * MiB
const HEAP_BYTES = 64 * MiB
const HEAP_PAGES = 100
const TURNS = SHORT.turns / 2
// V8 optimizes the calls after some tenths of a second.
const CALLS_BEFORE = QUICK ? 1000 : 50_000

export async function measure({ major }, onProgress) {
  if (major !== majorHere) return { major, version: null }
  const samples = new Samples()
  const rounds = { slide: slideRound(), restore: restoreRound() }
  for (const round of Object.values(rounds))
    for (let calls = 0; calls < CALLS_BEFORE; calls++) round()
  const dataset = HostRegion.allocate(DATASET_BYTES)
  const scan = await scanTurn()
  for (let turn = 0; turn < TURNS; turn++) {
    samples.add('map', timeBatches(mapRound(dataset)))
    if (hasNative())
      samples.add(
        'bare',
        timeSystemCalls({ calls: 'bare', access: 'readonly', byteLength: DATASET_BYTES })
      )
    for (const [name, round] of Object.entries(rounds)) samples.add(name, timeBatches(round))
    scan(samples, turn)
    await collectGarbage()
    onProgress((turn + 1) / TURNS)
  }
  const figure = name => samples.summary(name) ?? notMeasured('no native program')
  const cells = {
    ...Object.fromEntries(['map', 'bare', 'slide', 'restore'].map(name => [name, figure(name)])),
    mapToBare: samples.ratio('map', 'bare') ?? notMeasured('no native program'),
    mapped: rate(figure('mapped'), SCAN_BYTES),
    plain: rate(figure('plain'), SCAN_BYTES),
    plainToMapped: samples.ratio('plain', 'mapped')
  }
  return { major, version: process.versions.node, cells }
}

function mapRound(region) {
  const guarded = new GuardedMemory({ initial: 2 + DATASET_BYTES / WASM_PAGE })
  return () => guarded.map(region, { at: WASM_PAGE }).unmap()
}

function slideRound() {
  const region = HostRegion.allocate(SHORT.roundsPerBatch * MiB).seal()
  const window = new GuardedMemory({ initial: 1 }).window({ byteLength: MiB })
  let at = 0
  return () => {
    window.slide(region, at)
    at = (at + MiB) % region.byteLength
  }
}

function restoreRound() {
  const guarded = new GuardedMemory({ initial: HEAP_BYTES / WASM_PAGE })
  fillWithNoise(new Uint8Array(guarded.buffer, 0, HEAP_PAGES * 4096))
  const snapshot = guarded.snapshot()
  return () => guarded.restore(snapshot)
}

/** Reads the same bytes through a mapping and in plain memory, in pages of 4 KiB. */
async function scanTurn() {
  const over = await compileSum()
  const source = hostArray(SCAN_BYTES)
  const guarded = new GuardedMemory({ initial: 1 + SCAN_BYTES / WASM_PAGE })
  new Uint8Array(guarded.buffer, WASM_PAGE).set(source)
  const { address } = guarded.map(HostRegion.copyFrom(source, { hugePages: false }), {
    populate: true
  })
  const sum = over(guarded.memory)
  const places = { plain: WASM_PAGE, mapped: address }
  const expected = sum(WASM_PAGE, SCAN_BYTES)
  return (samples, turn) => {
    const names = Object.keys(places)
    for (let i = 0; i < names.length; i++) {
      // They take turns at being first.
      const name = names[(turn + i) % names.length]
      for (let round = 0; round < 3; round++) {
        let found
        samples.add(name, [timeOnce(() => (found = sum(places[name], SCAN_BYTES)))])
        if (found !== expected) throw new Error(`${name}: read wrong bytes`)
      }
    }
  }
}

export function report(results) {
  const measured = results.filter(({ version }) => version !== null)
  const missing = results.filter(({ version }) => version === null).map(({ major }) => major)
  const table = {
    id: 'nodes',
    title: 'One call',
    rowLabel: 'Node.js',
    columns: [
      { key: 'map', label: 'map and unmap, 1 GiB' },
      { key: 'bare', label: 'bare mmap calls' },
      { key: 'mapToBare', label: 'map : bare' },
      { key: 'slide', label: 'slide, 1 MiB of a memfd' },
      { key: 'restore', label: 'restore, nothing written' },
      { key: 'mapped', label: 'warm scan, mapped' },
      { key: 'plain', label: 'warm scan, plain memory' },
      { key: 'plainToMapped', label: 'plain : mapped' }
    ],
    note: [
      '`readonly`, at an address. The heap has 64 MiB, of which 100 pages have data. The scan reads 256 MiB in pages of 4 KiB with 128-bit vectors. Ratios are medians over turns.',
      ...(missing.length > 0
        ? [`Not here: Node.js ${missing.join(', ')}; \`npm run test:matrix\` installs them.`]
        : [])
    ].join(' '),
    rows: measured.map(({ version, cells }) => ({
      label: version,
      parameters: { node: version },
      cells
    }))
  }
  const promises = table.rows.flatMap(row => [
    {
      text: `map and unmap of 1 GiB, of the bare system calls' time, Node ${row.label}`,
      value: row.cells.mapToBare.median,
      unit: 'ratio',
      atMost: 2
    },
    {
      text: `rate of a warm scan, to that over plain memory, Node ${row.label}`,
      value: row.cells.plainToMapped.median,
      unit: 'ratio',
      atLeast: 0.98
    }
  ])
  return { tables: [table], promises }
}
