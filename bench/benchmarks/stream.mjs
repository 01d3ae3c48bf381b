// Streaming: a module reads a whole file, through a window and in other ways.

import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { HostRegion } from '../../index.mjs'
import { GiB, KiB, MiB, WASM_PAGE } from '../lib/dataset.mjs'
import { availableBytes } from '../lib/machine.mjs'
import { Samples, collectGarbage, notMeasured, rate, timeOnce } from '../lib/measure.mjs'
import { hasNative, runNative } from '../lib/native.mjs'
import {
  compileStream,
  run,
  streamByWindow,
  streamMemory,
  temporaryFile,
  writeNoise
} from '../lib/stream.mjs'
import { formatBytes, formatQuantity, ratioOf } from '../lib/table.mjs'

export const title = 'Stream'
export const measures =
  'In one call, a module adds up all 64-bit integers of a file: it asks for the next bytes until there are none. The time is that of a whole pass, including opening and unmapping the window. Warm: the file is in the page cache. Cold: it is not, and the disk sets the pace.'

// The cold file has its own process, because mapped pages can't be dropped.
export const cases = [{ part: 'warm' }, { part: 'cold' }]

// HOSTMAP_BENCH_GIB: the size of the file.
const FILE_BYTES = Number(process.env.HOSTMAP_BENCH_GIB || 4) * GiB
const COLD_BYTES = Math.min(FILE_BYTES, 2 * GiB)
const WINDOW_CHUNKS = [MiB, 4 * MiB, 16 * MiB, 64 * MiB, 256 * MiB]
const READ_CHUNKS = [64 * KiB, 256 * KiB, MiB, 4 * MiB, 16 * MiB]
// All ways take turns. The first turn does not count.
const TURNS = 4
const SCALAR_TURNS = 3
const COLD_TURNS = 3
const COLD_CHUNK = 64 * MiB

const NO_NATIVE = 'no native program'

/**
 * Runs every way of reading once per turn, with another one first each time. A way returns the sum,
 * or its time and the sum.
 */
function takeTurns(samples, ways, turns, onProgress) {
  const names = Object.keys(ways)
  for (let turn = -1; turn < turns; turn++) {
    for (let i = 0; i < names.length; i++) {
      const name = names[(turn + 1 + i) % names.length]
      let sum
      let ns = timeOnce(() => (sum = ways[name]()))
      if (typeof sum === 'object') ({ ns, sum } = sum)
      checkSum(sum)
      if (turn >= 0) samples.add(name, [ns])
      onProgress((turn + 1 + (i + 1) / names.length) / (turns + 1))
    }
  }
}

let expectedSum
function checkSum(sum) {
  expectedSum ??= sum
  if (sum !== expectedSum)
    throw new Error(`two ways read different bytes: the sums are ${sum} and ${expectedSum}`)
}

const nativeSum = (file, byteLength, instructions, threads) => {
  const { ns, sum } = runNative('sum', file, byteLength, instructions, threads)
  return { ns, sum: BigInt(sum) }
}

/** The alternative without windows: reads the bytes into the module's memory, to one place. */
function streamByReads(module, guarded, file, chunk, instructions) {
  const fd = openSync(file, 'r')
  try {
    const target = new Uint8Array(guarded.buffer, WASM_PAGE, chunk)
    let position = 0
    const next = () => {
      const byteLength = readSync(fd, target, 0, chunk, position)
      position += byteLength
      return byteLength
    }
    return run(module, guarded, { next, pointer: () => WASM_PAGE }, instructions)
  } finally {
    closeSync(fd)
  }
}

const best = (samples, names) =>
  names.reduce((a, b) => (samples.summary(b).median < samples.summary(a).median ? b : a))

export async function measure({ part }, onProgress) {
  return part === 'warm' ? measureWarm(onProgress) : measureCold(onProgress)
}

/** These samples as a rate. */
const rateIn = (samples, byteLength) => (name, reason) => {
  const summary = samples.summary(name)
  return summary ? rate(summary, byteLength) : notMeasured(reason ?? NO_NATIVE)
}

const onlyPart = (onProgress, from, to) => fraction => onProgress(from + (to - from) * fraction)

