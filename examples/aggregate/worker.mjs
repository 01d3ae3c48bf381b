// Groups the readings of one part of a region, in a module with its own window.

import { readFile } from 'node:fs/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'
import { GROUP_COUNT } from './readings.mjs'

const { token, windowBytes, part } = workerData
const { memory, source } = openSource()

// The module calls these. When it asks for more, it is done with what was shown.
const readings = {
  ...source.imports,
  next(keep) {
    parentPort.postMessage({ doneBytes: source.position - part.byteOffset })
    return source.imports.next(keep)
  }
}
const wasm = await readFile(new URL('aggregate.wasm', import.meta.url))
const { instance } = await WebAssembly.instantiate(wasm, { env: { memory }, readings })
const groups = instance.exports.aggregate() >>> 0
if (groups === 0) throw new Error('the file has an impossible district')
parentPort.postMessage({ groups: readGroups(groups) })

/** Makes a memory of one Wasm page, which is what the module needs, and a window past its end. */
function openSource() {
  const guarded = new GuardedMemory({ initial: 1 })
  const window = guarded.window({ byteLength: windowBytes })
  return { memory: guarded.memory, source: window.source(HostRegion.receive(token), part) }
}

/** Reads the module's groups: see aggregate.c. */
function readGroups(address) {
  const words = new BigUint64Array(memory.buffer, address, GROUP_COUNT * 2)
  return Array.from({ length: GROUP_COUNT }, (_, i) => ({
    count: words[2 * i],
    wattHours: words[2 * i + 1]
  }))
}
