'use strict'

// What the package tells by node:diagnostics_channel: what a message has, when it comes, and that
// nothing a listener does can break a call.

const { channel, subscribe, unsubscribe } = require('node:diagnostics_channel')
const { PerformanceObserver, performance } = require('node:perf_hooks')
const {
  GuardedMemory,
  HostRegion,
  InstancePool,
  Snapshot,
  instrumentGrowth,
  observe
} = require('..')
const { inChild } = require('./support/child')
const { atStackEnd } = require('./support/stack-end')
const { expectError, thrownBy } = require('./support/errors')
const { nextWarning } = require('./support/warnings')
const { assemble } = require('./support/wasm')
const { TestWorker } = require('./support/worker')

const WASM_PAGE = 65_536
const NAMES = ['map', 'unmap', 'slide', 'grow', 'restore', 'region', 'snapshot', 'pool', 'fault']

const subscribed = []
/** Calls `listener` with each message of a channel, until the test is over. */
function on(name, listener) {
  subscribe(`wasm-hostmap:${name}`, listener)
  subscribed.push([name, listener])
}
afterEach(() => {
  for (const [name, listener] of subscribed.splice(0)) unsubscribe(`wasm-hostmap:${name}`, listener)
})

/** All messages of all channels from now on, in order. */
function heard() {
  const messages = []
  for (const name of NAMES) on(name, message => messages.push({ ...message, channel: name }))
  return messages
}

/** Without its times, which must be sensible. */
function untimed({ startTime, duration, ...message }) {
  expect(startTime).toBeGreaterThan(0)
  expect(startTime).toBeLessThanOrEqual(performance.now())
  expect(duration).toBeGreaterThanOrEqual(0)
  return message
}

const shown = messages => messages.splice(0).map(untimed)

