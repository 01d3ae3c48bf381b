// The README's first example: a Wasm module reads a file that the host mapped into its memory.
import { GuardedMemory, HostRegion } from 'wasm-hostmap'

// (module (import "env" "memory" (memory 1))
//   (func (export "byte") (param i32) (result i32) (i32.load8_u (local.get 0))))
const wasm = 'AGFzbQEAAAABBgFgAX8BfwIPAQNlbnYGbWVtb3J5AgABAwIBAAcIAQRieXRlAAAKCQEHACAALQAACw=='
const module = new WebAssembly.Module(Buffer.from(wasm, 'base64'))

const region = HostRegion.open(process.execPath) // any file; here, the node binary
const guarded = new GuardedMemory({ initial: 1 }) // a WebAssembly.Memory of 64 KiB
const { pointer } = guarded.map(region) // the memory grows, and the file is in it
const { exports } = new WebAssembly.Instance(module, { env: { memory: guarded.memory } })

console.log(String.fromCharCode(exports.byte(pointer + 1), exports.byte(pointer + 2))) // EL
