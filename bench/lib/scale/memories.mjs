// What V8 takes for the Nth memory: time, collections, and what it counts as external memory.

import { PerformanceObserver, constants } from 'node:perf_hooks'
import { GuardedMemory } from '../../../index.mjs'
import { GiB, QUICK, WASM_PAGE } from '../dataset.mjs'
import { bytes, collectGarbage, count, summarize } from '../measure.mjs'
import { bytesOrNone, number, processorNs, slope, usage } from './usage.mjs'

const STEPS = QUICK ? [100, 200] : [100, 1000, 10_000]
const KINDS = [
  { kind: 'small', label: '64 KiB', byteLength: WASM_PAGE, most: 10_000 },
  { kind: 'large', label: '1 GiB', byteLength: GiB, most: 1000 }
]
const MAKERS = {
  plain: initial => new WebAssembly.Memory({ initial }),
  guarded: initial => new GuardedMemory({ initial })
}

export const cases = KINDS.flatMap(({ kind }) =>
  Object.keys(MAKERS).map(maker => ({ kind, maker }))
)

/** Counts full collections, by a list that the observer fills a turn of the event loop later. */
function watchCollections() {
  let full = 0
  let ns = 0
  const observer = new PerformanceObserver(list => {
    for (const { detail, duration } of list.getEntries()) {
      if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) full += 1
      ns += duration * 1e6
    }
  })
  observer.observe({ entryTypes: ['gc'] })
  return async () => {
    await new Promise(resolve => setTimeout(resolve, 20))
    return { full, ns }
  }
}

export async function measure({ kind, maker }, onProgress) {
  const { byteLength, most } = KINDS.find(each => each.kind === kind)
  const make = () => MAKERS[maker](byteLength / WASM_PAGE)
  make()
  await collectGarbage()
  const collections = watchCollections()
  const memories = []
  const rows = []
  for (const upTo of STEPS.filter(step => step <= most)) {
    const from = memories.length
    const [before, gcBefore] = [usage(), await collections()]
    const allNs = processorNs(() => {
      while (memories.length < upTo) memories.push(make())
    })
    const [after, gc] = [usage(), await collections()]
    const made = upTo - from
    rows.push({
      upTo,
      time: summarize([allNs / made]),
      collections: count(gc.full - gcBefore.full),
      collecting: summarize([(gc.ns - gcBefore.ns) / made]),
      external: bytes(process.memoryUsage().external),
      each: slope(before, after, made)
    })
    onProgress(upTo / most)
  }
  return { rows }
}

export function tables(results) {
  const rows = KINDS.flatMap(({ kind, label }) => {
    const of = maker =>
      results.find(({ caseOf }) => caseOf.kind === kind && caseOf.maker === maker).rows
    const plain = of('plain')
    return of('guarded').map(({ upTo, each, ...cells }, at) => ({
      label: `${label}, up to ${upTo.toLocaleString('en-US')}`,
      parameters: { kind, count: upTo },
      cells: {
        ...cells,
        plain: plain[at].time,
        plainCollections: plain[at].collections,
        areas: number(each.areas),
        addressSpace: bytesOrNone(each.addressSpace),
        resident: bytesOrNone(each.anonymous)
      }
    }))
  })
  return [
    {
      id: 'scale-memories',
      title: 'The Nth memory',
      rowLabel: 'memories',
      columns: [
        { key: 'time', label: 'to make one' },
        { key: 'collecting', label: 'waiting for collections' },
        { key: 'collections', label: 'full collections' },
        { key: 'plain', label: 'a WebAssembly.Memory' },
        { key: 'plainCollections', label: 'full collections' },
        { key: 'external', label: 'external memory, by V8' },
        { key: 'addressSpace', label: 'address space each' },
        { key: 'areas', label: 'VMAs each' },
        { key: 'resident', label: 'resident each' }
      ],
      note: 'Processor time of all threads, and time in collections: means over the memories of a row, which all stay; the row before is not made again. Nothing is mapped.',
      rows
    }
  ]
}
