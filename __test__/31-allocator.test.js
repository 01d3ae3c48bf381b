'use strict'

// Mappings in blocks of a module's own malloc: it gets its block back as it was, and failures of
// the allocator lose nothing.

const { GuardedMemory, HostRegion, limits } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { mappingsOf } = require('./support/procfs')
const { noise } = require('./support/files')
const { MiB, GiB, WASM_PAGE, assemble, probe, hasMemory64 } = require('./support/wasm')

const HOST_PAGE = limits().pageSize

const made = []
const keep = region => (made.push(region), region)
afterEach(() => made.splice(0).forEach(region => region.close()))

/**
 * A module with a malloc of the simplest kind: blocks of any size at addresses that are multiples
 * of 8 and nothing more, from a heap that `memory.grow` feeds. `free` counts, and keeps the
 * address.
 */
const allocatorWat = at => `(module
  (memory (export "memory") ${at === 'i64' ? 'i64 ' : ''}2 65536)
  (global $next (mut ${at}) (${at}.const 1032))
  (global $freed (export "freed") (mut ${at}) (${at}.const 0))
  (global $frees (export "frees") (mut i32) (i32.const 0))
  (func (export "malloc") (param $byteLength ${at}) (result ${at})
    (local $block ${at}) (local $missing ${at})
    (local.set $block (global.get $next))
    (global.set $next
      (${at}.and (${at}.add (${at}.add (global.get $next) (local.get $byteLength)) (${at}.const 15)) (${at}.const -8)))
    (if (${at}.lt_u (global.get $next) (local.get $block)) (then (return (${at}.const 0))))
    ;; The Wasm pages between the memory's end and the block's.
    (local.set $missing
      (${at}.sub
        (${at}.add (${at}.shr_u (${at}.sub (global.get $next) (${at}.const 1)) (${at}.const 16)) (${at}.const 1))
        (memory.size)))
    (if (${at}.gt_s (local.get $missing) (${at}.const 0))
      (then
        (if (${at}.eq (memory.grow (local.get $missing)) (${at}.const -1)) (then (return (${at}.const 0))))))
    (local.get $block))
  (func (export "free") (param $block ${at})
    (global.set $freed (local.get $block))
    (global.set $frees (i32.add (global.get $frees) (i32.const 1))))
)`

async function makeModule(address) {
  const { exports } = new WebAssembly.Instance(
    new WebAssembly.Module(await assemble(allocatorWat(address)))
  )
  return exports
}

/**
 * An allocator in JavaScript that gives blocks where a test wants them, and remembers the calls.
 */
function scripted(...answers) {
  const calls = []
  return {
    calls,
    malloc(byteLength) {
      calls.push(['malloc', byteLength])
      const answer = answers.shift()
      return typeof answer === 'function' ? answer(byteLength) : answer
    },
    free(address) {
      calls.push(['free', address])
    }
  }
}

