// QuickJS, as two packages have it, goes back to a checkpoint after requests that leave behind what
// they can: a fresh boot shows the same of itself, and nothing grows in the JavaScript of the
// packages.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import {
  DEBUG_ASYNC,
  RELEASE_ASYNC,
  newQuickJSAsyncWASMModuleFromVariant,
  newQuickJSWASMModuleFromVariant,
  RELEASE_SYNC
} from 'quickjs-emscripten'
import { QuickJS } from 'quickjs-wasi'
import { InstancePool, capture, checkpoint } from 'wasm-hostmap'
import { quickjsState } from 'wasm-hostmap/quickjs'
import { bootAnew, programOf } from '../support/programs.mjs'
import { evaluate as evaluateIn, makeContext } from '../support/quickjs-emscripten-program.mjs'
import { evaluate } from '../support/quickjs-wasi-program.mjs'

const wasm = await readFile(new URL(import.meta.resolve('quickjs-wasi/quickjs.wasm')))

/** A captured program after its init, and its checkpoint. */
async function captured({ poolOptions }) {
  const { make, init, state } = poolOptions()
  const { value, unit } = await capture(make)
  await init({ value })
  const clean = checkpoint(unit, { state: state.map(each => () => each({ value })) })
  return { value, clean }
}

/** Runs a request that may fail as it likes. */
function attempt(request) {
  try {
    request()
  } catch {
    // What is left behind is what counts.
  }
}

/** How much the objects of a package hold: their fields, and what is in Maps, Sets and arrays. */
function sizeOf(root) {
  const seen = new Set([root])
  let size = 0
  for (const value of seen) {
    const isCollection = value instanceof Map || value instanceof Set
    const inside = isCollection ? [...value].flat() : Reflect.ownKeys(value).map(key => value[key])
    size += inside.length
    for (const each of inside)
      if (typeof each === 'object' && each !== null && !ArrayBuffer.isView(each)) seen.add(each)
  }
  return size
}

const ENDLESS = 'for (;;);'
const DEEP = '(function dive() { return 1 + dive() })()'
const HUGE = 'const all = []; for (;;) all.push(new Uint8Array(2 ** 20).fill(1))'
const HALF_WAY = 'globalThis.half = (function* () { yield 1; yield 2 })(); half.next()'
const PENDING = 'new Promise(() => {}); Promise.resolve().then(() => { globalThis.late = 1 }); 1'

