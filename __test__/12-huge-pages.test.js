'use strict'

// Huge pages for regions in memory: who gets some, how many, and what is said where there are none.

const fs = require('node:fs')
const os = require('node:os')
const { GuardedMemory, HostRegion, limits } = require('..')
const { temporaryDirectory, noise } = require('./support/files')
const { fdOf, mappingsOf } = require('./support/procfs')
const { inChild } = require('./support/child')
const { MiB, WASM_PAGE } = require('./support/wasm')
const { skipUnless } = require('./support/skip')

const HUGE = 2 * MiB
const PAGE = limits().pageSize
const directory = temporaryDirectory()

const made = []
const keep = region => (made.push(region), region)
afterEach(() => made.splice(0).forEach(region => region.close()))

// Whether the system has any, and tells: not asked of the library, which would leave these tests
// out where it is broken.
const SETTING = '/sys/kernel/mm/transparent_hugepage/shmem_enabled'
const [major, minor] = os.release().split('.').map(Number)
const canTell = major > 6 || (major === 6 && minor >= 7)
const hasHuge =
  canTell && fs.existsSync(SETTING) && !fs.readFileSync(SETTING, 'latin1').includes('[deny]')
const { test: withHuge } = skipUnless('needs kernel 6.7 and huge pages for memfds', hasHuge)

// Before 6.7 nothing tells, but that a region is too small.
const told = reason => (canTell ? reason : "the kernel can't tell")

/** So many of its bytes are in huge pages; fewer only if the system says that it has no more. */
function expectHuge(region, bytes) {
  const found = region.hugePages
  if (found.reason?.includes('in one piece')) expect(found.bytes).toBeLessThan(bytes)
  else expect(found).toEqual({ bytes, reason: null })
}

/** Bytes of memory that a region takes. */
const heldBytes = region => fs.fstatSync(fdOf(region)).blocks * 512

const hex = bytes => Buffer.from(bytes).toString('hex')

test('where there are none, it is said why, and all else works', () => {
  const asked = keep(HostRegion.allocate(HUGE, { hugePages: true })).hugePages
  if (asked.bytes === 0) expect(asked.reason).toMatch(/\S \S/)
  else expect(asked).toEqual({ bytes: HUGE, reason: null })
  const region = keep(HostRegion.copyFrom(noise(5 * MiB), { hugePages: true }))
  expect(hex(region.view(4 * MiB, 100))).toBe(hex(noise(5 * MiB).subarray(4 * MiB, 4 * MiB + 100)))
})

describe('a copy', () => {
  test.each([
    [HUGE - 1, {}, 'less than 2 MiB'],
    [HUGE - 1, { hugePages: true }, 'less than 2 MiB'],
    [9 * MiB, {}, told('not asked for')],
    [9 * MiB, { hugePages: false }, told('not asked for')]
  ])('of %i bytes with %o has ordinary pages', (byteLength, options, reason) => {
    const region = keep(HostRegion.copyFrom(Buffer.alloc(byteLength, 1), options))
    expect(region.hugePages).toEqual({ bytes: 0, reason: expect.stringContaining(reason) })
  })

  withHuge.each([
    [4 * MiB, { hugePages: true }],
    [9 * MiB + 17, { hugePages: true }],
    [HUGE, { hugePages: true }],
    [3 * MiB, { hugePages: true }]
  ])('of %i bytes with %o has huge ones, but for the rest', (byteLength, options) => {
    const bytes = noise(byteLength)
    const region = keep(HostRegion.copyFrom(bytes, options))
    expectHuge(region, Math.floor(byteLength / HUGE) * HUGE)
    expect(Buffer.from(region.view()).equals(bytes)).toBe(true)
    // The rest takes no more than its pages.
    expect(heldBytes(region)).toBe(Math.ceil(byteLength / PAGE) * PAGE)
  })
})

describe('an allocated region', () => {
  test('takes no memory by default', () => {
    const region = keep(HostRegion.allocate(64 * MiB))
    expect(region.hugePages).toEqual({
      bytes: 0,
      reason: expect.stringContaining(told('hugePages: true'))
    })
    expect(heldBytes(region)).toBe(0)
    const other = keep(HostRegion.fromFd(fdOf(region)))
    expect(other.hugePages).toEqual({
      bytes: 0,
      reason: expect.stringContaining(told('elsewhere'))
    })
  })

  withHuge('takes all of it with huge pages, and is zeros', () => {
    const region = keep(HostRegion.allocate(8 * MiB + 1, { hugePages: true }))
    expectHuge(region, 8 * MiB)
    if (region.hugePages.reason === null) expect(heldBytes(region)).toBe(8 * MiB)
    expect(new Uint8Array(region.view()).every(byte => byte === 0)).toBe(true)
    const other = keep(HostRegion.fromFd(fdOf(region)))
    expect(other.hugePages.bytes).toBe(region.hugePages.bytes)
  })
})

