'use strict'

// A thread that does each hot call some times, in a memory of its own, and tells which locks each
// of them took. Run by 89-locks.slow.test.js.

const { parentPort, workerData } = require('node:worker_threads')
const hostmap = require('../..')
const { nativePath } = require('./native')

const native = require(nativePath())
const { WASM_PAGE, ROUNDS, file, barrier, threads } = workerData
const { GuardedMemory, HostRegion, InstancePool } = hostmap

/** Waits until all threads are here. */
function meet(number) {
  const words = new Int32Array(barrier)
  if (Atomics.add(words, number, 1) === threads - 1) Atomics.notify(words, number)
  for (let count; (count = Atomics.load(words, number)) < threads;)
    Atomics.wait(words, number, count)
}

// (module (memory (export "memory") 16) (global (mut i32) (i32.const 0)))
const MODULE = Buffer.from(
  '0061736d0100000005030100100606017f0141000b070a01066d656d6f72790200',
  'hex'
)

async function main() {
  const region = HostRegion.allocate(4 * WASM_PAGE).seal()
  const opened = HostRegion.open(file)
  const guarded = new GuardedMemory({ initial: 64 })
  const bytes = new Uint8Array(guarded.buffer)
  const [memfdWindow, fileWindow] = [16, 32].map(at =>
    guarded.window({ at: at * WASM_PAGE, byteLength: 2 * WASM_PAGE })
  )
  const restored = new GuardedMemory({ initial: 16 })
  const written = new Uint8Array(restored.buffer).fill(1)
  const snapshot = restored.snapshot()
  const pool = await InstancePool.create(MODULE)

  const at = 48 * WASM_PAGE
  let mapping
  let lent
  let round = 0
  const offset = () => (round % 2) * WASM_PAGE
  /** Each call, and what is done before and after without a trace. */
  const calls = {
    map: () => void (mapping = guarded.map(region, { at })),
    unmap: () => mapping.unmap(),
    'slide, memfd': () => memfdWindow.slide(region, offset()),
    'slide, file': () => fileWindow.slide(opened, offset()),
    'restore, clean': () => restored.restore(snapshot),
    'write 32 pages': () => {
      for (let page = 0; page < 32; page++) written[page * 4096] = 2
    },
    'restore, 32 dirty pages': () => restored.restore(snapshot),
    acquire: async () => void (lent = await pool.acquire()),
    release: () => lent.release(),
    'map, to be written': () => calls.map(),
    'stray write': () => void (bytes[at] = 1),
    'unmap, after a fault': () => mapping.unmap()
  }
  const did = Object.fromEntries(Object.keys(calls).map(name => [name, []]))
  for (; round < ROUNDS; round++) {
    // All is done once, and what was begun is over, before it counts.
    if (round === 2) {
      await new Promise(resolve => setTimeout(resolve, 200))
      meet(0)
    }
    for (const [name, call] of Object.entries(calls)) {
      native.traceLocks()
      const pending = call()
      // What else the thread has to do meanwhile is no part of the call.
      const events = native.tracedLocks()
      await pending
      if (round >= 2) did[name].push(events)
    }
  }
  meet(1)
  await pool.close()
  parentPort.postMessage(did)
}

main()