describe.each(hasMemory64 ? ['i32', 'i64'] : ['i32'])("a module's own malloc, %s", address => {
  const number = value => Number(address === 'i64' ? value : value >>> 0)

  test('gives a block, and the region is mapped over the whole pages in it', async () => {
    const exports = await makeModule(address)
    const guarded = GuardedMemory.from(exports.memory)
    const bytes = noise(5 * MiB + 123)
    const region = keep(HostRegion.copyFrom(bytes))
    const before = exports.malloc(address === 'i64' ? 100n : 100)
    const mapping = guarded.map(region, { allocator: exports })

    expect(mapping.address % HOST_PAGE).toBe(0)
    expect(mapping.address).toBeGreaterThanOrEqual(number(before) + 100)
    // The next block is behind all of the mapping's pages.
    const after = number(exports.malloc(address === 'i64' ? 100n : 100))
    expect(after).toBeGreaterThanOrEqual(
      mapping.address + Math.ceil(bytes.length / HOST_PAGE) * HOST_PAGE
    )
    expect(typeof mapping.pointer).toBe(address === 'i64' ? 'bigint' : 'number')

    const guest = await probe(exports.memory, { address })
    expect(guest.bytes(mapping.address + 5 * MiB, 123).equals(bytes.subarray(5 * MiB))).toBe(true)
    expect(() => guest.store8(mapping.address, 1)).toThrow(WebAssembly.RuntimeError)
  })

  test('gets its block back at unmap, once, zeroed and writable', async () => {
    const exports = await makeModule(address)
    const guarded = GuardedMemory.from(exports.memory)
    const guest = await probe(exports.memory, { address })
    const region = keep(HostRegion.copyFrom(noise(200_000)))
    // Where the block will start: blocks come one behind the other.
    const [first, second] = [1, 2].map(() => number(exports.malloc(address === 'i64' ? 8n : 8)))
    const block = second + (second - first)
    const mapping = guarded.map(region, { allocator: exports })
    expect(exports.frees.value).toBe(0)
    mapping.unmap()
    mapping.unmap()
    mapping[Symbol.dispose]()
    expect(exports.frees.value).toBe(1)
    expect(number(exports.freed.value)).toBe(block)
    expect(guest.sum(mapping.address, mapping.address + 200_704)).toBe(0n)
    guest.store64(mapping.address, 1n)
    expect(guest.load64(mapping.address)).toBe(1n)
  })

  test('serves many regions, and what is between them is untouched', async () => {
    const exports = await makeModule(address)
    const guarded = GuardedMemory.from(exports.memory)
    const region = keep(HostRegion.copyFrom(noise(WASM_PAGE)))
    const canaries = []
    const mappings = Array.from({ length: 20 }, (_, i) => {
      const mapping = guarded.map(region, { allocator: exports, byteLength: 1 + i * 1000 })
      const canary = number(exports.malloc(address === 'i64' ? 64n : 64))
      Buffer.from(exports.memory.buffer, canary, 64).fill(i + 1)
      canaries.push(canary)
      return mapping
    })
    mappings.forEach(({ address, byteLength }) => {
      expect(
        Buffer.from(exports.memory.buffer, address, byteLength).equals(
          noise(WASM_PAGE).subarray(0, byteLength)
        )
      ).toBe(true)
    })
    mappings.forEach(mapping => mapping.unmap())
    canaries.forEach((canary, i) => {
      expect(Buffer.from(exports.memory.buffer, canary, 64).every(byte => byte === i + 1)).toBe(
        true
      )
    })
    expect(exports.frees.value).toBe(20)
  })

  test('works where a module hides its memory', async () => {
    const exports = await makeModule(address)
    // Grown beforehand, as such a module's own heap is: the buffer that we know stays the one.
    exports.memory.grow(address === 'i64' ? 100n : 100)
    const guarded = GuardedMemory.from(exports.memory.buffer, { address })
    const mapping = guarded.map(keep(HostRegion.copyFrom(noise(1000))), { allocator: exports })
    expect(Buffer.from(exports.memory.buffer, mapping.address, 1000).equals(noise(1000))).toBe(true)
    mapping.unmap()
    expect(exports.frees.value).toBe(1)
  })

  // Grows its memory with every block that is larger than the room left.
  const hidden = async () => {
    const exports = await makeModule(address)
    const find = () => exports.memory.buffer
    return { exports, find, guarded: GuardedMemory.from(find, { address }) }
  }

  test('may grow the memory that its module hides, where a function gives the buffer', async () => {
    const { exports, find, guarded } = await hidden()
    const before = find()
    const bytes = noise(5 * MiB + 123)
    const mapping = guarded.map(keep(HostRegion.copyFrom(bytes)), { allocator: exports })
    expect(find()).not.toBe(before)
    expect(guarded.buffer).toBe(find())
    expect(Buffer.from(find(), mapping.address, bytes.length).equals(bytes)).toBe(true)
    expect(typeof mapping.pointer).toBe(address === 'i64' ? 'bigint' : 'number')

    const window = guarded.window({ byteLength: 2 * MiB, allocator: exports })
    const { address: at, byteLength } = window.slide(mapping.region, MiB)
    expect(Buffer.from(find(), at, byteLength).equals(bytes.subarray(MiB, 3 * MiB))).toBe(true)
    window.unmap()
    mapping.unmap()
    expect(exports.frees.value).toBe(2)
  })

  test('that grows a memory known by its buffer alone gets its block back, and the error names the way', async () => {
    const exports = await makeModule(address)
    const guarded = GuardedMemory.from(exports.memory.buffer, { address })
    const region = keep(HostRegion.copyFrom(noise(5 * MiB)))
    for (const call of [
      () => guarded.map(region, { allocator: exports }),
      () => guarded.window({ byteLength: 5 * MiB, allocator: exports })
    ]) {
      const frees = exports.frees.value
      expectError(thrownBy(call), {
        code: 'ERR_HOSTMAP_MEMORY_HIDDEN',
        says: [/function/, /HEAPU8\.buffer/]
      })
      expect(exports.frees.value).toBe(frees + 1)
      expect(mappingsOf(region)).toEqual([])
    }
    // It is the same memory when a function is given.
    expect(GuardedMemory.from(() => exports.memory.buffer, { address })).toBe(guarded)
    guarded.map(region, { allocator: exports }).unmap()
  })

  test('that has no room gives 0, and nothing is mapped', async () => {
    const exports = await makeModule(address)
    const guarded = GuardedMemory.from(exports.memory)
    const region = keep(HostRegion.allocate(5 * GiB))
    guarded.map(region, { allocator: exports, byteLength: 3 * GiB }).unmap()
    const error = thrownBy(() => guarded.map(region, { allocator: exports, byteLength: 2 * GiB }))
    expectError(error, { code: 'ERR_HOSTMAP_ALLOCATOR_FAILED', says: [/malloc/] })
    expect(mappingsOf(region)).toEqual([])
    expect(exports.frees.value).toBe(1)
  })
})

