'use strict'

// Checkpoints: an engine that other code made is as it was after each restore, or says that it is
// not.

const { capture, Checkpoint, checkpoint, exposeState, GuardedMemory, HostRegion } = require('..')
const { inChild } = require('./support/child')
const { expectError, expectFailure, thrownBy } = require('./support/errors')
const { assemble } = require('./support/wasm')
const { TestWorker } = require('./support/worker')

const WASM_PAGE = 65536

// An engine as Emscripten's linker makes it: a stack in memory, with its pointer in a global; a
// table of functions; a memory that grows. All but the memory is hidden.
const ENGINE = `(module
  (import "env" "hook" (func $hook))
  (memory (export "memory") 2 20)
  (global $sp (mut i32) (i32.const 65536))
  (table $table (export "table") 3 funcref)
  (type $get (func (result i32)))
  (func $one (export "one") (result i32) (i32.const 1))
  (func $two (export "two") (result i32) (i32.const 2))
  (elem (i32.const 1) $one $two)
  (func (export "push") (param i32)
    (global.set $sp (i32.sub (global.get $sp) (i32.const 16)))
    (i32.store (global.get $sp) (local.get 0)))
  (func (export "top") (result i32) (i32.load (global.get $sp)))
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
let wrapper
beforeAll(async () => {
  engine = await assemble(ENGINE)
  // What glue makes of a function, so that a table takes it.
  wrapper = await assemble('(module (func (import "e" "f") (result i32)) (export "f" (func 0)))')
})

const inTable = f =>
  new WebAssembly.Instance(new WebAssembly.Module(wrapper), { e: { f } }).exports.f

/** A factory as Emscripten makes them: options in, an object with functions out. */
async function makeEngine({ hook = () => {} } = {}) {
  const { instance } = await WebAssembly.instantiate(engine, { env: { hook } })
  const { exports } = instance
  // As addFunction and removeFunction of Emscripten's glue, which remembers what is where.
  const free = []
  const indices = new Map()
  const addFunction = f => {
    if (indices.has(f)) return indices.get(f)
    const index = free.pop() ?? exports.table.grow(1)
    exports.table.set(index, Object.values(exports).includes(f) ? f : inTable(f))
    indices.set(f, index)
    return index
  }
  const removeFunction = index => {
    for (const [f, at] of indices) if (at === index) indices.delete(f)
    exports.table.set(index, null)
    free.push(index)
  }
  return { ...exports, instance, addFunction, removeFunction }
}

const captured = async options => (await capture(() => makeEngine(options))).value

/** All that can be seen of an engine. */
const digest = it => ({
  sp: it.sp(),
  memory: Buffer.from(it.memory.buffer, 0, 2 * WASM_PAGE).toString('base64'),
  table: [0, 1, 2].map(index => it.table.get(index))
})

const broken = { code: 'ERR_HOSTMAP_CHECKPOINT_BROKEN' }
const pending = { code: 'ERR_HOSTMAP_CALL_PENDING' }
const notRestorable = { code: 'ERR_HOSTMAP_NOT_RESTORABLE' }

describe('an engine is as it was', () => {
  test('whatever it did: after calls, traps, the end of the stack, and growth', async () => {
    const it = await captured()
    it.push(7)
    const before = digest(it)
    const clean = checkpoint(it)
    expect(clean).toBeInstanceOf(Checkpoint)
    expect(clean.byteLength).toBe(2 * WASM_PAGE)
    const deeds = {
      writes: () => [it.push(1), it.store(70_000, 5)],
      tables: () => it.swap(),
      traps: () => expect(() => it.trap()).toThrow(WebAssembly.RuntimeError),
      'the end of the stack': () => expect(() => it.deep()).toThrow(RangeError),
      growth: () => it.grow(1),
      'growth by JavaScript': () => it.memory.grow(1),
      'tables that grow': () => it.table.grow(5, it.one),
      'functions that are added': () => it.addFunction(() => 5),
      nothing: () => {}
    }
    for (let round = 0; round < 3; round++) {
      for (const deed of Object.values(deeds)) {
        deed()
        clean.restore()
        expect(digest(it)).toEqual(before)
        expect([it.top(), it.call(1), it.call(2)]).toEqual([7, 1, 2])
      }
    }
    const more = new Uint8Array(it.memory.buffer, 2 * WASM_PAGE)
    expect(more.length).toBe(6 * WASM_PAGE)
    expect(more.every(byte => byte === 0)).toBe(true)
  })

  test('or nothing of it is, where a table has grown that takes no null', async () => {
    // (module (import "e" "v" (global (ref extern))) (memory (export "m") 1)
    //   (table (export "t") 1 (ref extern) (global.get 0))), which wabt can't assemble.
    const bytes = Buffer.from(
      '0061736d01000000' +
        '0209010165017603646f00' +
        '040a014000646f000123000b' +
        '0503010001' +
        '070902016d020001740100',
      'hex'
    )
    if (!WebAssembly.validate(bytes)) return // No such tables in Node 20.
    const { value, unit } = await capture(() =>
      WebAssembly.instantiate(bytes, { e: { v: 'first' } })
    )
    const { m, t } = value.instance.exports
    const memory = new Uint8Array(m.buffer)
    const clean = checkpoint(unit)
    t.set(0, 'second')
    clean.restore()
    expect(t.get(0)).toBe('first')
    t.set(0, 'third')
    t.grow(2, 'new')
    memory[0] = 1
    expectError(
      thrownBy(() => clean.restore()),
      { ...notRestorable, says: [/"t" has grown from 1 to 3/, /can't be null/] }
    )
    expect([0, 1, 2].map(at => t.get(at))).toEqual(['third', 'new', 'new'])
    expect(memory[0]).toBe(1)
    expect(clean.failure).toBe(null)
  })

  test('at the checkpoint that is restored, of several', async () => {
    const it = await captured()
    const checkpoints = [0, 1, 2, 3].map(value => {
      it.store(0, value)
      it.push(value)
      if (value === 2) it.swap()
      if (value === 3) it.table.grow(1, it.two)
      return { clean: checkpoint(it), seen: digest(it), length: it.table.length }
    })
    for (const at of [3, 0, 2, 2, 1, 3, 0]) {
      const { clean, seen } = checkpoints[at]
      it.store(4, at)
      clean.restore()
      expect(digest(it)).toEqual(seen)
      expect(it.load(0)).toBe(at)
      if (at === 3) expect(it.table.get(3)).toBe(it.two)
    }
    checkpoints[0].clean.close()
    checkpoints[3].clean.restore()
    expect(it.load(0)).toBe(3)
  })

  test('with mappings and windows, which come back', async () => {
    const it = await captured()
    const region = HostRegion.copyFrom(Buffer.alloc(WASM_PAGE, 9))
    const guarded = GuardedMemory.from(it.memory)
    const mapping = guarded.map(region)
    const window = guarded.window({ byteLength: 4096 })
    window.slide(region, 8192)
    const clean = checkpoint(it)
    const { pointer } = mapping
    expect(it.load(pointer)).toBe(0x09090909)
    mapping.unmap()
    window.slide(null)
    it.store(pointer, 1)
    clean.restore()
    expect(it.load(pointer)).toBe(0x09090909)
    expect(it.load(window.pointer)).toBe(0x09090909)
    // What was mapped since is its maker's to unmap: nothing is changed before.
    const later = guarded.map(region)
    it.push(3)
    expectError(
      thrownBy(() => clean.restore()),
      { code: 'ERR_HOSTMAP_OVERLAP', says: /unmap it/ }
    )
    expect(it.top()).toBe(3)
    later.unmap()
    clean.restore()
    expect([it.load(pointer), it.sp()]).toEqual([0x09090909, 65536])
  })

  test('with a 64-bit memory', async () => {
    const seen = await inChild(
      async ({ hostmap, args }) => {
        const bytes = Buffer.from(args, 'base64')
        if (!WebAssembly.validate(bytes)) return 'none'
        const { value } = await hostmap.capture(() => WebAssembly.instantiate(bytes))
        const { add } = value.instance.exports
        const clean = hostmap.checkpoint(value)
        const before = [add(1), add(2)]
        clean.restore()
        return [...before, add(4)].map(Number)
      },
      {
        args: (
          await assemble(`(module (memory (export "memory") i64 1 4) (global $sum (mut i64) (i64.const 0))
            (func (export "add") (param i32) (result i64)
              (global.set $sum (i64.add (global.get $sum) (i64.extend_i32_u (local.get 0))))
              (i64.store (i64.const 8) (i64.add (i64.load (i64.const 8)) (global.get $sum)))
              (i64.load (i64.const 8))))`)
        ).toString('base64')
      }
    )
    expect(['none', [1, 4, 4]]).toContainEqual(seen)
  })
})

describe('state', () => {
  test('is kept once, and restored after the memory each time, in order', async () => {
    const it = await captured()
    const calls = []
    let files = ['a']
    const clean = checkpoint(it, {
      state: [
        () => {
          calls.push('keep')
          const kept = [...files]
          return () => {
            calls.push(`files with ${it.load(0)}`)
            files = [...kept]
          }
        },
        () => () => calls.push('second')
      ]
    })
    for (let round = 0; round < 2; round++) {
      it.store(0, 5)
      files.push('b')
      clean.restore()
      expect(files).toEqual(['a'])
    }
    expect(calls).toEqual(['keep', 'files with 0', 'second', 'files with 0', 'second'])
  })

  test('that throws as it is kept, or gives nothing to call, keeps no checkpoint', async () => {
    const it = await captured()
    const mine = new Error('mine')
    expect(
      thrownBy(() =>
        checkpoint(it, {
          state: [
            () => {
              throw mine
            }
          ]
        })
      )
    ).toBe(mine)
    for (const [given, says] of [
      [undefined, 'undefined'],
      [5, '5'],
      [Promise.resolve(() => {}), 'await before']
    ]) {
      await expectFailure(() => checkpoint(it, { state: [() => () => {}, () => given] }), {
        code: 'ERR_INVALID_ARG_TYPE',
        says: [/options\.state\[1\]/, says]
      })
    }
  })

  test('that throws at a restore breaks the checkpoint, which says so for good', async () => {
    const it = await captured()
    const mine = new Error('the disk is gone')
    let fails = true
    const other = checkpoint(it)
    const clean = checkpoint(it, {
      state: [
        () => () => {
          if (fails) throw mine
        }
      ]
    })
    it.push(3)
    const error = thrownBy(() => clean.restore())
    expectError(error, { ...broken, says: [/the disk is gone/, /throw it away/] })
    expect(error.cause).toBe(mine)
    expect(clean.failure).toBe(mine)
    fails = false
    expectError(
      thrownBy(() => clean.restore()),
      broken
    )
    // One that keeps no such state brings back all that it keeps.
    other.restore()
    expect(it.sp()).toBe(65536)
    clean.close()
    expect(clean.residentBytes).toBe(0)
  })

  test.each([
    ['undefined', () => undefined],
    ['null', () => null],
    ['a text', () => 'text'],
    ['an object without a prototype', () => Object.create(null)]
  ])('that throws %s breaks it, too', async (name, make) => {
    const it = await captured()
    const clean = checkpoint(it, {
      state: [
        () => () => {
          throw make()
        }
      ]
    })
    expectError(
      thrownBy(() => clean.restore()),
      broken
    )
    expectError(
      thrownBy(() => clean.restore()),
      broken
    )
  })

  test('that restores later is refused, since nobody waits for it', async () => {
    const it = await captured()
    const clean = checkpoint(it, { state: [() => async () => Promise.reject(new Error('late'))] })
    const error = thrownBy(() => clean.restore())
    expectError(error, broken)
    expectError(error.cause, { code: 'ERR_INVALID_ARG_TYPE', says: /by a promise/ })
  })

  test('that restores or closes its own checkpoint is told', async () => {
    const it = await captured()
    for (const call of ['restore', 'close']) {
      const errors = []
      const clean = checkpoint(it, {
        state: [() => () => errors.push(thrownBy(() => clean[call]()))]
      })
      clean.restore()
      expectError(errors[0], { ...pending, says: call })
      expect(clean.closed).toBe(false)
      expect(clean.failure).toBeNull()
    }
  })
})

describe('nothing is changed, and the engine goes on,', () => {
  test('where WebAssembly has called what restores, or takes', async () => {
    const errors = []
    let clean
    const it = await captured({
      hook: () => {
        errors.push(thrownBy(() => clean.restore()))
        errors.push(thrownBy(() => checkpoint(it)))
      }
    })
    clean = checkpoint(it)
    it.hooked()
    expect(errors).toHaveLength(2)
    errors.forEach(error => expectError(error, pending))
    expect(it.sp()).toBe(99)
    clean.restore()
    expect(it.sp()).toBe(65536)
  })

  test('where that was streamed, so that its script is called by its URL', async () => {
    const codes = await inChild(
      async ({ hostmap, require, args }) => {
        const bytes = hostmap.exposeState(Buffer.from(args, 'base64'))
        const server = require('node:http').createServer((request, response) => {
          response.setHeader('content-type', 'application/wasm')
          response.end(bytes)
        })
        await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
        const source = fetch(`http://127.0.0.1:${server.address().port}/engine.wasm`)
        let clean
        const codes = []
        const hook = () => {
          try {
            clean.restore()
          } catch (error) {
            codes.push(error.code)
          }
        }
        const { module, instance } = await WebAssembly.instantiateStreaming(source, {
          env: { hook }
        })
        server.closeAllConnections()
        server.close()
        clean = hostmap.checkpoint(instance, { module })
        instance.exports.hooked()
        codes.push(instance.exports.sp())
        return codes
      },
      { args: engine.toString('base64') }
    )
    expect(codes).toEqual(['ERR_HOSTMAP_CALL_PENDING', 99])
  })

  test.each([
    ['limit', 'Error.stackTraceLimit = 0'],
    ['format', 'Error.prepareStackTrace = () => "mine"'],
    ['none', 'delete Error.stackTraceLimit']
  ])('with stacks that scripts have changed (%s), which stay so', async (name, script) => {
    const seen = await inChild(
      async ({ hostmap, args: { bytes, script } }) => {
        new Function(script)()
        const before = JSON.stringify(Object.getOwnPropertyDescriptors(Error))
        let clean
        const codes = []
        const { value } = await hostmap.capture(() =>
          WebAssembly.instantiate(Buffer.from(bytes, 'base64'), {
            env: {
              hook() {
                try {
                  clean.restore()
                } catch (error) {
                  codes.push(error.code)
                }
              }
            }
          })
        )
        clean = hostmap.checkpoint(value)
        value.instance.exports.hooked()
        clean.restore()
        return [codes, JSON.stringify(Object.getOwnPropertyDescriptors(Error)) === before]
      },
      { args: { bytes: engine.toString('base64'), script } }
    )
    expect(seen).toEqual([['ERR_HOSTMAP_CALL_PENDING'], true])
  })

  test('and a script that froze Error or WebAssembly leaves what can be done', async () => {
    const seen = await inChild(
      async ({ hostmap, args }) => {
        const make = () =>
          WebAssembly.instantiate(Buffer.from(args, 'base64'), { env: { hook() {} } })
        const { value } = await hostmap.capture(make)
        const { push, sp } = value.instance.exports
        const clean = hostmap.checkpoint(value)
        Object.freeze(Error)
        push(1)
        clean.restore()
        const { instantiate } = WebAssembly
        Object.freeze(WebAssembly)
        const codes = []
        for (let i = 0; i < 2; i++) {
          codes.push(await hostmap.capture(make).catch(error => error.code))
        }
        return [sp(), codes, WebAssembly.instantiate === instantiate]
      },
      { args: engine.toString('base64') }
    )
    const refused = 'ERR_HOSTMAP_NOT_CAPTURED'
    expect(seen).toEqual([65536, [refused, refused], true])
  })

  test('where an instance was made since, whose functions are in a table', async () => {
    const it = await captured()
    const clean = checkpoint(it)
    const { instance } = await WebAssembly.instantiate(engine, { env: { hook() {} } })
    it.push(3)
    const index = it.table.grow(1, instance.exports.two)
    const error = thrownBy(() => clean.restore())
    expectError(error, {
      ...notRestorable,
      says: [/entry 3 of table "table"/, /since the checkpoint/]
    })
    const late = thrownBy(() => checkpoint(it))
    expectError(late, { ...notRestorable, says: [/entry 3 of table "table"/, /since the capture/] })
    expect([it.sp(), it.call(index)]).toEqual([65520, 2])
    // Its glue has let it go.
    it.table.set(index, null)
    clean.restore()
    expect(it.sp()).toBe(65536)
  })

  test('where a function was removed that was there', async () => {
    const kept = await captured()
    const index = kept.addFunction(() => 7)
    const clean = checkpoint(kept)
    const more = kept.addFunction(() => 8)
    expect([kept.call(index), kept.call(more)]).toEqual([7, 8])
    kept.removeFunction(more)
    clean.restore()
    kept.removeFunction(index)
    kept.push(1)
    expectError(
      thrownBy(() => clean.restore()),
      { ...notRestorable, says: /removeFunction/ }
    )
    expect(kept.sp()).toBe(65520)
    kept.addFunction(() => 9)
    expectError(
      thrownBy(() => clean.restore()),
      notRestorable
    )
    expect(kept.call(index)).toBe(9)
  })

  test('where it is closed', async () => {
    const it = await captured()
    const clean = checkpoint(it, { name: 'before' })
    it.push(4)
    clean.close()
    clean.close()
    expectError(
      thrownBy(() => clean.restore()),
      {
        code: 'ERR_HOSTMAP_CHECKPOINT_CLOSED',
        says: '"before"'
      }
    )
    expect([clean.closed, clean.residentBytes, it.top()]).toEqual([true, 0, 4])
    const other = checkpoint(it)
    other[Symbol.dispose]()
    expect(other.closed).toBe(true)
  })
})

