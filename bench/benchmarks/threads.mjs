// Several threads slide windows at once, each in its own memory.

import { once } from 'node:events'
import { closeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { HostRegion } from '../../index.mjs'
import { MiB, QUICK } from '../lib/dataset.mjs'
import { watchLocks } from '../lib/locks.mjs'
import { Samples, notMeasured, rates, share } from '../lib/measure.mjs'
import { hasNative, runNative } from '../lib/native.mjs'

export const title = 'Threads'
export const measures =
  "Workers slide windows of 1 MiB as fast as they can, each in its own memory, and touch no page. The kernel has one lock for a process's address space, so threads that map delay each other whatever they map: the native program shows how much."

export const cases = [{}]

const THREADS = [1, 2, 4]
const WINDOW_BYTES = MiB
const PARTS = 32
const SLIDES_BEFORE = 50_000
const TURNS = QUICK ? 2 : 6
const TURN_MILLISECONDS = QUICK ? 200 : 300
const WATCH_SECONDS = 2

export async function measure(_case, onProgress) {
  const region = HostRegion.allocate(PARTS * WINDOW_BYTES)
  const workerData = {
    fd: region.duplicateFd(),
    windowBytes: WINDOW_BYTES,
    parts: PARTS,
    slidesBefore: SLIDES_BEFORE
  }
  const url = new URL('../lib/slide-worker.mjs', import.meta.url)
  const crew = Array.from({ length: THREADS.at(-1) }, () => new Worker(url, { workerData }))
  try {
    await Promise.all(crew.map(worker => once(worker, 'message')))
    /** Slides per second, all threads together. */
    const slide = async (threads, milliseconds) => {
      const answers = crew.slice(0, threads).map(async worker => {
        worker.postMessage(milliseconds)
        const [perSecond] = await once(worker, 'message')
        return perSecond
      })
      return (await Promise.all(answers)).reduce((a, b) => a + b)
    }

    const samples = new Samples()
    for (let turn = 0; turn < TURNS; turn++) {
      for (const threads of THREADS) {
        samples.add(`${threads} slide`, [await slide(threads, TURN_MILLISECONDS)])
        if (!hasNative()) continue
        const { perSecond } = runNative(
          'slide-threads',
          threads,
          WINDOW_BYTES,
          PARTS,
          TURN_MILLISECONDS
        )
        samples.add(`${threads} native`, [perSecond])
      }
      onProgress(((turn + 1) / TURNS) * 0.8)
    }
    const watched = await watchLocks(WATCH_SECONDS, () =>
      slide(crew.length, (WATCH_SECONDS + 1) * 1000)
    )
    const figure = name => {
      const summary = samples.summary(name)
      return summary ? rates(summary) : notMeasured('no native program')
    }
    const rows = THREADS.map(threads => ({
      threads,
      slide: figure(`${threads} slide`),
      native: figure(`${threads} native`)
    }))
    return { rows, watched }
  } finally {
    await Promise.all(crew.map(worker => worker.terminate()))
    closeSync(workerData.fd)
  }
}

function describeLocks({ by, samples, futexCalls, switches }) {
  if (by === 'perf')
    return `Locks: by \`perf\`, ${samples.toLocaleString('en-US')} samples of the workers.`
  if (by === 'strace')
    return `Locks: by \`strace\`, ${Math.round(futexCalls)} calls of futex a second.`
  return `Locks: neither \`perf\` nor \`strace\` can be used; threads yield their processor ${Math.round(switches)} times a second, for any reason.`
}

export function report([{ rows, watched }]) {
  const most = rows.at(-1)
  const locks =
    watched.by === 'perf'
      ? { futex: share(watched.futexShare), addressSpace: share(watched.addressSpaceShare) }
      : {}
  const table = {
    id: 'threads',
    title: 'Slides a second, by threads',
    rowLabel: 'threads',
    columns: [
      { key: 'slide', label: 'slides, all together' },
      { key: 'native', label: 'native mmap, all together' },
      { label: 'slides : native', ratio: ['slide', 'native'] },
      { key: 'futex', label: 'in futex' },
      { key: 'addressSpace', label: "waiting for the kernel's lock of the address space" }
    ],
    note: `Native: as many threads of a Rust program make the same \`mmap\` call, each in its own reservation. In futex: the share of the workers' time spent waiting for locks of this library or of Node.js. ${describeLocks(watched)}`,
    rows: rows.map(({ threads, ...cells }) => ({
      label: String(threads),
      parameters: { threads, windowBytes: WINDOW_BYTES },
      cells: threads === most.threads ? { ...cells, ...locks } : cells
    }))
  }
  const gain = way => most[way].median / rows[0][way].median
  const promises = [
    {
      text: `${most.threads} threads: slides a second, of those of one thread, to the same of the native program`,
      value: gain('slide') / gain('native'),
      unit: 'ratio',
      atLeast: 0.9
    },
    {
      text: `${most.threads} threads: share of the profile in waits for locks of the process`,
      value: watched.futexShare,
      unit: 'share',
      atMost: 0.005
    }
  ]
  return { tables: [table], promises }
}