describe('messages', () => {
  test('of a mapping, a window, and growth', () => {
    const region = HostRegion.allocate(4 * WASM_PAGE)
    const memory = new GuardedMemory({ initial: 1 })
    const messages = heard()

    const mapping = memory.map(region, { at: 0, byteOffset: 8192, byteLength: 4096 })
    const common = { memory, region, kind: 'mapping', mapping, access: 'readonly' }
    const mapped = { ...common, address: 0, byteLength: 4096, byteOffset: 8192 }
    expect(shown(messages)).toEqual([{ channel: 'map', ...mapped }])
    mapping.unmap()
    expect(shown(messages)).toEqual([{ channel: 'unmap', ...mapped }])
    // It is told once.
    mapping.unmap()
    expect(messages).toEqual([])

    const window = memory.window({ byteLength: WASM_PAGE, access: 'private' })
    expect(shown(messages)).toEqual([
      { channel: 'grow', by: 'host', memory, byteLength: 2 * WASM_PAGE, grownBytes: WASM_PAGE },
      {
        channel: 'map',
        kind: 'window',
        mapping: window,
        memory,
        access: 'private',
        address: WASM_PAGE,
        byteLength: WASM_PAGE,
        region: null,
        byteOffset: 0
      }
    ])
    window.slide(region, 5000, { byteLength: 100 })
    const slid = { channel: 'slide', window, memory, region, byteOffset: 5000, byteLength: 100 }
    expect(shown(messages)).toEqual([slid])
    window.slide(null)
    const nothing = { region: null, byteOffset: 0, byteLength: 0 }
    expect(shown(messages)).toEqual([{ ...slid, ...nothing }])
    window.slide(region, 4096)
    shown(messages)
    window.unmap()
    expect(shown(messages)).toMatchObject([
      { channel: 'unmap', kind: 'window', mapping: window, region, byteOffset: 4096 }
    ])

    memory.grow(1)
    memory.grow(0)
    expect(shown(messages)).toEqual([
      { channel: 'grow', by: 'host', memory, byteLength: 3 * WASM_PAGE, grownBytes: WASM_PAGE }
    ])
  })

  test('of a module that grows its memory', async () => {
    const wasm = await assemble(`(module (memory (export "memory") 1 9)
      (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))`)
    const instance = await instrumentGrowth(wasm).instantiate({})
    const memory = GuardedMemory.from(instance.exports.memory)
    const messages = heard()
    expect(instance.exports.grow(2)).toBe(1)
    // Refused.
    expect(instance.exports.grow(100)).toBe(-1)
    // Asks for the size.
    expect(instance.exports.grow(0)).toBe(3)
    expect(shown(messages)).toEqual([
      {
        channel: 'grow',
        by: 'module',
        memory,
        byteLength: 3 * WASM_PAGE,
        grownBytes: 2 * WASM_PAGE
      }
    ])
  })

  test('of regions and snapshots, restores and resets', async () => {
    const messages = heard()
    const region = HostRegion.allocate(4096)
    const other = HostRegion.receive(region.share())
    other.close()
    other.close()
    expect(shown(messages)).toEqual([
      { channel: 'region', action: 'made', region, how: 'allocate' },
      { channel: 'region', action: 'made', region: other, how: 'receive' },
      { channel: 'region', action: 'closed', region: other, how: null }
    ])

    const memory = new GuardedMemory({ initial: 2 })
    const bytes = new Uint8Array(memory.buffer)
    bytes[0] = 1
    const snapshot = memory.snapshot({ name: 'start' })
    memory.restore(snapshot)
    for (let page = 0; page < 3; page++) bytes[page * 8192] = 7
    memory.restore(snapshot)
    memory.reset()
    snapshot.close()
    const restored = { channel: 'restore', memory, byteLength: 2 * WASM_PAGE }
    const found = shown(messages)
    expect(found).toMatchObject([
      { channel: 'snapshot', action: 'made', snapshot, how: 'take' },
      { ...restored, snapshotName: 'start' },
      { ...restored, snapshotName: 'start' },
      { ...restored, snapshotName: null },
      { channel: 'snapshot', action: 'closed', snapshot, how: null }
    ])
    // Where the kernel tells which pages were written.
    expect([0, 3]).toContain(found[2].copiedPages)
  })

  test('of a pool, with how long its users waited', async () => {
    const wasm = await assemble('(module (memory (export "memory") 1))')
    const messages = []
    on('pool', message => messages.push(message))
    const pool = await InstancePool.create(wasm, { max: 1 })
    const first = await pool.acquire()
    const waiting = pool.acquire()
    await new Promise(resolve => setTimeout(resolve, 2))
    const before = performance.now()
    first.release()
    const second = await waiting
    second.discard()
    const third = await pool.acquire()
    third.exports.memory.grow(1)
    third.release()
    pool.close()
    expect(messages.map(({ action }) => action)).toEqual([
      'make',
      'acquire',
      'release',
      'acquire',
      'discard',
      'make',
      'acquire',
      'discard'
    ])
    for (const message of messages) expect(untimed(message).pool).toBe(pool)
    // From the call of acquire on.
    expect(messages[3].startTime).toBeLessThan(before)
    const [byUser, byPool] = messages.filter(({ action }) => action === 'discard')
    expect(byUser.failure).toBe(null)
    expect(byPool.failure).toMatchObject({ code: 'ERR_HOSTMAP_NOT_RESTORABLE' })
  })

  test('of the first fault of a kind in a mapping', async () => {
    const region = HostRegion.allocate(WASM_PAGE, { name: 'prices' })
    const memory = new GuardedMemory({ initial: 1 })
    const mapping = memory.map(region, { at: 0 })
    const bytes = new Uint8Array(memory.buffer)
    const told = new Promise(resolve => on('fault', resolve))
    bytes[4097] = 1
    bytes[9] = 1
    expect(await nextWarning()).toMatchObject({ code: 'HOSTMAP_STRAY_WRITE' })
    const { startTime, ...message } = await told
    expect(startTime).toBeGreaterThan(0)
    expect(message).toMatchObject({
      kind: 'stray-write',
      where: 'mapping',
      name: 'prices',
      address: 0,
      byteLength: WASM_PAGE,
      access: 'readonly',
      byteOffset: 9
    })
    expect(mapping.strayWrites).toBe(2)
  })

  test('come in the thread that makes the change, and in no other', async () => {
    const messages = heard()
    const worker = new TestWorker()
    const there = await worker.run(({ hostmap }) => {
      const actions = []
      const { subscribe } = process.getBuiltinModule('node:diagnostics_channel')
      subscribe('wasm-hostmap:region', ({ action }) => actions.push(action))
      hostmap.HostRegion.allocate(4096).close()
      return actions
    })
    await worker.end()
    expect(there).toEqual(['made', 'closed'])
    expect(messages).toEqual([])
  })
})

