'use strict'

// Finalizers of a unit's code: what was registered in a state that a restore has left names things
// in memory that are somebody else's by now.

const { capture } = require('..')
const { inChild } = require('./support/child')
const { expectError } = require('./support/errors')
const { request } = require('./support/native')
const { assemble } = require('./support/wasm')

// Objects with a count of those who hold them, as an interpreter has: the first that is free is
// taken, and one that nobody holds is free.
const HEAP = `(module
  (memory (export "memory") 1)
  (func (export "make") (param $value i32) (result i32)
    (local $at i32)
    (loop $next
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.load (local.get $at))))
    (i32.store (local.get $at) (i32.const 1))
    (i32.store offset=4 (local.get $at) (local.get $value))
    (local.get $at))
  (func (export "drop") (param $at i32)
    (i32.store (local.get $at) (i32.sub (i32.load (local.get $at)) (i32.const 1))))
  (func (export "value") (param $at i32) (result i32) (i32.load offset=4 (local.get $at))))`

let bytes
beforeAll(async () => {
  bytes = [...(await assemble(HEAP))]
})

const inChildWith = (body, args) =>
  inChild(body, { flags: ['--expose-gc'], args: { bytes, ...args } })

test('the next request keeps its objects, and lost them before', async () => {
  const values = await inChildWith(async ({ hostmap: { capture, checkpoint }, collect, args }) => {
    const run = async FinalizationRegistry => {
      const { value: engine, unit } = await capture(async () => {
        const { instance } = await WebAssembly.instantiate(new Uint8Array(args.bytes))
        const { make, drop, value } = instance.exports
        // Undefined: as the glue of engines finds it.
        const Registry = FinalizationRegistry ?? globalThis.FinalizationRegistry
        const registry = new Registry(at => drop(at))
        const proxy = given => {
          const at = make(given)
          const it = { value: () => value(at) }
          registry.register(it, at)
          return it
        }
        return { proxy, make, value, instance }
      })
      const clean = checkpoint(unit)
      const left = [engine.proxy(1)]
      if (left[0].value() !== 1) throw new Error('no proxy')
      clean.restore()
      const list = engine.make(2)
      left.length = 0
      await collect()
      engine.make(3)
      return engine.value(list)
    }
    return { with: await run(undefined), without: await run(FinalizationRegistry) }
  })
  expect(values).toEqual({ with: 2, without: 3 })
})

test('what counts is called once, in its own state and those that follow', async () => {
  const called = await inChildWith(async ({ hostmap: { capture, checkpoint }, collect, args }) => {
    const { value: registered, unit } = await capture(async () => {
      const { instance } = await WebAssembly.instantiate(new Uint8Array(args.bytes))
      const called = []
      const registry = new FinalizationRegistry(name => called.push(name))
      return { instance, called, registry }
    })
    const { called, registry } = registered
    const live = new Map()
    const add = name => {
      const target = {}
      registry.register(target, name)
      live.set(name, target)
    }
    const seen = []
    const drop = async (...names) => {
      for (const name of names) live.delete(name)
      await collect()
      seen.push(called.splice(0).sort().join(' '))
    }
    add('boot 1')
    add('boot 2')
    add('boot 3')
    const first = checkpoint(unit)
    add('first 1')
    add('first 2')
    add('first 3')
    await drop('boot 1', 'first 1')
    const second = checkpoint(unit)
    add('second')
    first.restore()
    add('third 1')
    add('third 2')
    // Of `second`, which is not the state of now, and of `first`, which is.
    await drop('first 2', 'boot 2', 'third 1')
    second.restore()
    await drop('first 3', 'second', 'boot 3', 'third 2')
    add('again')
    // Nothing was registered since: these are no new moments.
    for (let i = 0; i < 1000; i++) checkpoint(unit).close()
    await drop('again')
    return seen
  })
  expect(called).toEqual(['boot 1 first 1', 'boot 2 third 1', 'boot 3 first 3', 'again'])
})

