// Ways to get a clean interpreter for each request. `prepare` runs once, on the main thread. `open`
// runs in each worker, with what `prepare` returned, and returns `acquire` and `release`. Between
// these two, a request has the instance to itself.

import { InstancePool, Snapshot } from 'wasm-hostmap'
import { imports, initialize, wasm } from './interpreter.mjs'

const PAGE_BYTES = 65536

/**
 * Initializes one interpreter. All instances in all workers share its pages, and copy those that
 * they write to.
 */
const pool = {
  async prepare() {
    const first = await InstancePool.create(wasm, {
      imports,
      init: instance => initialize(instance.exports)
    })
    // Open until the process ends: each worker makes a duplicate of its own.
    return first.snapshot.duplicateFd()
  },
  async open(fd) {
    const pool = await InstancePool.create(wasm, { imports, snapshot: Snapshot.fromFd(fd) })
    return { acquire: () => pool.acquire(), release: instance => instance.release() }
  }
}

/** Initializes a new instance for each request, and leaves it to the garbage collector. */
const fresh = {
  prepare() {},
  open() {
    const module = new WebAssembly.Module(wasm)
    return { acquire: () => makeInitialized(module), release() {} }
  }
}

/** Initializes one interpreter, and copies all of its memory over each used instance's. */
const copied = {
  prepare() {
    const { exports } = makeInitialized(new WebAssembly.Module(wasm))
    const bytes = new Uint8Array(new SharedArrayBuffer(exports.memory.buffer.byteLength))
    bytes.set(new Uint8Array(exports.memory.buffer))
    return { bytes, stackPointer: exports.__stack_pointer.value }
  },
  open({ bytes, stackPointer }) {
    const module = new WebAssembly.Module(wasm)
    const copyTo = ({ exports }) => {
      new Uint8Array(exports.memory.buffer).set(bytes)
      exports.__stack_pointer.value = stackPointer
    }
    const make = () => {
      const instance = new WebAssembly.Instance(module, imports)
      const { memory } = instance.exports
      memory.grow((bytes.length - memory.buffer.byteLength) / PAGE_BYTES)
      copyTo(instance)
      return instance
    }
    const idle = []
    return {
      acquire: () => idle.pop() ?? make(),
      release(instance) {
        // A memory can't shrink. The pool discards such an instance too.
        if (instance.exports.memory.buffer.byteLength > bytes.length) return
        copyTo(instance)
        idle.push(instance)
      }
    }
  }
}

/** Serves all requests with one interpreter, without cleaning. Shows that the checks can fail. */
const unrestored = {
  prepare() {},
  open() {
    const instance = makeInitialized(new WebAssembly.Module(wasm))
    return { acquire: () => instance, release() {} }
  }
}

export const ways = { fresh, copied, pool, unrestored }

function makeInitialized(module) {
  const instance = new WebAssembly.Instance(module, imports)
  initialize(instance.exports)
  return instance
}
