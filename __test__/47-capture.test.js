'use strict'

// Which instances a capture sees: those of its factory, and no others.

const { AsyncResource } = require('node:async_hooks')
const { capture, CapturedUnit, checkpoint, exposeState } = require('..')
const { inChild } = require('./support/child')
const { expectError, thrownBy } = require('./support/errors')
const { assemble } = require('./support/wasm')

// Keeps a count in each kind of state that it hides: a global, a table, and its memory.
const COUNTER = `(module
  (memory 1)
  (global $count (mut i32) (i32.const 0))
  (table $table 4 funcref)
  (func $zero (result i32) (i32.const 0))
  (func $one (result i32) (i32.const 1))
  (elem (i32.const 0) $zero $one)
  (type $get (func (result i32)))
  (func (export "step") (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
    (table.set $table (i32.const 0) (table.get $table (i32.const 1)))
    (call $seen))
  (func $seen (export "seen") (result i32)
    (i32.add
      (i32.mul (i32.const 100) (global.get $count))
      (i32.add
        (i32.mul (i32.const 10) (i32.load (i32.const 0)))
        (call_indirect (type $get) (i32.const 0))))))`

// A module that has state and no memory, and one that has nothing at all.
const COUNT_ONLY = `(module
  (global $count (mut i64) (i64.const 0))
  (func (export "step") (result i64)
    (global.set $count (i64.add (global.get $count) (i64.const 1)))
    (global.get $count)))`
const EMPTY = '(module)'

let counter
let countOnly
let empty
beforeAll(async () => {
  ;[counter, countOnly, empty] = await Promise.all([COUNTER, COUNT_ONLY, EMPTY].map(assemble))
})

const asIs = () => Object.getOwnPropertyDescriptors(WebAssembly)
const refusal = { code: 'ERR_HOSTMAP_NOT_CAPTURED' }

async function expectRefused(make, expected) {
  expectError(await thrownBy(() => capture(make)), expected)
}

/** Steps twice between a checkpoint and its restore, and expects that all is as it was. */
function expectRestored(target, { step, seen }) {
  step()
  const before = seen()
  const clean = checkpoint(target)
  step()
  step()
  expect(seen()).not.toBe(before)
  clean.restore()
  expect(seen()).toBe(before)
  clean.close()
}

const response = bytes => ({
  ok: true,
  bodyUsed: false,
  headers: new Map([['content-type', 'application/wasm']]),
  arrayBuffer: async () => new Uint8Array(bytes).buffer
})

const ways = {
  'instantiate of bytes': async bytes => (await WebAssembly.instantiate(bytes)).instance,
  'instantiate of an ArrayBuffer': async bytes =>
    (await WebAssembly.instantiate(new Uint8Array(bytes).buffer)).instance,
  'compile and instantiate': async bytes =>
    WebAssembly.instantiate(await WebAssembly.compile(bytes)),
  'compile and Instance': async bytes => new WebAssembly.Instance(await WebAssembly.compile(bytes)),
  'Module and Instance': bytes => new WebAssembly.Instance(new WebAssembly.Module(bytes)),
  'Module and instantiate': bytes => WebAssembly.instantiate(new WebAssembly.Module(bytes)),
  instantiateStreaming: async bytes =>
    (await WebAssembly.instantiateStreaming(response(bytes))).instance,
  'compileStreaming and Instance': async bytes =>
    new WebAssembly.Instance(await WebAssembly.compileStreaming(Promise.resolve(response(bytes)))),
  'a module that was exposed before': bytes =>
    new WebAssembly.Instance(new WebAssembly.Module(exposeState(bytes)))
}

describe.each(Object.entries(ways))('%s', (name, make) => {
  test('all state of the instance goes back', async () => {
    const { value, unit } = await capture(() => make(counter))
    expect(unit).toBeInstanceOf(CapturedUnit)
    expect([unit.instanceCount, unit.memoryCount]).toEqual([1, 1])
    expectRestored(unit, value.exports)
  })
})

