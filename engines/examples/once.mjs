// Four workers with onnxruntime-web and one model: each makes its session, as usual, and all have
// the session that one of them has made, with its repacked weights.
//
//   node engines/examples/once.mjs [--size 128MiB] [--workers 4] [--json]
//
// The model is made on the first run: a chain of matrices, in engines/data.

import { fork } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once as next } from 'node:events'
import fs from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import Table from 'cli-table3'
import { Snapshot } from 'wasm-hostmap'
import { pssBytes } from '../../bench/lib/machine.mjs'
import { parseBytes } from '../../demo/units.mjs'
import { formatBytes, formatMilliseconds } from '../../examples/support/cli.mjs'
import { inputOf, modelOf, writeOnnx } from '../support/onnx-models.mjs'
import { createOnce, ort } from '../support/onnx-once.mjs'

const THIS = fileURLToPath(import.meta.url)
const MiB = 2 ** 20

const WAYS = {
  usual: async ({ file }) => ({ session: await ort.InferenceSession.create(file), called: true }),
  once: ({ file, snapshot, token }) =>
    createOnce(file, { snapshot, from: token && Snapshot.receive(token) })
}

async function worker({ way, model, ...given }) {
  // One thread each: the workers are the threads.
  ort.env.wasm.numThreads = 1
  const started = performance.now()
  const { session, called } = await WAYS[way](given)
  const readyMs = performance.now() - started
  const feeds = { x: new ort.Tensor('float32', inputOf(model), [1, model.size]) }
  const { y } = await session.run(feeds)
  const answer = createHash('sha256').update(new Uint8Array(y.data.buffer)).digest('hex')
  parentPort.postMessage({ readyMs, called, answer })
  // Stays, so that all of them are measured together.
  parentPort.once('message', () => process.exit())
}

/** One way, in a process of its own. */
async function measureHere(way, file, model, count) {
  const snapshot = `${file}.snapshot`
  const start = token =>
    new Worker(THIS, { workerData: { way, file, model, snapshot, token: token?.() } })
  let share
  if (way === 'once') {
    // The first worker makes the file, and the others show one copy of it.
    if (!fs.existsSync(snapshot)) await next(start(), 'message').then(() => process.exit())
    const loaded = await Snapshot.load(snapshot)
    share = () => loaded.share()
  }
  const workers = Array.from({ length: count }, () => start(share))
  const found = await Promise.all(workers.map(async it => (await next(it, 'message'))[0]))
  process.send({
    way,
    pss: pssBytes(),
    readyMs: Math.max(...found.map(({ readyMs }) => readyMs)),
    calls: found.filter(({ called }) => called).length,
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
  const [code, signal] = await next(child, 'exit')
  // It has made the file.
  if (result === undefined && code === 0) return measure(way, file, model, count)
  if (result === undefined) throw new Error(`${way}: the process ended with ${signal ?? code}`)
  return result
}

async function main() {
  const { values } = parseArgs({
    options: {
      size: { type: 'string', default: '128MiB' },
      workers: { type: 'string', default: '4' },
      json: { type: 'boolean', default: false }
    }
  })
  const count = Number(values.workers)
  const size = parseBytes(values.size)
  if (!(size > 0 && Number.isInteger(count) && count > 0))
    throw new Error('--size takes a size such as 128MiB, --workers a count')
  const model = modelOf(size)
  const name = `chain-${model.size}x${model.layers}.onnx`
  const file = fileURLToPath(new URL(`../data/${name}`, import.meta.url))
  fs.mkdirSync(new URL('../data/', import.meta.url), { recursive: true })
  if (!fs.existsSync(file)) writeOnnx(file, model)
  fs.rmSync(`${file}.snapshot`, { force: true })
  const ways = []
  for (const way of Object.keys(WAYS)) ways.push(await measure(way, file, model, count))
  fs.rmSync(`${file}.snapshot`, { force: true })
  const areEqual = new Set(ways.flatMap(({ answers }) => answers)).size === 1
  const isOnce = ways[1].calls === 0
  const modelBytes = fs.statSync(file).size
  if (!areEqual || !isOnce) process.exitCode = 1
  if (values.json) return console.log(JSON.stringify({ modelBytes, areEqual, ways }))

  const table = new Table({
    head: ['', ...ways.map(({ way }) => way)],
    colAligns: ['left', ...ways.map(() => 'right')],
    style: { head: [], border: [] }
  })
  table.push(
    ['all sessions ready after', ...ways.map(({ readyMs }) => formatMilliseconds(readyMs))],
    ['sessions that the engine made', ...ways.map(({ calls }) => calls)],
    ['PSS, all workers', ...ways.map(({ pss }) => formatBytes(Math.round(pss / MiB) * MiB))]
  )
  console.log(`${count} workers, a model of ${formatBytes(modelBytes)}, ${process.version}`)
  console.log(table.toString())
  console.log(areEqual ? 'All answers are equal, bit by bit.' : 'The answers are NOT equal.')
}

if (!isMainThread) await worker(workerData)
else if (process.send !== undefined) {
  const [way, file, model, count] = process.argv.slice(2)
  await measureHere(way, file, JSON.parse(model), Number(count))
} else await main()
