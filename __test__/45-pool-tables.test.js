'use strict'

// Tables in pools of modules, and in snapshots of instances: what was written goes back; what has
// grown becomes null, where no code of the module can know of it.

const { capture, checkpoint, exposeState, InstancePool, Snapshot } = require('..')
const { inChild } = require('./support/child')
const { expectError, thrownBy } = require('./support/errors')
const { assemble } = require('./support/wasm')

const LENGTH = 2000
const notRestorable = { code: 'ERR_HOSTMAP_NOT_RESTORABLE' }

// A table that it shows and one that it hides, which no code of it changes.
const FIXED = `(module
  (memory (export "memory") 1)
  (table $shown (export "shown") ${LENGTH} funcref)
  (table $hidden ${LENGTH} funcref)
  (type $number (func (result i32)))
  (func $one (export "one") (result i32) (i32.const 1))
  (func $two (export "two") (result i32) (i32.const 2))
  (elem (table $shown) (i32.const 1) func $one $two)
  (elem (table $hidden) (i32.const 1) func $one $two)
  (func (export "call") (param i32) (result i32)
    (call_indirect $hidden (type $number) (local.get 0))))`

// As wasm-bindgen makes them: a table for JavaScript's values that code grows. It remembers where,
// and aborts where somebody else has grown it.
const BINDGEN = `(module
  (memory (export "memory") 1)
  (table $values (export "values") 4 externref)
  (func (export "add") (param externref) (result i32)
    (local $at i32)
    (local.set $at (table.grow $values (local.get 0) (i32.const 1)))
    (if (i32.eqz (i32.load (i32.const 0))) (then (i32.store (i32.const 0) (local.get $at))))
    (if (i32.ne (local.get $at) (i32.load (i32.const 0))) (then unreachable))
    (i32.store (i32.const 0) (i32.add (local.get $at) (i32.const 1)))
    (local.get $at)))`

// (module (memory (export "m") 1) (type $g (func)) (func $g (export "g") (type $g))
//   (table (export "t") 1 (ref $g) (ref.func $g))), which wabt can't assemble.
const NO_NULL = Buffer.from(
  '0061736d0100000001040160000003020100040a014000640000' +
    '01d2000b0503010001070d03017401000167000001' +
    '6d02000a040102000b',
  'hex'
)

let fixed
let bindgen
beforeAll(async () => {
  ;[fixed, bindgen] = await Promise.all([FIXED, BINDGEN].map(assemble))
})

const pools = []
async function makePool(module, options) {
  const pool = await InstancePool.create(module, { max: 1, ...options })
  pools.push(pool)
  return pool
}
afterEach(() => pools.splice(0).forEach(pool => pool.close()))

const compiled = bytes => new WebAssembly.Module(bytes)
const contents = table => Array.from({ length: table.length }, (_, at) => table.get(at))
const { set: keptSet } = WebAssembly.Table.prototype

