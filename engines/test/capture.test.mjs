// Engines of others are captured, used, and brought back: each answers afterwards as it did at the
// checkpoint, round after round. And the example that measures it runs.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { capture, checkpoint } from 'wasm-hostmap'
import { ENGINES } from '../support/captured-engines.mjs'

const ROUNDS = 4
const EXAMPLE = fileURLToPath(new URL('../examples/checkpoint.mjs', import.meta.url))

for (const [name, { make, state, options, plant, use, digest }] of Object.entries(ENGINES)) {
  test(`${name} answers after each restore as at the checkpoint`, async () => {
    const { value: engine } = await capture(make)
    const planted = await plant(engine)
    const before = await digest(engine, planted)
    const clean = checkpoint(engine, { ...options, state: state?.(engine) })
    for (let round = 1; round <= ROUNDS; round++) {
      await use(engine, planted, round)
      clean.restore()
      assert.deepEqual(await digest(engine, planted), before)
      clean.restore()
    }
  })
}

test('the example runs, and what it compares is equal', () => {
  const args = [EXAMPLE, '--tests', '2', '--engine', '7z-wasm']
  const printed = execFileSync(process.execPath, args, { encoding: 'utf8' })
  assert.match(printed, /7z-wasm .* times/)
  assert.match(printed, /Each says the same at the start of every test\./)
})