test('the instance looks as if its module were as it was', async () => {
  const { value } = await capture(() => WebAssembly.instantiate(counter))
  const plain = await WebAssembly.instantiate(counter)
  expect(Object.keys(value)).toEqual(Object.keys(plain))
  const { instance } = value
  expect(Object.keys(instance.exports)).toEqual(Object.keys(plain.instance.exports))
  expect(Object.isFrozen(instance.exports)).toBe(true)
  expect(Object.getPrototypeOf(instance.exports)).toBeNull()
  expect(instance).toBeInstanceOf(WebAssembly.Instance)
  expect(value.module).toBeInstanceOf(WebAssembly.Module)
})

test('classes are what they were, and can be extended, while a capture runs', async () => {
  const { Instance, Module } = WebAssembly
  await capture(async () => {
    class Mine extends WebAssembly.Instance {}
    const module = new WebAssembly.Module(counter)
    const instance = new Mine(module)
    expect(WebAssembly.Instance).not.toBe(Instance)
    expect(module).toBeInstanceOf(WebAssembly.Module)
    expect(module).toBeInstanceOf(Module)
    expect(instance).toBeInstanceOf(Mine)
    expect(instance).toBeInstanceOf(Instance)
    expect(WebAssembly.Module.exports(module).map(it => it.name)).toContain('step')
    class Table extends WebAssembly.Table {}
    const table = new Table({ element: 'anyfunc', initial: 1 })
    expect([table.length, table instanceof Table, table instanceof WebAssembly.Table]).toEqual([
      1,
      true,
      true
    ])
    expect(() => WebAssembly.Module(counter)).toThrow(TypeError)
    expect([WebAssembly.instantiate.name, WebAssembly.instantiate.length]).toEqual([
      'instantiate',
      1
    ])
    expect(String(WebAssembly.instantiate)).toMatch('[native code]')
  })
})

