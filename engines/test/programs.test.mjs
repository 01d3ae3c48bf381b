// What measures programs out of pools: that it finds what is not as in a fresh boot, and that the
// examples of programs run. On programs that boot quickly; others have tests of their own.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { HEAD, measureProgram, rowOf, tableOf } from '../bench/lib/programs.mjs'
import { NAMES, programOf } from '../support/programs.mjs'

const run = promisify(execFile)

for (const example of ['quickjs', 'wasi']) {
  test(`the example ${example} says that nothing is left`, async () => {
    const file = fileURLToPath(new URL(`../examples/${example}.mjs`, import.meta.url))
    const counts = ['--requests', '3', '--boots', '1', '--copies', '1']
    const args = ['--no-warnings', file, ...counts]
    const { stdout } = await run(process.execPath, args)
    assert.match(stdout, /│ +yes │/)
    assert.doesNotMatch(stdout, /│ +NO │/)
  })
}

test('a program is measured', async () => {
  const program = await programOf('wasi')
  const result = await measureProgram('wasi', { boots: 1, requests: 2, copies: 2 })
  assert.equal(result.isSame, true)
  assert.equal(result.discarded, 0)
  assert.ok(result.restoreMs > 0 && result.restoreMs <= result.requestMs)
  assert.ok(Object.values(result.pss).every(bytes => bytes > 2 ** 20))
  assert.ok(result.firstMs > 0 && result.againMs > 0 && result.firstRatio > 0)
  const row = rowOf({ ...program, bar: result.ratio + 1 }, result)
  assert.match(row[HEAD.indexOf('boot again / request')], /missed/)
  assert.equal(row.length, HEAD.length)
  assert.equal(row.at(-1), 'yes')
  assert.equal(rowOf(program, { ...result, isSame: false }).at(-1), 'NO')
  assert.equal(rowOf(program, { ...result, discarded: 1 }).at(-1), 'NO')
  assert.match(tableOf([[program, { error: 'it ended with 3' }]]), /failed: it ended with 3/)
})

test('what fails is told', async () => {
  await assert.rejects(measureProgram('none', { boots: 1, requests: 1 }), /no program is called/)
  assert.ok(NAMES.includes('quickjs-wasi'))
})
