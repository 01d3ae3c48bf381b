'use strict'

// Snapshots of memories, and putting them back.

const { execFile } = require('node:child_process')
const path = require('node:path')
const { GuardedMemory, HostRegion, Snapshot, limits } = require('..')
const { native } = require('./support/native')
const {
  expectError,
  expectFailure,
  expectNothingNew,
  possessions,
  thrownBy
} = require('./support/errors')
const { noise } = require('./support/files')
const { inChild } = require('./support/child')
const { kinds } = require('./support/memories')
const { TestWorker } = require('./support/worker')
const { rounds } = require('./support/rounds')
const { WASM_PAGE, MiB, assemble, probe, test64 } = require('./support/wasm')
const { fdOf } = require('./support/procfs.js')

const PAGE = limits().pageSize

const bytesOf = guarded => Buffer.from(guarded.buffer)
const copyOf = guarded => Buffer.from(bytesOf(guarded))
const isZero = bytes => bytes.equals(Buffer.alloc(bytes.length))

/** What is in a memory, as the layout tells it. */
const standing = guarded =>
  guarded
    .layout()
    .ranges.filter(({ kind }) => kind === 'mapped')
    .map(({ start, end, access, region }) => [start, end, access, region?.name ?? null])

describe.each(kinds)('a $kind memory', ({ make, shared, grows }) => {
  const exclusive = shared
  test('is as it was after each restore, whatever was written', async () => {
    const { guarded, guest } = await make(20, 60)
    const before = noise(guarded.byteLength)
    before.fill(0, 3 * WASM_PAGE, 9 * WASM_PAGE)
    before.copy(bytesOf(guarded))
    const snapshot = guarded.snapshot({ exclusive })
    expect(snapshot.byteLength).toBe(guarded.byteLength)
    expect(snapshot.residentBytes).toBeLessThanOrEqual(15 * WASM_PAGE + 4 * PAGE)
    for (let round = 0; round < 4; round++) {
      bytesOf(guarded).fill(round + 1, round * WASM_PAGE, (round + 6) * WASM_PAGE)
      guest.store64(19 * WASM_PAGE - 4, 2n ** 63n - 1n)
      guarded.restore(snapshot, { exclusive })
      expect(copyOf(guarded).equals(before)).toBe(true)
    }
    snapshot.close()
    expect(copyOf(guarded).equals(before)).toBe(true)
  })

  test('has zeros beyond the snapshot, however it has grown', async () => {
    const { guarded, guest } = await make(2, 20)
    guest.store8(5, 7)
    const snapshot = guarded.snapshot({ exclusive })
    guarded.restore(snapshot, { exclusive })
    for (const grow of [() => guest.grow(1), () => grows && guarded.grow(2)]) {
      grow()
      const now = GuardedMemory.from(grows ? guarded.memory : guest.memory)
      bytesOf(now).fill(9)
      now.restore(snapshot, { exclusive })
      expect(guest.load8(5)).toBe(7)
      const bytes = copyOf(now)
      expect(bytes.length).toBe(guest.size() * WASM_PAGE)
      bytes[5] = 0
      expect(isZero(bytes)).toBe(true)
    }
  })

  test('is reset to zeros, shown snapshot or not', async () => {
    const { guarded } = await make(8, 8)
    const fill = () => bytesOf(guarded).fill(5)
    fill()
    const snapshot = guarded.snapshot({ exclusive })
    for (const keepResidentBytes of [undefined, 0, PAGE, 2 ** 40]) {
      for (let i = 0; i < 2; i++) {
        fill()
        guarded.reset({ exclusive, keepResidentBytes })
        expect(isZero(bytesOf(guarded))).toBe(true)
      }
      guarded.restore(snapshot, { exclusive })
      expect(bytesOf(guarded).every(byte => byte === 5)).toBe(true)
    }
  })
})

test('ways to write are found by a restore, whichever they are', async () => {
  const run = path.join(__dirname, 'snapshots/run.mjs')
  const patterns = String(rounds(60, 400))
  const stdout = await new Promise((resolve, reject) => {
    const options = { env: { ...process.env, NODE_OPTIONS: '' } }
    execFile(process.execPath, [run, '--patterns', patterns], options, (error, stdout, stderr) =>
      // Both hold what repeats it.
      error ? reject(new Error(`${stdout}\n${stderr}`)) : resolve(stdout)
    )
  })
  expect(stdout).toContain(`${patterns} patterns restored without a difference`)
})

