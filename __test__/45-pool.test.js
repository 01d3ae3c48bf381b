'use strict'

// Instance pools: each instance begins in the same state, whatever the last run did; and the limits
// of a pool hold.

const {
  exposeState,
  GuardedMemory,
  HostRegion,
  InstancePool,
  limits,
  PooledInstance,
  Snapshot
} = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { temporaryDirectory } = require('./support/files')
const { inChild } = require('./support/child')
const { assemble } = require('./support/wasm')
const { skipUnless } = require('./support/skip')
const { atStackEnd } = require('./support/stack-end')

const WASM_PAGE = 65_536
const directory = temporaryDirectory()

// As compilers make them: the stack pointer and the table are hidden.
const WAT = `(module
  (memory (export "memory") 2 20)
  (global $pointer (mut i32) (i32.const 65536))
  (global $count (mut i64) (i64.const 0))
  (table $t 4 10 funcref)
  (elem (i32.const 0) $one $two)
  (type $number (func (result i32)))
  (func $one (result i32) (i32.const 1))
  (func $two (result i32) (i32.const 2))
  (func (export "init")
    (i32.store (i32.const 100) (i32.const 42))
    (global.set $count (i64.const 9007199254740993))
    (table.set $t (i32.const 2) (table.get $t (i32.const 1))))
  (func $deep (export "deep") (param i32)
    (global.set $pointer (i32.sub (global.get $pointer) (i32.const 16)))
    (i32.store (global.get $pointer) (local.get 0))
    (if (i32.eqz (local.get 0)) (then unreachable))
    (call $deep (i32.sub (local.get 0) (i32.const 1))))
  (func (export "pointer") (result i32) (global.get $pointer))
  (func (export "count") (result i64) (global.get $count))
  (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "spoil")
    (global.set $count (i64.const -1))
    (table.set $t (i32.const 0) (ref.null func))
    (table.set $t (i32.const 3) (table.get $t (i32.const 1)))
    (memory.fill (i32.const 0) (i32.const 0xff) (i32.const 131072)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "growTable") (result i32) (table.grow $t (ref.null func) (i32.const 1)))
  (func (export "call") (param i32) (result i32) (call_indirect $t (type $number) (local.get 0))))`

const init = ({ exports }) => exports.init()

/** What a program sees of an instance that is as `init` left it. */
function expectClean({ exports, memory }) {
  expect(exports.pointer()).toBe(65_536)
  expect(exports.count()).toBe(9_007_199_254_740_993n)
  expect([0, 1, 2].map(index => exports.call(index))).toEqual([1, 2, 2])
  expect(() => exports.call(3)).toThrow(WebAssembly.RuntimeError)
  const bytes = new Uint8Array(memory.buffer)
  const expected = new Uint8Array(2 * WASM_PAGE)
  expected[100] = 42
  expect(Buffer.compare(bytes, expected)).toBe(0)
}

const pools = []
/** A pool that is closed after the test. */
async function makePool(module, options) {
  const pool = await InstancePool.create(module, options)
  pools.push(pool)
  return pool
}
afterEach(() => pools.splice(0).forEach(pool => pool.close()))

let bytes
beforeAll(async () => {
  bytes = await assemble(WAT)
})

const compiled = wasm => new WebAssembly.Module(wasm)
const rejection = promise => thrownBy(() => promise)

