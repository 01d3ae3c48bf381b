'use strict'

// Pools of what a factory makes: each request finds its unit as make and init left it, or the unit
// is discarded, with the reason; and the limits of a pool hold.

const { AsyncLocalStorage } = require('node:async_hooks')
const {
  capture,
  exposeState,
  GuardedMemory,
  HostRegion,
  InstancePool,
  PooledInstance
} = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { assemble } = require('./support/wasm')
const { TestWorker } = require('./support/worker')

const WASM_PAGE = 65_536

// An engine as Emscripten's linker makes it: what it has but for its memory and table is hidden.
const ENGINE = `(module
  (import "env" "hook" (func $hook))
  (memory (export "memory") 2 40)
  (global $sp (mut i32) (i32.const 65536))
  (table $table (export "table") 3 funcref)
  (type $get (func (result i32)))
  (func $one (export "one") (result i32) (i32.const 1))
  (func $two (export "two") (result i32) (i32.const 2))
  (elem (i32.const 1) $one $two)
  (func (export "push") (param i32)
    (global.set $sp (i32.sub (global.get $sp) (i32.const 16)))
    (i32.store (global.get $sp) (local.get 0)))
  (func (export "sp") (result i32) (global.get $sp))
  (func (export "call") (param i32) (result i32) (call_indirect (type $get) (local.get 0)))
  (func (export "swap") (table.set $table (i32.const 1) (table.get $table (i32.const 2))))
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "trap") (global.set $sp (i32.const 1)) (unreachable))
  (func $deep (export "deep") (global.set $sp (i32.sub (global.get $sp) (i32.const 1))) (call $deep))
  (func (export "hooked") (global.set $sp (i32.const 99)) (call $hook)))`

let engine
let side
beforeAll(async () => {
  engine = await assemble(ENGINE)
  // A side module, which works in the engine's memory.
  side = await assemble(`(module
    (import "env" "memory" (memory 1))
    (global $loaded (mut i32) (i32.const 0))
    (func (export "poke") (param i32) (global.set $loaded (local.get 0))
      (i32.store (i32.const 128) (local.get 0)))
    (func (export "peek") (result i32) (i32.add (global.get $loaded) (i32.load (i32.const 128)))))`)
})

/** A factory as Emscripten makes them: an object with functions, and files in JavaScript. */
async function makeEngine(hook = () => {}) {
  const { instance } = await WebAssembly.instantiate(engine, { env: { hook } })
  return { ...instance.exports, instance, files: ['boot'] }
}

const make = () => makeEngine()
const files = ({ value }) => {
  const kept = [...value.files]
  return () => {
    value.files = [...kept]
  }
}

/** All that can be seen of an engine. */
const digest = ({ value: it }) => ({
  sp: it.sp(),
  memory: Buffer.from(it.memory.buffer, 0, 2 * WASM_PAGE).toString('base64'),
  calls: [1, 2].map(index => it.call(index)),
  files: it.files
})

const pools = []
/** A pool that is closed after the test. */
async function makePool(options) {
  const pool = await InstancePool.create(options)
  pools.push(pool)
  return pool
}
afterEach(() => pools.splice(0).forEach(pool => pool.close()))

const nextTurn = () => new Promise(resolve => setImmediate(resolve))
const rejection = promise => thrownBy(() => promise)

describe('a request finds its unit as make and init left it', () => {
  test('whatever the one before has done', async () => {
    const pool = await makePool({ make, init: ({ value }) => value.push(7), state: [files] })
    const before = await pool.run(digest)
    expect(before).toMatchObject({ sp: 65_520, calls: [1, 2], files: ['boot'] })
    const deeds = {
      writes: it => [it.push(1), it.store(70_000, 5)],
      tables: it => it.swap(),
      traps: it => expect(() => it.trap()).toThrow(WebAssembly.RuntimeError),
      'the end of the stack': it => expect(() => it.deep()).toThrow(RangeError),
      files: it => it.files.push('a', 'b'),
      growth: it => it.grow(1),
      'tables that grow': it => it.table.grow(5),
      nothing: () => {}
    }
    for (const deed of Object.values(deeds)) {
      await pool.run(({ value }) => void deed(value))
      expect(await pool.run(digest)).toEqual(before)
    }
    expect(pool.stats()).toMatchObject({ created: 1, discarded: 0, lastFailure: null })
    expect(pool.stats().restored).toBe(pool.stats().acquired)
  })

  test('but for what no state keeps', async () => {
    const pool = await makePool({ make })
    await pool.run(({ value }) => value.files.push('left'))
    expect(await pool.run(({ value }) => value.files)).toEqual(['boot', 'left'])
  })

  test('with several instances, of which all go back', async () => {
    const pool = await makePool({
      make: async () => {
        const it = await makeEngine()
        const { exports } = new WebAssembly.Instance(new WebAssembly.Module(side), { env: it })
        return { it, ...exports }
      },
      init: ({ value }) => value.poke(5)
    })
    const seen = ({ value, instances }) => [value.peek(), value.it.sp(), instances.length]
    expect(await pool.run(seen)).toEqual([10, 65_536, 2])
    await pool.run(({ value }) => [value.poke(9), value.it.push(1)])
    expect(await pool.run(seen)).toEqual([10, 65_536, 2])
  })

  test("with two units' worth that make makes at once: they are one", async () => {
    const pool = await makePool({ make: () => Promise.all([makeEngine(), makeEngine()]) })
    await pool.run(({ value }) => value.forEach(it => it.push(1)))
    const seen = ({ value, instances, exports }) => [
      value.map(it => it.sp()),
      instances.length,
      value.some(it => it.memory === exports.memory)
    ]
    expect(await pool.run(seen)).toEqual([[65_536, 65_536], 2, true])
  })

  test('with what init loads, which is part of the unit', async () => {
    const pool = await makePool({
      make,
      init: async ({ value }) => {
        const { instance } = await WebAssembly.instantiate(side, { env: value })
        value.side = instance.exports
        value.side.poke(1)
      }
    })
    await pool.run(({ value }) => value.side.poke(77))
    const seen = ({ value, instances }) => [value.side.peek(), instances.length]
    expect(await pool.run(seen)).toEqual([2, 2])
  })

  test('with mappings that init made, and windows, which start anew', async () => {
    const region = HostRegion.copyFrom(Buffer.alloc(4096, 3))
    let window
    const pool = await makePool({
      make,
      init: ({ memory }) => {
        memory.map(region, { at: 4096 })
        window = memory.window({ at: 16_384, byteLength: 4096 })
      }
    })
    const seen = ({ memory }) => [new Uint8Array(memory.buffer)[4100], memory.mappings.length]
    await pool.run(({ memory }) => {
      window.slide(region)
      expect(seen({ memory })).toEqual([3, 2])
    })
    expect(await pool.run(seen)).toEqual([3, 2])
    expect(window.region).toBeNull()
    expect(pool.stats().discarded).toBe(0)
    await pool.run(() => window.unmap())
    expect(pool.stats().discarded).toBe(1)
    expectError(pool.stats().lastFailure, {
      code: 'ERR_HOSTMAP_NOT_RESTORABLE',
      says: /window .* was unmapped/
    })
  })
})

