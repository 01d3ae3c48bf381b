'use strict'

// Memories that a module hides, known by a function that gives their buffer: Emscripten's `() =>
// Module.HEAPU8.buffer`.

const { inspect } = require('node:util')
const { GuardedMemory, HostRegion, limits } = require('..')
const { inChild } = require('./support/child')
const { expectError, thrownBy } = require('./support/errors')
const { noise } = require('./support/files')
const { mappingsOf } = require('./support/procfs')
const { MiB, WASM_PAGE, probeWithMemory, hasMemory64 } = require('./support/wasm')

const HOST_PAGE = limits().pageSize

const made = []
const keep = region => (made.push(region), region)
afterEach(() => made.splice(0).forEach(region => region.close()))

describe.each(hasMemory64 ? ['i32', 'i64'] : ['i32'])(
  'a memory known by a function, %s',
  address => {
    // Nothing of the memory but what the function gives is passed to the library.
    const hide = async (options = { initial: 64 }) => {
      const guest = await probeWithMemory({ address, ...options })
      const find = jest.fn(() => guest.memory.buffer)
      return { guest, find, guarded: GuardedMemory.from(find, { address }) }
    }

    test('is as usable after a growth of its module as before', async () => {
      const { guest, guarded } = await hide()
      const bytes = noise(MiB)
      const region = keep(HostRegion.copyFrom(bytes))
      const mapping = guarded.map(region, { at: MiB })
      const window = guarded.window({ byteLength: 4 * HOST_PAGE, at: 2 * MiB })
      const source = window.source(region, { chunk: HOST_PAGE })
      const snapshot = guarded.snapshot()
      const grown = use => {
        guest.grow(1)
        return use()
      }
      const read = (at, byteLength) => Buffer.from(guest.memory.buffer, at, byteLength)

      expect(grown(() => guarded.byteLength)).toBe(65 * WASM_PAGE)
      expect(grown(() => guarded.buffer)).toBe(guest.memory.buffer)
      expect(grown(() => guarded.layout().ranges.find(({ start }) => start === MiB).kind)).toBe(
        'mapped'
      )
      grown(() => window.slide(region, HOST_PAGE))
      expect(read(2 * MiB, 100).equals(bytes.subarray(HOST_PAGE, HOST_PAGE + 100))).toBe(true)
      grown(() => source.next())
      expect(read(2 * MiB, 100).equals(bytes.subarray(0, 100))).toBe(true)
      await grown(() => mapping.prefetch())
      const other = grown(() => guarded.map(region, { at: 3 * MiB, byteLength: HOST_PAGE }))
      expect(read(3 * MiB, 100).equals(bytes.subarray(0, 100))).toBe(true)
      grown(() => other[Symbol.dispose]())
      guest.store8(8, 1)
      grown(() => guarded.restore(snapshot))
      expect(guest.load8(8)).toBe(0)
      guest.store8(8, 1)
      grown(() => guarded.reset())
      expect(guest.load8(8)).toBe(0)
      grown(() => guarded.snapshot()).close()
      grown(() => window.unmap())
      grown(() => mapping.unmap())
      expect(guarded.mappings).toEqual([])
      expect(guarded.layout().ranges.map(({ kind }) => kind)).not.toContain('mapped')
      snapshot.close()
    })

    test('protects its read-only mappings again after a growth of its module', async () => {
      const { guest, guarded } = await hide()
      const bytes = noise(HOST_PAGE)
      const mapping = guarded.map(keep(HostRegion.copyFrom(bytes)), { at: MiB })
      guest.grow(1)
      guarded.layout()
      expect(() => guest.store8(MiB, 1)).toThrow(WebAssembly.RuntimeError)
      expect(mapping.strayWrites).toBe(0)
    })

    test('is one object, by whichever way it is met', async () => {
      const { guest, guarded } = await hide()
      expect(GuardedMemory.from(() => guest.memory.buffer, { address })).toBe(guarded)
      expect(GuardedMemory.from(guest.memory.buffer, { address })).toBe(guarded)
      guest.grow(1)
      expect(GuardedMemory.from(() => guest.memory.buffer, { address })).toBe(guarded)
      expect(GuardedMemory.from(guest.memory)).toBe(guarded)
      // The memory itself tells all.
      expect(guarded.memory).toBe(guest.memory)
      expect(guarded.address).toBe(address)
    })

    test('can be made from a buffer first, and given the function later', async () => {
      const guest = await probeWithMemory({ address, initial: 64 })
      const guarded = GuardedMemory.from(guest.memory.buffer, { address })
      guest.grow(1)
      expectError(
        thrownBy(() => guarded.layout()),
        { code: 'ERR_HOSTMAP_MEMORY_HIDDEN', says: [/function/, /HEAPU8\.buffer/] }
      )
      expect(GuardedMemory.from(() => guest.memory.buffer, { address })).toBe(guarded)
      guarded.layout()
      guest.grow(1)
      guarded.layout()
    })

    test('is looked up when it has grown, and not at each call', async () => {
      const { guest, find, guarded } = await hide()
      const region = keep(HostRegion.copyFrom(noise(HOST_PAGE)))
      find.mockClear()
      for (let i = 0; i < 10; i++) guarded.map(region, { at: MiB }).unmap()
      expect(find).toHaveBeenCalledTimes(0)
      guest.grow(1)
      for (let i = 0; i < 10; i++) guarded.map(region, { at: MiB }).unmap()
      expect(find).toHaveBeenCalledTimes(1)
      // Nor by looking at the object.
      guest.grow(1)
      inspect(guarded)
      expect(find).toHaveBeenCalledTimes(1)
    })
  }
)