test('a registry is a genuine one', async () => {
  const found = await inChildWith(
    async ({ hostmap: { capture, checkpoint }, assert, collect, failure, args }) => {
      const V8s = FinalizationRegistry
      const { register } = FinalizationRegistry.prototype
      const called = []
      const { value, unit } = await capture(async () => {
        const { instance } = await WebAssembly.instantiate(new Uint8Array(args.bytes))
        class Loud extends FinalizationRegistry {
          register(target, held, token) {
            super.register(target, `${held}!`, token)
          }
        }
        const cleanup = held => called.push(held)
        const none = await failure(() => new FinalizationRegistry())
        const call = await failure(() => FinalizationRegistry(cleanup))
        const registries = [new FinalizationRegistry(cleanup), new Loud(cleanup)]
        return { instance, registries, none, call, Loud, Inside: FinalizationRegistry }
      })
      const [plain, loud] = value.registries
      assert.equal(FinalizationRegistry, V8s)
      assert.notEqual(value.Inside, V8s)
      assert.equal(value.Inside.prototype, V8s.prototype)
      assert(
        plain instanceof V8s && plain instanceof value.Inside && !(plain instanceof value.Loud)
      )
      assert(loud instanceof V8s && loud instanceof value.Loud)
      assert.equal(plain.constructor, V8s)
      assert.equal(Object.prototype.toString.call(plain), '[object FinalizationRegistry]')
      assert.deepEqual(Object.keys(plain), [])
      assert.equal(value.none.name, 'TypeError')
      assert.equal(value.call.name, 'TypeError')
      const refused = async (...given) => (await failure(() => plain.register(...given))).name
      const same = {}
      assert.equal(await refused(same, same), 'TypeError')
      assert.equal(await refused(1, 2), 'TypeError')
      assert.equal(await refused({}, 1, 2), 'TypeError')
      assert.equal((await failure(() => plain.register.call({}, {}, 1))).name, 'TypeError')

      // Held values are what they were, a token may be the target, and the order is V8's.
      for (const held of [1, 'two', null, undefined, Symbol.for('three'), { four: 4 }])
        (() => plain.register({}, held))()
      await collect()
      assert.deepEqual(
        new Set(called),
        new Set([1, 'two', null, undefined, Symbol.for('three'), { four: 4 }])
      )
      called.length = 0
      ;(() => {
        const target = {}
        plain.register(target, 'unregistered', target)
        assert.equal(plain.unregister(target), true)
        assert.equal(plain.unregister(target), false)
      })()
      ;(() => loud.register({}, 'loud'))()
      // Of another registry, by the method of this one: nothing is added to what it holds.
      const other = new FinalizationRegistry(held => called.push(['other', held]))
      ;(() => plain.register.call(other, {}, 'as it is'))()
      ;(() => register.call(plain, {}, 'past'))()
      await collect()
      called.sort()
      assert.deepEqual(called, ['loud!', ['other', 'as it is'], 'past'])
      called.length = 0

      // What came past the registry's own method may be of the state that is gone.
      const clean = checkpoint(unit)
      const left = [{}, {}, {}]
      plain.register(left[0], 'plain')
      loud.register(left[1], 'loud')
      register.call(plain, left[2], 'past')
      clean.restore()
      left.length = 0
      ;(() => plain.register({}, 'new'))()
      await collect()
      return called
    }
  )
  expect(found).toEqual(['new'])
})

test("one that is made in a request, or by what that began, is the unit's", async () => {
  const found = await inChildWith(
    async ({ require, collect, hostmap: { capture, checkpoint }, args }) => {
      const { request } = require('./native')
      const { value, unit } = await capture(async () => {
        const { instance } = await WebAssembly.instantiate(new Uint8Array(args.bytes))
        // As glue does: in a closure, when it is first needed.
        let registry
        const called = []
        const lazily = () => (registry ??= new FinalizationRegistry(held => called.push(held)))
        return { instance, lazily, called, forget: () => (registry = undefined) }
      })
      const clean = checkpoint(unit)
      const seen = []
      const inside = request.insideOf(unit)
      for (const when of ['now', 'later', 'in what the request before began']) {
        value.forget()
        const it = request.beginRequest(inside)
        const left = [{}]
        let begin
        const begun = it.run(async () => {
          if (when === 'later') await new Promise(resolve => setTimeout(resolve, 1))
          if (when.startsWith('in')) await new Promise(resolve => (begin = resolve))
          value.lazily().register(left[0], when)
        })
        if (begin === undefined) await begun
        it.end()
        // Another one runs, or nothing would be replaced.
        const other = request.beginRequest(inside)
        begin?.()
        await begun
        other.end()
        clean.restore()
        left.length = 0
        await collect()
        seen.push(value.called.length)
      }
      // Of code outside, which has nothing to do with it.
      const running = request.beginRequest(inside)
      const registry = new FinalizationRegistry(held => value.called.push(held))
      running.end()
      const left = [{}]
      registry.register(left[0], 'outside')
      clean.restore()
      left.length = 0
      await collect()
      return { seen, called: value.called, own: Object.getOwnPropertyNames(registry) }
    }
  )
  expect(found).toEqual({ seen: [0, 0, 0], called: ['outside'], own: [] })
})

