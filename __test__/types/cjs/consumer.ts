// A CommonJS project. The whole module by `import = require`, names by a dynamic import and by
// `import type`.

import hostmap = require('wasm-hostmap')
import type { Access, Layout, Limits, MapOptions } from 'wasm-hostmap'

const { GuardedMemory, HostRegion, Mapping } = hostmap

const access: Access = 'private'
const options: MapOptions = { access, byteOffset: 4096, byteLength: 8192, populate: true }

function mapInto(memory: hostmap.GuardedMemory, region: hostmap.HostRegion): hostmap.Mapping {
  const mapping = memory.map(region, options)
  const address: number = mapping.address
  const pointer: number | bigint = mapping.pointer
  console.log(address, pointer, mapping instanceof Mapping, mapping.memory === memory)
  return mapping
}

const region = HostRegion.allocate(65_536, { name: 'weights' })
const memory = new GuardedMemory({ initial: 1, maximum: 16 })
mapInto(memory, region).unmap()

const layout: Layout = memory.layout()
for (const { kind, start, end, region: mapped } of layout)
  console.log(kind, end - start, mapped?.name ?? '-')

const limits: Limits = hostmap.limits()
const wasmPageSize: 65536 = limits.wasm.pageSize
console.log(wasmPageSize, limits.mapCount.limit - limits.mapCount.used)
const reason: string | null = limits.faultGuard.handler === 'none' ? limits.faultGuard.reason : null
console.log(reason, limits.faultGuard.traps)

async function namesOf(): Promise<typeof hostmap.HostRegion> {
  const module = await import('wasm-hostmap')
  return module.HostRegion
}
namesOf().then(({ open }) => open(new URL('file:///data/weights.bin'), { writable: true }))

// @ts-expect-error: a size is a number
HostRegion.allocate(65_536n)
// @ts-expect-error: not one of the three
memory.map(region, { access: 'readwrite' })
// @ts-expect-error: what is misspelt is not taken for an option
memory.map(region, { offset: 4096 })
// @ts-expect-error: a file is no region
memory.map('weights.bin')
// @ts-expect-error: only `map` makes mappings
new Mapping()
// @ts-expect-error: the size is fixed
region.byteLength = 4096
// @ts-expect-error: layouts are not for writing
layout.ranges[0]!.start = 0
// @ts-expect-error: no such export
hostmap.Region
