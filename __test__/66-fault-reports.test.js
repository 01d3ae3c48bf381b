'use strict'

// Who is told of a fault, and what it wakes: the thread that made the mapping hears of it without
// any other call, and the fault may be that of another.

const { inChild } = require('./support/child')

/** In a child: a shared memory with a mapping, how often our thread has slept, and the warnings. */
const setUp = `
  const fs = await import('node:fs')
  const { Worker } = await import('node:worker_threads')
  const { HostRegion, GuardedMemory } = hostmap
  const region = HostRegion.copyFrom(Buffer.alloc(65536, 1), { name: 'dataset' })
  const guarded = new GuardedMemory({ initial: 4, maximum: 4, shared: true })
  const mapping = guarded.map(region, { at: 65536 })
  const bytes = new Uint8Array(guarded.buffer)
  const busyMs = ms => { for (const end = Date.now() + ms; Date.now() < end; ); }
  // It starts to wait some time after it was started.
  busyMs(100)
  const sleeps = () => {
    const tasks = fs.readdirSync('/proc/self/task').map(it => '/proc/self/task/' + it)
    const ours = tasks.find(it => fs.readFileSync(it + '/comm', 'utf8') === 'hostmap-faults\\n')
    const status = fs.readFileSync(ours + '/status', 'utf8')
    return Number(/^voluntary_ctxt_switches:\\s+(\\d+)/m.exec(status)[1])
  }
  const warned = new Promise(resolve => process.once('warning', resolve))
`

const reportsChild = (body, args) =>
  inChild(
    `async support => {
      const { hostmap, args } = support
      ${setUp}
      return (${body})(args)
    }`,
    { args }
  )

/* global guarded, bytes, busyMs, sleeps, warned, mapping, Worker */

test('a thread that faults in its own mapping wakes no other, and is told', async () => {
  const seen = await reportsChild(async () => {
    const before = sleeps()
    bytes[65536] = 2
    // Were another thread woken, it would have slept again by then.
    busyMs(50)
    const after = sleeps()
    const { code } = await warned
    return { woken: after - before, code, strayWrites: mapping.strayWrites }
  })
  expect(seen).toEqual({ woken: 0, code: 'HOSTMAP_STRAY_WRITE', strayWrites: 1 })
})

test('the owner is told of the fault of a thread that goes on for ever', async () => {
  const seen = await reportsChild(async () => {
    const worker = new Worker(
      'const bytes = new Uint8Array(require("worker_threads").workerData);' +
        'bytes[65536] = 2; for (;;);',
      { eval: true, workerData: guarded.buffer }
    )
    const { code } = await warned
    await worker.terminate()
    return code
  })
  expect(seen).toBe('HOSTMAP_STRAY_WRITE')
})

test('what a worker was not told when it ends is told to another thread', async () => {
  const seen = await reportsChild(async packageRoot => {
    const worker = new Worker(
      `const { HostRegion, GuardedMemory } = require(${JSON.stringify(packageRoot)})
      const region = HostRegion.copyFrom(Buffer.alloc(4096, 1), { name: 'of a worker' })
      const guarded = new GuardedMemory({ initial: 2 })
      globalThis.mapping = guarded.map(region, { at: 65536 })
      new Uint8Array(guarded.buffer)[65536] = 2
      require('worker_threads').parentPort.postMessage('')
      for (;;);`,
      { eval: true }
    )
    worker.once('message', () => worker.terminate())
    const { message } = await warned
    return /"([^"]*)"/.exec(message)[1]
  }, require.resolve('..'))
  expect(seen).toBe('of a worker')
})
