// Serves requests from a pool, in a process or a worker: a loop of acquire, a call that writes
// pages, release. By message it serves for a time and tells how many; with numbers as arguments it
// serves so many, for a program that counts its system calls.

import { parentPort } from 'node:worker_threads'
import { InstancePool, HostRegion } from '../../../index.mjs'
import { MiB } from '../dataset.mjs'
import { emptyHeapModule } from '../heap.mjs'

const HEAP_BYTES = 4 * MiB
const BEFORE = 20_000

const pool = await InstancePool.create(await emptyHeapModule(HEAP_BYTES))

async function serve(pages) {
  const pooled = await pool.acquire()
  pooled.exports.touch(0, pages, 4096, 7)
  pooled.release()
}

async function serveFor(milliseconds, pages) {
  const { user, system } = process.cpuUsage()
  const startNs = process.hrtime.bigint()
  let served = 0
  let elapsedNs
  do {
    for (let i = 0; i < 256; i++) await serve(pages)
    served += 256
    elapsedNs = Number(process.hrtime.bigint() - startNs)
  } while (elapsedNs < milliseconds * 1e6)
  const after = process.cpuUsage()
  return { served, elapsedNs, cpuNs: (after.user - user + after.system - system) * 1000 }
}

const port = parentPort ?? process
const send = message => (parentPort ? parentPort.postMessage(message) : process.send(message))

const [before, requests] = process.argv.slice(2).map(Number)
if (requests >= 0) {
  for (let i = 0; i < before + requests; i++) await serve(1)
} else {
  for (let i = 0; i < BEFORE; i++) await serve(1)
  // The dataset that all processes share: its pages alone.
  let mapped
  port.on('message', async ({ token, milliseconds, pages }) => {
    if (token !== undefined) mapped = HostRegion.receive(token)
    send({ ...(await serveFor(milliseconds, pages)), shared: mapped?.byteLength ?? 0 })
  })
  send('ready')
}
