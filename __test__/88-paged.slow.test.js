'use strict'

// Four threads touch chunks at random, of a region with a limit, whose provider fails every 50th
// time: each byte is right, or a touch that failed and was counted; and it never stops.
// PAGED_SECONDS=600 is ten minutes.

const { Worker } = require('node:worker_threads')
const { GuardedMemory } = require('..')
const { CHUNK, closeAll, paged } = require('./support/paged')

const SECONDS = Number(process.env.PAGED_SECONDS ?? 10)
const CHUNKS = 512
const THREADS = 4

afterEach(closeAll)

// By a module, whose touches that fail trap: and by JavaScript, for which they are zeros that stay.
const source = `
  const { parentPort, workerData } = require('node:worker_threads')
  const { byteAt } = require(workerData.ranges)
  const { memory, pointer, byteLength, until, wasm } = workerData
  const { load8 } = new WebAssembly.Instance(wasm, { env: { memory } }).exports
  let seed = workerData.seed
  const random = most => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) % most
  const told = { right: 0, trapped: 0, wrong: [] }
  while (Date.now() < until) {
    let at = random(byteLength)
    // Now and then one after another.
    for (let step = random(8) === 0 ? 40 : 1; step > 0 && at < byteLength; step--, at += ${CHUNK} >> 1) {
      let value
      try {
        value = load8(pointer + at)
      } catch (error) {
        if (!(error instanceof WebAssembly.RuntimeError)) throw error
        told.trapped++
        continue
      }
      if (value === byteAt(at)) told.right++
      else if (told.wrong.length < 10) told.wrong.push([at, value, byteAt(at)])
    }
  }
  parentPort.postMessage(told)`

test.each([
  ['with what the kernel has', undefined],
  ['without userfaultfd', false]
])(
  `${THREADS} threads at random for ${SECONDS} s, %s`,
  async (_, userfaultfd) => {
    const { compileProbe } = require('./support/wasm')
    const wasm = await compileProbe({ shared: true })
    const byteLength = CHUNKS * CHUNK - 1234
    const options = { cacheBytes: 64 * CHUNK, readAheadBytes: 8 * CHUNK, userfaultfd }
    const region = await paged({ byteLength, failEvery: 50 }, options)
    const guarded = new GuardedMemory({ initial: 1, maximum: 1000, shared: true })
    const mapping = guarded.map(region)
    const { pointer } = mapping
    const ranges = require.resolve('./support/ranges')
    const workers = Array.from({ length: THREADS }, (__, index) => {
      const until = Date.now() + SECONDS * 1000
      const { memory } = guarded
      const workerData = { memory, pointer, byteLength, until, wasm, ranges, seed: index + 1 }
      return new Worker(source, { eval: true, workerData })
    })
    const said = await Promise.all(
      workers.map(
        worker =>
          new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
      )
    )
    const stats = region.paging.stats()
    for (const { wrong } of said) expect(wrong).toEqual([])
    const sum = name => said.reduce((all, one) => all + one[name], 0)
    expect(sum('right')).toBeGreaterThan(1000)
    expect(sum('trapped')).toBeGreaterThan(0)
    expect(stats.failedTouches).toBe(sum('trapped'))
    expect(stats.evictions).toBeGreaterThan(100)
    expect(mapping.faults).toBe(stats.failedTouches)
  },
  (SECONDS + 120) * 1000
)