describe('a function that does not give the memory', () => {
  const buffer = () => new WebAssembly.Memory({ initial: 2 }).buffer
  const detached = () => {
    const memory = new WebAssembly.Memory({ initial: 2 })
    const { buffer } = memory
    memory.grow(1)
    return buffer
  }
  const thrown = new Error('the module is gone')
  const wrong = [
    ['throws', () => () => { throw thrown }, [/threw/]],
    ['gives nothing', () => () => undefined, [/undefined/]],
    ['gives null', () => () => null, [/null/]],
    ['gives a typed array', () => { const heap = new Uint8Array(buffer()); return () => heap }, [/Uint8Array/]],
    ['gives the memory', () => () => new WebAssembly.Memory({ initial: 1 }), [/Memory/]],
    ['gives a promise', () => async () => buffer(), [/a promise/]],
    ['gives a detached buffer', () => { const old = detached(); return () => old }, [/detached/, /HEAPU8\.buffer/]]
  ] // prettier-ignore

  test.each(wrong)('%s: from says so', (_, make, says) => {
    const find = make()
    const error = thrownBy(() => GuardedMemory.from(find))
    expectError(error, { code: ['ERR_HOSTMAP_MEMORY_HIDDEN', 'ERR_INVALID_ARG_TYPE'], says })
    if (says[0].test('threw')) expect(error.cause).toBe(thrown)
  })

  test.each(wrong)(
    '%s after a growth: each call says so, until it gives the memory again',
    async (_, make, says) => {
      const guest = await probeWithMemory({ initial: 64 })
      const region = keep(HostRegion.copyFrom(noise(HOST_PAGE)))
      let find = () => guest.memory.buffer
      const guarded = GuardedMemory.from(() => find())
      const mapping = guarded.map(region, { at: MiB })
      const window = guarded.window({ at: 2 * MiB, byteLength: HOST_PAGE })
      const snapshot = guarded.snapshot()
      guest.grow(1)
      find = make()
      const calls = [
        () => guarded.byteLength,
        () => guarded.layout(),
        () => guarded.map(region, { at: 3 * MiB }),
        () => guarded.window({ at: 3 * MiB, byteLength: HOST_PAGE }),
        () => guarded.snapshot(),
        () => guarded.restore(snapshot),
        () => guarded.reset(),
        () => window.slide(region),
        () => window.unmap(),
        () => mapping.unmap()
      ]
      for (const call of calls)
        expectError(thrownBy(call), { code: 'ERR_HOSTMAP_MEMORY_HIDDEN', says })
      find = () => guest.memory.buffer
      expect(guarded.mappings).toHaveLength(2)
      expect(guest.bytes(MiB, 100).equals(noise(100))).toBe(true)
      mapping.unmap()
      window.unmap()
      snapshot.close()
      expect(mappingsOf(region)).toEqual([])
    }
  )

  test('gives a buffer of no memory: from refuses it as it does the buffer', () => {
    for (const make of [() => new ArrayBuffer(65536), () => new SharedArrayBuffer(65536)]) {
      expectError(
        thrownBy(() => GuardedMemory.from(make)),
        { code: 'ERR_HOSTMAP_NOT_WASM_MEMORY' }
      )
    }
  })

  test.each([
    ['another memory', () => new WebAssembly.Memory({ initial: 64 }).buffer],
    [
      'a shared one',
      () => new WebAssembly.Memory({ initial: 64, maximum: 64, shared: true }).buffer
    ],
    ['a plain buffer', () => new ArrayBuffer(64 * WASM_PAGE)]
  ])('gives %s after a growth: nothing is done to it', async (_, other) => {
    const guest = await probeWithMemory({ initial: 64 })
    const region = keep(HostRegion.copyFrom(noise(HOST_PAGE)))
    let find = () => guest.memory.buffer
    const guarded = GuardedMemory.from(() => find())
    const mapping = guarded.map(region, { at: MiB })
    guest.grow(1)
    const given = other()
    find = () => given
    for (const call of [
      () => guarded.map(region, { at: 2 * MiB }),
      () => mapping.unmap(),
      () => guarded.layout()
    ]) {
      expectError(thrownBy(call), {
        code: 'ERR_HOSTMAP_MEMORY_MOVED',
        says: [/function/, /another/]
      })
    }
    expect(Buffer.from(given).every(byte => byte === 0)).toBe(true)
    expect(mappingsOf(region)).toHaveLength(1)
    find = () => guest.memory.buffer
    mapping.unmap()
    expect(mappingsOf(region)).toEqual([])
  })

  test('calls back into the library: what it does there holds', async () => {
    const guest = await probeWithMemory({ initial: 64 })
    const region = keep(HostRegion.copyFrom(noise(HOST_PAGE)))
    let hook = () => {}
    const guarded = GuardedMemory.from(() => {
      const call = hook
      hook = () => {}
      call()
      return guest.memory.buffer
    })
    guest.grow(1)
    let inner
    hook = () => (inner = guarded.map(region, { at: MiB }))
    expectError(
      thrownBy(() => guarded.map(region, { at: MiB })),
      { code: 'ERR_HOSTMAP_OVERLAP' }
    )
    expect(mappingsOf(region)).toHaveLength(1)
    inner.unmap()
    guest.grow(1)
    hook = () => region.close()
    expectError(
      thrownBy(() => guarded.map(region, { at: 2 * MiB })),
      { code: 'ERR_HOSTMAP_REGION_CLOSED' }
    )
    guest.grow(1)
    const snapshot = guarded.snapshot({ name: 'clean' })
    guest.grow(1)
    hook = () => snapshot.close()
    expectError(
      thrownBy(() => guarded.restore(snapshot)),
      { code: 'ERR_HOSTMAP_SNAPSHOT_CLOSED' }
    )
  })

  test('that calls itself without end gets the RangeError of the stack', async () => {
    const guest = await probeWithMemory({ initial: 64 })
    let endless = false
    const guarded = GuardedMemory.from(() => (endless && guarded.layout(), guest.memory.buffer))
    guest.grow(1)
    endless = true
    const error = thrownBy(() => guarded.layout())
    expect(
      error === null || error.name === 'RangeError' || error.code === 'ERR_HOSTMAP_MEMORY_HIDDEN'
    ).toBe(true)
    endless = false
    guarded.layout()
  })
})

