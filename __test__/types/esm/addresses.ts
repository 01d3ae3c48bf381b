// Addresses have the type that the memory's address type gives them, and the package has a default
// export.

import hostmap, { GuardedMemory, HostRegion } from 'wasm-hostmap'
import type {
  AddressType,
  AdoptedBuffer,
  GuardedMemoryDescriptor,
  Mapping,
  Pointer,
  Window,
  WhyCopied,
  WindowSource
} from 'wasm-hostmap'

/** Compiles if the types are the same, and not merely assignable. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const same = <A, B>(yes: Same<A, B>): void => console.log(yes)

const region = HostRegion.allocate(1)

const narrow = new GuardedMemory({ initial: 1 })
same<typeof narrow, GuardedMemory<'i32'>>(true)
const named = new GuardedMemory({ initial: 1, address: 'i32' })
same<typeof named.address, 'i32'>(true)
const number: number = narrow.map(region).pointer + named.window({ byteLength: 4096 }).pointer

const wide = new GuardedMemory({ initial: 1n, address: 'i64' })
same<typeof wide.address, 'i64'>(true)
const mapping: Mapping<'i64'> = wide.map(region)
const window: Window<'i64'> = wide.window({ byteLength: 4096 })
const adopted: AdoptedBuffer<'i64'> = wide.adopt(new ArrayBuffer(8), { copy: 'allow' })
const why: WhyCopied | null = adopted.whyCopied
const back: ArrayBuffer = adopted.release()
console.log(why, back.byteLength, narrow.adopt(new SharedArrayBuffer(8)).pointer + number)
const source: WindowSource<'i64'> = window.source(region)
const big: bigint =
  adopted.pointer + mapping.pointer + window.pointer + window.slide(region).pointer + source.pointer
const more: bigint = source.next() + source.imports.next(0n) + source.imports.pointer()
same<typeof mapping.memory, GuardedMemory<'i64'>>(true)
for (const chunk of window.chunks(region)) same<typeof chunk.pointer, bigint>(true)
for (const found of wide.mappings) same<typeof found.pointer, bigint>(true)

// What is not known may be either.
const descriptor: GuardedMemoryDescriptor = { initial: 1, address: 'i64' }
const either: GuardedMemory = new GuardedMemory(descriptor)
same<typeof either.address, AddressType>(true)
same<Pointer, number | bigint>(true)
same<ReturnType<typeof either.map>['pointer'], number | bigint>(true)
const wrapped = GuardedMemory.from(new ArrayBuffer(65_536))
same<typeof wrapped, GuardedMemory>(true)
const known = GuardedMemory.from(new ArrayBuffer(65_536), { address: 'i64' })
same<typeof known, GuardedMemory<'i64'>>(true)

// A known one is one of either kind.
const all: GuardedMemory[] = [narrow, wide, either]
class Mine extends GuardedMemory {}
console.log(number, big, more, all, wrapped instanceof Mine, new Mine({ initial: 1 }).byteLength)

// Addresses of what JavaScript holds as a view, room for more, and blocks of an engine's.
const address: bigint = mapping.pointerOf(new Float64Array(region.view()))
const found: number = narrow.map(region).pointerOf(Buffer.from(region.view()))
const allocator = {
  malloc: (byteLength: bigint) => byteLength,
  free() {},
  owner: 'engine'
} as const
wide.reserve(address > 0n ? 2 ** 20 : found, { allocator })
wide.map(region, { allocator })
// @ts-expect-error: no such owner
wide.map(region, { allocator: { ...allocator, owner: 'guest' } })
const disposable: Disposable = wide
console.log(disposable)
// @ts-expect-error: a buffer is no view
mapping.pointerOf(region.view())
// @ts-expect-error: a 32-bit memory's pointers are numbers
const wrong: bigint = narrow.map(region).pointer
// @ts-expect-error: a 64-bit memory is no 32-bit one
const other: GuardedMemory<'i32'> = wide
// @ts-expect-error: nor is one that may be either
const guess: GuardedMemory<'i64'> = either
console.log(wrong, other, guess)

console.log(new hostmap.GuardedMemory({ initial: 1 }).memory, hostmap.limits().pageSize)
// @ts-expect-error: the default export is the package, which has no such member
console.log(hostmap.nothing)
// @ts-expect-error: nor a default of its own
console.log(hostmap.default)