describe('what is lent', () => {
  test('shows the unit, and its exports without those that were added', async () => {
    const pool = await makePool({ make })
    const plain = await makeEngine()
    const leased = await pool.acquire()
    expect(leased).toBeInstanceOf(PooledInstance)
    const { value, instance, instances, exports, memory } = leased
    expect(instance).toBe(value.instance)
    expect(instances).toEqual([instance])
    expect(Object.keys(exports)).toEqual(Object.keys(plain.instance.exports))
    expect(memory).toBe(GuardedMemory.from(value.memory))
    leased.release()
    for (const name of ['value', 'instance', 'instances', 'exports', 'memory']) {
      expectError(
        thrownBy(() => leased[name]),
        { code: 'ERR_HOSTMAP_INSTANCE_RELEASED' }
      )
    }
    expectError(
      thrownBy(() => leased.run(() => {})),
      { code: 'ERR_HOSTMAP_INSTANCE_RELEASED' }
    )
  })

  test('runs functions, and gives what they give', async () => {
    const pool = await makePool({ make })
    const leased = await pool.acquire()
    expect(leased.run(lent => [lent === leased, lent.value.one()])).toEqual([true, 1])
    expect(await leased.run(async () => 2)).toBe(2)
    expect(
      thrownBy(() =>
        leased.run(() => {
          throw new Error('mine')
        })
      ).message
    ).toBe('mine')
    expectError(
      thrownBy(() => leased.run(5)),
      { code: 'ERR_INVALID_ARG_TYPE' }
    )
    leased.release()
    expect(pool.stats()).toMatchObject({ idle: 1, discarded: 0 })
  })

  test('of a module has no value, and one instance', async () => {
    const pool = await InstancePool.create(await assemble('(module (memory (export "m") 1))'))
    pools.push(pool)
    const leased = await pool.acquire()
    expect(leased.value).toBeUndefined()
    expect(leased.instances).toEqual([leased.instance])
    expect(leased.run(lent => lent === leased)).toBe(true)
  })

  test('goes back once, also where the function has released it', async () => {
    const pool = await makePool({ make })
    await pool.run(leased => {
      leased.release()
      leased.release()
      leased.discard()
    })
    expect(pool.stats()).toMatchObject({ size: 1, idle: 1, busy: 0, restored: 1, discarded: 0 })
  })

  test('goes back when the call has returned that releases it', async () => {
    let hook
    const pool = await makePool({ make: () => makeEngine(() => hook()) })
    const leased = await pool.acquire()
    hook = () => {
      leased.release()
      expect(pool.stats()).toMatchObject({ idle: 0, busy: 1 })
    }
    leased.value.hooked()
    expect(await pool.run(({ value }) => value.sp())).toBe(65_536)
    expect(pool.stats()).toMatchObject({ created: 1, discarded: 0, restored: 2 })
  })

  test.each([
    ['discard', 'ERR_HOSTMAP_REQUEST_PENDING', /1 SUSPENDED_CALL/],
    // What nobody looks at is still no state to be restored.
    ['ignore', 'ERR_HOSTMAP_CALL_PENDING', /suspended/]
  ])('is discarded while a call into it is suspended: %s', async (pending, code, says) => {
    // What Asyncify makes, without what it does.
    const bytes = await assemble(`(module
      (memory (export "memory") 1)
      (func (export "asyncify_start_unwind") (param i32))
      (func (export "asyncify_stop_unwind"))
      (func (export "asyncify_start_rewind") (param i32))
      (func (export "asyncify_stop_rewind")))`)
    const destroyed = []
    const pool = await makePool({
      make: async () => (await WebAssembly.instantiate(bytes)).instance.exports,
      destroy: ({ value }) => destroyed.push(value),
      pending
    })
    const left = await pool.run(({ value, memory }) => {
      new Uint8Array(memory.buffer)[0] = 9
      value.asyncify_start_unwind(16)
      value.asyncify_stop_unwind()
      return value
    })
    expect(pool.stats()).toMatchObject({ size: 0, discarded: 1 })
    expectError(pool.stats().lastFailure, { code, says })
    await nextTurn()
    expect(destroyed).toEqual([left])
    // It may go on, and finds its memory.
    expect(new Uint8Array(left.memory.buffer)[0]).toBe(9)
  })
})

