'use strict'

// A process to be inspected: prints what it has as JSON, in one line, and stays until its stdin
// ends.
//
//   node inspected.js DIRECTORY [--allow [--worker]]

const fs = require('node:fs')
const path = require('node:path')
const { once } = require('node:events')
const { isMainThread, parentPort, Worker, workerData } = require('node:worker_threads')
const { allowInspect, GuardedMemory, HostRegion, InstancePool, limits, Snapshot } = require('../..')

const KiB = 1024
const MiB = 1024 * KiB
const PAGE = limits().pageSize

// What would run if a page took it for its own.
const HOSTILE = '<img src=x onerror=hacked()><script>hacked()<\u2028script>'
// (module (memory (export "memory") 1))
const MODULE = Buffer.from('AGFzbQEAAAAFAwEAAQcKAQZtZW1vcnkCAA==', 'base64')

async function main([directory, allow, worker]) {
  const file = path.join(directory, `${HOSTILE}.bin`)
  fs.writeFileSync(file, Buffer.alloc(3 * MiB, 7))
  const memory = new GuardedMemory({ initial: 16, maximum: 4096 })
  const region = HostRegion.copyFrom(Buffer.alloc(8 * MiB, 1), { name: `data ${HOSTILE}` })
  const opened = HostRegion.open(file)
  const mapping = memory.map(region)
  const own = memory.map(opened, { access: 'private' })
  const window = memory.window({ byteLength: 4 * PAGE, strict: true })
  window.slide(opened, 2 * PAGE, { byteLength: PAGE })
  const bytes = new Uint8Array(memory.buffer)
  // Three pages that are the memory's, two that were the file's.
  for (const at of [0, 1, 2]) bytes[at * PAGE] = 1
  for (const at of [0, 5]) bytes[own.address + at * PAGE] = 1
  const snapshotted = new GuardedMemory({ initial: 32, maximum: 64 })
  new Uint8Array(snapshotted.buffer).fill(3, 0, MiB)
  const snapshot = snapshotted.snapshot({ name: `booted ${HOSTILE}` })
  const pool = await InstancePool.create(MODULE, { size: 2, max: 3 })
  const access = allow ? await allowInspect({ directory: path.join(directory, 'own') }) : undefined
  const other = worker === undefined ? undefined : await startWorker(directory, region)
  const found = {
    pid: process.pid,
    pageBytes: PAGE,
    byteLength: memory.byteLength,
    mapping: mapping.address,
    own: own.address,
    window: window.address,
    regionName: region.name,
    fileName: opened.name,
    socket: access?.path
  }
  process.stdout.write(`${JSON.stringify(found)}\n`)
  process.stdin.resume()
  await new Promise(resolve => process.stdin.once('end', resolve))
  await other?.terminate()
  for (const it of [window, own, mapping]) it.unmap()
  for (const it of [snapshot, region, opened, pool]) it.close()
  if (!(snapshot instanceof Snapshot)) throw new Error('it was kept until here')
}

/** A thread that maps the region into a memory of its own, and agrees to be asked too. */
async function startWorker(directory, region) {
  const worker = new Worker(__filename, { workerData: { directory, token: region.share() } })
  await once(worker, 'message')
  return worker
}

async function inWorker({ directory, token }) {
  const region = HostRegion.receive(token)
  const memory = new GuardedMemory({ initial: 5 })
  const mapping = memory.map(region)
  await allowInspect({ directory: path.join(directory, 'own') })
  parentPort.postMessage('ready')
  parentPort.on('message', () => mapping.unmap())
}

if (isMainThread) main(process.argv.slice(2))
else inWorker(workerData)
