// wasm-hostmap/emscripten: hosts, mounted files and their options.

import { HostRegion } from 'wasm-hostmap'
import { emscripten } from 'wasm-hostmap/emscripten'
import type { EmscriptenHost, MountedFile, MountOptions } from 'wasm-hostmap/emscripten'

declare const module: { readonly HEAPU8: Uint8Array }
const host: EmscriptenHost = emscripten(module)
const region = HostRegion.allocate(4096)
const mapping = host.map(region, { access: 'private', byteOffset: 0, strict: true })
console.log(mapping.pointer, host.memory.byteLength.toFixed())
// @ts-expect-error: the module's allocator decides where
host.map(region, { at: 0 })

const options: MountOptions = { access: 'shared', byteOffset: 4, byteLength: 100 }
const file: MountedFile = host.mountFile('/orders.bin', region, options)
// @ts-expect-error: there is no such access
host.mountFile('/orders.bin', region, { access: 'write' })
const files: MountedFile[] = host.mountFolder('/data', { 'a.bin': region })
console.log(file.path, file.byteLength.toFixed(), file.access, file.mounted, file.mappings, files)
host.mapFiles('/host')
host.unmount('/orders.bin')
host.unmount(file, { release: true })
file[Symbol.dispose]()
host[Symbol.dispose]()
for (const mounted of host.files) console.log(mounted.region.name)
