'use strict'

// GuardedMemory: which memories it takes, what it finds out about them, and growth by the host.
// What is mapped into them is in 30.

const { inspect } = require('node:util')
const { GuardedMemory, HostRegion, limits } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { kinds, baseOf, reservationMap } = require('./support/memories')
const { inChild } = require('./support/child')
const { noise } = require('./support/files')
const { GiB, WASM_PAGE, probe, probeWithMemory, test64, hasMemory64 } = require('./support/wasm')
const { skipUnless } = require('./support/skip')

const kindOf = value => Object.prototype.toString.call(value).slice(8, -1)

/** Kind, start and end of each range. */
const drawn = guarded => guarded.layout().ranges.map(({ kind, start, end }) => [kind, start, end])

describe('new GuardedMemory', () => {
  test('makes an ordinary WebAssembly.Memory, found and guarded', async () => {
    const guarded = new GuardedMemory({ initial: 3, maximum: 10 })
    expect(guarded.memory).toBeInstanceOf(WebAssembly.Memory)
    expect(guarded.buffer).toBe(guarded.memory.buffer)
    expect(guarded).toMatchObject({ byteLength: 3 * WASM_PAGE, address: 'i32', guarded: true })
    expect(kindOf(guarded.buffer)).toBe('ArrayBuffer')

    const guest = await probe(guarded.memory)
    guest.store8(3 * WASM_PAGE - 1, 7)
    expect(new Uint8Array(guarded.buffer)[3 * WASM_PAGE - 1]).toBe(7)
  })

  test('makes a shared memory', () => {
    const guarded = new GuardedMemory({ initial: 1, maximum: 2, shared: true })
    expect(kindOf(guarded.buffer)).toBe('SharedArrayBuffer')
    expect(guarded).toMatchObject({ byteLength: WASM_PAGE, address: 'i32', guarded: true })
  })

  test64('makes a 64-bit memory', async () => {
    const guarded = new GuardedMemory({ initial: 65_537n, maximum: 65_538n, address: 'i64' })
    expect(guarded).toMatchObject({
      byteLength: 4 * GiB + WASM_PAGE,
      address: 'i64',
      guarded: true
    })
    const guest = await probe(guarded.memory, { address: 'i64' })
    guest.store8(4 * GiB + 5, 9)
    expect(guest.load8(4 * GiB + 5)).toBe(9)
    expect(guarded.memory.grow(1n)).toBe(65_537n)
  })

  test('takes sizes as numbers or BigInts, and the smallest and largest', () => {
    expect(new GuardedMemory({ initial: 2n, maximum: 4n }).byteLength).toBe(2 * WASM_PAGE)
    expect(new GuardedMemory({ initial: 1, shared: false, maximum: undefined }).byteLength).toBe(
      WASM_PAGE
    )
    expect(new GuardedMemory({ initial: limits().wasm.maxPages32 }).byteLength).toBe(4 * GiB)
    const empty = new GuardedMemory({ initial: 0, maximum: limits().wasm.maxPages32 })
    expect(empty.byteLength).toBe(0)
    empty.grow(1)
    expect(empty).toMatchObject({ byteLength: WASM_PAGE, guarded: true })
  })

  test64('takes sizes of 64-bit memories as numbers or BigInts', () => {
    expect(new GuardedMemory({ initial: 2, maximum: 4n, address: 'i64' }).byteLength).toBe(
      2 * WASM_PAGE
    )
    const { maxPages64 } = limits().wasm
    expect(new GuardedMemory({ initial: maxPages64, address: 'i64' }).byteLength).toBe(
      maxPages64 * WASM_PAGE
    )
  })

  skipUnless('needs a V8 without 64-bit memories', !hasMemory64).test(
    'says that this V8 has no 64-bit memories',
    () => {
      const error = thrownBy(() => new GuardedMemory({ initial: 1n, address: 'i64' }))
      expectError(error, { code: 'ERR_HOSTMAP_NO_MEMORY64', says: /24/ })
    }
  )
})