describe('a shared memory known by a function', () => {
  test('grows: the longest buffer counts', async () => {
    const guest = await probeWithMemory({ shared: true, initial: 64, maximum: 128 })
    const first = guest.memory.buffer
    let find = () => guest.memory.buffer
    const guarded = GuardedMemory.from(() => find())
    guest.grow(16)
    expect(guarded.byteLength).toBe(80 * WASM_PAGE)
    const region = keep(HostRegion.copyFrom(noise(HOST_PAGE)))
    const mapping = guarded.map(region, { at: 70 * WASM_PAGE })
    // Emscripten's views of a shared memory may lag behind.
    find = () => first
    expect(guarded.byteLength).toBe(80 * WASM_PAGE)
    mapping.unmap()
    guarded.map(region, { at: 79 * WASM_PAGE }).unmap()
  })

  // An Emscripten module with threads: what grew in another thread shows in HEAPU8 only when this
  // thread's JavaScript looks at the memory itself.
  test.each([
    ['the function gives an old buffer', buffer => () => buffer],
    ['only an old buffer was given', buffer => buffer]
  ])('is as long as V8 says, where %s', async (_, give) => {
    const guest = await probeWithMemory({ shared: true, initial: 64, maximum: 128 })
    const guarded = GuardedMemory.from(give(guest.memory.buffer))
    const bytes = noise(MiB)
    const region = keep(HostRegion.copyFrom(bytes))
    const pages = () => guest.memory.buffer.byteLength
    const frees = []
    const allocator = { malloc: () => guest.grow(32) * WASM_PAGE, free: block => frees.push(block) }
    const mapping = guarded.map(region, { allocator })
    expect(mapping.address).toBe(64 * WASM_PAGE)
    guest.grow(1)
    expect(guarded.byteLength).toBe(pages())
    guest.grow(1)
    expect(guarded.buffer.byteLength).toBe(pages())
    guest.grow(1)
    expect(guarded.layout().ranges.find(({ kind }) => kind === 'reserved').start).toBe(pages())
    guest.grow(1)
    guarded.map(region, { at: pages() - HOST_PAGE, byteLength: HOST_PAGE }).unmap()
    guest.grow(1)
    const window = guarded.window({ at: pages() - HOST_PAGE, byteLength: HOST_PAGE })
    window.slide(region)
    expect(guest.bytes(pages() - HOST_PAGE, 100).equals(bytes.subarray(0, 100))).toBe(true)
    expect(guarded.mappings).toEqual([mapping, window])
    guest.grow(1)
    guarded[Symbol.dispose]()
    expect(frees).toEqual([64 * WASM_PAGE])
    expect(mappingsOf(region)).toEqual([])
  })

  test('whose block is past the end of the memory gets nothing back', async () => {
    const guest = await probeWithMemory({ shared: true, initial: 64, maximum: 128 })
    const frees = []
    const allocator = { malloc: () => 64 * WASM_PAGE, free: block => frees.push(block) }
    for (const memory of [guest.memory.buffer, () => guest.memory.buffer]) {
      expectError(
        thrownBy(() =>
          GuardedMemory.from(memory).map(keep(HostRegion.copyFrom(noise(MiB))), { allocator })
        ),
        { code: 'ERR_HOSTMAP_ALLOCATOR_FAILED', says: [/ends before the block does/] }
      )
    }
    expect(frees).toEqual([])
  })
})

