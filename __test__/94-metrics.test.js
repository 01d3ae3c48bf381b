'use strict'

// metrics(): what is counted, in which thread, and how it reads as Prometheus's text.

const { subscribe, unsubscribe } = require('node:diagnostics_channel')
const { GuardedMemory, HostRegion, InstancePool, metrics } = require('..')
const { inChild } = require('./support/child')
const { nextWarning } = require('./support/warnings')
const { assemble } = require('./support/wasm')
const { TestWorker } = require('./support/worker')

const WASM_PAGE = 65_536

/** What changes in the metrics while `body` runs: the differences that are not 0. */
async function changesOf(body) {
  const before = flat(metrics())
  await body()
  const after = flat(metrics())
  const names = Object.keys(after).filter(name => after[name] !== before[name])
  return Object.fromEntries(names.map(name => [name, after[name] - before[name]]))
}

const flat = (object, prefix = '') =>
  Object.assign(
    {},
    ...Object.entries(object).map(([key, value]) =>
      typeof value === 'number' ? { [prefix + key]: value } : flat(value, `${prefix}${key}.`)
    )
  )

describe('counts', () => {
  test('of mappings, windows, slides and growths', async () => {
    const region = HostRegion.allocate(2 * WASM_PAGE)
    const memory = new GuardedMemory({ initial: 1, maximum: 9 })
    let mapping
    let window
    expect(
      await changesOf(() => {
        mapping = memory.map(region, { at: 0, byteLength: 4097 })
      })
    ).toEqual({ mappings: 1, mappingBytes: 8192, mapped: 1 })
    expect(
      await changesOf(() => {
        window = memory.window({ byteLength: WASM_PAGE })
      })
    ).toEqual({
      windows: 1,
      windowBytes: WASM_PAGE,
      windowsOpened: 1,
      growths: 1,
      grownBytes: WASM_PAGE
    })
    const slides = await changesOf(() => {
      window.slide(region, 0)
      window.slide(null)
      for (const { byteLength } of window.chunks(region)) expect(byteLength).toBe(WASM_PAGE)
    })
    expect(slides).toEqual({ slides: 4 })
    expect(await changesOf(() => [mapping, window].forEach(it => it.unmap()))).toEqual({
      mappings: -1,
      mappingBytes: -8192,
      windows: -1,
      windowBytes: -WASM_PAGE,
      unmapped: 2
    })
    // What fails is none.
    const failed = await changesOf(() => {
      expect(() => memory.map(region, { at: 99 * WASM_PAGE })).toThrow()
      expect(() => memory.grow(99)).toThrow()
    })
    expect(failed).toEqual({})
  })

  test('of adopted buffers, which are mappings', () => {
    const guarded = new GuardedMemory({ initial: 1 })
    const before = metrics()
    const adopted = guarded.adopt(new ArrayBuffer(100))
    const meanwhile = metrics()
    expect(meanwhile.mappings).toBe(before.mappings + 1)
    expect(meanwhile.mappingBytes).toBeGreaterThanOrEqual(before.mappingBytes + 100)
    expect(meanwhile.mapped).toBe(before.mapped + 1)
    adopted.release()
    const { mappings, mappingBytes, unmapped } = metrics()
    expect({ mappings, mappingBytes }).toEqual({
      mappings: before.mappings,
      mappingBytes: before.mappingBytes
    })
    expect(unmapped).toBe(before.unmapped + 1)
  })

  test('of regions and snapshots, and their bytes', async () => {
    let region
    expect(
      await changesOf(() => {
        region = HostRegion.allocate(12_345)
      })
    ).toEqual({ regions: 1, regionBytes: 12_345, regionsMade: 1 })
    const memory = new GuardedMemory({ initial: 4 })
    const bytes = new Uint8Array(memory.buffer)
    bytes[0] = bytes[WASM_PAGE] = 1
    let snapshot
    const { snapshotBytes, ...taken } = await changesOf(() => {
      snapshot = memory.snapshot()
    })
    expect(taken).toEqual({ snapshots: 1, snapshotsMade: 1 })
    expect(snapshotBytes).toBeGreaterThanOrEqual(2 * 4096)
    expect(snapshotBytes).toBeLessThanOrEqual(4 * WASM_PAGE)
    memory.restore(snapshot)
    const {
      copiedPages = 0,
      droppingRestores = 0,
      ...restored
    } = await changesOf(() => {
      for (let page = 0; page < 5; page++) bytes[page * 4096] = 2
      memory.restore(snapshot)
    })
    expect(restored).toEqual({ restores: 1 })
    // Where the kernel tells which pages were written; else they were dropped.
    if (droppingRestores === 0) expect(copiedPages).toBe(5)
    const many = memory.snapshot({ keepResidentBytes: 4096 })
    memory.restore(many)
    const dropped = await changesOf(() => {
      for (let page = 0; page < 5; page++) bytes[page * 4096] = 3
      memory.restore(many)
    })
    expect(dropped).toMatchObject({ restores: 1, droppingRestores: 1 })
    expect(
      await changesOf(() => {
        region.close()
        snapshot.close()
      })
    ).toEqual({ regions: -1, regionBytes: -12_345, snapshots: -1, snapshotBytes: -snapshotBytes })
    expect(await changesOf(() => memory.reset())).toMatchObject({ resets: 1 })
  })

  test('of pools', async () => {
    const wasm = await assemble('(module (memory (export "memory") 1))')
    let pool
    expect(
      await changesOf(async () => {
        pool = await InstancePool.create(wasm, { size: 2, max: 2 })
      })
    ).toMatchObject({ 'pool.made': 2 })
    const used = await changesOf(async () => {
      const [first, second] = [await pool.acquire(), await pool.acquire()]
      const third = pool.acquire()
      first.release()
      second.discard()
      ;(await third).release()
    })
    expect(used).toMatchObject({
      'pool.acquired': 3,
      'pool.waited': 1,
      'pool.released': 2,
      'pool.discarded': 1,
      restores: 2
    })
    const stats = pool.stats()
    expect([stats.acquired, stats.discarded, stats.created]).toEqual([3, 1, 2])
    pool.close()
  })

  test.each([
    ['a module', wasm => [wasm, { size: 2, max: 2 }]],
    [
      'a factory',
      wasm => [
        { make: async () => (await WebAssembly.instantiate(wasm)).instance, size: 2, max: 2 }
      ]
    ]
  ])('of pools of %s that are closed while instances are lent', async (_, source) => {
    const given = source(await assemble('(module (memory (export "memory") 1))'))
    const actions = []
    const onPool = ({ action }) => actions.push(action)
    subscribe('wasm-hostmap:pool', onPool)
    const used = await changesOf(async () => {
      const pool = await InstancePool.create(...given)
      const [first, second] = [await pool.acquire(), await pool.acquire()]
      pool.close()
      await first.release()
      await second.discard()
      expect(pool.stats()).toMatchObject({ size: 0, busy: 0 })
    }).finally(() => unsubscribe('wasm-hostmap:pool', onPool))
    // What was acquired is accounted for.
    expect(used).toMatchObject({ 'pool.acquired': 2, 'pool.released': 1, 'pool.discarded': 1 })
    expect(actions).toEqual(['make', 'make', 'acquire', 'acquire', 'release', 'discard'])
  })

  test('of faults, by cause and outcome', async () => {
    const store = await assemble(`(module (memory (import "" "memory") 1)
      (func (export "store") (param i32) (i32.store8 (local.get 0) (i32.const 1))))`)
    const region = HostRegion.allocate(WASM_PAGE)
    const memory = new GuardedMemory({ initial: 1 })
    memory.map(region, { at: 0 })
    const { instance } = await WebAssembly.instantiate(store, { '': { memory: memory.memory } })
    const bytes = new Uint8Array(memory.buffer)
    const faults = await changesOf(() => {
      bytes[0] = 1
      bytes[4096] = 1
      expect(() => instance.exports.store(8192)).toThrow(WebAssembly.RuntimeError)
    })
    await nextWarning()
    expect(faults).toEqual({ 'faults.readonly.private-page': 2, 'faults.readonly.trap': 1 })
  })

  test('of a worker are in them, also when it has ended', async () => {
    const worker = new TestWorker()
    await worker.run(() => {})
    const slides = ({ hostmap, state }, byteLength) => {
      const { GuardedMemory, HostRegion } = hostmap
      state.region ??= HostRegion.allocate(byteLength)
      state.window ??= new GuardedMemory({ initial: 1 }).window({ byteLength })
      for (let i = 0; i < 10; i++) state.window.slide(state.region, 0)
      return hostmap.metrics().slides
    }
    const run = () => worker.run(slides, WASM_PAGE)
    let there
    const first = await changesOf(async () => {
      there = await run()
    })
    expect(first).toMatchObject({ slides: 10, windows: 1, regions: 1 })
    // Both threads have the same numbers.
    expect(there).toBe(metrics().slides)
    expect(await changesOf(run)).toEqual({ slides: 10 })
    const before = metrics().slides
    await worker.end()
    expect(metrics().slides).toBe(before)
    // The next one counts on, in the same place.
    const next = new TestWorker()
    await next.run(slides, WASM_PAGE)
    expect(metrics().slides).toBe(before + 10)
    await next.end()
  })

  test('start at 0 in a process', async () => {
    const found = await inChild(({ hostmap }) => hostmap.metrics())
    expect(Object.values(flat(found)).every(value => value === 0)).toBe(true)
    expect(Object.keys(flat(found))).toEqual(Object.keys(flat(metrics())))
  })
})

