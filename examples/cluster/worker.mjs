// A worker of the cluster: finds the dataset by its name, maps it, and answers requests. A new
// version takes the old one's place between two requests.

import http from 'node:http'
import { readFileSync } from 'node:fs'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'
import { NAME } from './dataset.mjs'

/** A version of the dataset in the memory of the module. */
class Shown {
  #region
  #mapping
  #exports
  #count

  constructor(guarded, exports, region) {
    this.#region = region
    this.#mapping = guarded.map(region)
    this.#exports = exports
    this.#count = region.byteLength / 8
  }

  answer(from, count) {
    if (!(from >= 0 && count > 0 && from + count <= this.#count)) throw new RangeError()
    const { pointer } = this.#mapping
    const version = this.#exports.version(pointer)
    const sum = BigInt.asUintN(64, this.#exports.sum(pointer, from, count))
    return JSON.stringify({ version, sum: String(sum), pid: process.pid })
  }

  /** Touches all of its pages, on another thread. */
  prefetch() {
    return this.#mapping.prefetch()
  }

  close() {
    this.#mapping.unmap()
    this.#region.close()
  }
}

/**
 * `onShown`: called once it answers, with the milliseconds that it took to find and map the dataset
 * and its port, and then for each new version.
 */
export async function serve(directory, onShown) {
  const guarded = new GuardedMemory({ initial: 1 })
  const wasm = readFileSync(new URL('module.wasm', import.meta.url))
  const imports = { env: { memory: guarded.memory } }
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm), imports)

  let shown
  const show = region => {
    const next = new Shown(guarded, exports, region)
    // No request is in the middle: each is answered in one go.
    shown?.close()
    shown = next
  }
  const server = http.createServer((request, response) => {
    const [, from, count] = request.url.split('/')
    try {
      response.end(shown.answer(Number(from), Number(count)))
    } catch {
      response.writeHead(400).end()
    }
  })
  const begin = performance.now()
  for await (const region of HostRegion.watch(NAME, { directory })) {
    show(region)
    const milliseconds = performance.now() - begin
    if (server.listening) onShown()
    else server.listen(0, '127.0.0.1', () => onShown(milliseconds, server.address().port))
    await shown.prefetch()
  }
}

/** The same without a dataset and this package, to compare with. */
export function serveNothing(onReady) {
  const server = http.createServer((request, response) => response.end('{}'))
  server.listen(0, '127.0.0.1', () => onReady(0, server.address().port))
}
