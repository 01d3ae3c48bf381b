'use strict'

// The cache on disk: chunks that were fetched once come from there, right or not at all.

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const { HostRegion } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { inChild } = require('./support/child')
const { temporaryDirectory } = require('./support/files')
const { skipUnless } = require('./support/skip')
const {
  CHUNK,
  bytesFrom,
  closeAll,
  keep,
  optionsOf,
  paged,
  sharedCounts,
  startRanges,
  until
} = require('./support/paged')

afterEach(closeAll)
const directory = temporaryDirectory()
const BYTES = 10 * CHUNK + 77
const HEAD = 4096
const DATA = 8192

/** A region with a cache, and how often its provider is asked. */
async function open(diskCache, data, options) {
  const counts = sharedCounts()
  const more = { readAheadBytes: 0, diskCache, ...options }
  const region = await paged({ byteLength: BYTES, version: '1', counts, ...data }, more)
  return { region, calls: () => counts[0] }
}

const isRight = region => Buffer.from(region.view()).equals(bytesFrom(0, region.byteLength))

/** A file with all chunks. */
async function filled(path = directory.file()) {
  const { region } = await open(path)
  expect(isRight(region)).toBe(true)
  await until(() => region.paging.stats().disk.writes === 11)
  region.close()
  return path
}

test('chunks that were fetched once are not fetched again', async () => {
  const path = directory.file()
  const first = await open(path)
  const bytes = new Uint8Array(first.region.view())
  expect(bytes[CHUNK]).toBe(bytesFrom(CHUNK, 1)[0])
  expect(bytes[10 * CHUNK + 5]).toBe(bytesFrom(10 * CHUNK + 5, 1)[0])
  await until(() => first.region.paging.stats().disk.writes === 2)
  expect(fs.statSync(path).mode & 0o777).toBe(0o600)
  first.region.close()
  // Sparse: two chunks of eleven, head and table.
  expect(fs.statSync(path).blocks * 512).toBeLessThan(4 * CHUNK)
  const second = await open(path)
  expect(isRight(second.region)).toBe(true)
  expect(second.calls()).toBe(9)
  const { disk } = second.region.paging.stats()
  expect(disk).toMatchObject({ hits: 2, failures: 0 })
})

test('what gave way in memory comes from there', async () => {
  const data = { byteLength: 64 * CHUNK }
  const { region, calls } = await open(directory.file(), data, { cacheBytes: 16 * CHUNK })
  for (let pass = 0; pass < 3; pass++) expect(isRight(region)).toBe(true)
  expect(calls()).toBe(64)
  expect(region.paging.stats().disk.hits).toBeGreaterThan(100)
})

test('another version, length, chunk size or key begins a new file', async () => {
  const path = await filled()
  const others = [
    [path, { version: '2' }],
    [path, { byteLength: BYTES + 1 }],
    [path, {}, { chunkBytes: 2 * CHUNK }],
    [{ path, key: '1' }]
  ]
  for (const [given, data, options] of others) {
    const { region } = await open(given, data, options)
    expect(isRight(region)).toBe(true)
    expect(region.paging.stats().disk).toMatchObject({ hits: 0, failures: 0 })
    region.close()
  }
  const keyed = await open({ path, key: '1' }, { version: undefined })
  expect(isRight(keyed.region)).toBe(true)
  expect(keyed.calls()).toBe(0)
})

test('another module of the same version begins a new file', async () => {
  const diskCache = directory.file()
  for (const value of [1, 2]) {
    const source = `export default () => ({ byteLength: 5, version: '1', read: (_, target) => target.fill(${value}).length })`
    const provider = { module: `data:text/javascript,${encodeURIComponent(source)}` }
    const region = keep(await HostRegion.paged({ provider, diskCache }))
    expect([...new Uint8Array(region.view())]).toEqual(Array(5).fill(value))
    await until(() => region.paging.stats().disk.writes === 1)
  }
})

test('other data of the same module and version begins a new file', async () => {
  const diskCache = directory.file()
  const source = `export default ({ value, shared }) => ({
    byteLength: 5,
    version: '1',
    read: (_, target) => (Atomics.add(shared, 0, 1), target.fill(value).length)
  })`
  const module = `data:text/javascript,${encodeURIComponent(source)}`
  // Shared memory does not count, whatever it holds.
  const shared = sharedCounts()
  for (const [value, calls] of [
    [1, 1],
    [1, 1],
    [2, 2],
    [1, 3]
  ]) {
    const provider = { module, data: { value, shared, of: new Map([[value, shared.buffer]]) } }
    const region = keep(await HostRegion.paged({ provider, diskCache }))
    expect([...new Uint8Array(region.view())]).toEqual(Array(5).fill(value))
    expect(shared[0]).toBe(calls)
    const { disk } = region.paging.stats()
    if (disk.hits === 0) await until(() => region.paging.stats().disk.writes === 1)
  }
})

