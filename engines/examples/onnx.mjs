// Four workers with onnxruntime-web and one model: each with a copy of it, as usual, and all with
// the weights of one region.
//
//   node engines/examples/onnx.mjs [--size 512MiB] [--workers 4] [--json]
//
// The model is made on the first run: a chain of matrices, in engines/data.

import { fork } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import fs from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import Table from 'cli-table3'
import * as ort from 'onnxruntime-web'
import { HostRegion } from 'wasm-hostmap'
import { onnx } from 'wasm-hostmap/onnx'
import { pssBytes } from '../../bench/lib/machine.mjs'
import { parseBytes } from '../../demo/units.mjs'
import { formatBytes, formatMilliseconds } from '../../examples/support/cli.mjs'
import { inputOf, modelOf, writeOrt } from '../support/onnx-models.mjs'

const THIS = fileURLToPath(import.meta.url)
const MiB = 2 ** 20
const RUNS = 5

// What a user would write: a session of a file, or of the region that the main thread shares.
const WAYS = {
  usual: ({ file }) => ort.InferenceSession.create(file),
  'usual, unpacked': ({ file }) =>
    ort.InferenceSession.create(file, { extra: { session: { disable_prepacking: '1' } } }),
  mapped: ({ token }) => onnx(ort).create(HostRegion.receive(token))
}

async function worker({ way, model, ...given }) {
  // One thread each: the workers are the threads.
  ort.env.wasm.numThreads = 1
  const started = performance.now()
  const session = await WAYS[way](given)
  const readyMs = performance.now() - started
  const feeds = { x: new ort.Tensor('float32', inputOf(model), [1, model.size]) }
  const times = []
  let answer
  for (let i = 0; i < RUNS; i++) {
    const from = performance.now()
    const { y } = await session.run(feeds)
    times.push(performance.now() - from)
    answer = createHash('sha256').update(new Uint8Array(y.data.buffer)).digest('hex')
  }
  times.sort((a, b) => a - b)
  parentPort.postMessage({ readyMs, runMs: times[RUNS >> 1], answer })
  // Stays, so that all of them are measured together.
  parentPort.once('message', () => process.exit())
}

/** One way, in a process of its own. */
async function measureHere(way, file, model, count) {
  const before = pssBytes()
  const region = way === 'mapped' ? HostRegion.open(file) : undefined
  const started = performance.now()
  const workers = Array.from(
    { length: count },
    () => new Worker(THIS, { workerData: { way, file, model, token: region?.share() } })
  )
  const found = await Promise.all(workers.map(async it => (await once(it, 'message'))[0]))
  const pss = pssBytes()
  const allMs = performance.now() - started
  process.send({
    way,
    allMs,
    pss,
    ownPss: before,
    readyMs: Math.max(...found.map(({ readyMs }) => readyMs)),
    runMs: Math.max(...found.map(({ runMs }) => runMs)),
    answers: found.map(({ answer }) => answer)
  })
}

async function measure(way, file, model, count) {
  const child = fork(THIS, [way, file, JSON.stringify(model), String(count)])
  let result
  child.on('message', message => {
    result = message
    child.kill()
  })
  const [code, signal] = await once(child, 'exit')
  if (result === undefined) throw new Error(`${way}: the process ended with ${signal ?? code}`)
  return result
}

async function main() {
  const { values } = parseArgs({
    options: {
      size: { type: 'string', default: '512MiB' },
      workers: { type: 'string', default: '4' },
      json: { type: 'boolean', default: false }
    }
  })
  const count = Number(values.workers)
  const size = parseBytes(values.size)
  if (!(size > 0 && Number.isInteger(count) && count > 0))
    throw new Error('--size takes a size such as 512MiB, --workers a count')
  const model = modelOf(size)
  const file = fileURLToPath(
    new URL(`../data/chain-${model.size}x${model.layers}.ort`, import.meta.url)
  )
  if (!fs.existsSync(file)) writeOrt(file, model)
  const ways = []
  for (const way of Object.keys(WAYS)) ways.push(await measure(way, file, model, count))
  const modelBytes = fs.statSync(file).size
  if (values.json) return console.log(JSON.stringify({ modelBytes, ways }))

  const table = new Table({
    head: ['', ...ways.map(({ way }) => way)],
    colAligns: ['left', ...ways.map(() => 'right')],
    style: { head: [], border: [] }
  })
  table.push(
    ['all sessions ready after', ...ways.map(({ readyMs }) => formatMilliseconds(readyMs))],
    ['one run (median)', ...ways.map(({ runMs }) => formatMilliseconds(runMs))],
    ['PSS, all workers', ...ways.map(({ pss }) => formatBytes(Math.round(pss / MiB) * MiB))]
  )
  console.log(`${count} workers, a model of ${formatBytes(modelBytes)}, ${process.version}`)
  console.log(table.toString())
  const [, unpacked, mapped] = ways
  const areEqual = new Set([...unpacked.answers, ...mapped.answers]).size === 1
  console.log(
    areEqual
      ? 'The mapped weights answer bit by bit as the copies do that were not repacked.'
      : 'The answers are NOT equal.'
  )
  const bar = 1.3 * modelBytes + count * 120 * MiB
  const holds = mapped.pss <= bar
  console.log(
    `Bar: PSS at most ${formatBytes(Math.round(bar / MiB) * MiB)}: ${holds ? 'holds' : 'MISSED'}`
  )
  if (!areEqual || !holds) process.exitCode = 1
}

if (!isMainThread) await worker(workerData)
else if (process.send !== undefined && process.argv.length === 6) {
  const [, , way, file, model, count] = process.argv
  await measureHere(way, file, JSON.parse(model), Number(count))
} else await main()
