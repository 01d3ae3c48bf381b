'use strict'
const assert = require('node:assert/strict')
const path = require('node:path')
const test = require('node:test')
const { runUnder } = require('./support.cjs')

/* eslint-disable no-undef -- the functions run in another process */

test("a memory has JavaScriptCore's guards, 4 GiB and a red zone from its base on", () => {
  const answer = runUnder([], ({ GuardedMemory, limits }) => {
    const make = descriptor => GuardedMemory.from(new WebAssembly.Memory(descriptor)).guarded
    return {
      all: [
        new GuardedMemory({ initial: 1 }).guarded,
        make({ initial: 0 }),
        make({ initial: 3, maximum: 9 }),
        make({ initial: 3, maximum: 9, shared: true })
      ],
      reserved: limits().wasm.reservationBytes32
    }
  })
  assert.deepEqual(answer, { all: [true, true, true, true], reserved: 2 ** 32 + 2 ** 23 })
})

test('a memory in the heap of JavaScriptCore is refused: it has guards for eight', () => {
  const answer = runUnder([], ({ GuardedMemory }, codeOf) => {
    const held = Array.from({ length: 9 }, () => new WebAssembly.Memory({ initial: 1 }))
    return held.map(memory => codeOf(() => GuardedMemory.from(memory)) ?? 'guarded')
  })
  assert.deepEqual(answer, [...Array(8).fill('guarded'), 'ERR_HOSTMAP_MEMORY_UNGUARDED'])
})

test('so are all where guards are off', () => {
  const answer = runUnder(
    [],
    ({ GuardedMemory }, codeOf) => [
      codeOf(() => new GuardedMemory({ initial: 1 })),
      codeOf(() => new GuardedMemory({ initial: 4096 })),
      codeOf(() => GuardedMemory.from(new WebAssembly.Memory({ initial: 1 }).buffer))
    ],
    { BUN_JSC_useWasmFastMemory: '0' }
  )
  assert.deepEqual(answer, [
    'ERR_HOSTMAP_MEMORY_UNGUARDED',
    'ERR_HOSTMAP_MEMORY_UNGUARDED',
    'ERR_HOSTMAP_NOT_WASM_MEMORY'
  ])
})

test('BUN_JSC_maxNumWasmFastMemories gives guards to more', () => {
  const answer = runUnder(
    [],
    ({ GuardedMemory }) =>
      Array.from({ length: 100 }, () => new GuardedMemory({ initial: 1 })).every(
        ({ guarded }) => guarded
      ),
    { BUN_JSC_maxNumWasmFastMemories: '1000' }
  )
  assert.equal(answer, true)
})

test('growth keeps a memory where it is, and mappings as they were', () => {
  const answer = runUnder([], ({ GuardedMemory, HostRegion }) => {
    const guarded = new GuardedMemory({ initial: 1 })
    const mapping = guarded.map(HostRegion.copyFrom(Buffer.alloc(65536, 7)))
    for (let round = 0; round < 50; round++) guarded.memory.grow(100)
    const bytes = new Uint8Array(guarded.buffer)
    const isThere = bytes[mapping.address] === 7 && bytes[mapping.address + 65535] === 7
    bytes[mapping.address] = 1
    return { isThere, strayWrites: mapping.strayWrites, byteLength: guarded.byteLength }
  })
  assert.deepEqual(answer, { isThere: true, strayWrites: 1, byteLength: 5002 * 65536 })
})

// What makes mapping safe: a memory's addresses go back to the kernel with the memory. In the heap
// they would be used again, with the file still behind them.
test('the pages of a collected memory are gone, and the next one is zeros', () => {
  const answer = runUnder([], async ({ GuardedMemory, HostRegion }) => {
    const fs = require('node:fs')
    const region = HostRegion.copyFrom(Buffer.alloc(65536, 7), { name: 'left-behind' })
    const mapped = () =>
      fs
        .readFileSync('/proc/self/maps', 'latin1')
        .split('\n')
        .filter(line => line.includes('left-behind')).length
    const turn = () => new Promise(resolve => setTimeout(resolve, 1))
    let dirty = 0
    let most = 0
    for (let round = 0; round < 60; round++) {
      const use = () => {
        const guarded = new GuardedMemory({ initial: 2 })
        const bytes = new Uint8Array(guarded.buffer)
        if (bytes.some(byte => byte !== 0)) dirty++
        guarded.map(region, { at: 65536, access: 'private' })
        new Uint8Array(guarded.buffer).fill(9)
        most = Math.max(most, mapped())
      }
      use()
      Bun.gc(true)
      await turn()
    }
    return { dirty, isFreed: most > 0 && most <= 8 }
  })
  assert.deepEqual(answer, { dirty: 0, isFreed: true })
})

test('a pool of a factory is refused, since Bun has no hooks', () => {
  const answer = runUnder([], ({ InstancePool }) =>
    InstancePool.create({ make: () => 1 }).catch(error => error.code)
  )
  assert.equal(answer, 'ERR_HOSTMAP_UNSUPPORTED_RUNTIME')
})

test('a paged region is refused, since its worker would never hear of touches', () => {
  const answer = runUnder([], async ({ HostRegion }) => {
    const codeOf = options => HostRegion.paged(options).catch(error => error.code)
    return [await codeOf({ provider: { module: 'provider.mjs' } }), await codeOf({ provider: {} })]
  })
  // What is wrong with the arguments is said first, as everywhere.
  assert.deepEqual(answer, ['ERR_HOSTMAP_UNSUPPORTED_RUNTIME', 'ERR_INVALID_ARG_VALUE'])
})

test('an executable by `bun build --compile` loads the binary next to it', async () => {
  const { APP, elsewhere, project, putBinary, run } = await import('../../bundlers/support.mjs')
  const at = project('bun', { 'app.mjs': APP })
  const alone = elsewhere()
  const app = path.join(alone, 'app')
  const built = await run(
    process.env.HOSTMAP_RUNTIME,
    ['build', '--compile', 'app.mjs', '--outfile', app],
    { cwd: at }
  )
  assert.equal(built.status, 0, built.stderr)
  const failed = await run(app, [], { cwd: alone })
  assert.match(failed.stderr, /ERR_HOSTMAP_LOAD_FAILED/)
  assert.match(failed.stderr, /next to the bundle: /)
  putBinary(alone)
  const ran = await run(app, [], { cwd: at })
  assert.deepEqual(ran, { status: 0, stdout: 'ELF function\n', stderr: '' })
})