test('a restore that fails in the middle breaks the checkpoint', async () => {
  const { value } = await capture(async () => [await makeEngine(), await makeEngine()])
  const region = HostRegion.copyFrom(Buffer.alloc(4096, 1))
  const guarded = value.map(it => GuardedMemory.from(it.memory))
  const early = checkpoint(value)
  guarded[0].map(region)
  const clean = checkpoint(value)
  // That is seen before anything is changed, where one memory alone was mapped into.
  value.forEach(it => it.push(1))
  expectError(
    thrownBy(() => early.restore()),
    { code: 'ERR_HOSTMAP_OVERLAP' }
  )
  expect(value.map(it => it.sp())).toEqual([65520, 65520])
  // The first memory is back before the second one is refused.
  guarded[1].map(region)
  const error = thrownBy(() => clean.restore())
  expectError(error, broken)
  expectError(error.cause, { code: 'ERR_HOSTMAP_OVERLAP' })
  expectError(
    thrownBy(() => clean.restore()),
    broken
  )
})

describe('calls that are suspended', () => {
  test('by Asyncify are waited for', async () => {
    // What the pass makes, without what it does.
    const bytes = await assemble(`(module
      (memory (export "memory") 1)
      (func (export "asyncify_start_unwind") (param i32) (i32.store (i32.const 0) (local.get 0)))
      (func (export "asyncify_stop_unwind"))
      (func (export "asyncify_start_rewind") (param i32))
      (func (export "asyncify_stop_rewind") (i32.store (i32.const 0) (i32.const 0)))
      (table (export "table") 8 funcref))`)
    const { value } = await capture(async () => {
      const made = await WebAssembly.instantiate(bytes)
      // As glue that loads other modules does: every function is put into the table.
      const { table, memory: _memory, ...functions } = made.instance.exports
      Object.values(functions).forEach((it, index) => table.set(index, it))
      return made
    })
    const { exports } = value.instance
    const clean = checkpoint(value)
    exports.asyncify_start_unwind(16)
    exports.asyncify_stop_unwind()
    expectError(
      thrownBy(() => clean.restore()),
      { ...pending, says: /a call into it is suspended/ }
    )
    expectError(
      thrownBy(() => checkpoint(value)),
      pending
    )
    expect(new Int32Array(exports.memory.buffer)[0]).toBe(16)
    exports.asyncify_start_rewind(16)
    exports.asyncify_stop_rewind()
    clean.restore()
  })

  test('by Asyncify are waited for where addresses are of 64 bits', async () => {
    const bytes = await assemble(`(module
      (memory (export "memory") i64 1)
      (func (export "asyncify_start_unwind") (param i64) (i64.store (i64.const 0) (local.get 0)))
      (func (export "asyncify_stop_rewind") (i64.store (i64.const 0) (i64.const 0))))`)
    // Node.js 20 and 22 have no memory64.
    if (!WebAssembly.validate(bytes)) return
    const { value } = await capture(() => WebAssembly.instantiate(bytes))
    const { exports } = value.instance
    const clean = checkpoint(value)
    exports.asyncify_start_unwind(16n)
    expectError(
      thrownBy(() => clean.restore()),
      { ...pending, says: /a call into it is suspended/ }
    )
    expect(new BigInt64Array(exports.memory.buffer)[0]).toBe(16n)
    exports.asyncify_stop_rewind()
    clean.restore()
  })

  test('by promises of JavaScript are waited for', async () => {
    const seen = await inChild(
      async ({ hostmap, args }) => {
        if (typeof WebAssembly.Suspending !== 'function') return 'none'
        let go
        const { value } = await hostmap.capture(async () => {
          const wait = new WebAssembly.Suspending(() => new Promise(resolve => (go = resolve)))
          const { instance } = await WebAssembly.instantiate(Buffer.from(args, 'base64'), {
            env: { hook: wait }
          })
          return WebAssembly.promising(instance.exports.hooked)
        })
        const clean = hostmap.checkpoint(value)
        const codeOf = () => {
          try {
            clean.restore()
            return 'restored'
          } catch (error) {
            return error.code
          }
        }
        const codes = [codeOf()]
        const call = value()
        codes.push(codeOf())
        go()
        await call
        return [...codes, codeOf()]
      },
      {
        args: engine.toString('base64')
      }
    )
    expect(['none', ['restored', 'ERR_HOSTMAP_CALL_PENDING', 'restored']]).toContainEqual(seen)
  })
})

