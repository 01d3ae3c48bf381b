'use strict'

// Whether a memory has 32- or 64-bit addresses, found out for memories that modules made.

const { GuardedMemory, HostRegion, InstancePool, limits } = require('..')
const { inChild } = require('./support/child')
const { expectError, thrownBy } = require('./support/errors')
const { noise } = require('./support/files')
const {
  MiB,
  WASM_PAGE,
  assemble,
  compileProbe,
  probeWithMemory,
  hasMemory64
} = require('./support/wasm')
const { skipUnless } = require('./support/skip')

const MEMORY64 = '(module (memory (export "memory") i64 16 32))'

let canCompile64
beforeAll(async () => {
  canCompile64 = WebAssembly.validate(await assemble(MEMORY64))
})

const made = []
const keep = region => (made.push(region), region)
afterEach(() => made.splice(0).forEach(region => region.close()))

const kinds = [
  ['without a maximum', { initial: 16 }],
  ['with a maximum', { initial: 16, maximum: 32 }],
  ['shared', { initial: 16, maximum: 32, shared: true }]
]

test.each(kinds)('a 32-bit memory of a module is one, %s', async (_, kind) => {
  const { memory } = await probeWithMemory(kind)
  const guarded = GuardedMemory.from(memory)
  expect(guarded.address).toBe('i32')
  expect(guarded.guarded).toBe(limits().wasm.trapHandler)
  const other = await probeWithMemory(kind)
  expect(GuardedMemory.from(other.memory.buffer).address).toBe('i32')
  // What is said must be so.
  for (const memory of [other.memory, other.memory.buffer, () => other.memory.buffer]) {
    expectError(
      thrownBy(() => GuardedMemory.from(memory, { address: 'i64' })),
      { code: 'ERR_INVALID_ARG_VALUE', says: [/i64/, /i32/] }
    )
  }
})

// Node.js 20 compiles no such module; see below for its flag.
describe.each(kinds)('a 64-bit memory of a module, %s', (_, kind) => {
  const onlyHere = call => async () =>
    canCompile64 ? call() : expect(limits().wasm.maxPages64).toBe(0)

  test(
    'is one, and pointers are BigInts',
    onlyHere(async () => {
      const guest = await probeWithMemory({ ...kind, address: 'i64' })
      const guarded = GuardedMemory.from(guest.memory)
      expect(guarded.address).toBe('i64')
      const bytes = noise(WASM_PAGE)
      const region = keep(HostRegion.copyFrom(bytes))
      const mapping = guarded.map(region, { at: 8 * WASM_PAGE })
      expect(mapping.pointer).toBe(BigInt(8 * WASM_PAGE))
      expect(guest.exports.load8(mapping.pointer)).toBe(bytes[0])
      const window = guarded.window({ byteLength: WASM_PAGE, at: 4 * WASM_PAGE })
      expect(window.slide(region, 100).pointer).toBe(BigInt(4 * WASM_PAGE + 100))
      expect(typeof window.source(region).imports.next()).toBe('bigint')
      expect(() => GuardedMemory.from(guest.memory, { address: 'i32' })).toThrow(/i64/)
    })
  )

  test(
    'grows, takes regions past its end, and goes back to a snapshot',
    onlyHere(async () => {
      const guest = await probeWithMemory({ ...kind, address: 'i64' })
      const guarded = GuardedMemory.from(guest.memory)
      expect(guarded.grow(1)).toBe(16)
      expect(guarded.grow(1n)).toBe(17)
      const mapping = guarded.map(keep(HostRegion.copyFrom(noise(WASM_PAGE))))
      expect(mapping.address).toBeGreaterThanOrEqual(18 * WASM_PAGE)
      expect(guest.bytes(mapping.address, 100).equals(noise(100))).toBe(true)
      guest.store64(8, 42n)
      const exclusive = true
      const snapshot = guarded.snapshot({ exclusive })
      guest.store64(8, 43n)
      guarded.restore(snapshot, { exclusive })
      expect(guest.load64(8)).toBe(42n)
      mapping.unmap()
      snapshot.close()
      if (kind.maximum !== undefined) {
        expectError(
          thrownBy(() => guarded.grow(1000)),
          { code: 'ERR_HOSTMAP_MEMORY_FULL' }
        )
      }
    })
  )

  test(
    'is guarded only where V8 makes such memories with guards, and its layout claims no more',
    onlyHere(async () => {
      const { memory } = await probeWithMemory({ ...kind, address: 'i64' })
      const guarded = GuardedMemory.from(memory)
      expect(guarded.guarded).toBe(hasMemory64)
      const { ranges } = guarded.layout()
      const end = hasMemory64 ? limits().wasm.reservationBytes64 : 16 * WASM_PAGE
      expect([ranges[0].start, ranges.at(-1).end]).toEqual([0, end])
    })
  )

  test(
    'known by its buffer is not taken for a 32-bit one: the address type is asked for, or a proof is missing',
    onlyHere(async () => {
      const { memory } = await probeWithMemory({ ...kind, address: 'i64' })
      for (const given of [memory.buffer, () => memory.buffer]) {
        expectError(
          thrownBy(() => GuardedMemory.from(given)),
          hasMemory64
            ? { code: 'ERR_HOSTMAP_ADDRESS_UNKNOWN', says: /options\.address/ }
            : { code: ['ERR_HOSTMAP_ADDRESS_UNKNOWN', 'ERR_HOSTMAP_NOT_WASM_MEMORY'] }
        )
      }
      const ask = () => GuardedMemory.from(() => memory.buffer, { address: 'i64' })
      if (hasMemory64) expect(ask().address).toBe('i64')
      else
        expectError(thrownBy(ask), {
          code: 'ERR_HOSTMAP_NOT_WASM_MEMORY',
          says: [/64-bit/, /Memory itself/]
        })
    })
  )
})