test('goes into another memory, which grows for it, and into many', () => {
  const origin = new GuardedMemory({ initial: 40, maximum: 100 })
  noise(origin.byteLength, 5).copy(bytesOf(origin))
  const snapshot = origin.snapshot()
  for (const initial of [0, 1, 40, 60]) {
    const other = new GuardedMemory({ initial, maximum: 100 })
    bytesOf(other).fill(3)
    other.restore(snapshot)
    expect(other.byteLength).toBe(Math.max(initial, 40) * WASM_PAGE)
    expect(
      bytesOf(other).compare(bytesOf(origin), 0, origin.byteLength, 0, origin.byteLength)
    ).toBe(0)
    expect(isZero(bytesOf(other).subarray(origin.byteLength))).toBe(true)
    // What one writes is its own.
    bytesOf(other).fill(1, 0, PAGE)
    expect(origin.byteLength).toBe(snapshot.byteLength)
    expect(
      bytesOf(origin).subarray(0, PAGE).equals(noise(origin.byteLength, 5).subarray(0, PAGE))
    ).toBe(true)
  }
})

test('a memory of no page is kept as well', () => {
  const guarded = new GuardedMemory({ initial: 0, maximum: 4 })
  const snapshot = guarded.snapshot()
  expect(snapshot.byteLength).toBe(0)
  guarded.restore(snapshot)
  guarded.reset()
  guarded.grow(2)
  bytesOf(guarded).fill(1)
  guarded.restore(snapshot)
  expect(isZero(bytesOf(guarded))).toBe(true)
  expect(guarded.byteLength).toBe(2 * WASM_PAGE)
})

test('snapshots of restored memories hold what those showed, and come back in turn', () => {
  const guarded = new GuardedMemory({ initial: 10 })
  const kept = []
  for (let i = 0; i < 4; i++) {
    bytesOf(guarded).fill(i + 1, i * WASM_PAGE, (i + 3) * WASM_PAGE)
    kept.push({ snapshot: guarded.snapshot(), bytes: copyOf(guarded) })
    guarded.restore(kept.at(-1).snapshot)
    // The oldest one is not needed by those that were taken of memories that showed it.
    if (i === 2) kept.shift().snapshot.close()
  }
  for (const index of [0, 2, 1, 1, 2, 0]) {
    bytesOf(guarded).fill(200, 100, 300_000)
    guarded.restore(kept[index].snapshot)
    expect(bytesOf(guarded).equals(kept[index].bytes)).toBe(true)
  }
})

