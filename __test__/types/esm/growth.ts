// Modules whose growth is watched.

import {
  type GrowthOptions,
  type GrowthRequest,
  GuardedMemory,
  InstancePool,
  InstrumentedModule,
  instrumentGrowth,
  Snapshot
} from 'wasm-hostmap'

const bytes = new Uint8Array(8)
const growth: GrowthOptions = {
  limit: 2 ** 28,
  onGrow: ({ wasmPages, byteLength, newByteLength, memoryIndex, memory }: GrowthRequest) => {
    const sum: number = wasmPages + byteLength + newByteLength + memoryIndex
    const known: GuardedMemory | null = memory
    return known !== null && sum > 0
  }
}
const made: InstrumentedModule = instrumentGrowth(bytes, growth)
instrumentGrowth(new ArrayBuffer(8))
instrumentGrowth(bytes, { onGrow: () => {}, limit: undefined })
const code: Uint8Array = made.bytes
const from: string = made.importModule
const { imports, bind } = made.importsFor({ env: {} })
bind({ exports: {} })
const instance = await made.instantiate()
console.log(code, from, imports, instance.exports['grow'])

InstancePool.create(bytes, { growth })
Snapshot.of(instance, { accept: ['dropped-segments'] }).restoreTo(instance, {
  accept: ['gc-objects']
})
await Snapshot.of(instance).instantiate(bytes, {}, { accept: ['v128-globals'] })

// @ts-expect-error: only `instrumentGrowth` makes them
new InstrumentedModule()
// @ts-expect-error: the answer is there at once
instrumentGrowth(bytes, { onGrow: async () => true })
// @ts-expect-error: in bytes, as a number
InstancePool.create(bytes, { growth: { limit: '1 GiB' } })
