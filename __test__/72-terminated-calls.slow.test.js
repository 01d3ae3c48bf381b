'use strict'

// Calls in a worker that is being terminated: whatever their errors still reach has a code, and
// other threads go on.

const path = require('node:path')
const { temporaryDirectory } = require('./support/files')
const { inChild } = require('./support/child')
const { assemble } = require('./support/wasm')

const directory = temporaryDirectory()
const TERMINATIONS = 5
const WAT = '(module (memory (export "memory") 2 20) (global (export "g") (mut i32) (i32.const 1)))'

// Each gives a function that is called till the thread ends.
const CALLS = {
  // While it does so: before it has called anything, it is ended.
  'that loads the package': null,
  'that makes and closes regions': `({ HostRegion }) => () => {
    const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
    region.view(0, 4096)
    region.split(2)
    region.seal()
    region.close()
  }`,
  'that opens and loads files': `({ HostRegion, file }) => async () => {
    HostRegion.open(file).close()
    const region = await HostRegion.load(file)
    region.close()
  }`,
  'that shares and receives': `({ HostRegion, region }) => () => HostRegion.receive(region.share()).close()`,
  'that waits and notifies': `({ region }) => async () => {
    region.notify(0)
    region.waitSync(0, 1)
    await region.wait(0, 0, { timeoutMs: 0 })
  }`,
  'that makes memories': `({ GuardedMemory }) => {
    const memory = new GuardedMemory({ initial: 1, maximum: 4 }).memory
    return () => GuardedMemory.from(memory).byteLength
  }`,
  'that maps and unmaps': `({ guarded, region }) => () => {
    const mapping = guarded.map(region, { at: 65536 })
    mapping.faults
    mapping.checkFaults()
    guarded.layout()
    mapping.unmap()
    guarded.map(region).unmap()
  }`,
  'that prefetches': `({ guarded, region }) => {
    const mapping = guarded.map(region, { at: 65536 })
    return () => mapping.prefetch()
  }`,
  'that grows memories': `({ GuardedMemory }) => {
    let guarded = new GuardedMemory({ initial: 1, maximum: 100 })
    return () => {
      guarded.grow(1)
      if (guarded.byteLength > 90 * 65536) guarded = new GuardedMemory({ initial: 1, maximum: 100 })
    }
  }`,
  'that slides windows': `({ guarded, region }) => {
    const window = guarded.window({ byteLength: 65536, at: 65536 })
    return () => {
      window.slide(region, 0)
      window.slide(region, 4096)
      window.slide(null)
      const source = window.source(region)
      source.next()
    }
  }`,
  'that takes and restores snapshots': `({ guarded, file, threadId }) => async () => {
    const snapshot = guarded.snapshot()
    guarded.restore(snapshot)
    guarded.reset()
    await snapshot.save(file + '.' + threadId)
    snapshot.close()
  }`,
  'that uses a pool': `({ InstancePool, wasm }) => {
    let pool
    return async () => {
      pool ??= await InstancePool.create(wasm, { size: 1 })
      const instance = await pool.acquire()
      instance.release()
    }
  }`,
  'that has modules rewritten': `({ exposeState, instrumentGrowth, wasm }) => () => {
    exposeState(wasm)
    instrumentGrowth(wasm, { onGrow: () => true })
  }`,
  'that asks for limits': `({ limits }) => () => limits()`
}

// In the worker. What it catches once it is being ended can't be posted any more, so it goes into
// shared memory.
const WORKER = `
  const { threadId, workerData } = require('node:worker_threads')
  const { root, call, file, wasm, state, text } = workerData
  const tell = error => {
    const { code } = Object(error)
    if (typeof code === 'string' && code !== 'ERR_HOSTMAP_INTERNAL') return
    if (Atomics.add(state, 1, 1) > 0) return
    new Uint8Array(text).set(Buffer.from(code + ' ' + (error?.stack ?? error)).subarray(0, text.byteLength))
  }
  const run = async round => {
    for (;;) {
      try {
        for (let i = 0; i < 50; i++) {
          const done = round()
          if (done?.then) await done
          Atomics.add(state, 0, 1)
        }
        await new Promise(resolve => setImmediate(resolve))
      } catch (error) {
        tell(error)
      }
    }
  }
  try {
    const hostmap = require(root)
    if (call !== null) {
      const region = hostmap.HostRegion.copyFrom(Buffer.alloc(65536))
      const guarded = new hostmap.GuardedMemory({ initial: 4, maximum: 64 })
      run((0, eval)(call)({ ...hostmap, region, guarded, file, wasm, threadId }))
    }
  } catch (error) {
    tell(error)
  }`

test.each(Object.entries(CALLS))(
  'a worker %s ends without an error that has no code',
  async (_, call) => {
    const seen = await inChild(
      async ({ args, require }) => {
        const fs = require('node:fs')
        const { Worker } = require('node:worker_threads')
        const sleep = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))
        fs.writeFileSync(args.file, Buffer.alloc(65536, 5))
        const wasm = Buffer.from(args.wasm, 'base64')
        const failures = []
        for (let i = 0; i < args.terminations; i++) {
          const state = new Int32Array(new SharedArrayBuffer(8))
          const text = new SharedArrayBuffer(4096)
          const { root, call, file } = args
          const worker = new Worker(args.worker, {
            eval: true,
            workerData: { root, call, file, wasm, state, text }
          })
          worker.on('error', error => failures.push(`uncaught: ${error.code} ${error.stack}`))
          await new Promise(resolve => worker.once('online', resolve))
          if (call === null) await sleep(3 * i)
          // During calls that work: each time after some more of them.
          else while (state[0] < 2 + 7 * i && state[1] === 0) await sleep(1)
          await worker.terminate()
          if (state[1] > 0) failures.push(Buffer.from(text).toString().replace(/\0+$/, ''))
        }
        return failures
      },
      {
        args: {
          terminations: TERMINATIONS,
          root: path.join(__dirname, '..'),
          worker: WORKER,
          call,
          file: directory.file(),
          wasm: (await assemble(WAT)).toString('base64')
        }
      }
    )
    expect(seen).toEqual([])
  }
)