describe('mappings', () => {
  let constant, written, guarded
  beforeEach(() => {
    constant = HostRegion.copyFrom(noise(8 * PAGE, 2), { name: 'constant' })
    written = HostRegion.copyFrom(noise(8 * PAGE, 3), { name: 'written' })
    guarded = new GuardedMemory({ initial: 8, maximum: 40 })
  })
  afterEach(() => {
    constant.close()
    written.close()
  })

  test('stand again as they did: what shared ones wrote stays, what private ones wrote comes back', () => {
    guarded.map(constant, { at: 0 })
    guarded.map(constant, { at: 8 * PAGE, access: 'private' })
    guarded.map(written, { at: 16 * PAGE, access: 'shared' })
    const bytes = bytesOf(guarded)
    bytes[9 * PAGE] = 1
    const before = copyOf(guarded)
    const snapshot = guarded.snapshot()
    expect(snapshot.mappings).toEqual([
      {
        kind: 'mapping',
        address: 0,
        byteLength: 8 * PAGE,
        access: 'readonly',
        regionName: 'constant',
        byteOffset: 0
      },
      {
        kind: 'mapping',
        address: 8 * PAGE,
        byteLength: 8 * PAGE,
        access: 'private',
        regionName: 'constant',
        byteOffset: 0
      },
      {
        kind: 'mapping',
        address: 16 * PAGE,
        byteLength: 8 * PAGE,
        access: 'shared',
        regionName: 'written',
        byteOffset: 0
      }
    ])
    for (let round = 0; round < 3; round++) {
      bytes.fill(round, 8 * PAGE, 15 * PAGE)
      bytes[16 * PAGE + round] = before[16 * PAGE + round] ^ 255
      before[16 * PAGE + round] ^= 255
      const objects = guarded.mappings
      if (round === 1) for (const mapping of objects) mapping.unmap()
      guarded.restore(snapshot)
      expect(bytesOf(guarded).equals(before)).toBe(true)
      expect(guarded.mappings.map(({ access }) => access)).toEqual([
        'readonly',
        'private',
        'shared'
      ])
      // Those that stood are the same; what was unmapped is so for good.
      expect(
        guarded.mappings.every((mapping, i) => (mapping === objects[i]) === (round !== 1))
      ).toBe(true)
    }
    expect(Buffer.from(constant.view()).equals(noise(8 * PAGE, 2))).toBe(true)
  })

  test('of a window: what it showed, and it tells so', () => {
    const window = guarded.window({ byteLength: 4 * PAGE, at: 0, access: 'private' })
    window.slide(constant, PAGE + 5)
    bytesOf(guarded)[10] = 77
    const snapshot = guarded.snapshot()
    const told = () => [window.region, window.byteOffset, window.shownBytes, bytesOf(guarded)[10]]
    const before = told()
    for (const move of [
      () => window.slide(written, 3 * PAGE),
      () => window.slide(null),
      () => window.slide(constant, PAGE + 5),
      () => window.source(written).next(),
      () => (bytesOf(guarded)[10] = 1)
    ]) {
      move()
      guarded.restore(snapshot)
      expect(told()).toEqual(before)
    }
    window.unmap()
    guarded.restore(snapshot)
    const [again] = guarded.mappings
    expect([again.region, again.byteOffset, again.shownBytes, again.access]).toEqual([
      ...before.slice(0, 3),
      'private'
    ])
    again.slide(written)
    expect(bytesOf(guarded)[0]).toBe(noise(8 * PAGE, 3)[0])
    // An empty one.
    again.slide(null)
    const empty = guarded.snapshot()
    again.slide(written)
    guarded.restore(empty)
    expect([again.region, again.shownBytes]).toEqual([null, 0])
  })

  test('that have no place in the snapshot are in the way, and nothing changes', async () => {
    const kept = guarded.map(constant, { at: 0 })
    bytesOf(guarded)[20 * PAGE] = 1
    const snapshot = guarded.snapshot()
    bytesOf(guarded)[20 * PAGE] = 2
    const inTheWay = [
      () => guarded.map(constant, { at: 30 * PAGE }),
      () => guarded.window({ byteLength: PAGE, at: 30 * PAGE }),
      () => kept.unmap() ?? guarded.map(written, { at: 0 }),
      () => guarded.map(constant, { at: 0, access: 'private' }),
      () => guarded.map(constant, { at: PAGE, byteLength: PAGE }),
      () => guarded.map(constant, { at: 0, byteLength: PAGE }),
      () => guarded.map(constant, { at: 0, byteOffset: PAGE, byteLength: 7 * PAGE }),
      () => guarded.window({ byteLength: 8 * PAGE, at: 0 })
    ]
    for (const put of inTheWay) {
      const mapping = put()
      const before = standing(guarded)
      const says = [String(mapping.address), /unmap/]
      await expectFailure(() => guarded.restore(snapshot), { code: 'ERR_HOSTMAP_OVERLAP', says })
      expect(standing(guarded)).toEqual(before)
      expect(bytesOf(guarded)[20 * PAGE]).toBe(2)
      mapping.unmap()
    }
    guarded.restore(snapshot)
    expect(bytesOf(guarded)[20 * PAGE]).toBe(1)
    expect(standing(guarded)).toEqual([[0, 8 * PAGE, 'readonly', 'constant']])
  })

  test('mapped past the end again are not given away as free space', () => {
    const first = guarded.map(constant)
    const snapshot = guarded.snapshot()
    first.unmap()
    guarded.restore(snapshot)
    const second = guarded.map(written)
    expect(second.address).not.toBe(first.address)
    expect(standing(guarded).map(([, , , name]) => name)).toEqual(['constant', 'written'])
    guarded.mappings[0].unmap()
    expect(guarded.map(written).address).toBe(first.address)
  })

  test('of a region that was closed since stand again; of one that was closed before can not be kept', () => {
    const mapping = guarded.map(constant, { at: 0 })
    const snapshot = guarded.snapshot()
    constant.close()
    expectError(
      thrownBy(() => guarded.snapshot()),
      { code: 'ERR_HOSTMAP_REGION_CLOSED', says: ['constant', /unmap/] }
    )
    mapping.unmap()
    guarded.restore(snapshot)
    expect(
      bytesOf(guarded)
        .subarray(0, 8 * PAGE)
        .equals(noise(8 * PAGE, 2))
    ).toBe(true)
  })

  test('that can not be made any more are found out before anything changes', () => {
    const mappings = [
      guarded.map(constant, { at: 0 }),
      guarded.map(written, { at: 8 * PAGE, access: 'shared' })
    ]
    const snapshot = guarded.snapshot()
    for (const mapping of mappings) mapping.unmap()
    written.seal()
    bytesOf(guarded)[30 * PAGE] = 2
    expectError(
      thrownBy(() => guarded.restore(snapshot)),
      { code: 'ERR_HOSTMAP_REGION_READONLY', says: 'written' }
    )
    expect([standing(guarded), guarded.mappings, bytesOf(guarded)[30 * PAGE]]).toEqual([[], [], 2])
  })

  test('of a file that has shrunk cost the process nothing', async () => {
    const seen = await inChild(({ hostmap, require }) => {
      const fs = require('node:fs')
      const { GuardedMemory, HostRegion } = hostmap
      const PAGE = hostmap.limits().pageSize
      const file = `${require('node:os').tmpdir()}/hostmap-shrunk-${process.pid}`
      fs.writeFileSync(file, Buffer.alloc(4 * PAGE, 9))
      const guarded = new GuardedMemory({ initial: 4 })
      const mapping = guarded.map(HostRegion.open(file), { at: 0, access: 'private' })
      const bytes = new Uint8Array(guarded.buffer)
      bytes[1] = 2
      bytes[3 * PAGE] = 1
      const snapshot = guarded.snapshot()
      fs.truncateSync(file, PAGE)
      const codes = []
      for (let i = 0; i < 3; i++) {
        try {
          guarded.restore(snapshot)
        } catch ({ code }) {
          codes.push(code)
        }
        bytes[1] = 5
      }
      mapping.unmap()
      try {
        guarded.restore(snapshot)
      } catch ({ code }) {
        codes.push(code)
      }
      fs.unlinkSync(file)
      return { codes, mapped: guarded.mappings.length }
    })
    expect(seen.codes.at(-1)).toBe('ERR_HOSTMAP_FILE_SHRUNK')
    expect(seen.mapped).toBe(0)
  })

  test('of another thread can not be kept', async () => {
    const shared = new GuardedMemory({ initial: 2, maximum: 2, shared: true })
    const worker = new TestWorker()
    await worker.run(({ state, hostmap }, memory) => {
      const region = hostmap.HostRegion.allocate(100)
      state.mapping = hostmap.GuardedMemory.from(memory).map(region, { at: 0 })
    }, shared.memory)
    expectError(
      thrownBy(() => shared.snapshot({ exclusive: true })),
      { code: 'ERR_HOSTMAP_REGION_CLOSED', says: /thread/ }
    )
    await worker.end()
  })

  test('and empty windows that another thread opened can not be kept, beside own ones or alone', async () => {
    const worker = new TestWorker()
    for (const isAlone of [true, false]) {
      const shared = new GuardedMemory({ initial: 4, maximum: 8, shared: true })
      if (!isAlone) shared.map(constant, { at: 2 * WASM_PAGE })
      await worker.run(
        ({ state, hostmap }, { memory, at }) => {
          state.window = hostmap.GuardedMemory.from(memory).window({ byteLength: 65536, at })
        },
        { memory: shared.memory, at: WASM_PAGE }
      )
      const taken = () => shared.snapshot({ exclusive: true })
      await expectFailure(taken, { code: 'ERR_HOSTMAP_REGION_CLOSED', says: ['65536', /thread/] })
      await worker.run(({ state }) => state.window.unmap())
      expect(taken().mappings.map(({ address }) => address)).toEqual(isAlone ? [] : [2 * WASM_PAGE])
    }
    await worker.end()
  })

  test('of a window that another thread emptied can not be kept', async () => {
    const shared = new GuardedMemory({ initial: 4, maximum: 8, shared: true })
    const window = shared.window({
      byteLength: 8 * PAGE,
      at: WASM_PAGE,
      rest: 'zeros',
      access: 'private'
    })
    const empty = shared.snapshot({ exclusive: true })
    window.slide(constant)
    const worker = new TestWorker()
    await worker.run(
      ({ state, hostmap }, { memory, fd }) => {
        state.memory = hostmap.GuardedMemory.from(memory)
        state.memory.restore(hostmap.Snapshot.fromFd(fd), { exclusive: true })
      },
      { memory: shared.memory, fd: fdOf(empty) }
    )
    const taken = () => shared.snapshot({ exclusive: true })
    await expectFailure(taken, { code: 'ERR_HOSTMAP_REGION_CLOSED', says: ['65536', /thread/] })
    // It does not know what it shows until it is told.
    window.slide(constant)
    expect(taken().mappings).toMatchObject([
      { kind: 'window', address: WASM_PAGE, regionName: 'constant' }
    ])
    await worker.end()
  })

  test('are told by their address, whatever comes or goes while they are looked at', () => {
    const [low, high] = [0, 8 * PAGE].map(at => guarded.map(constant, { at, byteOffset: at / 8 }))
    const { NativeSnapshot } = native
    // As another thread may at that moment.
    native.NativeSnapshot = {
      capture(...rest) {
        low.unmap()
        return NativeSnapshot.capture(...rest)
      }
    }
    let snapshot
    try {
      snapshot = guarded.snapshot()
    } finally {
      native.NativeSnapshot = NativeSnapshot
    }
    expect(snapshot.mappings).toMatchObject([{ address: 8 * PAGE, byteOffset: PAGE }])
    const other = new GuardedMemory({ initial: 1 })
    other.restore(snapshot)
    expect(other.mappings.map(({ address, byteOffset }) => [address, byteOffset])).toEqual([
      [8 * PAGE, PAGE]
    ])
    expect(high.unmapped).toBe(false)
  })
})