test('an instance of the engine may put functions into the table of another one', async () => {
  const [one, other] = await Promise.all(
    [
      `(module (memory 1) (global $g (mut i32) (i32.const 1)) (func $unused)
        (func (export "get") (result i32) (global.get $g))
        (func (export "set") (param i32) (global.set $g (local.get 0))))`,
      `(module (memory 1) (table (export "table") 1 funcref)
        (func (export "add") (param funcref) (result i32)
          (table.grow 0 (local.get 0) (i32.const 1))))`
    ].map(assemble)
  )
  const make = async bytes => (await WebAssembly.instantiate(bytes)).instance.exports
  const { value, unit } = await capture(async () => [await make(one), await make(other)])
  const [{ get, set }, { add, table }] = value
  add(get)
  const clean = checkpoint(unit)
  add(get)
  set(2)
  clean.restore()
  expect([table.get(1)(), table.get(2)()]).toEqual([1, 1])
})

test('functions that glue has added stay where it remembers them', async () => {
  const it = await captured()
  const removed = it.addFunction(() => 5)
  it.removeFunction(removed)
  const clean = checkpoint(it)
  const [seven, eight] = [() => 7, () => 8]
  for (let round = 0; round < 3; round++) {
    const indices = [seven, eight, it.two].map(f => it.addFunction(f))
    expect(indices[0]).toBe(removed)
    expect(indices.map(index => it.call(index))).toEqual([7, 8, 2])
    it.push(round)
    clean.restore()
    expect(it.sp()).toBe(65536)
  }
})

