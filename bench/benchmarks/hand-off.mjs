// The cost of handing a dataset to a module: by a mapping, by the bare system calls, and by a copy.

import assert from 'node:assert/strict'
import { GuardedMemory, HostRegion, limits } from '../../index.mjs'
import { GiB, KiB, MiB, WASM_PAGE, hostArray } from '../lib/dataset.mjs'
import { availableBytes } from '../lib/machine.mjs'
import {
  SHORT,
  Samples,
  collectGarbage,
  notMeasured,
  timeBatches,
  timeOnce
} from '../lib/measure.mjs'
import { hasNative, timeSystemCalls } from '../lib/native.mjs'
import { formatBytes, ratioOf } from '../lib/table.mjs'

export const title = 'Hand-off'
export const measures =
  "The time to put a dataset into a module's memory and to give its place back. It does not include reading: nothing touches a page through a mapping here. Each page that is touched later costs a page fault; see Scan."

export const cases = [{}]

/** Leaves a Wasm page before and after a mapping, which is what the largest memories have left. */
const AROUND_BYTES = 2 * WASM_PAGE
// The largest 32-bit memory, and V8's largest 64-bit one.
const LARGEST_32 = 4 * GiB - AROUND_BYTES
const LARGEST_64 = 16 * GiB - AROUND_BYTES
const SIZES = [64 * KiB, MiB, 64 * MiB, GiB, LARGEST_32, LARGEST_64]
const ACCESSES = ['readonly', 'private', 'shared']
const NO_MEMORY64 = 'this V8 has no 64-bit memories'

/** What is measured in alternation. */
const RATIOS = {
  atToBare: ['at', 'bare'],
  atToAdvised: ['at', 'advised'],
  endToBare: ['end', 'bare']
}

// The largest dataset with bytes. Larger ones repeat the same bytes when copied, and are empty when
// mapped.
const LARGEST_FILLED = GiB
const LARGEST_COPIED = LARGEST_32

const addressOf = byteLength => (byteLength > LARGEST_32 ? 'i64' : 'i32')

const labelOf = byteLength =>
  byteLength < LARGEST_32
    ? formatBytes(byteLength)
    : `${formatBytes(byteLength + AROUND_BYTES)} less ${formatBytes(AROUND_BYTES)}`

/** Makes a memory of this many Wasm pages and bytes. */
function memoryOf(wasmPages, byteLength, address) {
  const initial = wasmPages + byteLength / WASM_PAGE
  return new GuardedMemory(address === 'i64' ? { initial: BigInt(initial), address } : { initial })
}

export async function measure(_case, onProgress) {
  const source = hostArray(LARGEST_FILLED)
  const filled = HostRegion.copyFrom(source)
  const sparse = HostRegion.allocate(LARGEST_64)
  const sizes = SIZES.filter(
    byteLength => addressOf(byteLength) === 'i32' || limits().wasm.maxPages64 > 0
  )
  const regionOf = byteLength => (byteLength > LARGEST_FILLED ? sparse : filled)

  const samples = new Samples()
  for (let turn = 0; turn < SHORT.turns; turn++) {
    for (const byteLength of sizes) {
      // The first one finds colder caches, so they take turns at being first.
      for (let i = 0; i < ACCESSES.length; i++) {
        const access = ACCESSES[(turn + i) % ACCESSES.length]
        const key = `${byteLength} ${access}`
        mapTurn(samples, key, regionOf(byteLength), byteLength, access)
        if (!hasNative()) continue
        for (const calls of ['bare', 'advised']) {
          samples.add(`${key} ${calls}`, timeSystemCalls({ calls, access, byteLength }))
        }
      }
      await collectGarbage()
    }
    onProgress(((turn + 1) / SHORT.turns) * 0.5)
  }

  const copyNotMeasured = {}
  for (const [index, byteLength] of sizes.entries()) {
    const neededBytes = byteLength + GiB
    if (byteLength > LARGEST_COPIED)
      copyNotMeasured[byteLength] = 'per byte, copies take as long as that of 4 GiB'
    else if (availableBytes() > neededBytes) await copyTurns(samples, byteLength, source)
    else copyNotMeasured[byteLength] = `needs ${formatBytes(neededBytes)} of free memory`
    onProgress(0.5 + ((index + 1) / sizes.length) * 0.5)
  }

  const cell = (name, reason) => samples.summary(name) ?? notMeasured(reason)
  return SIZES.map(byteLength => {
    const missing = sizes.includes(byteLength) ? 'no native program' : NO_MEMORY64
    const access = Object.fromEntries(
      ACCESSES.map(access => {
        const names = ['at', 'end', 'bare', 'advised', 'firstAt', 'firstEnd', 'grow']
        const figures = names.map(name => [name, cell(`${byteLength} ${access} ${name}`, missing)])
        const ratios = Object.entries(RATIOS).map(([key, pair]) => {
          const [name, other] = pair.map(each => `${byteLength} ${access} ${each}`)
          return [key, samples.ratio(name, other) ?? notMeasured(missing)]
        })
        return [access, Object.fromEntries([...figures, ...ratios])]
      })
    )
    const copy = name => cell(`${byteLength} ${name}`, copyNotMeasured[byteLength] ?? missing)
    return { byteLength, access, copyFresh: copy('copyFresh'), copyWarm: copy('copyWarm') }
  })
}