test('two at a time, of different versions or the same, mix nothing', async () => {
  const path = await filled()
  const old = await open(path)
  const other = await open(path, { version: '2' })
  const same = await open(path, { version: '2' })
  for (const { region } of [other, old, same]) expect(isRight(region)).toBe(true)
  expect(old.calls()).toBe(0)
})

test('an altered or truncated file: right bytes, and what is wrong is counted', async () => {
  const good = fs.readFileSync(await filled())
  const at = [0, 5, 25, 60, HEAD - 1, HEAD, HEAD + 33, DATA, DATA + 5, good.length - 1]
  for (const where of at) {
    const altered = Buffer.from(good)
    altered[where] ^= 0x10
    const path = directory.file(altered)
    fs.chmodSync(path, 0o600)
    const { region, calls } = await open(path)
    expect(isRight(region)).toBe(true)
    expect(calls()).toBeGreaterThan(0)
    if (where >= HEAD) expect(region.paging.stats().disk).toMatchObject({ hits: 10, failures: 1 })
    region.close()
  }
  for (const length of [0, 10, HEAD, HEAD + 40, DATA + 3 * CHUNK + 9]) {
    const path = directory.file(good.subarray(0, length))
    fs.chmodSync(path, 0o600)
    const { region } = await open(path)
    expect(isRight(region)).toBe(true)
    region.close()
  }
})

test('a file that is something else, or others may write to, is left alone', async () => {
  const somebodys = directory.file('somebody wrote this')
  const open2 = await filled()
  fs.chmodSync(open2, 0o666)
  const fifo = directory.file()
  execFileSync('mkfifo', [fifo])
  for (const path of [somebodys, open2, fifo, directory.path, '/no/such/folder/cache']) {
    const { region } = await open(path)
    expect(isRight(region)).toBe(true)
    const { disk, lastError } = region.paging.stats()
    expect(disk).toEqual({ hits: 0, writes: 0, failures: 1 })
    expect(lastError).toMatch("can't be used as a cache")
    region.close()
  }
  expect(fs.readFileSync(somebodys, 'utf8')).toBe('somebody wrote this')
})

test('a limit on files: what does not fit is not kept, and all is served', async () => {
  const found = await inChild(
    async ({ hostmap: { HostRegion }, args }) => {
      const region = await HostRegion.paged(args)
      const sum = new Uint8Array(region.view()).reduce((a, b) => a + b, 0)
      return { sum, ...region.paging.stats() }
    },
    {
      args: optionsOf(
        { byteLength: BYTES, version: '1' },
        { diskCache: directory.file(), readAheadBytes: 0 }
      ),
      // In blocks of 512 bytes: the region fits, and the cache, which is longer, does not.
      ulimit: '-f 1290'
    }
  )
  expect(found.sum).toBe(bytesFrom(0, BYTES).reduce((a, b) => a + b, 0))
  expect(found.disk.writes).toBeGreaterThan(0)
  expect(found.disk.failures).toBe(1)
})

skipUnless('needs root and /dev/full', process.getuid() === 0).test('a full disk', async () => {
  const folder = directory.file()
  fs.mkdirSync(folder)
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', folder], { stdio: 'ignore' })
  } catch {
    return
  }
  try {
    const { region } = await open(`${folder}/cache`)
    expect(isRight(region)).toBe(true)
    expect(region.paging.stats().disk.failures).toBe(1)
    expect(region.paging.stats().lastError).toMatch('ENOSPC')
    region.close()
    const again = await open(`${folder}/cache`)
    expect(isRight(again.region)).toBe(true)
    expect(again.region.paging.stats().disk.hits).toBeGreaterThan(0)
    again.region.close()
  } finally {
    execFileSync('umount', ['-l', folder])
  }
})

test('over HTTP it is keyed by address and ETag', async () => {
  const server = await startRanges()
  try {
    const url = server.of({ bytes: BYTES })
    const path = directory.file()
    const round = async address => {
      const provider = { url: address }
      const region = keep(await HostRegion.paged({ provider, chunkBytes: CHUNK, diskCache: path }))
      expect(isRight(region)).toBe(true)
      const { fetchedBytes } = region.paging.stats()
      await until(() => {
        const { disk } = region.paging.stats()
        return disk.hits + disk.writes === 11
      })
      region.close()
      return fetchedBytes
    }
    expect(await round(url)).toBe(BYTES)
    expect(await round(url)).toBe(0)
    expect(await round(`${url}&more=1`)).toBe(BYTES)
    const unversioned = server.of({ bytes: BYTES, mode: 'unversioned', from: 0 })
    const provider = { url: unversioned, immutable: true }
    const error = await thrownBy(() => HostRegion.paged({ provider, diskCache: path }))
    expectError(error, { code: 'ERR_INVALID_ARG_VALUE', says: 'diskCache.key' })
  } finally {
    await server.stop()
  }
})
