// Many memories with one dataset: what the last mapping costs, and what all of them weigh.

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
import { ratioOf } from '../lib/table.mjs'

export const title = 'Memories with one dataset'
export const measures =
  "N memories map one region of 1 GiB. The first reads every page of it, each other every page of 64 MiB, so that the pages count in the process's PSS. Each N in a process of its own."

const DATASET_BYTES = GiB
const PART_BYTES = 64 * MiB
const COUNTS = [1, 10, 100, 1000]
const MOST_COPIES = 1

export const cases = [
  ...COUNTS.map(count => ({ how: 'map', count })),
  ...COUNTS.filter(count => count <= MOST_COPIES).map(count => ({ how: 'copy', count }))
]

const newMemory = () => new GuardedMemory({ initial: 1 + DATASET_BYTES / WASM_PAGE })

/** Reads a byte of each page and adds them up. */
function touch(array) {
  let sum = 0
  // 4096: the smallest host page there is; on larger ones a page is touched more than once.
  for (let i = 0; i < array.length; i += 4096) sum += array[i]
  return sum
}

export async function measure({ how, count }, onProgress) {
  const memories = Array.from({ length: count }, newMemory)
  await collectGarbage()
  const emptyPss = pssBytes()

  // The region is made through a view, and the source of the copies is that view: no second copy of the dataset is about.
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
  return result
}

/** Mapping and unmapping in one memory more, while all the others have their mapping. */
function timeAnother(memories, region) {
  const samplesNs = []
  for (let turn = 0; turn < SHORT.turns; turn++) {
    const guarded = newMemory()
    memories.push(guarded)
    samplesNs.push(...timeBatches(() => guarded.map(region, { at: WASM_PAGE }).unmap()))
  }
  return summarize(samplesNs)
}

export function report(results) {
  const resultOf = (how, count) => results[cases.findIndex(each => each.how === how && each.count === count)]
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
    note: 'The last tenth of the maps, of 1 and of 10 memories the last: single calls, each after the memory before was read, so with cold caches. PSS before is that of the same memories with nothing in them. Page tables are not part of PSS, and grow with the pages that each memory touches.',
    rows: COUNTS.map(count => {
      const { another, last, emptyPss, pss, pageTables } = resultOf('map', count)
      const copy = resultOf('copy', count)
      const missing = notMeasured('every copy takes 1 GiB')
      return {
        label: String(count),
        parameters: { count, byteLength: DATASET_BYTES },
        cells: {
          ...{ another, last, emptyPss, pss, pageTables },
          lastCopy: copy?.last ?? missing,
          copiesPss: copy?.pss ?? missing
        }
      }
    })
  }
  const row = count => table.rows.find(({ parameters }) => parameters.count === count)
  const promises = [
    {
      text: 'PSS of 1000 memories that map 1 GiB',
      value: row(1000).cells.pss.median,
      unit: 'bytes',
      atMost: 1.3 * GiB
    },
    {
      text: 'map and unmap beside 1000 memories, of the time beside one',
      value: row(1000).cells.another.median / row(1).cells.another.median,
      unit: 'ratio',
      atMost: 1.5
    }
  ]
  return { tables: [table], promises }
}