describe('a restore is refused', () => {
  test('and keeps nothing of what it was to map', async () => {
    const seen = await inChild(
      ({ hostmap, MiB }) => {
        const region = hostmap.HostRegion.copyFrom(Buffer.alloc(65536, 7))
        const guarded = new hostmap.GuardedMemory({ initial: 16 })
        const mapping = guarded.map(region, { at: 65536 })
        const snapshot = guarded.snapshot()
        mapping.unmap()
        // In the way.
        guarded.map(region, { at: 131_072 })
        const refused = () => {
          try {
            guarded.restore(snapshot)
          } catch (error) {
            return error.code
          }
        }
        const heapBytes = () => {
          globalThis.gc()
          return process.memoryUsage().heapUsed
        }
        for (let i = 0; i < 2000; i++) refused()
        const before = heapBytes()
        for (let i = 0; i < 20_000; i++) refused()
        return [refused(), heapBytes() - before < MiB]
      },
      { flags: ['--expose-gc'] }
    )
    expect(seen).toEqual(['ERR_HOSTMAP_OVERLAP', true])
  })

  test('where an option closes the snapshot', async () => {
    const instance = new WebAssembly.Instance(
      new WebAssembly.Module(await assemble('(module (memory (export "memory") 2))'))
    )
    const snapshot = Snapshot.of(instance)
    const options = {
      get exclusive() {
        snapshot.close()
        return true
      }
    }
    expectError(
      thrownBy(() => snapshot.restoreTo(instance, options)),
      { code: 'ERR_HOSTMAP_SNAPSHOT_CLOSED', says: /take or load a new one/ }
    )
  })

  test('from a snapshot that was closed, at any moment', async () => {
    const guarded = new GuardedMemory({ initial: 1 })
    const snapshot = guarded.snapshot({ name: 'gone' })
    guarded.restore(snapshot)
    const options = {
      get exclusive() {
        snapshot.close()
        return true
      }
    }
    bytesOf(guarded)[0] = 5
    for (const given of [options, undefined]) {
      await expectFailure(() => guarded.restore(snapshot, given), {
        code: 'ERR_HOSTMAP_SNAPSHOT_CLOSED',
        says: 'gone'
      }).catch(error => {
        // The first time a descriptor goes.
        if (given === undefined) throw error
      })
    }
    expect(bytesOf(guarded)[0]).toBe(5)
    expect([snapshot.closed, snapshot.residentBytes, snapshot.byteLength]).toEqual([
      true,
      0,
      WASM_PAGE
    ])
    snapshot.close()
  })

  test('where the maximum is too small', async () => {
    const snapshot = new GuardedMemory({ initial: 10 }).snapshot()
    const { instance } = await WebAssembly.instantiate(
      await assemble('(module (memory (export "memory") 1 5))')
    )
    for (const other of [
      new GuardedMemory({ initial: 1, maximum: 5 }),
      GuardedMemory.from(instance.exports.memory)
    ]) {
      await expectFailure(() => other.restore(snapshot), {
        code: 'ERR_HOSTMAP_MEMORY_FULL',
        says: [/9/, /maximum/]
      })
      expect(other.byteLength).toBe(WASM_PAGE)
    }
    await expectFailure(
      () => GuardedMemory.from(new WebAssembly.Memory({ initial: 1 }).buffer).restore(snapshot),
      { code: 'ERR_HOSTMAP_MEMORY_HIDDEN' }
    )
  })

  test64('into a memory of another address type', async () => {
    const [i32, i64] = ['i32', 'i64'].map(address => {
      const count = address === 'i64' ? 2n : 2
      return new GuardedMemory({ initial: count, maximum: count, address })
    })
    for (const [from, to] of [
      [i32, i64],
      [i64, i32]
    ]) {
      bytesOf(to)[0] = 1
      await expectFailure(() => to.restore(from.snapshot()), {
        code: 'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
        says: [/'i32'/, /'i64'/]
      }).catch(() => {
        // The snapshot's own descriptor.
      })
      expectError(
        thrownBy(() => to.restore(from.snapshot())),
        { code: 'ERR_HOSTMAP_SNAPSHOT_MISMATCH', says: [/'i32'/, /'i64'/] }
      )
      expect(bytesOf(to)[0]).toBe(1)
    }
  })

  test('in shared memories, without the promise', async () => {
    const guarded = new GuardedMemory({ initial: 1, maximum: 2, shared: true })
    const snapshot = guarded.snapshot({ exclusive: true })
    for (const options of [undefined, {}, { exclusive: false }, { exclusive: undefined }]) {
      for (const call of [
        () => guarded.snapshot(options),
        () => guarded.restore(snapshot, options),
        () => guarded.reset(options)
      ]) {
        await expectFailure(call, { code: 'ERR_HOSTMAP_SHARED_MEMORY', says: 'exclusive: true' })
      }
    }
  })
})