describe('a table that the module shows', () => {
  test('is as it was, whatever JavaScript wrote', async () => {
    const pool = await makePool(fixed)
    let before
    for (let round = 0; round < 4; round++) {
      await pool.run(({ exports: { shown, one, two } }) => {
        before ??= contents(shown)
        expect(contents(shown)).toEqual(before)
        for (let at = 0; at < 500 * round; at++) shown.set(at, at % 2 === 0 ? one : two)
        shown.set(1, null)
      })
    }
    expect(pool.stats()).toMatchObject({ created: 1, discarded: 0 })
  })

  test('is not read where nobody wrote it', async () => {
    const pool = await makePool(fixed)
    // What no note is made of is only found in turn.
    await pool.run(({ exports }) => keptSet.call(exports.shown, LENGTH - 1, exports.one))
    await pool.run(({ exports }) => expect(exports.shown.get(LENGTH - 1)).toBe(exports.one))
    for (let i = 0; i < LENGTH / 16 + 1; i++) await pool.run(() => {})
    await pool.run(({ exports }) => expect(exports.shown.get(LENGTH - 1)).toBe(null))
  })

  test('is as it was, too, where options.bind gives it to another instance', async () => {
    const bytes = await assemble(`(module (import "env" "t" (table $t 1 funcref)) (func $f)
      (elem declare func $f) (func (export "write") (table.set $t (i32.const 1999) (ref.func $f))))`)
    let other
    const pool = await makePool(fixed, {
      bind: ({ exports: { shown } }) => {
        other = new WebAssembly.Instance(compiled(bytes), { env: { t: shown } })
      }
    })
    for (let round = 0; round < 2; round++) {
      await pool.run(({ exports: { shown } }) => {
        expect(shown.get(1999)).toBe(null)
        other.exports.write()
        expect(shown.get(1999)).not.toBe(null)
      })
    }
  })

  test("and is imported may be anybody's", async () => {
    const bytes = await assemble(`(module (import "env" "t" (table ${LENGTH} funcref)) (memory 1)
      (func $f (export "f")))`)
    let table
    const imports = () => {
      table = new WebAssembly.Table({ element: 'anyfunc', initial: LENGTH })
      return { env: { t: table } }
    }
    const pool = await makePool(bytes, { imports })
    await pool.run(({ exports }) => keptSet.call(table, LENGTH - 1, exports.f))
    await pool.run(() => expect(table.get(LENGTH - 1)).toBe(null))
  })

  test('and whose writer is not known is read', async () => {
    // Nothing tells what its code does.
    const pool = await makePool(compiled(fixed), { accept: ['hidden-globals', 'hidden-tables'] })
    await pool.run(({ exports }) => keptSet.call(exports.shown, LENGTH - 1, exports.one))
    await pool.run(({ exports }) => expect(exports.shown.get(LENGTH - 1)).toBe(null))
  })
})

describe('a table that the module hides', () => {
  test("is nobody's where no code changes it, but is part of the state", async () => {
    const seen = []
    const pool = await makePool(fixed, {
      size: 2,
      max: 2,
      bind: instance => seen.push(Object.keys(instance.exports)),
      init: instance => seen.push(Object.keys(instance.exports))
    })
    const names = WebAssembly.Module.exports(compiled(fixed)).map(({ name }) => name)
    expect(seen).toEqual([names, names, names])
    const leased = await pool.acquire()
    expect(Object.keys(leased.instance.exports)).toEqual(names)
    expect(Object.isFrozen(leased.instance.exports)).toBe(true)
    expect([1, 2].map(at => leased.exports.call(at))).toEqual([1, 2])
    // Or else the instance would lack something that the snapshot has.
    pool.snapshot.restoreTo(leased.instance)
    Snapshot.of(leased.instance).restoreTo(leased.instance)
    expect([1, 2].map(at => leased.exports.call(at))).toEqual([1, 2])
    leased.release()
    expect(pool.stats().discarded).toBe(0)
  })

  test('is nobody’s in the first pool of a process, too', async () => {
    const body = async ({ hostmap, assemble, args }) => {
      const seen = []
      await hostmap.InstancePool.create(await assemble(args.wat), {
        bind: instance => seen.push(...Object.keys(instance.exports))
      })
      return seen
    }
    const seen = await inChild(body, { args: { wat: FIXED } })
    expect(seen).toEqual(['memory', 'shown', 'one', 'two', 'call'])
  })

  test('is read where code changes it', async () => {
    const bytes = await assemble(`(module (memory 1) (table $t ${LENGTH} funcref)
      (type $number (func (result i32))) (elem declare func $f) (func $f (result i32) (i32.const 3))
      (elem (i32.const 0) $f)
      (func (export "write") (table.set $t (i32.const 1999) (ref.func $f)))
      (func (export "call") (result i32) (call_indirect (type $number) (i32.const 1999))))`)
    const pool = await makePool(bytes)
    await pool.run(({ exports }) => {
      exports.write()
      expect(exports.call()).toBe(3)
    })
    await pool.run(({ exports }) => expect(() => exports.call()).toThrow(WebAssembly.RuntimeError))
  })
})

