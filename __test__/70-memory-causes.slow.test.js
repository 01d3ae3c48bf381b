'use strict'

// V8 only says "could not allocate memory". The library says why. Each cause is brought about in a
// process of its own.

const { expectError } = require('./support/errors')
const { inChild } = require('./support/child')

test('the address space is divided among memories: ERR_HOSTMAP_ADDRESS_SPACE', async () => {
  const { error, count, estimate, later } = await inChild(
    async ({ hostmap, failure, collect }) => {
      const { GuardedMemory, limits } = hostmap
      const estimate = limits().guardedMemoriesLeft
      const held = []
      const error = await failure(() => {
        for (;;) held.push(new GuardedMemory({ initial: 1 }))
      })
      const count = held.length
      // With room again, all is well.
      held.length = count - 100
      await collect()
      const later = new GuardedMemory({ initial: 1 }).guarded
      return { error, count, estimate, later }
    },
    { flags: ['--expose-gc'] }
  )
  expectError(error, { code: 'ERR_HOSTMAP_ADDRESS_SPACE', says: [/address space/] })
  // How many reservations it is divided into.
  expect(error.message).toMatch(/\d{4,}|\d+,\d{3}/)
  expect(count).toBeGreaterThan(5000)
  expect(Math.abs(estimate - count)).toBeLessThan(count / 20)
  expect(later).toBe(true)
})

test('ulimit -v leaves no room: ERR_HOSTMAP_RLIMIT_AS', async () => {
  const { error, count } = await inChild(
    async ({ hostmap, failure }) => {
      const held = []
      const error = await failure(() => {
        for (;;) held.push(new hostmap.GuardedMemory({ initial: 1 }))
      })
      return { error, count: held.length }
    },
    { ulimit: `-v ${36 * 2 ** 20}` }
  )
  expectError(error, { code: 'ERR_HOSTMAP_RLIMIT_AS', says: [/ulimit -v|RLIMIT_AS/] })
  expect(count).toBeGreaterThanOrEqual(2)
  expect(count).toBeLessThanOrEqual(4)
})

// What a memory makes accessible counts; what it reserves does not.
test('ulimit -d leaves no room: ERR_HOSTMAP_RLIMIT_DATA, for memories and their growth', async () => {
  const limitBytes = 1_500_000 * 1024
  const { made, grown, mapped, again } = await inChild(
    async ({ hostmap, failure, status }) => {
      const { GuardedMemory, HostRegion } = hostmap
      const MiB = 2 ** 20
      const PAGES = 8192
      const foreign = GuardedMemory.from(new WebAssembly.Memory({ initial: 1 }))
      const guarded = new GuardedMemory({ initial: 1 })
      guarded.map(HostRegion.allocate(512 * MiB), { access: 'readonly' })
      // All but what V8 needs for its own heap.
      const left = 1_500_000 * 1024 - status('VmData') - 256 * MiB
      globalThis.held = new GuardedMemory({ initial: Math.floor(left / 65536) })
      const tell = async call => {
        const { code, name, message } = await failure(call)
        return { code, name, message, used: status('VmData') }
      }
      const made = await tell(() => new GuardedMemory({ initial: PAGES }))
      const grown = await tell(() => foreign.grow(PAGES))
      // What is read-only is writable while V8 grows the memory.
      const mapped = await tell(() => guarded.grow(1))
      return { made, grown, mapped, again: foreign.grow(16) }
    },
    { ulimit: '-d 1500000' }
  )
  for (const error of [made, grown, mapped]) {
    expectError(error, {
      code: 'ERR_HOSTMAP_RLIMIT_DATA',
      says: [/RLIMIT_DATA/, /ulimit -d/, String(limitBytes)]
    })
    const [, asked, used] = error.message.match(/: (\d+) bytes .* has (\d+) of/).map(Number)
    expect(asked + used).toBeGreaterThan(limitBytes)
    expect(Math.abs(used - error.used)).toBeLessThan(64 * 2 ** 20)
  }
  expect(mapped.message).toContain(String(2 ** 29 + 65536))
  expect(again).toBe(1)
})

// V8 itself ends the process where it gets no mapping for its heap. The library must stop long
// before.
test('the mappings of the process run out: ERR_HOSTMAP_MAP_COUNT, and the process lives on', async () => {
  const found = await inChild(async ({ hostmap, failure, probe }) => {
    const { GuardedMemory, HostRegion, limits } = hostmap
    const region = HostRegion.copyFrom(Buffer.alloc(4096, 7))
    const page = limits().pageSize
    const guarded = new GuardedMemory({ initial: 65_536 })
    const guest = await probe(guarded.memory)
    const mappings = []
    // Every other page, so that no two mappings are neighbours and become one.
    const error = await failure(() => {
      for (let at = 0; ; at += 2 * page) mappings.push(guarded.map(region, { at }))
    })
    const count = mappings.length
    // A view needs fewer of them than a mapping may need.
    const views = []
    const viewError = await failure(() => {
      for (;;) views.push(region.view())
    })
    const {
      mapCount: { used, limit },
      guardedMemoriesLeft
    } = limits()
    const memoryError = await failure(() => new GuardedMemory({ initial: 1 }))

    // V8 gets what it needs: heap, code, threads' stacks.
    const heap = Array.from({ length: 200 }, (_, i) => new Array(50_000).fill(i))
    const alive =
      heap.length === 200 &&
      mappings.every(({ address }) => guest.load8(address + page - 1) === 7) &&
      (await probe(new WebAssembly.Memory({ initial: 1 }))).size() === 1

    for (const mapping of mappings.splice(0, 1000)) mapping.unmap()
    const again = (guarded.map(region, { at: 0 }), new Uint8Array(region.view())[0])
    const errors = { error, viewError, memoryError }
    return { ...errors, used, limit, guardedMemoriesLeft, count, alive, again }
  })
  const { error, viewError, memoryError, used, limit, count, alive, again } = found
  expectError(error, { code: 'ERR_HOSTMAP_MAP_COUNT', says: [/max_map_count/, String(limit)] })
  expectError(viewError, { code: 'ERR_HOSTMAP_MAP_COUNT', says: /max_map_count/ })
  expectError(memoryError, { code: 'ERR_HOSTMAP_MAP_COUNT', says: /max_map_count/ })
  expect(found.guardedMemoriesLeft).toBe(0)
  expect(count).toBeGreaterThan(limit / 4)
  expect(used).toBeLessThan(limit)
  expect(alive).toBe(true)
  expect(again).toBe(7)
})