describe('an instance of a pool', () => {
  test('is as init left it, whatever was done to the one before', async () => {
    const pool = await makePool(bytes, { init, max: 1 })
    for (let round = 0; round < 5; round++) {
      await pool.run(instance => {
        expectClean(instance)
        instance.exports.spoil()
      })
    }
    expect(pool.stats()).toMatchObject({ created: 1, discarded: 0, acquired: 5, restored: 5 })
  })

  test('comes through a hundred traps deep in the stack', async () => {
    const pool = await makePool(bytes, { init, max: 1 })
    for (let round = 0; round < 100; round++) {
      const program = pool.run(({ exports }) => exports.deep(500 + round))
      await expect(program).rejects.toThrow(WebAssembly.RuntimeError)
    }
    await pool.run(expectClean)
    expect(pool.stats()).toMatchObject({ created: 1, discarded: 0, restored: 101 })
  })

  test('comes through a stack that overflows', async () => {
    const pool = await makePool(bytes, { init, max: 1 })
    await expect(pool.run(({ exports }) => exports.deep(-1))).rejects.toThrow()
    await pool.run(expectClean)
  })

  test('is as init left it when it is made later, too', async () => {
    const pool = await makePool(bytes, { init, size: 2, max: 4 })
    const instances = await Promise.all([1, 2, 3, 4].map(() => pool.acquire()))
    for (const instance of instances) expectClean(instance)
    // And each has its own functions: those of another one would work on that one's memory.
    instances[3].exports.store(200, 7)
    expect(instances.map(({ exports }) => exports.load(200))).toEqual([0, 0, 0, 7])
    expect(pool.stats()).toMatchObject({ created: 4, busy: 4, idle: 0 })
  })

  test('shows its exports, and not those that were added', async () => {
    const pool = await makePool(bytes, { init })
    const leased = await pool.acquire()
    expect(leased).toBeInstanceOf(PooledInstance)
    expect(Object.keys(leased.exports)).toEqual(
      WebAssembly.Module.exports(compiled(bytes)).map(({ name }) => name)
    )
    expect(leased.exports.pointer).toBe(leased.instance.exports.pointer)
    expect(leased.instance).toBeInstanceOf(WebAssembly.Instance)
    expect(leased.memory).toBe(GuardedMemory.from(leased.exports.memory))
    expect(Object.isFrozen(leased.exports)).toBe(true)
  })

  test('is replaced when its table has grown', async () => {
    const pool = await makePool(bytes, { init, max: 1 })
    await pool.run(({ exports }) => expect(exports.growTable()).toBe(4))
    expect(pool.stats()).toMatchObject({ size: 0, discarded: 1 })
    expectError(pool.stats().lastFailure, {
      code: 'ERR_HOSTMAP_NOT_RESTORABLE',
      says: /table .* grown/
    })
    await pool.run(expectClean)
    expect(pool.stats()).toMatchObject({ size: 1, created: 2, discarded: 1 })
  })

  test('is replaced when its memory has grown, and kept where that is accepted', async () => {
    const strict = await makePool(bytes, { init, max: 1 })
    await strict.run(({ exports }) => expect(exports.grow(1)).toBe(2))
    expectError(strict.stats().lastFailure, {
      code: 'ERR_HOSTMAP_NOT_RESTORABLE',
      says: 'grown-memory'
    })
    await strict.run(expectClean)

    const lenient = await makePool(bytes, { init, max: 1, accept: ['grown-memory'] })
    await lenient.run(({ exports }) => {
      exports.grow(1)
      exports.store(2 * WASM_PAGE, 99)
    })
    await lenient.run(({ exports, memory }) => {
      expect(memory.byteLength).toBe(3 * WASM_PAGE)
      expect(exports.load(100)).toBe(42)
      expect(exports.load(2 * WASM_PAGE)).toBe(0)
    })
    expect(lenient.stats()).toMatchObject({ created: 1, discarded: 0 })
  })

  test('has the regions mapped that init mapped', async () => {
    const region = HostRegion.copyFrom(Buffer.from('the dataset'))
    const text = ({ memory }) => Buffer.from(memory.buffer, WASM_PAGE, 11).toString()
    const pool = await makePool(bytes, {
      init: (_, memory) => memory.map(region, { at: WASM_PAGE, access: 'private' }),
      size: 2,
      max: 3
    })
    const instances = await Promise.all([1, 2, 3].map(() => pool.acquire()))
    expect(instances.map(text)).toEqual(Array(3).fill('the dataset'))
    for (const { exports } of instances) exports.store(WASM_PAGE, 0)
    for (const instance of instances) instance.release()
    await pool.run(instance => expect(text(instance)).toBe('the dataset'))
    expect(Buffer.from(region.view()).toString()).toBe('the dataset')
    region.close()
  })

  test('is discarded when a program left a mapping in it', async () => {
    const region = HostRegion.allocate(100)
    const pool = await makePool(bytes, { init, max: 1 })
    await pool.run(({ memory }) => void memory.map(region, { at: WASM_PAGE }))
    expect(pool.stats().discarded).toBe(1)
    expectError(pool.stats().lastFailure, { code: 'ERR_HOSTMAP_OVERLAP' })
    await pool.run(expectClean)
    await pool.run(({ memory }) => memory.map(region, { at: WASM_PAGE }).unmap())
    expect(pool.stats().discarded).toBe(1)
    region.close()
  })

  test.each(['mapping', 'window'])(
    'is discarded when a program unmapped a %s of its own',
    async kind => {
      const region = HostRegion.copyFrom(Buffer.alloc(4 * limits().pageSize, 5))
      const pool = await makePool(bytes, {
        init(_, memory) {
          if (kind === 'mapping') memory.map(region, { at: WASM_PAGE })
          else memory.window({ byteLength: WASM_PAGE, at: WASM_PAGE })
        },
        max: 1
      })
      const unmaps = [
        standing => standing.unmap(),
        // Another one just like it makes no difference: imports may have the old one.
        (standing, memory) => {
          standing.unmap()
          if (kind === 'mapping') memory.map(region, { at: WASM_PAGE })
          else memory.window({ byteLength: WASM_PAGE, at: WASM_PAGE })
        }
      ]
      for (const [round, unmap] of unmaps.entries()) {
        let standing
        for (let use = 0; use < 3; use++) {
          await pool.run(({ memory }) => {
            standing ??= memory.mappings[0]
            // Every user has what the first one had.
            expect(memory.mappings).toEqual([standing])
            expect(memory.mappings[0]).toBe(standing)
            if (kind === 'window') expect(standing.source(region).next()).toBe(region.byteLength)
          })
        }
        expect(pool.stats().discarded).toBe(round)
        await pool.run(({ memory }) => unmap(memory.mappings[0], memory))
        expect(pool.stats()).toMatchObject({ size: 0, discarded: round + 1 })
        expectError(pool.stats().lastFailure, {
          code: 'ERR_HOSTMAP_NOT_RESTORABLE',
          says: /was unmapped/
        })
        await pool.run(({ memory }) => {
          expect(memory.mappings[0]).not.toBe(standing)
          expect(memory.mappings[0].unmapped).toBe(false)
        })
      }
      region.close()
    }
  )

  test('reads from the start, whatever the one before has read', async () => {
    const wat = `(module (import "env" "memory" (memory 4))
      (import "data" "next" (func $next (param i32) (result i32))) (import "data" "pointer" (func $pointer (result i32)))
      (func (export "first") (result i32)
        (if (i32.eqz (call $next (i32.const 0))) (then (return (i32.const -1))))
        (i32.load8_u (call $pointer))))`
    const { pageSize } = limits()
    const region = HostRegion.copyFrom(
      Buffer.concat(Array.from({ length: 4 }, (_, i) => Buffer.alloc(pageSize, i)))
    )
    const sources = []
    const pool = await makePool(await assemble(wat), {
      max: 2,
      imports() {
        const memory = new WebAssembly.Memory({ initial: 4 })
        const window = GuardedMemory.from(memory).window({ byteLength: pageSize, at: WASM_PAGE })
        sources.push(window.source(region))
        return { env: { memory }, data: sources.at(-1).imports }
      },
      init: ({ exports }) => exports.first() + exports.first()
    })
    expect(sources[0]).toMatchObject({ position: 0, start: 0 })
    for (let round = 0; round < 3; round++) {
      const leased = await Promise.all([pool.acquire(), pool.acquire()])
      for (const { exports } of leased) expect([exports.first(), exports.first()]).toEqual([0, 1])
      leased[0].release()
      // The other one's user goes on.
      expect(sources.map(({ position }) => position).sort()).toEqual([0, 2 * pageSize])
      leased[1].release()
      expect(sources.map(({ position }) => position)).toEqual([0, 0])
    }
    expect(pool.stats()).toMatchObject({ created: 2, discarded: 0 })

    // Of nobody's instance: a loop over chunks goes on.
    const seen = []
    for (const { byteOffset } of sources[0].window.chunks(region)) {
      seen.push(byteOffset / pageSize)
      ;[await pool.acquire(), await pool.acquire()].forEach(leased => leased.release())
      if (seen.length > 4) break
    }
    expect(seen).toEqual([0, 1, 2, 3])
    region.close()
  })

  test('has no table that only the instance shows: nobody but its code changes it, so it need not be put back', async () => {
    const wat = `(module (memory (export "memory") 1) (type $number (func (result i32)))
      (table 2 funcref) (elem (i32.const 0) $one) (func $one (result i32) (i32.const 1))
      (func (export "six") (result i32) (i32.const 6))
      (func (export "call") (param i32) (result i32) (call_indirect (type $number) (local.get 0))))`
    const pool = await makePool(await assemble(wat), { max: 1 })
    await pool.run(({ instance }) => {
      for (const value of Object.values(instance.exports)) {
        if (value instanceof WebAssembly.Table) value.set(0, instance.exports.six)
      }
    })
    await pool.run(({ exports }) => expect(exports.call(0)).toBe(1))
  })

  test('is thrown away as it is by discard, once, and a caller that waits gets a new one', async () => {
    const pool = await makePool(bytes, { init, max: 1 })
    const leased = await pool.acquire()
    const waiting = pool.acquire()
    const { exports } = leased
    exports.store(200, 7)
    leased.discard()
    expect(leased.released).toBe(true)
    leased.discard()
    leased.release()
    expect(pool.stats()).toMatchObject({ size: 1, busy: 1, created: 2, discarded: 1, restored: 0 })
    expect(pool.stats().lastFailure).toBe(null)
    // What still runs in it has it to itself.
    expect(exports.load(200)).toBe(7)
    exports.spoil()
    const next = await waiting
    expectClean(next)
    next.release()
    next.discard()
    const last = await pool.acquire()
    pool.close()
    last.discard()
    expect(pool.stats()).toMatchObject({ size: 0, busy: 0, idle: 0, discarded: 2 })
  })

  test('can be released again where the stack ended in the release', async () => {
    let failed = 0
    for (let padding = 0; padding < 60; padding++) {
      const pool = await makePool(bytes, { init, max: 1 })
      const leased = await pool.acquire()
      const waiting = pool.acquire()
      leased.exports.spoil()
      failed += atStackEnd(padding, () => leased.release())
      leased.release()
      const next = await waiting
      expect(pool.stats()).toMatchObject({
        size: 1,
        idle: 0,
        busy: 1,
        waiting: 0,
        created: 1,
        discarded: 0
      })
      expectClean(next)
      next.release()
      expect(pool.stats()).toMatchObject({ size: 1, idle: 1, busy: 0, restored: 2 })
      pool.close()
    }
    expect(failed).toBeGreaterThan(0)
  })

  test('is replaced when it can not be restored, wherever the stack ends', async () => {
    // V8 compiles what is called for the first time, and can't near the end of the stack.
    const failing = await makePool(bytes, { imports: index => (index > 0 ? null : {}), max: 2 })
    await failing.acquire()
    await expect(failing.acquire()).rejects.toThrow(TypeError)
    for (let padding = 0; padding < 60; padding++) {
      const pool = await makePool(bytes, { init, max: 1 })
      const leased = await pool.acquire()
      const waiting = pool.acquire()
      const how = padding % 2 === 0 ? 'discard' : 'release'
      leased.exports.growTable()
      atStackEnd(padding, () => leased[how]())
      leased[how]()
      const next = await waiting
      expect(pool.stats()).toMatchObject({ size: 1, busy: 1, waiting: 0, created: 2, discarded: 1 })
      expectClean(next)
      pool.close()
    }
  })

  test('is not lost where the stack ends in its acquisition', async () => {
    // In a child, since Node writes to stderr when it can't note a rejection there.
    const body = async ({ hostmap, assemble, args }) => {
      const wasm = await assemble(args.wat)
      const atStackEnd = new Function(`return ${args.atStackEnd}`)()
      const outcomes = new Set()
      for (let padding = 0; padding < 120; padding++) {
        const pool = await hostmap.InstancePool.create(wasm, {
          init: ({ exports }) => exports.init(),
          max: 1
        })
        // There is one, or there is to be one.
        if (padding % 2 === 1) (await pool.acquire()).discard()
        let asked
        atStackEnd(padding, () => {
          asked = pool.acquire()
        })
        const outcome = await asked.catch(error => error.message)
        if (typeof outcome !== 'string') outcome.release()
        else if (!outcome.endsWith('call stack size exceeded')) throw new Error(outcome)
        await pool.run(({ exports }) => {
          if (exports.load(100) !== 42) throw new Error('not as init left it')
        })
        const { size, idle, busy, waiting } = pool.stats()
        outcomes.add(`${size} ${idle} ${busy} ${waiting}`)
        pool.close()
      }
      return [...outcomes]
    }
    const args = { wat: WAT, atStackEnd: String(atStackEnd) }
    const mayWrite = /Exception in PromiseRejectCallback:[^]*/
    expect(await inChild(body, { args, mayWrite })).toEqual(['1 1 0 0'])
  })

  test("can't be used once it is released, and is released once", async () => {
    const pool = await makePool(bytes, { init, max: 1 })
    const first = await pool.acquire()
    expect(first.released).toBe(false)
    first.release()
    expect(first.released).toBe(true)
    for (const name of ['instance', 'exports', 'memory']) {
      expectError(
        thrownBy(() => first[name]),
        { code: 'ERR_HOSTMAP_INSTANCE_RELEASED' }
      )
    }
    const second = await pool.acquire()
    first.release()
    first[Symbol.dispose]()
    expect(pool.stats()).toMatchObject({ busy: 1, idle: 0 })
    expectClean(second)
  })
})

