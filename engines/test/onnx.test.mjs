// wasm-hostmap/onnx with the real onnxruntime-web: results are those of the engine's usual way, and
// the weights of an .ort model are where the region is.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import * as ort from 'onnxruntime-web'
import { HostRegion } from 'wasm-hostmap'
import { onnx } from 'wasm-hostmap/onnx'
import { inputOf, writeOnnx, writeOnnxWithData, writeOrt } from '../support/onnx-models.mjs'

const MiB = 2 ** 20
// 16 MiB of weights.
const MODEL = { size: 512, layers: 16, seed: 3 }
const WEIGHT_BYTES = MODEL.size ** 2 * MODEL.layers * 4
const UNPACKED = { extra: { session: { disable_prepacking: '1' } } }

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'onnx-'))
after(() => fs.rmSync(folder, { recursive: true }))
const DATA = new URL('../data/', import.meta.url)
fs.mkdirSync(DATA, { recursive: true })
const scripts = fs.mkdtempSync(new URL('onnx-', DATA).pathname)
after(() => fs.rmSync(scripts, { recursive: true }))
const file = name => path.join(folder, name)
writeOrt(file('model.ort'), MODEL)
writeOnnx(file('model.onnx'), MODEL)
writeOnnxWithData(file('external.onnx'), MODEL, 'weights.bin')

ort.env.wasm.numThreads = 1
const runtime = onnx(ort)
const feeds = seed => ({ x: new ort.Tensor('float32', inputOf(MODEL, seed), [1, MODEL.size]) })
const run = async (session, seed = 1) => Buffer.from((await session.run(feeds(seed))).y.data.buffer)
const usual = async (name, options) => {
  const session = await ort.InferenceSession.create(fs.readFileSync(file(name)), options)
  const answers = [await run(session, 1), await run(session, 2)]
  await session.release()
  return answers
}
const mappings = () => runtime.memory.mappings.length
const isClose = (one, other) => {
  const floats = bytes => new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
  const [a, b] = [floats(one), floats(other)]
  const most = Math.max(...b.map(Math.abs))
  return a.length === b.length && a.every((it, i) => Math.abs(it - b[i]) < 1e-4 * most)
}

test('wrong arguments are refused before anything is done', async () => {
  for (const value of [undefined, null, {}, { InferenceSession: {} }, 'onnxruntime-web']) {
    assert.throws(() => onnx(value), { code: 'ERR_INVALID_ARG_TYPE', message: /onnxruntime-web/ })
  }
  assert.throws(() => onnx(ort, { dist: 1 }), { code: 'ERR_INVALID_ARG_TYPE', message: /dist/ })
  assert.throws(() => onnx(ort, null), { code: 'ERR_INVALID_ARG_TYPE' })
  assert.throws(() => onnx(ort, { path: '' }), { code: 'ERR_INVALID_ARG_VALUE', message: /dist/ })
  for (const model of [undefined, file('model.ort'), fs.readFileSync(file('model.ort'))]) {
    await assert.rejects(runtime.create(model), {
      code: 'ERR_INVALID_ARG_TYPE',
      message: /HostRegion\.open/
    })
  }
  await assert.rejects(runtime.create(HostRegion.open(file('model.ort')), null), {
    code: 'ERR_INVALID_ARG_TYPE'
  })
  await assert.rejects(runtime.create(HostRegion.open(file('model.ort')), { externalData: {} }), {
    code: 'ERR_INVALID_ARG_TYPE',
    message: /externalData must be an array/
  })
  assert.equal(onnx(ort), runtime)
  assert.equal(runtime.memory, undefined)
})

test('an .ort model answers as in the usual way, and its weights are not copied', async () => {
  const { wasmPaths } = ort.env.wasm
  const region = HostRegion.open(file('model.ort'))
  const first = await runtime.create(region)
  assert.equal(ort.env.wasm.wasmPaths, wasmPaths)
  assert.deepEqual(first.inputNames, ['x'])
  const before = runtime.memory.byteLength
  const others = [await runtime.create(region), await runtime.create(region)]
  // Three sessions of one mapping: together they took less than the weights of one.
  assert.equal(mappings(), 1)
  assert.ok(runtime.memory.byteLength - before < WEIGHT_BYTES)
  const answers = [await run(first, 1), await run(first, 2)]
  // Until here: the engine's usual way grows the same memory.
  const unpacked = await usual('model.ort', UNPACKED)
  assert.deepEqual(answers, unpacked)
  for (const session of others) assert.deepEqual(await run(session, 2), unpacked[1])
  const packed = await usual('model.ort')
  answers.forEach((answer, i) => assert.ok(isClose(answer, packed[i])))
  assert.notDeepEqual(answers[0], answers[1])
  const [mapping] = runtime.memory.mappings
  assert.equal(mapping.strayWrites, 0)
  for (const session of [first, ...others]) await session.release()
  assert.equal(mappings(), 0)
})

