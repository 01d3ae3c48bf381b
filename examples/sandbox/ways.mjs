// Ways to have a clean interpreter for each request. `prepare` runs once, in the main thread;
// `open` is given what it made, in each worker, and gives `acquire` and `release`. Between the two,
// an instance is nobody else's.

import { InstancePool, Snapshot } from 'wasm-hostmap'
import { imports, initialize, wasm } from './interpreter.mjs'

const PAGE_BYTES = 65536

/**
 * One interpreter is initialised. All instances, of all workers, show its pages, and copy those
 * that they write to.
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

/**
 * Each request has an instance of its own, which is initialised for it and then left to the garbage
 * collector.
 */
const fresh = {
  prepare() {},
  open() {
    const module = new WebAssembly.Module(wasm)
    return { acquire: () => makeInitialized(module), release() {} }
  }
}

/**
 * One interpreter is initialised. All of its memory is copied over that of each instance that was
 * used.
 */
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
        // A memory that has grown can't shrink. The pool drops such an instance, too.
        if (instance.exports.memory.buffer.byteLength > bytes.length) return
        copyTo(instance)
        idle.push(instance)
      }
    }
  }
}

/**
 * One interpreter serves all requests, each as the one before has left it. It shows that the checks
 * can fail.
 */
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
