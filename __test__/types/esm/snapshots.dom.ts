// With TypeScript's library `dom`: its instances and modules go in, and its instances come out.

import { GuardedMemory, Snapshot, exposeState } from 'wasm-hostmap'

async function fork(bytes: Uint8Array<ArrayBuffer>): Promise<WebAssembly.Instance> {
  const { instance } = await WebAssembly.instantiate(exposeState(bytes) as Uint8Array<ArrayBuffer>)
  const snapshot = Snapshot.of(instance, { module: bytes })
  snapshot.restoreTo(instance)
  GuardedMemory.from(instance.exports['memory'] as WebAssembly.Memory).snapshot({
    globals: instance.exports
  })
  return snapshot.instantiate(await WebAssembly.compile(bytes), { env: {} })
}
fork(new Uint8Array(8)).then(({ exports }) => console.log(exports))
