// Memories that a module hides, and what tells whether an answer may be trusted.

import { GuardedMemory, HostRegion, type FaultedError } from 'wasm-hostmap'

declare const Module: {
  HEAPU8: Uint8Array
  _malloc(bytes: number): number
  _free(block: number): void
}

const guarded = GuardedMemory.from(() => Module.HEAPU8.buffer, { address: 'i32' })
const region = HostRegion.allocate(65536)
const mapping = guarded.map(region, {
  allocator: { malloc: Module._malloc, free: Module._free },
  strict: true
})
const window = guarded.window({ byteLength: 65536, at: 0, strict: true })

try {
  guarded.checkFaults()
  region.checkFaults()
} catch (error) {
  const { code, fault } = error as FaultedError
  const faulted: 'ERR_HOSTMAP_FAULTED' = code
  console.log(faulted, fault?.byteOffset)
}
const counts: number[] = [mapping, window, guarded, region].map(it => it.acknowledgeFaults())
const strict: boolean = mapping.strict && window.strict
console.log(counts, strict)