test('what V8 refuses is refused in its own words', async () => {
  const broken = Buffer.from(counter).fill(0xff, 20)
  const calls = {
    bytes: () => WebAssembly.instantiate(broken),
    compiling: () => WebAssembly.compile(broken),
    module: async () => new WebAssembly.Module(broken),
    nothing: () => WebAssembly.compile(new Uint8Array()),
    'no bytes': () => WebAssembly.instantiate('counter.wasm'),
    'no module': async () => new WebAssembly.Instance({}),
    imports: async () =>
      WebAssembly.instantiate(await assemble('(module (import "a" "b" (func)))'), {}),
    'no response': () => WebAssembly.instantiateStreaming({ ok: false })
  }
  const failureOf = call =>
    call().then(
      () => 'none',
      error => error
    )
  for (const call of Object.values(calls)) {
    const plain = await failureOf(call)
    const { value } = await capture(async () => {
      new WebAssembly.Instance(new WebAssembly.Module(empty))
      return failureOf(call)
    })
    expect(value.name).toBe(plain.name)
    const words = error => error.message.replace(/ @\+\d+.*| \(argument.*/, '')
    expect(words(value)).toBe(words(plain))
  }
})

test('bytes that are gone are refused by a promise', async () => {
  const gone = new DataView(new ArrayBuffer(8))
  structuredClone(gone.buffer, { transfer: [gone.buffer] })
  await capture(async () => {
    const refused = WebAssembly.compile(gone)
    await expect(refused).rejects.toBeDefined()
    return WebAssembly.instantiate(counter)
  })
})

describe('WebAssembly', () => {
  test('is as it was after each capture, however it ends', async () => {
    const before = asIs()
    await capture(() => WebAssembly.instantiate(counter))
    expect(asIs()).toEqual(before)
    await expectRefused(() => {}, refusal)
    expect(asIs()).toEqual(before)
    await expect(
      capture(() => {
        throw new Error('mine')
      })
    ).rejects.toThrow('mine')
    expect(asIs()).toEqual(before)
    await expect(capture(() => Promise.reject(new Error('later')))).rejects.toThrow('later')
    expect(asIs()).toEqual(before)
  })

  test('is not touched for other code, which runs meanwhile', async () => {
    let go
    const started = new Promise(resolve => {
      go = resolve
    })
    let end
    const ended = new Promise(resolve => {
      end = resolve
    })
    const captured = capture(async () => {
      go()
      await ended
      return WebAssembly.instantiate(counter)
    })
    await started
    const { instance } = await WebAssembly.instantiate(counter)
    const other = new WebAssembly.Instance(new WebAssembly.Module(counter))
    end()
    const { unit } = await captured
    expect(unit.instanceCount).toBe(1)
    for (const it of [instance, other]) {
      expect(Object.hasOwn(it, 'exports')).toBe(false)
      expect(() => checkpoint(it)).toThrow(/hidden-globals/)
    }
  })

  test('keeps what a script has put there, before or meanwhile', async () => {
    const before = asIs()
    const calls = []
    const { instantiate } = WebAssembly
    const spy = name => {
      const previous = WebAssembly.instantiate
      return function (...args) {
        calls.push(name)
        return previous.apply(this, args)
      }
    }
    const first = spy('first')
    WebAssembly.instantiate = first
    try {
      const { value, unit } = await capture(() => WebAssembly.instantiate(counter))
      expect(calls).toEqual(['first'])
      expect(WebAssembly.instantiate).toBe(first)
      expectRestored(unit, value.instance.exports)

      calls.length = 0
      let second
      const other = await capture(async () => {
        second = spy('second')
        WebAssembly.instantiate = second
        return WebAssembly.instantiate(counter)
      })
      expect(calls).toEqual(['second', 'first'])
      expect(WebAssembly.instantiate).toBe(second)
      expect(other.unit.instanceCount).toBe(1)

      // That one has kept what took its place during the capture.
      calls.length = 0
      const third = await capture(() => WebAssembly.instantiate(counter))
      expect(calls).toEqual(['second', 'first'])
      expect(third.unit.instanceCount).toBe(1)
      expectRestored(third.unit, third.value.instance.exports)
    } finally {
      WebAssembly.instantiate = instantiate
    }
    expect(asIs()).toEqual(before)
  })

  test('is as it was, too, where a script has put a getter there meanwhile, or another WebAssembly', async () => {
    const before = asIs()
    const { compile } = Object.getOwnPropertyDescriptors(WebAssembly)
    const get = () => {
      throw new Error('nobody may ask')
    }
    const { value } = await capture(async () => {
      const made = await WebAssembly.instantiate(counter)
      Object.defineProperty(WebAssembly, 'compile', { get, configurable: true })
      return made
    })
    expect(asIs().compile.get).toBe(get)
    Object.defineProperty(WebAssembly, 'compile', compile)
    expect(asIs()).toEqual(before)
    expectRestored(value, value.instance.exports)

    const own = WebAssembly
    try {
      await capture(async () => {
        const made = await WebAssembly.instantiate(counter)
        globalThis.WebAssembly = {}
        return made
      })
    } finally {
      globalThis.WebAssembly = own
    }
    expect(asIs()).toEqual(before)
  })

  test.each([
    ['no instance', async () => ({ instance: { exports: { one: 1 } } })],
    ['nothing', async () => undefined],
    ['a frozen instance', async make => ({ instance: Object.freeze((await make()).instance) })]
  ])('that gives %s by a script gives it in a capture, which fails', async (name, given) => {
    const { instantiate } = WebAssembly
    WebAssembly.instantiate = (...args) => given(() => instantiate.apply(WebAssembly, args))
    let got
    try {
      await expectRefused(async () => {
        got = await WebAssembly.instantiate(counter).catch(error => error)
        return got
      }, refusal)
    } finally {
      WebAssembly.instantiate = instantiate
    }
    expect(got instanceof Error).toBe(false)
  })

  test('that is made of its own functions is captured once', async () => {
    const { instantiate } = WebAssembly
    WebAssembly.instantiate = async (bytes, imports) => {
      const module = await WebAssembly.compile(bytes)
      return { module, instance: new WebAssembly.Instance(module, imports) }
    }
    try {
      const { value, unit } = await capture(() => WebAssembly.instantiate(counter))
      expect(unit.instanceCount).toBe(1)
      expectRestored(unit, value.instance.exports)
    } finally {
      WebAssembly.instantiate = instantiate
    }
  })
})

describe('a capture', () => {
  test('follows the async context through timers, promises and events', async () => {
    const { value, unit } = await capture(
      () =>
        new Promise((resolve, reject) => {
          setTimeout(() => {
            setImmediate(async () => {
              await null
              WebAssembly.instantiate(counter).then(resolve, reject)
            })
          }, 1)
        })
    )
    expectRestored(unit, value.instance.exports)
  })

  test('runs beside others, each with its own instances', async () => {
    const made = await Promise.all(
      [1, 2, 3].map(count =>
        capture(() =>
          Promise.all(Array.from({ length: count }, () => WebAssembly.instantiate(counter)))
        )
      )
    )
    expect(made.map(({ unit }) => unit.instanceCount)).toEqual([1, 2, 3])
    const [first, second] = made
    const clean = checkpoint(second.unit)
    const all = [...first.value, ...second.value].map(it => it.instance.exports)
    all.forEach(({ step }) => step())
    clean.restore()
    expect(all.map(({ seen }) => seen())).toEqual([111, 0, 0])
  })

  test('in another one: the outer one has its instances, too', async () => {
    let inner
    const outer = await capture(async () => {
      const before = await WebAssembly.instantiate(counter)
      inner = await capture(() => WebAssembly.instantiate(counter))
      const after = await WebAssembly.instantiate(counter)
      return [before, inner.value, after].map(it => it.instance.exports)
    })
    expect([outer.unit.instanceCount, inner.unit.instanceCount]).toEqual([3, 1])
    const all = checkpoint(outer.unit)
    const one = checkpoint(inner.unit)
    outer.value.forEach(({ step }) => step())
    one.restore()
    expect(outer.value.map(({ seen }) => seen())).toEqual([111, 0, 111])
    all.restore()
    expect(outer.value.map(({ seen }) => seen())).toEqual([0, 0, 0])
  })

  test('has modules without a memory, and those with nothing at all', async () => {
    const { value, unit } = await capture(async () => {
      new WebAssembly.Instance(new WebAssembly.Module(empty))
      const { instance } = await WebAssembly.instantiate(countOnly)
      return [instance, (await WebAssembly.instantiate(counter)).instance]
    })
    expect([unit.instanceCount, unit.memoryCount]).toEqual([3, 1])
    const clean = checkpoint(unit)
    expect(value.map(it => it.exports.step())).toEqual([1n, 111])
    expect(value.map(it => it.exports.step())).toEqual([2n, 221])
    clean.restore()
    expect(value.map(it => it.exports.step())).toEqual([1n, 111])
  })

  test('of memories, tables and globals that the glue makes and several modules import', async () => {
    const importer = await assemble(`(module
      (import "env" "memory" (memory 1))
      (import "env" "table" (table 1 funcref))
      (import "env" "sp" (global $sp (mut i32)))
      (import "env" "got" (global $got (mut i64)))
      (func $unused) (func $f (result i32) (i32.const 7))
      (elem declare func $f)
      (func (export "step")
        (global.set $sp (i32.add (global.get $sp) (i32.const 1)))
        (global.set $got (i64.add (global.get $got) (i64.const 1)))
        (table.set (i32.const 0) (ref.func $f))
        (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))))`)
    const env = {
      memory: new WebAssembly.Memory({ initial: 1, maximum: 4 }),
      table: new WebAssembly.Table({ initial: 1, element: 'anyfunc' }),
      sp: new WebAssembly.Global({ value: 'i32', mutable: true }, 40),
      got: new WebAssembly.Global({ value: 'i64', mutable: true }, 2n)
    }
    const { value, unit } = await capture(async () => {
      const main = await WebAssembly.instantiate(importer, { env })
      const side = new WebAssembly.Instance(new WebAssembly.Module(importer), { env })
      return [main.instance, side]
    })
    expect([unit.instanceCount, unit.memoryCount]).toEqual([2, 1])
    expect(value.map(it => Object.keys(it.exports))).toEqual([['step'], ['step']])
    const seen = () => [
      env.sp.value,
      env.got.value,
      env.table.get(0),
      new Int32Array(env.memory.buffer)[2]
    ]
    const clean = checkpoint(unit)
    value.forEach(it => it.exports.step())
    expect(seen()).toEqual([42, 4n, expect.any(Function), 2])
    clean.restore()
    expect(seen()).toEqual([40, 2n, null, 0])
  })

  test('is found by its value, and by each of its instances', async () => {
    const { value } = await capture(() => WebAssembly.instantiate(counter))
    expectRestored(value, value.instance.exports)
    expectRestored(value.instance, value.instance.exports)
    class Engine {}
    const factory = await capture(() => {
      new WebAssembly.Instance(new WebAssembly.Module(counter))
      return Engine
    })
    expect(checkpoint(factory.value).byteLength).toBe(65536)
    for (const value of [undefined, null, 7, 'engine']) {
      const made = await capture(() => {
        new WebAssembly.Instance(new WebAssembly.Module(counter))
        return value
      })
      expect(made.value).toBe(value)
    }
  })
})

test('a capture that fails keeps no instance, whatever goes on in its context', async () => {
  const collected = await inChild(
    async ({ hostmap, args }) => {
      const bytes = Buffer.from(args, 'base64')
      let count = 0
      const registry = new FinalizationRegistry(() => count++)
      const timers = []
      for (let i = 0; i < 5; i++) {
        await hostmap
          .capture(async () => {
            timers.push(setInterval(() => {}, 1e9))
            registry.register((await WebAssembly.instantiate(bytes)).instance)
            throw new Error('mine')
          })
          .catch(() => {})
      }
      for (let i = 0; i < 20 && count < 5; i++) {
        globalThis.gc()
        await new Promise(resolve => setTimeout(resolve, 10))
      }
      timers.forEach(clearInterval)
      return count
    },
    { flags: ['--expose-gc'], args: counter.toString('base64') }
  )
  expect(collected).toBe(5)
})

describe('a capture refuses', () => {
  test('what is no function', async () => {
    for (const make of [undefined, null, 7, {}, Promise.resolve()]) {
      await expectRefused(make, { code: 'ERR_INVALID_ARG_TYPE', says: /make/ })
    }
  })

  test('a factory that makes no instance, or makes it elsewhere', async () => {
    await expectRefused(() => 1, { ...refusal, says: /made no instance/ })
    await expectRefused(() => WebAssembly.compile(counter), refusal)
    const { Instance } = WebAssembly
    const kept = () => new Instance(new WebAssembly.Module(counter))
    await expectRefused(kept, refusal)
    const outside = new AsyncResource('outside')
    await expectRefused(
      () => outside.runInAsyncScope(() => WebAssembly.instantiate(counter)),
      refusal
    )
  })

  test('a factory that does not wait for its instances', async () => {
    let late
    await expectRefused(
      () => {
        late = WebAssembly.instantiate(counter)
        return {}
      },
      { ...refusal, says: /still being made/ }
    )
    expect((await late).instance.exports.step()).toBe(111)
  })

  test('a module that was compiled elsewhere, once the factory is done', async () => {
    const module = new WebAssembly.Module(counter)
    const ways = [
      () => new WebAssembly.Instance(module),
      () => WebAssembly.instantiate(module),
      async () => [await WebAssembly.instantiate(counter), await WebAssembly.instantiate(module)],
      // Glue that can't go on.
      async () => {
        await WebAssembly.instantiate(module)
        throw new Error('Aborted')
      }
    ]
    for (const way of ways) {
      let end
      const ended = new Promise(resolve => {
        end = resolve
      })
      await expectRefused(async () => Promise.resolve(way()).finally(end), {
        ...refusal,
        says: /compiled before, or elsewhere/
      })
      // No glue sees an error of this package, which nobody might wait for.
      await ended
    }
  })

  test('a module with several memories', async () => {
    // (module (memory 1) (memory 1))
    const bytes = Buffer.from([0, 97, 115, 109, 1, 0, 0, 0, 5, 5, 2, 0, 1, 0, 1])
    if (!WebAssembly.validate(bytes)) return
    await expectRefused(() => WebAssembly.instantiate(bytes), {
      code: 'ERR_HOSTMAP_UNSUITABLE_MODULE'
    })
  })

  test('to be made by hand', () => {
    expect(() => new CapturedUnit()).toThrow(
      expect.objectContaining({ code: 'ERR_ILLEGAL_CONSTRUCTOR' })
    )
  })
})

test("what Node.js makes for itself is the process's, also where make needs it first", async () => {
  const count = await inChild(
    async ({ require, hostmap: { capture }, args }) => {
      const { once } = require('node:events')
      const server = require('node:http').createServer((asked, answer) => answer.end('all'))
      await once(server.listen(0), 'listening')
      const { unit } = await capture(async () => {
        const answer = await fetch(`http://127.0.0.1:${server.address().port}`)
        await answer.text()
        return WebAssembly.instantiate(new Uint8Array(args))
      })
      server.close()
      return unit.instanceCount
    },
    { args: [...counter] }
  )
  expect(count).toBe(1)
})