describe('an allocator', () => {
  const memory = () => new GuardedMemory({ initial: 64, maximum: 128 })
  const oneMiB = () => keep(HostRegion.copyFrom(noise(MiB)))

  test('may give addresses over 2 GiB as negative numbers', async () => {
    const guarded = new GuardedMemory({ initial: 65_536 })
    const region = oneMiB()
    const allocator = scripted(-2 * MiB + 8)
    const mapping = guarded.map(region, { allocator })
    expect(mapping.address).toBe(4 * GiB - 2 * MiB + HOST_PAGE)
    expect(mapping.pointer).toBe(mapping.address)
    mapping.unmap()
    // As it came.
    expect(allocator.calls.map(([name, value]) => [name, name === 'free' ? value : null])).toEqual([
      ['malloc', null],
      ['free', -2 * MiB + 8]
    ])
  })

  test('is asked for enough that whole pages are in any block', () => {
    for (const misalignment of [0, 1, 8, HOST_PAGE - 1]) {
      const guarded = memory()
      const allocator = scripted(MiB + misalignment)
      const mapping = guarded.map(oneMiB(), { allocator, byteLength: 3 * HOST_PAGE - 5 })
      const [[, requested]] = allocator.calls
      expect(mapping.address).toBeGreaterThanOrEqual(MiB + misalignment)
      expect(mapping.address + 3 * HOST_PAGE).toBeLessThanOrEqual(MiB + misalignment + requested)
    }
  })

  test('may fail to free with an error of any kind: that comes as it is', () => {
    const thrown = new (class extends Error {
      get message() {
        throw new Error('asked for')
      }
    })()
    const allocator = {
      ...scripted(MiB),
      free: () => {
        throw thrown
      }
    }
    const mapping = memory().map(oneMiB(), { allocator })
    expect(thrownBy(() => mapping.unmap())).toBe(thrown)
    expect(mapping.unmapped).toBe(true)
    mapping.unmap()
  })

  // malloc's argument has 32 bits: 2^32 would come as 0, and the block as an empty one.
  test('is never asked for more than a 32-bit address can say', () => {
    const guarded = new GuardedMemory({ initial: 65_536 })
    const region = keep(HostRegion.allocate(8 * GiB))
    for (const byteLength of [4 * GiB - HOST_PAGE, 4 * GiB, 4 * GiB + MiB, 8 * GiB]) {
      const allocator = scripted(8, 8, 8)
      const error = thrownBy(() => guarded.map(region, { allocator, byteLength }))
      expectError(error, {
        code: ['ERR_HOSTMAP_ALLOCATOR_FAILED', 'ERR_HOSTMAP_MEMORY_FULL', 'ERR_OUT_OF_RANGE']
      })
      expect(allocator.calls).toEqual([])
    }
    expect(mappingsOf(region)).toEqual([])
  })

  test('gets back its block by the same free, whatever becomes of the object', () => {
    const allocator = scripted(MiB)
    const mapping = memory().map(oneMiB(), { allocator })
    const { calls } = allocator
    allocator.malloc = allocator.free = undefined
    mapping.unmap()
    expect(calls.at(-1)).toEqual(['free', MiB])
  })

  test.each([
    ['0', 0, false],
    ['a block past the end of the memory', 64 * WASM_PAGE, true],
    ['a block that ends past the end of the memory', 63 * WASM_PAGE, true],
    ['NaN', NaN, false],
    ['a fraction', MiB + 0.5, false],
    ['undefined', undefined, false],
    ['a string', '1048576', false],
    ['an address of another kind of memory', 2 ** 40, true]
  ])('that gives %s has failed, and nothing is mapped', (_, answer, isBlock) => {
    const guarded = memory()
    const region = oneMiB()
    const allocator = scripted(answer)
    const error = thrownBy(() => guarded.map(region, { allocator }))
    expectError(error, { code: 'ERR_HOSTMAP_ALLOCATOR_FAILED', says: [/malloc/] })
    expect(mappingsOf(region)).toEqual([])
    // What could be a block is given back; what can't be one is not handed to free.
    if (!isBlock) expect(allocator.calls).toHaveLength(1)
  })

  test('whose block overlaps a mapping has failed, and gets it back', () => {
    const guarded = memory()
    guarded.map(oneMiB(), { at: 2 * MiB })
    const region = oneMiB()
    const allocator = scripted(2 * MiB - HOST_PAGE)
    const error = thrownBy(() => guarded.map(region, { allocator }))
    expectError(error, { code: ['ERR_HOSTMAP_OVERLAP', 'ERR_HOSTMAP_ALLOCATOR_FAILED'] })
    expect(mappingsOf(region)).toEqual([])
    expect(allocator.calls.at(-1)).toEqual(['free', 2 * MiB - HOST_PAGE])
  })

  test.each([
    ['shared', true],
    ['detached', false]
  ])('gets nothing back that no memory has, where only an old buffer is known: %s', (_, shared) => {
    const hidden = new WebAssembly.Memory({ initial: 1, maximum: 2, shared })
    const guarded = GuardedMemory.from(hidden.buffer)
    hidden.grow(1)
    const allocator = scripted(-1)
    const error = thrownBy(() => guarded.map(oneMiB(), { allocator }))
    expectError(error, { code: ['ERR_HOSTMAP_ALLOCATOR_FAILED', 'ERR_HOSTMAP_MEMORY_HIDDEN'] })
    expect(allocator.calls.map(([name]) => name)).toEqual(['malloc'])
  })

  test('that throws ends the call with its own error', () => {
    const guarded = memory()
    const region = oneMiB()
    const trap = new Error('heap corrupted')
    const allocator = scripted(() => {
      throw trap
    })
    const error = thrownBy(() => guarded.map(region, { allocator }))
    expect([error, error.cause]).toContain(trap)
    expect(mappingsOf(region)).toEqual([])
  })

  // malloc is foreign code: it may call back into us.
  test('that closes the region gets its block back', () => {
    const guarded = memory()
    const region = oneMiB()
    const allocator = scripted(() => {
      region.close()
      return MiB
    })
    const error = thrownBy(() => guarded.map(region, { allocator }))
    expectError(error, { code: 'ERR_HOSTMAP_REGION_CLOSED' })
    expect(allocator.calls.at(-1)).toEqual(['free', MiB])
    expect(guarded.layout().ranges.map(({ kind }) => kind)).not.toContain('mapped')
  })

  test('that maps into the same block does not get two mappings there', () => {
    const guarded = memory()
    const region = oneMiB()
    const allocator = scripted(() => {
      guarded.map(region, { at: MiB, byteLength: HOST_PAGE })
      return MiB
    })
    const error = thrownBy(() => guarded.map(region, { allocator }))
    expectError(error, { code: ['ERR_HOSTMAP_OVERLAP', 'ERR_HOSTMAP_ALLOCATOR_FAILED'] })
    expect(allocator.calls.at(-1)).toEqual(['free', MiB])
    expect(mappingsOf(region)).toHaveLength(1)
  })

  test('that grows the memory sees its block mapped in the grown one', async () => {
    const guarded = memory()
    const guest = await probe(guarded.memory)
    const allocator = scripted(() => guarded.memory.grow(64) * WASM_PAGE)
    const mapping = guarded.map(oneMiB(), { allocator })
    expect(mapping.address).toBe(64 * WASM_PAGE)
    expect(guest.bytes(mapping.address, 100).equals(noise(100))).toBe(true)
    expect(guarded.byteLength).toBe(128 * WASM_PAGE)
  })

  test('whose free throws: the error is shown, and the mapping is gone all the same', () => {
    const guarded = memory()
    const region = oneMiB()
    const mapping = guarded.map(region, {
      allocator: {
        malloc: () => MiB,
        free() {
          throw new Error('double free')
        }
      }
    })
    expect(() => mapping.unmap()).toThrow()
    expect(mappingsOf(region)).toEqual([])
    expect(mapping.unmapped).toBe(true)
    mapping.unmap()
  })

  test('whose free unmaps once more does not loop', () => {
    const guarded = memory()
    let frees = 0
    const mapping = guarded.map(oneMiB(), {
      allocator: {
        malloc: () => MiB,
        free() {
          frees++
          mapping.unmap()
        }
      }
    })
    mapping.unmap()
    expect(frees).toBe(1)
  })
})

