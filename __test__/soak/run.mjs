// Maps, slides, streams, faults, grows, views, closes and collects on all cores for a while, checks
// every byte that it reads, and watches what the process holds: nothing of it may grow with the
// rounds.
//
//   node __test__/soak/run.mjs                         10 minutes
//   node __test__/soak/run.mjs --minutes 1 --seed 7    others
//   --threads N                                        default: as many as there are cores
//
// Every few seconds all threads let go of everything and collect; what is left then is measured.
// Exits with code 1 if some of it grows, or some byte or count was wrong.

import { randomInt } from 'node:crypto'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Worker } from 'node:worker_threads'
import { zeroCounts } from './counts.mjs'
import { TITLES, cells, judge } from './flat.mjs'

const require = createRequire(import.meta.url)
const { HostRegion, GuardedMemory, limits } = require('../..')
const { noise } = require('../support/files.js')
const { assemble } = require('../support/wasm.js')

const { values: options } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    threads: { type: 'string', default: String(os.availableParallelism()) },
    seed: { type: 'string', default: String(randomInt(2 ** 31)) }
  }
})
const minutes = Number(options.minutes)
const seed = Number(options.seed)
// At least ten in each quarter, and not more often than every second.
const INTERVAL_MS = Math.max(1000, Math.min(5000, (minutes * 60_000) / 40))

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc')
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

const directory = mkdtempSync(path.join(os.tmpdir(), 'wasm-hostmap-soak-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
// A warning for each mapping that faults would be all that one sees. Counted, though.
let warnings = 0
process.removeAllListeners('warning')
process.on('warning', () => warnings++)

const DATASET_BYTES = 2 ** 20
const bytes = noise(DATASET_BYTES, 1)
const dataset = HostRegion.copyFrom(bytes, { name: 'soak' }).seal()
// For all threads: each makes a duplicate of its own from it.
const datasetFd = dataset.duplicateFd()
// For all threads: each has a slot of its own, and the first slot is what all want.
const SLOT_BYTES = 2 ** 20
const threads = Number(options.threads)
const common = new GuardedMemory({
  initial: ((threads + 1) * SLOT_BYTES) / 65536,
  maximum: 16384,
  shared: true
})
const module = new WebAssembly.Module(
  await assemble(readFileSync(new URL('bulk.wat', import.meta.url), 'utf8'))
)
const sharedModule = new WebAssembly.Module(
  await assemble(
    readFileSync(new URL('bulk.wat', import.meta.url), 'utf8').replace(
      '(memory 0)',
      '(memory 0 65536 shared)'
    )
  )
)

/** One thread: asked for a rest, it answers with what it did since the last one. */
class Thread {
  #worker
  #answer

  constructor(number) {
    const file = path.join(directory, `lost-${number}.bin`)
    writeFileSync(file, noise(256 * 1024, 2))
    this.#worker = new Worker(new URL('thread.mjs', import.meta.url), {
      workerData: {
        number,
        seed: seed + number,
        file,
        fd: datasetFd,
        memory: common.memory,
        slotBytes: SLOT_BYTES,
        module,
        sharedModule
      }
    })
    this.#worker.on('message', message => this.#answer?.(message))
    this.#worker.on('error', error => {
      console.error(`Thread ${number} (seed ${seed}) failed:`, error)
      process.exit(1)
    })
  }

  rest() {
    this.#worker.postMessage('rest')
    return new Promise(resolve => (this.#answer = resolve))
  }

  go() {
    this.#worker.postMessage('go')
  }

  end() {
    return this.#worker.terminate()
  }
}

/** A thread that lives for a moment and is ended during what it does. */
async function passingThread(number) {
  const source = number % 2 ? MAPPER : STREAMER
  const worker = new Worker(source, {
    eval: true,
    workerData: { root: require.resolve('../..'), fd: datasetFd }
  })
  await new Promise((resolve, reject) => worker.once('online', resolve).once('error', reject))
  await sleep(20 + (number % 7) * 10)
  await worker.terminate()
}

const MAPPER = `
    const { workerData: { root, fd } } = require('node:worker_threads')
    const { HostRegion, GuardedMemory } = require(root)
    process.removeAllListeners('warning')
    const region = HostRegion.fromFd(fd)
    let guarded = new GuardedMemory({ initial: 16, maximum: 64 })
    let rounds = 0
    for (;;) {
      const mapping = guarded.map(region, { at: 0 })
      const array = new Uint8Array(guarded.buffer)
      array[rounds % 1000] = 1
      mapping.unmap()
      if (++rounds % 1000 === 0) guarded = new GuardedMemory({ initial: 16, maximum: 64 })
    }`

// Ended with a stream at work: a region that is read ahead, through a window.
const STREAMER = `
    const { workerData: { root, fd } } = require('node:worker_threads')
    const { HostRegion, GuardedMemory } = require(root)
    process.removeAllListeners('warning')
    const region = HostRegion.fromFd(fd)
    const guarded = new GuardedMemory({ initial: 16, maximum: 64 })
    const window = guarded.window({ byteLength: 131072, at: 0, access: 'private' })
    for (let round = 0; ; round++) {
      const source = window.source(region, { overlap: round % 100, access: round % 2 ? 'private' : 'readonly' })
      while (source.next() > 0);
    }`

const field = (status, name) =>
  Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)[1]) * 1024

