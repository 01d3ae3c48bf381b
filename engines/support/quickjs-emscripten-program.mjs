// quickjs-emscripten: a context with a library of its own, which each request finds untouched.

import assert from 'node:assert/strict'
import { RELEASE_SYNC, newQuickJSWASMModuleFromVariant, newVariant } from 'quickjs-emscripten'
import { quickjsState } from 'wasm-hostmap/quickjs'
import { DIGEST, PRELUDE, answerOf, scriptOf } from './quickjs-scripts.mjs'

export const evaluate = (context, source) =>
  context.unwrapResult(context.evalCode(source)).consume(value => context.getString(value))

const MiB = 2 ** 20
const WASM_PAGE = 2 ** 16

/**
 * A context in a memory of at most 64 MiB. The limit that QuickJS itself has is none here: this
 * build can't tell how large its blocks are.
 */
export async function makeContext() {
  const wasmMemory = new WebAssembly.Memory({
    initial: (16 * MiB) / WASM_PAGE,
    maximum: (64 * MiB) / WASM_PAGE
  })
  const variant = newVariant(RELEASE_SYNC, { wasmMemory })
  return (await newQuickJSWASMModuleFromVariant(variant)).newContext()
}

export const program = {
  name: 'quickjs-emscripten',
  package: 'quickjs-emscripten',
  bar: 10,
  nodes: '>=20',
  poolOptions: () => ({
    make: makeContext,
    init: ({ value: context }) => void evaluate(context, PRELUDE),
    state: [({ value: context }) => quickjsState(context)()]
  }),
  request: ({ value: context }, n) => evaluate(context, scriptOf(n)),
  check: (answer, n) => assert.deepEqual(JSON.parse(answer), answerOf(n)),
  digest: ({ value: context }) => JSON.parse(evaluate(context, DIGEST))
}
