// An ES module project: `import {}`, a namespace, and what needs the language's newer parts
// (AbortSignal, dispose, for-of).

import { createReadStream, createWriteStream, openAsBlob } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'
import { GuardedMemory, HostRegion, Layout, limits, Mapping, metrics, observe } from 'wasm-hostmap'
import type { HostmapChannels, Metrics } from 'wasm-hostmap'
import * as hostmap from 'wasm-hostmap'
import type {
  AllocateOptions,
  FromFdOptions,
  FromOptions,
  FromSourceOptions,
  GuardedMemoryDescriptor,
  GuestAllocator,
  HostmapErrorCode,
  LayoutRange,
  Fault,
  LoadOptions,
  OpenOptions,
  RegionHolders,
  WasmMemory
} from 'wasm-hostmap'

// Regions, in all six ways.
const allocateOptions: AllocateOptions = { name: 'zeros' }
const loadOptions: LoadOptions = {
  byteOffset: 1,
  byteLength: 100,
  signal: AbortSignal.timeout(1000),
  onProgress: (loadedBytes, totalBytes) => console.log(loadedBytes.toFixed(), totalBytes.toFixed())
}
const fromSourceOptions: FromSourceOptions = {
  byteLength: 100,
  onProgress: (filledBytes, totalBytes) => console.log(filledBytes.toFixed(), totalBytes?.toFixed())
}
const openOptions: OpenOptions = { byteOffset: 4096, writable: false }
const fromFdOptions: FromFdOptions = { byteLength: 4096 }
const loaded: HostRegion = await HostRegion.load(pathToFileURL('/data/weights.bin'), loadOptions)
const regions: HostRegion[] = [
  HostRegion.allocate(4096, allocateOptions),
  HostRegion.copyFrom(new Uint8Array(4096)),
  HostRegion.copyFrom(new SharedArrayBuffer(4096), { name: 'shared' }),
  HostRegion.copyFrom(await readFile('/data/weights.bin')),
  HostRegion.open('/data/weights.bin', openOptions),
  await HostRegion.from(await fetch('http://localhost/weights.bin'), fromSourceOptions),
  await HostRegion.from(createReadStream('/data/weights.bin')),
  await HostRegion.from(await openAsBlob('/data/weights.bin')),
  await HostRegion.from([new Uint8Array(1), new ArrayBuffer(1)]),
  HostRegion.fromFd(loaded.duplicateFd(), fromFdOptions),
  loaded.seal()
]
const bytes: ArrayBuffer = loaded.view(0, 16)
const image: Buffer = loaded.bytes()
const whole: Uint8Array = loaded.bytes({ access: 'readonly', byteOffset: 1, byteLength: 0 })
const pieces: Buffer[] = loaded.split(3).map(part => loaded.bytes({ ...part, access: 'shared' }))
// @ts-expect-error: there is no such access
loaded.bytes({ access: 'rw' })
// @ts-expect-error: a part is given by its names
loaded.bytes(0, 16)
loaded.close({ views: 'keep' })
// @ts-expect-error: it detaches or keeps
loaded.close({ views: true })
const { views, buffers, byteLength: heldBytes }: RegionHolders = loaded.holders
// @ts-expect-error: it can only be read
loaded.holders = { views, buffers, byteLength: heldBytes }
console.log(image.length, whole.length, pieces.length)
const backing: 'memfd' | 'file' = loaded.backing
console.log(new Uint8Array(bytes)[0], backing, regions.length, loaded.sealed && loaded.closed)

// Streams in and out.
const written: number = loaded.write(new Uint8Array(1), 7)
loaded.createReadStream({ chunk: 4096 }).pipe(createWriteStream('/data/copy.bin'))
await new Response(loaded.readableStream()).body?.pipeTo(loaded.writableStream())
const blob: Blob = loaded.blob({ type: 'text/plain' })
console.log(written + loaded.createWriteStream({ byteOffset: 1 }).bytesWritten, blob.size)

// Memories, own and wrapped.
const descriptor: GuardedMemoryDescriptor = { initial: 1n, maximum: 300_000n, address: 'i64' }
const fromOptions: FromOptions = { address: 'i32' }
const own = new GuardedMemory(descriptor)
const wrapped = GuardedMemory.from(new ArrayBuffer(65_536), fromOptions)
const memory: WasmMemory = own.memory
const pagesBefore: number = own.grow(1) + wrapped.grow(1n)
console.log(GuardedMemory.from(memory) === own, memory.buffer.byteLength, pagesBefore, own.guarded)

// Mappings, with an allocator of a 32-bit and of a 64-bit module.
declare const exports32: {
  malloc(size: number): number
  free(pointer: number): void
  memory: WasmMemory
}
declare const exports64: { malloc(size: bigint): bigint; free(pointer: bigint): void }
const allocator: GuestAllocator = exports64
const mapping: Mapping = GuardedMemory.from(exports32.memory).map(loaded, { allocator: exports32 })
own.map(loaded, { allocator, access: 'readonly' })[Symbol.dispose]()
const fault: Fault | null =
  mapping.faults + mapping.strayWrites > 0 ? mapping.lastFault : loaded.lastFault
if (fault?.outcome === 'zeros' && fault.cause !== 'readonly')
  console.log(fault.address ?? fault.byteOffset)
const disposables: Disposable[] = [mapping, loaded]
for (const disposable of disposables) disposable[Symbol.dispose]()

// Metrics, channels and measures.
const { faults, slides }: Metrics = metrics()
console.log(slides + faults.readonly['private-page'], metrics.prometheus().length)
for (const { name, samples } of metrics.families()) console.log(name, samples[0]?.labels.cause)
const onMap = (message: HostmapChannels['wasm-hostmap:map']): string => message.access
const observation = observe({ performance: true })
observation.stop()
console.log(onMap.name)

// Layouts and limits.
const layout: Layout = own.layout()
const guards: LayoutRange[] = layout.ranges.filter(range => range.kind === 'guard')
console.log(`${layout}`, [...layout].length, guards.length, hostmap.limits === limits)

// Codes are a closed set, so that a switch can be exhaustive.
function advice(code: HostmapErrorCode): string {
  return code === 'ERR_HOSTMAP_MAP_COUNT' ? 'raise vm.max_map_count' : code
}
advice('ERR_HOSTMAP_OVERLAP')

// @ts-expect-error: not a code of this package
advice('ERR_HOSTMAP_NO_SUCH_CODE')
// @ts-expect-error: regions are made by the static methods
new HostRegion()
// @ts-expect-error: layouts come from a memory
new Layout()
// @ts-expect-error: `initial` is needed
new GuardedMemory({ maximum: 1 })
// @ts-expect-error: 'i128' is no address type
new GuardedMemory({ initial: 1, address: 'i128' })
// @ts-expect-error: a number is no memory
GuardedMemory.from(65_536)
// @ts-expect-error: nor is any object
GuardedMemory.from({})
// @ts-expect-error: load is asynchronous
HostRegion.load('/data/weights.bin').byteLength
// @ts-expect-error: nor have numbers
HostRegion.from([1, 2])
// @ts-expect-error: strings have no bytes of their own
HostRegion.copyFrom('weights')
// @ts-expect-error: an allocator has `free` too
own.map(loaded, { allocator: { malloc: exports32.malloc } })