describe('tables and globals', () => {
  test('that the module exports itself are restored from what a host did to them', async () => {
    const wat = `(module (memory 1)
      (table (export "table") 2 funcref) (elem (i32.const 0) $f)
      (global (export "f32") (mut f32) (f32.const -0))
      (global (export "f64") (mut f64) (f64.const nan))
      (global (export "ref") (mut externref) (ref.null extern))
      (global (export "fixed") i32 (i32.const 1))
      (func $f (export "f")))`
    const host = {}
    const pool = await makePool(await assemble(wat), {
      max: 1,
      init: it => (it.exports.ref.value = host)
    })
    for (let round = 0; round < 3; round++) {
      await pool.run(({ exports: { table, f32, f64, ref, f } }) => {
        expect([table.get(0), table.get(1)]).toEqual([f, null])
        expect([f32.value, f64.value]).toEqual([-0, NaN])
        expect(ref.value).toBe(host)
        table.set(0, null)
        table.set(1, f)
        f32.value = 1
        f64.value = 2
        ref.value = round
      })
    }
    expect(pool.stats()).toMatchObject({ created: 1, discarded: 0 })
  })

  test('get back the zero with the right sign', async () => {
    const wasm = await assemble('(module (memory 1) (table (export "t") 2 externref))')
    const pool = await makePool(wasm, { max: 1, init: ({ exports }) => exports.t.set(0, 0) })
    await pool.run(({ exports }) => exports.t.set(0, -0))
    await pool.run(({ exports }) => expect(exports.t.get(0)).toBe(0))
  })

  test('of functions that are exported are carried to other instances', async () => {
    const wat = `(module (memory 1) (table $t 1 funcref) (global $g (mut funcref) (ref.null func))
      (global $id (mut i32) (i32.const 0))
      (func $f (export "f") (result i32) (i32.load (i32.const 0)))
      (func (export "init") (table.set $t (i32.const 0) (ref.func $f)) (global.set $g (ref.func $f)))
      (func (export "store") (param i32) (i32.store (i32.const 0) (local.get 0)))
      (func (export "viaTable") (result i32) (call_indirect $t (result i32) (i32.const 0)))
      (func (export "viaGlobal") (result i32)
        (table.set $t (i32.const 0) (global.get $g)) (call_indirect $t (result i32) (i32.const 0))))`
    const pool = await makePool(await assemble(wat), { init, size: 2 })
    const [a, b] = [await pool.acquire(), await pool.acquire()]
    a.exports.store(1)
    b.exports.store(2)
    expect([a, b].map(({ exports }) => exports.viaTable())).toEqual([1, 2])
    expect([a, b].map(({ exports }) => exports.viaGlobal())).toEqual([1, 2])
  })

  test('of functions that no other instance shows are refused', async () => {
    const wat = `(module (memory 1) (table $t 1 funcref) (elem declare func $hidden) (func $hidden)
      (func (export "init") (table.set $t (i32.const 0) (ref.func $hidden))))`
    const error = await rejection(InstancePool.create(await assemble(wat), { init }))
    expectError(error, { code: 'ERR_HOSTMAP_NOT_RESTORABLE', says: 'function 0' })
  })

  test("of another module's functions are refused, and not taken for the module's own", async () => {
    const wat = `(module (memory 1) (table (export "table") 2 funcref) (elem (i32.const 0) $f) (func $f))`
    const stranger = new WebAssembly.Instance(
      compiled(await assemble('(module (func (export "g")))'))
    )
    const create = InstancePool.create(await assemble(wat), {
      init: ({ exports }) => exports.table.set(1, stranger.exports.g)
    })
    expectError(await rejection(create), { code: 'ERR_HOSTMAP_NOT_RESTORABLE', says: 'function 0' })
    // Where the module's own function of the same index was.
    const replaced = InstancePool.create(await assemble(wat), {
      init: ({ exports }) => exports.table.set(0, stranger.exports.g)
    })
    expectError(await rejection(replaced), {
      code: 'ERR_HOSTMAP_NOT_RESTORABLE',
      says: 'function 0'
    })
  })

  test('of a 64-bit table are restored', async () => {
    // (table i64 2 funcref), which wabt can't assemble: its limits have flag 4.
    const wat = `(module (memory 1) (table (export "table") 2 funcref) (elem declare func $f)
      (func $f (export "f")))`
    const wasm = Buffer.from(await assemble(wat))
    const at = wasm.indexOf(Buffer.from([4, 4, 1, 0x70, 0, 2]))
    expect(at).toBeGreaterThan(0)
    wasm[at + 4] = 4
    if (!WebAssembly.validate(wasm)) return // No 64-bit tables in this V8.
    const pool = await makePool(wasm, { max: 1 })
    for (let round = 0; round < 2; round++) {
      await pool.run(({ exports: { table, f } }) => {
        expect(table.get(1n)).toBe(null)
        table.set(1n, f)
      })
    }
    expect(pool.stats()).toMatchObject({ created: 1, discarded: 0 })
  })

  test('go through a file exactly', async () => {
    const wat = `(module (memory 1)
      (table (export "table") 3 funcref) (elem (i32.const 0) $f $g)
      (table (export "values") 6 externref)
      (global (export "i32") (mut i32) (i32.const 0))
      (global (export "i64") (mut i64) (i64.const 0))
      (global (export "f32") (mut f32) (f32.const 0))
      (global (export "f64") (mut f64) (f64.const 0))
      (global (export "nan") (mut f64) (f64.const 0))
      (global (export "infinite") (mut f32) (f32.const 0))
      (global (export "ref") (mut funcref) (ref.null func))
      (func $f (result i32) (i32.load (i32.const 0)))
      (func $g (export "g") (result i32) (i32.load (i32.const 4)))
      (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1))))`
    const wasm = await assemble(wat)
    const values = [undefined, null, 'a\ud83d\ude00"', true, -0, 10n ** 30n]
    const first = await makePool(wasm, {
      init({ exports }) {
        const { table, values: list, ...globals } = exports
        globals.i32.value = -1
        globals.i64.value = -(2n ** 63n)
        globals.f32.value = -0
        globals.f64.value = Number.MIN_VALUE
        globals.nan.value = NaN
        globals.infinite.value = -Infinity
        globals.ref.value = globals.g
        // Swapped, and one twice.
        const [f, g] = [table.get(0), table.get(1)]
        table.set(0, g)
        table.set(1, g)
        table.set(2, f)
        values.forEach((value, index) => list.set(index, value))
      }
    })
    const file = directory.file()
    await first.snapshot.save(file)
    const snapshot = await Snapshot.load(file)
    const pool = await makePool(wasm, { snapshot })
    await pool.run(({ exports }) => {
      const { i32, i64, f32, f64, nan, infinite, ref, table, values: list, g, store } = exports
      const globals = [i32, i64, f32, f64, nan, infinite].map(({ value }) => value)
      expect(globals).toEqual([-1, -(2n ** 63n), -0, Number.MIN_VALUE, NaN, -Infinity])
      expect(values.map((_, index) => list.get(index))).toEqual(values)
      expect([ref.value, table.get(0), table.get(1)]).toEqual([g, g, g])
      store(0, 1)
      store(4, 2)
      expect([0, 1, 2].map(index => table.get(index)())).toEqual([2, 2, 1])
    })
    snapshot.close()
  })

  test('in a snapshot keep no instance alive', async () => {
    const body = async ({ hostmap, assemble, collect, args }) => {
      const module = new WebAssembly.Module(hostmap.exposeState(await assemble(args)))
      const take = () => {
        const instance = new WebAssembly.Instance(module)
        instance.exports.init()
        return [
          hostmap.Snapshot.of(instance),
          new WeakRef(instance),
          new WeakRef(instance.exports.memory)
        ]
      }
      const [snapshot, ...refs] = take()
      for (let i = 0; i < 20 && refs.some(ref => ref.deref()); i++) await collect()
      const { exports } = await snapshot.instantiate(module)
      return [refs.map(ref => ref.deref() === undefined), exports.load(100), exports.call(2)]
    }
    expect(await inChild(body, { flags: ['--expose-gc'], args: WAT })).toEqual([
      [true, true],
      42,
      2
    ])
  })

  test('that are kept with a memory whose module does not show it keep no instance alive', async () => {
    const body = async ({ hostmap, assemble, collect, args }) => {
      const module = new WebAssembly.Module(await assemble(args))
      const take = () => {
        const memory = new WebAssembly.Memory({ initial: 1 })
        const { exports } = new WebAssembly.Instance(module, { env: { memory } })
        const guarded = hostmap.GuardedMemory.from(memory)
        const snapshot = guarded.snapshot({ globals: exports })
        exports.g.value = 5
        guarded.restore(snapshot)
        return [snapshot, exports.g.value, new WeakRef(memory), new WeakRef(exports)]
      }
      const [snapshot, value, ...refs] = take()
      for (let i = 0; i < 20 && refs.some(ref => ref.deref()); i++) await collect()
      return [snapshot.closed, value, ...refs.map(ref => ref.deref() === undefined)]
    }
    const wat =
      '(module (import "env" "memory" (memory 1)) (global (export "g") (mut i32) (i32.const 3)))'
    expect(await inChild(body, { flags: ['--expose-gc'], args: wat })).toEqual([
      false,
      3,
      true,
      true
    ])
  })

  test('that hold objects of the process are kept, and go into no file', async () => {
    const wasm = await assemble('(module (memory 1) (table (export "t") 1 externref))')
    const object = {}
    const pool = await makePool(wasm, { init: ({ exports }) => exports.t.set(0, object), size: 2 })
    await pool.run(({ exports }) => expect(exports.t.get(0)).toBe(object))
    const error = await rejection(pool.snapshot.save(directory.file()))
    expectError(error, { code: 'ERR_HOSTMAP_NOT_RESTORABLE', says: /entry 0 of table "t"/ })
  })
})

