// Where the project has TypeScript's library `dom`, modules and instances are that library's.

import { exposeState, InstancePool } from 'wasm-hostmap'

const bytes = exposeState(new Uint8Array(8))
const module: WebAssembly.Module = await WebAssembly.compile(new Uint8Array(bytes))
const pool = await InstancePool.create(module, {
  imports: { env: { memory: new WebAssembly.Memory({ initial: 1 }) } } satisfies WebAssembly.Imports,
  init(instance) {
    const { exports }: WebAssembly.Instance = instance
    ;(exports['init'] as () => void)()
  }
})
const instance: WebAssembly.Instance = (await pool.acquire()).instance
console.log(instance.exports)
