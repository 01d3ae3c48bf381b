// What reading through a mapping costs: the same Wasm program over the same bytes, copied and mapped.

import assert from 'node:assert/strict'
import { GuardedMemory, HostRegion } from '../../index.mjs'
import { GiB, KiB, MiB, WASM_PAGE, hostArray } from '../lib/dataset.mjs'
import { Samples, collectGarbage, timeOnce } from '../lib/measure.mjs'
import { compileSum } from '../lib/sum.mjs'
import { formatBytes, ratioOf } from '../lib/table.mjs'

export const title = 'Scan'
export const measures =
  'A Wasm function adds up every 64-bit integer of the dataset with SIMD. Warm: all pages were read through the same addresses before. First: none was, so each page (or group of pages) costs a page fault in the mapping, while the copy has paid for its pages already.'

export const cases = [{}]

const DATASET_BYTES = GiB
const WARM_SIZES = [256 * KiB, 64 * MiB, GiB]
// A short scan is disturbed more by what else the machine does, and costs less to repeat.
const warmTurnsOf = byteLength => (byteLength < DATASET_BYTES ? 60 : 15)
const COLD_TURNS = 5

const newMemory = datasets => new GuardedMemory({ initial: 1 + (datasets * DATASET_BYTES) / WASM_PAGE })

export async function measure(_case, onProgress) {
  const sumOver = await compileSum()
  const source = hostArray(DATASET_BYTES)
  const region = HostRegion.copyFrom(source)
  const samples = new Samples()

  for (let turn = 0; turn < COLD_TURNS; turn++) {
    await coldTurn(samples, sumOver, source, region)
    onProgress(((turn + 1) / COLD_TURNS) * 0.6)
  }
  warmTurns(samples, sumOver, source, region)
  onProgress(1)

  const summaries = names => Object.fromEntries(names.map(name => [name, samples.summary(name)]))
  return {
    cold: COLD_STEPS.map(step => summaries(WAYS.map(way => `${step} ${way}`))),
    warm: WARM_SIZES.map(byteLength => summaries(WARM_WAYS.map(way => `${byteLength} ${way}`)))
  }
}

const WARM_WAYS = ['plain', 'readonly', 'shared']

/**
 * One instance over one memory, so that the code is the same to the last instruction: the dataset as a copy, and behind it
 * mapped twice. The ways take turns, because a machine's speed drifts.
 */
function warmTurns(samples, sumOver, source, region) {
  const guarded = newMemory(3)
  const sum = sumOver(guarded.memory)
  const addresses = Object.fromEntries(
    WARM_WAYS.map((way, index) => [way, WASM_PAGE + index * DATASET_BYTES])
  )
  new Uint8Array(guarded.buffer).set(source, addresses.plain)
  for (const access of ['readonly', 'shared']) guarded.map(region, { at: addresses[access], access })

  for (const byteLength of WARM_SIZES) {
    const repeats = Math.max(1, (64 * MiB) / byteLength)
    const expected = sum(addresses.plain, byteLength)
    for (let turn = -1; turn < warmTurnsOf(byteLength); turn++) {
      for (let i = 0; i < WARM_WAYS.length; i++) {
        const way = WARM_WAYS[(turn + 1 + i) % WARM_WAYS.length]
        let result
        const elapsedNs = timeOnce(() => {
          for (let repeat = 0; repeat < repeats; repeat++) result = sum(addresses[way], byteLength)
        })
        assert.equal(result, expected)
        // The first turn brings the pages in.
        if (turn >= 0) samples.add(`${byteLength} ${way}`, [elapsedNs / repeats])
      }
    }
  }
}

const WAYS = ['mapped', 'copied fresh', 'copied warm']
const COLD_STEPS = ['hand-off', 'first scan', 'second scan', 'give back']

/** The life of a dataset in a memory: handed over, read twice, given back. */
async function coldTurn(samples, sumOver, source, region) {
  const sums = []
  const record = (step, way, operation) => samples.add(`${step} ${way}`, [timeOnce(operation)])
  const scanTwice = (way, sum) => {
    for (const step of ['first scan', 'second scan']) {
      record(step, way, () => sums.push(sum(WASM_PAGE, DATASET_BYTES)))
    }
  }

  let guarded = newMemory(1)
  let sum = sumOver(guarded.memory)
  let mapping
  record('hand-off', 'mapped', () => (mapping = guarded.map(region, { at: WASM_PAGE })))
  scanTwice('mapped', sum)
  record('give back', 'mapped', () => mapping.unmap())

  // The same memory: unmapping left it with no pages in that range.
  const target = new Uint8Array(guarded.buffer, WASM_PAGE)
  for (const way of ['copied fresh', 'copied warm']) {
    record('hand-off', way, () => target.set(source))
    scanTwice(way, sum)
  }
  assert.equal(new Set(sums).size, 1)
  assert.notEqual(sums[0], 0n)
  guarded = sum = mapping = undefined
  await collectGarbage()
}

export function report([{ cold, warm }]) {
  const warmTable = {
    id: 'scan-warm',
    title: 'Warm scan',
    rowLabel: 'size',
    columns: [
      { key: 'plain', label: 'plain memory' },
      { key: 'readonly', label: 'mapped readonly' },
      { key: 'shared', label: 'mapped shared' },
      { label: 'plain : readonly', ratio: ['plain', 'readonly'] },
      { label: 'plain : shared', ratio: ['plain', 'shared'] }
    ],
    note: 'One scan of so many bytes, whose pages were all read before. A quotient under 1 means that the mapping is slower. A few percent either way come from the physical pages: two plain copies of the same bytes differ by as much.',
    rows: WARM_SIZES.map((byteLength, index) => ({
      label: formatBytes(byteLength),
      parameters: { byteLength },
      cells: Object.fromEntries(WARM_WAYS.map(way => [way, warm[index][`${byteLength} ${way}`]]))
    }))
  }
  const coldTable = {
    id: 'scan-first',
    title: 'The first use of 1 GiB, step by step',
    rowLabel: 'step',
    columns: [
      { key: 'mapped', label: 'mapped readonly' },
      { key: 'copied fresh', label: 'copied, fresh memory' },
      { key: 'copied warm', label: 'copied, warm memory' },
      { label: 'fresh copy : mapped', ratio: ['copied fresh', 'mapped'] },
      { label: 'warm copy : mapped', ratio: ['copied warm', 'mapped'] }
    ],
    note: "The region's pages are in memory already. The first scan of a mapping pays for its page faults, and giving it back for taking the pages out of the page table; a copy is given back when its memory is collected, which is not measured.",
    rows: COLD_STEPS.map((step, index) => ({
      label: step,
      parameters: { byteLength: DATASET_BYTES },
      cells: Object.fromEntries(WAYS.map(way => [way, cold[index][`${step} ${way}`]]))
    }))
  }
  const largest = warmTable.rows.at(-1)
  const promises = [
    {
      text: 'warm scan of plain memory, of the time through a readonly mapping, 1 GiB',
      value: ratioOf(largest, ['plain', 'readonly']),
      unit: 'ratio',
      atLeast: 0.98
    }
  ]
  return { tables: [warmTable, coldTable], promises }
}