async function measureWarm(onProgress) {
  const neededBytes = FILE_BYTES + 3 * GiB
  if (availableBytes() < neededBytes) {
    throw new Error(
      `needs ${formatBytes(neededBytes)} of free memory for the page cache; set HOSTMAP_BENCH_GIB for a smaller file`
    )
  }
  const file = temporaryFile('noise')
  writeNoise(file, FILE_BYTES, onlyPart(onProgress, 0, 0.2))
  const module = await compileStream()
  const region = HostRegion.open(file)
  const samples = new Samples()
  const setting = { file, module, region, samples }

  warmTurns(setting, onlyPart(onProgress, 0.2, 0.7))
  const chosen = scalarTurns(setting, onlyPart(onProgress, 0.7, 0.8))
  await workerTurns(setting, chosen.windowChunk, onlyPart(onProgress, 0.8, 1))
  mustBeCached(file)

  const figure = rateIn(samples, FILE_BYTES)
  return {
    chosen,
    windows: WINDOW_CHUNKS.map(chunk => ({
      on: figure(`window ${chunk} on`),
      off: figure(`window ${chunk} off`)
    })),
    reads: READ_CHUNKS.map(chunk => figure(`read ${chunk}`)),
    simd: figure('native simd'),
    scalar: Object.fromEntries(
      ['window', 'read', 'native'].map(way => [way, figure(`scalar ${way}`)])
    ),
    threads: [1, 2].map(threads =>
      Object.fromEntries(['on', 'off', 'native'].map(way => [way, figure(`${threads} ${way}`)]))
    )
  }
}

const READ_AHEAD = { on: true, off: false }

function warmTurns({ file, module, region, samples }, onProgress) {
  const guarded = streamMemory()
  const ways = {}
  for (const chunk of WINDOW_CHUNKS) {
    for (const [name, readAhead] of Object.entries(READ_AHEAD)) {
      ways[`window ${chunk} ${name}`] = () =>
        streamByWindow(module, guarded, region, { chunk, readAhead })
    }
  }
  for (const chunk of READ_CHUNKS) {
    // In its own memory, so that a window does not take away its pages.
    const target = streamMemory(chunk)
    ways[`read ${chunk}`] = () => streamByReads(module, target, file, chunk, 'simd')
  }
  if (hasNative()) ways['native simd'] = () => nativeSum(file, FILE_BYTES, 'simd', 1)
  takeTurns(samples, ways, TURNS, onProgress)
}

/** Measures with the best chunks, and says which they were. */
function scalarTurns({ file, module, region, samples }, onProgress) {
  const chunkOf = name => Number(name.split(' ')[1])
  const windowChunk = chunkOf(
    best(
      samples,
      WINDOW_CHUNKS.map(chunk => `window ${chunk} on`)
    )
  )
  const readChunk = chunkOf(
    best(
      samples,
      READ_CHUNKS.map(chunk => `read ${chunk}`)
    )
  )
  const guarded = streamMemory()
  const target = streamMemory(readChunk)
  const instructions = 'scalar'
  const ways = {
    'scalar window': () =>
      streamByWindow(module, guarded, region, { chunk: windowChunk, instructions }),
    'scalar read': () => streamByReads(module, target, file, readChunk, instructions)
  }
  if (hasNative()) ways['scalar native'] = () => nativeSum(file, FILE_BYTES, instructions, 1)
  takeTurns(samples, ways, SCALAR_TURNS, onProgress)
  return { windowChunk, readChunk }
}

/**
 * One worker reads the whole file, and two read a half each. All have their own memory and window.
 */