// A module that frees the blocks itself, as its engine does: blocks at pages, each with its size in
// the page before, and freed ones in a list that is in the blocks themselves, as every malloc's is.
const engineWat = `(module
  (memory (export "memory") 2 1024)
  (global $next (mut i32) (i32.const 65536))
  (global $free (export "freeList") (mut i32) (i32.const 0))
  (func (export "alignedAlloc") (param $length i32) (result i32)
    (local $block i32)
    (local.set $block (global.get $free))
    (if (local.get $block)
      (then
        (if (i32.ge_u (i32.load (i32.sub (local.get $block) (i32.const 4))) (local.get $length))
          (then
            (global.set $free (i32.load (local.get $block)))
            (return (local.get $block))))))
    (local.set $block (i32.add (global.get $next) (i32.const 4096)))
    (global.set $next (i32.add (local.get $block) (local.get $length)))
    (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
      (then
        (drop (memory.grow (i32.add (i32.div_u (local.get $length) (i32.const 65536)) (i32.const 2))))))
    (i32.store (i32.sub (local.get $block) (i32.const 4)) (local.get $length))
    (local.get $block))
  (func (export "free") (param $block i32)
    ;; The link to the next one, at both ends.
    (i32.store (local.get $block) (global.get $free))
    (i32.store
      (i32.sub
        (i32.add (local.get $block) (i32.load (i32.sub (local.get $block) (i32.const 4))))
        (i32.const 4))
      (local.get $block))
    (global.set $free (local.get $block)))
)`

