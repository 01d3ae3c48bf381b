// Serves requests in one way, in workers: `server.mjs WAY WORKERS SECONDS`. index.mjs forks it.

import { once } from 'node:events'
import { createHistogram } from 'node:perf_hooks'
import { Worker } from 'node:worker_threads'
import { evaluate, imports, initialize, wasm } from './interpreter.mjs'
import { makeRequests } from './requests.mjs'
import { ways } from './ways.mjs'

/** What Math.random() returns in a newly initialized interpreter. */
function firstRandom() {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm), imports)
  initialize(exports)
  return Number(evaluate(exports, 'Math.random()'))
}

async function serve(way, workerCount, seconds) {
  const workerData = {
    way,
    seconds,
    requests: makeRequests(firstRandom()),
    prepared: await ways[way].prepare()
  }
  const workers = Array.from({ length: workerCount }, () => {
    return new Worker(new URL('worker.mjs', import.meta.url), { workerData })
  })
  const next = async worker => (await once(worker, 'message'))[0]
  const served = await Promise.all(workers.map(next))
  const peakBytes = process.resourceUsage().maxRSS * 1024
  const [first, ...others] = workers
  await Promise.all(others.map(worker => worker.terminate()))
  first.postMessage('measure')
  const instanceBytes = await next(first)
  await first.terminate()

  const latencies = merge(served.map(({ latencies }) => latencies))
  const cleanings = merge(served.map(({ cleanings }) => cleanings))
  return {
    peakBytes,
    instanceBytes,
    requests: latencies.count,
    perSecond: sum(served.map(({ perSecond }) => perSecond)),
    milliseconds: {
      p50: latencies.percentile(50) / 1e6,
      p99: latencies.percentile(99) / 1e6,
      cleaning: cleanings.percentile(50) / 1e6
    },
    checked: sum(served.map(({ checked }) => checked)),
    wrong: served.flatMap(({ wrong }) => wrong)
  }
}

const sum = numbers => numbers.reduce((sum, number) => sum + number, 0)

function merge(histograms) {
  const all = createHistogram()
  for (const histogram of histograms) all.add(histogram)
  return all
}

const [way, workers, seconds] = process.argv.slice(2)
try {
  process.send(await serve(way, Number(workers), Number(seconds)))
} catch (error) {
  process.send({ error: error.message })
} finally {
  process.disconnect()
}
