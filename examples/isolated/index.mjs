// A module in a process of its own, beside the same one in this process and in a worker: what a
// call costs, and what happens when it crashes or does not end.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import Table from 'cli-table3'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'
import * as cli from '../support/cli.mjs'
import { CallError, Isolated, startWorker } from './isolated.mjs'
import { Asker } from './ring.mjs'

const LIMIT_MS = 10_000
const MODULE_BYTES = 64 * cli.MiB
const PROCESSES = 4
// Numbers of 8 bytes.
const SMALL = 64
const LARGE = cli.MiB / 8

const usage = `Usage: node examples/isolated/index.mjs [--size MIB] [--calls COUNT]

Calls a module in this process, in a worker, and in processes of its own, with limits; checks each
sum, and prints what a call takes. Then crashes it, and lets it run on.

  --size MIB       size of the dataset that all of them share (default: 1024)
  --calls COUNT    how many small calls are timed for each way (default: 5000)`

async function main() {
  const { values } = cli.parseCommandLine(usage, {
    size: { type: 'string', default: '1024' },
    calls: { type: 'string', default: '5000' }
  })
  const sizeBytes = cli.wholeNumber('--size', values.size, 1, 2048) * cli.MiB
  const calls = cli.wholeNumber('--calls', values.calls, 100, 10_000_000)

  const dataset = HostRegion.allocate(sizeBytes)
  new BigInt64Array(dataset.view()).fill(1n)
  dataset.seal()

  const table = new Table({
    head: ['a call', `sum of ${SMALL * 8} bytes`, 'sum of 1 MiB', 'small calls a second'],
    colAligns: ['left', 'right', 'right', 'right'],
    style: { head: [], border: [] }
  })
  const row = (name, small, large) => {
    const each = milliseconds => cli.formatMilliseconds(milliseconds)
    table.push([name, each(small), each(large), cli.formatCount(Math.round(1000 / small))])
  }
  for (const [name, open] of Object.entries(ways)) {
    const { call, inTurn = 1, close } = await open(dataset)
    const small = await time(call, SMALL, calls, inTurn)
    row(name, small, await time(call, LARGE, Math.ceil(calls / 50), inTurn))
    await close()
  }
  console.log(`${table}`)
  await showEnds(dataset)
}

/** Milliseconds a call, with so many at the same time. */
async function time(call, count, calls, atOnce) {
  const one = async () =>
    assert.equal(BigInt(await call({ operation: 'sum', count })), BigInt(count))
  for (let n = 0; n < calls / 10; n++) await one()
  const begin = performance.now()
  for (let done = 0; done < calls; done += atOnce) {
    await (atOnce === 1 ? one() : Promise.all(Array.from({ length: atOnce }, one)))
  }
  return (performance.now() - begin) / calls
}

/** The module in this thread: a call is a function call. */
function direct(dataset) {
  const guarded = new GuardedMemory({ initial: 1 })
  const ring = new Asker()
  const slots = guarded.map(ring.region, { access: 'shared' }).pointer
  const numbers = guarded.map(dataset).pointer
  const wasm = readFileSync(new URL('module.wasm', import.meta.url))
  const module = new WebAssembly.Module(wasm)
  const { handle } = new WebAssembly.Instance(module, { env: { memory: guarded.memory } }).exports
  const request = new Uint32Array(guarded.buffer, slots, 3)
  const result = new BigInt64Array(guarded.buffer, slots + 16, 1)
  const call = ({ count }) => {
    request.set([0, 0, count])
    handle(slots, numbers, dataset.byteLength / 8)
    return result[0]
  }
  return { call, close() {} }
}

/** By messages of Node.js: postMessage of a worker, or the channel of a child process. */
async function messages(dataset, isThread) {
  const worker = startWorker(dataset, new Asker(), {
    isThread,
    moduleBytes: MODULE_BYTES,
    takesMessages: true
  })
  await once(worker, 'message')
  const call = async request => {
    if (isThread) worker.postMessage(request)
    else worker.send(request)
    const [answer] = await once(worker, 'message')
    return answer
  }
  const close = () => (isThread ? worker.terminate() : worker.kill('SIGKILL'))
  return { call, close }
}

const options = { milliseconds: LIMIT_MS, moduleBytes: MODULE_BYTES }

async function ring(dataset, { isThread, isBlocking }) {
  const isolated = await Isolated.start(dataset, { ...options, isThread })
  const call = request => (isBlocking ? isolated.callSync(request) : isolated.call(request))
  return { call, close: () => isolated.close() }
}

async function several(dataset) {
  const all = await Promise.all(
    Array.from({ length: PROCESSES }, () => Isolated.start(dataset, options))
  )
  let next = 0
  const call = request => all[next++ % PROCESSES].call(request)
  return { call, inTurn: 32 * PROCESSES, close: () => all.forEach(each => each.close()) }
}

const ways = {
  'in this thread': direct,
  'in a worker, postMessage': dataset => messages(dataset, true),
  'in a worker, ring, blocking': dataset => ring(dataset, { isThread: true, isBlocking: true }),
  'in a process, its channel': dataset => messages(dataset, false),
  'in a process, ring, blocking': dataset => ring(dataset, { isBlocking: true }),
  'in a process, ring, awaited': dataset => ring(dataset, {}),
  'in 4 processes, ring, 128 at once': several
}

/** What ends a call in another way than with its result, and how long the next one takes. */
async function showEnds(dataset) {
  const begin = performance.now()
  const isolated = await Isolated.start(dataset, { ...options, milliseconds: 1000 })
  const since = from => cli.formatMilliseconds(performance.now() - from)
  console.log(`\nA process starts in ${since(begin)}, and shares the dataset.`)
  try {
    for (const operation of ['trap', 'hungry', 'endless']) {
      const from = performance.now()
      let outcome
      try {
        outcome = `took ${cli.formatBytes(Number(await isolated.call({ operation })) * cli.MiB)}`
      } catch (error) {
        if (!(error instanceof CallError)) throw error
        outcome = error.message
      }
      const ended = since(from)
      assert.equal(await isolated.call({ operation: 'sum', count: 7 }), 7n)
      console.log(
        `${operation.padEnd(8)} ${outcome}, after ${ended}; the next answer after ${since(from)}`
      )
    }
  } finally {
    isolated.close()
  }
}

await cli.run(main)
