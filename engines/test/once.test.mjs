// A session of onnxruntime-web that one process has made is there in the next one: the same
// answers, without the engine's call.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import { inputOf, writeOnnx } from '../support/onnx-models.mjs'

const MODEL = { size: 256, layers: 8, seed: 5 }
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'once-'))
after(() => fs.rmSync(folder, { recursive: true }))
const support = name => JSON.stringify(new URL(`../support/${name}`, import.meta.url).href)

async function answer(model, snapshot) {
  const script = `
    import { createOnce, ort } from ${support('onnx-once.mjs')}
    ort.env.wasm.numThreads = 1
    const { session, called } = await createOnce(...${JSON.stringify([model, { snapshot }])})
    const input = Float32Array.from(${JSON.stringify([...inputOf(MODEL)])})
    const x = new ort.Tensor('float32', input, [1, input.length])
    const answers = []
    for (let i = 0; i < 2; i++) answers.push(Array.from((await session.run({ x })).y.data))
    console.log(JSON.stringify({ called, answers }))`
  const args = ['--input-type=module', '--eval', script]
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 24 })
  return JSON.parse(stdout)
}

test('a session is made once, and answers the same in another process', async () => {
  const model = path.join(folder, 'one.onnx')
  const snapshot = path.join(folder, 'one.snapshot')
  writeOnnx(model, MODEL)
  const first = await answer(model, snapshot)
  assert.equal(first.called, true)
  const second = await answer(model, snapshot)
  assert.equal(second.called, false)
  assert.deepEqual(second.answers, first.answers)
  assert.deepEqual(first.answers[0], first.answers[1])

  // Another model is another state before the call.
  writeOnnx(model, { ...MODEL, seed: 6 })
  const other = await answer(model, snapshot)
  assert.equal(other.called, true)
  assert.notDeepEqual(other.answers, first.answers)
})
