// A cluster of HTTP workers over one dataset, which each finds by its name and maps into the memory
// of a module: what a worker needs and how soon it is ready; a new version of the dataset under
// load; and a worker that is killed under load.

import assert from 'node:assert/strict'
import cluster from 'node:cluster'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import Table from 'cli-table3'
import * as cli from '../support/cli.mjs'
import { makeDataset, NAME } from './dataset.mjs'
import { pssOf } from './pss.mjs'
import { serve, serveNothing } from './worker.mjs'

const usage = `Usage: node examples/cluster/index.mjs [--size MIB] [--workers COUNT] [--seconds SECONDS]

Starts a cluster over a dataset, sends it requests, replaces the dataset and kills a worker under
load, checks every answer, and prints what it took.

  --size MIB          size of the dataset (default: 1024)
  --workers COUNT     workers of the cluster (default: 4)
  --seconds SECONDS   how long each phase is under load (default: 5)`

const MOST_BESIDES = 40 * cli.MiB
const MOST_DATASET = 1.1

async function main() {
  const { values } = cli.parseCommandLine(usage, {
    size: { type: 'string', default: '1024' },
    workers: { type: 'string', default: '4' },
    seconds: { type: 'string', default: '5' }
  })
  const sizeBytes = cli.wholeNumber('--size', values.size, 1, 1536) * cli.MiB
  const count = cli.wholeNumber('--workers', values.workers, 1, 64)
  const seconds = cli.wholeNumber('--seconds', values.seconds, 1, 3600)

  // In a folder of its own, so that two runs don't meet.
  const directory = mkdtempSync(path.join(os.tmpdir(), 'hostmap-cluster-'))
  try {
    await show({ directory, sizeBytes, count, seconds })
  } finally {
    rmSync(directory, { recursive: true })
  }
}

async function show({ directory, sizeBytes, count, seconds }) {
  const bare = await measureBare(count, sizeBytes)

  const first = await makeDataset(1, sizeBytes)
  first.publish(NAME, { directory })
  const workers = new Workers(directory, count)
  await workers.start()
  const client = await Client.start(workers.port, sizeBytes, true)
  await delay(seconds * 1000)
  const steady = await client.report()
  const used = workers.pss()

  const begin = performance.now()
  const second = await makeDataset(2, sizeBytes)
  const made = performance.now()
  const haveVersion = workers.haveNext()
  second.publish(NAME, { directory, replace: true })
  first.close()
  await haveVersion
  const swapped = performance.now()
  await delay(seconds * 1000)
  const swap = await client.report()
  const after = workers.pss()

  const replaced = await workers.killOne()
  await delay(seconds * 1000)
  const crash = await client.report()
  client.stop()
  await workers.stop()
  second.close()

  const table = new Table({ style: { head: [], border: [] }, colAligns: ['left', 'right'] })
  const bytes = value => cli.formatBytes(Math.round(value))
  const milliseconds = values => values.map(cli.formatMilliseconds).join(', ')
  const besides = used.map(it => it.besides)
  const datasets = total(used.map(it => it.dataset)) + pssOf(process.pid).dataset
  table.push(
    ['dataset', bytes(sizeBytes)],
    [`PSS of it, in ${count} workers together`, bytes(datasets)],
    ['  after the new version', bytes(total(after.map(it => it.dataset)))],
    ['PSS of a worker besides', bytes(Math.max(...besides))],
    ['PSS of a worker with an empty server', bytes(bare)],
    ['to start a worker until it is ready', milliseconds(workers.readyTimes)],
    ['  of that, to find and map the dataset', milliseconds(workers.foundTimes)],
    ['answers a second', cli.formatCount(Math.round(steady.answers / seconds))],
    ['to make the new version', cli.formatMilliseconds(made - begin)],
    ['to have it in all workers', cli.formatMilliseconds(swapped - made)],
    ['answers by version meanwhile', answersOf(swap)],
    ['  lost, or of a mixture', `${swap.lost}, ${swap.wrong}`],
    ['worker killed: until the next is ready', cli.formatMilliseconds(replaced)],
    ['  answers, lost, or of a mixture', `${answersOf(crash)}, ${crash.lost}, ${crash.wrong}`]
  )
  console.log(`${table}`)

  assert.equal(steady.wrong + swap.wrong + crash.wrong, 0, 'answers were of a mixture')
  assert.equal(steady.lost + swap.lost, 0, 'requests were lost')
  assert.deepEqual(Object.keys(swap.versions), ['1', '2'], 'one of the versions has no answer')
  assert.deepEqual(Object.keys(crash.versions), ['2'], 'the new worker has the old version')
  assert.ok(datasets <= MOST_DATASET * sizeBytes, 'the dataset is in memory more than once')
  for (const worker of besides) {
    assert.ok(worker - bare <= MOST_BESIDES, `a worker takes ${bytes(worker - bare)} more`)
  }
}

