'use strict'

// Paged regions, and the threads that wait in touches of them: how a process ends nevertheless.

const { inChild } = require('./support/child')
const { CHUNK, optionsOf } = require('./support/paged')

describe.each([
  ['with what the kernel has', undefined],
  ['without userfaultfd', false]
])('%s', (_, userfaultfd) => {
  // Else it would wait for the ten minutes that the touch may take.
  const args = optionsOf({ byteLength: CHUNK, mode: 'never' }, { userfaultfd, timeoutMs: 600_000 })

  test('process.exit ends a worker that waits', async () => {
    const found = await inChild(
      async ({ hostmap: { HostRegion, GuardedMemory }, require, args }) => {
        const { Worker } = require('node:worker_threads')
        const region = await HostRegion.paged(args)
        const guarded = new GuardedMemory({ initial: 1, maximum: 20, shared: true })
        const { pointer } = guarded.map(region)
        // Ends before the provider's worker, which is older.
        new Worker(
          `const { workerData: { memory, pointer } } = require('node:worker_threads')
           new Uint8Array(memory.buffer)[pointer]`,
          { eval: true, workerData: { memory: guarded.memory, pointer } }
        )
        while (region.paging.stats().touches === 0) await new Promise(f => setTimeout(f, 5))
        setTimeout(() => process.exit(0), 100)
        return 'touched'
      },
      { args }
    )
    expect(found).toBe('touched')
  })

  // The module's memory is left to the worker that touches it.
  test('so it does where the region was collected', async () => {
    const found = await inChild(
      async ({ hostmap: { HostRegion, GuardedMemory }, require, collect, args }) => {
        const { once } = require('node:events')
        const { Worker } = require('node:worker_threads')
        const begin = async () => {
          const region = await HostRegion.paged(args)
          const guarded = new GuardedMemory({ initial: 1, maximum: 20, shared: true })
          const { pointer } = guarded.map(region)
          const script = `
            const { parentPort, workerData: { memory, pointer } } = require('node:worker_threads')
            const bytes = new Uint8Array(memory.buffer)
            parentPort.once('message', () => {
              parentPort.postMessage('touches')
              bytes[pointer]
              parentPort.postMessage('goes on')
            })
            parentPort.postMessage('ready')`
          const worker = new Worker(script, {
            eval: true,
            workerData: { memory: guarded.memory, pointer }
          })
          await once(worker, 'message')
          return { worker, known: new WeakRef(region) }
        }
        const { worker, known } = await begin()
        await collect(10)
        if (known.deref() !== undefined) return 'the region was kept'
        worker.postMessage('touch')
        await once(worker, 'message')
        let said = 'touches'
        worker.once('message', message => (said = message))
        await new Promise(resolve => setTimeout(resolve, 300))
        setTimeout(() => process.exit(0), 100)
        return said
      },
      { args, flags: ['--expose-gc'] }
    )
    expect(found).toBe('touches')
  })

  test('the end of a worker that has made a region ends its touches elsewhere', async () => {
    const found = await inChild(
      async ({ hostmap: { GuardedMemory }, require, args }) => {
        const { once } = require('node:events')
        const { Worker } = require('node:worker_threads')
        const { memory } = new GuardedMemory({ initial: 1, maximum: 20, shared: true })
        const start = (script, data) =>
          new Worker(
            `const { parentPort, workerData } = require('node:worker_threads')
             const { memory } = workerData
             ${script}`,
            { eval: true, workerData: { memory, ...data } }
          )
        const maker = start(
          `const { GuardedMemory, HostRegion } = require(workerData.root)
           HostRegion.paged(workerData.args).then(region => {
             parentPort.postMessage(GuardedMemory.from(memory).map(region).pointer)
             setInterval(() => region.byteLength, 1000)
           })`,
          { args, root: require.resolve('../..') }
        )
        const [pointer] = await once(maker, 'message')
        const toucher = start(
          `const bytes = new Uint8Array(memory.buffer)
           parentPort.postMessage('touches')
           parentPort.postMessage(bytes[workerData.pointer])`,
          { pointer }
        )
        await once(toucher, 'message')
        await new Promise(resolve => setTimeout(resolve, 300))
        const answered = once(toucher, 'message')
        await maker.terminate()
        const [seen] = await answered
        await toucher.terminate()
        return seen
      },
      { args }
    )
    expect(found).toBe(0)
  })
})