describe('globals', () => {
  const values = {
    i32: -5,
    i64: -(2n ** 63n),
    f32: Math.fround(0.1),
    f64: -0,
    externref: 'text',
    anyfunc: null
  }
  const others = { i32: 1, i64: 1n, f32: NaN, f64: 1, externref: {}, anyfunc: null }
  const make = from =>
    Object.fromEntries(
      Object.entries(from).map(([value, now]) => [
        value,
        new WebAssembly.Global({ value, mutable: true }, now)
      ])
    )
  const read = globals => Object.values(globals).map(({ value }) => value)

  test('come back with the memory they were taken from, and to others that are given', () => {
    const guarded = new GuardedMemory({ initial: 1 })
    const globals = make(values)
    const constant = new WebAssembly.Global({ value: 'i32' }, 3)
    const snapshot = guarded.snapshot({
      globals: { ...globals, constant, memory: guarded.memory, other: 5 }
    })
    for (const [name, global] of Object.entries(globals)) global.value = others[name]
    guarded.restore(snapshot)
    expect(read(globals)).toEqual(Object.values(values))
    expect(Object.is(globals.f64.value, -0)).toBe(true)

    const strangers = make(others)
    const other = new GuardedMemory({ initial: 1 })
    other.restore(snapshot)
    expect(read(strangers)).toEqual(Object.values(others))
    other.restore(snapshot, { globals: strangers })
    expect(read(strangers)).toEqual(Object.values(values))
  })

  test('that are missing or of other types are found out before anything changes', () => {
    const guarded = new GuardedMemory({ initial: 1 })
    const snapshot = guarded.snapshot({ globals: make(values) })
    const without = guarded.snapshot()
    bytesOf(guarded)[0] = 9
    const { i64: _, ...fewer } = make(others)
    const wrong = { ...fewer, i64: new WebAssembly.Global({ value: 'i32', mutable: true }, 1) }
    for (const [kept, globals, says] of [
      [snapshot, fewer, 'i64'],
      [snapshot, wrong, 'i64'],
      [snapshot, {}, 'i32'],
      [without, fewer, 'globals']
    ]) {
      expectError(
        thrownBy(() => guarded.restore(kept, { globals })),
        { code: 'ERR_HOSTMAP_SNAPSHOT_MISMATCH', says }
      )
      expect([bytesOf(guarded)[0], fewer.i32.value]).toEqual([9, 1])
    }
  })
})

