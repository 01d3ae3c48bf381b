'use strict'

// Sizes that don't fit into 32 bits, and mappings up to a memory's last byte.

const { HostRegion, GuardedMemory } = require('..')
const { inChild } = require('./support/child')
const { kinds, baseOf, reservationMap } = require('./support/memories')
const { MiB, GiB, WASM_PAGE, probe, test64 } = require('./support/wasm')

const MARK = 0x0123456789abcdefn

// One gigabyte, with a mark in the first word of each MiB and one in the very last word.
let region
beforeAll(() => {
  region = HostRegion.allocate(GiB, { name: 'one gigabyte' })
  const view = new DataView(region.view())
  for (let i = 0; i < 1024; i++) view.setBigInt64(i * MiB, MARK + BigInt(i), true)
  view.setBigInt64(GiB - 8, -MARK, true)
})
afterAll(() => region.close())

/** Offsets just outside a memory and far outside, that a load with these addresses can reach. */
function outside(address, byteLength) {
  const after = [byteLength, byteLength - 7, byteLength + 4095, byteLength + 65_536]
  const far =
    address === 'i64' ? [2 ** 34 - 8, 2 ** 34, 2 ** 47, 2 ** 53] : [2 ** 32 - 8, 2 ** 32 - 1]
  return [...after, ...far].filter(at => at > byteLength - 8 && (address === 'i64' || at < 2 ** 32))
}

/**
 * Everything outside the memory traps. `-1` is below a 64-bit memory and at the top of a 32-bit
 * one.
 */
function expectGuarded(guest, address, byteLength) {
  for (const at of [...outside(address, byteLength), -1, -8, -4096, -65_536, -GiB]) {
    expect(() => guest.load64(at)).toThrow(WebAssembly.RuntimeError)
    expect(() => guest.store64(at, 0n)).toThrow(WebAssembly.RuntimeError)
  }
  if (address === 'i32') {
    // An address of 32 bits and an offset of as many: nearly 8 GiB past the start.
    for (const at of [0, 8, GiB, 2 ** 32 - 1]) {
      expect(() => guest.touch('loadFar', at)).toThrow(WebAssembly.RuntimeError)
    }
  }
}

describe.each(kinds)('a gigabyte in a memory that is $kind', ({ make, address }) => {
  test('reads right at both ends and between; all round the memory still traps', async () => {
    const at = 16 * WASM_PAGE
    const byteLength = at + GiB + 3 * WASM_PAGE
    const { guarded, guest } = await make(byteLength / WASM_PAGE, byteLength / WASM_PAGE + 1)
    const base = baseOf(guarded)
    const before = reservationMap(guarded, base)
    expectGuarded(guest, address, byteLength)

    const mapping = guarded.map(region, { at })
    expect(mapping).toMatchObject({ address: at, byteLength: GiB })
    expect(guest.load64(at)).toBe(MARK)
    expect(guest.load64(at + GiB - 8)).toBe(-MARK)
    expect(guest.mismatch(at, at + GiB, MiB, MARK)).toBe(-1)
    // A word that is half in front of the mapping, and one that is half behind.
    expect(guest.load64(at - 4)).toBe(BigInt.asIntN(64, MARK << 32n))
    expect(guest.load64(at + GiB - 4)).toBe(BigInt.asUintN(64, -MARK) >> 32n)
    expectGuarded(guest, address, byteLength)
    expect(() => guest.store64(at + GiB / 2, 0n)).toThrow(WebAssembly.RuntimeError)

    mapping.unmap()
    expect(guest.load64(at)).toBe(0n)
    expect(guest.load64(at + GiB - 8)).toBe(0n)
    expectGuarded(guest, address, byteLength)
    expect(reservationMap(guarded, base)).toEqual(before)
  })

  test('and another one behind it do not touch each other, nor the space between', async () => {
    const first = WASM_PAGE
    const second = first + GiB + WASM_PAGE
    const byteLength = second + GiB
    const { guarded, guest } = await make(byteLength / WASM_PAGE, byteLength / WASM_PAGE)
    guarded.map(region, { at: first })
    guarded.map(region, { at: second })
    const between = first + GiB
    guest.store64(between, -1n)
    expect(guest.sum(between, second)).toBe(-1n)
    expect(guest.mismatch(second, second + GiB, MiB, MARK)).toBe(-1)
    expect(guest.load64(second + GiB - 8)).toBe(-MARK)
    expectGuarded(guest, address, byteLength)
  })
})

test('a gigabyte is put past the end of a small memory', async () => {
  const guarded = new GuardedMemory({ initial: 1, maximum: 65_536 })
  const guest = await probe(guarded.memory)
  const mapping = guarded.map(region)
  expect(guest.mismatch(mapping.address, mapping.address + GiB, MiB, MARK)).toBe(-1)
  expectGuarded(guest, 'i32', guarded.byteLength)
})

