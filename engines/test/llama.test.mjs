// The example of wllama: a mapped model says what one says that wllama read in its usual way.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const EXAMPLE = fileURLToPath(new URL('../examples/llama.mjs', import.meta.url))
const run = (...args) => promisify(execFile)(process.execPath, [EXAMPLE, ...args])
const has64 = Number(process.versions.node.split('.')[0]) >= 24

test('two instances over one mapped model say what the usual ones say', async () => {
  if (!has64) {
    await assert.rejects(run(), /Node\.js 24 or later/)
    return
  }
  const { stdout } = await run('--size', '32MiB')
  assert.match(stdout, /All say the same\./)
  assert.match(stdout, /instance 2, ready after/)
  const [, usual, mapped] = /says\s+│\s+(\S.*?) │\s+(\S.*?) │/.exec(stdout)
  assert.equal(mapped.trim(), usual.trim())
})
