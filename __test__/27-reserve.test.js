'use strict'

// Room by one growth: past the end for mappings, and in the heap of the module's own allocator. And
// a memory as a disposable: all of a thread's mappings and windows end with it.

const { GuardedMemory, HostRegion, limits } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { mappingsOf } = require('./support/procfs')
const { noise } = require('./support/files')
const { MiB, WASM_PAGE, hasMemory64 } = require('./support/wasm')

const HOST_PAGE = limits().pageSize

const made = []
const keep = region => (made.push(region), region)
afterEach(() => made.splice(0).forEach(region => region.close()))

describe.each(hasMemory64 ? ['i32', 'i64'] : ['i32'])('reserve past the end, %s', address => {
  const memory = (maximum = 256) => new GuardedMemory({ initial: 2, maximum, address })

  test('grows once, and mappings and windows that fit in it grow no more', () => {
    const guarded = memory()
    guarded.reserve(3 * MiB)
    expect(guarded.byteLength).toBe(2 * WASM_PAGE + 3 * MiB)
    const region = keep(HostRegion.copyFrom(noise(MiB)))
    const before = guarded.buffer
    const mappings = [guarded.map(region), guarded.window({ byteLength: MiB }), guarded.map(region)]
    expect(guarded.buffer).toBe(before)
    expect(mappings.map(({ address }) => address)).toEqual(
      [0, 1, 2].map(i => 2 * WASM_PAGE + i * MiB)
    )
  })

  test('does nothing where there is room, and grows where it is in use', () => {
    const guarded = memory()
    guarded.reserve(MiB)
    guarded.reserve(MiB)
    guarded.reserve(1)
    expect(guarded.byteLength).toBe(2 * WASM_PAGE + MiB)
    const mapping = guarded.map(keep(HostRegion.allocate(MiB)))
    guarded.reserve(MiB)
    expect(guarded.byteLength).toBe(2 * WASM_PAGE + 2 * MiB)
    mapping.unmap()
    guarded.reserve(2 * MiB)
    expect(guarded.byteLength).toBe(2 * WASM_PAGE + 2 * MiB)
  })

  test('room that a memory is made with is used by what is mapped past the end', () => {
    const room = (3 * MiB) / WASM_PAGE
    const guarded = new GuardedMemory({ initial: 2, room, maximum: 256, address })
    expect(guarded.byteLength).toBe(2 * WASM_PAGE + 3 * MiB)
    const region = keep(HostRegion.copyFrom(noise(MiB)))
    const before = guarded.buffer
    const mappings = [guarded.map(region), guarded.window({ byteLength: MiB }), guarded.map(region)]
    expect(guarded.buffer).toBe(before)
    expect(mappings.map(({ address }) => address)).toEqual(
      [0, 1, 2].map(i => 2 * WASM_PAGE + i * MiB)
    )
    expect(new GuardedMemory({ initial: 2, room: 0n, address }).byteLength).toBe(2 * WASM_PAGE)
  })

  test('room is at most what the initial size leaves', () => {
    const full = { initial: 250, maximum: 256, address }
    expect(new GuardedMemory({ ...full, room: 6 }).byteLength).toBe(256 * WASM_PAGE)
    for (const [room, code] of [
      [7, 'ERR_OUT_OF_RANGE'],
      [7n, 'ERR_OUT_OF_RANGE'],
      [-1, 'ERR_OUT_OF_RANGE'],
      [0.5, 'ERR_OUT_OF_RANGE'],
      ['6', 'ERR_INVALID_ARG_TYPE'],
      [null, 'ERR_INVALID_ARG_TYPE']
    ]) {
      expectError(
        thrownBy(() => new GuardedMemory({ ...full, room })),
        { code, says: [/descriptor\.room \(in Wasm pages\)/] }
      )
    }
    const most = { i32: 65536, i64: 262144 }[address]
    const error = thrownBy(() => new GuardedMemory({ initial: 1, room: most, address }))
    expectError(error, { code: 'ERR_OUT_OF_RANGE', says: [String(most - 1)] })
  })

  test('past the maximum is refused, and nothing has grown', () => {
    const guarded = memory(16)
    for (const byteLength of [MiB, 2 ** 52]) {
      expectError(
        thrownBy(() => guarded.reserve(byteLength)),
        { code: 'ERR_HOSTMAP_MEMORY_FULL', says: [/maximum/] }
      )
    }
    expect(guarded.byteLength).toBe(2 * WASM_PAGE)
  })

  test('of a memory that its module hides needs the allocator', () => {
    const hidden = memory()
    const guarded = GuardedMemory.from(() => hidden.buffer, { address })
    // The same memory: the library knows it as it is.
    expect(guarded).toBe(hidden)
    const { buffer } = new WebAssembly.Memory({ initial: 2 })
    expectError(
      thrownBy(() => GuardedMemory.from(() => buffer).reserve(MiB)),
      { code: 'ERR_HOSTMAP_MEMORY_HIDDEN', says: [/allocator/] }
    )
  })

  test('by an allocator takes a block of so many bytes and gives it back', () => {
    const guarded = memory()
    const number = address === 'i64' ? BigInt : Number
    const calls = []
    const allocator = {
      malloc(byteLength) {
        calls.push(['malloc', byteLength])
        return number(guarded.grow(16) * WASM_PAGE)
      },
      free: (start, byteLength) => calls.push(['free', start, byteLength])
    }
    expect(guarded.reserve(MiB, { allocator })).toBe(undefined)
    expect(calls).toEqual([
      ['malloc', number(MiB)],
      ['free', number(2 * WASM_PAGE), number(MiB)]
    ])
  })

  test('by an allocator passes the address alone to a free of one parameter', () => {
    const guarded = memory()
    const number = address === 'i64' ? BigInt : Number
    const malloc = () => number(guarded.grow(16) * WASM_PAGE)
    // As Emscripten's builds with assertions have it: an argument too many ends the program.
    const counts = []
    const free = (...given) => counts.push(given.length)
    for (const one of [free, Object.defineProperty(free, 'length', { value: 1 })]) {
      guarded.reserve(MiB, { allocator: { malloc, free: one } })
    }
    expect(counts).toEqual([1, 1])
  })
})