test('what is no function goes from entries that were empty', async () => {
  const bytes = await assemble('(module (memory 1) (table (export "table") 2 externref))')
  const make = async () => (await WebAssembly.instantiate(bytes)).instance.exports
  const { value, unit } = await capture(make)
  const clean = checkpoint(unit)
  value.table.set(1, { request: 1 })
  value.table.grow(2, { request: 2 })
  clean.restore()
  expect([0, 1, 2, 3].map(index => value.table.get(index) ?? null)).toEqual([
    null,
    null,
    null,
    null
  ])
})

test('a table of references holds functions as any other value', async () => {
  const { value, unit } = await capture(async () => {
    const bytes = await assemble('(module (memory 1) (table (export "table") 2 externref))')
    return (await WebAssembly.instantiate(bytes)).instance.exports
  })
  const stranger = await makeEngine()
  const wrapped = inTable(() => 1)
  class Planted {}
  value.table.set(0, wrapped)
  value.table.set(1, Planted)
  const clean = checkpoint(unit)
  value.table.set(0, null)
  value.table.set(1, stranger.one)
  for (const request of [stranger.two, class {}, inTable(() => 2), 7]) value.table.grow(1, request)
  clean.restore()
  const entries = Array.from({ length: value.table.length }, (_, at) => value.table.get(at))
  expect(entries).toEqual([wrapped, Planted, null, null, null, null])
})