test('a pool of a module with a 64-bit memory gives pointers that the module takes', async () => {
  if (!canCompile64) return expect(limits().wasm.maxPages64).toBe(0)
  const module = await compileProbe({ address: 'i64', initial: 64 })
  const pool = await InstancePool.create(module, {
    size: 1,
    accept: ['hidden-globals', 'hidden-tables']
  })
  const region = keep(HostRegion.copyFrom(noise(MiB)))
  await pool.run(({ memory, exports }) => {
    expect(memory.address).toBe('i64')
    const mapping = memory.map(region, { at: MiB })
    expect(exports.load8(mapping.pointer)).toBe(noise(1)[0])
    mapping.unmap()
  })
  pool.close()
})

// Its linker takes any memory for any import, so nothing tells. An empty 32-bit module linked to a
// 64-bit memory ends it.
describe('Node.js 20 with --experimental-wasm-memory64', () => {
  const flags = ['--experimental-wasm-memory64']
  // Later ones need no flag, or have none.
  const { test: here } = skipUnless('needs Node.js 20', process.version.startsWith('v20.'))

  here('asks for the address type of what a module made, and believes it', async () => {
    const found = await inChild(
      async ({ hostmap, failure, probeWithMemory }) => {
        const { GuardedMemory, HostRegion } = hostmap
        const seen = {}
        for (const address of ['i32', 'i64']) {
          const guest = await probeWithMemory({ address, initial: 16, maximum: 32 })
          const { code, message } = await failure(() => GuardedMemory.from(guest.memory))
          const guarded = GuardedMemory.from(guest.memory, { address })
          const mapping = guarded.map(HostRegion.copyFrom(Buffer.alloc(10, 7)), { at: 65536 })
          seen[address] = {
            code,
            asks: /options\.address/.test(message),
            byte: guest.exports.load8(mapping.pointer),
            guarded: guarded.guarded,
            pointer: typeof mapping.pointer,
            // Known from now on.
            same: GuardedMemory.from(guest.memory) === guarded
          }
        }
        seen.own = new GuardedMemory({ initial: 1 }).address
        return seen
      },
      { flags }
    )
    const asked = { code: 'ERR_HOSTMAP_ADDRESS_UNKNOWN', asks: true, byte: 7, same: true }
    expect(found).toEqual({
      i32: { ...asked, guarded: true, pointer: 'number' },
      i64: { ...asked, guarded: false, pointer: 'bigint' },
      own: 'i32'
    })
  })

  here('needs no asking where the bytes of the module are known: in pools', async () => {
    const found = await inChild(
      async ({ hostmap, assemble }) => {
        const addresses = []
        for (const address of ['i32', 'i64']) {
          const type = address === 'i64' ? 'i64 ' : ''
          const bytes = await assemble(`(module (memory (export "memory") ${type}16 32))`)
          const pool = await hostmap.InstancePool.create(bytes)
          addresses.push(await pool.run(({ memory }) => memory.address))
          pool.close()
        }
        return addresses
      },
      { flags }
    )
    expect(found).toEqual(['i32', 'i64'])
  })

  here('refuses a memory of more than 4 GiB, over which it has no typed array', async () => {
    const codes = await inChild(
      async ({ hostmap, failure, probeWithMemory }) => {
        const { GuardedMemory } = hostmap
        const large = await probeWithMemory({ address: 'i64', initial: 65537 })
        const calls = [
          () => GuardedMemory.from(large.memory, { address: 'i64' }),
          () => GuardedMemory.from(large.memory.buffer, { address: 'i64' })
        ]
        return Promise.all(calls.map(async call => (await failure(call)).code))
      },
      { flags }
    )
    expect(codes).toEqual(Array(2).fill('ERR_HOSTMAP_NO_MEMORY64'))
  })
})
