'use strict'

// What a script or a file could do to the memory of others: each of these once left a hole in a linear memory,
// reached past its end, or touched what was unmapped.

const fs = require('node:fs')
const { HostRegion, GuardedMemory } = require('..')
const { inChild } = require('./support/child')
const { thrownBy, expectError } = require('./support/errors')

const hasTransfer = typeof ArrayBuffer.prototype.transfer === 'function'

test('a file that can be read and not mapped is refused before it takes the place of anything', () => {
  // The kernel calls such a file's own mmap operation when the old pages are gone already.
  const file = '/sys/kernel/notes'
  if (!fs.existsSync(file)) return
  const error = thrownBy(() => HostRegion.open(file))
  expectError(error, { code: 'ERR_HOSTMAP_NOT_A_FILE', says: [file, /mapped/] })
})

const testTransfer = hasTransfer ? test : test.skip
testTransfer(
  'a view whose bytes went to another thread can be read when its own thread has ended',
  async () => {
    const seen = await inChild(async ({ require }) => {
      const { Worker } = require('node:worker_threads')
      const main = require.resolve('../..')
      const worker = new Worker(
        `const { HostRegion } = require(${JSON.stringify(main)})
       const view = HostRegion.copyFrom(Buffer.alloc(65536, 7)).view()
       const taken = view.transfer()
       require('node:worker_threads').parentPort.postMessage(taken, [taken])
       setInterval(() => {}, 1000)`,
        { eval: true }
      )
      const buffer = await new Promise(resolve => worker.once('message', resolve))
      const before = new Uint8Array(buffer)[5]
      await worker.terminate()
      await new Promise(resolve => setTimeout(resolve, 50))
      new Uint8Array(buffer)[6] = 1
      return { before, after: new Uint8Array(buffer)[5] }
    })
    expect(seen).toEqual({ before: 7, after: 0 })
  }
)

test('a foreign memfd or file that can shrink is looked at before it is mapped', () => {
  const path = `${require('node:os').tmpdir()}/memfd:${process.pid} (deleted)`
  fs.writeFileSync(path, Buffer.alloc(65536, 1))
  try {
    const region = HostRegion.open(path)
    expect(region.backing).toBe('file')
    fs.truncateSync(path, 4096)
    const guarded = new GuardedMemory({ initial: 1 })
    expectError(
      thrownBy(() => guarded.map(region, { at: 0 })),
      { code: 'ERR_HOSTMAP_FILE_SHRUNK' }
    )
    region.close()
  } finally {
    fs.unlinkSync(path)
  }
})

test('buffers that can change their size are no memories, whatever they say of themselves', () => {
  const tooLarge = 2 ** 33 + 2 ** 31
  const buffers = []
  try {
    const buffer = new ArrayBuffer(65536, { maxByteLength: tooLarge })
    Object.defineProperty(buffer, 'resizable', { value: false })
    buffers.push(buffer)
    buffers.push(new SharedArrayBuffer(65536, { maxByteLength: tooLarge }))
  } catch {
    // This V8 makes none so large.
  }
  for (const buffer of buffers) {
    expectError(
      thrownBy(() => GuardedMemory.from(buffer)),
      { code: 'ERR_HOSTMAP_NOT_WASM_MEMORY' }
    )
  }
})

test('memories and views are refused while V8 has mappings left', async () => {
  const { viewCode, memoryCode } = await inChild(async ({ hostmap, failure }) => {
    const region = hostmap.HostRegion.allocate(1)
    const views = []
    const viewCode = (
      await failure(() => {
        for (;;) views.push(region.view())
      })
    ).code
    const memories = []
    const memoryCode = (
      await failure(() => {
        for (let i = 0; i < 9000; i++) memories.push(new hostmap.GuardedMemory({ initial: 1 }))
      })
    ).code
    return { viewCode, memoryCode }
  })
  expect(viewCode).toBe('ERR_HOSTMAP_MAP_COUNT')
  expect(memoryCode).toBe('ERR_HOSTMAP_MAP_COUNT')
})