describe('what is no captured engine', () => {
  test('is refused, with what to do', async () => {
    class PGlite {}
    for (const value of [new PGlite(), {}, makeEngine, await makeEngine()]) {
      await expectFailure(() => checkpoint(value), {
        code: 'ERR_HOSTMAP_NOT_CAPTURED',
        says: /await capture/
      })
    }
    for (const value of [undefined, null, 5, 'engine', Promise.resolve()]) {
      await expectFailure(() => checkpoint(value), { code: 'ERR_INVALID_ARG_TYPE', says: /target/ })
    }
  })

  test('but an instance is kept where nothing is hidden', async () => {
    const imports = { env: { hook() {} } }
    const exposed = new WebAssembly.Module(exposeState(engine))
    for (const module of [exposed, engine, exposeState(engine)]) {
      const instance = new WebAssembly.Instance(exposed, imports)
      const clean = checkpoint(instance, { module })
      instance.exports.push(5)
      clean.restore()
      expect(instance.exports.sp()).toBe(65536)
    }
    const plain = new WebAssembly.Instance(new WebAssembly.Module(engine), imports)
    for (const options of [
      undefined,
      { module: engine },
      { module: new WebAssembly.Module(engine) },
      { accept: ['hidden-tables'] }
    ]) {
      await expectFailure(() => checkpoint(plain, options), notRestorable)
    }
    // The caller knows better: here, that the pointer of the stack is back by itself.
    const clean = checkpoint(plain, { accept: ['hidden-globals', 'hidden-tables'] })
    plain.exports.store(0, 7)
    plain.exports.swap()
    clean.restore()
    expect([plain.exports.load(0), plain.exports.call(1)]).toEqual([0, 1])
  })

  test('nor is one without a memory', async () => {
    const bytes = await assemble('(module (global (export "g") (mut i32) (i32.const 1)))')
    const { value } = await capture(() => WebAssembly.instantiate(bytes))
    await expectFailure(() => checkpoint(value), { code: 'ERR_HOSTMAP_UNSUITABLE_MODULE' })
  })
})