describe('a pool', () => {
  test('makes what size says, and at most what max says', async () => {
    const pool = await makePool(bytes, { init, size: 3, max: 4 })
    expect(pool.stats()).toMatchObject({
      size: 3,
      idle: 3,
      busy: 0,
      max: 4,
      created: 3,
      acquired: 0
    })
    const leased = await Promise.all([1, 2, 3, 4].map(() => pool.acquire()))
    const fifth = pool.acquire()
    expect(pool.stats()).toMatchObject({ size: 4, idle: 0, busy: 4, waiting: 1 })
    leased[2].release()
    expectClean(await fifth)
    expect(pool.stats()).toMatchObject({ size: 4, busy: 4, waiting: 0, acquired: 5, restored: 1 })
    const none = await makePool(bytes, { size: 0, snapshot: pool.snapshot })
    expect(none.stats()).toMatchObject({ size: 0, created: 0, max: 64 })
    await none.run(expectClean)
  })

  test('serves those who wait in their order, but for those who gave up', async () => {
    const pool = await makePool(bytes, { init, max: 1 })
    const first = await pool.acquire()
    const controllers = [0, 1, 2, 3].map(() => new AbortController())
    const served = []
    const waits = controllers.map(({ signal }, index) =>
      pool.acquire({ signal }).then(
        leased => {
          served.push(index)
          leased.release()
        },
        error => error
      )
    )
    const reason = new Error('changed my mind')
    controllers[1].abort(reason)
    expect(pool.stats().waiting).toBe(3)
    first.release()
    // Too late: it has its instance.
    controllers[0].abort()
    const [, aborted] = await Promise.all(waits)
    expectError(aborted, { code: 'ABORT_ERR' })
    expect(aborted.cause).toBe(reason)
    expect(served).toEqual([0, 2, 3])
    expect(pool.stats()).toMatchObject({ idle: 1, busy: 0, waiting: 0 })
  })

  test('leaves no listener on a signal', async () => {
    const pool = await makePool(bytes, { init, max: 1 })
    let listeners = 0
    const signal = {
      aborted: false,
      addEventListener: () => listeners++,
      removeEventListener: () => listeners--
    }
    const first = await pool.acquire({ signal })
    expect(listeners).toBe(0)
    const second = pool.acquire({ signal })
    expect(listeners).toBe(1)
    first.release()
    expect(listeners).toBe(0)
    ;(await second).release()
  })

  test('rejects a wait that is aborted before it starts, even if an instance is idle', async () => {
    const pool = await makePool(bytes, { init })
    const error = await rejection(pool.acquire({ signal: AbortSignal.abort() }))
    expectError(error, { code: 'ABORT_ERR' })
    expect(pool.stats()).toMatchObject({ idle: 1, acquired: 0 })
  })

  test('makes new instances for those who wait when one is discarded', async () => {
    const pool = await makePool(bytes, { init, max: 2 })
    const leased = await Promise.all([pool.acquire(), pool.acquire()])
    const waiting = [pool.run(expectClean), pool.run(expectClean), pool.run(expectClean)]
    for (const one of leased) {
      one.exports.growTable()
      one.release()
    }
    await Promise.all(waiting)
    expect(pool.stats()).toMatchObject({ size: 2, idle: 2, created: 4, discarded: 2 })
  })

  test('tells everybody who waits why no instance can be made, so that nobody waits for ever', async () => {
    let isBroken = false
    const imports = index => {
      if (isBroken) throw new Error(`no imports for ${index}`)
      return {}
    }
    const pool = await makePool(bytes, { init, imports, max: 1 })
    const leased = await pool.acquire()
    const waits = [1, 2].map(() => rejection(pool.acquire()))
    isBroken = true
    leased.exports.growTable()
    leased.release()
    expect((await Promise.all(waits)).map(({ message }) => message)).toEqual([
      'no imports for 1',
      'no imports for 2'
    ])
    await expect(pool.acquire()).rejects.toThrow('no imports for 3')
    isBroken = false
    await pool.run(expectClean)
    expect(pool.stats()).toMatchObject({ size: 1, idle: 1, waiting: 0 })
  })

  describe('rejects only who waits,', () => {
    const unhandled = jest.fn()
    beforeEach(() => {
      unhandled.mockClear()
      process.on('unhandledRejection', unhandled)
    })
    afterEach(async () => {
      // It is told of after the microtasks.
      await new Promise(resolve => setImmediate(resolve))
      process.off('unhandledRejection', unhandled)
      expect(unhandled).not.toHaveBeenCalled()
    })

    const never = () => {
      throw new Error('never read')
    }
    const traps = { get: never, getPrototypeOf: never, getOwnPropertyDescriptor: never, has: never }
    test.each([
      ['message is a symbol', Object.assign(new Error('odd'), { message: Symbol('odd') })],
      ['message throws', Object.defineProperty(new Error('odd'), 'message', { get: never })],
      ['code throws', Object.defineProperty(new Error('odd'), 'code', { get: never })],
      ['cause throws', Object.defineProperty(new Error('odd'), 'cause', { get: never })],
      ["cause's message is a symbol", new Error('odd', { cause: { message: Symbol('odd') } })],
      ['message is an object without a text', { message: { __proto__: null } }],
      ['traps all throw', new Proxy(new Error('odd'), traps)]
    ])('where the %s of what imports or bind throw', async (_, thrown) => {
      for (const where of ['imports', 'bind']) {
        let isBroken = false
        const breaks = () => {
          if (isBroken) throw thrown
          return {}
        }
        for (const how of ['release', 'discard']) {
          const pool = await makePool(bytes, { init, max: 1, [where]: breaks })
          const leased = await pool.acquire()
          const seen = []
          const waits = [1, 2].map(() => pool.acquire().catch(error => seen.push(error === thrown)))
          isBroken = true
          leased.exports.growTable()
          leased[how]()
          await new Promise(resolve => setImmediate(resolve))
          expect(pool.stats()).toMatchObject({ size: 0, busy: 0, waiting: 0, discarded: 1 })
          await Promise.all(waits)
          expect(seen).toEqual([true, true])
          isBroken = false
          await pool.run(expectClean)
        }
      }
    })

    test('where it can not be served even when the stack is empty', async () => {
      const pool = await makePool(bytes, { init, max: 1 })
      const leased = await pool.acquire()
      const seen = []
      const waits = [1, 2].map(() => pool.acquire().catch(error => seen.push(error.message)))
      const iterator = jest.spyOn(Set.prototype, Symbol.iterator).mockImplementation(() => {
        throw new Error('no iterator')
      })
      try {
        leased.release()
        await Promise.resolve()
      } finally {
        iterator.mockRestore()
      }
      await Promise.all(waits)
      expect(seen).toEqual(['no iterator', 'no iterator'])
      expect(pool.stats()).toMatchObject({ size: 1, idle: 1, busy: 0, waiting: 0 })
      await pool.run(expectClean)
    })
  })

  test('leaves nobody waiting for an instance that could not be made', async () => {
    const asked = []
    const imports = index => {
      if (index === 1) {
        asked.push(pool.run(expectClean))
        throw new Error('not this one')
      }
      return {}
    }
    const pool = await makePool(bytes, { init, imports, max: 2 })
    const first = await pool.acquire()
    await expect(pool.acquire()).rejects.toThrow('not this one')
    await Promise.all(asked)
    expect(asked).toHaveLength(1)
    first.release()
    expect(pool.stats()).toMatchObject({ size: 2, idle: 2, waiting: 0 })
  })

  test('serves those who wait in their order where there is no room at first, too', async () => {
    let failures = 0
    const imports = () => {
      if (failures === 0) return {}
      failures -= 1
      throw Object.assign(new Error('no room'), { code: 'ERR_HOSTMAP_ADDRESS_SPACE' })
    }
    const pool = await makePool(bytes, { init, imports, max: 1 })
    const order = []
    const use = name => pool.run(() => void order.push(name))
    const leased = await pool.acquire()
    const users = [use('first'), use('second')]
    failures = 2
    leased.discard()
    expect(pool.stats()).toMatchObject({ size: 0, waiting: 2 })
    // There is room, but others came before.
    failures = 0
    users.push(use('third'))
    expect(pool.stats()).toMatchObject({ size: 0, waiting: 3 })
    await Promise.all(users)
    expect(order).toEqual(['first', 'second', 'third'])

    // No room for the one who asks, and none when it is tried again: each is told.
    ;(await pool.acquire()).discard()
    failures = Infinity
    const refused = [1, 2, 3].map(() => rejection(pool.acquire()))
    expect((await Promise.all(refused)).map(({ message }) => message)).toEqual(
      Array(3).fill('no room')
    )
    failures = 0
    await pool.run(expectClean)
    expect(pool.stats()).toMatchObject({ size: 1, idle: 1, waiting: 0 })
  })

  test('does not mind a signal that throws', async () => {
    const pool = await makePool(bytes, { init, max: 1 })
    const leased = await pool.acquire()
    const signal = {
      aborted: false,
      addEventListener() {},
      removeEventListener() {
        throw new Error('never')
      }
    }
    const waiting = [pool.acquire({ signal }), pool.acquire({ signal }), pool.acquire({ signal })]
    leased.release()
    expect(pool.stats()).toMatchObject({ idle: 0, busy: 1, waiting: 2 })
    pool.close()
    const code = 'ERR_HOSTMAP_POOL_CLOSED'
    for (const closed of waiting.slice(1)) expectError(await rejection(closed), { code })
    ;(await waiting[0]).release()
    expect(pool.stats()).toMatchObject({ size: 0, busy: 0, waiting: 0 })
  })

  test('makes instances again and again where few fit into the address space', async () => {
    const body = async ({ hostmap, assemble, args }) => {
      const pool = await hostmap.InstancePool.create(await assemble(args), { max: 2 })
      for (let i = 0; i < 24; i++) await pool.run(({ exports }) => exports.grow(1))
      const first = await pool.acquire()
      const others = Array.from({ length: 12 }, () => pool.run(({ exports }) => exports.grow(1)))
      first.release()
      await Promise.all(others)
      return pool.stats().created
    }
    // Room for three or four.
    expect(await inChild(body, { ulimit: `-v ${50 * 2 ** 20}`, args: WAT })).toBeGreaterThanOrEqual(
      36
    )
  })

  test('says why V8 has no room for another instance', async () => {
    const body = async ({ hostmap, assemble, failure, args }) => {
      const pool = await hostmap.InstancePool.create(await assemble(args), { max: 100 })
      const leased = []
      const error = await failure(async () => {
        for (;;) leased.push(await pool.acquire())
      })
      const { size, busy } = pool.stats()
      leased[0].release()
      leased.push(await pool.acquire())
      return { code: error.code, count: leased.length - 1, size, busy }
    }
    const { code, count, size, busy } = await inChild(body, {
      ulimit: `-v ${50 * 2 ** 20}`,
      args: WAT
    })
    expect(code).toBe('ERR_HOSTMAP_RLIMIT_AS')
    expect(count).toBeGreaterThan(1)
    expect([size, busy]).toEqual([count, count])
  })

  test('keeps its books over a thousand random steps, and loses nobody', async () => {
    const pool = await makePool(bytes, { init, max: 3 })
    // Marsaglia's xorshift32.
    let seed = 20_261
    const random = below => {
      seed ^= seed << 13
      seed ^= seed >>> 17
      seed ^= seed << 5
      return (seed >>> 0) % below
    }
    const held = []
    const waiting = []
    const order = []
    let aborted = 0
    for (let step = 0; step < 1000; step++) {
      const what = random(10)
      if (what < 5 && held.length + waiting.length < 12) {
        const controller = new AbortController()
        const ticket = { controller, step }
        waiting.push(ticket)
        pool.acquire({ signal: controller.signal }).then(
          leased => {
            waiting.splice(waiting.indexOf(ticket), 1)
            order.push(step)
            held.push(leased)
          },
          ({ code }) => {
            expect(code).toBe('ABORT_ERR')
            waiting.splice(waiting.indexOf(ticket), 1)
            aborted += 1
          }
        )
      } else if (what === 5 && waiting.length > 0) {
        waiting[random(waiting.length)].controller.abort()
      } else if (held.length > 0) {
        const [leased] = held.splice(random(held.length), 1)
        expectClean(leased)
        leased.exports.spoil()
        if (random(20) === 0) leased.exports.growTable()
        leased.release()
      }
      await null
      await null
      await null
      const { size, idle, busy, waiting: queued } = pool.stats()
      expect([idle + busy, busy, queued]).toEqual([size, held.length, waiting.length])
      if (queued > 0) expect([idle, size]).toEqual([0, 3])
    }
    while (held.length > 0) {
      held.pop().release()
      await new Promise(resolve => setImmediate(resolve))
    }
    expect(waiting).toEqual([])
    expect(order).toEqual([...order].sort((a, b) => a - b))
    expect(aborted).toBeGreaterThan(10)
    expect(pool.stats()).toMatchObject({ busy: 0, waiting: 0, acquired: order.length })
  })

  test('runs functions: gives what they give, and has the instance back whatever comes of them', async () => {
    const pool = await makePool(bytes, { init, max: 1 })
    expect(await pool.run(({ exports }) => exports.load(100))).toBe(42)
    expect(await pool.run(async ({ exports }) => exports.load(100))).toBe(42)
    const error = new Error('mine')
    await expect(pool.run(() => Promise.reject(error))).rejects.toBe(error)
    await expect(
      pool.run(() => {
        throw error
      })
    ).rejects.toBe(error)
    // Released by the function itself already.
    await pool.run(leased => leased.release())
    expect(pool.stats()).toMatchObject({ idle: 1, busy: 0, acquired: 5, restored: 5 })
  })

  test('counts the microseconds of its restores', async () => {
    const pool = await makePool(bytes, { init })
    expect(pool.stats().restoreMicroseconds).toEqual({ last: 0, mean: 0, max: 0 })
    for (let i = 0; i < 3; i++) await pool.run(({ exports }) => exports.spoil())
    const { last, mean, max } = pool.stats().restoreMicroseconds
    expect(last).toBeGreaterThan(0)
    expect(mean).toBeLessThanOrEqual(max)
    expect(last).toBeLessThanOrEqual(max)
    expect(pool.stats()).not.toBe(pool.stats())
  })

  test('starts from a snapshot that was saved', async () => {
    const file = directory.file()
    const first = await makePool(bytes, { init })
    await first.snapshot.save(file)
    first.close()
    const snapshot = await Snapshot.load(file, { module: bytes })
    const pool = await makePool(bytes, { snapshot, size: 2 })
    for (let i = 0; i < 2; i++) {
      const leased = await Promise.all([pool.acquire(), pool.acquire()])
      for (const instance of leased) {
        expectClean(instance)
        instance.exports.spoil()
        instance.release()
      }
    }
    pool.close()
    // It was not the pool's.
    expect(snapshot.closed).toBe(false)
    expect(pool.snapshot).toBe(snapshot)
    snapshot.close()
  })

  test('does not mind another pool of the same module', async () => {
    const module = compiled(exposeState(bytes))
    const [a, b] = await Promise.all([
      makePool(module, { init }),
      makePool(module, { init: ({ exports }) => exports.store(100, 7) })
    ])
    await a.run(async one => {
      await b.run(({ exports }) => {
        expect([one.exports.load(100), exports.load(100)]).toEqual([42, 7])
        exports.spoil()
      })
      expectClean(one)
    })
    a.close()
    await b.run(({ exports }) => expect(exports.load(100)).toBe(7))
  })

  test('binds each instance before anything runs in it', async () => {
    const wat = `(module (import "env" "read" (func $read (result i32))) (memory 1)
      (func (export "init") (i32.store (i32.const 4) (i32.const 5)))
      (func (export "read") (result i32) (call $read)))`
    const readers = []
    const bound = []
    const pool = await makePool(await assemble(wat), {
      imports: index => ({ env: { read: () => readers[index]() } }),
      bind(instance, memory) {
        expect(memory).toBeInstanceOf(GuardedMemory)
        bound.push(instance)
        readers.push(() => new Uint32Array(memory.buffer)[1])
      },
      init,
      size: 2
    })
    const leased = await Promise.all([pool.acquire(), pool.acquire()])
    leased[0].memory.buffer && (new Uint32Array(leased[0].memory.buffer)[1] = 6)
    expect(leased.map(({ exports }) => exports.read())).toEqual([6, 5])
    expect(bound).toEqual(expect.arrayContaining(leased.map(({ instance }) => instance)))
  })

  test('calls what it was given with no `this`', async () => {
    const seen = []
    const note = function () {
      seen.push(this)
    }
    const imports = function () {
      seen.push(this)
      return {}
    }
    await makePool(bytes, { imports, bind: note, init: note })
    expect(seen).toEqual([undefined, undefined, undefined])
  })

  test('waits for what init does', async () => {
    const pool = await makePool(bytes, {
      async init({ exports }) {
        await new Promise(resolve => setImmediate(resolve))
        exports.init()
      }
    })
    await pool.run(expectClean)
  })

  test('makes a shared memory for each instance where its imports do', async () => {
    const wat = `(module (import "env" "memory" (memory 1 4 shared))
      (func (export "add") (result i32) (i32.atomic.rmw.add (i32.const 0) (i32.const 1))))`
    const imports = () => ({
      env: { memory: new WebAssembly.Memory({ initial: 1, maximum: 4, shared: true }) }
    })
    const pool = await makePool(await assemble(wat), {
      imports,
      size: 2,
      init: ({ exports }) => exports.add()
    })
    for (let i = 0; i < 3; i++) {
      const leased = await Promise.all([pool.acquire(), pool.acquire()])
      expect(leased.map(({ exports }) => exports.add())).toEqual([1, 1])
      for (const one of leased) one.release()
    }
    expect(pool.stats()).toMatchObject({ created: 2, discarded: 0 })
  })

  test('is closed once: waiting ones are rejected, instances in use stay', async () => {
    const pool = await makePool(bytes, { init, max: 1 })
    const leased = await pool.acquire()
    const waiting = rejection(pool.acquire())
    pool.close()
    pool.close()
    expect(pool.closed).toBe(true)
    expectError(await waiting, { code: 'ERR_HOSTMAP_POOL_CLOSED' })
    expectError(await rejection(pool.acquire()), { code: 'ERR_HOSTMAP_POOL_CLOSED' })
    expectError(await rejection(pool.run(() => 1)), { code: 'ERR_HOSTMAP_POOL_CLOSED' })
    expectClean(leased)
    leased.release()
    expect(pool.stats()).toMatchObject({ size: 0, idle: 0, busy: 0, restored: 0 })
    expect(pool.snapshot.closed).toBe(true)
  })

  test('lets go of its memories when it is closed', async () => {
    const body = async ({ hostmap, assemble, collect, args }) => {
      const wasm = await assemble(args)
      const refs = []
      const use = async () => {
        const pool = await hostmap.InstancePool.create(wasm, {
          size: 3,
          bind: (instance, memory) => refs.push(new WeakRef(instance), new WeakRef(memory.memory)),
          init: ({ exports }) => exports.init()
        })
        const leased = await pool.acquire()
        pool.close()
        leased.release()
        return pool
      }
      const pool = await use()
      for (let i = 0; i < 20 && refs.some(ref => ref.deref()); i++) await collect()
      return [refs.length, refs.filter(ref => ref.deref()).length, pool.closed]
    }
    expect(await inChild(body, { flags: ['--expose-gc'], args: WAT })).toEqual([6, 0, true])
  })

  test('and its instances are disposed of by what `using` calls', async () => {
    const pool = await InstancePool.create(bytes, { init, max: 1 })
    const leased = await pool.acquire()
    leased[Symbol.dispose]()
    expect(leased.released).toBe(true)
    pool[Symbol.dispose]()
    expect(pool.closed).toBe(true)
  })

  const hasUsing = Number.parseInt(process.versions.node, 10) >= 24
  skipUnless('needs Node.js 24', hasUsing).test('and `using` itself does', async () => {
    // Older ones can't parse it.
    const body = `async ({ hostmap, assemble, args }) => {
      let seen
      {
        using pool = await hostmap.InstancePool.create(await assemble(args), { max: 1 })
        { using one = await pool.acquire(); one.exports.store(200, 1) }
        { using two = await pool.acquire(); seen = [two.exports.load(200), pool] }
      }
      return [seen[0], seen[1].closed, seen[1].stats().restored]
    }`
    expect(await inChild(body, { args: WAT })).toEqual([0, true, 2])
  })

  test('and its instances print as what they are', async () => {
    const pool = await makePool(bytes, { init })
    const { inspect } = require('node:util')
    expect(inspect(pool)).toMatch(/^InstancePool {\s+size: 1, idle: 1, .*closed: false\s+}$/s)
    expect(inspect(await pool.acquire())).toBe('PooledInstance { released: false }')
    expect(inspect(Object.create(InstancePool.prototype))).toBe('InstancePool {}')
    expect(inspect(Object.create(PooledInstance.prototype))).toBe('PooledInstance {}')
  })

  test('and its instances are made by create and acquire alone', () => {
    expectError(
      thrownBy(() => new InstancePool()),
      { code: 'ERR_ILLEGAL_CONSTRUCTOR' }
    )
    expectError(
      thrownBy(() => new PooledInstance()),
      { code: 'ERR_ILLEGAL_CONSTRUCTOR' }
    )
  })
})

