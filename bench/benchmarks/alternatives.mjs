// What users do today to let a module read the host's data, compared with a mapping.

import { closeSync, openSync, readSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { GuardedMemory, HostRegion } from '../../index.mjs'
import { MiB, QUICK, WASM_PAGE, hostArray } from '../lib/dataset.mjs'
import { Samples, collectGarbage, notMeasured } from '../lib/measure.mjs'
import { compile } from '../lib/module.mjs'
import { loadPeer } from '../lib/peers.mjs'
import { temporaryFile } from '../lib/stream.mjs'
import { compileSums } from '../lib/sum.mjs'
import { formatBytes, ratioOf } from '../lib/table.mjs'

export const title = 'Alternatives'
export const measures =
  'A module adds up all 64-bit integers of a dataset in the host. The time includes handing the dataset over, computing the sum, and giving the dataset back.'

export const cases = [{}]

const DATASET_BYTES = 64 * MiB
const TURNS = QUICK ? 2 : 10

const IMPORTING_WAT = `
(module
  (import "data" "at" (func $at (param i32) (result i64)))
  ;; The sum, modulo 2^64, of so many elements.
  (func (export "sum") (param $count i32) (result i64)
    (local $index i32) (local $sum i64)
    (loop $next
      (local.set $sum (i64.add (local.get $sum) (call $at (local.get $index))))
      (local.set $index (i32.add (local.get $index) (i32.const 1)))
      (br_if $next (i32.ne (local.get $index) (local.get $count))))
    (local.get $sum)))
`

const LABELS = {
  map: '`map` of a region, and `unmap`',
  'mmap-io': '`mmap-io` maps a file, and `TypedArray.set`',
  shm: '`shm-typed-array` attaches a segment, and `TypedArray.set`',
  warm: '`TypedArray.set` into a memory that has its pages',
  fresh: '`TypedArray.set` into a new memory',
  read: '`fs.readSync` of a file in the page cache into the memory',
  clone: 'structured clone to a worker, and `TypedArray.set` there',
  import: 'an imported function called for each 8 bytes'
}

const newMemory = () => new GuardedMemory({ initial: 1 + DATASET_BYTES / WASM_PAGE })

/**
 * Returns the functions by name, which return the sum or a promise of it; why some are missing; and
 * what ends them all.
 */
async function openWays() {
  const over = await compileSums()
  const source = hostArray(DATASET_BYTES)
  const file = temporaryFile('noise')
  writeFileSync(file, source)
  const ends = []
  const reasons = {}

  const warm = newMemory()
  const target = new Uint8Array(warm.buffer, WASM_PAGE)
  const sumOfWarm = over(warm.memory).simd
  const copied = bytes => {
    target.set(bytes)
    return sumOfWarm(WASM_PAGE, DATASET_BYTES)
  }
  copied(source)

  const region = HostRegion.copyFrom(source)
  const mapped = new GuardedMemory({ initial: 1 })
  const sumOfMapped = over(mapped.memory).simd
  const ways = {
    map() {
      const mapping = mapped.map(region)
      const sum = sumOfMapped(mapping.address, DATASET_BYTES)
      mapping.unmap()
      return sum
    },
    warm: () => copied(source),
    fresh() {
      const guarded = newMemory()
      new Uint8Array(guarded.buffer).set(source, WASM_PAGE)
      return over(guarded.memory).simd(WASM_PAGE, DATASET_BYTES)
    },
    read() {
      const fd = openSync(file, 'r')
      let done = 0
      while (done < DATASET_BYTES) done += readSync(fd, target, done, DATASET_BYTES - done, done)
      closeSync(fd)
      return sumOfWarm(WASM_PAGE, DATASET_BYTES)
    }
  }

  const elements = new BigInt64Array(source.buffer)
  const data = { at: index => elements[index] }
  const importing = new WebAssembly.Instance(await compile('importing', IMPORTING_WAT), { data })
  ways.import = () => importing.exports.sum(elements.length)

  const worker = new Worker(new URL('../lib/clone-worker.mjs', import.meta.url), {
    workerData: { byteLength: DATASET_BYTES }
  })
  ends.push(() => worker.terminate())
  await once(worker, 'message')
  ways.clone = async () => {
    worker.postMessage(source)
    const [sum] = await once(worker, 'message')
    return sum
  }

  const mmap = loadPeer('mmap-io')
  if (mmap.peer) ways['mmap-io'] = () => copied(mapFile(mmap.peer, file))
  else reasons['mmap-io'] = mmap.reason

  const shm = loadPeer('shm-typed-array')
  if (shm.peer) {
    const segment = shm.peer.create(DATASET_BYTES, 'Uint8Array')
    ends.push(() => shm.peer.destroy(segment.key))
    segment.set(source)
    ways.shm = () => copied(shm.peer.get(segment.key, 'Uint8Array'))
  } else reasons.shm = shm.reason

  return { ways, reasons, end: () => Promise.all(ends.map(end => end())) }
}

function mapFile({ map, PROT_READ, MAP_SHARED }, file) {
  const fd = openSync(file, 'r')
  try {
    return map(DATASET_BYTES, PROT_READ, MAP_SHARED, fd)
  } finally {
    closeSync(fd)
  }
}

export async function measure(_case, onProgress) {
  const { ways, reasons, end } = await openWays()
  try {
    const samples = new Samples()
    const names = Object.keys(ways)
    let expected
    for (let turn = -1; turn < TURNS; turn++) {
      for (let i = 0; i < names.length; i++) {
        const name = names[(turn + 1 + i) % names.length]
        await collectGarbage()
        const startNs = process.hrtime.bigint()
        const sum = await ways[name]()
        const ns = Number(process.hrtime.bigint() - startNs)
        expected ??= sum
        if (sum !== expected)
          throw new Error(`${name} read different bytes: the sum is ${sum}, not ${expected}`)
        // The first turn does not count.
        if (turn >= 0) samples.add(name, [ns])
      }
      onProgress((turn + 2) / (TURNS + 1))
    }
    return Object.fromEntries(
      Object.keys(LABELS).map(name => [name, samples.summary(name) ?? notMeasured(reasons[name])])
    )
  } finally {
    await end()
  }
}

export function report([figures]) {
  const table = {
    id: 'alternatives',
    title: `${formatBytes(DATASET_BYTES)}, until its sum is known`,
    rowLabel: 'way',
    columns: [
      { key: 'time', label: 'time' },
      { label: 'of the time of map', ratio: ['time', 'map'] }
    ],
    note: "All pages are in memory. The sum uses SIMD, except with the imported function, which returns BigInts. `mmap-io` and `shm-typed-array` return a Buffer over shared pages, which a module can't read, so its bytes are copied into the memory. The time includes making new memories, but not collecting garbage.",
    rows: Object.entries(LABELS).map(([way, label]) => ({
      label,
      parameters: { way, byteLength: DATASET_BYTES },
      cells: { time: figures[way], map: figures.map }
    }))
  }
  const others = table.rows.slice(1).map(row => ratioOf(row, ['time', 'map']))
  const promises = [
    {
      text: `the fastest of the others, of the time of \`map\`, ${formatBytes(DATASET_BYTES)}`,
      value: Math.min(...others.filter(Number.isFinite)),
      unit: 'ratio',
      atLeast: 1
    }
  ]
  return { tables: [table], promises }
}