/** What the process holds now, its threads' JavaScript heaps apart. */
function measure() {
  const status = readFileSync('/proc/self/status', 'latin1')
  const areas = readFileSync('/proc/self/maps', 'latin1').trimEnd().split('\n')
  const bytesOf = area => {
    const [start, end] = area.split(' ', 1)[0].split('-')
    return parseInt(end, 16) - parseInt(start, 16)
  }
  return {
    rss: field(status, 'VmRSS'),
    addressSpace: field(status, 'VmSize'),
    fds: readdirSync('/proc/self/fd').length,
    areas: areas.length,
    // Of regions, and the pages of zeros that took the place of lost ones.
    mapped: areas.filter(area => /memfd:|\/lost-\d|\/dev\/zero/.test(area)).length,
    // No memory has a smaller one above it, and nobody else has any.
    reservations: areas.filter(area => area.includes(' ---p ') && bytesOf(area) > 4 * 2 ** 30)
      .length
  }
}

const line = cells =>
  console.log(cells.map((cell, i) => String(cell).padStart(i ? 13 : 8)).join(''))

console.log(
  `${minutes} minutes on ${threads} threads, Node.js ${process.version}, seed ${seed}; ${JSON.stringify(limits().faultGuard)}`
)
const crew = Array.from({ length: threads }, (_, i) => new Thread(i + 1))
const totals = zeroCounts()
const samples = []
const started = performance.now()
let nextLine = 60_000
let passing = 0
line(['minute', 'rounds', 'stray writes', 'faults', ...TITLES])

for (;;) {
  const until = performance.now() + INTERVAL_MS
  while (performance.now() < until) {
    await passingThread(passing++)
    await sleep(Math.min(500, Math.max(0, until - performance.now())))
  }
  const answers = await Promise.all(crew.map(thread => thread.rest()))
  for (const { counts } of answers) for (const name in counts) totals[name] += counts[name]
  for (let i = 0; i < 3; i++) {
    gc()
    await sleep(5)
  }
  // Nothing but what threads that were ended had mapped in the common memory: here none maps there.
  if (!Buffer.from(dataset.view()).equals(bytes)) throw new Error('the dataset changed')
  const standing = common.layout().ranges.filter(({ kind }) => kind === 'mapped').length
  if (standing !== 0) throw new Error(`${standing} mappings were forgotten`)
  const heap = answers.reduce((sum, each) => sum + each.heap, process.memoryUsage().heapUsed)
  samples.push({ heap, ...measure() })
  const elapsed = performance.now() - started
  if (elapsed >= nextLine || elapsed >= minutes * 60_000) {
    nextLine += 60_000
    line([
      (elapsed / 60_000).toFixed(1),
      totals.rounds,
      totals.strayWrites,
      totals.faults,
      ...cells(samples.at(-1))
    ])
  }
  if (elapsed >= minutes * 60_000) break
  for (const thread of crew) thread.go()
}
await Promise.all(crew.map(thread => thread.end()))
totals.warnings += warnings

console.log(
  `\n${Object.entries(totals)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ')}, threads ended ${passing}`
)
const { quarters, grown } = judge(samples)
console.log(`\nMedians of each quarter of ${samples.length} samples, taken when all threads rest`)
line(['', ...TITLES])
quarters.forEach((quarter, i) => line([`Q${i + 1}`, ...cells(quarter)]))
console.log(grown.length === 0 ? '\nflat' : `\nNOT flat: ${grown.join(', ')}`)
process.exit(grown.length === 0 ? 0 : 1)