describe('GuardedMemory.from', () => {
  test('wraps the memory that a module exports', async () => {
    const guest = await probeWithMemory({ initial: 2, maximum: 8 })
    const guarded = GuardedMemory.from(guest.memory)
    expect(guarded.memory).toBe(guest.memory)
    expect(guarded).toMatchObject({ byteLength: 2 * WASM_PAGE, address: 'i32', guarded: true })
    expect(guarded.buffer).toBe(guest.memory.buffer)
  })

  test64('tells a 64-bit memory by itself', async () => {
    const guest = await probeWithMemory({ initial: 2, maximum: 8, address: 'i64' })
    expect(GuardedMemory.from(guest.memory)).toMatchObject({ address: 'i64', guarded: true })
  })

  test('wraps the buffer of a memory that a module hides', async () => {
    const guest = await probeWithMemory({ initial: 2, maximum: 8 })
    const guarded = GuardedMemory.from(guest.memory.buffer)
    expect(guarded.buffer).toBe(guest.memory.buffer)
    expect(guarded).toMatchObject({ byteLength: 2 * WASM_PAGE, address: 'i32', guarded: true })
    for (const use of [() => guarded.memory, () => guarded.grow(1)]) {
      expectError(thrownBy(use), { code: 'ERR_HOSTMAP_MEMORY_HIDDEN' })
    }
    expect(guest.size()).toBe(2)
  })

  test('gives the same object for the same memory', async () => {
    const guarded = new GuardedMemory({ initial: 1, maximum: 4 })
    expect(GuardedMemory.from(guarded.memory)).toBe(guarded)
    expect(GuardedMemory.from(guarded.buffer)).toBe(guarded)
    guarded.grow(1)
    expect(GuardedMemory.from(guarded.buffer)).toBe(guarded)

    const { memory } = await probeWithMemory({ initial: 1, maximum: 4 })
    expect(GuardedMemory.from(memory)).toBe(GuardedMemory.from(memory))
    expect(GuardedMemory.from(memory)).not.toBe(guarded)
  })

  test('gives the same object for a buffer first and its memory later', async () => {
    const { memory } = await probeWithMemory({ initial: 1, maximum: 4 })
    const hidden = GuardedMemory.from(memory.buffer)
    const guarded = GuardedMemory.from(memory)
    expect(guarded).toBe(hidden)
    expect(guarded.memory).toBe(memory)
    expect(guarded.grow(1)).toBe(1)
  })

  test('refreshes the object when a module that hides its memory has grown it', async () => {
    const guest = await probeWithMemory({ initial: 1, maximum: 4 })
    const region = HostRegion.copyFrom(noise(WASM_PAGE))
    const guarded = GuardedMemory.from(guest.memory.buffer)
    const mapping = guarded.map(region, { at: 0 })
    guest.grow(1)
    expect(GuardedMemory.from(guest.memory.buffer)).toBe(guarded)
    expect(guarded.byteLength).toBe(2 * WASM_PAGE)
    expect(guarded.buffer).toBe(guest.memory.buffer)
    expect(() => guest.store8(0, 1)).toThrow(WebAssembly.RuntimeError)
    mapping.unmap()
    region.close()
  })

  test64('takes the kind of a hidden memory from the options, or from its size', async () => {
    const small = await probeWithMemory({ initial: 1, maximum: 2, address: 'i64' })
    expect(GuardedMemory.from(small.memory.buffer, { address: 'i64' }).address).toBe('i64')
    const large = await probeWithMemory({ initial: 65_537, maximum: 65_537, address: 'i64' })
    expect(GuardedMemory.from(large.memory.buffer).address).toBe('i64')
  })
})

test('an older buffer of a shared memory does not make it smaller', () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 10, shared: true })
  const older = memory.buffer
  const guarded = GuardedMemory.from(older)
  memory.grow(4)
  expect(GuardedMemory.from(memory.buffer)).toBe(guarded)
  const region = HostRegion.allocate(WASM_PAGE)
  const mapping = guarded.map(region, { at: 2 * WASM_PAGE })
  expect(GuardedMemory.from(older)).toBe(guarded)
  expect(guarded.byteLength).toBe(5 * WASM_PAGE)
  mapping.unmap()
  region.close()
})