describe('for exporters', () => {
  test('each number is a sample, with a name as Prometheus has it', () => {
    const now = metrics()
    const families = metrics.families()
    expect(families.flatMap(({ samples }) => samples)).toHaveLength(Object.keys(flat(now)).length)
    const names = families.map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
    for (const { name, type, help, unit } of families) {
      expect(name).toMatch(/^wasm_hostmap_[a-z]+(_[a-z]+)*$/)
      expect(name.endsWith('_total')).toBe(type === 'counter')
      expect(name.replace(/_total$/, '').endsWith('_bytes')).toBe(unit === 'bytes')
      expect(help).toMatch(/^[A-Z][^\n\\]+[^.]$/)
    }
    const valueOf = wanted => families.find(({ name }) => name === wanted).samples[0].value
    expect(valueOf('wasm_hostmap_slides_total')).toBe(now.slides)
    expect(valueOf('wasm_hostmap_snapshot_bytes')).toBe(now.snapshotBytes)
    expect(valueOf('wasm_hostmap_pool_waited_total')).toBe(now.pool.waited)
  })

  test('the text has a line for each sample', () => {
    const lines = metrics.prometheus().split('\n')
    expect(lines.pop()).toBe('')
    const samples = lines.filter(line => !line.startsWith('#'))
    expect(samples).toHaveLength(Object.keys(flat(metrics())).length)
    expect(lines).toContain('# TYPE wasm_hostmap_faults_total counter')
    for (const line of samples) {
      expect(line).toMatch(/^wasm_hostmap_[a-z_]+(\{cause="[a-z-]+",outcome="[a-z-]+"\})? \d+$/)
    }
  })
})
