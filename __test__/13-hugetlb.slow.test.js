'use strict'

// Regions of huge pages of the system's pool. Most of it needs some: `sysctl vm.nr_hugepages=32` as
// root.

const fs = require('node:fs')
const { Worker } = require('node:worker_threads')
const { GuardedMemory, HostRegion, Snapshot, limits } = require('..')
const { temporaryDirectory, noise } = require('./support/files')
const { fdOf, mappingsOf } = require('./support/procfs')
const { inChild } = require('./support/child')
const { build, hasCargo, inChild: inInjected } = require('./support/injected')
const { expectFailure } = require('./support/errors')
const { HUGE, freePages, canPunch, punchHole } = require('./support/hugetlb')
const { kinds, baseOf } = require('./support/memories')
const { MiB, WASM_PAGE } = require('./support/wasm')

const PAGE = limits().pageSize
const PAGES_NEEDED = 24
const directory = temporaryDirectory()
const hugePages = 'hugetlb'

const made = []
const keep = region => (made.push(region), region)
afterEach(() => made.splice(0).forEach(region => region.close()))

const hasPool = freePages() >= PAGES_NEEDED
const withPool = hasPool ? test : test.skip
const withPunch = hasPool && canPunch() ? test : test.skip

// Other programs may use the pool, but not where it is ours.
const expectFree = (before, taken = 0) => process.env.CI && expect(freePages()).toBe(before - taken)

const bytesOf = (region, ...part) => Buffer.from(region.view(...part))

test.each([['yes'], [1], [null]])('hugePages: %p is refused', async value => {
  const code = typeof value === 'string' ? 'ERR_INVALID_ARG_VALUE' : 'ERR_INVALID_ARG_TYPE'
  const says = /a boolean or 'hugetlb'/
  await expectFailure(() => HostRegion.allocate(1, { hugePages: value }), { code, says })
  await expectFailure(() => HostRegion.copyFrom(noise(1), { hugePages: value }), { code, says })
  await expectFailure(() => HostRegion.load(__filename, { hugePages: value }), { code, says })
})

test('more than the pool has is refused, and nothing is taken', async () => {
  const before = freePages()
  const expected = { code: 'ERR_HOSTMAP_OUT_OF_MEMORY', says: /hugePages: true/ }
  const much = 2 ** 46
  await expectFailure(() => HostRegion.allocate(much, { hugePages }), expected)
  if (before >= 0) {
    const says = new RegExp(
      `needs ${much / HUGE} huge pages of 2 MiB, and \\d+ .*vm\\.nr_hugepages`
    )
    await expectFailure(() => HostRegion.allocate(much, { hugePages }), { ...expected, says })
  }
  const sparse = directory.file('x', 'sparse.bin')
  fs.truncateSync(sparse, 2 ** 43)
  await expectFailure(() => HostRegion.load(sparse, { hugePages }), expected)
  expectFree(before)
})