describe('what a module does meanwhile', () => {
  const WAT = `(module
    (import "env" "call" (func $call))
    (memory (export "memory") 2 20)
    (global $sp (export "sp") (mut i32) (i32.const 1024))
    (func (export "run") (result i32)
      (global.set $sp (i32.sub (global.get $sp) (i32.const 16)))
      (i32.store (i32.const 100) (i32.const 1))
      call $call
      (i32.store (i32.const 104) (i32.const 2))
      (i32.add (i32.load (i32.const 100)) (global.get $sp)))
    (func $deep (export "deep")
      (global.set $sp (i32.sub (global.get $sp) (i32.const 16)))
      (i32.store (i32.const 65536) (global.get $sp))
      (call $deep))
    (func (export "all")
      (drop (memory.grow (i32.const 3)))
      (memory.fill (i32.const 0) (i32.const 255) (i32.mul (memory.size) (i32.const 65536)))
      (global.set $sp (i32.const -1))
      unreachable))`
  async function start(call) {
    const { instance } = await WebAssembly.instantiate(await assemble(WAT), { env: { call } })
    return {
      exports: instance.exports,
      instance,
      guarded: GuardedMemory.from(instance.exports.memory)
    }
  }

  test('a snapshot taken inside an import holds that moment, and one restored there stands when it goes on', async () => {
    let act = () => {}
    const { exports, guarded } = await start(() => act())
    const clean = guarded.snapshot({ globals: exports })
    let inside
    act = () => (inside = guarded.snapshot({ globals: exports }))
    exports.run()
    const words = () => [...new Uint32Array(guarded.buffer, 100, 2), exports.sp.value]
    expect(words()).toEqual([1, 2, 1008])
    guarded.restore(inside)
    expect(words()).toEqual([1, 0, 1008])
    act = () => guarded.restore(clean)
    expect(exports.run()).toBe(0 + 1024)
    expect(words()).toEqual([0, 2, 1024])
    act = () => {
      guarded.reset()
      guarded.grow(1)
      guarded.restore(inside)
    }
    expect(exports.run()).toBe(1 + 1008)
  })

  test('it traps deep in its stack, grows and writes everything, over and over', async () => {
    const { exports, guarded, instance } = await start(() => {})
    const { byteLength } = guarded
    bytesOf(guarded).fill(4, 200, 300)
    const before = copyOf(guarded)
    const snapshot = Snapshot.of(instance)
    for (let round = 0; round < rounds(30, 100); round++) {
      expect(() => exports[round % 10 ? 'deep' : 'all']()).toThrow()
      snapshot.restoreTo(instance)
      if (guarded.byteLength > byteLength && round > 20)
        expect(guarded.byteLength).toBeLessThanOrEqual(20 * WASM_PAGE)
      expect(exports.sp.value).toBe(1024)
      expect(bytesOf(guarded).subarray(0, byteLength).equals(before)).toBe(true)
      expect(isZero(bytesOf(guarded).subarray(byteLength))).toBe(true)
    }
  })
})

