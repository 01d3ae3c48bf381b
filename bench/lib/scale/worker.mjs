// A worker with a memory, mappings in it and a window, which it slides once.

import { parentPort, workerData } from 'node:worker_threads'
import { GuardedMemory, HostRegion } from '../../../index.mjs'
import { WASM_PAGE } from '../dataset.mjs'

const region = HostRegion.receive(workerData.token)
const guarded = new GuardedMemory({ initial: 64 })
const mappings = Array.from({ length: workerData.mappings }, (_, i) =>
  guarded.map(region, { at: (2 * i + 1) * WASM_PAGE, byteOffset: 0, byteLength: WASM_PAGE })
)
const window = guarded.window({ at: 48 * WASM_PAGE, byteLength: WASM_PAGE })
window.slide(region, WASM_PAGE)
// It keeps them, and goes on.
parentPort.on('message', () => parentPort.postMessage(mappings.length))
parentPort.postMessage('ready')