describe("a block that its engine frees (owner: 'engine')", () => {
  const engine = async () => {
    const module = new WebAssembly.Module(await assemble(engineWat))
    const { exports } = new WebAssembly.Instance(module)
    const calls = []
    const allocator = {
      malloc: byteLength => (calls.push(['malloc', byteLength]), exports.alignedAlloc(byteLength)),
      free: address => calls.push(['free', address]),
      owner: 'engine'
    }
    const guarded = GuardedMemory.from(() => exports.memory.buffer)
    const read = (at, byteLength) => Buffer.from(exports.memory.buffer, at, byteLength)
    return { exports, calls, allocator, guarded, read }
  }
  const BYTES = 5 * HOST_PAGE - 100

  test('is exactly its pages, private, and unmap leaves it to the engine', async () => {
    const { calls, allocator, guarded, read } = await engine()
    const bytes = noise(BYTES)
    const mapping = guarded.map(keep(HostRegion.copyFrom(bytes)), { allocator })
    expect(calls).toEqual([['malloc', 5 * HOST_PAGE]])
    expect(mapping.access).toBe('private')
    expect(mapping.pointer).toBe(65536 + HOST_PAGE)
    expect(read(mapping.address, BYTES).equals(bytes)).toBe(true)
    mapping.unmap()
    guarded[Symbol.dispose]()
    expect(calls).toHaveLength(1)
    expect(read(mapping.address, BYTES).every(byte => byte === 0)).toBe(true)
  })

  test('may be freed and used again under its mapping: the region stays as it was', async () => {
    const { exports, allocator, guarded, read } = await engine()
    const bytes = noise(BYTES)
    const region = keep(HostRegion.copyFrom(bytes))
    const mapping = guarded.map(region, { allocator })
    const { pointer } = mapping
    exports.free(pointer)
    expect(exports.freeList.value).toBe(pointer)
    expect(mapping.strayWrites).toBe(0)
    expect(exports.alignedAlloc(3 * HOST_PAGE)).toBe(pointer)
    read(pointer + HOST_PAGE, 200).fill(7)
    const shown = mappingsOf(region).length

    // Now it is unmapped, later than the engine has freed it: what the engine wrote since is there.
    const before = Buffer.from(read(pointer, 2 * HOST_PAGE))
    const last = Buffer.from(read(pointer + 4 * HOST_PAGE, HOST_PAGE))
    mapping.unmap()
    expect([shown, mappingsOf(region).length]).toEqual([1, 0])
    expect(read(pointer, 2 * HOST_PAGE).equals(before)).toBe(true)
    expect(read(pointer + 4 * HOST_PAGE, HOST_PAGE).equals(last)).toBe(true)
    // What nobody wrote shows the region no more.
    expect(read(pointer + 2 * HOST_PAGE, 2 * HOST_PAGE).every(byte => byte === 0)).toBe(true)
    read(pointer, 5 * HOST_PAGE).fill(9)
    expect(Buffer.from(region.view()).equals(bytes)).toBe(true)
  })

  test('may be unmapped first, and freed by the engine then', async () => {
    const { exports, allocator, guarded } = await engine()
    const region = keep(HostRegion.copyFrom(noise(BYTES)))
    const mapping = guarded.map(region, { allocator })
    mapping.unmap()
    exports.free(mapping.pointer)
    expect(exports.alignedAlloc(5 * HOST_PAGE)).toBe(mapping.pointer)
    const again = guarded.map(region, { at: mapping.address })
    expect(again.access).toBe('readonly')
  })

  test.each(['readonly', 'shared'])("can't be %s, and malloc is not called", async access => {
    const { calls, allocator, guarded } = await engine()
    const region = keep(HostRegion.copyFrom(noise(BYTES)))
    expectError(
      thrownBy(() => guarded.map(region, { allocator, access })),
      { code: 'ERR_INVALID_ARG_VALUE', says: [/access/, /'private'/, /owner is 'engine'/, access] }
    )
    expect(calls).toEqual([])
  })

  test('must start at a page: else it goes back, and nothing is mapped', async () => {
    const guarded = new GuardedMemory({ initial: 64, maximum: 128 })
    const region = keep(HostRegion.copyFrom(noise(BYTES)))
    const allocator = { ...scripted(MiB + 8), owner: 'engine' }
    const { calls } = allocator
    expectError(
      thrownBy(() => guarded.map(region, { allocator })),
      { code: 'ERR_HOSTMAP_ALLOCATOR_FAILED', says: [/page/, /aligned_alloc/, /1048584/] }
    )
    expect(calls).toEqual([
      ['malloc', 5 * HOST_PAGE],
      ['free', MiB + 8]
    ])
    expect(mappingsOf(region)).toEqual([])
  })

  test('goes back where it overlaps a mapping', () => {
    const guarded = new GuardedMemory({ initial: 64, maximum: 128 })
    const region = keep(HostRegion.copyFrom(noise(BYTES)))
    guarded.map(region, { at: MiB + HOST_PAGE })
    const allocator = { ...scripted(MiB), owner: 'engine' }
    expectError(
      thrownBy(() => guarded.map(region, { allocator })),
      { code: 'ERR_HOSTMAP_OVERLAP' }
    )
    expect(allocator.calls.at(-1)).toEqual(['free', MiB])
  })

  test('is none for a window, and has two owners to choose from', () => {
    const guarded = new GuardedMemory({ initial: 64, maximum: 128 })
    const region = keep(HostRegion.copyFrom(noise(BYTES)))
    const allocator = { ...scripted(MiB), owner: 'engine' }
    expectError(
      thrownBy(() => guarded.window({ byteLength: HOST_PAGE, allocator })),
      { code: 'ERR_INVALID_ARG_VALUE', says: [/owner/, /window/] }
    )
    for (const owner of ['Engine', 'guest', '']) {
      expectError(
        thrownBy(() => guarded.map(region, { allocator: { ...allocator, owner } })),
        { code: 'ERR_INVALID_ARG_VALUE', says: [/allocator\.owner/, /'mapping' or 'engine'/] }
      )
    }
    expectError(
      thrownBy(() => guarded.map(region, { allocator: { ...allocator, owner: null } })),
      { code: 'ERR_INVALID_ARG_TYPE', says: [/allocator\.owner/] }
    )
    expect(allocator.calls).toEqual([])
    const mapping = guarded.map(region, { allocator: { ...allocator, owner: 'mapping' } })
    mapping.unmap()
    expect(allocator.calls.map(([name]) => name)).toEqual(['malloc', 'free'])
  })
})
