// Serves requests in one way for some seconds, one after another, and checks each answer.

import { readFileSync } from 'node:fs'
import { createHistogram } from 'node:perf_hooks'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { evaluate } from './interpreter.mjs'
import { FIRST_REQUESTS } from './requests.mjs'
import { ways } from './ways.mjs'

const MOST_WRONG = 100
const HELD_INSTANCES = 50

const { way, prepared, requests, seconds } = workerData
const { acquire, release } = await ways[way].open(prepared)
const wrong = []

/**
 * Returns milliseconds: how long the request took, and how much of that went to making or cleaning
 * its instance.
 */
async function serve({ name, source, expected }) {
  // Requests come with turns of the event loop, in which dropped instances are freed.
  await setImmediate()
  const begin = performance.now()
  const instance = await acquire()
  const acquired = performance.now()
  const text = answer(instance, source)
  const answered = performance.now()
  release(instance)
  const end = performance.now()

  const isRight = typeof expected === 'string' ? text === expected : expected.test(text)
  if (!isRight) wrong.push({ name, text })
  return { latency: end - begin, cleaning: acquired - begin + (end - answered) }
}

function answer(instance, source) {
  try {
    return evaluate(instance.exports, source)
  } catch (error) {
    return error.message
  }
}

// V8 compiles anew what it finds to run often, and that is not to be measured.
for (const request of requests.slice(0, FIRST_REQUESTS)) await serve(request)

const latencies = createHistogram()
const cleanings = createHistogram()
const record = (histogram, milliseconds) =>
  histogram.record(Math.max(1, Math.round(milliseconds * 1e6)))
const begin = performance.now()
let served = 0
let elapsed = 0
while (wrong.length < MOST_WRONG && (elapsed < seconds * 1000 || served < FIRST_REQUESTS)) {
  const { latency, cleaning } = await serve(requests[served % requests.length])
  record(latencies, latency)
  record(cleanings, cleaning)
  served++
  elapsed = performance.now() - begin
}
parentPort.postMessage({
  latencies, // in nanoseconds
  cleanings,
  perSecond: served / (elapsed / 1000),
  checked: FIRST_REQUESTS + served,
  wrong
})

// This message arrives once the other workers are gone.
parentPort.once('message', async () => parentPort.postMessage(await measureInstances()))

/**
 * How much more memory the process takes for an instance that has served a request. Shared pages
 * count once.
 */
async function measureInstances() {
  const instances = []
  await settle()
  const before = residentBytes()
  while (instances.length < HELD_INSTANCES) {
    const instance = await acquire()
    answer(instance, requests[0].source)
    instances.push(instance)
  }
  await settle()
  return (residentBytes() - before) / instances.length
}

/** V8 returns memory on its own threads, some time after a collection. */
async function settle() {
  for (let i = 0; i < 3; i++) {
    gc()
    await setTimeout(100)
  }
}

function residentBytes() {
  const rollup = readFileSync('/proc/self/smaps_rollup', 'latin1')
  return Number(rollup.match(/^Pss:\s+(\d+) kB/m)[1]) * 1024
}