describe('a listener', () => {
  test('may unmap what was just mapped, and map again', () => {
    const region = HostRegion.allocate(WASM_PAGE)
    const memory = new GuardedMemory({ initial: 1 })
    let isFirst = true
    let other
    on('map', ({ mapping }) => {
      if (!isFirst) return
      isFirst = false
      mapping.unmap()
      other = memory.map(region, { at: mapping.address })
    })
    const mapping = memory.map(region, { at: 0 })
    expect(mapping.unmapped).toBe(true)
    expect(memory.mappings).toHaveLength(1)
    expect(memory.mappings[0]).toBe(other)
  })

  test('of a growth finds the mapping that it was for', () => {
    const region = HostRegion.allocate(WASM_PAGE)
    const memory = new GuardedMemory({ initial: 1 })
    const seen = []
    on('grow', () => {
      seen.push(memory.mappings.length)
      if (seen.length === 1) memory.map(region)
    })
    const mapping = memory.map(region)
    expect(seen).toEqual([1, 2])
    expect(memory.mappings).toHaveLength(2)
    expect(memory.mappings[0]).toBe(mapping)
  })

  test('hears of no growth that was refused, and of one by reserve', async () => {
    const memory = new GuardedMemory({ initial: 1, maximum: 3 })
    const messages = heard()
    expectError(await thrownBy(() => memory.reserve(3 * WASM_PAGE)), {
      code: 'ERR_HOSTMAP_MEMORY_FULL'
    })
    expect(messages).toEqual([])
    memory.reserve(2 * WASM_PAGE)
    expect(shown(messages)).toMatchObject([{ channel: 'grow', grownBytes: 2 * WASM_PAGE }])
  })

  test('may go on with the source whose step it hears of', () => {
    const region = HostRegion.allocate(4 * WASM_PAGE)
    const memory = new GuardedMemory({ initial: 1 })
    const window = memory.window({ byteLength: WASM_PAGE })
    const source = window.source(region, { chunk: WASM_PAGE })
    const starts = []
    on('slide', ({ byteOffset }) => {
      starts.push(byteOffset)
      if (starts.length === 1) source.next()
    })
    while (source.next() > 0);
    expect(starts).toEqual([0, 1, 2, 3].map(step => step * WASM_PAGE))
  })

  test('may close the pool that it hears of', async () => {
    const pool = await InstancePool.create(await assemble('(module (memory (export "memory") 1))'))
    on('pool', ({ action }) => action === 'release' && pool.close())
    const leased = await pool.acquire()
    leased.release()
    expect(pool.stats()).toMatchObject({ size: 0, idle: 0, busy: 0, discarded: 0 })
  })

  test('finds globals back, too, when it hears of a restore', async () => {
    const wasm = await assemble(`(module (memory (export "memory") 1)
      (global (export "count") (mut i32) (i32.const 1)))`)
    const { exports } = await WebAssembly.instantiate(wasm).then(({ instance }) => instance)
    const memory = GuardedMemory.from(exports.memory)
    const snapshot = memory.snapshot({ globals: exports })
    const seen = []
    on('restore', () => seen.push(exports.count.value))
    exports.count.value = 5
    memory.restore(snapshot)
    expect(seen).toEqual([1])
  })

  test('that throws is told to the process, and breaks no call', async () => {
    const result = await inChild(async ({ hostmap, require }) => {
      const { subscribe } = require('node:diagnostics_channel')
      const uncaught = []
      process.on('uncaughtException', ({ message }) => uncaught.push(message))
      const order = []
      subscribe('wasm-hostmap:map', () => {
        throw new Error('a mistake')
      })
      subscribe('wasm-hostmap:map', () => order.push('second'))
      const memory = new hostmap.GuardedMemory({ initial: 1 })
      const mapping = memory.map(hostmap.HostRegion.allocate(4096), { at: 0 })
      await new Promise(resolve => setImmediate(resolve))
      return { uncaught, order, mapped: !mapping.unmapped, count: memory.mappings.length }
    })
    expect(result).toEqual({
      uncaught: ['a mistake'],
      order: ['second'],
      mapped: true,
      count: 1
    })
  })

  test('hears of each mapping at the end of the stack, if later, and of no other', async () => {
    const region = HostRegion.allocate(4096)
    const memory = new GuardedMemory({ initial: 1 })
    const told = { map: 0, unmap: 0 }
    on('map', () => told.map++)
    on('unmap', () => told.unmap++)
    const done = { map: 0, unmap: 0 }
    for (let padding = 0; padding < 16; padding++) {
      let mapping
      atStackEnd(padding, () => {
        mapping ??= memory.map(region, { at: 0 })
      })
      done.map += 1
      atStackEnd(padding, () => mapping.unmap())
      done.unmap += 1
      expect(memory.mappings).toEqual([])
    }
    // Where the stack has no room for a listener, it is told when it has.
    expect(told.map).toBeLessThan(done.map)
    await null
    expect(told).toEqual(done)
  })
})

