// The README's first example: a Wasm module reads a file that the host mapped into its memory.
import { GuardedMemory, HostRegion } from 'wasm-hostmap'

// (module (import "host" "memory" (memory 1))
//   (func (export "byte") (param i32) (result i32) (i32.load8_u (local.get 0))))
const wasm = 'AGFzbQEAAAABBgFgAX8BfwIQAQRob3N0Bm1lbW9yeQIAAQMCAQAHCAEEYnl0ZQAACgkBBwAgAC0AAAs='
const module = new WebAssembly.Module(Buffer.from(wasm, 'base64'))

const region = HostRegion.open(process.execPath) // any file; here, the node binary
const guarded = new GuardedMemory({ initial: 1 }) // a WebAssembly.Memory of 64 KiB
const mapping = guarded.map(region) // the memory grows, and the file is in it
const { exports } = new WebAssembly.Instance(module, { host: { memory: guarded.memory } })

const bytes = [1, 2, 3].map(i => exports.byte(mapping.pointer + i)) // the module reads the file
console.log(String.fromCharCode(...bytes)) // ELF
console.log(guarded.layout())
