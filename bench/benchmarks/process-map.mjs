// The cost of reading the process's memory map: by a query for one address, or as text.

import assert from 'node:assert/strict'
import * as hostmap from '../../index.mjs'
import { WASM_PAGE } from '../lib/dataset.mjs'
import { mapOthers, trap } from '../lib/faulting.mjs'
import { Samples, collectGarbage, ratio, summarize, timeOnce } from '../lib/measure.mjs'
import { compile, warmUp } from '../lib/module.mjs'
import { formatQuantity } from '../lib/table.mjs'

const { GuardedMemory, HostRegion, limits } = hostmap

export const title = 'The process’s map as text'
export const measures =
  "Before Linux 6.11, a process's memory map is available only as text, which grows with the number of VMAs. The same program runs in processes that query single addresses and in processes with `WASM_HOSTMAP_PROCESS_MAP=text`, in turns: this library's faults beside many VMAs, and making many memories."

// One process for each way. Only neighbors are compared, because a machine's speed drifts.
const PAIRS = 6
const VMAS = 20_000
const MEMORIES = 1200
const TURNS = 20
// Each changes one page, up to the bound beyond which blocks are changed.
const FAULTS = 16
const MOST = 2

export const cases = Array.from({ length: PAIRS }, (_, pair) =>
  // Each goes first in half of the pairs.
  (pair % 2 === 0 ? ['query', 'text'] : ['text', 'query']).map(way => ({
    way,
    env: { WASM_HOSTMAP_PROCESS_MAP: way, NODE_NO_WARNINGS: '1' }
  }))
).flat()

const ROWS = [
  { key: 'write', label: `a stray write beside ${VMAS.toLocaleString('en-US')} VMAs` },
  { key: 'trap', label: `a store that traps beside ${VMAS.toLocaleString('en-US')} VMAs` },
  { key: 'memory', label: `a memory, of ${MEMORIES.toLocaleString('en-US')} that are made` }
]

const STORE_WAT =
  '(module (import "env" "memory" (memory 1)) (func (export "store") (param i32) (i32.store8 (local.get 0) (i32.const 1))))'

export async function measure(_, onProgress) {
  const samples = new Samples()
  const memories = []
  const startNs = process.hrtime.bigint()
  for (let i = 0; i < MEMORIES; i++) memories.push(new GuardedMemory({ initial: 1 }))
  samples.add('memory', [Number(process.hrtime.bigint() - startNs) / MEMORIES])
  memories.length = 0
  await collectGarbage()
  onProgress(0.5)

  const { pageSize } = limits()
  const region = HostRegion.allocate(2 * FAULTS * pageSize).seal()
  const others = mapOthers(VMAS / 2, region, hostmap)
  const guarded = new GuardedMemory({ initial: 64 })
  const bytes = new Uint8Array(guarded.buffer)
  const module = await compile('store', STORE_WAT)
  const storeOf = memory => new WebAssembly.Instance(module, { env: { memory } }).exports.store
  const own = storeOf(new WebAssembly.Memory({ initial: 1 }))
  await warmUp(() => {
    for (let i = 0; i < 500; i++) own(i)
  })
  const store = storeOf(guarded.memory)
  for (let turn = 0; turn < TURNS; turn++) {
    const mapping = guarded.map(region, { at: WASM_PAGE })
    const each = fault =>
      Array.from({ length: FAULTS }, (_, page) =>
        timeOnce(() => fault(WASM_PAGE + 2 * page * pageSize))
      )
    samples.add(
      'trap',
      each(at => trap(store, at))
    )
    samples.add(
      'write',
      each(at => (bytes[at] = 1))
    )
    assert.equal(mapping.strayWrites, FAULTS)
    mapping.unmap()
    // The reports arrive now.
    await new Promise(resolve => setImmediate(resolve))
    onProgress(0.5 + (turn + 1) / (2 * TURNS))
  }
  assert.equal(others.mappings.length, VMAS / 2)
  return Object.fromEntries(ROWS.map(({ key }) => [key, samples.summary(key).median]))
}

export function report(results) {
  const of = way => results.filter((_, index) => cases[index].way === way)
  const [queried, read] = [of('query'), of('text')]
  const middleOf = sorted => (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2
  const table = {
    id: 'process-map',
    title: 'By query and by text',
    rowLabel: 'operation',
    columns: [
      { key: 'query', label: 'by query' },
      { key: 'text', label: 'by text' },
      { key: 'ratio', label: 'text : query' },
      { key: 'lowest', label: 'lowest pair' },
      { key: 'highest', label: 'highest pair' }
    ],
    note: `Medians of ${PAIRS} processes each, with the 10th and 90th percentile of them. Text : query is the median over pairs of processes that ran one after another. Before Linux 6.11, both use the text.`,
    rows: ROWS.map(({ key, label }) => {
      const quotients = read
        .map((each, pair) => each[key] / queried[pair][key])
        .sort((a, b) => a - b)
      return {
        label,
        parameters: { operation: key, pairs: PAIRS },
        cells: {
          query: summarize(queried.map(each => each[key])),
          text: summarize(read.map(each => each[key])),
          ratio: ratio(middleOf(quotients)),
          lowest: ratio(quotients[0]),
          highest: ratio(quotients.at(-1))
        }
      }
    })
  }
  const promises = table.rows.map(({ label, cells }) => {
    const [lowest, highest] = [cells.lowest, cells.highest].map(({ median }) =>
      formatQuantity(median, 'ratio')
    )
    return {
      text: `${label}: by text, of the time by query (pairs: ${lowest} to ${highest})`,
      value: cells.ratio.median,
      unit: 'ratio',
      atMost: MOST
    }
  })
  return { tables: [table], promises }
}
