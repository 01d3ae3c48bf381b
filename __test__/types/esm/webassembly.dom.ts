// Where the project has TypeScript's library `dom`, `guarded.memory` is that library's
// WebAssembly.Memory: it goes into imports and comes out of exports without a cast.

import { GuardedMemory } from 'wasm-hostmap'

const guarded = new GuardedMemory({ initial: 1 })
const memory: WebAssembly.Memory = guarded.memory
const module = new WebAssembly.Module(new Uint8Array())
const instance = new WebAssembly.Instance(module, { env: { memory: guarded.memory } })
GuardedMemory.from(instance.exports['memory'] as WebAssembly.Memory)
GuardedMemory.from(new WebAssembly.Memory({ initial: 1 }))
GuardedMemory.from(memory.buffer)

// @ts-expect-error: a table is no memory
GuardedMemory.from(new WebAssembly.Table({ element: 'anyfunc', initial: 1 }))
