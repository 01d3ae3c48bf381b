// A thread that receives a dataset, copies it into its own memory, and answers with its sum.

import { parentPort, workerData } from 'node:worker_threads'
import { WASM_PAGE } from './dataset.mjs'
import { compileSums } from './sum.mjs'

const over = await compileSums()
const memory = new WebAssembly.Memory({ initial: 1 + workerData.byteLength / WASM_PAGE })
const { simd } = over(memory)

parentPort.on('message', array => {
  new Uint8Array(memory.buffer).set(array, WASM_PAGE)
  parentPort.postMessage(simd(WASM_PAGE, array.byteLength))
})
parentPort.postMessage('ready')
