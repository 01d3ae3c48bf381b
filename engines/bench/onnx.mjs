// onnxruntime-web with an `.ort` model: read into a Buffer and copied into the engine's memory, as
// the engine does it, beside a mapped one. The model is a chain of square matrices, so that a run
// reads every weight once.
//
// The usual way repacks the weights; `unpacked` is the usual way without that, whose results are
// those of `mapped` bit by bit. Repacked weights are added up in another order, so results are
// compared as rounded numbers.

import fs from 'node:fs'
import path from 'node:path'
import * as ort from 'onnxruntime-web'
import { HostRegion } from 'wasm-hostmap'
import { onnx } from 'wasm-hostmap/onnx'
import { inputOf, modelOf, writeOrt } from '../support/onnx-models.mjs'

export const engine = {
  name: 'onnxruntime-web',
  package: 'onnxruntime-web',
  adapter: 'onnx(ort).create(region)',
  limits: '`.ort` models below 4 GiB',
  section: 'onnxruntime-web',
  nodes: '>=20'
}

const UNPACKED = { extra: { session: { disable_prepacking: '1' } } }
const DIGITS = 2

// The size of the matrices is in the file's name: the model is known by it.
export async function dataset(directory, byteLength) {
  const model = modelOf(byteLength)
  const file = path.join(directory, `chain-${model.size}x${model.layers}.ort`)
  if (!fs.existsSync(file)) writeOrt(file, model)
  return file
}

async function prepare() {
  ort.env.wasm.numThreads = 1
  const runtime = onnx(ort)
  // The engine is there and warm after a session of a small model.
  const model = modelOf(2 ** 20, { size: 256 })
  const directory = fs.mkdtempSync('/tmp/onnx-')
  const file = path.join(directory, 'small.ort')
  writeOrt(file, model)
  const session = await runtime.create(HostRegion.open(file))
  fs.rmSync(directory, { recursive: true })
  await runOf(session, model.size, 0)
  await session.release()
  return { runtime }
}

async function runOf(session, size, seed) {
  const { y } = await session.run({
    x: new ort.Tensor('float32', inputOf({ size }, seed), [1, size])
  })
  return y.data
}

/** The first numbers of a run. */
async function numbersOf({ session }, seed) {
  const [{ shape }] = session.inputMetadata
  const found = await runOf(session, shape[1], seed)
  return [...found.subarray(0, 32)].map(it => Number(it.toFixed(DIGITS)) + 0)
}

const way = open => ({
  prepare,
  open: async (context, file) => ({ session: await open(context, file) }),
  scan: handle => numbersOf(handle, 1),
  // A run is all that a model answers.
  answer: handle => numbersOf(handle, 2),
  close: ({ session }) => session.release()
})

export const ways = {
  usual: way((context, file) => ort.InferenceSession.create(file)),
  mapped: way(({ runtime }, file) => runtime.create(HostRegion.open(file))),
  unpacked: way((context, file) => ort.InferenceSession.create(file, UNPACKED))
}
