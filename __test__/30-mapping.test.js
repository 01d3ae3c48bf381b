'use strict'

// Mappings in every kind of memory: each access mode, each place, growth around them, unmapping,
// and regions that end under them.

const fs = require('node:fs')
const os = require('node:os')
const { inspect } = require('node:util')
const { GuardedMemory, HostRegion, limits } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { kinds, baseOf, reservationMap } = require('./support/memories')
const { skipUnless } = require('./support/skip')
const { fdOf, mappingsOf, mappingsNamed, flagsOfMappingsNamed } = require('./support/procfs')
const { temporaryDirectory, noise } = require('./support/files')
const { KiB, MiB, GiB, WASM_PAGE, probe, probeWithMemory, test64 } = require('./support/wasm')

const HOST_PAGE = limits().pageSize
const directory = temporaryDirectory()

const made = []
const keep = region => (made.push(region), region)
afterEach(() => made.splice(0).forEach(region => region.close()))

const bytesOf = (region, ...range) => Buffer.from(region.view(...range))
const linear = guarded => Buffer.from(guarded.buffer)

/** A memory of our own and a probe in it. */
async function makeOwn(initial = 4, maximum = 64) {
  const guarded = new GuardedMemory({ initial, maximum })
  return { guarded, guest: await probe(guarded.memory) }
}

/** Every way to get a region; each with the bytes that are in it, 20,000 of them. */
const contents = noise(20_000)
const regionKinds = [
  ['an allocated region', () => HostRegion.copyFrom(contents), true],
  ['a sealed region', () => HostRegion.copyFrom(contents).seal(), false],
  ['a loaded file', () => HostRegion.load(directory.file(contents)), true],
  ['a file', () => HostRegion.open(directory.file(contents)), false],
  ['a writable file', () => HostRegion.open(directory.file(contents), { writable: true }), true],
  ['the descriptor of a memfd', () => fromFd(fdOf(keep(HostRegion.copyFrom(contents)))), true],
  [
    'the read-only descriptor of a memfd',
    () => reopened(fdOf(keep(HostRegion.copyFrom(contents))), 'r'),
    false
  ],
  [
    'the descriptor of a file',
    () => reopened(fs.openSync(directory.file(contents)), 'r+', true),
    true
  ]
]
const fromFd = fd => HostRegion.fromFd(fd)
function reopened(fd, flags, closeFirst = false) {
  const second = fs.openSync(`/proc/self/fd/${fd}`, flags)
  if (closeFirst) fs.closeSync(fd)
  const region = HostRegion.fromFd(second)
  fs.closeSync(second)
  return region
}

/** Each of the module's stores that V8 can turn into a trap. */
const STORES = [
  ['store8', 1],
  ['store16', 1],
  ['store32', 1],
  ['store64', 1n],
  ['storeF32', 1],
  ['storeF64', 1],
  ['storeV128', 1n]
]