describe('a region', () => {
  withPool('that is allocated has all of its pages, zeros, until it is closed', () => {
    const before = freePages()
    const region = keep(HostRegion.allocate(5 * MiB + 1, { hugePages, name: 'pool' }))
    expect(region).toMatchObject({
      byteLength: 5 * MiB + 1,
      backing: 'memfd',
      name: 'pool',
      writable: true
    })
    expect(region.hugePages).toEqual({ bytes: 5 * MiB + 1, reason: null })
    expectFree(before, 3)
    expect(fs.fstatSync(fdOf(region)).blocks * 512).toBe(3 * HUGE)
    expect(bytesOf(region).equals(Buffer.alloc(5 * MiB + 1))).toBe(true)
    region.close()
    expectFree(before)
  })

  withPool('that is copied has the bytes', () => {
    const bytes = noise(5 * MiB + 17)
    const region = keep(HostRegion.copyFrom(bytes, { hugePages }))
    expect(bytesOf(region).equals(bytes)).toBe(true)
    expect(
      bytesOf(keep(HostRegion.copyFrom(bytes.subarray(3, 4), { hugePages }))).equals(
        bytes.subarray(3, 4)
      )
    ).toBe(true)
  })

  withPool('that is loaded has those of the file, and zeros for its holes', async () => {
    const data = noise(3 * MiB)
    const file = directory.file(Buffer.alloc(0), 'holes.bin')
    const fd = fs.openSync(file, 'r+')
    fs.ftruncateSync(fd, 20 * MiB)
    fs.writeSync(fd, data, 0, data.length, 6 * MiB + 123)
    fs.closeSync(fd)
    const region = keep(
      await HostRegion.load(file, { hugePages, byteOffset: 77, byteLength: 16 * MiB })
    )
    expect(region.hugePages).toEqual({ bytes: 16 * MiB, reason: null })
    const expected = Buffer.alloc(16 * MiB)
    data.copy(expected, 6 * MiB + 123 - 77)
    expect(bytesOf(region).equals(expected)).toBe(true)
    const stop = AbortSignal.abort()
    await expectFailure(() => HostRegion.load(file, { hugePages, signal: stop }), {
      code: 'ABORT_ERR'
    })
  })

  withPool('has views at any offset, and can be sealed under them', () => {
    const region = keep(HostRegion.copyFrom(noise(6 * MiB), { hugePages }))
    const view = new Uint8Array(region.view(2 * MiB + 5, 3 * MiB))
    expect(Buffer.from(view).equals(noise(6 * MiB).subarray(2 * MiB + 5, 5 * MiB + 5))).toBe(true)
    view[0] ^= 255
    expect(bytesOf(region, 2 * MiB + 5, 1)[0]).toBe(view[0])
    region.seal()
    const there = view[0]
    view[0] ^= 255
    // A copy of the page, which this view alone sees.
    expect(view[0]).toBe(there ^ 255)
    expect(view[1]).toBe(noise(6 * MiB)[2 * MiB + 6])
    expect(bytesOf(region, 2 * MiB + 5, 1)[0]).toBe(there)
    expect(region).toMatchObject({
      sealed: true,
      strayWrites: 1,
      lastFault: { outcome: 'private-page' }
    })
  })

  withPool('goes to other threads by its descriptor', async () => {
    const region = keep(HostRegion.copyFrom(noise(3 * MiB), { hugePages }))
    const other = keep(HostRegion.fromFd(fdOf(region), { byteOffset: 2 * MiB, byteLength: 100 }))
    expect(bytesOf(other).equals(noise(3 * MiB).subarray(2 * MiB, 2 * MiB + 100))).toBe(true)
    expect(other.hugePages).toEqual({ bytes: 100, reason: null })
    const worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads')
       const { GuardedMemory, HostRegion } = require(workerData.main)
       const guarded = new GuardedMemory({ initial: 1 })
       const { address } = guarded.map(HostRegion.fromFd(workerData.fd))
       parentPort.postMessage(new Uint8Array(guarded.buffer)[address + 2097155])`,
      { eval: true, workerData: { main: require.resolve('..'), fd: fdOf(region) } }
    )
    const byte = await new Promise((resolve, reject) =>
      worker.once('message', resolve).once('error', reject)
    )
    expect(byte).toBe(noise(3 * MiB)[2 * MiB + 3])
    await worker.terminate()
    await expectFailure(() => HostRegion.fromFd(fdOf(region), { byteOffset: PAGE }), {
      code: 'ERR_OUT_OF_RANGE',
      says: /2097152: start at 0/
    })
  })

  withPunch('of which pages may be missing is no region', () => {
    const region = keep(HostRegion.allocate(4 * MiB, { hugePages }))
    punchHole(region, 0, HUGE)
    expect(region.hugePages).toEqual({
      bytes: 2 * MiB,
      reason: expect.stringContaining('elsewhere')
    })
    return expectFailure(() => HostRegion.fromFd(fdOf(region)), {
      code: 'ERR_HOSTMAP_NOT_A_FILE',
      says: /may be missing/
    })
  })
})

describe.each(kinds)('mapped into a memory that is $kind', ({ make, grows }) => {
  const room = (12 * MiB) / WASM_PAGE

  withPool('it is read, at a multiple of 2 MiB of the process', async () => {
    const { guarded, guest } = await make(room, room + 512)
    const bytes = noise(5 * MiB)
    const region = keep(HostRegion.copyFrom(bytes, { hugePages }))
    const skew = baseOf(guarded) % HUGE
    const at = skew === 0 ? 0 : HUGE - skew
    const mapping = guarded.map(region, { at })
    expect(mappingsOf(region)).toEqual([
      expect.objectContaining({ permissions: 'r--p', offset: 0 })
    ])
    expect(guest.bytes(at + 2 * MiB - 8, 16).equals(bytes.subarray(2 * MiB - 8, 2 * MiB + 8))).toBe(
      true
    )
    expect(guest.load8(at + 5 * MiB)).toBe(0)
    const other = guarded.map(region, { at: at + 6 * MiB, byteOffset: 4 * MiB, access: 'shared' })
    guest.store8(other.address, 99)
    expect(guest.load8(at + 4 * MiB)).toBe(99)
    for (const place of [at + PAGE, at + WASM_PAGE])
      await expectFailure(() => guarded.map(region, { at: place, byteLength: 1 }), {
        code: 'ERR_OUT_OF_RANGE',
        says: new RegExp(`mapped at ${at} and at multiples of ${HUGE} from there`)
      })
    await expectFailure(() => guarded.map(region, { at, byteOffset: WASM_PAGE }), {
      code: 'ERR_OUT_OF_RANGE',
      says: /multiple of the size of the region's pages, 2097152/
    })
    await expectFailure(
      () => guarded.map(region, { at: at + 8 * MiB, access: 'private', byteLength: 1 }),
      {
        code: 'ERR_INVALID_ARG_VALUE',
        says: /'readonly' or 'shared'/
      }
    )
    mapping.unmap()
    other.unmap()
    expect(guest.sum(at, at + 8 * MiB)).toBe(0n)
    expect(mappingsOf(region)).toEqual([])
  })

  withPool('its bytes stay as they are, whoever writes', async () => {
    const { guarded, guest } = await make(room, room + 512)
    const bytes = noise(4 * MiB)
    const region = keep(HostRegion.copyFrom(bytes, { hugePages }))
    const at = (HUGE - (baseOf(guarded) % HUGE)) % HUGE
    const mapping = guarded.map(region, { at })
    expect(() => guest.store8(at + 5, 1)).toThrow(WebAssembly.RuntimeError)
    expect(mapping).toMatchObject({ strayWrites: 0, lastFault: { outcome: 'trap', byteOffset: 5 } })
    new Uint8Array(guarded.buffer)[at + 2 * MiB + 7] = bytes[2 * MiB + 7] ^ 255
    expect(guest.load8(at + 2 * MiB + 7)).toBe(bytes[2 * MiB + 7] ^ 255)
    expect(
      guest.bytes(at + 2 * MiB + 8, 99).equals(bytes.subarray(2 * MiB + 8, 2 * MiB + 107))
    ).toBe(true)
    expect(guest.load8(at + 4 * MiB - 1)).toBe(bytes[4 * MiB - 1])
    expect(bytesOf(region).equals(bytes)).toBe(true)
    expect(mapping).toMatchObject({
      strayWrites: 1,
      lastFault: { outcome: 'private-page', byteOffset: 2 * MiB + 7 }
    })
    // Protected again by now; what stands in ordinary pages too.
    guarded.layout()
    expect(() => guest.store8(at + 2 * MiB + 9, 1)).toThrow(WebAssembly.RuntimeError)
    new Uint8Array(guarded.buffer)[at + 2 * MiB + 9] = 1
    expect(mapping.strayWrites).toBe(2)
    mapping.unmap()
    expect(guest.sum(at, at + 4 * MiB)).toBe(0n)
  })

  const growing = grows ? withPool : test.skip
  growing(
    'it finds a place past the end, and keeps its protection when the memory grows',
    async () => {
      const { guarded, guest } = await make(1, 2048)
      const region = keep(HostRegion.copyFrom(noise(3 * MiB), { hugePages }))
      const mappings = [
        guarded.map(region),
        guarded.map(region, { byteLength: 1 }),
        guarded.map(region, { hugePages: false })
      ]
      const base = baseOf(guarded)
      for (const { address } of mappings) {
        expect((base + Number(address)) % HUGE).toBe(0)
        expect(guest.load8(Number(address))).toBe(noise(3 * MiB)[0])
      }
      // Two pages, one, two; and what the first one leaves before it.
      expect(guarded.byteLength).toBeLessThanOrEqual(WASM_PAGE + 5 * HUGE + HUGE)
      guarded.grow(3)
      expect(() => guest.store8(Number(mappings[0].address), 1)).toThrow(WebAssembly.RuntimeError)
      const after = guarded.byteLength
      for (const mapping of mappings) mapping.unmap()
      expect(guarded.map(region, { byteOffset: 2 * MiB }).address).toBe(mappings[0].address)
      expect(guarded.byteLength).toBe(after)
    }
  )

  growing('a snapshot keeps it, and a restore puts its bytes back', async () => {
    const { guarded, guest } = await make(1, 2048)
    const exclusive = true
    const region = keep(HostRegion.copyFrom(noise(4 * MiB), { hugePages }))
    const at = Number(guarded.map(region).address)
    const snapshot = guarded.snapshot({ exclusive })
    for (let round = 0; round < 3; round++) {
      guest.store8(3, 3)
      new Uint8Array(guarded.buffer).fill(7, at + 100, at + 4 * MiB - 100)
      expect(guest.load8(at + 2 * MiB)).toBe(7)
      guarded.restore(snapshot, { exclusive })
      expect(Buffer.from(guarded.buffer, at, 4 * MiB).equals(noise(4 * MiB))).toBe(true)
      expect(guest.load8(3)).toBe(0)
      expect(() => guest.store8(at + 3 * MiB, 1)).toThrow(WebAssembly.RuntimeError)
    }
    snapshot.close()
  })

  growing('a snapshot puts it into another memory where that has a place for it', async () => {
    const { guarded } = await make(1, 2048)
    const { guarded: other, guest } = await make(1, 2048)
    const exclusive = true
    const region = keep(HostRegion.copyFrom(noise(3 * MiB), { hugePages }))
    const at = Number(guarded.map(region).address)
    const snapshot = guarded.snapshot({ exclusive })
    if (baseOf(guarded) % HUGE === baseOf(other) % HUGE) {
      other.restore(snapshot, { exclusive })
      expect(guest.load8(at + 3 * MiB - 1)).toBe(noise(3 * MiB)[3 * MiB - 1])
    } else {
      await expectFailure(() => other.restore(snapshot, { exclusive }), {
        code: 'ERR_OUT_OF_RANGE',
        says: /pages of 2097152 bytes/
      })
      expect(other.mappings).toEqual([])
    }
    snapshot.close()
  })
})

withPool("a block of the module's is large enough for any place in it", () => {
  const guarded = new GuardedMemory({ initial: (8 * MiB) / WASM_PAGE })
  const region = keep(HostRegion.copyFrom(noise(3 * MiB), { hugePages }))
  const asked = []
  const allocator = {
    malloc: bytes => (asked.push(bytes), WASM_PAGE + 16),
    free: at => asked.push(at)
  }
  const mapping = guarded.map(region, { allocator })
  expect(asked).toEqual([3 * HUGE])
  expect(mapping.address).toBeGreaterThanOrEqual(WASM_PAGE + 16)
  expect(mapping.address + 2 * HUGE).toBeLessThanOrEqual(WASM_PAGE + 16 + 3 * HUGE)
  expect(new Uint8Array(guarded.buffer)[mapping.address + 3 * MiB - 1]).toBe(
    noise(3 * MiB)[3 * MiB - 1]
  )
  mapping.unmap()
  expect(asked).toEqual([3 * HUGE, WASM_PAGE + 16])
})

withPool('a window does not show it, and says what does', async () => {
  const guarded = new GuardedMemory({ initial: 1 })
  const region = keep(HostRegion.allocate(4 * MiB, { hugePages }))
  const window = guarded.window({ byteLength: 4 * MiB })
  for (const offset of [0, WASM_PAGE, 2 * MiB])
    await expectFailure(() => window.slide(region, offset), {
      code: 'ERR_INVALID_ARG_VALUE',
      says: /map parts of it/
    })
  expect(window.shownBytes).toBe(0)
})

withPool('a reset puts its bytes back', () => {
  const guarded = new GuardedMemory({ initial: 1 })
  const region = keep(HostRegion.copyFrom(noise(4 * MiB), { hugePages }))
  const { address } = guarded.map(region)
  for (let round = 0; round < 2; round++) {
    new Uint8Array(guarded.buffer)[address + 5] ^= 255
    guarded.reset({ exclusive: true })
    expect(Buffer.from(guarded.buffer, address, 4 * MiB).equals(noise(4 * MiB))).toBe(true)
    expect(mappingsOf(region)).toHaveLength(1)
  }
})

withPool('when it was closed, a reset refuses what it can not put back', async () => {
  const guarded = new GuardedMemory({ initial: 1 })
  const region = HostRegion.copyFrom(noise(2 * MiB), { hugePages })
  const mapping = guarded.map(region)
  region.close()
  const bytes = new Uint8Array(guarded.buffer)
  bytes[3] = 3
  guarded.reset()
  expect(bytes[3]).toBe(0)
  bytes[mapping.address] ^= 255
  bytes[3] = 3
  await expectFailure(() => guarded.reset(), {
    code: 'ERR_HOSTMAP_REGION_CLOSED',
    says: /unmap it/
  })
  expect(bytes[3]).toBe(3)
  mapping.unmap()
  guarded.reset()
  expect(bytes[3]).toBe(0)
})

withPool('free spans that have no place for it are passed over', () => {
  const guarded = new GuardedMemory({ initial: 1, maximum: 4096 })
  const ordinary = keep(HostRegion.allocate(HUGE))
  const page = keep(HostRegion.allocate(WASM_PAGE))
  // Spans of 2 MiB, a Wasm page or more off.
  const base = baseOf(guarded)
  while ((base + guarded.byteLength) % HUGE !== WASM_PAGE) guarded.grow(1)
  const spans = Array.from({ length: 20 }, () => [
    guarded.map(ordinary, { hugePages: false }),
    guarded.map(page)
  ])
  for (const [span] of spans) span.unmap()
  const region = keep(HostRegion.allocate(HUGE, { hugePages }))
  for (let i = 0; i < 3; i++) expect((base + guarded.map(region).address) % HUGE).toBe(0)
})

withPool('its parts are whole pages', () => {
  const region = keep(HostRegion.allocate(5 * MiB, { hugePages }))
  expect(region.split(2)).toEqual([
    { byteOffset: 0, byteLength: 2 * MiB },
    { byteOffset: 2 * MiB, byteLength: 3 * MiB }
  ])
})

withPool(
  'a snapshot with a window that was given one is refused before anything is done',
  async () => {
    const file = `${directory.path}/window.snapshot`
    const source = new GuardedMemory({ initial: 1, maximum: 200 })
    const ordinary = keep(HostRegion.copyFrom(noise(2 * MiB), { name: 'shown' }))
    const window = source.window({ byteLength: 2 * MiB })
    window.slide(ordinary, 0)
    const taken = source.snapshot()
    await taken.save(file)
    taken.close()
    const region = keep(HostRegion.copyFrom(noise(2 * MiB), { name: 'shown', hugePages }))
    const snapshot = await Snapshot.load(file, { regions: () => region })
    const target = new GuardedMemory({ initial: source.byteLength / WASM_PAGE })
    const bytes = new Uint8Array(target.buffer).fill(3)
    await expectFailure(() => target.restore(snapshot), {
      code: 'ERR_INVALID_ARG_VALUE',
      says: /a window can't show/
    })
    expect(bytes.every(byte => byte === 3)).toBe(true)
    snapshot.close()
  }
)

describe('with an empty pool', () => {
  const inEmptyPool = body =>
    inChild(body, { args: { HUGE, pool: require.resolve('./support/hugetlb') } })

  withPool('writes go to copies', async () => {
    const seen = await inEmptyPool(async ({ hostmap, require, probe, args: { HUGE, pool } }) => {
      const { GuardedMemory, HostRegion } = hostmap
      const { freePages } = require(pool)
      const region = HostRegion.copyFrom(Buffer.alloc(3 * HUGE, 5), { hugePages: 'hugetlb' })
      const guarded = new GuardedMemory({ initial: 1, maximum: 1000 })
      const guest = await probe(guarded.memory)
      const mapping = guarded.map(region)
      const at = mapping.address
      HostRegion.allocate(freePages() * HUGE, { hugePages: 'hugetlb' })
      const free = freePages()
      // The kernel could not make a copy by itself.
      new Uint8Array(guarded.buffer)[at] = 1
      // A growth by the module makes the mapping writable: now the kernel tries.
      guest.grow(1)
      let trapped = false
      try {
        guest.store8(at + HUGE, 1)
      } catch (error) {
        trapped = error instanceof WebAssembly.RuntimeError
      }
      const bytes = new Uint8Array(guarded.buffer)
      bytes[at + HUGE + 1] = 2
      const copied = [
        bytes[at],
        bytes[at + 1],
        bytes[at + HUGE + 1],
        bytes[at + HUGE + 2],
        bytes[at + 2 * HUGE]
      ]
      const { strayWrites, faults } = mapping
      const intact = Buffer.from(region.view()).every(byte => byte === 5)
      return { free, trapped, copied, strayWrites, faults, intact }
    })
    expect(seen).toEqual({
      free: 0,
      trapped: true,
      copied: [1, 5, 2, 5, 5],
      strayWrites: 2,
      faults: 0,
      intact: true
    })
  })

  withPunch('pages that somebody took out are zeros', async () => {
    const seen = await inEmptyPool(async ({ hostmap, require, args: { HUGE, pool } }) => {
      const { GuardedMemory, HostRegion } = hostmap
      const { freePages, punchHole } = require(pool)
      const region = HostRegion.copyFrom(Buffer.alloc(2 * HUGE, 5), { hugePages: 'hugetlb' })
      const guarded = new GuardedMemory({ initial: 1 })
      const mapping = guarded.map(region)
      punchHole(region, HUGE, HUGE)
      HostRegion.allocate(freePages() * HUGE, { hugePages: 'hugetlb' })
      const bytes = new Uint8Array(guarded.buffer, mapping.address)
      const found = [bytes[0], bytes[HUGE], bytes[2 * HUGE - 1]]
      bytes[HUGE] = 1
      return {
        found,
        written: bytes[HUGE],
        faults: mapping.faults,
        outcome: mapping.lastFault.outcome
      }
    })
    expect(seen).toEqual({ found: [5, 0, 0], written: 1, faults: 1, outcome: 'private-page' })
  })
})

test('without the fault guard there are none', async () => {
  const error = await inChild(
    ({ hostmap, failure }) =>
      failure(() => hostmap.HostRegion.allocate(1, { hugePages: 'hugetlb' })),
    { env: { WASM_HOSTMAP_FAULT_GUARD: 'off' } }
  )
  expect(error).toMatchObject({
    code: 'ERR_HOSTMAP_MAP_FAILED',
    message: expect.stringContaining('WASM_HOSTMAP_FAULT_GUARD')
  })
})

// Nothing of it can be built without Rust.
const withInjected = hasPool && hasCargo ? test : test.skip
withInjected(
  'huge pages go back to the pool, and their mappings are whole or not there',
  () => {
    build()
    const { outcomes, before, after, maps, mapsAfter, written } = inInjected(async () => {
      const { HostRegion, GuardedMemory } = hostmap
      const hugePages = 'hugetlb'
      const source = Buffer.alloc(3 << 20, 7)
      const { freePages } = require('./__test__/support/hugetlb')
      const before = { pages: freePages(), files: files(), mapped: mapped() }
      const allocate = () => HostRegion.allocate(source.length, { hugePages })
      const copy = () => HostRegion.copyFrom(source, { hugePages })
      const made = [
        ['memfd_create', 0, allocate],
        ['ftruncate', 0, allocate],
        ['fcntl', 0, allocate],
        ['mmap', 0, allocate],
        ['fallocate', 0, allocate],
        ['fstat', 0, allocate],
        ['memfd_create', 1, copy],
        ['pwrite', 0, copy],
        ['pwrite', 1, copy],
        ['pread', 2, copy],
        ['fallocate', 0, copy]
      ].map(([syscall, skip, call]) => [syscall, failing(syscall, skip, EIO, call)])
      const after = { pages: freePages(), files: files(), mapped: mapped() }
      const region = copy()
      const duplicate = region.duplicateFd()
      made.push(['fstatfs', failing('fstatfs', 0, EIO, () => HostRegion.fromFd(duplicate))])
      const guarded = new GuardedMemory({ initial: 256 })
      const { address } = guarded.map(region)
      const maps = mapped()
      made.push(['mmap', failing('mmap', 0, EIO, () => guarded.map(region))])
      made.push(['mremap', failing('mremap', 0, EIO, () => guarded.map(region))])
      const mapsAfter = mapped()
      const again = guarded.map(region).address
      // A page that is written is copied all the same: by another way, at once, or by the kernel.
      const bytes = new Uint8Array(guarded.buffer)
      const written = [
        ['process_vm_readv', 1],
        ['mmap', ENOMEM],
        ['mremap', ENOMEM]
      ].map(([syscall, errno], index) => {
        const at = again + index
        const { went, code } = failing(syscall, 0, errno, () => (bytes[at] = 9))
        const seen = [went, code, bytes[at], bytes[again + 99], bytes[again + source.length - 1]]
        guarded.reset({ exclusive: true })
        return seen
      })
      return { outcomes: made, before, after, maps, mapsAfter, written }
    })
    for (const [syscall, outcome] of outcomes) {
      expect(outcome).toMatchObject({ went: true, errno: -5, syscall })
      expect(outcome.code).toMatch(/^ERR_HOSTMAP_/)
    }
    expect(after).toEqual(before)
    expect(mapsAfter).toBe(maps)
    expect(written).toEqual(Array(3).fill([true, null, 9, 7, 7]))
  },
  600_000
)