test('a shared memory is restored under a worker that waits outside of it', async () => {
  const guarded = new GuardedMemory({ initial: 16, maximum: 32, shared: true })
  noise(guarded.byteLength).copy(bytesOf(guarded))
  const before = copyOf(guarded)
  const snapshot = guarded.snapshot({ exclusive: true })
  const worker = new TestWorker()
  const turns = new Int32Array(new SharedArrayBuffer(8))
  const written = worker.run(
    async ({ probe }, { memory, turns, rounds }) => {
      const guest = await probe(memory)
      let wrong = 0
      for (let round = 0; round < rounds; round++) {
        for (let page = round; page < 256; page += 3) guest.store64(page * 4096 + 8 * round, -1n)
        guest.exports.atomicAdd(65536, 1)
        if (round === 2) guest.grow(2)
        Atomics.store(turns, 0, 2 * round + 1)
        Atomics.notify(turns, 0)
        Atomics.wait(turns, 0, 2 * round + 1)
        // As it was, here too.
        for (let page = round; page < 256; page += 3)
          if (guest.load64(page * 4096 + 8 * round) === -1n) wrong++
      }
      return wrong
    },
    { memory: guarded.memory, turns, rounds: 8 }
  )
  for (let round = 0; round < 8; round++) {
    const { value } = Atomics.waitAsync?.(turns, 0, 2 * round) ?? {}
    if (value !== undefined) await value
    while (Atomics.load(turns, 0) === 2 * round) await new Promise(resolve => setImmediate(resolve))
    guarded.restore(snapshot, { exclusive: true })
    const bytes = Buffer.from(guarded.memory.buffer)
    expect(bytes.subarray(0, before.length).equals(before)).toBe(true)
    expect(isZero(bytes.subarray(before.length))).toBe(true)
    Atomics.store(turns, 0, 2 * round + 2)
    Atomics.notify(turns, 0)
  }
  expect(await written).toBe(0)
  await worker.end()
})

