// quickjs-wasi: an interpreter with a library of its own, which each request finds untouched.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { QuickJS } from 'quickjs-wasi'
import { quickjsState } from 'wasm-hostmap/quickjs'
import { DIGEST, PRELUDE, answerOf, scriptOf } from './quickjs-scripts.mjs'

const MiB = 2 ** 20
const wasm = await readFile(new URL(import.meta.resolve('quickjs-wasi/quickjs.wasm')))
// A thread compiles it once, as the package advises.
let module

export const evaluate = (vm, source) => vm.evalCode(source).consume(value => value.toString())

/** Room for what requests take, which wasi-libc's malloc then has of its own; and the library. */
function prepare(vm) {
  vm.exports.wasm_free(vm.exports.wasm_malloc(4 * MiB))
  evaluate(vm, PRELUDE)
}

export const program = {
  name: 'quickjs-wasi',
  package: 'quickjs-wasi',
  bar: 10,
  nodes: '>=20',
  poolOptions: () => ({
    make: () => QuickJS.create({ wasm }),
    init: ({ value: vm }) => prepare(vm),
    // What goes beyond that grows the memory for good, and by as much again in each request.
    maxMemoryBytes: 64 * MiB,
    state: [({ value: vm }) => quickjsState(vm)()]
  }),
  async boot() {
    module ??= await WebAssembly.compile(wasm)
    const vm = await QuickJS.create({ wasm: module })
    prepare(vm)
    return vm
  },
  request: ({ value: vm }, n) => evaluate(vm, scriptOf(n)),
  check: (answer, n) => assert.deepEqual(JSON.parse(answer), answerOf(n)),
  digest: ({ value: vm }) => JSON.parse(evaluate(vm, DIGEST))
}