describe('a table that has grown', () => {
  test('by JavaScript is as it was, and null behind', async () => {
    const pool = await makePool(fixed)
    for (let round = 0; round < 3; round++) {
      await pool.run(({ exports: { shown, one } }) => {
        expect(shown.length).toBe(LENGTH + 2 * round)
        expect(
          contents(shown)
            .slice(LENGTH)
            .every(entry => entry === null)
        ).toBe(true)
        shown.grow(2, one)
        shown.set(LENGTH, null)
        if (round > 0) shown.set(LENGTH + 1, one)
        shown.set(5, one)
      })
    }
    await pool.run(({ exports: { shown } }) => {
      expect(
        contents(shown)
          .slice(3)
          .every(entry => entry === null)
      ).toBe(true)
    })
    expect(pool.stats()).toMatchObject({ created: 1, discarded: 0 })
  })

  test('and of which code knows the size ends the instance', async () => {
    for (const grow of [
      ({ exports }) => exports.add({}),
      ({ exports }) => exports.values.grow(1)
    ]) {
      const pool = await makePool(bindgen, { init: ({ exports }) => exports.add('first') })
      await pool.run(grow)
      expectError(pool.stats().lastFailure, {
        ...notRestorable,
        says: [/"values" has grown from 5 to 6/, /learnt its size/, /'grown-tables'/]
      })
      await pool.run(({ exports }) => expect(exports.add({})).toBe(5))
    }
  })

  test('goes back where that is accepted, and code that keeps books finds it', async () => {
    const pool = await makePool(bindgen, {
      init: ({ exports }) => exports.add('first'),
      accept: ['grown-tables']
    })
    const secret = {}
    await pool.run(({ exports }) => expect(exports.add(secret)).toBe(5))
    await pool.run(({ exports }) => {
      expect([exports.values.length, exports.values.get(4), exports.values.get(5)]).toEqual([
        6,
        'first',
        null
      ])
      expect(() => exports.add({})).toThrow(WebAssembly.RuntimeError)
    })
    expect(pool.stats().discarded).toBe(0)
  })

  test('is null behind in new instances, too', async () => {
    let grown = 0
    const pool = await makePool(fixed, {
      max: 2,
      bind: ({ exports: { shown, one } }) => {
        if (grown++ > 0) shown.grow(3, one)
      }
    })
    const [, { exports }] = [await pool.acquire(), await pool.acquire()]
    expect(contents(exports.shown).slice(3)).toEqual(Array(LENGTH).fill(null))
  })

  test('and takes no null ends the instance', async () => {
    if (!WebAssembly.validate(NO_NULL)) return // No such tables in Node 20.
    const pool = await makePool(NO_NULL, { accept: ['grown-tables'] })
    await pool.run(({ exports: { t, g } }) => t.set(0, g))
    expect(pool.stats().discarded).toBe(0)
    await pool.run(({ exports: { t, g } }) => t.grow(1, g))
    expectError(pool.stats().lastFailure, { ...notRestorable, says: /can't be null/ })
  })

  test('of an instance that has a snapshot goes back where its module is known', async () => {
    const bytes = exposeState(fixed)
    const snapshot = Snapshot.of(new WebAssembly.Instance(compiled(bytes)))
    const instance = await snapshot.instantiate(bytes)
    const { shown, one } = instance.exports
    shown.grow(1, one)
    snapshot.restoreTo(instance)
    expect(shown.get(LENGTH)).toBe(null)

    const unknown = new WebAssembly.Instance(compiled(bytes))
    const own = Snapshot.of(unknown)
    unknown.exports.shown.grow(1, one)
    for (const it of [own, snapshot]) {
      expectError(
        thrownBy(() => it.restoreTo(unknown)),
        { ...notRestorable, says: [/not known/, /'grown-tables'/] }
      )
      expect(unknown.exports.shown.get(LENGTH)).toBe(one)
      it.restoreTo(unknown, { accept: ['grown-tables'] })
      expect(unknown.exports.shown.get(LENGTH)).toBe(null)
      unknown.exports.shown.set(LENGTH, one)
    }
  })

  test('of an instance goes back where the snapshot says that it may', async () => {
    const instance = new WebAssembly.Instance(compiled(exposeState(bindgen)))
    const snapshot = Snapshot.of(instance, { accept: ['grown-tables'] })
    const { add, values } = instance.exports
    add({})
    snapshot.restoreTo(instance)
    expect(values.get(4)).toBe(null)
  })

  test('of a captured engine goes back in any case', async () => {
    const { value, unit } = await capture(() => WebAssembly.instantiate(bindgen))
    const { add, values } = value.instance.exports
    add('first')
    const clean = checkpoint(unit)
    add({})
    clean.restore()
    expect([values.length, values.get(4), values.get(5)]).toEqual([6, 'first', null])
  })
})
