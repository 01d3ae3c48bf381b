'use strict'
// Threads and processes: the same pages elsewhere, and faults that are not the package's.
const { assert, bytesOf, MiB, numbers } = require('../support.cjs')
const { runChild } = require('../child-process.cjs')

const WORKER = `
  const { parentPort, workerData } = require('node:worker_threads')
  const { HostRegion, GuardedMemory, Snapshot } = require(workerData.hostmap)
  const guarded = new GuardedMemory({ initial: 100 })
  const mapping = guarded.map(HostRegion.receive(workerData.region))
  const probe = new WebAssembly.Module(workerData.module)
  const { exports: calls } = new WebAssembly.Instance(probe, { env: { memory: guarded.memory } })
  const read = calls.load64(mapping.address + 16)
  let trap = null
  try { calls.store8(mapping.address, 1) } catch (error) { trap = error.message }
  const other = new GuardedMemory({ initial: 100 })
  other.restore(Snapshot.receive(workerData.snapshot))
  parentPort.postMessage({ read, trap, state: new BigUint64Array(other.buffer)[1000] })
`

module.exports = {
  'a worker': {
    run: async g => {
      const { Worker } = require('node:worker_threads')
      const region = g.hostmap.HostRegion.copyFrom(numbers(MiB))
      const { guarded, exports } = g.memory({ initial: 100 })
      exports.store64(8000, 5n)
      const worker = new Worker(WORKER, {
        eval: true,
        workerData: {
          hostmap: g.directory,
          module: bytesOf('probe'),
          region: region.share({ access: 'readonly' }),
          snapshot: guarded.snapshot().share()
        }
      })
      const { read, trap, state } = await new Promise((resolve, reject) => {
        worker.on('message', resolve)
        worker.on('error', reject)
      })
      await worker.terminate()
      assert.equal(read, 2n)
      assert.equal(state, 5n)
      if (g.traps) assert(trap)
      assert.equal(new Uint8Array(region.view())[0], 0)
      return trap
    }
  },
  // One process for two promises: to start one takes half a minute in an emulated machine.
  'a child process has the same pages, and a crash there stays a crash': async g => {
    const region = g.hostmap.HostRegion.copyFrom(numbers(MiB))
    const child = await runChild(g, JSON.stringify(region.share()))
    assert.equal(new BigUint64Array(region.view())[1], 4242n, child.stderr)
    // Deno takes no notice of a fault that is sent, with the package or without (2.9.6).
    if (globalThis.Deno) return 'the same pages'
    // Where a shell is in between, it says so by a number.
    assert(child.signal === 'SIGSEGV' || child.status === 128 + 11, JSON.stringify(child))
  }
}
