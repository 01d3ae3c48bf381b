// A thousand requests of random scripts in one Pyodide, each of which leaves files, globals, open
// streams, proxies, finalizers and grown memory behind. After each one, Pyodide shows of itself
// what a fresh one does, and the process holds what it held.
//
//   REQUESTS=100 SEED=7 npm run test:engines -- --slow pyodide.slow

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { runInNewContext } from 'node:vm'
import { Worker } from 'node:worker_threads'
import { digestFS } from '../support/fs-digest.mjs'
import { hostDigest } from '../support/host-digest.mjs'
import { bootAnew, poolOf } from '../support/programs.mjs'
import { program, pythonDigest } from '../support/pyodide-program.mjs'
import { randomOf, randomRequest } from '../support/pyodide-random.mjs'
import { ENDS } from '../support/pyodide-requests.mjs'

const REQUESTS = Number(process.env.REQUESTS ?? 1000)
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31)
const COLLECT_EVERY = 25

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc')

/** What memory and files are; the memory up to where it ended at first. */
function insideOf({ value: { _module, FS } }, byteLength) {
  const memory = createHash('sha1').update(_module.HEAPU8.subarray(0, byteLength)).digest('hex')
  return { memory, files: digestFS(FS) }
}

const shownBy = lent => ({
  python: pythonDigest(lent.value),
  shown: Reflect.ownKeys(lent.value).map(String),
  packages: { ...lent.value.loadedPackages }
})

test(`random scripts leave nothing, seed ${seed}`, async () => {
  const random = randomOf(seed)
  const fresh = shownBy(await bootAnew(program))
  // Random numbers are new in each request, so they are no part of what has to be the same.
  const { before: _before, ...options } = program.poolOptions()
  const pool = await poolOf({ poolOptions: () => options }, 1)
  const { byteLength } = await pool.run(({ value }) => value._module.HEAPU8)
  const inside = await pool.run(lent => insideOf(lent, byteLength))
  assert.deepEqual(await pool.run(shownBy), fresh)
  // What the first requests make once for all: handles of the event loop, say.
  for (let i = 0; i < 3; i++) await pool.run(({ value }) => randomRequest(random).run(value))
  const host = hostDigest()

  for (let n = 0; n < REQUESTS; n++) {
    const { script, run } = randomRequest(random)
    await pool.run(({ value }) => run(value))
    if (n % COLLECT_EVERY === 0) {
      collect()
      for (let i = 0; i < 3; i++) await turn()
    }
    const why = () => `after request ${n} of seed ${seed}:\n${script}`
    assert.deepEqual(await pool.run(lent => insideOf(lent, byteLength)), inside, why())
    assert.deepEqual(await pool.run(shownBy), fresh, why())
    assert.deepEqual(hostDigest(), host, why())
  }
  const { discarded, restored, lastFailure } = pool.stats()
  assert.deepEqual([discarded, lastFailure], [0, null])
  assert.ok(restored >= 3 * REQUESTS)
  pool.close()
})

for (const [name, [code, says]] of Object.entries(ENDS)) {
  test(`${name} discards the unit, and the next request gets another one`, async () => {
    const pool = await poolOf(program, 1)
    const fresh = await pool.run(shownBy)
    const { error: log } = console
    console.error = () => {}
    try {
      await pool.run(({ value }) => assert.throws(() => value.runPython(code), says))
    } finally {
      console.error = log
    }
    const { discarded, lastFailure } = pool.stats()
    assert.equal(discarded, 1)
    assert.match(lastFailure.message, /Pyodide already (fatally failed|exited)/)
    assert.deepEqual(await pool.run(shownBy), fresh)
    pool.close()
  })
}

/** What a request leaves running, and the kind that the pool tells. */
const RUNNING = {
  'a task that sleeps': [
    pyodide => pyodide.runPython('import asyncio; asyncio.ensure_future(asyncio.sleep(0.05)); 1'),
    /1 Timeout/
  ],
  'a timeout that was not needed': [
    pyodide =>
      pyodide.runPythonAsync(
        'import asyncio; await asyncio.wait_for(asyncio.sleep(0.001), 0.1); 1'
      ),
    /1 Timeout/
  ],
  'a worker': [
    pyodide => {
      const start = () => new Worker('setTimeout(() => {}, 50)', { eval: true })
      pyodide.registerJsModule('host', { start })
      return pyodide.runPython('import host; host.start(); 1')
    },
    /WORKER/
  ]
}

test('what a request leaves running discards the unit', async t => {
  const pool = await poolOf(program, 1)
  const fresh = await pool.run(shownBy)
  for (const [name, [request, says]] of Object.entries(RUNNING)) {
    await t.test(name, async () => {
      const { discarded } = pool.stats()
      assert.equal(await pool.run(({ value }) => request(value)), 1)
      const { lastFailure, ...stats } = pool.stats()
      assert.equal(stats.discarded, discarded + 1)
      assert.equal(lastFailure.code, 'ERR_HOSTMAP_REQUEST_PENDING')
      assert.match(lastFailure.message, says)
      assert.deepEqual(await pool.run(shownBy), fresh)
    })
  }
  pool.close()
})

test('the example says that nothing is left', async () => {
  const file = fileURLToPath(new URL('../examples/pyodide.mjs', import.meta.url))
  const counts = ['--requests', '5', '--boots', '1', '--copies', '1']
  const { stdout } = await promisify(execFile)(process.execPath, ['--no-warnings', file, ...counts])
  assert.match(stdout, /so much in its cart: 1, 1, 1\n/)
  assert.match(stdout, /snapshot, for comparison: [\d.,]+ m?s/)
  assert.match(stdout, /│ +yes │/)
})