test('repacked weights answer bit by bit as in the usual way', async () => {
  const options = { extra: { session: { disable_prepacking: '0' } } }
  const session = await runtime.create(HostRegion.open(file('model.ort')), options)
  const answers = [await run(session, 1), await run(session, 2)]
  await session.release()
  assert.deepEqual(answers, await usual('model.ort'))
  // The caller's object is as it was.
  assert.deepEqual(options, { extra: { session: { disable_prepacking: '0' } } })
})

test('.onnx models, and external data in a region, answer as in the usual way', async () => {
  const expected = await usual('model.onnx')
  const inside = await runtime.create(HostRegion.open(file('model.onnx')))
  assert.equal(mappings(), 0)
  assert.deepEqual([await run(inside, 1), await run(inside, 2)], expected)
  await inside.release()
  const data = HostRegion.open(file('weights.bin'))
  for (const given of [data, fs.readFileSync(file('weights.bin')), file('weights.bin')]) {
    const session = await runtime.create(HostRegion.open(file('external.onnx')), {
      externalData: [{ path: 'weights.bin', data: given }]
    })
    assert.deepEqual([await run(session, 1), await run(session, 2)], expected)
    await session.release()
  }
})

test('sessions outlive their region, and each other; released twice is the error of the engine', async () => {
  const expected = await usual('model.ort', UNPACKED)
  const region = await HostRegion.load(file('model.ort'))
  const sessions = [await runtime.create(region), await runtime.create(region)]
  region.close()
  await sessions[0].release()
  await assert.rejects(sessions[0].release(), /invalid session id/)
  assert.equal(mappings(), 1)
  // Grown meanwhile, over all that is mapped.
  const other = await ort.InferenceSession.create(fs.readFileSync(file('model.onnx')))
  assert.deepEqual(await run(sessions[1]), expected[0])
  await other.release()
  await sessions[1].release()
  assert.equal(mappings(), 0)
  await assert.rejects(sessions[1].run(feeds()), /invalid session id/)
  await assert.rejects(runtime.create(region), { code: 'ERR_HOSTMAP_REGION_CLOSED' })
  const again = await runtime.create(HostRegion.open(file('model.ort')))
  assert.deepEqual(await run(again), expected[0])
  await again.release()
})

test('sessions that are asked for at once are made', async () => {
  const expected = await usual('model.ort', UNPACKED)
  const region = HostRegion.open(file('model.ort'))
  const asked = Array.from({ length: 5 }, (_, i) =>
    i === 2 ? runtime.create(HostRegion.allocate(4096)) : runtime.create(region)
  )
  const made = await Promise.allSettled(asked)
  assert.deepEqual(
    made.map(({ status }) => status),
    ['fulfilled', 'fulfilled', 'rejected', 'fulfilled', 'fulfilled']
  )
  for (const { value } of made.filter(it => it.value)) {
    assert.deepEqual(await run(value), expected[0])
    await value.release()
  }
  assert.equal(mappings(), 0)
})

