'use strict'

// mapping.prefetch: it brings the pages in on another thread, and may be cut short by anything.

const fs = require('node:fs')
const { GuardedMemory, HostRegion, limits } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { temporaryDirectory, noise } = require('./support/files')
const { mappingsOf } = require('./support/procfs')
const { inChild } = require('./support/child')
const { MiB } = require('./support/wasm')

const PAGE = limits().pageSize
const directory = temporaryDirectory()

/** Bytes that the process has in its page tables of what shows this region. */
function mappedBytes(region) {
  const starts = mappingsOf(region).map(({ start }) => start.toString(16).padStart(8, '0'))
  const areas = fs.readFileSync('/proc/self/smaps', 'latin1').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
  const own = areas.filter(area => starts.some(start => area.startsWith(`${start}-`)))
  return own.reduce((sum, area) => sum + 1024 * Number(/^Rss: +(\d+)/m.exec(area)[1]), 0)
}

const bytes = noise(9 * MiB + 17)
const file = directory.file(bytes, 'prefetch.bin')
let files = 0
/** A file of its own, which nothing else maps. */
const newFile = () => directory.file(bytes, `prefetch-${files++}.bin`)
const WHOLE = Math.ceil(bytes.length / PAGE) * PAGE

describe.each([
  ['a file', () => HostRegion.open(newFile())],
  ['a memfd', () => HostRegion.copyFrom(bytes, { hugePages: false })],
  ['a memfd of huge pages', () => HostRegion.copyFrom(bytes, { hugePages: true })]
])('of %s', (_, make) => {
  test.each(['readonly', 'private'])('%s: all of it is mapped then', async access => {
    const region = make()
    const mapping = new GuardedMemory({ initial: 1 }).map(region, { access })
    expect(mappedBytes(region)).toBe(0)
    expect(await mapping.prefetch()).toBeUndefined()
    expect(mappedBytes(region)).toBe(WHOLE)
    expect(Buffer.from(mapping.memory.buffer, mapping.address, bytes.length).equals(bytes)).toBe(
      true
    )
    region.close()
  })
})

test('of a part: the pages that hold it', async () => {
  const region = HostRegion.copyFrom(bytes, { hugePages: false })
  const mapping = new GuardedMemory({ initial: 1 }).map(region)
  await mapping.prefetch({ byteOffset: 5, byteLength: 0 })
  expect(mappedBytes(region)).toBe(0)
  await mapping.prefetch({ byteOffset: MiB + 1, byteLength: PAGE })
  // The kernel maps up to 64 KiB around a page that it has.
  const part = mappedBytes(region)
  expect(part).toBeGreaterThanOrEqual(2 * PAGE)
  expect(part).toBeLessThanOrEqual(128 * 1024)
  await mapping.prefetch({ byteOffset: bytes.length - 1 })
  expect(mappedBytes(region)).toBeGreaterThan(part)
  expect(mappedBytes(region)).toBeLessThanOrEqual(part + 64 * 1024)
  region.close()
})

test('several at once, and of a region that was closed', async () => {
  const region = HostRegion.copyFrom(bytes)
  const mappings = Array.from({ length: 8 }, () => new GuardedMemory({ initial: 1 }).map(region))
  region.close()
  await Promise.all(mappings.map(mapping => mapping.prefetch()))
  for (const { memory, address } of mappings) {
    expect(Buffer.from(memory.buffer, address, bytes.length).equals(bytes)).toBe(true)
  }
})

test('of what is unmapped, or is meanwhile, it just ends', async () => {
  const region = HostRegion.copyFrom(bytes)
  const guarded = new GuardedMemory({ initial: 1 })
  const mapping = guarded.map(region)
  const running = mapping.prefetch()
  mapping.unmap()
  await running
  await mapping.prefetch()
  expect(new Uint8Array(guarded.buffer).every(byte => byte === 0)).toBe(true)
  region.close()
})

test('a signal ends it', async () => {
  const large = directory.file(Buffer.alloc(0), 'large.bin')
  fs.truncateSync(large, 2 ** 31)
  const region = HostRegion.open(large)
  const mapping = new GuardedMemory({ initial: 1 }).map(region)
  for (const byteLength of [0, undefined]) {
    const ended = await thrownBy(() =>
      mapping.prefetch({ byteLength, signal: AbortSignal.abort() })
    )
    expectError(ended, { code: 'ABORT_ERR' })
  }
  expect(mappedBytes(region)).toBe(0)
  const controller = new AbortController()
  const running = mapping.prefetch({ signal: controller.signal })
  controller.abort()
  expectError(await thrownBy(() => running), { code: 'ABORT_ERR' })
  expect(mappedBytes(region)).toBeLessThan(2 ** 31)
  mapping.unmap()
  region.close()
})

test('of a file that got shorter: an error, and the mapping is as it was', async () => {
  const short = directory.file(bytes, 'short.bin')
  const region = HostRegion.open(short)
  const mapping = new GuardedMemory({ initial: 1 }).map(region)
  fs.truncateSync(short, PAGE)
  expectError(await thrownBy(() => mapping.prefetch()), {
    code: 'ERR_HOSTMAP_READ_FAILED',
    syscall: 'madvise'
  })
  expect(mapping.faults).toBe(0)
  await mapping.prefetch({ byteLength: PAGE })
  expect(
    Buffer.from(mapping.memory.buffer, mapping.address, PAGE).equals(bytes.subarray(0, PAGE))
  ).toBe(true)
  region.close()
})

test('a thread that ends meanwhile, and a memory that is collected', async () => {
  const seen = await inChild(
    async ({ hostmap, require, args }) => {
      const { Worker } = require('node:worker_threads')
      const source = `
        const { GuardedMemory, HostRegion } = require(${JSON.stringify(args.root)})
        const mapping = new GuardedMemory({ initial: 1 }).map(HostRegion.open(${JSON.stringify(args.file)}))
        mapping.prefetch()
        require('node:worker_threads').parentPort.postMessage('started')`
      for (let i = 0; i < 10; i++) {
        const worker = new Worker(source, { eval: true })
        await new Promise(resolve => worker.once('message', resolve))
        await worker.terminate()
      }
      const { GuardedMemory, HostRegion } = hostmap
      const all = []
      for (let i = 0; i < 20; i++) {
        all.push(new GuardedMemory({ initial: 1 }).map(HostRegion.open(args.file)).prefetch())
        globalThis.gc()
      }
      await Promise.all(all)
      return 'lives'
    },
    { flags: ['--expose-gc'], args: { root: require('node:path').join(__dirname, '..'), file } }
  )
  expect(seen).toBe('lives')
})