test('nobody listens, and nothing is told or kept', () => {
  for (const name of NAMES) expect(channel(`wasm-hostmap:${name}`).hasSubscribers).toBe(false)
  const { pending } = require('./support/native').events
  const memory = new GuardedMemory({ initial: 1 })
  memory.map(HostRegion.allocate(4096), { at: 0 }).unmap()
  expect(pending).toEqual([])
})

describe('observe', () => {
  /** The next entries of these names. */
  function entriesOf(count) {
    const found = []
    return new Promise(resolve => {
      const observer = new PerformanceObserver(list => {
        found.push(...list.getEntries())
        if (found.length < count) return
        observer.disconnect()
        resolve(found)
      })
      observer.observe({ type: 'measure' })
    })
  }

  test('makes measures of changes, which the timeline does not keep', async () => {
    const memory = new GuardedMemory({ initial: 1 })
    const region = HostRegion.allocate(4096)
    performance.measure('mine')
    const observation = observe({ performance: true })
    const entries = entriesOf(2)
    memory.map(region, { at: 0 }).unmap()
    const found = await entries
    expect(found.map(({ name }) => name)).toEqual(['wasm-hostmap:map', 'wasm-hostmap:unmap'])
    expect(found[0].detail).toEqual({
      kind: 'mapping',
      address: 0,
      byteLength: 4096,
      byteOffset: 0
    })
    expect(found[0].duration).toBeGreaterThanOrEqual(0)
    expect(performance.getEntriesByType('measure').map(({ name }) => name)).toEqual(['mine'])
    performance.clearMeasures('mine')
    observation.stop()
    observation.stop()
    expect(channel('wasm-hostmap:map').hasSubscribers).toBe(false)
  })

  test('measures only if it is asked to', async () => {
    const observation = observe()
    expect(channel('wasm-hostmap:map').hasSubscribers).toBe(false)
    observation[Symbol.dispose]()
    expectError(await thrownBy(() => observe({ performance: 1 })), { code: 'ERR_INVALID_ARG_TYPE' })
    expectError(await thrownBy(() => observe({ perf: true })), { code: 'ERR_INVALID_ARG_VALUE' })
  })
})

test('a snapshot of an instance is told when it is complete', async () => {
  const wasm = await assemble('(module (memory (export "memory") 1))')
  const { instance } = await WebAssembly.instantiate(wasm)
  const closed = []
  on('snapshot', ({ snapshot, how }) => closed.push(how, snapshot.closed))
  const snapshot = Snapshot.of(instance)
  expect(closed).toEqual(['take', false])
  snapshot.restoreTo(instance)
})