// Each leaves something behind, of which the package does not clean up.
const HARM = {
  'quickjs-wasi': {
    globals: vm => vm.evalCode('globalThis.x = [1, 2, 3]; Array.prototype.map = null; shop = 1'),
    'a generator half-way': vm => vm.evalCode(HALF_WAY),
    handles: vm => Array.from({ length: 100 }, (_, i) => vm.newString(`handle ${i}`)),
    'cached handles': vm => [vm.global, vm.undefined, vm.null, vm.true, vm.false, vm.versions],
    'host functions': vm =>
      vm.setProp(
        vm.global,
        'log',
        vm.newFunction('log', () => vm.undefined)
      ),
    'a host function removed': vm => vm.unregisterHostCallback('planted'),
    'pending jobs': vm => vm.evalCode(PENDING),
    promises: vm => [vm.newPromise(), vm.newPromise().settled],
    handlers: vm => {
      vm.interruptHandler = () => true
      vm.exports.qjs_set_interrupt_handler(1)
    },
    interrupts: vm => {
      vm.interruptHandler = () => true
      vm.exports.qjs_set_interrupt_handler(1)
      vm.evalCode(ENDLESS)
    },
    'an error in the host': vm => {
      vm.interruptHandler = () => {
        throw new Error('unwinds all frames')
      }
      vm.exports.qjs_set_interrupt_handler(1)
      vm.evalCode(ENDLESS)
    },
    'the end of the stack': vm => {
      vm.exports.qjs_set_max_stack_size(0)
      vm.evalCode(DEEP)
    },
    'the end of the memory': vm => {
      vm.exports.qjs_set_memory_limit(2 ** 22)
      vm.evalCode(HUGE)
    },
    disposed: vm => vm.dispose()
  },
  'quickjs-emscripten': {
    globals: vm => vm.evalCode('globalThis.x = [1, 2, 3]; Array.prototype.map = null; shop = 1'),
    'a generator half-way': vm => vm.evalCode(HALF_WAY),
    handles: vm => Array.from({ length: 100 }, (_, i) => vm.newString(`handle ${i}`)),
    'cached handles': vm => [
      vm.global,
      vm.undefined,
      vm.true,
      vm.newBigInt(3n),
      vm.getWellKnownSymbol('iterator'),
      vm.getIterator(vm.newArray())
    ],
    'host functions': vm =>
      vm.setProp(
        vm.global,
        'log',
        vm.newFunction('log', () => vm.undefined)
      ),
    'pending jobs': vm => vm.evalCode(PENDING),
    promises: vm => [vm.newPromise(), vm.newPromise().settled],
    contexts: vm => vm.runtime.newContext().evalCode('globalThis.other = 1'),
    'the runtime’s own context': vm => {
      vm.runtime.context = undefined
      vm.runtime.computeMemoryUsage()
    },
    handlers: vm => {
      vm.runtime.setModuleLoader(() => 'export default 1')
      vm.runtime.setInterruptHandler(() => true)
    },
    interrupts: vm => {
      vm.runtime.setInterruptHandler(() => true)
      vm.evalCode(ENDLESS)
    },
    'the end of the stack': vm => {
      vm.runtime.setMaxStackSize(0)
      vm.evalCode(DEEP)
    },
    'the end of the memory': vm => vm.evalCode(HUGE),
    disposed: vm => vm.memory.ctx.dispose()
  }
}

for (const [name, harms] of Object.entries(HARM)) {
  test(`${name}: after anything that requests leave, it shows what a fresh boot shows`, async () => {
    const program = await programOf(name)
    const fresh = await program.digest(await bootAnew(program))
    const { value, clean } = await captured(program)
    const size = sizeOf(value)
    for (const [harm, leave] of Object.entries(harms)) {
      attempt(() => leave(value))
      clean.restore()
      assert.equal(sizeOf(value), size, `${harm}: the package holds something more`)
      assert.deepEqual(await program.digest({ value }), fresh, harm)
      clean.restore()
      program.check(await program.request({ value }, 1), 1)
      clean.restore()
    }
  })

  test(`${name}: 100 requests, each after one that left much behind`, async () => {
    const program = await programOf(name)
    const { value, clean } = await captured(program)
    const fresh = await program.digest({ value })
    const size = sizeOf(value)
    const kinds = Object.values(harms)
    clean.restore()
    for (let n = 0; n < 100; n++) {
      if (n % 7 === 0) attempt(() => kinds[(n / 7) % kinds.length](value))
      clean.restore()
      program.check(await program.request({ value }, n), n)
      clean.restore()
    }
    assert.deepEqual(await program.digest({ value }), fresh)
    clean.restore()
    assert.equal(sizeOf(value), size)
  })
}

test('quickjs-wasi: without the state, a cached handle points to another value', async () => {
  const shown = async state => {
    const { value: vm, unit } = await capture(() => QuickJS.create({ wasm }))
    const clean = checkpoint(unit, { state: state(vm) })
    void vm.global // Cached now, at an address that the checkpoint knows to be free.
    clean.restore()
    const kept = Array.from({ length: 20 }, (_, i) => vm.newNumber(i))
    try {
      return [vm.typeof(vm.global), kept.length]
    } catch (error) {
      return [error.message, kept.length]
    }
  }
  assert.deepEqual(await shown(vm => [quickjsState(vm)]), ['object', 20])
  const [wrong] = await shown(() => [])
  assert.notEqual(wrong, 'object')
})

