// Runs the module in a process or a thread of its own. Takes requests from the ring until the other
// end is gone; for comparison, as messages.

import { readFileSync } from 'node:fs'
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'
import { Answerer, SLOTS_PART } from './ring.mjs'

const parent = process.ppid
const send = isMainThread
  ? (message, then) => process.send(message, then)
  : (message, then) => {
      parentPort.postMessage(message)
      then?.()
    }
if (isMainThread) process.once('message', start)
else start(workerData)

function start({ ringToken, datasetToken, maximumWasmPages, takesMessages }) {
  const ring = HostRegion.receive(ringToken)
  const dataset = HostRegion.receive(datasetToken)
  const guarded = new GuardedMemory({ initial: 1, maximum: maximumWasmPages })
  const slots = guarded.map(ring, { ...SLOTS_PART, access: 'shared' }).pointer
  const numbers = guarded.map(dataset).pointer
  const count = dataset.byteLength / 8

  const wasm = readFileSync(new URL('module.wasm', import.meta.url))
  const imports = { env: { memory: guarded.memory } }
  const { handle } = new WebAssembly.Instance(new WebAssembly.Module(wasm), imports).exports
  const answerer = new Answerer(ring)

  if (takesMessages) {
    const port = isMainThread ? process : parentPort
    port.on('message', request =>
      send(answerer.answer(request, () => handle(slots, numbers, count)))
    )
    return send('ready')
  }
  send('ready', () => {
    answerer.run(
      at => handle(slots + at, numbers, count),
      () => !isMainThread || process.ppid === parent
    )
    process.exit()
  })
}
