// Sessions of onnxruntime-web that `once` makes: the engine's own call that makes a session,
// `_OrtCreateSession`, is made once, and its outcome kept in a file.
//
// The engine imports what `env.wasm.wasmPaths.mjs` names in place of its Emscripten module. That
// is this file, which makes the module as ever, captures its instance, and replaces the one call.

import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import * as ort from 'onnxruntime-web'
import { capture, once } from 'wasm-hostmap'

export { ort }

const dist = path.dirname(createRequire(import.meta.url).resolve('onnxruntime-web'))
const MODULE = path.join(dist, 'ort-wasm-simd-threaded')

// By this file's URL the engine imports another copy of it, so what both need is here.
const shared = (globalThis[Symbol.for('wasm-hostmap.onnx-once')] ??= { given: undefined })

/**
 * A session of a model's file, the first of the thread. `called`: whether the engine had to make
 * it.
 */
export async function createOnce(file, { snapshot, from } = {}) {
  ort.env.wasm.wasmPaths = {
    mjs: import.meta.url,
    wasm: pathToFileURL(`${MODULE}.wasm`).href
  }
  shared.given = { snapshot, from, called: false }
  const session = await ort.InferenceSession.create(file)
  return { session, called: shared.given.called }
}

export default async config => {
  const { default: make } = await import(pathToFileURL(`${MODULE}.mjs`).href)
  const { value: module, unit } = await capture(() => make(config))
  const create = module._OrtCreateSession
  module._OrtCreateSession = (...args) => {
    const { snapshot, from } = shared.given
    const call = () => {
      shared.given.called = true
      return create(...args)
    }
    // The memory is a shared one, in which this thread is alone.
    const options = { snapshot, from, module: fs.readFileSync(`${MODULE}.wasm`), exclusive: true }
    return once(unit, call, options)
  }
  return module
}