describe('hooks', () => {
  test('are called around each request, in order, and may be asynchronous', async () => {
    const calls = []
    const unitOf = it => ({ ...it, instances: it.instances.length })
    const note = name => unit => void calls.push([name, unitOf(unit)])
    const later = name => async unit => {
      await nextTurn()
      note(name)(unit)
    }
    const pool = await makePool({
      make: () => {
        calls.push(['make'])
        return makeEngine()
      },
      init: note('init'),
      state: [
        unit => {
          note('keep')(unit)
          return () => calls.push(['restore'])
        }
      ],
      before: later('before'),
      after: later('after'),
      destroy: later('destroy')
    })
    const value = await pool.run(lent => {
      calls.push(['run'])
      return lent.value
    })
    // The promise of run is that of the whole request.
    expect(pool.stats()).toMatchObject({ idle: 1, busy: 0, restored: 1 })
    pool.close()
    await nextTurn()
    await nextTurn()
    expect(calls.map(([name]) => name)).toEqual([
      'make',
      'init',
      'keep',
      'restore',
      'before',
      'run',
      'after',
      'restore',
      'destroy'
    ])
    for (const [, unit] of calls.filter(call => call.length > 1)) {
      expect(unit.value).toBe(value)
      expect(unit).toMatchObject({ instance: value.instance, instances: 1 })
      expect(unit.exports).toBe(value.instance.exports)
    }
  })

  test('after is told what the function has thrown', async () => {
    const told = []
    const pool = await makePool({ make, after: (unit, ...rest) => void told.push(rest) })
    await pool.run(() => {})
    const error = new Error('mine')
    expect(await rejection(pool.run(() => Promise.reject(error)))).toBe(error)
    await rejection(pool.run(() => Promise.reject(undefined)))
    ;(await pool.acquire()).release()
    ;(await pool.acquire()).discard()
    expect(told).toEqual([[], [error], [undefined], []])
    expect(pool.stats()).toMatchObject({ restored: 4, discarded: 1, lastFailure: null })
  })

  test('what before throws rejects the request, and the unit goes back', async () => {
    const mine = new Error('not now')
    let fails = true
    const after = jest.fn()
    const pool = await makePool({
      make,
      after,
      before: async ({ value }) => {
        value.push(1)
        if (fails) throw mine
      }
    })
    expect(await rejection(pool.run(() => {}))).toBe(mine)
    expect(await rejection(pool.acquire())).toBe(mine)
    expect(pool.stats()).toMatchObject({ idle: 1, busy: 0, discarded: 0, lastFailure: null })
    expect(after).not.toHaveBeenCalled()
    fails = false
    expect(await pool.run(({ value }) => value.sp())).toBe(65_520)
    expect(after).toHaveBeenCalledTimes(1)
  })

  test.each([
    [
      'at once',
      error => {
        throw error
      }
    ],
    ['later', error => Promise.reject(error)]
  ])('what after throws %s discards the unit, and the result stands', async (_, fail) => {
    const mine = new Error('no')
    let fails = true
    const destroy = jest.fn()
    const pool = await makePool({ make, destroy, after: () => fails && fail(mine) })
    expect(await pool.run(({ value }) => value.one())).toBe(1)
    expect(pool.stats()).toMatchObject({ size: 0, discarded: 1, restored: 0 })
    expect(pool.stats().lastFailure).toBe(mine)
    await nextTurn()
    expect(destroy).toHaveBeenCalledTimes(1)
    fails = false
    expect(await pool.run(({ value }) => value.sp())).toBe(65_536)
  })

  test('after may wait for another unit of the pool', async () => {
    let isFirst = true
    const pool = await makePool({
      make,
      max: 2,
      after: async () => {
        if (!isFirst) return
        isFirst = false
        await nextTurn()
        // Its own unit is not idle soon.
        expect(await pool.run(({ value }) => value.two())).toBe(2)
      }
    })
    expect(await pool.run(({ value }) => value.one())).toBe(1)
    expect(pool.stats()).toMatchObject({ size: 2, idle: 2, created: 2, discarded: 0 })
  })

  test('destroy is called for each unit once, and what it throws is told', async () => {
    const destroyed = []
    const pool = await makePool({
      make,
      size: 2,
      maxMemoryBytes: 2 * WASM_PAGE,
      init: ({ value }) => {
        if (destroyed.length > 1) throw new Error('no more')
        value.push(destroyed.length)
      },
      destroy: async ({ value }) => {
        // The unit works as it was left.
        destroyed.push([value.sp(), value.load(0)])
        throw new Error(`gone ${destroyed.length}`)
      }
    })
    await pool.run(({ value }) => [value.grow(1), value.store(0, 42)])
    await nextTurn()
    ;(await pool.acquire()).discard()
    await nextTurn()
    expect(destroyed).toEqual([
      [65_520, 42],
      [65_520, 0]
    ])
    expect(pool.stats().lastFailure.message).toBe('gone 2')
    // One that is not booted to the end is one, too; the boot's error says more.
    expect((await rejection(pool.acquire())).message).toBe('no more')
    expect(destroyed).toHaveLength(3)
    pool.close()
    await nextTurn()
    expect(destroyed).toHaveLength(3)
  })
})

