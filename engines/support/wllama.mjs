// wllama in Node.js, in its usual way and over a mapped model. It is written for browsers: what it
// needs of one is here.
//
// Since 3.0 it reads a model piece by piece where WebAssembly.Suspending exists, into memory of its
// own. Where it does not exist, wllama takes a block from `Module.mmapAlloc`, copies the model into
// it, and llama.cpp's mmap() gets that block without a copy. The mapped way takes that path, gives
// out a block that the region is mapped over, and leaves out the copy.

import { resolveObjectURL } from 'node:buffer'
import { openAsBlob } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import threads from 'node:worker_threads'

const require = createRequire(import.meta.url)
const WASM = import.meta.resolve('@wllama/wllama/esm/wasm/wllama.wasm')

// What Emscripten's code and wllama's find in a worker of a browser.
const PRELUDE = `
const { parentPort, workerData } = require('node:worker_threads')
globalThis.self = globalThis
self.location = { href: 'file:///' }
globalThis.postMessage = (data, transfer) => parentPort.postMessage(data, transfer)
parentPort.on('message', data => globalThis.onmessage({ data }))
`

// Comes after wllama's code of its worker, whose `Module` it sees. llama.cpp never frees the block
// while the worker lives, and the mapping is part of the memory until then.
const MAPPED = `
{
  const { GuardedMemory, HostRegion } = require(workerData.hostmap)
  const handle = globalThis.onmessage
  globalThis.onmessage = event => {
    if (event.data.verb === 'fs.alloc') {
      Module.mmapAlloc = () => {
        const region = HostRegion.open(workerData.model)
        const malloc = byteLength => Module._wllama_malloc(BigInt(byteLength), 0)
        const guarded = GuardedMemory.from(Module.wasmMemory)
        return guarded.map(region, { allocator: { malloc, free: () => {} } }).pointer
      }
    }
    return handle(event)
  }
}
`

/** A Worker of the web whose code is a Blob, with `code` at its end. */
function workerClass(code, workerData) {
  return class {
    #worker
    #waiting = []

    constructor(url) {
      resolveObjectURL(String(url))
        .text()
        .then(text => this.#start(text))
    }

    #start(text) {
      this.#worker = new threads.Worker(`${PRELUDE}\n${text}\n${code}`, { eval: true, workerData })
      this.#worker.on('message', data => this.onmessage?.({ data }))
      this.#worker.on('error', error => this.onerror?.(error))
      for (const args of this.#waiting) this.#worker.postMessage(...args)
    }

    postMessage(data, { transfer = [] } = {}) {
      if (this.#worker) this.#worker.postMessage(data, transfer)
      else this.#waiting.push([data, transfer])
    }

    terminate() {
      this.#worker?.terminate()
    }
  }
}

/** Loads wllama's classes. This process is then a browser to them: it should be one of its own. */
async function load() {
  globalThis.self = globalThis
  globalThis.location = { href: 'file:///' }
  const { Wllama } = await import('@wllama/wllama')
  const logger = { debug() {}, log() {}, warn() {}, error: console.error }
  // It has no cache of downloads here.
  const options = { cacheManager: {}, modelManager: {}, logger }
  return () => new Wllama({ default: WASM }, options)
}

const PARAMETERS = { n_gpu_layers: 0, n_threads: 1, n_ctx: 256, n_parallel: 1, warmup: false }

/** Opens a model in the usual way: from a Blob, which reads the file when it is asked for bytes. */
export async function openUsual(model) {
  const make = await load()
  globalThis.Worker = workerClass('', undefined)
  const wllama = make()
  await wllama.loadModel([await openAsBlob(model)], PARAMETERS)
  return wllama
}

/** Opens a model that is mapped: all that do so share its pages. */
export async function openMapped(model) {
  const make = await load()
  globalThis.Worker = workerClass(MAPPED, { model, hostmap: require.resolve('wasm-hostmap') })
  delete WebAssembly.Suspending
  const wllama = make()
  // Without a build for browsers that don't have it: Node.js has it, in the worker.
  wllama.setCompat(null)
  const blob = await openAsBlob(model)
  blob.stream = () => new Blob([]).stream()
  await wllama.loadModel([blob], PARAMETERS)
  return wllama
}

export const MODEL_FOLDER = fileURLToPath(new URL('../data', import.meta.url))
