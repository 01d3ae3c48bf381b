// Several threads slide windows, map, restore and fault at once, each in its own memory.

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

/** What eight threads do, each over and over: operations of bench/lib/hot-calls.mjs. */
const CREW = 8
const CALLS = {
  'map and unmap': ['map and unmap, at an address'],
  'slide, memfd': ['slide, memfd'],
  'slide, file': ['slide, file'],
  'restore, clean': ['restore, nothing written'],
  'acquire and release': ['pool, acquire and release'],
  'map, a stray write, unmap': ['map, a stray write, unmap'],
  'all of these in turn': [
    'map and unmap, at an address',
    'slide, memfd',
    'slide, file',
    'restore, nothing written',
    'pool, acquire and release',
    'map, a stray write, unmap'
  ]
}

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
    onProgress(0.9)
    await Promise.all(crew.map(worker => worker.terminate()))
    const waits = []
    for (const [call, names] of Object.entries(CALLS)) waits.push(await waitsOf(call, names))
    return { rows, watched, waits }
  } finally {
    await Promise.all(crew.map(worker => worker.terminate()))
    closeSync(workerData.fd)
  }
}

/** What eight threads wait for that do this. */
async function waitsOf(call, names) {
  const url = new URL('../lib/hot-worker.mjs', import.meta.url)
  const workerData = { names, roundsBefore: QUICK ? 20 : 2000 }
  // Each tells of its first stray write.
  const options = { workerData, execArgv: ['--no-warnings'] }
  const crew = Array.from({ length: CREW }, () => new Worker(url, options))
  try {
    await Promise.all(crew.map(worker => once(worker, 'message')))
    const watched = await watchLocks(WATCH_SECONDS, () =>
      Promise.all(
        crew.map(worker => {
          worker.postMessage((WATCH_SECONDS + 1) * 1000)
          return once(worker, 'message')
        })
      )
    )
    return { call, watched }
  } finally {
    await Promise.all(crew.map(worker => worker.terminate()))
  }
}

function describeLocks({ by, samples, futexCalls, switches }) {
  if (by === 'perf')
    return `Locks: by \`perf\`, ${samples.toLocaleString('en-US')} samples of the workers.`
  if (by === 'strace')
    return `Locks: by \`strace\`, ${Math.round(futexCalls)} calls of futex a second.`
  return `Locks: neither \`perf\` nor \`strace\` can be used; threads yield their processor ${Math.round(switches)} times a second, for any reason.`
}

export function report([{ rows, watched, waits }]) {
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
  const waitsTable = {
    id: 'thread-waits',
    title: `What ${CREW} threads wait for, each with a memory of its own`,
    rowLabel: 'call',
    columns: [
      { key: 'own', label: "in futex, but for Node.js's own" },
      { key: 'futex', label: 'in futex' },
      { key: 'addressSpace', label: "waiting for the kernel's lock of the address space" }
    ],
    note: "Shares of the process's processor time, by `perf`. What of futex is not Node.js's own is Rust's locks, and waking the thread that tells of faults. `npm run test:locks` counts locks, which does not depend on the number of processors.",
    rows: waits.map(({ call, watched: by }) => ({
      label: call,
      parameters: { call, threads: CREW },
      cells:
        by.by === 'perf'
          ? {
              own: share(by.ownFutexShare),
              futex: share(by.futexShare),
              addressSpace: share(by.addressSpaceShare)
            }
          : {
              own: notMeasured('perf can not be used'),
              futex: notMeasured('perf can not be used'),
              addressSpace: notMeasured('perf can not be used')
            }
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
    },
    {
      text: `${CREW} threads that do all in turn: share of the profile in futex that is not Node.js's`,
      value: waits.at(-1).watched.ownFutexShare,
      unit: 'share',
      atMost: 0.005
    }
  ]
  return { tables: [table, waitsTable], promises }
}