describe('a compiled module', () => {
  test('has a pool like its bytes if it was exposed', async () => {
    const pool = await makePool(compiled(exposeState(bytes)), { init, max: 1 })
    await pool.run(({ exports }) => exports.spoil())
    await pool.run(expectClean)
    expect(pool.stats().created).toBe(1)
  })

  test('that was not exposed is refused, unless what it hides may stay', async () => {
    const error = await rejection(InstancePool.create(compiled(bytes), { init }))
    expectError(error, {
      code: 'ERR_HOSTMAP_NOT_RESTORABLE',
      says: [/hidden-globals/, /hidden-tables/, /exposeState/]
    })
    const half = InstancePool.create(compiled(bytes), { init, accept: ['hidden-globals'] })
    expectError(await rejection(half), {
      code: 'ERR_HOSTMAP_NOT_RESTORABLE',
      says: /hidden-tables/
    })

    const pool = await makePool(compiled(bytes), {
      init,
      max: 1,
      accept: ['hidden-globals', 'hidden-tables']
    })
    await pool.run(({ exports }) => exports.spoil())
    await pool.run(({ exports }) => {
      expect(exports.load(100)).toBe(42)
      expect(exports.count()).toBe(-1n)
    })
  })

  test('has a snapshot that does not say of which module it is, and says so', async () => {
    const pool = await makePool(compiled(exposeState(bytes)), { init })
    expect(pool.snapshot.moduleDigest).toBe(null)
    const file = directory.file()
    await pool.snapshot.save(file)
    const error = await rejection(Snapshot.load(file, { module: bytes }))
    expectError(error, {
      code: 'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
      says: /from a pool that is made of bytes/
    })
    const snapshot = await Snapshot.load(file)
    await (await makePool(bytes, { snapshot })).run(expectClean)
    snapshot.close()
  })

  test('whose section tells of another module is one that was not exposed', async () => {
    const name = 'wasm-hostmap'
    const [report] = WebAssembly.Module.customSections(compiled(exposeState(bytes)), name)
    const section = Buffer.concat([
      Buffer.from([name.length]),
      Buffer.from(name),
      Buffer.from(report)
    ])
    // Its length in two bytes of seven bits.
    const head = Buffer.from([0, (section.length % 128) + 128, Math.floor(section.length / 128)])
    const other = await assemble('(module (memory (export "memory") 1))')
    const forged = Buffer.concat([other, head, section])
    expect(WebAssembly.Module.customSections(compiled(forged), 'wasm-hostmap')).toHaveLength(1)
    const error = await rejection(InstancePool.create(compiled(forged)))
    expectError(error, { code: 'ERR_HOSTMAP_NOT_RESTORABLE' })
    // Of bytes it is made anew.
    await (await makePool(forged)).run(({ memory }) => expect(memory.byteLength).toBe(WASM_PAGE))
  })
})