describe.each(kinds)('in a memory that is $kind', ({ make, address, grows }) => {
  const pointer = address === 'i64' ? BigInt : Number

  describe.each(regionKinds)('%s', (_, makeRegion, writable) => {
    test('stands where it was put, readonly: loads read it, stores trap, unmap leaves zeros', async () => {
      const region = keep(await makeRegion())
      const { guarded, guest } = await make(4, 16)
      expect(region.writable).toBe(writable)
      linear(guarded).fill(0xee)
      const mapping = guarded.map(region, { at: WASM_PAGE })

      expect(mapping).toMatchObject({
        byteLength: 20_000,
        byteOffset: 0,
        access: 'readonly',
        unmapped: false
      })
      expect(mapping.address).toBe(WASM_PAGE)
      expect(mapping.pointer).toBe(pointer(WASM_PAGE))
      expect(mapping.region).toBe(region)
      expect(mapping.memory).toBe(guarded)
      expect(
        linear(guarded)
          .subarray(WASM_PAGE, WASM_PAGE + 20_000)
          .equals(contents)
      ).toBe(true)
      expect(guest.bytes(WASM_PAGE + 19_000, 1000).equals(contents.subarray(19_000))).toBe(true)

      for (const [store, value] of STORES) {
        for (const at of [WASM_PAGE, WASM_PAGE + 19_900]) {
          expect(() => guest.touch(store, at, value)).toThrow(WebAssembly.RuntimeError)
        }
      }
      expect(bytesOf(region).equals(contents)).toBe(true)
      expect(guest.bytes(WASM_PAGE, 1000).equals(contents.subarray(0, 1000))).toBe(true)

      mapping.unmap()
      expect(mapping.unmapped).toBe(true)
      expect(guest.sum(WASM_PAGE, WASM_PAGE + 20_480)).toBe(0n)
      guest.store64(WASM_PAGE, 5n)
      expect(guest.load64(WASM_PAGE)).toBe(5n)
      // What is round the mapping's pages is as it was.
      expect(guest.load8(WASM_PAGE - 1)).toBe(0xee)
      expect(guest.load8(2 * WASM_PAGE)).toBe(0xee)
      expect(bytesOf(region).equals(contents)).toBe(true)
    })

    test('private: stores go to copies that only this memory sees', async () => {
      const region = keep(await makeRegion())
      const { guarded, guest } = await make(4, 16)
      const mapping = guarded.map(region, { at: 0, access: 'private' })
      expect(mapping.access).toBe('private')
      guest.store64(10_000, 0n)
      linear(guarded).write('JavaScript', 5000)
      expect(guest.load64(10_000)).toBe(0n)
      expect(guest.load8(5000)).toBe('J'.charCodeAt())
      expect(guest.load8(9999)).toBe(contents[9999])
      expect(bytesOf(region).equals(contents)).toBe(true)

      mapping.unmap()
      expect(guest.load64(10_000)).toBe(0n)
      const second = guarded.map(region, { at: 0, access: 'private' })
      expect(linear(guarded).subarray(0, 20_000).equals(contents)).toBe(true)
      second.unmap()
    })

    if (writable) {
      test('shared: stores go to the region, and everybody sees them', async () => {
        const region = keep(await makeRegion())
        const [one, two] = [await make(4, 16), await make(4, 16)]
        const mapping = one.guarded.map(region, { at: 0, access: 'shared' })
        const other = two.guarded.map(region, { at: WASM_PAGE })
        const view = bytesOf(region)
        one.guest.store64(8000, 0x0807060504030201n)
        expect(two.guest.load64(WASM_PAGE + 8000)).toBe(0x0807060504030201n)
        expect([...view.subarray(8000, 8008)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
        view[8001] = 99
        expect(one.guest.load8(8001)).toBe(99)

        mapping.unmap()
        one.guest.store64(8000, 0n)
        expect(two.guest.load8(WASM_PAGE + 8001)).toBe(99)
        other.unmap()
      })
    } else {
      test('shared is refused: nobody may write it', async () => {
        const region = keep(await makeRegion())
        const { guarded } = await make(4, 16)
        const error = thrownBy(() => guarded.map(region, { at: 0, access: 'shared' }))
        expectError(error, { code: 'ERR_HOSTMAP_REGION_READONLY', says: /private|readonly/ })
        expect(mappingsOf(region)).toEqual([])
      })
    }

    test.each(['readonly', 'private', ...(writable ? ['shared'] : [])])(
      '%s: stays as it is when the module grows the memory',
      async access => {
        const region = keep(await makeRegion())
        const { guarded, guest } = await make(4, 16)
        const mapping = guarded.map(region, { at: WASM_PAGE, access })
        expect(guest.grow(2)).toBe(4)
        if (!grows) GuardedMemory.from(guest.memory.buffer)
        expect(guest.bytes(WASM_PAGE, 500).equals(contents.subarray(0, 500))).toBe(true)
        // Whatever V8 made writable, no store of the module reaches a dataset that is not its to
        // write.
        if (access !== 'shared') {
          try {
            guest.store64(WASM_PAGE, 0n)
          } catch (error) {
            expect(error).toBeInstanceOf(WebAssembly.RuntimeError)
          }
          expect(bytesOf(region).equals(contents)).toBe(true)
        }
        mapping.unmap()
      }
    )
  })

  test('tells by layout() what stands where', async () => {
    const region = keep(HostRegion.allocate(3 * WASM_PAGE, { name: 'shown' }))
    const { guarded } = await make(8, 16)
    const last = guarded.map(region, { at: 5 * WASM_PAGE, access: 'shared' })
    const first = guarded.map(region, {
      at: HOST_PAGE,
      byteOffset: WASM_PAGE,
      byteLength: HOST_PAGE
    })
    const inMemory = guarded
      .layout()
      .ranges.filter(({ kind }) => kind === 'linear' || kind === 'mapped')
    expect(inMemory).toEqual([
      {
        kind: 'linear',
        start: 0,
        end: HOST_PAGE,
        access: 'readwrite',
        region: null,
        byteOffset: 0
      },
      {
        kind: 'mapped',
        start: HOST_PAGE,
        end: 2 * HOST_PAGE,
        access: 'readonly',
        region,
        byteOffset: WASM_PAGE
      },
      {
        kind: 'linear',
        start: 2 * HOST_PAGE,
        end: 5 * WASM_PAGE,
        access: 'readwrite',
        region: null,
        byteOffset: 0
      },
      {
        kind: 'mapped',
        start: 5 * WASM_PAGE,
        end: 8 * WASM_PAGE,
        access: 'shared',
        region,
        byteOffset: 0
      }
    ])
    first.unmap()
    last.unmap()
    const after = guarded
      .layout()
      .ranges.filter(({ kind }) => kind === 'linear' || kind === 'mapped')
    expect(after.map(({ kind, start, end }) => [kind, start, end])).toEqual([
      ['linear', 0, 8 * WASM_PAGE]
    ])
  })

  test('leaves the reservation as V8 had it, after every kind of mapping', async () => {
    const region = keep(HostRegion.copyFrom(noise(3 * WASM_PAGE)))
    const { guarded } = await make(8, 16)
    const base = baseOf(guarded)
    const before = reservationMap(guarded, base)
    for (const access of ['readonly', 'private', 'shared']) {
      for (const at of [0, 5 * WASM_PAGE, 2 * WASM_PAGE + HOST_PAGE]) {
        const mapping = guarded.map(region, { at, access, populate: access !== 'private' })
        const mapped = reservationMap(guarded, base).filter(({ inode }) => inode !== 0)
        expect(mapped).toHaveLength(1)
        expect(mapped[0]).toMatchObject({ start: at, end: at + 3 * WASM_PAGE })
        expect(mapped[0].permissions).toBe(
          { readonly: 'r--p', private: 'rw-p', shared: 'rw-s' }[access]
        )
        mapping.unmap()
        expect(reservationMap(guarded, base)).toEqual(before)
      }
    }
  })
})

describe('map with at', () => {
  test('replaces just the pages that it takes', async () => {
    const { guarded, guest } = await makeOwn()
    linear(guarded).fill(0xee)
    const region = keep(HostRegion.copyFrom(noise(3 * HOST_PAGE)))
    const mapping = guarded.map(region, { at: 2 * HOST_PAGE })
    for (const at of [2 * HOST_PAGE - 1, 5 * HOST_PAGE]) {
      expect(guest.load8(at)).toBe(0xee)
      guest.store8(at, 0xdd)
    }
    mapping.unmap()
    expect(guest.load8(2 * HOST_PAGE - 1)).toBe(0xdd)
    expect(guest.load8(5 * HOST_PAGE)).toBe(0xdd)
    expect(guest.sum(2 * HOST_PAGE, 5 * HOST_PAGE)).toBe(0n)
  })

  test('takes numbers and BigInts', async () => {
    const { guarded } = await makeOwn()
    const region = keep(HostRegion.allocate(1))
    expect(guarded.map(region, { at: BigInt(WASM_PAGE) })).toMatchObject({
      address: WASM_PAGE,
      pointer: WASM_PAGE
    })
  })

  test('maps the very last page, and all of a memory', async () => {
    const { guarded, guest } = await makeOwn(2, 2)
    const region = keep(HostRegion.copyFrom(noise(2 * WASM_PAGE)))
    const last = guarded.map(region, { at: 2 * WASM_PAGE - HOST_PAGE, byteLength: HOST_PAGE })
    expect(guest.load8(2 * WASM_PAGE - 1)).toBe(noise(2 * WASM_PAGE)[HOST_PAGE - 1])
    expect(() => guest.load8(2 * WASM_PAGE)).toThrow(WebAssembly.RuntimeError)
    last.unmap()
    const all = guarded.map(region, { at: 0 })
    expect(linear(guarded).equals(noise(2 * WASM_PAGE))).toBe(true)
    expect(() => guest.load8(2 * WASM_PAGE)).toThrow(WebAssembly.RuntimeError)
    all.unmap()
  })

  test.each([
    [0, undefined],
    [0, 1],
    [WASM_PAGE, 10_000],
    [2 * WASM_PAGE, undefined],
    [WASM_PAGE + HOST_PAGE, 4096]
  ])('takes part of a region: from byte %i, %s bytes', async (byteOffset, byteLength) => {
    const bytes = noise(200_000)
    const { guarded } = await makeOwn(8)
    const region = keep(HostRegion.copyFrom(bytes))
    const mapping = guarded.map(region, { at: WASM_PAGE, byteOffset, byteLength })
    const end = byteLength === undefined ? bytes.length : byteOffset + byteLength
    expect(mapping).toMatchObject({ byteOffset, byteLength: end - byteOffset })
    const inMemory = linear(guarded).subarray(WASM_PAGE, WASM_PAGE + mapping.byteLength)
    expect(inMemory.equals(bytes.subarray(byteOffset, end))).toBe(true)
  })

  test('shows in the rest of the last page what follows in the region, or zeros', async () => {
    const { guarded, guest } = await makeOwn()
    const bytes = noise(HOST_PAGE + 100)
    const region = keep(HostRegion.copyFrom(bytes))
    linear(guarded).fill(0xee)
    guarded.map(region, { at: 0, byteLength: 10 })
    expect(guest.load8(HOST_PAGE - 1)).toBe(bytes[HOST_PAGE - 1])
    expect(guest.load8(HOST_PAGE)).toBe(0xee)
    guarded.map(region, { at: WASM_PAGE })
    expect(guest.load8(WASM_PAGE + HOST_PAGE + 99)).toBe(bytes.at(-1))
    expect(guest.bytes(WASM_PAGE + HOST_PAGE + 100, 50)).toEqual(Buffer.alloc(50))
  })

  test('honours where a region starts in its file', async () => {
    const bytes = noise(300_000)
    const region = keep(
      HostRegion.open(directory.file(bytes), { byteOffset: WASM_PAGE, byteLength: 3 * WASM_PAGE })
    )
    const { guarded } = await makeOwn()
    const mapping = guarded.map(region, { at: 0, byteOffset: WASM_PAGE })
    expect(mapping.byteLength).toBe(2 * WASM_PAGE)
    expect(
      linear(guarded)
        .subarray(0, mapping.byteLength)
        .equals(bytes.subarray(2 * WASM_PAGE, 4 * WASM_PAGE))
    ).toBe(true)
  })

  test('refuses every overlap with another mapping, and leaves both ranges as they are', async () => {
    const { guarded, guest } = await makeOwn(8)
    const bytes = noise(2 * WASM_PAGE)
    const region = keep(HostRegion.copyFrom(bytes))
    const other = keep(HostRegion.allocate(8 * WASM_PAGE))
    guarded.map(region, { at: 3 * WASM_PAGE })
    guest.store8(2 * WASM_PAGE, 42)
    const before = guarded.layout().ranges
    const overlaps = [
      ['the same range', 3 * WASM_PAGE, 2 * WASM_PAGE],
      ['its first page', 3 * WASM_PAGE, 1],
      ['its last page', 5 * WASM_PAGE - HOST_PAGE, 1],
      ['its start', 2 * WASM_PAGE, WASM_PAGE + 1],
      ['its end', 5 * WASM_PAGE - HOST_PAGE, 2 * HOST_PAGE],
      ['its middle', 4 * WASM_PAGE, 1],
      ['all round it', 0, 8 * WASM_PAGE]
    ]
    for (const [, at, byteLength] of overlaps) {
      for (const access of ['readonly', 'private', 'shared']) {
        const error = thrownBy(() => guarded.map(other, { at, byteLength, access }))
        expectError(error, { code: 'ERR_HOSTMAP_OVERLAP' })
      }
    }
    expect(guarded.layout().ranges).toEqual(before)
    expect(
      linear(guarded)
        .subarray(3 * WASM_PAGE, 5 * WASM_PAGE)
        .equals(bytes)
    ).toBe(true)
    expect(guest.load8(2 * WASM_PAGE)).toBe(42)
    expect(mappingsOf(other)).toEqual([])

    // Neighbours are none.
    guarded.map(other, { at: 3 * WASM_PAGE - HOST_PAGE, byteLength: HOST_PAGE })
    guarded.map(other, { at: 5 * WASM_PAGE, byteLength: HOST_PAGE })
  })

  test('puts the same region into one memory many times', async () => {
    const { guarded, guest } = await makeOwn(16)
    const region = keep(HostRegion.copyFrom(noise(WASM_PAGE)))
    const mappings = Array.from({ length: 16 }, (_, i) =>
      guarded.map(region, { at: i * WASM_PAGE, access: i % 2 ? 'shared' : 'readonly' })
    )
    guest.store8(15 * WASM_PAGE + 7, 77)
    for (let i = 0; i < 16; i++) expect(guest.load8(i * WASM_PAGE + 7)).toBe(77)
    mappings.filter((_, i) => i % 3).forEach(mapping => mapping.unmap())
    for (let i = 0; i < 16; i++) expect(guest.load8(i * WASM_PAGE + 7)).toBe(i % 3 ? 0 : 77)
  })

  test('gives addresses over 2 GiB unsigned', async () => {
    const { guarded, guest } = await makeOwn(65_536, 65_536)
    const region = keep(HostRegion.copyFrom(noise(WASM_PAGE)))
    const at = 4 * GiB - WASM_PAGE
    const mapping = guarded.map(region, { at })
    expect(mapping).toMatchObject({ address: at, pointer: at })
    expect(guest.exports.load8(mapping.pointer)).toBe(noise(1)[0])
    expect(guest.load8(4 * GiB - 1)).toBe(noise(WASM_PAGE).at(-1))
  })
})

describe('map without at', () => {
  test('puts the region past the end of the memory, which grows by it', async () => {
    const { guarded, guest } = await makeOwn(4, 64)
    linear(guarded).fill(0xee)
    const bytes = noise(100_000)
    const mapping = guarded.map(keep(HostRegion.copyFrom(bytes)))
    expect(mapping.address).toBeGreaterThanOrEqual(4 * WASM_PAGE)
    expect(mapping.address + mapping.byteLength).toBeLessThanOrEqual(guarded.byteLength)
    expect(guarded.byteLength).toBe(guest.size() * WASM_PAGE)
    expect(
      linear(guarded)
        .subarray(mapping.address, mapping.address + 100_000)
        .equals(bytes)
    ).toBe(true)
    expect(
      linear(guarded)
        .subarray(0, 4 * WASM_PAGE)
        .every(byte => byte === 0xee)
    ).toBe(true)
    expect(() => guest.store8(mapping.pointer, 0)).toThrow(WebAssembly.RuntimeError)
  })

  test('takes the space again that an unmapped region left', async () => {
    const { guarded } = await makeOwn(4, 64)
    const region = keep(HostRegion.allocate(5 * WASM_PAGE))
    const first = guarded.map(region)
    const { byteLength } = guarded
    first.unmap()
    for (let i = 0; i < 10; i++) {
      const mapping = guarded.map(region)
      expect(mapping.address).toBe(first.address)
      mapping.unmap()
    }
    expect(guarded.byteLength).toBe(byteLength)
  })

  test('takes space again for smaller regions, and joins neighbours for larger ones', async () => {
    const { guarded, guest } = await makeOwn(1, 1000)
    const region = keep(HostRegion.copyFrom(noise(12 * WASM_PAGE)))
    const take = wasmPages => guarded.map(region, { byteLength: wasmPages * WASM_PAGE })
    const twelve = Array.from({ length: 12 }, () => take(1))
    const { byteLength } = guarded
    twelve.forEach(mapping => mapping.unmap())
    const parts = [take(3), take(5), take(4)]
    expect(guarded.byteLength).toBe(byteLength)
    parts[1].unmap()
    parts[0].unmap()
    const eight = take(8)
    expect(guarded.byteLength).toBe(byteLength)
    expect(guest.load8(eight.address + 8 * WASM_PAGE - 1)).toBe(noise(8 * WASM_PAGE).at(-1))
    expect(guest.load8(parts[2].address)).toBe(noise(1)[0])
  })

  test('keeps off the pages that the module grew for itself', async () => {
    const { guarded, guest } = await makeOwn(4, 64)
    const region = keep(HostRegion.copyFrom(noise(WASM_PAGE)))
    const first = guarded.map(region)
    const grownAt = guest.grow(2) * WASM_PAGE
    linear(guarded).fill(0xaa, grownAt, grownAt + 2 * WASM_PAGE)
    first.unmap()
    const mappings = Array.from({ length: 5 }, () => guarded.map(region))
    for (const { address, byteLength } of mappings) {
      expect(address + byteLength <= grownAt || address >= grownAt + 2 * WASM_PAGE).toBe(true)
    }
    const grown = linear(guarded).subarray(grownAt, grownAt + 2 * WASM_PAGE)
    expect(grown.every(byte => byte === 0xaa)).toBe(true)
  })

  test('says when the memory is full, and does not grow it then', async () => {
    const { guarded } = await makeOwn(4, 8)
    const region = keep(HostRegion.allocate(4 * WASM_PAGE + 1))
    expectError(
      thrownBy(() => guarded.map(region)),
      { code: 'ERR_HOSTMAP_MEMORY_FULL' }
    )
    expect(guarded.byteLength).toBe(4 * WASM_PAGE)
    expect(guarded.layout().ranges.some(({ kind }) => kind === 'mapped')).toBe(false)
    const mapping = guarded.map(region, { byteLength: 4 * WASM_PAGE })
    expect(mapping.address).toBe(4 * WASM_PAGE)
  })

  test.each([
    ['shared', { shared: true }],
    ['unshared', {}]
  ])('grows a %s memory that started empty', async (_, options) => {
    const guarded = new GuardedMemory({ initial: 0, maximum: 64, ...options })
    const guest = await probe(guarded.memory)
    const mapping = guarded.map(keep(HostRegion.copyFrom(noise(100))))
    expect(guest.bytes(mapping.address, 100).equals(noise(100))).toBe(true)
  })

  test64('grows a 64-bit memory', async () => {
    const guarded = new GuardedMemory({ initial: 65_536n, maximum: 70_000n, address: 'i64' })
    const guest = await probe(guarded.memory, { address: 'i64' })
    const mapping = guarded.map(keep(HostRegion.copyFrom(noise(100))))
    expect(mapping.pointer).toBe(BigInt(mapping.address))
    expect(mapping.address).toBeGreaterThanOrEqual(4 * GiB)
    expect(guest.exports.load8(mapping.pointer + 99n)).toBe(noise(100)[99])
  })

  test('needs at or allocator where only the buffer is known', async () => {
    const guest = await probeWithMemory({ initial: 4, maximum: 16 })
    const guarded = GuardedMemory.from(guest.memory.buffer)
    const error = thrownBy(() => guarded.map(keep(HostRegion.allocate(1))))
    expectError(error, { code: 'ERR_HOSTMAP_MEMORY_HIDDEN', says: [/at\b/, /allocator/] })
  })

  test('re-arms readonly mappings that its own growth left unprotected', async () => {
    const { guarded, guest } = await makeOwn(4, 64)
    const region = keep(HostRegion.copyFrom(noise(WASM_PAGE)))
    const first = guarded.map(region, { at: 0 })
    guarded.map(region, { byteLength: HOST_PAGE })
    expect(() => guest.store8(first.address, 1)).toThrow(WebAssembly.RuntimeError)
  })
})

describe('growth', () => {
  test.each([[{}], [{ shared: true }]])(
    'by GuardedMemory.grow leaves readonly mappings read-only %j',
    async options => {
      const guarded = new GuardedMemory({ initial: 4, maximum: 64, ...options })
      const guest = await probe(guarded.memory)
      const bytes = noise(WASM_PAGE)
      const region = keep(HostRegion.copyFrom(bytes))
      guarded.map(region, { at: 0 })
      guarded.map(region, { at: 2 * WASM_PAGE, access: 'private' })
      guarded.map(region, { at: 3 * WASM_PAGE, access: 'shared' })
      for (let i = 0; i < 3; i++) {
        guarded.grow(1)
        expect(() => guest.store8(100, 1)).toThrow(WebAssembly.RuntimeError)
      }
      expect(linear(guarded).subarray(0, WASM_PAGE).equals(bytes)).toBe(true)
      guest.store8(2 * WASM_PAGE, ~bytes[0])
      expect(bytesOf(region).equals(bytes)).toBe(true)
      guest.store8(3 * WASM_PAGE, 111)
      expect(bytesOf(region)[0]).toBe(111)
    }
  )

  test.each([
    ['map', (guarded, region) => guarded.map(region, { at: 3 * WASM_PAGE })],
    ['grow', guarded => guarded.grow(0)],
    ['from', guarded => GuardedMemory.from(guarded.memory)]
  ])(
    'by the module: the next call of the library, %s, makes readonly mappings trap again',
    async (_, call) => {
      const { guarded, guest } = await makeOwn()
      const region = keep(HostRegion.copyFrom(noise(WASM_PAGE)))
      guarded.map(region, { at: 0 })
      guest.grow(1)
      call(guarded, region)
      expect(() => guest.store8(0, 1)).toThrow(WebAssembly.RuntimeError)
      expect(bytesOf(region).equals(noise(WASM_PAGE))).toBe(true)
    }
  )

  test('by the module: the next unmap of another mapping makes readonly mappings trap again', async () => {
    const { guarded, guest } = await makeOwn()
    const region = keep(HostRegion.copyFrom(noise(WASM_PAGE)))
    guarded.map(region, { at: 0 })
    const other = guarded.map(region, { at: WASM_PAGE })
    guest.grow(1)
    other.unmap()
    expect(() => guest.store8(0, 1)).toThrow(WebAssembly.RuntimeError)
  })

  // Re-arming takes away what a module stored in between: those bytes are copies of its own.
  test('by the module: the dataset in other memories never changes', async () => {
    const bytes = noise(WASM_PAGE)
    const region = keep(HostRegion.copyFrom(bytes))
    const [one, two] = [await makeOwn(), await makeOwn()]
    one.guarded.map(region, { at: 0 })
    two.guarded.map(region, { at: 0 })
    one.guest.grow(1)
    try {
      one.guest.store64(0, 0n)
    } catch {
      // Read-only still: as good.
    }
    expect(two.guest.bytes(0, 100).equals(bytes.subarray(0, 100))).toBe(true)
    expect(bytesOf(region).equals(bytes)).toBe(true)
  })

  test('past a mapping at the old end keeps both', async () => {
    const { guarded, guest } = await makeOwn(2, 64)
    const region = keep(HostRegion.copyFrom(noise(WASM_PAGE)))
    guarded.map(region, { at: WASM_PAGE })
    guarded.grow(4)
    expect(guest.bytes(WASM_PAGE, 200).equals(noise(WASM_PAGE).subarray(0, 200))).toBe(true)
    guest.store8(6 * WASM_PAGE - 1, 1)
    expect(() => guest.load8(6 * WASM_PAGE)).toThrow(WebAssembly.RuntimeError)
  })
})

describe('populate', () => {
  test.each(['readonly', 'private', 'shared'])('%s: brings the pages in now', async access => {
    const { guarded, guest } = await makeOwn(4, 300)
    const bytes = noise(8 * MiB)
    const region = keep(HostRegion.copyFrom(bytes, { name: `populated ${access}` }))
    const mapping = guarded.map(region, { populate: true, access })
    expect(resident(`/memfd:populated ${access}`)).toBe(8 * MiB)
    expect(guest.load8(mapping.address + 5 * MiB)).toBe(bytes[5 * MiB])
    // Brought in is not written to.
    expect(bytesOf(region, MiB, MiB).equals(bytes.subarray(MiB, 2 * MiB))).toBe(true)
    mapping.unmap()
  })

  test.each([undefined, false])('%s: brings nothing in before it is touched', async populate => {
    const { guarded } = await makeOwn(4, 600)
    const region = keep(HostRegion.copyFrom(noise(16 * MiB), { name: `unpopulated ${populate}` }))
    const { address } = guarded.map(region, { populate })
    const bytes = new Uint8Array(guarded.buffer)
    expect(bytes[address + 8 * MiB]).toBe(noise(16 * MiB)[8 * MiB])
    expect(resident(`/memfd:unpopulated ${populate}`)).toBeLessThanOrEqual(WASM_PAGE)
  })

  const [major, minor] = os.release().split('.').map(Number)
  const { test: whereTold } = skipUnless(
    'needs kernel 6.7',
    major > 6 || (major === 6 && minor > 6)
  )

  whereTold('by default, pages are mapped ahead of who reads them in order', async () => {
    const { guarded } = await makeOwn(4, 1100)
    const contents = noise(64 * MiB)
    const region = keep(HostRegion.copyFrom(contents, { name: 'ahead' }))
    const { address } = guarded.map(region)
    const bytes = new Uint8Array(guarded.buffer, address, contents.length)
    for (let at = 0; at < 8 * MiB; at += HOST_PAGE) expect(bytes[at]).toBe(contents[at])
    // Takes processor time, by which it is noticed.
    while (resident('/memfd:ahead') < 9 * MiB);
    expect(resident('/memfd:ahead')).toBeLessThan(24 * MiB)
    expect(Buffer.compare(bytes, contents)).toBe(0)
  })

  /** How much of the mappings with this name is resident. */
  function resident(name) {
    const text = fs.readFileSync('/proc/self/smaps', 'latin1')
    const parts = text
      .split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
      .filter(part => part.split('\n', 1)[0].includes(name))
    expect(parts).not.toEqual([])
    return parts.reduce((sum, part) => sum + KiB * Number(/^Rss:\s+(\d+) kB$/m.exec(part)[1]), 0)
  }
})

describe('unmap', () => {
  test('twice does nothing, and is the same as Symbol.dispose', async () => {
    const { guarded, guest } = await makeOwn()
    const region = keep(HostRegion.copyFrom(noise(WASM_PAGE)))
    const mapping = guarded.map(region, { at: 0 })
    mapping[Symbol.dispose]()
    expect(mapping.unmapped).toBe(true)
    guest.store8(0, 5)
    mapping.unmap()
    mapping[Symbol.dispose]()
    expect(guest.load8(0)).toBe(5)
    // Not even when another mapping is there now.
    guarded.map(region, { at: 0 })
    mapping.unmap()
    expect(guest.load8(9)).toBe(noise(WASM_PAGE)[9])
  })

  test('leaves what was known of the mapping', async () => {
    const { guarded } = await makeOwn()
    const region = keep(HostRegion.allocate(WASM_PAGE))
    const mapping = guarded.map(region, { at: WASM_PAGE })
    mapping.unmap()
    expect(mapping).toMatchObject({
      address: WASM_PAGE,
      pointer: WASM_PAGE,
      byteLength: WASM_PAGE,
      access: 'readonly'
    })
    expect(mapping.region).toBe(region)
    expect(mapping.memory).toBe(guarded)
  })

  test('works after the region was closed', async () => {
    const { guarded, guest } = await makeOwn()
    const region = HostRegion.copyFrom(noise(WASM_PAGE), { name: 'closed while mapped' })
    const mapping = guarded.map(region, { at: 0 })
    region.close()
    expect(guest.bytes(0, 100).equals(noise(100))).toBe(true)
    expect(mappingsNamed('/memfd:closed while mapped')).toHaveLength(1)
    expect(guarded.layout().ranges).toContainEqual(
      expect.objectContaining({ kind: 'mapped', region })
    )
    guarded.grow(1)
    expect(() => guest.store8(0, 1)).toThrow(WebAssembly.RuntimeError)
    mapping.unmap()
    expect(mappingsNamed('/memfd:closed while mapped')).toHaveLength(0)
    expect(guest.load8(0)).toBe(0)
  })
})

describe('a region under mappings', () => {
  test('can be sealed while readonly and private mappings of it stand', async () => {
    const { guarded, guest } = await makeOwn(8)
    const bytes = noise(WASM_PAGE)
    const region = keep(HostRegion.copyFrom(bytes))
    guarded.map(region, { at: 0 })
    guarded.map(region, { at: WASM_PAGE, access: 'private' })
    guest.store8(WASM_PAGE, 1)
    region.seal()
    expect(guest.load8(WASM_PAGE)).toBe(1)
    guest.store8(WASM_PAGE + 1, 2)
    expect(guest.bytes(0, 100).equals(bytes.subarray(0, 100))).toBe(true)
    // V8's own mprotect over a sealed memfd: the mapping must be of a kind that allows it.
    guest.grow(1)
    guarded.grow(1)
    expect(() => guest.store8(0, 1)).toThrow(WebAssembly.RuntimeError)
    expect(bytesOf(region).equals(bytes)).toBe(true)
  })

  test('can not be sealed while a shared mapping of it stands', async () => {
    const { guarded, guest } = await makeOwn()
    const region = keep(HostRegion.allocate(WASM_PAGE))
    const mapping = guarded.map(region, { at: 0, access: 'shared' })
    expectError(
      thrownBy(() => region.seal()),
      { code: 'ERR_HOSTMAP_REGION_BUSY', says: /shared/ }
    )
    expect(region).toMatchObject({ sealed: false, writable: true })
    guest.store8(0, 8)
    expect(bytesOf(region)[0]).toBe(8)
    mapping.unmap()
    expect(region.seal().sealed).toBe(true)
  })

  test.each(['map', 'view'])('whose file got shorter since: %s says so', async call => {
    const path = directory.file(noise(10 * WASM_PAGE), `shortened for ${call}`)
    const region = keep(HostRegion.open(path))
    fs.truncateSync(path, 5 * WASM_PAGE)
    const { guarded } = await makeOwn(16)
    const use = {
      map: () => guarded.map(region, { at: 0 }),
      view: () => region.view()
    }[call]
    expectError(thrownBy(use), {
      code: 'ERR_HOSTMAP_FILE_SHRUNK',
      says: [`shortened for ${call}`, String(5 * WASM_PAGE)]
    })
    expect(mappingsNamed(path)).toEqual([])
    // What is there still can be had.
    expect(guarded.map(region, { at: 0, byteLength: 5 * WASM_PAGE }).byteLength).toBe(5 * WASM_PAGE)
    expect(region.view(0, 5 * WASM_PAGE).byteLength).toBe(5 * WASM_PAGE)
  })

  test('is in no core dump for what the module may write, or what is large', async () => {
    const { guarded } = await makeOwn(16)
    const region = keep(HostRegion.allocate(WASM_PAGE, { name: 'undumped' }))
    guarded.map(region, { at: 0, access: 'private' })
    guarded.map(region, { at: 5 * WASM_PAGE, access: 'shared' })
    const flags = flagsOfMappingsNamed('/memfd:undumped')
    expect(flags).toEqual([expect.arrayContaining(['dd']), expect.arrayContaining(['dd'])])
  })
})

test('a mapping shows in util.inspect what it is', async () => {
  const { guarded } = await makeOwn()
  const mapping = guarded.map(keep(HostRegion.allocate(100, { name: 'inspected' })), {
    at: WASM_PAGE
  })
  const text = inspect(mapping)
  expect(text).toMatch(/^Mapping/)
  for (const part of ['inspected', 'readonly']) expect(text).toContain(part)
  expect(inspect(guarded)).toMatch(/^GuardedMemory/)
})