test('every word of a gigabyte is read, by the module alone', async () => {
  const guarded = new GuardedMemory({ initial: 1, maximum: 65_536 })
  const guest = await probe(guarded.memory)
  const mapping = guarded.map(region, { populate: true })
  // The marks' sum: 1024 of them, 0 to 1023 added, and the last one taken away.
  const expected = BigInt.asIntN(64, 1024n * MARK + (1023n * 1024n) / 2n - MARK)
  expect(guest.sum(mapping.address, mapping.address + GiB)).toBe(expected)
})

test('a 32-bit memory is filled to its last byte', async () => {
  const guarded = new GuardedMemory({ initial: 65_536 })
  const guest = await probe(guarded.memory)
  for (let i = 0; i < 4; i++) guarded.map(region, { at: i * GiB })
  for (let i = 0; i < 4; i++)
    expect(guest.mismatch(i * GiB, i * GiB + GiB - MiB, MiB, MARK)).toBe(-1)
  expect(guest.load64(4 * GiB - 8)).toBe(-MARK)
  for (const at of [2 ** 32 - 7, 2 ** 32 - 1])
    expect(() => guest.load64(at)).toThrow(WebAssembly.RuntimeError)
  expect(() => guest.touch('loadFar', 8)).toThrow(WebAssembly.RuntimeError)
})

test64('a 64-bit memory has a gigabyte above 4 GiB, across it, and at its very end', async () => {
  const guarded = new GuardedMemory({ initial: 262_144n, address: 'i64' })
  const guest = await probe(guarded.memory, { address: 'i64' })
  const places = [4 * GiB, 4 * GiB - MiB - 4096, 15 * GiB]
  for (const at of places) {
    const mapping = guarded.map(region, { at: BigInt(at) })
    expect(mapping.pointer).toBe(BigInt(at))
    expect(guest.mismatch(at, at + GiB, MiB, MARK)).toBe(-1)
    expect(guest.load64(at + GiB - 8)).toBe(-MARK)
    expect(guest.load64(at - 8)).toBe(at === places[2] ? 0n : guest.load64(at - 8))
    expect(() => guest.store8(at + 4096, 1)).toThrow(WebAssembly.RuntimeError)
    expectGuarded(guest, 'i64', 16 * GiB)
    if (at < 15 * GiB) mapping.unmap()
  }
})

test64('a region of 8 GiB is mapped whole', async () => {
  const huge = HostRegion.allocate(8 * GiB)
  for (let i = 0; i < 8; i++)
    new DataView(huge.view(i * GiB, 8)).setBigInt64(0, MARK + BigInt(i), true)
  new DataView(huge.view(8 * GiB - 8)).setBigInt64(0, -MARK, true)
  const guarded = new GuardedMemory({ initial: 1n, maximum: 262_144n, address: 'i64' })
  const guest = await probe(guarded.memory, { address: 'i64' })
  const { address } = guarded.map(huge)
  expect(guest.mismatch(address, address + 8 * GiB, GiB, MARK)).toBe(-1)
  expect(guest.load64(address + 8 * GiB - 8)).toBe(-MARK)
  expectGuarded(guest, 'i64', guarded.byteLength)
  huge.close()
})

// Node.js reads at most 2^31 - 1 bytes at once, and a reader's own array may have more.
test('a reader that brings an array of more than 2 GiB gets all of a region, part by part', async () => {
  const seen = await inChild(async ({ hostmap }) => {
    const GiB = 2 ** 30
    const byteLength = 3 * GiB + 5
    // Sparse: pages that nobody wrote take no memory.
    const region = hostmap.HostRegion.allocate(byteLength)
    const marks = { begin: 0, there: 2 ** 31 - 2, last: byteLength - 4 }
    for (const [mark, at] of Object.entries(marks)) region.write(Buffer.from(mark), at)
    const reader = region.readableStream().getReader({ mode: 'byob' })
    let buffer = new ArrayBuffer(2.5 * GiB)
    let at = 0
    let found = ''
    for (;;) {
      const { value, done } = await reader.read(new Uint8Array(buffer))
      if (done) return [at === byteLength, value.byteLength, found]
      for (const mark of Object.values(marks)) {
        const from = Math.max(0, mark - at)
        const until = Math.min(value.length, mark + 5 - at)
        if (from < until) found += Buffer.from(value.buffer, value.byteOffset + from, until - from)
      }
      at += value.length
      buffer = value.buffer
    }
  })
  expect(seen).toEqual([true, 0, 'begintherelast'])
})