const total = values => values.reduce((sum, value) => sum + value, 0)
const answersOf = ({ versions }) => Object.values(versions).map(cli.formatCount).join(' and ')

/** What a worker needs that only answers. */
async function measureBare(count, sizeBytes) {
  const workers = new Workers('', count)
  await workers.start()
  const client = await Client.start(workers.port, sizeBytes, false)
  await delay(1000)
  const used = workers.pss()
  client.stop()
  await workers.stop()
  return Math.min(...used.map(it => it.besides))
}

/** The workers of this primary. One that ends is replaced at once. */
class Workers {
  #directory
  #count
  #isStopping = false
  // Called by each worker that has a new version.
  #onVersion
  port
  readyTimes = []
  foundTimes = []

  constructor(directory, count) {
    this.#directory = directory
    this.#count = count
    cluster.on('exit', this.#onExit)
  }

  #onExit = () => {
    if (!this.#isStopping) void this.#fork()
  }

  async #fork() {
    const begin = performance.now()
    const worker = cluster.fork({ CLUSTER_DIRECTORY: this.#directory })
    const { milliseconds, port } = await messageOf(worker)
    this.readyTimes.push(performance.now() - begin)
    this.foundTimes.push(milliseconds)
    this.port = port
    worker.on('message', () => this.#onVersion())
  }

  async start() {
    // One after the other: each is measured alone.
    for (let i = 0; i < this.#count; i++) await this.#fork()
  }

  pss() {
    return Object.values(cluster.workers).map(({ process }) => pssOf(process.pid))
  }

  /** Resolves when all of them have the next version. */
  haveNext() {
    let left = this.#count
    return new Promise(resolve => {
      this.#onVersion = () => --left === 0 && resolve()
    })
  }

  /** Kills one, and gives the milliseconds until another is ready. */
  async killOne() {
    const begin = performance.now()
    const before = this.readyTimes.length
    Object.values(cluster.workers)[0].process.kill('SIGKILL')
    while (this.readyTimes.length === before) await delay(1)
    return performance.now() - begin
  }

  async stop() {
    this.#isStopping = true
    const workers = Object.values(cluster.workers)
    const ended = workers.map(worker => once(worker, 'exit'))
    for (const worker of workers) worker.process.kill()
    await Promise.all(ended)
    cluster.removeListener('exit', this.#onExit)
  }
}

/** The next message of a process. One that ends instead would be waited for without an end. */
async function messageOf(child) {
  const over = new AbortController()
  const { signal } = over
  const ended = once(child, 'exit', { signal }).then(([code, name]) => {
    throw new Error(`A process ended before it said anything: ${name ?? `code ${code}`}`)
  })
  try {
    const [message] = await Promise.race([once(child, 'message', { signal }), ended])
    return message
  } finally {
    over.abort()
    ended.catch(() => {})
  }
}

/** A process that sends requests. */
class Client {
  #process

  static async start(port, sizeBytes, isChecked) {
    const client = new Client()
    const args = [port, sizeBytes / 8, Number(isChecked)].map(String)
    client.#process = fork(fileURLToPath(new URL('client.mjs', import.meta.url)), args)
    await messageOf(client.#process)
    return client
  }

  /** What it has seen since the last report. */
  async report() {
    const message = messageOf(this.#process)
    this.#process.send('report')
    return message
  }

  stop() {
    this.#process.kill()
  }
}

if (cluster.isPrimary) await cli.run(main)
else {
  const directory = process.env.CLUSTER_DIRECTORY
  const onShown = (milliseconds, port) => process.send({ milliseconds, port })
  if (directory === '') serveNothing(onShown)
  else await serve(directory, onShown)
}
