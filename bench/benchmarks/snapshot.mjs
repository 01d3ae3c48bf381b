// The cost of taking a snapshot, beside copies of the same bytes, and what it takes of memory.

import assert from 'node:assert/strict'
import { GuardedMemory, HostRegion } from '../../index.mjs'
import { MiB, QUICK, WASM_PAGE, fillWithNoise } from '../lib/dataset.mjs'
import { pssBytes } from '../lib/machine.mjs'
import { Samples, bytes, collectGarbage, timeOnce } from '../lib/measure.mjs'
import { formatBytes } from '../lib/table.mjs'

export const title = 'Snapshot'
export const measures =
  'The time that `snapshot()` takes of a heap of pseudo-random bytes. A copy: `Buffer.copy` into new memory. A write: of the same bytes into a memfd. Afterwards: 30 restores, each after 100 pages were written, and a write to each page.'

const HEAPS_BYTES = [64 * MiB, 512 * MiB]
const TURNS = QUICK ? 2 : 5
const PAGE = 4096
const RESTORES = 30
const WAYS = [
  { key: 'huge', label: 'snapshot()', options: {} },
  { key: 'small', label: 'hugePages: false', options: { hugePages: false } },
  { key: 'apart', label: 'sharePages: false', options: { sharePages: false } },
  { key: 'plain', label: 'both false', options: { hugePages: false, sharePages: false } }
]

export const cases = HEAPS_BYTES.map(heapBytes => ({ heapBytes }))

export async function measure({ heapBytes }, onProgress) {
  const pages = heapBytes / WASM_PAGE
  const guarded = new GuardedMemory({ initial: pages, maximum: pages })
  const heap = Buffer.from(guarded.buffer)
  const samples = new Samples()
  const memory = {}
  for (let turn = 0; turn < TURNS; turn++) {
    for (let i = 0; i < WAYS.length; i++) {
      const { key, options } = WAYS[(turn + i) % WAYS.length]
      // Pages of its own.
      guarded.reset()
      fillWithNoise(heap)
      await collectGarbage()
      // A virtual machine may have given free memory back to its host, and waits for it again.
      warmUp(heapBytes)
      samples.add('copy', [timeOnce(() => heap.copy(Buffer.allocUnsafeSlow(heapBytes)))])
      await collectGarbage()
      warmUp(heapBytes)
      samples.add('write', [timeOnce(() => HostRegion.copyFrom(heap).close())])
      warmUp(heapBytes)
      const before = pssBytes()
      let snapshot
      samples.add(key, [timeOnce(() => (snapshot = guarded.snapshot(options)))])
      memory[key] = pssBytes() - before + heapBytes + snapshot.residentBytes
      samples.add(`${key} first`, [restoreAll(guarded, heap, snapshot)])
      samples.add(`${key} later`, [restoreAll(guarded, heap, snapshot)])
      guarded.reset()
      fillWithNoise(heap)
      guarded.snapshot(options).close()
      samples.add(`${key} written`, [timeOnce(() => writeAll(heap))])
      snapshot.close()
      onProgress((turn * WAYS.length + i + 1) / (TURNS * WAYS.length))
    }
  }
  assert(samples.summary('copy').samples === TURNS * WAYS.length)
  return WAYS.map(({ key }) => ({
    time: samples.summary(key),
    copy: samples.summary('copy'),
    write: samples.summary('write'),
    first: samples.summary(`${key} first`),
    later: samples.summary(`${key} later`),
    written: samples.summary(`${key} written`),
    memory: bytes(memory[key])
  }))
}

const warmUp = heapBytes => HostRegion.allocate(heapBytes, { hugePages: true }).close()

function restoreAll(guarded, heap, snapshot) {
  let elapsedNs = 0
  for (let i = 0; i < RESTORES; i++) {
    for (let page = 0; page < 100; page++) heap[((page * heap.length) / 100) | 0] ^= 1
    elapsedNs += timeOnce(() => guarded.restore(snapshot))
  }
  return elapsedNs
}

function writeAll(heap) {
  for (let at = 0; at < heap.length; at += PAGE) heap[at] ^= 1
}

export function report(found) {
  const tables = HEAPS_BYTES.map((heapBytes, at) => ({
    id: `snapshot-${heapBytes / MiB}`,
    title: `A heap of ${formatBytes(heapBytes)}`,
    rowLabel: 'way',
    columns: [
      { key: 'time', label: 'snapshot' },
      { key: 'copy', label: 'a copy' },
      { key: 'write', label: 'a write to a memfd' },
      { label: 'snapshot : copy', ratio: ['time', 'copy'] },
      { key: 'memory', label: 'memory and snapshot take' },
      { key: 'first', label: `the first ${RESTORES} restores` },
      { key: 'later', label: `the next ${RESTORES}` },
      { key: 'written', label: 'or: a write to each page' }
    ],
    rows: WAYS.map(({ key, label }, way) => ({
      label,
      parameters: { way: key },
      cells: found[at][way]
    }))
  }))
  const promises = HEAPS_BYTES.flatMap((heapBytes, at) =>
    WAYS.map(({ label }, way) => ({
      text: `a snapshot of ${formatBytes(heapBytes)}, ${label}, beside a copy`,
      value: found[at][way].time.median / found[at][way].copy.median,
      unit: 'ratio',
      atMost: 1.5
    }))
  )
  return { tables, promises }
}
