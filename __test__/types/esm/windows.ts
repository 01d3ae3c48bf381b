// Windows, in an ES module project: every type by its name, both loops, and what a module gets as
// imports.

import { GuardedMemory, HostRegion, Window, WindowSource } from 'wasm-hostmap'
import type {
  Access,
  ChunkOptions,
  Chunks,
  Fault,
  GuestAllocator,
  LayoutRange,
  Shown,
  SourceOptions
} from 'wasm-hostmap'

declare const allocator: GuestAllocator
const region = HostRegion.open('/data/orders.bin')
const memory = new GuardedMemory({ initial: 1, maximum: 300_000, address: 'i64' })

// Windows, in all ways of placing them.
const window: Window = memory.window({ byteLength: 2 ** 30 })
const windows: Window[] = [
  window,
  memory.window({ byteLength: 65_536, at: 0, access: 'shared', rest: 'zeros' }),
  memory.window({ byteLength: 65_536, at: 65_536n, rest: 'trap' }),
  memory.window({ byteLength: 65_536, allocator, access: 'private' })
]
const disposables: Disposable[] = windows
for (const disposable of disposables.slice(1)) disposable[Symbol.dispose]()

// What they are and show.
const address: number = window.address + window.byteLength + window.byteOffset + window.shownBytes
const pointer: number | bigint = window.pointer
const access: Access = window.access
const rest: 'trap' | 'zeros' = window.rest
const name: string = window.region?.name ?? 'nothing'
const lastFault: Fault | null = window.strayWrites + window.faults > 0 ? window.lastFault : null
console.log(address, pointer, access, rest, name, lastFault?.cause === 'past-end', window.unmapped)
console.log(window.memory === memory)

// Slides.
const shown: Shown = window.slide(region)
const parts: Shown[] = [
  window.slide(region, 2 ** 40 + 1),
  window.slide(region, 0, { byteLength: 100 }),
  window.slide(region, 0, { access: 'readonly' }),
  window.slide(null)
]
const given: [number, number | bigint, number] = [shown.address, shown.pointer, shown.byteLength]
console.log(given, parts.length)

// Sources.
const sourceOptions: SourceOptions = {
  chunk: 65_536,
  overlap: 24,
  byteOffset: 0,
  byteLength: 2 ** 40,
  access: 'readonly',
  readAhead: false,
  leaveBehind: 'auto'
}
const source: WindowSource = window.source(region, sourceOptions)
const next: number | bigint = source.next()
const more: (number | bigint)[] = [source.next(24), source.next(24n), source.pointer]
const positions: number[] = [source.position, source.start]
source.seek(positions[0]! + Number(next) + more.length)
source.rewind()
const { imports } = source
// As the imports of an instance are declared: by any name.
const byName: Record<string, (keep?: number) => unknown> = imports
const given64: number | bigint = imports.next(24n)
const where: number | bigint = imports.pointer()
console.log(
  given64,
  where,
  source.window === window,
  source.region === region,
  source instanceof WindowSource
)

// Loops.
const chunkOptions: ChunkOptions = {
  ...sourceOptions,
  leaveBehind: true,
  signal: AbortSignal.timeout(1000),
  onProgress: (doneBytes, totalBytes) => console.log(doneBytes.toFixed(), totalBytes.toFixed())
}
const chunks: Chunks = window.chunks(region, chunkOptions)
let sum = 0
for (const chunk of chunks) {
  const bytes: Uint8Array = chunk.bytes
  const place: [number, number, number] = [chunk.address, chunk.byteOffset, chunk.byteLength]
  const asPointer: number | bigint = chunk.pointer
  sum += bytes[0]! + place[0] + Number(asPointer)
}
for await (const { bytes } of chunks) sum += bytes[0]!
const [first] = window.chunks(region)
console.log(sum, first?.byteOffset)

// Parts of a region are options of sources and chunks.
const ranges: { byteOffset: number; byteLength: number }[] = region.split(4, {
  align: 24,
  byteOffset: 10,
  byteLength: 24 * 1000
})
const sources = region.split(2).map(part => window.source(region, { ...part, overlap: 8 }))
const everywhere = region
  .split(2)
  .flatMap(part => [region.view(part), memory.map(region, part), window.slide(region, part)])
console.log(ranges[0]!.byteOffset, sources.length, everywhere.length)

// In a layout.
const range: LayoutRange | undefined = memory.layout().ranges.find(({ kind }) => kind === 'mapped')
console.log(range?.region?.name)

// @ts-expect-error: a size is needed
memory.window({ at: 0 })
// @ts-expect-error: windows have no other rest
memory.window({ byteLength: 65_536, rest: 'undefined' })
// @ts-expect-error: offsets of regions are numbers
window.slide(region, 1n)
// @ts-expect-error: nothing has no options
window.slide(null, 0, { byteLength: 1 })
// @ts-expect-error: nothing is null
window.slide(undefined)
// @ts-expect-error: only `window` opens windows
new Window()
// @ts-expect-error: only `source` makes sources
new WindowSource()
// @ts-expect-error: the size is fixed
window.byteLength = 4096
// @ts-expect-error: `seek` sets it
source.position = 0
// @ts-expect-error: a source has no progress to tell
window.source(region, { onProgress: () => {} })
// @ts-expect-error: a chunk's size is a number
window.chunks(region, { chunk: 4096n })
// @ts-expect-error: a path is no region
window.chunks('/data/orders.bin')
// @ts-expect-error: how many parts is needed
region.split()
