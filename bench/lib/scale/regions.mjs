// Sparse regions of 10 TiB together, a window that slides over all of them, and the page tables of
// what is touched.

import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { GuardedMemory, HostRegion, limits } from '../../../index.mjs'
import { GiB, MiB, QUICK, WASM_PAGE } from '../dataset.mjs'
import { bytes, summarize, timeOnce } from '../measure.mjs'
import { number, settledUsage, slope } from './usage.mjs'

const TiB = 2 ** 40
const SUM = QUICK ? 64 * GiB : 10 * TiB
const WINDOW_BYTES = GiB
const PARTS = [10, QUICK ? 64 : 1024]
const PAGE = 4096
const PART_BYTES = 128 * MiB

export const cases = [
  ...['memfd', 'file'].flatMap(kind => PARTS.map(count => ({ part: 'regions', kind, count }))),
  ...['small', 'huge', 'slid'].map(kind => ({ part: 'touched', kind }))
]

export const measure = (caseOf, onProgress) =>
  caseOf.part === 'regions' ? measureRegions(caseOf, onProgress) : measureTouched(caseOf)

async function measureRegions({ kind, count }, onProgress) {
  const folder = mkdtempSync(path.join(process.env.HOSTMAP_BENCH_DIR ?? os.tmpdir(), 'hostmap-'))
  // Whole windows.
  const byteLength = Math.floor(SUM / count / WINDOW_BYTES) * WINDOW_BYTES
  const make = at => {
    if (kind === 'memfd') return HostRegion.allocate(byteLength)
    const file = path.join(folder, String(at))
    const fd = openSync(file, 'w')
    ftruncateSync(fd, byteLength)
    closeSync(fd)
    return HostRegion.open(file)
  }
  try {
    const guarded = new GuardedMemory({ initial: 1 + WINDOW_BYTES / WASM_PAGE })
    const window = guarded.window({ at: WASM_PAGE, byteLength: WINDOW_BYTES })
    const bytesOf = new Uint8Array(guarded.buffer)
    limits()
    const before = await settledUsage()
    const regions = []
    const madeNs = timeOnce(() => {
      while (regions.length < count) regions.push(make(regions.length))
    })
    const made = await settledUsage()
    const slides = []
    let sum = 0
    for (const [at, region] of regions.entries()) {
      for (let offset = 0; offset < byteLength; offset += WINDOW_BYTES) {
        slides.push(timeOnce(() => window.slide(region, offset)))
        // One page of each: what it touched before goes when it slides.
        sum += bytesOf[WASM_PAGE]
      }
      onProgress((at + 1) / count)
    }
    if (sum !== 0) throw new Error('a sparse region is not zeros')
    const slid = await settledUsage()
    const limitsNs = timeOnce(limits)
    return {
      made: summarize([madeNs / count]),
      slides: slides.length,
      slide: summarize(slides),
      limits: summarize([limitsNs]),
      each: slope(before, made, count),
      eachSlid: slope(before, slid, count),
      grown: slope(before, slid, 1)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const MEMORIES = 4

/** How much of page tables a memory takes that touches all of a region of 1 GiB. */
async function measureTouched({ kind }) {
  const region = HostRegion.allocate(GiB, { hugePages: kind === 'huge' })
  new Uint8Array(region.view()).fill(1)
  const memories = Array.from(
    { length: MEMORIES },
    () => new GuardedMemory({ initial: 1 + PART_BYTES / WASM_PAGE, room: 2 * (GiB / WASM_PAGE) })
  )
  const touch = (guarded, at, byteLength) => {
    const array = new Uint8Array(guarded.buffer, at, byteLength)
    let sum = 0
    for (let page = 0; page < byteLength; page += PAGE) sum += array[page]
    return sum
  }
  const before = await settledUsage()
  let sum = 0
  if (kind === 'slid') {
    const window = memories[0].window({ at: WASM_PAGE, byteLength: PART_BYTES })
    for (let turn = 0; turn < MEMORIES; turn++) {
      for (let offset = 0; offset < GiB; offset += PART_BYTES) {
        window.slide(region, offset)
        sum += touch(memories[0], WASM_PAGE, PART_BYTES)
      }
    }
  } else for (const guarded of memories) sum += touch(guarded, guarded.map(region).address, GiB)
  if (sum !== MEMORIES * (GiB / PAGE)) throw new Error('other pages were read')
  const after = await settledUsage()
  return { pageTables: bytes(Math.max(0, (after.pageTables - before.pageTables) / MEMORIES)) }
}

const TOUCHED = {
  small: 'mapped, pages of 4 KiB',
  huge: 'mapped, pages of 2 MiB',
  slid: 'through a window of 128 MiB'
}

export function tables(results) {
  const found = results.filter(({ caseOf }) => caseOf.part === 'regions')
  const touched = results.filter(({ caseOf }) => caseOf.part === 'touched')
  const size = SUM === 10 * TiB ? '10 TiB' : '64 GiB'
  return [
    {
      id: 'scale-regions',
      title: `Sparse regions of ${size}, and one window of 1 GiB`,
      rowLabel: 'regions',
      columns: [
        { key: 'made', label: 'to make one' },
        { key: 'descriptors', label: 'descriptors each' },
        { key: 'areas', label: 'VMAs each, slid over' },
        { key: 'addressSpace', label: 'address space, slid over' },
        { key: 'slides', label: 'slides' },
        { key: 'slide', label: 'a slide' },
        { key: 'pageTables', label: 'page tables after them' },
        { key: 'limits', label: 'limits()' }
      ],
      note: 'Each slide is followed by a read of one page. Address space and page tables: what the process has more of than before.',
      rows: found.map(({ caseOf, each, eachSlid, grown, slides, ...cells }) => ({
        label: `${caseOf.count.toLocaleString('en-US')} ${caseOf.kind}s`,
        parameters: { kind: caseOf.kind, count: caseOf.count },
        cells: {
          ...cells,
          slides: number(slides),
          descriptors: number(each.descriptors),
          areas: number(eachSlid.areas),
          addressSpace: bytes(Math.max(0, grown.addressSpace)),
          pageTables: bytes(Math.max(0, grown.pageTables))
        }
      }))
    },
    {
      id: 'scale-touched',
      title: 'Page tables for each GiB that a memory touches',
      rowLabel: 'touched',
      columns: [{ key: 'pageTables', label: 'page tables' }],
      note: `A region of 1 GiB that is in memory; every page is read, in ${MEMORIES} memories, or ${MEMORIES} times by the window.`,
      rows: touched.map(({ caseOf: { kind }, pageTables }) => ({
        label: TOUCHED[kind],
        parameters: { kind },
        cells: { pageTables }
      }))
    }
  ]
}