describe('a load', () => {
  test('without them has ordinary pages', async () => {
    const file = directory.file(noise(5 * MiB), 'ordinary.bin')
    const region = keep(await HostRegion.load(file, { hugePages: false }))
    expect(region.hugePages.bytes).toBe(0)
    expect(Buffer.from(region.view()).equals(noise(5 * MiB))).toBe(true)
  })

  withHuge('has huge ones where the file has data and no hole', async () => {
    const file = directory.file(Buffer.alloc(0), 'holes.bin')
    const fd = fs.openSync(file, 'r+')
    fs.ftruncateSync(fd, 40 * MiB)
    const data = noise(9 * MiB)
    fs.writeSync(fd, data, 0, data.length, 3 * MiB)
    fs.writeSync(fd, data, 0, PAGE, 30 * MiB)
    fs.closeSync(fd)
    const region = keep(await HostRegion.load(file))
    // Whole blocks of [3, 12) MiB.
    const { bytes, reason } = region.hugePages
    expect(bytes).toBeLessThanOrEqual(8 * MiB)
    expect(reason).toMatch(bytes < 8 * MiB ? 'in one piece' : 'holds nothing')
    expect(heldBytes(region)).toBe(9 * MiB + PAGE)
    expect(Buffer.from(region.view(3 * MiB, data.length)).equals(data)).toBe(true)
    expect(hex(region.view(2 * MiB, 10))).toBe('00'.repeat(10))
  })

  withHuge('from any offset of the file', async () => {
    const data = noise(21 * MiB)
    const file = directory.file(data, 'shifted.bin')
    const region = keep(await HostRegion.load(file, { byteOffset: 777, byteLength: 20 * MiB + 5 }))
    expectHuge(region, 20 * MiB)
    expect(Buffer.from(region.view()).equals(data.subarray(777, 777 + 20 * MiB + 5))).toBe(true)
  })
})

test('a file has none, and a closed region', () => {
  const region = HostRegion.open(directory.file(noise(5 * MiB), 'file.bin'))
  expect(region.hugePages).toEqual({ bytes: 0, reason: expect.stringContaining('load it') })
  region.close()
  expect(region.hugePages).toEqual({ bytes: 0, reason: expect.stringContaining('closed') })
})

test('counting them takes no memory, and leaves no mapping', () => {
  const region = keep(HostRegion.allocate(256 * MiB))
  new Uint8Array(region.view(9 * MiB, 1))[0] = 1
  const before = heldBytes(region)
  expect(region.hugePages.bytes).toBe(0)
  expect(heldBytes(region)).toBe(before)
  expect(mappingsOf(region)).toHaveLength(1)
})