async function workerTurns({ file, module, region, samples }, chunk, onProgress) {
  const workerData = { module, file }
  const crew = [1, 2].map(
    () => new Worker(new URL('../lib/stream-worker.mjs', import.meta.url), { workerData })
  )
  try {
    await Promise.all(crew.map(worker => once(worker, 'message')))
    const work = async (worker, options) => {
      worker.postMessage(options)
      const [sum] = await once(worker, 'message')
      return sum
    }
    for (let turn = -1; turn < TURNS; turn++) {
      for (const threads of [1, 2]) {
        const parts = region.split(threads, { align: MiB })
        for (const [name, readAhead] of Object.entries(READ_AHEAD)) {
          const startNs = process.hrtime.bigint()
          const sums = await Promise.all(
            parts.map((bounds, index) => work(crew[index], { chunk, readAhead, ...bounds }))
          )
          const elapsedNs = Number(process.hrtime.bigint() - startNs)
          checkSum(
            BigInt.asUintN(
              64,
              sums.reduce((a, b) => a + b)
            )
          )
          if (turn >= 0) samples.add(`${threads} ${name}`, [elapsedNs])
        }
        if (!hasNative()) continue
        const { ns, sum } = nativeSum(file, FILE_BYTES, 'simd', threads)
        checkSum(sum)
        if (turn >= 0) samples.add(`${threads} native`, [ns])
      }
      onProgress((turn + 2) / (TURNS + 1))
    }
  } finally {
    await Promise.all(crew.map(worker => worker.terminate()))
  }
}

/** Throws if pages left the page cache: then this would have measured the disk. */
function mustBeCached(file) {
  if (!hasNative()) return
  const { residentBytes } = runNative('resident', file)
  if (residentBytes < FILE_BYTES) {
    throw new Error(
      `only ${formatBytes(residentBytes)} of the file stayed in the page cache; set HOSTMAP_BENCH_GIB for a smaller file`
    )
  }
}

/** Reads a file that is dropped from the page cache before each pass. */
async function measureCold(onProgress) {
  const file = temporaryFile('noise')
  writeNoise(file, COLD_BYTES, onlyPart(onProgress, 0, 0.3))
  const samples = new Samples()
  const reason = hasNative()
    ? await coldTurns(file, samples, onlyPart(onProgress, 0.3, 1))
    : NO_NATIVE
  const figure = rateIn(samples, COLD_BYTES)
  return Object.fromEntries(['on', 'off', 'dd'].map(way => [way, figure(way, reason)]))
}

/** Returns the reason if it can't be measured. */
async function coldTurns(file, samples, onProgress) {
  const module = await compileStream()
  const guarded = streamMemory()
  const sums = new Set()
  const byWindow = readAhead => () => {
    const region = HostRegion.open(file)
    sums.add(streamByWindow(module, guarded, region, { chunk: COLD_CHUNK, readAhead }))
    region.close()
  }
  const dd = () => execFileSync('dd', [`if=${file}`, 'of=/dev/null', 'bs=1M'], { stdio: 'ignore' })
  const ways = Object.entries({ on: byWindow(true), off: byWindow(false), dd })
  for (let turn = -1; turn < COLD_TURNS; turn++) {
    for (let i = 0; i < ways.length; i++) {
      const [name, pass] = ways[(turn + 1 + i) % ways.length]
      // A source's readahead may stay mapped until it is collected.
      await collectGarbage()
      const { residentBytes } = runNative('drop', file)
      if (residentBytes > COLD_BYTES / 100) {
        return `${formatQuantity(residentBytes, 'bytes')} of the file can't be dropped from the page cache`
      }
      const ns = timeOnce(pass)
      if (turn >= 0) samples.add(name, [ns])
    }
    onProgress((turn + 2) / (COLD_TURNS + 1))
  }
  if (sums.size !== 1) throw new Error(`two passes read different bytes: the sums are ${[...sums]}`)
  return null
}

