'use strict'

// Where memories begin: at an address where huge pages fit, whatever is above it.

const { GuardedMemory, InstancePool } = require('..')
const { baseOf } = require('./support/memories')
const { WASM_PAGE, assemble, hasMemory64 } = require('./support/wasm')

const MiB = 2 ** 20
const ATTEMPTS = 10

// Kept to the end, memories too: what comes next would be where they were.
const kept = []

/** Makes the address space above the next memory end somewhere else, at no multiple of 2 MiB. */
const disturb = () => kept.push(new ArrayBuffer(64 * MiB + WASM_PAGE))

// Other threads may map something between the moment when the place is chosen and that when V8
// takes it.
function expectMostAtHugePages(memories) {
  expect(memories).toHaveLength(ATTEMPTS)
  kept.push(...memories)
  const atHugePages = memories.filter(guarded => baseOf(guarded) % (2 * MiB) === 0)
  expect(atHugePages.length).toBeGreaterThan(ATTEMPTS / 2)
}

const KINDS = {
  'a memory': { initial: 1 },
  'a shared memory': { initial: 1, maximum: 2, shared: true },
  ...(hasMemory64 ? { 'a 64-bit memory': { initial: 1n, address: 'i64' } } : {})
}

test.each(Object.keys(KINDS))('%s begins where huge pages do, whatever is above it', name => {
  const memories = []
  while (memories.length < ATTEMPTS) {
    disturb()
    memories.push(new GuardedMemory(KINDS[name]))
  }
  expectMostAtHugePages(memories)
})

test('so do those of the instances of a pool', async () => {
  const program = await assemble('(module (memory (export "memory") 1))')
  const imports = () => {
    disturb()
    return {}
  }
  const pool = await InstancePool.create(program, { size: ATTEMPTS, max: ATTEMPTS, imports })
  const leased = await Promise.all(Array.from({ length: ATTEMPTS }, () => pool.acquire()))
  expectMostAtHugePages(leased.map(({ memory }) => memory))
  pool.close()
})

afterAll(() => {
  kept.length = 0
})
