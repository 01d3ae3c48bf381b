'use strict'

// Shared mappings of one region: stores meet, and so do atomics, but each memory has waiters of its
// own.

const { Worker } = require('node:worker_threads')
const { GuardedMemory, HostRegion } = require('..')

const WAITER = `
  const { parentPort, workerData: { memory, index, timeout } } = require('node:worker_threads')
  parentPort.postMessage(Atomics.wait(new Int32Array(memory.buffer), index, 0, timeout))`

/** A worker that waits for a word of this memory; gives what `Atomics.wait` gave. */
function wait(memory, index, timeout) {
  const worker = new Worker(WAITER, { eval: true, workerData: { memory, index, timeout } })
  return new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
}

/**
 * Calls again and again, with turns of the event loop between, until this is settled; gives the sum
 * of what came.
 */
async function untilSettled(promise, call) {
  let sum = 0
  let settled = false
  promise.finally(() => (settled = true))
  while (!settled) {
    sum += call()
    await new Promise(resolve => setImmediate(resolve))
  }
  return sum
}

test('a waiter in one memory is woken through that memory, and not through another that maps the same region', async () => {
  const region = HostRegion.allocate(65536)
  const [mine, other] = [0, 1].map(() => {
    const guarded = new GuardedMemory({ initial: 2, maximum: 2, shared: true })
    guarded.map(region, { at: 65536, access: 'shared' })
    return { memory: guarded.memory, words: new Int32Array(guarded.buffer) }
  })
  const index = 65536 / 4

  // Stores and atomics meet.
  Atomics.add(mine.words, index + 1, 5)
  expect(Atomics.add(other.words, index + 1, 2)).toBe(5)
  expect(Atomics.load(mine.words, index + 1)).toBe(7)

  const alone = wait(mine.memory, index, 1000)
  expect(await untilSettled(alone, () => Atomics.notify(other.words, index))).toBe(0)
  expect(await alone).toBe('timed-out')

  const woken = wait(mine.memory, index, Infinity)
  expect(await untilSettled(woken, () => Atomics.notify(mine.words, index))).toBe(1)
  expect(await woken).toBe('ok')
  region.close()
})