test.each([
  ['v128-globals', '(global (mut v128) (v128.const i64x2 0 0))'],
  [
    'dropped-segments',
    '(data $d "x") (func (export "f") (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)) (data.drop $d))'
  ]
])('state that can not be restored (%s) is refused unless it is accepted', async (name, field) => {
  const bytes = await assemble(`(module (memory 1) ${field})`)
  const { value } = await capture(() => WebAssembly.instantiate(bytes))
  expectError(
    thrownBy(() => checkpoint(value)),
    { ...notRestorable, says: name }
  )
  checkpoint(value, { accept: [name] }).restore()
})

test('a shared memory needs the promise that no other thread is in it', async () => {
  const bytes = await assemble(
    '(module (import "env" "memory" (memory 1 2 shared)) (func (export "load") (result i32) (i32.load (i32.const 0))))'
  )
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 2, shared: true })
  const { value } = await capture(() => WebAssembly.instantiate(bytes, { env: { memory } }))
  await expectFailure(() => checkpoint(value), { code: 'ERR_HOSTMAP_SHARED_MEMORY' })
  const clean = checkpoint(value, { exclusive: true })
  new Int32Array(memory.buffer)[0] = 7
  clean.restore()
  expect(value.instance.exports.load()).toBe(0)
})

test('captures and checkpoints work in a worker, and stay there', async () => {
  const worker = new TestWorker()
  try {
    const seen = await worker.run(async ({ hostmap }, bytes) => {
      const { value, unit } = await hostmap.capture(() =>
        WebAssembly.instantiate(bytes, { env: { hook() {} } })
      )
      const { push, sp } = value.instance.exports
      const clean = hostmap.checkpoint(unit)
      push(1)
      const before = sp()
      clean.restore()
      return [before, sp()]
    }, engine)
    expect(seen).toEqual([65520, 65536])
  } finally {
    await worker.end()
  }
  const it = await captured()
  const clean = checkpoint(it)
  for (const thing of [clean]) {
    let copy
    try {
      copy = structuredClone(thing)
    } catch {
      continue
    }
    // Node.js before 22.10 makes an object without anything of it.
    expect(() => Checkpoint.prototype.restore.call(copy)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_THIS' })
    )
  }
})