describe('mapped', () => {
  /** How far an address is from being congruent with the offset that it shows. */
  const skewOf = ({ start, offset }) => (((start - offset) % HUGE) + HUGE) % HUGE

  test.each([0, PAGE, HUGE - PAGE, 3 * MiB])(
    'past the end, from byte %i on, it stands where huge pages can be mapped as such',
    byteOffset => {
      const region = keep(HostRegion.copyFrom(noise(12 * MiB)))
      const guarded = new GuardedMemory({ initial: 3 })
      const mapping = guarded.map(region, { byteOffset, hugePages: true })
      expect(mappingsOf(region).map(skewOf)).toEqual([0])
      expect(new Uint8Array(guarded.buffer)[mapping.address]).toBe(noise(12 * MiB)[byteOffset])
      // No more than the alignment was added.
      expect(guarded.byteLength).toBeLessThan(
        3 * WASM_PAGE + 12 * MiB - byteOffset + HUGE + WASM_PAGE
      )
      // What was left over is used.
      const before = guarded.byteLength
      guarded.map(keep(HostRegion.copyFrom(Buffer.alloc(PAGE))))
      if (mapping.address > 3 * WASM_PAGE) expect(guarded.byteLength).toBe(before)
    }
  )

  test('its place is used again for another', () => {
    const region = keep(HostRegion.copyFrom(noise(6 * MiB)))
    const guarded = new GuardedMemory({ initial: 1 })
    const places = Array.from({ length: 5 }, () => {
      const mapping = guarded.map(region, { hugePages: true })
      mapping.unmap()
      return [mapping.address, guarded.byteLength]
    })
    expect(new Set(places.map(String)).size).toBe(1)
  })

  test('the space that is free at the end is a part of it', () => {
    const region = keep(HostRegion.copyFrom(noise(4 * MiB)))
    const guarded = new GuardedMemory({ initial: 1 })
    guarded.map(region, { hugePages: false }).unmap()
    const mapping = guarded.map(region, { hugePages: true })
    expect(mappingsOf(region).map(skewOf)).toEqual([0])
    expect(guarded.byteLength).toBeLessThan(WASM_PAGE + 4 * MiB + HUGE + WASM_PAGE)
    expect(mapping.address).toBeLessThan(WASM_PAGE + HUGE)
  })

  test('a large file is mapped so by default, and a small one where there is space', () => {
    const large = keep(HostRegion.open(directory.file(Buffer.alloc(64 * MiB))))
    const small = keep(HostRegion.open(directory.file(Buffer.alloc(63 * MiB))))
    const guarded = new GuardedMemory({ initial: 3 })
    guarded.map(large)
    expect(mappingsOf(large).map(skewOf)).toEqual([0])
    const before = guarded.byteLength
    guarded.map(small)
    expect(guarded.byteLength).toBeLessThanOrEqual(before + 63 * MiB)
    const plain = new GuardedMemory({ initial: 1 })
    expect(plain.map(large, { hugePages: false }).address).toBe(WASM_PAGE)
  })

  test('without room for it, or without being wanted, it stands anywhere', () => {
    const region = keep(HostRegion.copyFrom(noise(4 * MiB), { hugePages: true }))
    const tight = new GuardedMemory({ initial: 1, maximum: 1 + (4 * MiB) / WASM_PAGE })
    expect(tight.map(region, { hugePages: true }).address).toBe(WASM_PAGE)
    const plain = new GuardedMemory({ initial: 1 })
    expect(plain.map(region, { hugePages: false }).address).toBe(WASM_PAGE)
    expect(plain.byteLength).toBe(WASM_PAGE + 4 * MiB)
    // By default, an ordinary region takes no more than it has.
    const ordinary = keep(HostRegion.copyFrom(noise(4 * MiB), { hugePages: false }))
    const two = new GuardedMemory({ initial: 1, maximum: 1 + (8 * MiB) / WASM_PAGE })
    expect([two.map(ordinary).address, two.map(ordinary).address]).toEqual([
      WASM_PAGE,
      WASM_PAGE + 4 * MiB
    ])
    // And any region takes space that is free.
    const used = new GuardedMemory({ initial: 1 })
    used.map(region, { hugePages: false }).unmap()
    expect(used.map(region).address).toBeLessThan(WASM_PAGE + HUGE)
    expect(used.byteLength).toBe(WASM_PAGE + 4 * MiB)
  })

  withHuge('the kernel maps it by entries for 2 MiB', async () => {
    const seen = await inChild(async ({ hostmap, require }) => {
      const { GuardedMemory, HostRegion } = hostmap
      const fs = require('node:fs')
      const count = hugePages => {
        const region = HostRegion.copyFrom(Buffer.alloc(16 * 2 ** 20, 5), {
          hugePages,
          name: 'mapped'
        })
        const guarded = new GuardedMemory({ initial: 1 })
        const mapping = guarded.map(region)
        const bytes = new Uint8Array(guarded.buffer, mapping.address, mapping.byteLength)
        const sum = bytes.reduce((sum, byte) => sum + byte, 0)
        const lines = fs.readFileSync('/proc/self/smaps', 'latin1')
        const [, area] = lines.split(/^[0-9a-f]+-[0-9a-f]+ .*memfd:mapped.*$/m)
        mapping.unmap()
        return {
          sum,
          of: region.hugePages.bytes,
          huge: 1024 * Number(/^ShmemPmdMapped: +(\d+)/m.exec(area)[1])
        }
      }
      return [count(true), count(false)]
    })
    for (const { sum, of, huge } of seen) {
      expect(sum).toBe(5 * 16 * MiB)
      expect(huge).toBe(of)
    }
    expect(seen.map(({ of }) => of > 0)).toEqual([true, false])
  })
})