describe('a unit is discarded', () => {
  test('where a function of state throws at a restore, or restores later', async () => {
    for (const restore of [
      () => {
        throw new Error('the disk is gone')
      },
      () => Promise.resolve()
    ]) {
      let fails = false
      const pool = await makePool({
        make,
        state: [files, () => () => (fails ? restore() : undefined)]
      })
      fails = true
      const left = await pool.run(({ value }) => {
        value.store(0, 5)
        return value
      })
      expect(pool.stats()).toMatchObject({ size: 0, discarded: 1, restored: 0 })
      const { lastFailure } = pool.stats()
      expectError(lastFailure, { code: 'ERR_HOSTMAP_CHECKPOINT_BROKEN' })
      expect(lastFailure.cause.message).toMatch(/the disk is gone|by a promise/)
      fails = false
      await pool.run(({ value }) => expect(value).not.toBe(left))
      expect(pool.stats()).toMatchObject({ size: 1, created: 2, restored: 1 })
    }
  })

  test('where its memories are larger than maxMemoryBytes, and gives them back', async () => {
    const pool = await makePool({ make, maxMemoryBytes: 4 * WASM_PAGE })
    const left = await pool.run(({ value }) => {
      value.grow(2)
      value.store(0, 7)
      return value
    })
    expect(pool.stats()).toMatchObject({ idle: 1, discarded: 0 })
    await pool.run(({ value }) => {
      expect(value).toBe(left)
      value.store(0, 7)
      value.grow(1)
    })
    expect(pool.stats()).toMatchObject({ size: 0, discarded: 1 })
    expectError(pool.stats().lastFailure, {
      code: 'ERR_HOSTMAP_NOT_RESTORABLE',
      says: [/327680/, /maxMemoryBytes allows \(262144\)/]
    })
    await nextTurn()
    expect(left.load(0)).toBe(0)
  })

  test('where they have grown by more than 1 GiB, if nothing else is said', async () => {
    const bytes = await assemble('(module (import "env" "memory" (memory 2 65536)))')
    const pool = await makePool({
      make: async () => {
        const memory = new WebAssembly.Memory({ initial: 2, maximum: 65_536 })
        await WebAssembly.instantiate(bytes, { env: { memory } })
        return memory
      }
    })
    await pool.run(({ value }) => value.grow(16_384))
    expect(pool.stats()).toMatchObject({ idle: 1, discarded: 0 })
    await pool.run(({ value }) => value.grow(1))
    expect(pool.stats()).toMatchObject({ size: 0, discarded: 1 })
    expectError(pool.stats().lastFailure, {
      code: 'ERR_HOSTMAP_NOT_RESTORABLE',
      says: /maxMemoryBytes/
    })
  })

  test('that another instance was loaded into', async () => {
    const late = await assemble(`(module
      (import "env" "table" (table 3 funcref))
      (memory 1)
      (func $other)
      (func $mine (result i32) (i32.const 7))
      (elem (i32.const 0) $mine))`)
    const pool = await makePool({ make })
    await pool.run(({ value }) => {
      value.table.grow(1)
      const more = new WebAssembly.Instance(new WebAssembly.Module(late), { env: value })
      value.table.set(3, value.table.get(0))
      return more.exports
    })
    expect(pool.stats()).toMatchObject({ size: 0, discarded: 1 })
    expectError(pool.stats().lastFailure, { code: 'ERR_HOSTMAP_NOT_RESTORABLE' })
  })

  test('by discard, at once, and a waiter gets a new one', async () => {
    const pool = await makePool({ make, max: 1 })
    const leased = await pool.acquire()
    const { value } = leased
    const next = pool.run(lent => lent.value)
    leased.discard()
    leased.release()
    expect(await next).not.toBe(value)
    expect(pool.stats()).toMatchObject({ size: 1, idle: 1, created: 2, discarded: 1, restored: 1 })
    expect(pool.stats().lastFailure).toBeNull()
  })
})

