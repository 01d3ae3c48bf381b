// 1,000 random requests of a PHP, each of which leaves files, globals, open streams, another folder
// or grown memory behind: after each, PHP shows of itself what it showed at first. And the example
// runs.
//
//   REQUESTS=50 SEED=7 npm run test:engines -- --slow php.slow

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { InstancePool } from 'wasm-hostmap'
import { digestFS } from '../support/fs-digest.mjs'
import { hostDigest } from '../support/host-digest.mjs'
import { changedPages, memoryOf } from '../support/memory-pages.mjs'
import { BUILDS, digestOf, moduleOf, poolOptions } from '../support/php-program.mjs'
import { randomOf, randomScript } from '../support/php-random.mjs'

const REQUESTS = Number(process.env.REQUESTS ?? 1000)
const SEED = Number(process.env.SEED ?? 20_261_129)
/** After how many requests all bytes of the memory are compared, too. */
const EACH = 10

for (const build of BUILDS) {
  test(`${build}: ${REQUESTS} random requests leave nothing, seed ${SEED}`, async t => {
    const pool = await InstancePool.create({ ...poolOptions(build), max: 1 })
    const bytes = ({ value: php }) => memoryOf(moduleOf(php))
    const look = async lent => ({
      files: digestFS(moduleOf(lent.value).FS),
      shown: await digestOf(lent.value)
    })
    const memory = Buffer.from(await pool.run(bytes))
    const fresh = await pool.run(look)
    const host = hostDigest()
    const random = randomOf(SEED)
    const seen = { failed: 0, trapped: 0 }
    for (let n = 0; n < REQUESTS; n++) {
      const code = randomScript(random)
      try {
        await pool.run(({ value: php }) => php.run({ code }))
      } catch (error) {
        if (error.name === 'RangeError' || error.name === 'RuntimeError') seen.trapped++
        else seen.failed++
      }
      if (n % EACH === 0) {
        assert.deepEqual(await pool.run(lent => changedPages(bytes(lent), memory)), [], code)
      }
      assert.deepEqual(await pool.run(look), fresh, code)
      assert.deepEqual(hostDigest(), host, code)
    }
    const { created, restoreMicroseconds, lastFailure } = pool.stats()
    assert.equal(created, 1, String(lastFailure?.stack))
    t.diagnostic(
      `of these ${seen.failed} failed and ${seen.trapped} were trapped; ` +
        `restores took ${Math.round(restoreMicroseconds.mean)} us on average`
    )
    pool.close()
  })
}

test('the example says that nothing is left', async () => {
  const file = fileURLToPath(new URL('../examples/php.mjs', import.meta.url))
  const counts = ['--requests', '3', '--boots', '1', '--copies', '1']
  const { stdout } = await promisify(execFile)(process.execPath, [file, ...counts])
  assert.match(stdout, /so many orders: 1, 1, 1/)
  assert.match(stdout, /│ +yes │/)
  assert.doesNotMatch(stdout, /│ +NO │/)
})
