'use strict'

// Pools of what a factory makes, where room ends: the stack's, and what units take. No unit is
// lost, none is handed out that is not as it was, and nothing is kept of what was let go.

const { InstancePool } = require('..')
const { inChild } = require('./support/child')
const { atStackEnd } = require('./support/stack-end')
const { assemble } = require('./support/wasm')

// The stack pointer is hidden, as compilers have it.
const WAT = `(module
  (memory (export "memory") 2 20)
  (global $sp (mut i32) (i32.const 65536))
  (func (export "sp") (result i32) (global.get $sp))
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "spoil")
    (global.set $sp (i32.const 3))
    (memory.fill (i32.const 0) (i32.const 0xff) (i32.const 131072))))`

let bytes
beforeAll(async () => {
  bytes = await assemble(WAT)
})

const make = async () => {
  const { instance } = await WebAssembly.instantiate(bytes)
  return { ...instance.exports, notes: [] }
}
const notes = ({ value }) => {
  const kept = [...value.notes]
  return () => {
    value.notes = [...kept]
  }
}
const expectClean = ({ value }) =>
  expect([value.sp(), value.load(0), value.load(131_068), value.notes]).toEqual([65_536, 0, 0, []])

function spoil({ value }) {
  value.spoil()
  value.notes.push('left')
}

const nextTurn = () => new Promise(resolve => setImmediate(resolve))