describe('what a request has begun and is not over', () => {
  const pending = { code: 'ERR_HOSTMAP_REQUEST_PENDING' }
  const timers = []
  afterEach(() => timers.splice(0).forEach(clearTimeout))
  /** Begins what will not be over. */
  const begin = () => timers.push(setTimeout(() => {}, 2 ** 30))

  test('discards its unit, whose memory stays: it may go on', async () => {
    const pool = await makePool({ make })
    const left = await pool.run(({ value }) => {
      value.store(0, 7)
      begin()
      void new Promise(() => {}).then(() => {})
      return value
    })
    expect(pool.stats()).toMatchObject({ size: 0, busy: 0, discarded: 1, restored: 0 })
    expectError(pool.stats().lastFailure, {
      ...pending,
      says: [/1 Timeout/, /1 PROMISE/, /options\.pending/]
    })
    await nextTurn()
    expect(left.load(0)).toBe(7)
    await pool.run(({ value }) => expect(value).not.toBe(left))
    expect(pool.stats()).toMatchObject({ size: 1, created: 2, discarded: 1 })
  })

  test('is waited for during one turn of the event loop', async () => {
    const pool = await makePool({ make })
    const calls = []
    const leased = await pool.acquire()
    leased.run(() => setImmediate(() => calls.push('immediate')))
    leased.release()
    expect(pool.stats()).toMatchObject({ busy: 1, idle: 0 })
    expect(await pool.run(({ value }) => value.sp())).toBe(65_536)
    expect(calls).toEqual(['immediate'])
    expect(pool.stats()).toMatchObject({ created: 1, discarded: 0, restored: 2 })
  })

  test('is waited for whatever clock the request has put there', async () => {
    const pool = await makePool({ make })
    const { setImmediate: later } = globalThis
    try {
      await pool.run(() => {
        later(() => {})
        globalThis.setImmediate = () => {}
      })
    } finally {
      globalThis.setImmediate = later
    }
    expect(pool.stats()).toMatchObject({ idle: 1, busy: 0, discarded: 0, restored: 1 })
  })

  test('counts where it was begun in the request, and nowhere else', async () => {
    const pool = await makePool({ make })
    begin()
    const leased = await pool.acquire()
    begin()
    leased.release()
    await pool.run(() => {})
    expect(pool.stats()).toMatchObject({ created: 1, discarded: 0, restored: 2 })
    const other = await pool.acquire()
    await other.run(async () => {
      await nextTurn()
      begin()
    })
    other.release()
    await pool.run(() => {})
    expect(pool.stats()).toMatchObject({ created: 2, discarded: 1, restored: 3 })
    expectError(pool.stats().lastFailure, { ...pending, says: /1 Timeout/ })
  })

  test('is of that request alone, of those that run at the same time', async () => {
    const pool = await makePool({ make, size: 2 })
    const [left, kept] = await Promise.all([
      pool.run(async ({ value }) => {
        await nextTurn()
        begin()
        return value
      }),
      pool.run(async ({ value }) => {
        await nextTurn()
        await nextTurn()
        return value
      })
    ])
    expect(pool.stats()).toMatchObject({ idle: 1, discarded: 1, restored: 1 })
    await pool.run(({ value }) => expect([value === kept, value === left]).toEqual([true, false]))
  })

  test('may be ended by after, also what before began', async () => {
    let timer
    const pool = await makePool({
      make,
      before: () => {
        timer = setTimeout(() => {}, 2 ** 30)
      },
      after: () => clearTimeout(timer)
    })
    await pool.run(() => {})
    expect(pool.stats()).toMatchObject({ idle: 1, discarded: 0 })
    ;(await pool.acquire()).discard()
    clearTimeout(timer)
    const other = await makePool({
      make,
      before: () => {
        begin()
        throw new Error('mine')
      }
    })
    await rejection(other.run(() => {}))
    expectError(other.stats().lastFailure, { ...pending, says: /1 Timeout/ })
  })

  test('stays, where options.pending says that it is harmless', async () => {
    const told = []
    const rules = [
      ['ignore', true],
      [left => told.push(left) > 0, true],
      [left => told.push(left), false],
      [() => false, false],
      [async () => true, false]
    ]
    for (const [rule, isKept] of rules) {
      const pool = await makePool({ make, pending: rule })
      await pool.run(begin)
      expect(pool.stats()).toMatchObject({ idle: isKept ? 1 : 0, discarded: isKept ? 0 : 1 })
      expect(pool.stats().lastFailure?.code).toBe(isKept ? undefined : pending.code)
    }
    expect(told.length).toBeGreaterThan(1)
    for (const left of told) expect(left).toEqual({ count: 1, kinds: { Timeout: 1 } })
    const mine = new Error('mine')
    const pool = await makePool({
      make,
      pending: () => {
        throw mine
      }
    })
    await pool.run(begin)
    expect(pool.stats()).toMatchObject({ size: 0, discarded: 1 })
    expect(pool.stats().lastFailure).toBe(mine)
  })

  test('is none of what a boot has begun that the request has waited for', async () => {
    const inner = await makePool({
      make: () => {
        begin()
        return makeEngine()
      },
      size: 0
    })
    const pool = await makePool({ make })
    expect(await pool.run(() => inner.run(({ value }) => value.one()))).toBe(1)
    expect(pool.stats()).toMatchObject({ idle: 1, discarded: 0 })
    expect(inner.stats()).toMatchObject({ idle: 1, discarded: 0 })
  })

  test('ends nothing where the request releases its unit itself', async () => {
    const pool = await makePool({ make })
    await pool.run(async leased => {
      await nextTurn()
      leased.release()
    })
    await nextTurn()
    await nextTurn()
    expect(pool.stats()).toMatchObject({ idle: 1, discarded: 0, lastFailure: null })
  })
})