test('without guards a memory is restored wherever V8 moved it', async () => {
  const seen = await inChild(
    async ({ hostmap, probe }) => {
      const guarded = new hostmap.GuardedMemory({ initial: 2, maximum: 2000 })
      const guest = await probe(guarded.memory)
      new Uint8Array(guarded.buffer).fill(3)
      const snapshot = guarded.snapshot()
      const wrong = []
      for (const grow of [0, 1, 500, 1000]) {
        guest.grow(grow)
        for (let i = 0; i < 3; i++) {
          const bytes = new Uint8Array(guarded.memory.buffer)
          bytes.fill(i + 5, 1000)
          guarded.restore(snapshot)
          const expected = Buffer.alloc(guarded.byteLength).fill(3, 0, 131072)
          if (!expected.equals(new Uint8Array(guarded.memory.buffer))) wrong.push(grow)
        }
        guarded.reset()
        const zeros = Buffer.alloc(guarded.byteLength)
        if (!zeros.equals(new Uint8Array(guarded.memory.buffer))) wrong.push('reset')
      }
      return { wrong, guarded: guarded.guarded }
    },
    { flags: ['--disable-wasm-trap-handler'] }
  ).catch(error => {
    // Not every build of V8 has the flag.
    if (/bad option/.test(error.message)) return { wrong: [], guarded: false }
    throw error
  })
  expect(seen).toEqual({ wrong: [], guarded: false })
})

test('a snapshot takes one descriptor, and gives it back', () => {
  const guarded = new GuardedMemory({ initial: 4 })
  const before = possessions()
  const snapshot = guarded.snapshot({ name: 'one of many' })
  const files = Object.entries(possessions().files)
  expect(files.filter(([fd, file]) => before.files[fd] !== file)).toEqual([
    [expect.anything(), expect.stringContaining('one of many')]
  ])
  snapshot[Symbol.dispose]()
  expectNothingNew(before)
})

test.each([true, false])('a memory with sharePages: %p is its snapshot either way', sharePages => {
  const guarded = new GuardedMemory({ initial: 80 })
  const region = HostRegion.copyFrom(noise(3 * PAGE), { name: 'in the middle' })
  guarded.map(region, { at: 30 * WASM_PAGE, access: 'private' })
  bytesOf(guarded).fill(7, 3 * WASM_PAGE, 60 * WASM_PAGE)
  bytesOf(guarded).fill(0, 50 * WASM_PAGE, 70 * WASM_PAGE)
  bytesOf(guarded)[79 * WASM_PAGE] = 1
  const before = copyOf(guarded)
  const first = guarded.snapshot({ sharePages })
  expect(copyOf(guarded).equals(before)).toBe(true)
  bytesOf(guarded).fill(9, 20 * WASM_PAGE, 55 * WASM_PAGE)
  const between = copyOf(guarded)
  const second = guarded.snapshot({ sharePages })
  first.close()
  expect(copyOf(guarded).equals(between)).toBe(true)
  bytesOf(guarded).fill(5)
  guarded.restore(second)
  expect(copyOf(guarded).equals(between)).toBe(true)
  const other = new GuardedMemory({ initial: 80 })
  other.restore(second)
  expect(copyOf(other).equals(between)).toBe(true)
  expect(standing(other)).toEqual(standing(guarded))
  second.close()
})

test('a large memory with little in it takes little', async () => {
  const guarded = new GuardedMemory({ initial: 16384 })
  const guest = await probe(guarded.memory)
  guest.mark(0, 1024 * MiB, 64 * MiB, 1n)
  const snapshot = guarded.snapshot()
  expect(snapshot.residentBytes).toBeLessThan(64 * PAGE)
  guest.mark(0, 1024 * MiB, 32 * MiB, 100n)
  guarded.restore(snapshot)
  expect(guest.mismatch(0, 1024 * MiB, 64 * MiB, 1n)).toBe(-1)
  expect(guest.load64(32 * MiB)).toBe(0n)
})
