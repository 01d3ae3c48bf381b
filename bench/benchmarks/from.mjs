// HostRegion.from: a stream into a region, compared with the same stream into memory that is there.

import assert from 'node:assert/strict'
import {
  closeSync,
  createReadStream,
  ftruncateSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync
} from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { HostRegion } from '../../index.mjs'
import { GiB, KiB, MiB, QUICK } from '../lib/dataset.mjs'
import { Samples, bytes, collectGarbage, rate } from '../lib/measure.mjs'

export const title = 'A stream into a region'
export const measures = `A stream of 4 GiB into a new region by \`HostRegion.from\`, and by a loop of \`set\` into a view of a region that was allocated before and into a new Uint8Array, whose pages come when they are written, too; and into a Uint8Array whose pages are there. Resident memory is the peak beyond what the process had before; a region's own pages are in no page table of the process while it is filled. Beside it what the same stream takes where each chunk is dropped at once: chunks that V8 has not collected yet.`

const TOTAL = QUICK ? 32 * MiB : 4 * GiB
const TURNS = QUICK ? 1 : 3

const STREAMS = [
  { stream: 'memory', label: 'chunks of 64 KiB that are there' },
  { stream: 'new', label: 'new chunks of 1 MiB' },
  { stream: 'file', label: 'a file in the page cache, by fs.createReadStream' }
]
export const cases = STREAMS.map(({ stream }) => ({ stream }))

const WAYS = ['from', 'known', 'view', 'array', 'warm']
const LABELS = {
  from: '`from`',
  known: '`from`, byteLength given',
  view: 'into a view',
  array: 'into a new array',
  warm: 'into a warm array'
}

async function* chunks(byteLength, next) {
  for (let at = 0; at < TOTAL; at += byteLength) yield next(byteLength)
}

function sourceOf(stream, file) {
  if (stream === 'file') return createReadStream(file)
  if (stream === 'new') return chunks(MiB, byteLength => new Uint8Array(byteLength))
  const chunk = new Uint8Array(64 * KiB).fill(1)
  return chunks(64 * KiB, () => chunk)
}

/** Whose chunks nobody keeps. */
async function readAlone(source) {
  let at = 0
  for await (const chunk of source) at += chunk.length
  assert.equal(at, TOTAL)
}

async function copy(source, target) {
  let at = 0
  for await (const chunk of source) {
    target.set(chunk, at)
    at += chunk.length
  }
  assert.equal(at, TOTAL)
}

/** What a way needs before, and what it does. */
const ways = {
  from: () => source => HostRegion.from(source),
  known: () => source => HostRegion.from(source, { byteLength: TOTAL }),
  view: () => {
    const region = HostRegion.allocate(TOTAL)
    const target = new Uint8Array(region.view())
    return async source => {
      await copy(source, target)
      return region
    }
  },
  array: () => {
    const target = new Uint8Array(TOTAL)
    return source => copy(source, target)
  },
  warm: () => {
    const target = new Uint8Array(TOTAL).fill(1)
    return source => copy(source, target)
  }
}

const statusBytes = name =>
  Number(new RegExp(`${name}:\\s+(\\d+)`).exec(readFileSync('/proc/self/status', 'latin1'))[1]) *
  KiB

/** Makes the peak of resident memory what is resident now. */
const forgetPeak = () => writeFileSync('/proc/self/clear_refs', '5')

export async function measure({ stream }, onProgress) {
  const file = path.join(os.tmpdir(), `wasm-hostmap-bench-from-${process.pid}`)
  try {
    if (stream === 'file') {
      const fd = openSync(file, 'w')
      ftruncateSync(fd, TOTAL)
      closeSync(fd)
      for await (const _ of createReadStream(file, { highWaterMark: MiB })) void _
    }
    const samples = new Samples()
    const cpu = new Samples()
    let peak = 0
    let peakAlone = 0
    for (let turn = 0; turn < TURNS; turn++) {
      for (let i = 0; i < WAYS.length; i++) {
        // They take turns at being first.
        const way = WAYS[(turn + i) % WAYS.length]
        const run = ways[way]()
        const source = sourceOf(stream, file)
        forgetPeak()
        const before = statusBytes('VmRSS')
        const usedUs = process.cpuUsage()
        const startNs = process.hrtime.bigint()
        const region = await run(source)
        samples.add(way, [Number(process.hrtime.bigint() - startNs)])
        const { user, system } = process.cpuUsage(usedUs)
        cpu.add(way, [1000 * (user + system)])
        if (way === 'from') peak = Math.max(peak, statusBytes('VmHWM') - before)
        region?.close()
        await collectGarbage()
        onProgress((turn + (i + 1) / WAYS.length) / TURNS)
      }
      forgetPeak()
      const before = statusBytes('VmRSS')
      await readAlone(sourceOf(stream, file))
      peakAlone = Math.max(peakAlone, statusBytes('VmHWM') - before)
      await collectGarbage()
    }
    return {
      rates: Object.fromEntries(WAYS.map(way => [way, rate(samples.summary(way), TOTAL)])),
      // Of processor times, which other programs of the machine hardly change: how much of the
      // other's rate it would have alone.
      ofView: cpu.ratio('view', 'from'),
      ofArray: cpu.ratio('array', 'from'),
      peak: bytes(peak),
      peakAlone: bytes(peakAlone)
    }
  } finally {
    rmSync(file, { force: true })
  }
}

export function report(found) {
  const table = {
    id: 'from',
    title: 'A stream of 4 GiB',
    rowLabel: 'stream',
    columns: [
      ...WAYS.map(way => ({ key: way, label: LABELS[way] })),
      { key: 'ofView', label: "`from`'s rate, of the view's" },
      { key: 'ofArray', label: "of the new array's" },
      { key: 'peak', label: 'resident beside the region' },
      { key: 'peakAlone', label: 'with no region at all' }
    ],
    note: 'Ratios are medians over turns, by processor time.',
    rows: STREAMS.map(({ label, stream }, at) => ({
      label,
      parameters: { stream },
      cells: {
        ...found[at].rates,
        ofView: found[at].ofView,
        ofArray: found[at].ofArray,
        peak: found[at].peak,
        peakAlone: found[at].peakAlone
      }
    }))
  }
  const promises = STREAMS.flatMap(({ label }, at) => [
    {
      text: `${label}: the rate of the same stream into memory that was allocated before`,
      value: Math.min(found[at].ofView.median, found[at].ofArray.median),
      unit: 'ratio',
      atLeast: 0.8
    },
    {
      text: `${label}: resident memory beside the region`,
      value: found[at].peak.median,
      unit: 'bytes',
      atMost: 64 * MiB
    }
  ])
  return { tables: [table], promises }
}
