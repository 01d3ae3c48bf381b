// A thread that makes hot calls in a memory of its own, as fast as it can, for a number of
// milliseconds whenever it gets a message.

import { parentPort, workerData } from 'node:worker_threads'
import * as build from '../../index.mjs'
import { OPERATIONS } from './hot-calls.mjs'

const ROUNDS_PER_LOOK = 32

const parts = []
for (const name of workerData.names) parts.push(await OPERATIONS[name].make(build, 'i32'))

async function run(rounds) {
  for (let i = 0; i < rounds; i++) {
    for (const { round, isAsync } of parts) {
      if (isAsync) await round()
      else round()
    }
  }
}

parentPort.on('message', async milliseconds => {
  const startNs = process.hrtime.bigint()
  let rounds = 0
  let elapsedNs
  do {
    await run(ROUNDS_PER_LOOK)
    rounds += ROUNDS_PER_LOOK
    elapsedNs = Number(process.hrtime.bigint() - startNs)
  } while (elapsedNs < milliseconds * 1e6)
  parentPort.postMessage(rounds / (elapsedNs / 1e9))
})
// V8 optimizes it meanwhile.
await run(workerData.roundsBefore)
parentPort.postMessage('ready')