export function report([{ chosen, windows, reads, simd, scalar, threads }, cold]) {
  const windowFigure = windows[WINDOW_CHUNKS.indexOf(chosen.windowChunk)]
  const readFigure = reads[READ_CHUNKS.indexOf(chosen.readChunk)]

  const byChunk = {
    id: 'stream-by-chunk',
    title: `${formatBytes(FILE_BYTES)} in the page cache, by chunk`,
    rowLabel: 'chunk',
    columns: [
      { key: 'on', label: 'window' },
      { key: 'off', label: 'window, no read-ahead' },
      { key: 'read', label: 'fs.readSync' }
    ],
    note: "Median rate of a pass, with the 10th and 90th percentile. fs.readSync: `next` reads each chunk to the same place in the module's memory.",
    rows: [...new Set([...READ_CHUNKS, ...WINDOW_CHUNKS])]
      .sort((a, b) => a - b)
      .map(chunk => ({
        label: formatBytes(chunk),
        parameters: { chunk },
        cells: { ...windows[WINDOW_CHUNKS.indexOf(chunk)], read: reads[READ_CHUNKS.indexOf(chunk)] }
      }))
  }

  const byWay = {
    id: 'stream-by-way',
    title: 'Each with its best chunk',
    rowLabel: 'program',
    columns: [
      { key: 'window', label: 'window' },
      { key: 'read', label: 'fs.readSync' },
      { key: 'native', label: 'native' },
      { label: 'window : fs.readSync', ratio: ['window', 'read'] },
      { label: 'window : native', ratio: ['window', 'native'] }
    ],
    note: `Chunks of ${formatBytes(chosen.windowChunk)} for the window and ${formatBytes(chosen.readChunk)} for \`fs.readSync\`. Native: a single-threaded Rust program that maps the whole file and adds with 128-bit vectors, as the module does, or with 64-bit integers.`,
    rows: [
      { label: 'SIMD sum', cells: { window: windowFigure.on, read: readFigure, native: simd } },
      { label: 'scalar sum', cells: scalar }
    ].map(row => ({ ...row, parameters: chosen }))
  }

  const byThreads = {
    id: 'stream-by-threads',
    title: 'The same, by two workers',
    rowLabel: 'way',
    columns: [
      { key: 'one', label: 'one thread' },
      { key: 'two', label: 'two threads' },
      { label: 'two : one', ratio: ['two', 'one'] }
    ],
    note: 'Each worker has its own memory and window, and a half of the file by `region.split`. The speedup of two native threads is what the memory of the machine allows. Readahead has a thread per window.',
    rows: Object.entries({ on: 'windows', off: 'windows, no read-ahead', native: 'native' }).map(
      ([way, label]) => ({
        label,
        parameters: { chunk: chosen.windowChunk },
        cells: { one: threads[0][way], two: threads[1][way] }
      })
    )
  }

  const coldTable = {
    id: 'stream-cold',
    title: `${formatBytes(COLD_BYTES)} not in the page cache`,
    rowLabel: 'file',
    columns: [
      { key: 'on', label: 'window' },
      { key: 'off', label: 'window, no read-ahead' },
      { key: 'dd', label: 'dd bs=1M' },
      { label: 'window : dd', ratio: ['on', 'dd'] }
    ],
    note: `Chunks of ${formatBytes(COLD_CHUNK)}. \`posix_fadvise\` drops the pages before each pass. For all three, the disk's own cache, or that of a virtual machine's host, may still have them.`,
    rows: [
      { label: 'cold', parameters: { byteLength: COLD_BYTES, chunk: COLD_CHUNK }, cells: cold }
    ]
  }

  const twoToOne = Object.fromEntries(
    byThreads.rows.map((row, index) => [
      ['on', 'off', 'native'][index],
      ratioOf(row, ['two', 'one'])
    ])
  )
  const allowed = Number.isFinite(twoToOne.native)
    ? `, where two native threads have ${formatQuantity(twoToOne.native, 'ratio')}`
    : ''
  const [simdRow] = byWay.rows
  const promises = [
    {
      text: 'a window, of the rate of fs.readSync, SIMD, each with its best chunk',
      value: ratioOf(simdRow, ['window', 'read']),
      unit: 'ratio',
      atLeast: 1.3
    },
    {
      text: 'a window, of the rate of the native program, SIMD',
      value: ratioOf(simdRow, ['window', 'native']),
      unit: 'ratio',
      atLeast: 0.9
    },
    {
      text: 'a window over a cold file, of the rate of dd',
      value: ratioOf(coldTable.rows[0], ['on', 'dd']),
      unit: 'ratio',
      atLeast: 0.95
    },
    ...['on', 'off'].map(way => ({
      text: `two workers, of the rate of one, ${way === 'on' ? 'with' : 'without'} read-ahead${allowed}`,
      value: twoToOne[way],
      unit: 'ratio',
      // If the machine's memory allows it.
      atLeast: Number.isFinite(twoToOne.native) ? Math.min(1.8, 0.9 * twoToOne.native) : 1.8
    }))
  ]
  return { tables: [byChunk, byWay, byThreads, coldTable], promises }
}