test('quickjs-wasi: functions of the host come back, and only those', async () => {
  const { value: vm, unit } = await capture(() => QuickJS.create({ wasm }))
  const planted = vm.newFunction('planted', () => vm.newNumber(1))
  vm.setProp(vm.global, 'planted', planted)
  const clean = checkpoint(unit, { state: [quickjsState(vm, planted)] })
  for (let n = 0; n < 3; n++) {
    assert.equal(evaluate(vm, 'planted()'), '1')
    vm.registerHostCallback('planted', () => vm.newNumber(2))
    vm.newFunction('mine', () => vm.undefined)
    assert.throws(() => vm.newFunction('mine', () => vm.undefined), /already registered/)
    vm.unregisterHostCallback('planted')
    planted.dispose()
    clean.restore()
    assert.equal(planted.disposed, false)
  }
})

// V8 of Node.js 20 does not compile them: extended constant expressions.
const hasExtensions = Number(process.versions.node.split('.')[0]) >= 22

test('quickjs-wasi: extensions are of the same unit', { skip: !hasExtensions }, async () => {
  const extensions = await Promise.all(
    ['url', 'encoding', 'headers', 'crypto', 'structured-clone'].map(async name => ({
      name,
      wasm: await readFile(new URL(import.meta.resolve(`quickjs-wasi/${name}.so`)))
    }))
  )
  const { value: vm, unit } = await capture(() => QuickJS.create({ wasm, extensions }))
  assert.equal(unit.instanceCount, 6)
  const clean = checkpoint(unit, { state: [quickjsState(vm)] })
  const script = `(() => {
    const kept = globalThis.kept
    globalThis.kept = [new URL('https://a.b/c'), new Headers([['a', 'b']]), crypto.randomUUID()]
    URL.prototype.toString = Headers.prototype.get = null
    return [kept, structuredClone({ a: [1] }).a, new TextEncoder().encode('é').length].join()
  })()`
  for (let n = 0; n < 5; n++) {
    assert.equal(evaluate(vm, script), ',1,2')
    assert.throws(() => evaluate(vm, 'new Headers([]).get("a")'), /not a function/)
    clean.restore()
    assert.equal(evaluate(vm, 'new Headers([["a", "b"]]).get("a")'), 'b')
    clean.restore()
  }
})

test('quickjs-emscripten: functions of the host come back, also after the engine freed them', async () => {
  const { value: context, unit } = await capture(makeContext)
  const planted = context.newFunction('planted', () => context.newString('planted'))
  context.setProp(context.global, 'planted', planted)
  const clean = checkpoint(unit, { state: [quickjsState(context, { planted })] })
  for (let n = 0; n < 3; n++) {
    assert.equal(evaluateIn(context, 'planted()'), 'planted')
    planted.dispose()
    // Nothing holds it any more, so its number is free for another one.
    context.unwrapResult(context.evalCode('delete globalThis.planted')).dispose()
    context.newFunction('other', () => context.newString('other'))
    clean.restore()
    assert.equal(planted.alive, true)
  }
  assert.equal(evaluateIn(context, 'planted()'), 'planted')
})

test('quickjs-emscripten: objects of the host stay as they are', async () => {
  const { value: context, unit } = await capture(makeContext)
  const counter = { calls: 0, seen: new Map() }
  const ref = context.newHostRef?.(counter)
  const clean = checkpoint(unit, { state: [quickjsState(context)] })
  counter.calls = 3
  counter.seen.set('a', 1)
  clean.restore()
  assert.equal(counter.calls, 3)
  assert.equal(counter.seen.size, 1)
  if (ref !== undefined) assert.equal(context.unwrapHostRef?.(ref.handle) ?? ref.value, counter)
})

