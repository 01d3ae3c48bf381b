// The cost of using a saved snapshot: opened, its pages are the file's; loaded, they are a copy.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { GuardedMemory, Snapshot } from '../../index.mjs'
import { MiB, QUICK, WASM_PAGE, fillWithNoise } from '../lib/dataset.mjs'
import { Samples, bytes } from '../lib/measure.mjs'
import { formatBytes } from '../lib/table.mjs'

export const title = 'Opened snapshots'
export const measures =
  'The time that `Snapshot.open` and `Snapshot.load` take of a saved heap of pseudo-random bytes that is in the page cache, up to the first restore; and the memory of processes that have each read all of it and written 1 MiB.'

const HEAPS_BYTES = QUICK ? [64 * MiB] : [64 * MiB, 512 * MiB]
const WAYS = ['open', 'load']
const TURNS = QUICK ? 3 : 9
// It takes so short that a turn of another process's shows.
const OPENS = 20
const PROCESSES = 6
const WRITTEN_BYTES = MiB
const childProgram = fileURLToPath(new URL('../lib/opened-child.mjs', import.meta.url))

export const cases = HEAPS_BYTES.map(heapBytes => ({ heapBytes }))

export async function measure({ heapBytes }, onProgress) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'hostmap-bench-'))
  const file = path.join(directory, 'heap.snapshot')
  try {
    const pages = heapBytes / WASM_PAGE
    const guarded = new GuardedMemory({ initial: pages, maximum: pages })
    fillWithNoise(Buffer.from(guarded.buffer))
    const snapshot = guarded.snapshot({ hugePages: false })
    await snapshot.save(file)
    guarded.reset()
    snapshot.close()
    const samples = new Samples()
    for (let turn = 0; turn < TURNS; turn++) {
      for (let i = 0; i < OPENS; i++) {
        const started = performance.now()
        const opened = await Snapshot.open(file)
        samples.add('open', [(performance.now() - started) * 1e6])
        opened.close()
      }
      for (const way of WAYS) {
        const started = performance.now()
        const made = await Snapshot[way](file)
        samples.add(way, [(performance.now() - started) * 1e6])
        guarded.restore(made)
        samples.add(`${way} restored`, [(performance.now() - started) * 1e6])
        guarded.reset()
        made.close()
        onProgress((turn + 1) / (TURNS + 2))
      }
    }
    const memory = {}
    for (const way of WAYS) memory[way] = await pssOf(way, file)
    return WAYS.map(way => ({
      time: samples.summary(way),
      restored: samples.summary(`${way} restored`),
      one: bytes(memory[way].one),
      all: bytes(memory[way].all)
    }))
  } finally {
    fs.rmSync(directory, { recursive: true })
  }
}

/** What one process takes, and six at once. */
async function pssOf(way, file) {
  const children = []
  const start = async () => {
    const child = fork(childProgram, [way, file, String(WRITTEN_BYTES)])
    children.push(child)
    await once(child, 'message')
  }
  const total = async () => {
    let sum = 0
    for (const child of children) {
      child.send('measure')
      sum += (await once(child, 'message'))[0]
    }
    return sum
  }
  try {
    await start()
    const one = await total()
    while (children.length < PROCESSES) await start()
    return { one, all: await total() }
  } finally {
    for (const child of children) child.kill()
  }
}

export function report(found) {
  const tables = HEAPS_BYTES.map((heapBytes, at) => ({
    id: `opened-${heapBytes / MiB}`,
    title: `A saved heap of ${formatBytes(heapBytes)}`,
    rowLabel: 'way',
    columns: [
      { key: 'time', label: 'until it is there' },
      { key: 'restored', label: 'until it is restored once' },
      { key: 'one', label: 'one process takes' },
      { key: 'all', label: `${PROCESSES} processes take` }
    ],
    rows: WAYS.map((way, index) => ({
      label: `Snapshot.${way}`,
      parameters: { way },
      cells: found[at][index]
    }))
  }))
  const promises = HEAPS_BYTES.map((heapBytes, at) => ({
    text: `Snapshot.open of ${formatBytes(heapBytes)}`,
    value: found[at][0].time.median,
    unit: 'ns',
    atMost: 10e6
  }))
  return { tables, promises }
}