describe('where the stack ends,', () => {
  test.each(['release', 'discard'])('%s can be called again', async how => {
    const pool = await InstancePool.create({ make, state: [notes], max: 2, size: 2 })
    let failed = 0
    let rounds = 0
    for (let padding = 0; padding < 30; padding++) {
      const leased = await pool.acquire()
      const other = await pool.acquire()
      const waiting = pool.acquire()
      spoil(leased)
      failed += atStackEnd(padding, () => leased[how]())
      leased[how]()
      const next = await waiting
      expect(pool.stats()).toMatchObject({ size: 2, idle: 0, busy: 2, waiting: 0 })
      expectClean(next)
      next.release()
      other.release()
      rounds += 1
      expect(pool.stats()).toMatchObject({ size: 2, idle: 2, busy: 0, lastFailure: null })
      expect(pool.stats().discarded).toBe(how === 'discard' ? rounds : 0)
    }
    expect(failed).toBeGreaterThan(0)
    pool.close()
  })

  test.each(['release', 'discard', 'close'])('so does the first %s of a process', async how => {
    // What is called first is compiled then, which takes more of the stack than the call.
    const body = async ({ hostmap, assemble, args }) => {
      const { how } = args
      const wasm = await assemble(args.wat)
      const atStackEnd = new Function(`return ${args.atStackEnd}`)()
      const { FinalizationRegistry: before } = globalThis
      let destroyed = 0
      const pool = await hostmap.InstancePool.create({
        make: async () => (await WebAssembly.instantiate(wasm)).instance.exports,
        destroy: () => {
          destroyed += 1
        }
      })
      const leased = await pool.acquire()
      if (how === 'close') leased.release()
      const end = () => (how === 'close' ? pool.close() : leased[how]())
      atStackEnd(3, end)
      end()
      for (let i = 0; i < 4; i++) await new Promise(resolve => setImmediate(resolve))
      const { idle, busy, restored } = pool.stats()
      return [idle, busy, restored, destroyed, FinalizationRegistry === before]
    }
    const args = { how, wat: WAT, atStackEnd: String(atStackEnd) }
    expect(await inChild(body, { args })).toEqual(
      {
        release: [1, 0, 1, 0, true],
        discard: [0, 0, 0, 1, true],
        close: [0, 0, 1, 1, true]
      }[how]
    )
  })

  test('no unit is lost in an acquisition', async () => {
    // In a child, since Node writes to stderr when it can't note a rejection there.
    const body = async ({ hostmap, assemble, args }) => {
      const wasm = await assemble(args.wat)
      const atStackEnd = new Function(`return ${args.atStackEnd}`)()
      const outcomes = new Set()
      for (let padding = 0; padding < 60; padding++) {
        const pool = await hostmap.InstancePool.create({
          make: async () => (await WebAssembly.instantiate(wasm)).instance.exports,
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
          if (exports.sp() !== 65_536) throw new Error('not as it was')
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

  test('a request that ends there leaves its unit as it was', async () => {
    const pool = await InstancePool.create({ make, state: [notes], max: 1 })
    const dive = lent => {
      spoil(lent)
      dive(lent)
    }
    for (let round = 0; round < 5; round++) {
      await expect(pool.run(dive)).rejects.toThrow(RangeError)
      await pool.run(expectClean)
    }
    expect(pool.stats()).toMatchObject({ created: 1, discarded: 0 })
    pool.close()
  })
})

test('a pool keeps its books over random steps, whatever fails, and loses nobody', async () => {
  // Marsaglia's xorshift32.
  let seed = 20_261
  const random = below => {
    seed ^= seed << 13
    seed ^= seed >>> 17
    seed ^= seed << 5
    return (seed >>> 0) % below
  }
  const calls = {}
  /** Throws in each call of that number. */
  const fail = (where, number) => {
    calls[where] = (calls[where] ?? 0) + 1
    if (calls[where] % number === 0) throw new Error(where)
  }
  const made = new Set()
  const destroyed = new Set()
  const pool = await InstancePool.create({
    make: async () => {
      fail('make', 4)
      if (random(2) === 0) await nextTurn()
      const value = await make()
      made.add(value)
      return value
    },
    init: () => fail('init', 3),
    state: [notes, () => () => fail('state', 12)],
    before: () => {
      fail('before', 12)
      return random(2) === 0 ? undefined : nextTurn()
    },
    after: () => {
      fail('after', 20)
      return random(2) === 0 ? undefined : nextTurn()
    },
    destroy: ({ value }) => {
      expect(destroyed.has(value)).toBe(false)
      destroyed.add(value)
    },
    size: 0,
    max: 3
  })
  const held = new Set()
  const inUse = new Set()
  const ends = { ABORT_ERR: 0 }
  const count = what => {
    ends[what] = (ends[what] ?? 0) + 1
  }
  const requests = []
  for (let step = 0; step < 600; step++) {
    const what = random(10)
    if (what < 6 && pool.stats().waiting < 8) {
      const controller = new AbortController()
      if (what === 0) setImmediate(() => controller.abort())
      requests.push(
        pool.acquire({ signal: controller.signal }).then(
          leased => {
            expect(inUse.has(leased.value)).toBe(false)
            inUse.add(leased.value)
            expectClean(leased)
            spoil(leased)
            held.add(leased)
            count('acquired')
          },
          ({ code, message }) => count(code ?? message)
        )
      )
    } else if (held.size > 0) {
      const leased = [...held][random(held.size)]
      held.delete(leased)
      inUse.delete(leased.value)
      if (random(12) === 0) leased.discard()
      else leased.release()
    }
    if (random(3) === 0) await nextTurn()
    const { size, idle, busy, waiting, max } = pool.stats()
    expect(idle + busy).toBeLessThanOrEqual(size)
    expect(size).toBeLessThanOrEqual(max)
    expect(busy).toBeGreaterThanOrEqual(held.size)
    if (waiting > 0) expect(idle).toBe(0)
  }
  let isOver = false
  const all = Promise.all(requests).then(() => {
    isOver = true
  })
  while (!isOver) {
    for (const leased of held) {
      held.delete(leased)
      inUse.delete(leased.value)
      leased.release()
    }
    await nextTurn()
  }
  await all
  for (const leased of held) leased.release()
  // One may be booting, for nobody.
  while (pool.stats().idle < pool.stats().size) await nextTurn()
  const { size, idle, waiting, created, discarded, acquired } = pool.stats()
  expect([waiting, size - idle, created - discarded - size]).toEqual([0, 0, 0])
  expect(acquired).toBe(ends.acquired + ends.before)
  for (const what of ['make', 'init', 'before', 'acquired', 'ABORT_ERR']) {
    expect([what, ends[what] > 0]).toEqual([what, true])
  }
  pool.close()
  await nextTurn()
  await nextTurn()
  expect(destroyed).toEqual(made)
})

test('what is discarded or closed is kept by nobody, nor are its descriptors and memory', async () => {
  const seen = await inChild(
    async ({ hostmap, collect, countOpen, args }) => {
      const wasm = Buffer.from(args, 'base64')
      const values = []
      const options = {
        make: async () => {
          const value = { ...(await WebAssembly.instantiate(wasm)).instance.exports }
          values.push(new WeakRef(value))
          return value
        },
        init: ({ value }) => value.spoil(),
        state: [
          ({ value }) =>
            () =>
              value.sp()
        ],
        size: 2
      }
      const living = () => values.filter(it => it.deref() !== undefined).length
      const seen = []
      const pool = await hostmap.InstancePool.create(options)
      await pool.run(({ value }) => value.sp())
      const note = async () => {
        await collect(8)
        seen.push([living(), countOpen('memfd:')])
      }
      await note()
      ;(await pool.acquire()).discard()
      await note()
      const timers = []
      await pool.run(() => timers.push(setTimeout(() => {}, 2 ** 30)))
      timers.splice(0).forEach(clearTimeout)
      await note()
      const closed = await hostmap.InstancePool.create(options)
      closed.close()
      await note()
      // One that nobody has closed.
      await (await hostmap.InstancePool.create(options)).run(({ value }) => value.sp())
      await note()
      return seen
    },
    { args: bytes.toString('base64'), flags: ['--expose-gc'] }
  )
  expect(seen).toEqual([
    [2, 2],
    [1, 1],
    [0, 0],
    [0, 0],
    [0, 0]
  ])
})

test("finalizers of a discarded unit don't run on the zeros of its memory", async () => {
  const seen = await inChild(
    async ({ hostmap, collect, args }) => {
      const wasm = Buffer.from(args, 'base64')
      const calls = []
      const options = {
        make: async () => {
          const { exports } = (await WebAssembly.instantiate(wasm)).instance
          const registry = new FinalizationRegistry(what => calls.push([what, exports.load(0)]))
          return { ...exports, register: (target, what) => registry.register(target, what) }
        },
        init: ({ value }) => {
          value.spoil()
          value.kept = {}
          value.register(value.kept, 'of init')
        }
      }
      const run = async (more, deed) => {
        const pool = await hostmap.InstancePool.create({ ...options, ...more })
        let value
        await pool.run(async lent => {
          ;({ value } = lent)
          value.register({}, 'of the request')
          value.kept = null
          await deed?.(lent)
        })
        const { discarded } = pool.stats()
        await collect(8)
        const told = calls.splice(0)
        // The registry is there still.
        return [discarded, told, value.load(0)]
      }
      let timer
      const seen = [
        await run({}),
        await run({
          after: () => {
            throw new Error('no')
          }
        }),
        await run({}, () => {
          timer = setTimeout(() => {}, 2 ** 30)
        })
      ]
      clearTimeout(timer)
      return seen
    },
    { args: bytes.toString('base64'), flags: ['--expose-gc'] }
  )
  const [kept, zeroed, running] = seen
  // What init registered is of the state that came back; the request's is not.
  expect(kept).toEqual([0, [['of init', -1]], -1])
  expect(zeroed).toEqual([1, [], 0])
  // It may go on, and has its memory: all of it is called.
  expect([running[0], running[1].map(it => it[1]), running[2]]).toEqual([1, [-1, -1], -1])
})