describe('a pool', () => {
  test('boots what size says, one after another, and at most what max says', async () => {
    let running = 0
    let most = 0
    const pool = await makePool({
      make: async () => {
        running += 1
        most = Math.max(most, running)
        await nextTurn()
        const it = await makeEngine()
        running -= 1
        return it
      },
      size: 2,
      max: 3
    })
    expect(pool.stats()).toMatchObject({ size: 2, idle: 2, created: 2, max: 3 })
    const order = []
    await Promise.all(
      [0, 1, 2, 3, 4, 5].map(index =>
        pool.run(async ({ value }) => {
          order.push(index)
          expect(value.sp()).toBe(65_536)
          value.push(index)
          await nextTurn()
        })
      )
    )
    expect(order).toEqual([0, 1, 2, 3, 4, 5])
    expect(most).toBe(1)
    expect(pool.stats().created).toBeLessThanOrEqual(3)
    expect(pool.snapshot).toBeNull()
  })

  test('has 4 units at most, or size, where max is not given', async () => {
    expect((await makePool({ make, size: 0 })).stats()).toMatchObject({ size: 0, max: 4 })
    expect((await makePool({ make, size: 5 })).stats()).toMatchObject({ size: 5, max: 5 })
  })

  test('boots nothing for who gets what is released, nor for one who waits no more', async () => {
    const pool = await makePool({ make, after: () => nextTurn() })
    const leased = await pool.acquire()
    leased.release()
    expect(pool.stats()).toMatchObject({ busy: 1, idle: 0 })
    // It is about to be idle.
    expect(await pool.run(({ value }) => value.sp())).toBe(65_536)
    expect(pool.stats()).toMatchObject({ created: 1, size: 1 })
    const other = await pool.acquire()
    const controller = new AbortController()
    const wait = rejection(pool.acquire({ signal: controller.signal }))
    controller.abort()
    expectError(await wait, { code: 'ABORT_ERR' })
    await nextTurn()
    expect(pool.stats()).toMatchObject({ created: 1, size: 1, waiting: 0 })
    other.release()
  })

  test('tells each who waits why no unit can be booted, once for each, and goes on', async () => {
    let isBroken = false
    let boots = 0
    const pool = await makePool({
      make: async () => {
        boots += 1
        if (isBroken) throw new Error(`no unit ${boots}`)
        return makeEngine()
      },
      max: 1
    })
    const leased = await pool.acquire()
    const waits = [1, 2, 3].map(() => rejection(pool.acquire()))
    isBroken = true
    leased.discard()
    expect((await Promise.all(waits)).map(({ message }) => message)).toEqual([
      'no unit 2',
      'no unit 3',
      'no unit 4'
    ])
    await nextTurn()
    expect(boots).toBe(4)
    isBroken = false
    expect(await pool.run(({ value }) => value.one())).toBe(1)
    expect(pool.stats()).toMatchObject({ size: 1, idle: 1, waiting: 0, created: 2 })
  })

  test('rejects one alone where a factory fails once', async () => {
    let boots = 0
    const pool = await makePool({
      make: () => {
        boots += 1
        if (boots === 2) throw new Error('once')
        return makeEngine()
      },
      max: 1
    })
    const leased = await pool.acquire()
    const waits = [1, 2].map(() => pool.run(({ value }) => value.one()).catch(it => it.message))
    leased.discard()
    expect(await Promise.all(waits)).toEqual(['once', 1])
  })

  test('keeps the error of a boot that nobody waits for any more', async () => {
    let fail
    const pool = await makePool({
      make: () => (fail === undefined ? makeEngine() : new Promise((_, reject) => (fail = reject))),
      max: 2
    })
    fail = null
    const leased = await pool.acquire()
    const next = pool.acquire()
    await nextTurn()
    leased.release()
    ;(await next).release()
    const mine = new Error('late')
    fail(mine)
    await nextTurn()
    expect(pool.stats()).toMatchObject({ size: 1, idle: 1, discarded: 0 })
    expect(pool.stats().lastFailure).toBe(mine)
  })

  test('that is closed while a unit boots destroys it', async () => {
    let go
    const destroy = jest.fn()
    const pool = await makePool({
      make: async () => {
        await new Promise(resolve => (go = resolve))
        return makeEngine()
      },
      destroy,
      size: 0
    })
    const wait = rejection(pool.acquire())
    await nextTurn()
    pool.close()
    expectError(await wait, { code: 'ERR_HOSTMAP_POOL_CLOSED' })
    go()
    while (destroy.mock.calls.length === 0) await nextTurn()
    expect(pool.stats()).toMatchObject({ size: 0, idle: 0, waiting: 0, lastFailure: null })
    expectError(await rejection(pool.acquire()), { code: 'ERR_HOSTMAP_POOL_CLOSED' })
  })

  test('that is closed leaves what is lent, until it is released', async () => {
    const calls = []
    const pool = await makePool({
      make,
      after: () => void calls.push('after'),
      destroy: () => void calls.push('destroy')
    })
    const leased = await pool.acquire()
    pool.close()
    pool.close()
    expect(leased.value.one()).toBe(1)
    leased.release()
    expect(leased.released).toBe(true)
    await nextTurn()
    expect(calls).toEqual(['after', 'destroy'])
    expect(pool.stats()).toMatchObject({ size: 0, busy: 0, restored: 0, discarded: 0 })
  })

  test('boots outside of the async context, and the capture, of who asks', async () => {
    const storage = new AsyncLocalStorage()
    const seen = []
    const pool = await makePool({
      make: () => {
        seen.push(storage.getStore())
        return makeEngine()
      },
      before: () => void seen.push(storage.getStore()),
      size: 0
    })
    const { unit } = await capture(async () => {
      const mine = await makeEngine()
      await storage.run('request', () => pool.run(() => seen.push(storage.getStore())))
      return mine
    })
    expect(seen).toEqual([undefined, 'request', 'request'])
    expect(unit.instanceCount).toBe(1)
  })

  test('captures beside other captures, and other pools that boot', async () => {
    const [one, other, captured] = await Promise.all([
      makePool({ make, size: 2 }),
      makePool({ make: () => Promise.all([makeEngine(), makeEngine()]) }),
      capture(make)
    ])
    expect(await one.run(({ instances }) => instances.length)).toBe(1)
    expect(await other.run(({ instances }) => instances.length)).toBe(2)
    expect(captured.unit.instanceCount).toBe(1)
  })

  test('can be used by make of another pool, and not by its own', async () => {
    const other = await makePool({ make })
    const pool = await makePool({
      make: async () => {
        const sp = await other.run(({ value }) => value.sp())
        const error = ready ? await rejection(pool.run(() => {})) : undefined
        return { ...(await makeEngine()), sp, error }
      },
      size: 0
    })
    const ready = true
    const { sp, error } = await pool.run(({ value }) => value)
    expect(sp).toBe(65_536)
    expectError(error, { code: 'ERR_HOSTMAP_CALL_PENDING', says: /make or init/ })
    expect(pool.stats()).toMatchObject({ idle: 1, size: 1, waiting: 0 })
  })

  test('works in a worker', async () => {
    const worker = new TestWorker()
    try {
      const seen = await worker.run(async ({ hostmap }, bytes) => {
        const pool = await hostmap.InstancePool.create({
          make: async () => (await WebAssembly.instantiate(bytes, { env: { hook() {} } })).instance
        })
        const sps = []
        for (let i = 0; i < 2; i++) {
          await pool.run(({ exports }) => {
            sps.push(exports.sp())
            exports.push(1)
          })
        }
        return sps
      }, engine)
      expect(seen).toEqual([65_536, 65_536])
    } finally {
      await worker.end()
    }
  })

  test('is disposed of by what `using` calls, and prints as what it is', async () => {
    const pool = await makePool({ make })
    const leased = await pool.acquire()
    leased[Symbol.dispose]()
    expect(pool.stats()).toMatchObject({ idle: 1 })
    expect(require('node:util').inspect(pool)).toMatch(/^InstancePool \{ size: 1, idle: 1/)
    pool[Symbol.dispose]()
    expect(pool.closed).toBe(true)
  })
})

describe('instantiateWasm', () => {
  /** Glue as Emscripten's, in its older and its newer form. */
  const glue = {
    older: ({ instantiateWasm }) =>
      new Promise(resolve => {
        const made = instantiateWasm({ env: { hook() {} } }, instance => resolve(instance.exports))
        expect(made).toEqual({})
      }),
    newer: async ({ instantiateWasm }) => {
      const { exports } = await new Promise(resolve => {
        instantiateWasm({ env: { hook() {} } }, (instance, module) => {
          expect(WebAssembly.Module.imports(module)).toHaveLength(1)
          resolve(instance)
        })
      })
      return exports
    }
  }

  test.each(Object.entries(glue))('serves %s glue, with bytes or a module', async (_, create) => {
    for (const source of [engine, new WebAssembly.Module(exposeState(engine))]) {
      const pool = await makePool({
        make: ({ instantiateWasm }) => create({ instantiateWasm: instantiateWasm(source) }),
        size: 2
      })
      await pool.run(({ value }) => value.push(1))
      expect(await pool.run(({ value, instances }) => [value.sp(), instances.length])).toEqual([
        65_536, 1
      ])
    }
  })

  test('captures, wherever glue calls the hook', async () => {
    const queue = []
    const pool = makePool({
      make: ({ instantiateWasm }) =>
        new Promise(resolve => {
          const hook = instantiateWasm(engine)
          queue.push(() => hook({ env: { hook() {} } }, ({ exports }) => resolve(exports)))
        })
    })
    while (queue.length === 0) await nextTurn()
    queue[0]()
    expect(await (await pool).run(({ value }) => value.one())).toBe(1)
  })

  test('fails the boot where it fails, though glue waits for ever', async () => {
    const error = await rejection(
      InstancePool.create({
        make: ({ instantiateWasm }) => glue.older({ instantiateWasm: instantiateWasm(side) })
      })
    )
    expect(error).toBeInstanceOf(WebAssembly.LinkError)
    const mine = new Error('glue')
    const thrown = rejection(
      InstancePool.create({
        make: ({ instantiateWasm }) =>
          new Promise(() => {
            instantiateWasm(engine)({ env: { hook() {} } }, () => {
              throw mine
            })
          })
      })
    )
    expect(await thrown).toBe(mine)
  })

  test('refuses what is no module, and what comes too late', async () => {
    let late
    await makePool({
      make: ({ instantiateWasm }) => {
        expectError(
          thrownBy(() => instantiateWasm('a.wasm')),
          { code: 'ERR_INVALID_ARG_TYPE', says: /fs\.readFileSync/ }
        )
        expectError(
          thrownBy(() => instantiateWasm()),
          { code: 'ERR_INVALID_ARG_TYPE' }
        )
        late = instantiateWasm(engine)
        return makeEngine()
      }
    })
    const receive = jest.fn()
    expectError(
      thrownBy(() => late({ env: { hook() {} } }, receive)),
      { code: 'ERR_HOSTMAP_NOT_CAPTURED', says: /were over/ }
    )
    expect(receive).not.toHaveBeenCalled()
  })
})

describe('create rejects', () => {
  const refused = options => rejection(InstancePool.create(options))

  test('with what make, init and state throw, and lets go of what was made', async () => {
    const mine = new Error('mine')
    const fail = () => {
      throw mine
    }
    const destroy = jest.fn()
    expect(await refused({ make: fail, destroy })).toBe(mine)
    expect(await refused({ make: () => Promise.reject(mine), destroy })).toBe(mine)
    expect(await refused({ make: async () => [await makeEngine(), fail()], destroy })).toBe(mine)
    expect(destroy).not.toHaveBeenCalled()
    expect(await refused({ make, init: fail, destroy })).toBe(mine)
    expect(await refused({ make, init: () => Promise.reject(mine), destroy })).toBe(mine)
    expect(await refused({ make, state: [files, fail], destroy })).toBe(mine)
    expect(destroy).toHaveBeenCalledTimes(3)
  })

  test.each([
    ['undefined', undefined],
    ['null', null],
    ['a text', 'text'],
    [
      'a Proxy whose traps throw',
      new Proxy(new Error('odd'), {
        get: () => {
          throw new Error()
        }
      })
    ]
  ])('with %s where make throws that', async (_, thrown) => {
    const seen = await InstancePool.create({ make: () => Promise.reject(thrown) }).then(
      () => 'made',
      error => error === thrown
    )
    expect(seen).toBe(true)
  })

  test('a second unit that fails, with the first one let go', async () => {
    const destroy = jest.fn()
    let boots = 0
    const error = await refused({
      make: () => (boots++ === 0 ? makeEngine() : Promise.reject(new Error('second'))),
      size: 2,
      destroy
    })
    expect(error.message).toBe('second')
    await nextTurn()
    expect(destroy).toHaveBeenCalledTimes(1)
  })

  test('state that gives no function, or a promise', async () => {
    for (const [given, says] of [
      [undefined, /undefined/],
      [5, /5/],
      [Promise.resolve(() => {}), /await before/]
    ]) {
      expectError(await refused({ make, state: [files, () => given] }), {
        code: 'ERR_INVALID_ARG_TYPE',
        says: [/options\.state\[1\]/, says]
      })
    }
  })

  test('state that can not be restored, which is tried once', async () => {
    const mine = new Error('mine')
    const destroy = jest.fn()
    const fail = () => {
      throw mine
    }
    const error = await refused({ make, state: [files, () => fail], destroy })
    expectError(error, { code: 'ERR_HOSTMAP_CHECKPOINT_BROKEN', says: /mine/ })
    expect(error.cause).toBe(mine)
    expect(destroy).toHaveBeenCalledTimes(1)
    // A keeper in the place of what it gives would keep all, and restore nothing.
    const keeper = () => () => {}
    for (const [given, says] of [
      [keeper, /does not restore.*\(\)/],
      [async () => {}, /by a promise/]
    ]) {
      const { code, cause } = await refused({ make, state: [files, () => given] })
      expect(code).toBe('ERR_HOSTMAP_CHECKPOINT_BROKEN')
      expectError(cause, { code: 'ERR_INVALID_ARG_TYPE', says: [/options\.state\[1\]/, says] })
    }
  })

  test('a factory that makes no instance, or none with a memory', async () => {
    expectError(await refused({ make: () => ({}) }), {
      code: 'ERR_HOSTMAP_NOT_CAPTURED',
      says: /no instance/
    })
    const made = await makeEngine()
    expectError(await refused({ make: () => made }), { code: 'ERR_HOSTMAP_NOT_CAPTURED' })
    const bare = await assemble('(module (func (export "f")))')
    const init = jest.fn()
    expectError(await refused({ make: () => WebAssembly.instantiate(bare), init }), {
      code: 'ERR_HOSTMAP_UNSUITABLE_MODULE',
      says: /memory/
    })
    expect(init).not.toHaveBeenCalled()
  })

  test('a factory that returns before its instances are made, and init that does', async () => {
    const later = () => void WebAssembly.instantiate(engine, { env: { hook() {} } })
    const init = jest.fn()
    expectError(await refused({ make: later, init }), {
      code: 'ERR_HOSTMAP_NOT_CAPTURED',
      says: /make gave its value while an instance/
    })
    expect(init).not.toHaveBeenCalled()
    expectError(await refused({ make, init: later }), {
      code: 'ERR_HOSTMAP_NOT_CAPTURED',
      says: /init was done while an instance/
    })
  })

  test('a module that was compiled elsewhere', async () => {
    const module = new WebAssembly.Module(engine)
    expectError(
      await refused({ make: () => WebAssembly.instantiate(module, { env: { hook() {} } }) }),
      { code: 'ERR_HOSTMAP_NOT_CAPTURED', says: /compiled before/ }
    )
  })

  test.each([
    ['memory', () => ({ memory: new WebAssembly.Memory({ initial: 1 }) })],
    ['table', () => ({ table: new WebAssembly.Table({ initial: 1, element: 'anyfunc' }) })],
    ['global', () => ({ global: new WebAssembly.Global({ value: 'i32', mutable: true }, 0) })]
  ])('two units with one %s', async (kind, makeThing) => {
    const bytes = await assemble(`(module
      (import "env" "${kind}" (${{ memory: 'memory 1', table: 'table 1 funcref', global: 'global (mut i32)' }[kind]}))
      ${kind === 'memory' ? '' : '(memory 1)'})`)
    const env = makeThing()
    expectError(await refused({ make: () => WebAssembly.instantiate(bytes, { env }), size: 2 }), {
      code: 'ERR_HOSTMAP_UNSUITABLE_MODULE',
      says: [kind, /another unit/]
    })
    const pool = await makePool({
      make: () => WebAssembly.instantiate(bytes, { env: makeThing() }),
      size: 2
    })
    expect(pool.stats().size).toBe(2)
  })

  test('one engine that make gives again and again', async () => {
    let engines
    const shared = () => (engines ??= makeEngine())
    expectError(await refused({ make: shared, size: 2 }), { code: 'ERR_HOSTMAP_NOT_CAPTURED' })
  })

  test.each([
    ['make', { make: 5 }],
    ['make', { make: undefined }],
    ['init', { make, init: 'init' }],
    ['state', { make, state: files }],
    ['state[1]', { make, state: [files, {}] }],
    ['before', { make, before: {} }],
    ['after', { make, after: 1 }],
    ['destroy', { make, destroy: true }],
    ['pending', { make, pending: 5 }],
    ['size', { make, size: '1' }],
    ['max', { make, max: null }],
    ['maxMemoryBytes', { make, maxMemoryBytes: '1 GiB' }],
    ['accept', { make, accept: 'gc-objects' }],
    ['keepResidentBytes', { make, keepResidentBytes: {} }]
  ])('options.%s of a wrong type', async (name, options) => {
    expectError(await refused(options), { code: 'ERR_INVALID_ARG_TYPE', says: `options.${name} ` })
  })

  test.each([
    ['pending', { make, pending: 'keep' }, 'ERR_INVALID_ARG_VALUE'],
    ['size', { make, size: 3, max: 2 }, 'ERR_OUT_OF_RANGE'],
    ['max', { make, max: 0 }, 'ERR_OUT_OF_RANGE'],
    ['maxMemoryBytes', { make, maxMemoryBytes: -1 }, 'ERR_OUT_OF_RANGE'],
    ['imports', { make, imports: {} }, 'ERR_INVALID_ARG_VALUE'],
    ['maxMemory', { make, maxMemory: 1 }, 'ERR_INVALID_ARG_VALUE']
  ])('options.%s out of range, or unknown', async (name, options, code) => {
    expectError(await refused(options), { code, says: `options.${name} ` })
  })

  test('options in two places, and a factory in the place of options', async () => {
    expectError(await rejection(InstancePool.create({ make }, { size: 2 })), {
      code: 'ERR_INVALID_ARG_VALUE',
      says: /beside/
    })
    expectError(await rejection(InstancePool.create(make)), {
      code: 'ERR_INVALID_ARG_TYPE',
      says: /\{ make/
    })
    expectError(await rejection(InstancePool.create({ init() {} })), {
      code: 'ERR_INVALID_ARG_TYPE',
      says: /make/
    })
  })
})