/** One turn of mapping in two new memories, at an address and past the end. */
function mapTurn(samples, key, region, byteLength, access) {
  const address = addressOf(byteLength)
  const options = {
    // As in the native program.
    at: { at: address === 'i64' ? BigInt(WASM_PAGE) : WASM_PAGE, byteLength, access },
    end: { byteLength, access }
  }
  const memories = { at: memoryOf(2, byteLength, address), end: memoryOf(1, 0, address) }
  for (const placement of ['at', 'end']) {
    const guarded = memories[placement]
    const round = () => guarded.map(region, options[placement]).unmap()
    const first = placement === 'at' ? 'firstAt' : 'firstEnd'
    samples.add(`${key} ${first}`, [timeOnce(round)])
    samples.add(`${key} ${placement}`, timeBatches(round))
  }
  const { memory } = memoryOf(1, 0, address)
  const wasmPages = byteLength / WASM_PAGE
  const growth = address === 'i64' ? BigInt(wasmPages) : wasmPages
  samples.add(`${key} grow`, [timeOnce(() => memory.grow(growth))])
}

/**
 * What users do today: copies the bytes into memories without pages, and into one with all pages.
 */
async function copyTurns(samples, byteLength, source) {
  const part = source.subarray(0, Math.min(byteLength, source.byteLength))
  const freshCount = byteLength > GiB ? 1 : Math.max(3, Math.min(20, (2 * GiB) / byteLength))
  const warmCount = Math.max(2, Math.min(300, (4 * GiB) / byteLength))
  const copyInto = targets => {
    for (const target of targets) {
      target.set(target.byteLength === part.byteLength ? part : part.subarray(0, target.byteLength))
    }
  }
  let targets
  for (let i = 0; i < freshCount; i++) {
    targets = undefined
    await collectGarbage()
    const { buffer } = memoryOf(1, byteLength, addressOf(byteLength))
    // One array per repetition of the source: some versions of V8 don't allow one array for all.
    targets = Array.from({ length: Math.ceil(byteLength / part.byteLength) }, (_, index) => {
      const done = index * part.byteLength
      return new Uint8Array(buffer, WASM_PAGE + done, Math.min(part.byteLength, byteLength - done))
    })
    samples.add(`${byteLength} copyFresh`, [timeOnce(() => copyInto(targets))])
  }
  for (let i = 0; i < warmCount; i++) {
    samples.add(`${byteLength} copyWarm`, [timeOnce(() => copyInto(targets))])
  }
  assert.ok(targets.every(target => target.at(-1) === part[target.byteLength - 1]))
  targets = undefined
  await collectGarbage()
}

function rowsByAccess(sizes) {
  return sizes.flatMap(({ byteLength, access }) =>
    ACCESSES.map(name => ({
      label: `${labelOf(byteLength)}, ${name}`,
      parameters: { byteLength, access: name, address: addressOf(byteLength) },
      cells: access[name]
    }))
  )
}