describe.each(kinds)('in a memory that is $kind', ({ make, grows, address }) => {
  test('layout() covers the whole reservation, without gap or overlap', async () => {
    const { guarded } = await make(4, 16)
    const { ranges } = guarded.layout()
    ranges.slice(1).forEach((range, i) => expect(range.start).toBe(ranges[i].end))
    for (const { start, end } of ranges) expect(end).toBeGreaterThan(start)

    const { wasm } = limits()
    const reservationBytes = address === 'i64' ? wasm.reservationBytes64 : wasm.reservationBytes32
    expect(ranges.at(-1).end - ranges[0].start).toBe(reservationBytes)
    expect(drawn(guarded).filter(([kind]) => kind === 'linear')).toEqual([
      ['linear', 0, 4 * WASM_PAGE]
    ])
    for (const { kind, access, region, byteOffset } of ranges) {
      expect({ access, region, byteOffset }).toEqual({
        access: kind === 'linear' ? 'readwrite' : 'none',
        region: null,
        byteOffset: 0
      })
    }
  })

  test('layout() agrees with the process map', async () => {
    const { guarded } = await make(4, 16)
    const base = baseOf(guarded)
    expect(base % WASM_PAGE).toBe(0)
    const { ranges } = guarded.layout()
    for (const { kind, start, end } of ranges) {
      const inside = reservationMap(guarded, base).filter(m => m.start < end && m.end > start)
      // No hole, and the same permissions all over.
      expect(inside[0].start).toBeLessThanOrEqual(start)
      expect(inside.at(-1).end).toBeGreaterThanOrEqual(end)
      inside.slice(1).forEach((mapping, i) => expect(mapping.start).toBe(inside[i].end))
      for (const { permissions } of inside)
        expect(permissions.slice(0, 2)).toBe(kind === 'linear' ? 'rw' : '--')
    }
  })

  test('layout() follows when the module grows the memory', async () => {
    const { guarded, guest } = await make(4, 16)
    expect(guest.grow(2)).toBe(4)
    if (!grows) GuardedMemory.from(guest.memory.buffer)
    expect(guarded.byteLength).toBe(6 * WASM_PAGE)
    expect(drawn(guarded)).toContainEqual(['linear', 0, 6 * WASM_PAGE])
  })
})

describe('guarded.layout', () => {
  test('says what the memory may grow into, and what is a guard', () => {
    const guarded = new GuardedMemory({ initial: 4, maximum: 16 })
    const forward = drawn(guarded).filter(([, start]) => start >= 0)
    expect(forward).toEqual([
      ['linear', 0, 4 * WASM_PAGE],
      ['reserved', 4 * WASM_PAGE, 16 * WASM_PAGE],
      ['guard', 16 * WASM_PAGE, forward.at(-1)[2]]
    ])
    const below = drawn(guarded).filter(([, start]) => start < 0)
    // Node 20 and 22 have a guard below the memory, 24 and later have none.
    if (below.length > 0) expect(below).toEqual([['guard', -2 * GiB, 0]])

    guarded.grow(12)
    expect(drawn(guarded).map(([kind]) => kind)).not.toContain('reserved')
  })

  test('has its ranges as an iterable, frozen', () => {
    const layout = new GuardedMemory({ initial: 1 }).layout()
    expect([...layout]).toEqual([...layout.ranges])
    expect(() => layout.ranges.push({})).toThrow(TypeError)
    expect(() => {
      layout.ranges[0].end = 0
    }).toThrow(TypeError)
  })

  test('is a picture of one moment', () => {
    const guarded = new GuardedMemory({ initial: 1, maximum: 3 })
    const before = guarded.layout()
    guarded.grow(1)
    expect(before.ranges).toContainEqual(
      expect.objectContaining({ kind: 'linear', end: WASM_PAGE })
    )
  })

  test('prints as a drawing, with what is where', () => {
    const guarded = new GuardedMemory({ initial: 4, maximum: 64 })
    const region = HostRegion.copyFrom(noise(WASM_PAGE), { name: 'prices' })
    guarded.map(region, { at: WASM_PAGE })
    const layout = guarded.layout()
    const text = String(layout)
    expect(text.split('\n').length).toBeGreaterThanOrEqual(1 + layout.ranges.length)
    for (const word of ['linear', 'mapped', 'reserved', 'guard', 'prices', 'readonly'])
      expect(text).toContain(word)
    expect(inspect(layout)).toBe(text)
    region.close()
  })
})

describe('guarded.grow', () => {
  test('grows as WebAssembly.Memory does, and gives the size before', async () => {
    const guarded = new GuardedMemory({ initial: 2, maximum: 10 })
    const { buffer } = guarded
    expect(guarded.grow(3)).toBe(2)
    expect(guarded.grow(0)).toBe(5)
    expect(guarded.grow(1n)).toBe(5)
    expect(guarded.byteLength).toBe(6 * WASM_PAGE)
    expect(buffer.byteLength).toBe(0)
    expect(guarded.buffer).toBe(guarded.memory.buffer)
  })

  test('grows a shared memory', () => {
    const guarded = new GuardedMemory({ initial: 2, maximum: 10, shared: true })
    expect(guarded.grow(3)).toBe(2)
    expect(guarded.byteLength).toBe(5 * WASM_PAGE)
    expect(guarded.buffer.byteLength).toBe(5 * WASM_PAGE)
  })

  test64('grows a 64-bit memory past 4 GiB', () => {
    const guarded = new GuardedMemory({ initial: 1n, maximum: 70_000n, address: 'i64' })
    expect(guarded.grow(69_000)).toBe(1)
    expect(guarded.grow(999n)).toBe(69_001)
    expect(guarded.byteLength).toBe(70_000 * WASM_PAGE)
  })

  test('refuses to grow past the maximum, and changes nothing', () => {
    const guarded = new GuardedMemory({ initial: 2, maximum: 10 })
    const { buffer } = guarded
    expectError(
      thrownBy(() => guarded.grow(9)),
      { code: 'ERR_HOSTMAP_MEMORY_FULL', says: [/9/, /10/] }
    )
    expect(guarded.buffer).toBe(buffer)
    expect(guarded.byteLength).toBe(2 * WASM_PAGE)
  })
})

