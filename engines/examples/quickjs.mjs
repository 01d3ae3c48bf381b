// Scripts of several tenants in one QuickJS, which is clean for each of them: out of a pool, beside
// booting one anew. Both packages that have QuickJS.
//
//   node engines/examples/quickjs.mjs [--requests 500] [--boots 9]

import { readFile } from 'node:fs/promises'
import { RELEASE_SYNC, newQuickJSWASMModuleFromVariant } from 'quickjs-emscripten'
import { QuickJS } from 'quickjs-wasi'
import { InstancePool } from 'wasm-hostmap'
import { quickjsState } from 'wasm-hostmap/quickjs'
import { compareWithBooting } from '../support/pool-example.mjs'

const LIBRARY = 'globalThis.cart = []; globalThis.add = item => cart.push(item)'
// The third tenant finds no built-in that the second one has broken, and nobody's cart.
const TENANTS = [
  'add("lamp"); cart.length',
  'add("chair"); Array.prototype.push = () => 99; globalThis.add = null; cart.length',
  'add("kettle"); cart.length'
]

const wasm = await readFile(new URL(import.meta.resolve('quickjs-wasi/quickjs.wasm')))

const pools = {
  'quickjs-wasi': await InstancePool.create({
    make: () => QuickJS.create({ wasm }),
    init: ({ value: vm }) => vm.evalCode(LIBRARY).dispose(),
    state: [({ value: vm }) => quickjsState(vm)()]
  }),
  'quickjs-emscripten': await InstancePool.create({
    make: async () => (await newQuickJSWASMModuleFromVariant(RELEASE_SYNC)).newContext(),
    init: ({ value: context }) => context.unwrapResult(context.evalCode(LIBRARY)).dispose(),
    state: [({ value: context }) => quickjsState(context)()]
  })
}

const evaluate = {
  'quickjs-wasi': (vm, script) => vm.evalCode(script).toNumber(),
  'quickjs-emscripten': (context, script) =>
    context.getNumber(context.unwrapResult(context.evalCode(script)))
}

for (const [name, pool] of Object.entries(pools)) {
  const found = []
  for (const script of TENANTS) {
    // Nothing is disposed of: all of the heap goes back.
    found.push(await pool.run(({ value }) => evaluate[name](value, script)))
  }
  console.log(`${name}: each tenant has so much in its cart: ${found.join(', ')}`)
  if (found.some(count => count !== 1)) process.exitCode = 1
  pool.close()
}

await compareWithBooting(Object.keys(pools))