test('quickjs-emscripten: requests may make runtimes of their own', async () => {
  const { value: quickjs, unit } = await capture(() =>
    newQuickJSWASMModuleFromVariant(RELEASE_SYNC)
  )
  const clean = checkpoint(unit, { state: [quickjsState(quickjs)] })
  const size = sizeOf(quickjs)
  for (let n = 0; n < 50; n++) {
    const context = quickjs.newContext()
    context.setProp(
      context.global,
      'say',
      context.newFunction('say', text => text.dup())
    )
    assert.equal(evaluateIn(context, `say('${n}')`), String(n))
    assert.ok(sizeOf(quickjs) > size)
    clean.restore()
    assert.equal(sizeOf(quickjs), size)
  }
})

test('quickjs-emscripten: the asynchronous build, also after a call that was suspended', async () => {
  const { value: context, unit } = await capture(async () =>
    (await newQuickJSAsyncWASMModuleFromVariant(DEBUG_ASYNC)).newContext()
  )
  const slow = context.newAsyncifiedFunction('slow', async () => {
    await new Promise(resolve => setImmediate(resolve))
    return context.newString('slow')
  })
  context.setProp(context.global, 'slow', slow)
  slow.dispose()
  const clean = checkpoint(unit, { state: [quickjsState(context)] })
  for (let n = 0; n < 5; n++) {
    const call = context.evalCodeAsync(`globalThis.left = ${n}; slow()`)
    // It would go on in another state.
    assert.throws(() => clean.restore(), { code: 'ERR_HOSTMAP_CALL_PENDING' })
    const said = context.unwrapResult(await call).consume(value => context.getString(value))
    assert.equal(said, 'slow')
    clean.restore()
    const left = context.unwrapResult(context.evalCode('typeof left'))
    assert.equal(context.getString(left), 'undefined')
    clean.restore()
  }
})

for (const [name, harms] of Object.entries(HARM)) {
  test(`${name}: a pool of two, whose requests do as they like`, async () => {
    const program = await programOf(name)
    const pool = await InstancePool.create({
      ...program.poolOptions(),
      size: 2,
      max: 2,
      // One takes all that there is, and what has grown is used again.
      maxMemoryBytes: 2 ** 32
    })
    const fresh = await pool.run(lent => program.digest(lent))
    const tenants = Object.values(harms).map(async (leave, n) => {
      await pool.run(({ value }) => attempt(() => leave(value)))
      assert.deepEqual(await pool.run(lent => program.digest(lent)), fresh)
      program.check(await pool.run(lent => program.request(lent, n)), n)
    })
    await Promise.all(tenants)
    const { discarded, lastFailure, created } = pool.stats()
    // Work of the host's that is not over is no cause: all of it is the engine's own.
    assert.equal(lastFailure, null)
    assert.deepEqual([discarded, created], [0, 2])
    pool.close()
  })
}

test('quickjs-emscripten: a pool discards what a suspended call would go on in', async () => {
  const pool = await InstancePool.create({
    async make() {
      const context = (await newQuickJSAsyncWASMModuleFromVariant(RELEASE_ASYNC)).newContext()
      const slow = context.newAsyncifiedFunction('slow', () => new Promise(() => {}))
      context.setProp(context.global, 'slow', slow)
      return context
    },
    state: [({ value: context }) => quickjsState(context)()],
    max: 1
  })
  await pool.run(({ value: context }) => void context.evalCodeAsync('globalThis.left = 1; slow()'))
  const left = await pool.run(({ value: context }) =>
    context.getString(context.unwrapResult(context.evalCode('typeof left')))
  )
  assert.equal(left, 'undefined')
  const { discarded, lastFailure } = pool.stats()
  assert.equal(discarded, 1)
  assert.match(lastFailure.code, /^ERR_HOSTMAP_(REQUEST|CALL)_PENDING$/)
  pool.close()
})

test('what is no QuickJS is refused', () => {
  for (const wrong of [undefined, null, 'vm', () => {}])
    assert.throws(() => quickjsState(wrong), { code: 'ERR_INVALID_ARG_TYPE' })
  for (const other of [{}, { callbacks: {} }, { runtime: null }, new Map()])
    assert.throws(() => quickjsState(other), { code: 'ERR_HOSTMAP_ENGINE_UNSUPPORTED' })
})