test('what is no model is refused by the engine, and leaves nothing', async () => {
  const whole = fs.readFileSync(file('model.ort'))
  const damaged = Buffer.from(whole)
  damaged.fill(0xff, 8, 400)
  for (const [bytes, message] of [
    [whole.subarray(0, whole.length / 2), /Can't create a session/],
    [whole.subarray(0, 4095), /Can't create a session/],
    [whole.subarray(0, 8), /Can't create a session/],
    [damaged, /Can't create a session/],
    [fs.readFileSync(file('model.onnx')).subarray(0, MiB), /protobuf/],
    [Buffer.from('no model'), /protobuf/],
    [Buffer.alloc(1), /Can't create a session/],
    [Buffer.alloc(4096), /Can't create a session/]
  ]) {
    await assert.rejects(runtime.create(HostRegion.copyFrom(bytes)), { message })
    assert.equal(mappings(), 0)
  }
  await assert.rejects(
    runtime.create(HostRegion.open(file('external.onnx')), {
      externalData: [{ path: 'weights.bin', data: HostRegion.allocate(4096) }]
    }),
    /Can't create a session/
  )
  const session = await runtime.create(HostRegion.open(file('model.ort')))
  assert.deepEqual(await run(session), (await usual('model.ort', UNPACKED))[0])
  await session.release()
})

test('a model that does not fit into the memory of the engine says so', async () => {
  const before = runtime.memory.byteLength
  await assert.rejects(runtime.create(HostRegion.allocate(5 * 2 ** 30)), {
    code: 'ERR_HOSTMAP_ALLOCATOR_FAILED',
    message: /malloc/
  })
  await assert.rejects(runtime.create(HostRegion.allocate(4 * 2 ** 30 - 8192)), {
    code: 'ERR_HOSTMAP_ALLOCATOR_FAILED',
    message: /malloc/
  })
  assert.equal(mappings(), 0)
  assert.equal(runtime.memory.byteLength, before)
})

/** A script of its own, where the engine has not started yet; gives what it printed. */
async function script(code) {
  const text = `
    import fs from 'node:fs'
    import * as ort from 'onnxruntime-web'
    import { HostRegion } from 'wasm-hostmap'
    import { onnx } from 'wasm-hostmap/onnx'
    import { inputOf } from '../../support/onnx-models.mjs'
    const file = ${JSON.stringify(file('model.ort'))}
    const MODEL = ${JSON.stringify(MODEL)}
    const feeds = { x: new ort.Tensor('float32', inputOf(MODEL, 1), [1, MODEL.size]) }
    const run = async session => Buffer.from((await session.run(feeds)).y.data.buffer).toString('hex')
    ort.env.wasm.numThreads = 1
    ${code}
    process.exit()`
  // Beside the packages. Not by --eval, whose options the threads of the engine would inherit.
  fs.writeFileSync(path.join(scripts, 'script.mjs'), text)
  const { stdout } = await promisify(execFile)(process.execPath, [path.join(scripts, 'script.mjs')])
  return stdout.trim()
}

test('several threads in the engine read one mapping', async () => {
  const [expected] = await usual('model.ort', UNPACKED)
  const found = await script(`
    ort.env.wasm.numThreads = 3
    const session = await onnx(ort).create(HostRegion.open(file))
    console.log(await run(session))`)
  assert.ok(isClose(Buffer.from(found, 'hex'), expected))
})

test('files are found by env.wasm.wasmPaths and by dist', async () => {
  const [expected] = await usual('model.ort', UNPACKED)
  for (const code of [
    `const dist = new URL('.', import.meta.resolve('onnxruntime-web'))
     const runtime = onnx(ort, { dist })`,
    `ort.env.wasm.wasmPaths = new URL('.', import.meta.resolve('onnxruntime-web')).href
     const runtime = onnx(ort)`,
    `ort.env.wasm.wasmPaths = {
       mjs: new URL(import.meta.resolve('onnxruntime-web/ort-wasm-simd-threaded.mjs')),
       wasm: new URL(import.meta.resolve('onnxruntime-web/ort-wasm-simd-threaded.wasm'))
     }
     const runtime = onnx(ort)`
  ]) {
    const found = await script(`${code}
      console.log(await run(await runtime.create(HostRegion.open(file))))`)
    assert.equal(found, expected.toString('hex'))
  }
})

test('after advice was followed, the engine starts', async () => {
  const [expected] = await usual('model.ort', UNPACKED)
  const found = await script(`
    ort.env.wasm.proxy = true
    const refused = await onnx(ort).create(HostRegion.open(file)).catch(({ code }) => code)
    if (refused !== 'ERR_HOSTMAP_ENGINE_UNSUPPORTED') throw new Error(refused)
    ort.env.wasm.proxy = false
    console.log(await run(await onnx(ort).create(HostRegion.open(file))))`)
  assert.equal(found, expected.toString('hex'))
})

test('an engine that is out of reach says why, and what to do', async () => {
  const refused = code =>
    script(`
      const runtime = onnx(ort)
      ${code}
      console.log(JSON.stringify(await runtime.create(HostRegion.open(file)).catch(
        ({ code, message }) => ({ code, message })
      )))`).then(JSON.parse)
  for (const [code, says] of [
    ['await ort.InferenceSession.create(fs.readFileSync(file))', /session in this thread before/],
    ['ort.env.wasm.proxy = true', /env\.wasm\.proxy/]
  ]) {
    const error = await refused(code)
    assert.equal(error.code, 'ERR_HOSTMAP_ENGINE_UNSUPPORTED')
    assert.match(error.message, says)
    assert.match(error.message, /onnxruntime-web \d+\.\d+/)
  }
})

test('a file that becomes shorter under a session ends no process, and is told', async () => {
  const found = await script(`
    const copy = file + '.short'
    fs.copyFileSync(file, copy)
    const runtime = onnx(ort)
    const session = await runtime.create(HostRegion.open(copy))
    const before = await run(session)
    fs.truncateSync(copy, 8192)
    let what = 'answered'
    try {
      await run(session)
    } catch (error) {
      what = 'failed'
    }
    let code
    try {
      runtime.memory.checkFaults()
    } catch (error) {
      code = error.code
    }
    console.log(before.length > 0, what, code)`)
  assert.match(found, /^true (answered|failed) ERR_HOSTMAP_FAULTED$/)
})

test('four workers share one model: equal answers, and one set of weights', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [
    new URL('../examples/onnx.mjs', import.meta.url).pathname,
    '--size',
    '64MiB',
    '--json'
  ])
  const { modelBytes, ways } = JSON.parse(stdout)
  const [mapped] = ways.filter(({ way }) => way === 'mapped')
  const [unpacked] = ways.filter(({ way }) => way === 'usual, unpacked')
  assert.equal(mapped.answers.length, 4)
  assert.deepEqual(new Set(mapped.answers), new Set(unpacked.answers))
  assert.equal(new Set(mapped.answers).size, 1)
  // The bar of the project.
  assert.ok(mapped.pss <= 1.3 * modelBytes + 4 * 120 * MiB, `${mapped.pss} bytes`)
  assert.ok(unpacked.pss > mapped.pss + 4 * modelBytes, `${unpacked.pss} beside ${mapped.pss}`)
})