describe('what has no pool', () => {
  const TWO_MEMORIES = Buffer.from('\0asm\x01\0\0\0\x05\x05\x02\0\x01\0\x01', 'latin1')
  const refused = async (module, options) => rejection(InstancePool.create(module, options))

  test('a module without a memory, or with two', async () => {
    const none = await assemble('(module (func (export "f")))')
    for (const module of [none, compiled(none), compiled(exposeState(none))]) {
      expectError(await refused(module), {
        code: 'ERR_HOSTMAP_UNSUITABLE_MODULE',
        says: /no memory/
      })
    }
    expectError(await refused(TWO_MEMORIES), {
      code: 'ERR_HOSTMAP_UNSUITABLE_MODULE',
      says: /2 memories/
    })
  })

  test('a module whose instances would share their memory', async () => {
    const wasm = await assemble(
      '(module (import "env" "memory" (memory 1)) (export "memory" (memory 0)))'
    )
    const env = { memory: new WebAssembly.Memory({ initial: 1 }) }
    const code = 'ERR_HOSTMAP_UNSUITABLE_MODULE'
    expectError(await refused(wasm, { imports: { env } }), {
      code,
      says: /options\.imports be a function/
    })
    expectError(await refused(compiled(wasm), { imports: { env } }), { code, says: /a function/ })
    expectError(await refused(wasm, { imports: () => ({ env }), size: 2 }), {
      code,
      says: /memory/
    })

    const pool = await makePool(wasm, { imports: () => ({ env }) })
    const leased = await pool.acquire()
    expectError(await rejection(pool.acquire()), { code, says: /imports\(1\)/ })
    expect(pool.stats()).toMatchObject({ size: 1, busy: 1, created: 1 })
    leased.release()
  })

  test('a module whose instances would share a mutable global or a table', async () => {
    const wasm = await assemble(
      '(module (import "env" "g" (global (mut i32))) (import "env" "t" (table 1 funcref)) (memory 1))'
    )
    const g = () => new WebAssembly.Global({ value: 'i32', mutable: true }, 0)
    const t = () => new WebAssembly.Table({ element: 'anyfunc', initial: 1 })
    const code = 'ERR_HOSTMAP_UNSUITABLE_MODULE'
    const shared = { g: g(), t: t() }
    expectError(await refused(wasm, { imports: { env: shared }, size: 2 }), {
      code,
      says: /global/
    })
    const sharedTable = () => ({ env: { g: g(), t: shared.t } })
    expectError(await refused(wasm, { imports: sharedTable, size: 2 }), { code, says: /table/ })
    await makePool(wasm, { imports: () => ({ env: { g: g(), t: t() } }), size: 2 })
  })

  test('a module with state that nothing can restore, unless it may stay', async () => {
    const dropped = await assemble(`(module (memory 1) (data $d "abc")
      (func (export "init") (memory.init $d (i32.const 0) (i32.const 0) (i32.const 3)) (data.drop $d)))`)
    const says = [/data segment 0/, /'dropped-segments'/]
    expectError(await refused(dropped), { code: 'ERR_HOSTMAP_NOT_RESTORABLE', says })
    const pool = await makePool(dropped, { accept: ['dropped-segments'], max: 1 })
    await pool.run(({ exports }) => exports.init())
    await pool.run(({ exports }) => expect(exports.init).toThrow(WebAssembly.RuntimeError))

    const vector = await assemble(
      '(module (memory 1) (global (export "v") (mut v128) (v128.const i64x2 1 2)))'
    )
    expectError(await refused(vector), {
      code: 'ERR_HOSTMAP_NOT_RESTORABLE',
      says: [/v \(v128\)/, /'v128-globals'/]
    })
    await (await makePool(vector, { accept: ['v128-globals'] })).run(() => {})
  })

  test('a module with objects in its segments, unless they may stay', async () => {
    // wabt can't assemble it. (memory (export "memory") 1) (type $s (struct (field (mut i32))))
    // (type $a (array (ref $s))) (elem $e (ref $s) (item (struct.new $s (i32.const 7)))) (func $get
    // (result (ref $s)) (array.get $a (array.new_elem $a $e (i32.const 0) (i32.const 1)) (i32.const
    // 0))) (func (export "read") (result i32) (struct.get $s 0 (call $get))) (func (export "write")
    // (param i32) (struct.set $s 0 (call $get) (local.get 0)))
    const segment = Buffer.from(
      '0061736d010000000116055f017f015e64000060000164006000017f60017f000304030203040503010001071903066d656d6f72790200047265616400010577726974650002090b01056400014107fb00000b0a25030f0041004101fb0a01004100fb0b010b08001000fb0200000b0a0010002000fb0500000b001c046e616d650106010003676574040702000173010161080401000165',
      'hex'
    )
    expectError(await refused(segment), {
      code: 'ERR_HOSTMAP_NOT_RESTORABLE',
      says: /'gc-objects'/
    })
    if (!WebAssembly.validate(segment)) return // Node 20.
    const pool = await makePool(segment, { accept: ['gc-objects'], max: 1 })
    await pool.run(({ exports }) => exports.write(6))
    await pool.run(({ exports }) => expect(exports.read()).toBe(6))
  })

  test('a module with objects or exceptions in its globals, unless they may stay', async () => {
    // wabt can't assemble these two. (type $s (struct (field (mut i32)))) (memory 1) (global
    // (export "g") (mut (ref null $s)) (ref.null $s)) (func (export "init") (global.set 0
    // (struct.new $s (i32.const 1)))) (func (export "get") (result i32) (struct.get $s 0
    // (global.get 0))) (func (export "clear") (global.set 0 (ref.null $s)))
    const objects = Buffer.from(
      '0061736d01000000010c035f017f016000006000017f0304030102010503010001060701630001d0000b071a040167030004696e6974000003676574000105636c65617200020a1b0309004101fb000024000b08002300fb0200000b0600d00024000b000b046e616d65040401000173',
      'hex'
    )
    // (memory 1) (table (export "t") 1 exnref) (global (export "x") (mut exnref) (ref.null exn))
    // (global (export "c") v128 (v128.const i64x2 1 2)) (global (export "v") (mut v128) (v128.const
    // i64x2 1 2)) (global (export "i") (mut i31ref) (ref.i31 (i32.const 5))) (global (export "ci")
    // i31ref (ref.i31 (i32.const 5))) (global (export "a") (mut anyref) (ref.i31 (i32.const 6)))
    const exceptions = Buffer.from(
      '0061736d0100000004040169000105030100010645066901d0690b7b00fd0c010000000000000002000000000000000b7b01fd0c010000000000000002000000000000000b6c014105fb1c0b6c004105fb1c0b6e014106fb1c0b071e070174010001780300016303010176030201690303026369030401610305',
      'hex'
    )
    const code = 'ERR_HOSTMAP_NOT_RESTORABLE'
    expectError(await refused(objects), { code, says: /'gc-objects'/ })
    expectError(await refused(exceptions), {
      code,
      says: [/x \(exnref\), v \(v128\) \('v128-globals'\)/, /t \(exnref\) \('hidden-tables'\)/]
    })
    if (!WebAssembly.validate(objects)) return // Node 20.

    const first = await makePool(objects, { init, accept: ['gc-objects'], max: 1 })
    await first.run(({ exports }) => exports.clear())
    await first.run(({ exports }) => expect(exports.get()).toBe(1))
    expect(first.stats().discarded).toBe(0)
    if (!WebAssembly.validate(exceptions)) return // No exnref in this V8.

    const second = await makePool(exceptions, {
      accept: ['v128-globals', 'hidden-tables'],
      size: 2,
      max: 2
    })
    for (let round = 0; round < 2; round++) {
      await second.run(({ exports: { i, a } }) => {
        expect([i.value, a.value]).toEqual([5, 6])
        i.value = 7
        a.value = {}
      })
    }
    expect(second.stats().discarded).toBe(0)
  })

  test('a bind or imports that come later', async () => {
    const code = 'ERR_INVALID_ARG_TYPE'
    const later = async () => {
      throw new Error('mine')
    }
    expectError(await refused(bytes, { bind: later }), { code, says: [/options\.bind/, /promise/] })
    const thenable = { then() {} }
    expectError(await refused(bytes, { bind: () => thenable }), { code, says: /options\.bind/ })
    expectError(await refused(bytes, { imports: later }), {
      code,
      says: [/options\.imports\(0\)/, /promise/]
    })
    expectError(await refused(bytes, { imports: later() }), {
      code,
      says: [/options\.imports/, /promise/]
    })
  })

  test('instances with more memory than the first, unless it may stay', async () => {
    const wasm = await assemble('(module (import "env" "memory" (memory 1 9)))')
    const imports = index => ({
      env: { memory: new WebAssembly.Memory({ initial: 1 + index, maximum: 9 }) }
    })
    const bind = instance => instance.exports.grow(sizes++)
    let sizes = 0
    for (const [module, options] of [
      [wasm, { imports }],
      [bytes, { bind }]
    ]) {
      const says = [/options\.imports/, /bind/, /'grown-memory'/]
      const code = 'ERR_HOSTMAP_SNAPSHOT_MISMATCH'
      sizes = 0
      expectError(await refused(module, { ...options, size: 2 }), { code, says })
      sizes = 0
      const pool = await makePool(module, { ...options, size: 2, accept: ['grown-memory'] })
      const both = await Promise.all([pool.acquire(), pool.acquire()])
      const [small, large] = both.map(({ memory }) => memory.byteLength).sort((a, b) => a - b)
      expect(large - small).toBe(WASM_PAGE)
    }
  })

  test('an init that throws: its error, and nothing left behind', async () => {
    const error = new Error('not today')
    const fails = [
      () => {
        throw error
      },
      () => Promise.reject(error)
    ]
    for (const init of fails) expect(await refused(bytes, { init })).toBe(error)
    const trap = await refused(bytes, { init: ({ exports }) => exports.deep(3) })
    expect(trap).toBeInstanceOf(WebAssembly.RuntimeError)
    for (const bind of fails.slice(0, 1)) expect(await refused(bytes, { bind })).toBe(error)
  })

  test.each([
    ['nothing', [undefined], 'ERR_INVALID_ARG_TYPE'],
    ['a path', ['module.wasm'], 'ERR_INVALID_ARG_TYPE'],
    ['no module', [Buffer.from('(module)')], 'ERR_INVALID_ARG_VALUE'],
    ['no options', [null, null], 'ERR_INVALID_ARG_TYPE'],
    ['imports that are none', [null, { imports: 1 }], 'ERR_INVALID_ARG_TYPE'],
    ['a bind that is no function', [null, { bind: {} }], 'ERR_INVALID_ARG_TYPE'],
    ['an init that is no function', [null, { init: 'init' }], 'ERR_INVALID_ARG_TYPE'],
    ['a snapshot that is none', [null, { snapshot: {} }], 'ERR_INVALID_ARG_TYPE'],
    ['a negative size', [null, { size: -1 }], 'ERR_OUT_OF_RANGE'],
    ['a size over max', [null, { size: 3, max: 2 }], 'ERR_OUT_OF_RANGE'],
    ['a max of 0', [null, { max: 0 }], 'ERR_OUT_OF_RANGE'],
    ['a max that is no number', [null, { max: '2' }], 'ERR_INVALID_ARG_TYPE'],
    ['half a resident byte', [null, { keepResidentBytes: 0.5 }], 'ERR_OUT_OF_RANGE'],
    ['accept that is no list', [null, { accept: 'gc-objects' }], 'ERR_INVALID_ARG_TYPE'],
    ['accept with what is unknown', [null, { accept: ['everything'] }], 'ERR_INVALID_ARG_VALUE']
  ])('create with %s', async (_, [module, options], code) => {
    expectError(await refused(module === null ? bytes : module, options), { code })
  })

  test('create with init and snapshot', async () => {
    const { snapshot } = await makePool(bytes, { init })
    expectError(await refused(bytes, { init, snapshot }), {
      code: 'ERR_INVALID_ARG_VALUE',
      says: /both/
    })
  })

  test('create with a snapshot of another module', async () => {
    const { snapshot } = await makePool(bytes, { init })
    const other = await assemble('(module (memory 2 20) (global (mut i32) (i32.const 0)))')
    expectError(await refused(other, { snapshot }), { code: 'ERR_HOSTMAP_SNAPSHOT_MISMATCH' })
  })

  test('create, instantiate and restoreTo with a snapshot of a module of the same shape', async () => {
    const wat = value => `(module (memory 1) (global (mut i32) (i32.const ${value}))
      (func (export "get") (result i32) (global.get 0)))`
    const [one, two] = [await assemble(wat(1)), await assemble(wat(2))]
    const code = 'ERR_HOSTMAP_SNAPSHOT_MISMATCH'
    const says = [/another module/, /sha256-/]
    const pools = [await makePool(one), await makePool(two)]
    const [{ snapshot }] = pools
    expectError(await refused(two, { snapshot }), { code, says })
    expectError(await rejection(snapshot.instantiate(two)), { code, says })
    const other = await pools[1].acquire()
    expectError(
      thrownBy(() => snapshot.restoreTo(other.instance)),
      { code, says }
    )
    expect(other.exports.get()).toBe(2)
    const forked = await snapshot.instantiate(one)
    expect(forked.exports.get()).toBe(1)
    expectError(
      thrownBy(() => pools[1].snapshot.restoreTo(forked)),
      { code, says }
    )
    expect(forked.exports.get()).toBe(1)
    // Nobody knows of which module this is.
    const unknown = new WebAssembly.Instance(compiled(exposeState(two)))
    snapshot.restoreTo(unknown)
    expect(unknown.exports.get()).toBe(1)
    await (await makePool(one, { snapshot })).run(({ exports }) => expect(exports.get()).toBe(1))
  })

  test('create with a snapshot that lacks what the module hides, or is closed', async () => {
    const instance = new WebAssembly.Instance(compiled(bytes))
    instance.exports.init()
    for (const snapshot of [
      Snapshot.of(instance),
      GuardedMemory.from(instance.exports.memory).snapshot()
    ]) {
      const code = 'ERR_HOSTMAP_SNAPSHOT_MISMATCH'
      expectError(await refused(bytes, { snapshot }), { code, says: 'hostmap:global:0' })
      snapshot.close()
      expectError(await refused(bytes, { snapshot }), { code: 'ERR_HOSTMAP_SNAPSHOT_CLOSED' })
    }
  })

  test('acquire and run with wrong arguments', async () => {
    const pool = await makePool(bytes, { init })
    const code = 'ERR_INVALID_ARG_TYPE'
    expectError(await rejection(pool.acquire(1)), { code })
    expectError(await rejection(pool.acquire({ signal: 'stop' })), { code })
    expectError(await rejection(pool.run()), { code })
    expectError(await rejection(pool.run(() => {}, { signal: {} })), { code })
    expect(pool.stats()).toMatchObject({ idle: 1, acquired: 0 })
  })
})
