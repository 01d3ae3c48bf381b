// Many memories with one dataset: the cost of the last mapping, and the memory of all.

import assert from 'node:assert/strict'
import { GuardedMemory, HostRegion } from '../../index.mjs'
import { GiB, MiB, WASM_PAGE, fillWithNoise } from '../lib/dataset.mjs'
import { pageTableBytes, pssBytes } from '../lib/machine.mjs'
import {
  SHORT,
  bytes,
  collectGarbage,
  notMeasured,
  summarize,
  timeBatches,
  timeOnce
} from '../lib/measure.mjs'

export const title = 'Memories with one dataset'
export const measures =
  "N memories map one region of 1 GiB. The first one reads every page, the others every page of 4 MiB, so that the pages count in the process's PSS. Each N runs in its own process."

const DATASET_BYTES = GiB
const PART_BYTES = 4 * MiB
const COUNTS = [1, 10, 100, 1000, 10_000]
const MOST_COPIES = 1

/**
 * V8 collects garbage for each new memory of a gigabyte as if its bytes were present. With this
 * flag it does only part of that work; otherwise ten thousand memories take minutes. Up to Node 24
 * it is enough that they are shared.
 */
const ENVIRONMENT = { NODE_OPTIONS: '--max-old-space-size=1000000' }

export const cases = [
  ...COUNTS.map(count => ({ how: 'map', count, env: ENVIRONMENT })),
  ...COUNTS.filter(count => count <= MOST_COPIES).map(count => ({ how: 'copy', count }))
]

function newMemory() {
  const wasmPages = 1 + DATASET_BYTES / WASM_PAGE
  return new GuardedMemory({ initial: wasmPages, maximum: wasmPages, shared: true })
}

/** Adds up a byte of each page. */
function touch(array) {
  let sum = 0
  // 4096 is the smallest host page. Larger pages are touched more than once.
  for (let i = 0; i < array.length; i += 4096) sum += array[i]
  return sum
}

export async function measure({ how, count }, onProgress) {
  const memories = Array.from({ length: count }, newMemory)
  await collectGarbage()
  const emptyPss = pssBytes()

  // The region is filled through a view, which is also the source of the copies, so that there is
  // no second copy of the dataset.
  const region = HostRegion.allocate(DATASET_BYTES)
  const source = fillWithNoise(new Uint8Array(region.view()))
  const handOffsNs = []
  for (const [index, guarded] of memories.entries()) {
    const handOff =
      how === 'map'
        ? () => guarded.map(region, { at: WASM_PAGE })
        : () => new Uint8Array(guarded.buffer, WASM_PAGE).set(source)
    handOffsNs.push(timeOnce(handOff))
    const dataset = new Uint8Array(guarded.buffer, WASM_PAGE, DATASET_BYTES)
    if (index === 0) assert.equal(touch(dataset), touch(source))
    const partOffset = (index * PART_BYTES) % DATASET_BYTES
    touch(dataset.subarray(partOffset, partOffset + PART_BYTES))
    onProgress((index + 1) / count)
  }
  await collectGarbage()
  const result = {
    last: summarize(handOffsNs.slice(-Math.ceil(count / 10))),
    emptyPss: bytes(emptyPss),
    pss: bytes(pssBytes()),
    pageTables: bytes(pageTableBytes())
  }
  if (how === 'map') result.another = timeAnother(memories, region)
  if (how === 'map' && count === COUNTS.at(-1)) result.most = mapMost(memories, region)
  return result
}

/** Maps the region into more memories, until that fails. */
function mapMost(memories, region) {
  const handOffsNs = []
  let reason = null
  while (!reason) {
    try {
      const guarded = newMemory()
      handOffsNs.push(timeOnce(() => guarded.map(region, { at: WASM_PAGE })))
      touch(new Uint8Array(guarded.buffer, WASM_PAGE, PART_BYTES))
      memories.push(guarded)
    } catch (error) {
      reason = error.code ?? error.message
    }
  }
  return {
    reason,
    count: memories.length,
    last: summarize(handOffsNs),
    pss: bytes(pssBytes()),
    pageTables: bytes(pageTableBytes())
  }
}

/** Maps and unmaps in one more memory, while all the others have their mapping. */
function timeAnother(memories, region) {
  const samplesNs = []
  for (let turn = 0; turn < SHORT.turns; turn++) {
    const guarded = newMemory()
    samplesNs.push(...timeBatches(() => guarded.map(region, { at: WASM_PAGE }).unmap()))
  }
  return summarize(samplesNs)
}

const NO_COPIES = notMeasured('every copy takes 1 GiB')

export function report(results) {
  const resultOf = (how, count) =>
    results[cases.findIndex(each => each.how === how && each.count === count)]
  const { most } = resultOf('map', COUNTS.at(-1))
  const table = {
    id: 'memories',
    title: 'Memories with one dataset of 1 GiB',
    rowLabel: 'memories',
    columns: [
      { key: 'another', label: 'map + unmap in one more' },
      { key: 'last', label: 'last tenth of the maps' },
      { key: 'emptyPss', label: 'PSS before' },
      { key: 'pss', label: 'PSS mapped' },
      { key: 'pageTables', label: 'page tables' },
      { key: 'lastCopy', label: 'copy' },
      { key: 'copiesPss', label: 'PSS copied' }
    ],
    note: `Last tenth of the maps (for 1 and 10 memories, the last one): single calls with cold caches, because the previous memory was read before each. PSS before: the same memories without the mapping. Page tables are not part of PSS, and grow with the pages that each memory touches. The last row is the limit of this machine: ${most.reason}. The memories are shared, and V8 is allowed a large heap: otherwise it collects all garbage for each new memory of 1 GiB.`,
    rows: [
      ...COUNTS.map(count => {
        const { another, last, emptyPss, pss, pageTables } = resultOf('map', count)
        const copy = resultOf('copy', count)
        return {
          label: count.toLocaleString('en-US'),
          parameters: { count, byteLength: DATASET_BYTES },
          cells: {
            ...{ another, last, emptyPss, pss, pageTables },
            lastCopy: copy?.last ?? NO_COPIES,
            copiesPss: copy?.pss ?? NO_COPIES
          }
        }
      }),
      {
        label: `${most.count.toLocaleString('en-US')}, and no more`,
        parameters: { count: most.count, byteLength: DATASET_BYTES, reason: most.reason },
        cells: { last: most.last, pss: most.pss, pageTables: most.pageTables }
      }
    ]
  }
  const row = count => table.rows.find(({ parameters }) => parameters.count === count)
  const largest = COUNTS.at(-1)
  const { another, pss, emptyPss } = row(largest).cells
  const many = largest.toLocaleString('en-US')
  const promises = [
    {
      text: `PSS of ${many} memories that map 1 GiB, of that of the same memories with nothing in them and 1 GiB`,
      value: pss.median / (emptyPss.median + DATASET_BYTES),
      unit: 'ratio',
      atMost: 1.05
    },
    {
      text: `map and unmap beside ${many} memories, of the time beside one`,
      value: another.median / row(1).cells.another.median,
      unit: 'ratio',
      atMost: 1.5
    }
  ]
  return { tables: [table], promises }
}
