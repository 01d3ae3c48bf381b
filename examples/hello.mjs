// A Wasm module reads a gigabyte that the host owns, and no byte of it was copied.
import { GuardedMemory, HostRegion } from 'wasm-hostmap'

// (module (import "host" "memory" (memory 1))
//   (func (export "load") (param i32) (result f64) (f64.load (local.get 0))))
const wasm = 'AGFzbQEAAAABBgFgAX8BfAIQAQRob3N0Bm1lbW9yeQIAAQMCAQAHCAEEbG9hZAAACgkBBwAgACsDAAs='
const module = new WebAssembly.Module(Buffer.from(wasm, 'base64'))

const region = HostRegion.allocate(2 ** 30, { name: 'dataset' })
const guarded = new GuardedMemory({ initial: 1 }) // its memory has 64 KiB now,
const mapping = guarded.map(region) // and 1 GiB more now: the region's own pages
const { exports } = new WebAssembly.Instance(module, { host: { memory: guarded.memory } })

new Float64Array(region.view()).fill(42, -1) // JavaScript writes the last eight bytes,
console.log(exports.load(mapping.address + mapping.byteLength - 8)) // and the module reads 42
console.log(guarded.layout())