export function report([sizes]) {
  const byCopy = {
    id: 'hand-off-by-size',
    title: 'Handing over a dataset, by size',
    rowLabel: 'size',
    columns: [
      { key: 'map', label: 'map + unmap' },
      { key: 'bare', label: 'bare mmap calls' },
      { key: 'copyFresh', label: 'copy, fresh memory' },
      { key: 'copyWarm', label: 'copy, warm memory' },
      { key: 'mapToBare', label: 'map : bare' },
      { label: 'fresh copy : map', ratio: ['copyFresh', 'map'] },
      { label: 'warm copy : map', ratio: ['copyWarm', 'map'] }
    ],
    note: 'Medians, with the 10th and 90th percentile. `readonly`, at an address. Each page that is touched later through a mapping costs a page fault, which is not included; a copy has touched them all. Map : bare is the median over turns, because both sides of a turn run under the same load. The copies are `TypedArray.set` from an ordinary array: into memory whose pages were never touched, and into the same memory again. Regions larger than 1 GiB have no pages, and copies that large repeat the same GiB. The largest sizes are what a 32-bit and a 64-bit memory hold, less a Wasm page before the mapping and one after it.',
    rows: sizes.map(({ byteLength, access: { readonly }, copyFresh, copyWarm }) => ({
      label: labelOf(byteLength),
      parameters: { byteLength, access: 'readonly', address: addressOf(byteLength) },
      cells: {
        map: readonly.at,
        bare: readonly.bare,
        mapToBare: readonly.atToBare,
        copyFresh,
        copyWarm
      }
    }))
  }

  const byAccess = {
    id: 'hand-off-by-access',
    title: 'The same, by access and place',
    rowLabel: 'size, access',
    columns: [
      { key: 'at', label: 'at an address' },
      { key: 'end', label: 'past the end' },
      { key: 'bare', label: 'bare mmap calls' },
      { key: 'advised', label: 'with madvise' },
      { key: 'atToBare', label: 'at : bare' },
      { key: 'atToAdvised', label: 'at : with madvise' },
      { key: 'endToBare', label: 'end : bare' }
    ],
    note: 'Past the end: in space that an earlier mapping left. A single-threaded Rust program makes the system calls: two of `mmap`, and with those of `madvise` that `unmap` makes, and `map` for `private` and `shared`. Ratios are medians over turns.',
    rows: rowsByAccess(sizes)
  }

  const firstTime = {
    id: 'hand-off-first',
    title: 'The first time in a memory',
    rowLabel: 'size, access',
    columns: [
      { key: 'firstAt', label: 'at an address' },
      { key: 'firstEnd', label: 'past the end' },
      { key: 'grow', label: 'memory.grow alone' },
      { label: 'end : grow', ratio: ['firstEnd', 'grow'] }
    ],
    note: "One map and unmap in a new memory. Past the end, the memory has to grow, which takes as long as V8's own `memory.grow` of that size: most of it is a garbage collection that V8 starts when this much memory is added.",
    rows: rowsByAccess(sizes)
  }

  const row = byteLength =>
    byCopy.rows.find(({ parameters }) => parameters.byteLength === byteLength)
  const medianOf = byteLength => row(byteLength).cells.map.median
  const promises = [
    { text: 'map and unmap of 1 GiB', value: medianOf(GiB), unit: 'ns', atMost: 10_000 },
    ...[MiB, LARGEST_32, LARGEST_64].map(byteLength => ({
      text: `map and unmap of ${labelOf(byteLength)}, of the time for 1 GiB`,
      value: medianOf(byteLength) / medianOf(GiB),
      unit: 'ratio',
      atMost: 1.25
    })),
    ...SIZES.filter(byteLength => byteLength >= MiB).map(byteLength => ({
      text: `map and unmap of ${labelOf(byteLength)}, of the bare system calls' time`,
      value: row(byteLength).cells.mapToBare.median,
      unit: 'ratio',
      atMost: 2
    })),
    {
      text: 'a copy of 1 GiB into a fresh memory, of the time for map and unmap',
      value: ratioOf(row(GiB), ['copyFresh', 'map']),
      unit: 'ratio',
      atLeast: 10_000
    }
  ]
  return { tables: [byCopy, byAccess, firstTime], promises, plots: [plotOf(byCopy)] }
}

/** One line per column, with its label. */
const plotOf = ({ title, rows, columns }) => ({
  name: 'hand-off',
  title,
  xLabel: 'bytes',
  xUnit: 'bytes',
  panels: [
    {
      title: 'readonly, at an address',
      lines: columns
        .filter(({ key }) => key && key !== 'mapToBare')
        .map(({ key, label }) => ({
          label,
          points: rows
            .filter(({ cells }) => cells[key].unit === 'ns')
            .map(({ parameters, cells }) => [parameters.byteLength, cells[key].median])
        }))
    }
  ]
})
