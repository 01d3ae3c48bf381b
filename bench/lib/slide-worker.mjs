// A thread that slides a window in its own memory, as fast as it can, for a number of milliseconds
// whenever it gets a message.

import { parentPort, workerData } from 'node:worker_threads'
import { GuardedMemory, HostRegion } from '../../index.mjs'
import { WASM_PAGE } from './dataset.mjs'

const { fd, windowBytes, parts, slidesBefore } = workerData
const region = HostRegion.fromFd(fd)
const memory = new GuardedMemory({ initial: 2 + windowBytes / WASM_PAGE })
const window = memory.window({ at: WASM_PAGE, byteLength: windowBytes })
const SLIDES_PER_LOOK = 64

let number = 0
function slide(times) {
  for (let i = 0; i < times; i++) {
    window.slide(region, number * windowBytes)
    number = (number + 1) % parts
  }
}

function slideFor(milliseconds) {
  const startNs = process.hrtime.bigint()
  let slides = 0
  let elapsedNs
  do {
    slide(SLIDES_PER_LOOK)
    slides += SLIDES_PER_LOOK
    elapsedNs = Number(process.hrtime.bigint() - startNs)
  } while (elapsedNs < milliseconds * 1e6)
  return slides / (elapsedNs / 1e9)
}

// V8 optimizes it meanwhile.
slide(slidesBefore)
parentPort.on('message', milliseconds => parentPort.postMessage(slideFor(milliseconds)))
parentPort.postMessage('ready')