describe('reserve by an allocator', () => {
  const guarded = new GuardedMemory({ initial: 64, maximum: 128 })

  test.each([
    ['0', 0, 0],
    ['a block past the end', 64 * WASM_PAGE, 0],
    ['no address', 'here', 0]
  ])('that gives %s says so', (_, answer, frees) => {
    const freed = []
    const allocator = { malloc: () => answer, free: address => freed.push(address) }
    expectError(
      thrownBy(() => guarded.reserve(MiB, { allocator })),
      { code: 'ERR_HOSTMAP_ALLOCATOR_FAILED', says: [/malloc\(1048576\)/] }
    )
    expect(freed).toHaveLength(frees)
  })

  test('whose malloc or free throws ends with its error', () => {
    const error = new Error('no')
    const fail = () => {
      throw error
    }
    expect(thrownBy(() => guarded.reserve(1, { allocator: { malloc: fail, free() {} } }))).toBe(
      error
    )
    expect(thrownBy(() => guarded.reserve(1, { allocator: { malloc: () => 8, free: fail } }))).toBe(
      error
    )
  })

  test('asks a 32-bit module for no more than it has addresses', () => {
    const malloc = jest.fn()
    expectError(
      thrownBy(() => guarded.reserve(2 ** 32, { allocator: { malloc, free() {} } })),
      { code: 'ERR_HOSTMAP_ALLOCATOR_FAILED' }
    )
    expect(malloc).not.toHaveBeenCalled()
  })
})

describe('a memory that is disposed of', () => {
  test('has none of its mappings and windows any more, and can be used again', () => {
    const guarded = new GuardedMemory({ initial: 64, maximum: 256 })
    const region = keep(HostRegion.copyFrom(noise(MiB)))
    const freed = []
    const allocator = { malloc: () => MiB, free: address => freed.push(address) }
    const ended = [
      guarded.map(region),
      guarded.map(region, { allocator, byteLength: HOST_PAGE }),
      guarded.window({ byteLength: MiB })
    ]
    ended[2].slide(region)
    guarded[Symbol.dispose]()
    expect(ended.map(({ unmapped }) => unmapped)).toEqual([true, true, true])
    expect(mappingsOf(region)).toEqual([])
    expect(guarded.mappings).toEqual([])
    expect(freed).toEqual([MiB])
    guarded[Symbol.dispose]()
    expect(guarded.map(region).unmapped).toBe(false)
    guarded[Symbol.dispose]()
    expect(mappingsOf(region)).toEqual([])
  })

  test('works after each growth of a module that hides its memory', () => {
    const hidden = new WebAssembly.Memory({ initial: 64, maximum: 128 })
    const guarded = GuardedMemory.from(() => hidden.buffer)
    const region = keep(HostRegion.copyFrom(noise(MiB)))
    guarded.map(region, { at: MiB })
    hidden.grow(1)
    guarded[Symbol.dispose]()
    expect(mappingsOf(region)).toEqual([])
  })

  test('unmaps the rest where one fails, and throws what that one threw', () => {
    const guarded = new GuardedMemory({ initial: 64 })
    const region = keep(HostRegion.copyFrom(noise(MiB)))
    const errors = [new Error('first'), new Error('second')]
    guarded.map(region, { at: 3 * MiB })
    for (const at of [MiB, 2 * MiB]) {
      guarded.map(region, {
        byteLength: HOST_PAGE,
        allocator: {
          malloc: () => at,
          free() {
            throw errors.shift()
          }
        }
      })
    }
    expect(thrownBy(() => guarded[Symbol.dispose]()).message).toBe('first')
    expect(errors).toEqual([])
    expect(mappingsOf(region)).toEqual([])
  })
})