// Without its trap handler, V8 checks bounds in code, reserves no guards, and may move a memory
// that grows.
describe('with --disable-wasm-trap-handler', () => {
  const flags = ['--disable-wasm-trap-handler']

  test('a memory is not guarded, and says so; mappings work', async () => {
    const seen = await inChild(
      async ({ hostmap, probe, assert }) => {
        const { GuardedMemory, HostRegion, limits } = hostmap
        const region = HostRegion.copyFrom(Buffer.alloc(65536, 5))
        const guarded = new GuardedMemory({ initial: 2, maximum: 10 })
        const guest = await probe(guarded.memory)
        const mapping = guarded.map(region, { at: 65536 })
        assert.equal(guest.load8(2 * 65536 - 1), 5)
        for (const out of [2 * 65536, 2 ** 31, 2 ** 32 - 1])
          assert.throws(() => guest.load8(out), /out of bounds/)
        mapping.unmap()
        assert.equal(guest.load8(65536), 0)
        const { ranges } = guarded.layout()
        return {
          guarded: guarded.guarded,
          trapHandler: limits().wasm.trapHandler,
          start: ranges[0].start
        }
      },
      { flags }
    )
    expect(seen).toEqual({ guarded: false, trapHandler: false, start: 0 })
  })

  // With too little address space to reserve what it may grow into, V8 copies the memory to another
  // place.
  test('a memory that was moved says that its mappings are lost', async () => {
    const { code, kinds, bytes } = await inChild(
      async ({ hostmap, assert, failure, mappingsOf }) => {
        const { GuardedMemory, HostRegion } = hostmap
        const region = HostRegion.copyFrom(Buffer.alloc(65536, 5))
        const memory = new WebAssembly.Memory({ initial: 16 })
        const guarded = GuardedMemory.from(memory)
        const mapping = guarded.map(region, { at: 65536 })
        memory.grow(64)
        assert.deepEqual(mappingsOf(region), [])
        assert.equal(guarded.byteLength, 80 * 65536)

        const { code } = await failure(() => mapping.prefetch())
        mapping.unmap()
        assert.equal(mapping.unmapped, true)
        const kinds = guarded.layout().ranges.map(({ kind }) => kind)
        // The memory itself is a sound one, with copies of the bytes that it had, and carries new
        // mappings.
        const again = guarded.map(region, { at: 0 })
        const bytes = [0, 65535, 65536, 2 * 65536 - 1, 2 * 65536].map(
          at => new Uint8Array(guarded.buffer)[at]
        )
        again.unmap()
        return { code, kinds, bytes }
      },
      { flags, ulimit: '-v 2000000' }
    )
    expect(code).toBe('ERR_HOSTMAP_MEMORY_MOVED')
    expect(kinds).not.toContain('mapped')
    expect(bytes).toEqual([5, 5, 5, 5, 0])
  })

  test('a memory that moves while it is grown by us says so by a code, or grows', async () => {
    const codes = await inChild(
      async ({ hostmap, failure }) => {
        const { GuardedMemory, HostRegion } = hostmap
        const region = HostRegion.copyFrom(Buffer.alloc(65536, 5))
        const codes = []
        for (const at of [undefined, 0]) {
          const guarded = GuardedMemory.from(new WebAssembly.Memory({ initial: 16 }))
          if (at !== undefined) guarded.map(region, { at })
          codes.push((await failure(() => guarded.grow(64)))?.code ?? guarded.byteLength)
        }
        return codes
      },
      { flags, ulimit: '-v 2000000' }
    )
    for (const code of codes) expect([80 * WASM_PAGE, 'ERR_HOSTMAP_MEMORY_MOVED']).toContain(code)
  })
})