test('neither the registry nor the unit is kept alive', async () => {
  const gone = await inChildWith(async ({ hostmap: { capture, checkpoint }, collect, args }) => {
    const make = async () => {
      const { value, unit } = await capture(async () => {
        const { instance } = await WebAssembly.instantiate(new Uint8Array(args.bytes))
        return { instance, registry: new FinalizationRegistry(() => {}) }
      })
      const clean = checkpoint(unit)
      value.registry.register({}, 1)
      clean.restore()
      const refs = { registry: new WeakRef(value.registry), instance: new WeakRef(value.instance) }
      // A registry that lives keeps its unit no more than V8's would.
      return { refs, clean, registry: args.keeps ? value.registry : undefined }
    }
    const it = await make()
    await collect(10)
    return [it.refs.registry.deref() === undefined, it.refs.instance.deref() === undefined]
  })
  expect(gone).toEqual([true, true])
})

describe('what other scripts have done', () => {
  test('a class in its place is called, and found again', async () => {
    const found = await inChildWith(async ({ hostmap: { capture, checkpoint }, collect, args }) => {
      const V8s = FinalizationRegistry
      const registered = []
      class Watched extends V8s {
        register(target, held, token) {
          registered.push(typeof held)
          return super.register(target, { held }, token)
        }
        constructor(cleanup) {
          super(({ held }) => cleanup(held))
        }
      }
      globalThis.FinalizationRegistry = Watched
      const called = []
      const { value, unit } = await capture(async () => {
        const { instance } = await WebAssembly.instantiate(new Uint8Array(args.bytes))
        return { instance, registry: new FinalizationRegistry(held => called.push(held)) }
      })
      const clean = checkpoint(unit)
      const left = [{}]
      value.registry.register(left[0], 'left')
      clean.restore()
      left.length = 0
      ;(() => value.registry.register({}, 'new'))()
      await collect()
      return {
        called,
        count: registered.length,
        back: FinalizationRegistry === Watched,
        is: value.registry instanceof Watched
      }
    })
    expect(found).toEqual({ called: ['new'], count: 2, back: true, is: true })
  })

  test('something that is no class is left alone, and so is none', async () => {
    const found = await inChildWith(async ({ hostmap: { capture }, args }) => {
      const types = []
      for (const value of [undefined, 5]) {
        globalThis.FinalizationRegistry = value
        await capture(async () => {
          types.push(typeof FinalizationRegistry)
          return WebAssembly.instantiate(new Uint8Array(args.bytes))
        })
        types.push(typeof FinalizationRegistry)
      }
      return types
    })
    expect(found).toEqual(['undefined', 'undefined', 'number', 'number'])
  })

  test("one that gives what it likes, or objects that can't be changed", async () => {
    const found = await inChildWith(async ({ hostmap: { capture }, args }) => {
      const V8s = FinalizationRegistry
      const made = []
      const given = [
        Object.freeze(new V8s(() => {})),
        new Proxy(
          {},
          {
            get: () => {
              throw new Error('no')
            }
          }
        ),
        () => {}
      ]
      for (const value of given) {
        globalThis.FinalizationRegistry = function () {
          return value
        }
        await capture(async () => {
          const registry = new FinalizationRegistry(() => {})
          made.push(registry === value)
          return WebAssembly.instantiate(new Uint8Array(args.bytes))
        })
      }
      return made
    })
    expect(found).toEqual([true, true, true])
  })

  test('one that is frozen is refused, and all that was replaced is back', async () => {
    const failure = await inChildWith(async ({ assert, hostmap, failure, args }) => {
      const functions = () => Reflect.ownKeys(WebAssembly).map(name => WebAssembly[name])
      const before = functions()
      Object.freeze(globalThis)
      const make = () => WebAssembly.instantiate(new Uint8Array(args.bytes))
      const refused = await failure(() => hostmap.capture(make))
      assert(functions().every((it, index) => it === before[index]))
      return refused
    })
    expectError(failure, { code: 'ERR_HOSTMAP_NOT_CAPTURED', message: /FinalizationRegistry/ })
  })
})

test('nothing is replaced but while a capture or a request runs', async () => {
  const V8s = FinalizationRegistry
  const before = [WebAssembly.instantiate, WebAssembly.Module]
  const { unit } = await capture(async () => {
    expect(FinalizationRegistry).not.toBe(V8s)
    expect(WebAssembly.instantiate).not.toBe(before[0])
    return WebAssembly.instantiate(new Uint8Array(bytes))
  })
  expect(FinalizationRegistry).toBe(V8s)
  const inside = request.insideOf(unit)
  const [one, two] = [request.beginRequest(inside), request.beginRequest(inside)]
  // No table is watched, so that nobody cares what a request instantiates.
  expect(WebAssembly.instantiate).toBe(before[0])
  expect(WebAssembly.Module).toBe(before[1])
  one.end()
  expect(FinalizationRegistry).not.toBe(V8s)
  two.end()
  expect(FinalizationRegistry).toBe(V8s)
})
