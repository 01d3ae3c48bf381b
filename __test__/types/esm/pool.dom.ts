// Where the project has TypeScript's library `dom`, modules and instances are that library's.

import { exposeState, InstancePool } from 'wasm-hostmap'
import type { WasmModule } from 'wasm-hostmap'

const bytes = exposeState(new Uint8Array(8))
const module: WebAssembly.Module = await WebAssembly.compile(bytes)
const same: WasmModule = new WebAssembly.Module(exposeState(bytes))
const pool = await InstancePool.create(module, {
  imports: {
    env: { memory: new WebAssembly.Memory({ initial: 1 }) }
  } satisfies WebAssembly.Imports,
  init(instance) {
    const { exports }: WebAssembly.Instance = instance
    ;(exports['init'] as () => void)()
  }
})
const instance: WebAssembly.Instance = (await pool.acquire()).instance
console.log(instance.exports)

// Its exports can be called as they are.
const other = await InstancePool.create(same, {
  bind: ({ exports }, memory) => exports['bind'](memory.byteLength),
  init: instance => instance.exports['boot']()
})
const answer: number = await other.run(leased => leased.exports['handle'](42))
const copy = await other.snapshot.instantiate(bytes)
console.log(answer, copy.exports['handle'](42))
