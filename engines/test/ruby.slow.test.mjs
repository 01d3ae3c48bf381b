// Ruby with its standard library, of which a request may load what it likes, in a pool. And the
// example runs.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { InstancePool } from 'wasm-hostmap'
import { hostDigest } from '../support/host-digest.mjs'
import { program } from '../support/ruby-program.mjs'

const run = promisify(execFile)

const LIBRARIES = ['set', 'json', 'date', 'erb', 'securerandom', 'ostruct', 'forwardable', 'digest']
const ROUNDS = 5

for (const wasi of ['shim', 'node:wasi']) {
  test(`${wasi}: what a request requires is not there in the next one`, async () => {
    const pool = await InstancePool.create({
      ...program.poolOptions({ wasi, file: 'ruby+stdlib' }),
      max: 1
    })
    const fresh = await pool.run(program.digest)
    const host = hostDigest()
    for (let n = 0; n < ROUNDS; n++) {
      for (const library of LIBRARIES) {
        const loads = `[require('${library}'), $LOADED_FEATURES.size].inspect`
        await pool.run(({ value: { vm } }) => vm.eval(loads).toString())
        assert.equal(await pool.run(program.digest), fresh)
      }
      program.check(await pool.run(lent => program.request(lent, n)), n)
    }
    const numbers = new Set()
    for (let n = 0; n < ROUNDS; n++) {
      numbers.add(await pool.run(({ value: { vm } }) => vm.eval('rand').toString()))
    }
    assert.equal(numbers.size, ROUNDS)
    assert.deepEqual(hostDigest(), host)
    const { created, lastFailure } = pool.stats()
    assert.equal(created, 1, String(lastFailure))
    pool.close()
  })
}

test('the example says that nothing is left', async () => {
  const file = fileURLToPath(new URL('../examples/ruby.mjs', import.meta.url))
  const counts = ['--requests', '3', '--boots', '1', '--copies', '1']
  const { stdout } = await run(process.execPath, ['--no-warnings', file, ...counts])
  assert.match(stdout, /in its cart: 1, 1, 1/)
  assert.match(stdout, /│ +yes │/)
  assert.doesNotMatch(stdout, /│ +NO │/)
})