test('an engine that nobody holds is let go, with what was kept of it', async () => {
  const seen = await inChild(
    async ({ hostmap, args }) => {
      const bytes = Buffer.from(args, 'base64')
      const make = async () =>
        (await WebAssembly.instantiate(bytes, { env: { hook() {} } })).instance.exports
      // The first is only used on the way, as PGlite uses one to fill its database.
      const { value, unit } = await hostmap.capture(async () => {
        await make()
        return make()
      })
      const clean = hostmap.checkpoint(unit)
      const before = clean.residentBytes
      for (let i = 0; i < 10 && clean.residentBytes === before; i++) {
        // In turns of their own: a restore holds what it restores until its turn ends.
        await new Promise(resolve => setTimeout(resolve, 10))
        globalThis.gc()
        await new Promise(resolve => setTimeout(resolve, 10))
        clean.restore()
      }
      value.push(1)
      clean.restore()
      return [clean.residentBytes < before, clean.residentBytes > 0, value.sp()]
    },
    { flags: ['--expose-gc'], args: engine.toString('base64') }
  )
  expect(seen).toEqual([true, true, 65536])
})

test('options are checked before anything is called', async () => {
  const it = await captured()
  const refused = [
    [{ state: () => () => {} }, 'ERR_INVALID_ARG_TYPE', /options\.state/],
    [{ state: [5] }, 'ERR_INVALID_ARG_TYPE', /options\.state\[0\]/],
    [{ accept: ['all'] }, 'ERR_INVALID_ARG_VALUE', /options\.accept/],
    [{ accept: 'gc-objects' }, 'ERR_INVALID_ARG_TYPE', /options\.accept/],
    [{ name: 5 }, 'ERR_INVALID_ARG_TYPE', /options\.name/],
    [{ exclusive: 1 }, 'ERR_INVALID_ARG_TYPE', /options\.exclusive/],
    [{ keepResidentBytes: -1 }, 'ERR_OUT_OF_RANGE', /options\.keepResidentBytes/],
    [{ hugePages: 'yes' }, 'ERR_INVALID_ARG_TYPE', /options\.hugePages/],
    [{ states: [] }, 'ERR_INVALID_ARG_VALUE', /did you mean state\?/],
    [{ module: engine }, 'ERR_INVALID_ARG_VALUE', /options\.module/],
    [5, 'ERR_INVALID_ARG_TYPE', /options/]
  ]
  let called = 0
  for (const [options, code, says] of refused) {
    const withState =
      options === 5 || 'state' in options ? options : { state: [() => called++], ...options }
    await expectFailure(() => checkpoint(it, withState), { code, says })
  }
  expect(called).toBe(0)
  expect(() => new Checkpoint()).toThrow(
    expect.objectContaining({ code: 'ERR_ILLEGAL_CONSTRUCTOR' })
  )
})