// libsodium of npm, as it is: built by Emscripten, it shows HEAPU8, _malloc and _free, and no
// memory. Its hash reads the region through a pointer. In a child, since a jest realm is not what
// it was built for.
describe('an Emscripten module as npm has it', () => {
  test('takes regions of any size through its own malloc, which grows its memory for them', async () => {
    const found = await inChild(async ({ hostmap, require, mappingsOf, args: { MiB } }) => {
      const { createHash, randomFillSync } = require('node:crypto')
      const sodium = require(require.resolve('libsodium', { paths: [process.cwd()] }))
      await sodium.ready
      const { GuardedMemory, HostRegion } = hostmap
      const guarded = GuardedMemory.from(() => sodium.HEAPU8.buffer)
      const allocator = { malloc: sodium._malloc, free: sodium._free }
      const hash = ({ pointer, byteLength }) => {
        const out = sodium._malloc(64)
        const status = sodium._crypto_generichash(out, 64, pointer, byteLength, 0, 0, 0)
        const digest = Buffer.from(sodium.HEAPU8.slice(out, out + 64)).toString('hex')
        sodium._free(out)
        return status === 0 ? digest : `status ${status}`
      }
      const seen = []
      for (const byteLength of [1000, 3 * MiB, 64 * MiB + 5, 8 * MiB]) {
        const bytes = randomFillSync(Buffer.alloc(byteLength))
        const region = HostRegion.copyFrom(bytes)
        const before = sodium.HEAPU8.length
        const mapping = guarded.map(region, { allocator })
        const digest = hash(mapping)
        // The engine's own growth, by a malloc that the library does not call.
        const own = sodium._malloc(before + 16 * MiB)
        const again = hash(mapping)
        sodium._free(own)
        const isMapped = guarded.layout().ranges.some(({ region: at }) => at === region)
        mapping.unmap()
        seen.push({
          grew: sodium.HEAPU8.length > before,
          isMapped,
          right: [digest, again].every(one => one === createHash('blake2b512').update(bytes).digest('hex')),
          left: mappingsOf(region).length
        })
        region.close()
      }
      // What was given back is there to be had again: with the same sizes once more, nothing grows.
      const size = sodium.HEAPU8.length
      for (let i = 0; i < 20; i++) {
        guarded.map(HostRegion.allocate(8 * MiB), { allocator }).unmap()
      }
      return { seen, stays: sodium.HEAPU8.length === size }
    }, { args: { MiB } }) // prettier-ignore
    expect(found.seen).toEqual(Array(4).fill({ grew: true, isMapped: true, right: true, left: 0 }))
    expect(found.stays).toBe(true)
  })

  test('known by its buffer alone: the block is given back, and the error says what to pass', async () => {
    const found = await inChild(async ({ hostmap, require, failure, args: { MiB } }) => {
      const sodium = require(require.resolve('libsodium', { paths: [process.cwd()] }))
      await sodium.ready
      const calls = []
      const allocator = {
        malloc: byteLength => (calls.push('malloc'), sodium._malloc(byteLength)),
        free: block => (calls.push('free'), sodium._free(block))
      }
      const guarded = hostmap.GuardedMemory.from(sodium.HEAPU8.buffer)
      const { code, message } = await failure(() =>
        guarded.map(hostmap.HostRegion.allocate(64 * MiB), { allocator })
      )
      return { code, message, calls }
    }, { args: { MiB } }) // prettier-ignore
    expect(found.code).toBe('ERR_HOSTMAP_MEMORY_HIDDEN')
    expect(found.message).toMatch(/\(\) => Module\.HEAPU8\.buffer/)
    expect(found.calls).toEqual(['malloc', 'free'])
  })
})
