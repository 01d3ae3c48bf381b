// What a request in Pyodide has begun and not ended calls back into its memory. In a pool its unit
// is thrown away; without that, the process ends.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { loadPyodide } from 'pyodide'
import { InstancePool } from 'wasm-hostmap'
import { emscriptenState } from 'wasm-hostmap/emscripten-state'

const LEFT = `
import asyncio
async def later():
    await asyncio.sleep(0.02)
    print('woke up')
asyncio.ensure_future(later())
'answer'`

test('what a request has not ended throws its unit away', async t => {
  const printed = []
  const pool = await InstancePool.create({
    make: () => loadPyodide({ stdout: line => printed.push(line), stderr() {} }),
    accept: ['gc-objects'],
    state: [({ value }) => emscriptenState(value._module)()],
    max: 1
  })
  const outcome = () => {
    const { restored, discarded } = pool.stats()
    return { restored, discarded }
  }

  await t.test('but what it waited for, and saw the end of, does not', async () => {
    const answer = await pool.run(({ value }) =>
      value.runPythonAsync('import asyncio\nawait asyncio.sleep(0.01)\nstr([1, 2, 3])')
    )
    assert.equal(answer, '[1, 2, 3]')
    assert.deepEqual(outcome(), { restored: 1, discarded: 0 })
  })

  await t.test('a task of asyncio does', async () => {
    assert.equal(await pool.run(({ value }) => value.runPython(LEFT)), 'answer')
    assert.deepEqual(outcome(), { restored: 1, discarded: 1 })
    assert.equal(pool.stats().lastFailure.code, 'ERR_HOSTMAP_REQUEST_PENDING')
    assert.match(pool.stats().lastFailure.message, /Timeout/)
    // It is called back, in a memory that is as it left it.
    while (printed.length === 0) await sleep(5)
    assert.deepEqual(printed, ['woke up'])
  })
  pool.close()
})

test('if nobody looked, it would end the process', async () => {
  const script = `
    import { loadPyodide } from 'pyodide'
    import { capture, checkpoint } from 'wasm-hostmap'
    import { emscriptenState } from 'wasm-hostmap/emscripten-state'
    const { value, unit } = await capture(() => loadPyodide({ stderr() {} }))
    const state = [emscriptenState(value._module)]
    const clean = checkpoint(unit, { accept: ['gc-objects'], state })
    value.runPython(${JSON.stringify(LEFT)})
    clean.restore()
    console.log(value.runPython('str([1, 2, 3])'))
    setTimeout(() => console.log('nothing happened'), 1000)`
  const args = ['--input-type=module', '-e', script]
  const ended = await promisify(execFile)(process.execPath, args, {
    cwd: new URL('..', import.meta.url),
    // Glue that finds nonsense may print megabytes of it.
    maxBuffer: Number.POSITIVE_INFINITY,
    timeout: 60_000
  }).catch(error => error)
  // The restore and the next request are as if nothing were wrong.
  assert.match(ended.stdout, /^\[1, 2, 3\]\n/)
  assert.doesNotMatch(ended.stdout, /nothing happened/)
  assert.ok(ended instanceof Error)
  // What is in the memory then decides whether Wasm traps, or Pyodide's glue finds nonsense.
  assert.match(ended.stderr, /RuntimeError|fatal error/)
})
