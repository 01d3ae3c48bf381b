'use strict'

// Scripts that ran before the package, and changed what it asks V8 with: it asks V8 all the same.

const path = require('node:path')
const { inChild } = require('./support/child')
const { temporaryDirectory } = require('./support/files')

const directory = temporaryDirectory()

const get = (Class, name, value) =>
  `Object.defineProperty(${Class}, '${name}', { get() { return ${value} }, configurable: true })`

const patches = {
  'the length of typed arrays': get(
    'Object.getPrototypeOf(Uint8Array.prototype)',
    'length',
    '2 ** 33'
  ),
  'the length of typed arrays, by a function that claims to be native': `
    const fake = Function.prototype.bind.call(function () { return 2 ** 33 })
    Object.defineProperty(fake, 'name', { value: 'get length' })
    Object.defineProperty(Object.getPrototypeOf(Uint8Array.prototype), 'length', { get: fake })
    const { toString } = Function.prototype
    Function.prototype.toString = function () { return this === fake ? 'function get length() { [native code] }' : toString.call(this) }`,
  'the buffers of memories': `const heap = new ArrayBuffer(2 ** 20); ${get('WebAssembly.Memory.prototype', 'buffer', 'heap')}`,
  'the growth of memories': 'WebAssembly.Memory.prototype.grow = () => 0',
  'the size of buffers': get('ArrayBuffer.prototype', 'byteLength', '2 ** 40'),
  'the size of shared buffers': get('SharedArrayBuffer.prototype', 'byteLength', '1'),
  'whether buffers can be resized': get('ArrayBuffer.prototype', 'resizable', 'true'),
  'what makes a Uint8Array': `
    const { Uint8Array } = globalThis, heap = new ArrayBuffer(2 ** 20)
    globalThis.Uint8Array = new Proxy(Uint8Array, { construct: () => new Uint8Array(heap) })`,
  'how a Uint8Array is iterated':
    'Object.getPrototypeOf(Uint8Array.prototype)[Symbol.iterator] = function* () {}',
  'how functions are bound': 'Function.prototype.bind = function () { return () => 2 ** 33 }',
  'how properties are looked up': `
    Object.getOwnPropertyDescriptor = Reflect.getOwnPropertyDescriptor = () => ({ get: () => 2 ** 33, value: () => 2 ** 33 })`,
  'the prototype of all objects': `
    Object.assign(Object.prototype, {
      maximum: 1, shared: true, address: 'i64', access: 'shared', at: 0, byteOffset: 4096, byteLength: 1,
      hugePages: true, exclusive: true, keepResidentBytes: 'many', allocator: null, populate: 'yes',
      last: 1, shownBytes: 1
    })`,
  'maps and sets that remember nothing': `
    for (const { prototype } of [WeakMap, WeakSet]) prototype.get = prototype.has = () => undefined`
}

test.each(Object.entries(patches))('%s', async (name, patch) => {
  const prelude = directory.file(`'use strict'\n${patch}\n`, `${name.replaceAll(' ', '-')}.cjs`)
  const seen = await inChild(
    async ({ args, require }) => {
      const { capture, checkpoint, GuardedMemory, HostRegion } = require(args)
      // (module (memory (import "" "") 1) (func (export "load") (param i32) (result i32) local.get
      // 0 i32.load))
      const reader = Buffer.from(
        'AGFzbQEAAAABBgFgAX8BfwIGAQAAAgABAwIBAAcIAQRsb2FkAAAKCQEHACAAKAIACw==',
        'base64'
      )
      const guarded = new GuardedMemory({ initial: 4, maximum: 8 })
      const { load } = new WebAssembly.Instance(new WebAssembly.Module(reader), {
        '': { '': guarded.memory }
      }).exports
      const region = HostRegion.copyFrom(Buffer.from([1, 0, 0, 0]))
      const mapping = guarded.map(region, { at: 65536 })
      const first = load(65536)
      const snapshot = guarded.snapshot()
      guarded.grow(1)
      const last = load(4 * 65536)
      mapping.unmap()
      const none = load(65536)
      const again = guarded.map(region)
      const other = load(again.pointer)
      const { lastFault } = again
      const kinds = guarded.layout().ranges.map(({ windowBytes }) => typeof windowBytes)
      again.unmap()
      guarded.restore(snapshot)
      const restored = load(65536)
      guarded.window({ byteLength: 4096, at: 131072 }).slide(region)
      const shown = load(131072)
      let past = 'no trap'
      try {
        load(8 * 65536)
      } catch ({ message }) {
        past = message
      }
      const told = [lastFault, new Set(kinds).size]
      // (module (memory 1) (global (mut i32) (i32.const 0)) (func (export "add") (param i32)
      // (result i32) adds to the global, and that to memory))
      const adder = Buffer.from(
        'AGFzbQEAAAABBgFgAX8BfwMCAQAFAwEAAQYGAX8BQQALBwcBA2FkZAAACh0BGwAjACAAaiQAQQBBACgCACMAajYCAEEAKAIACw==',
        'base64'
      )
      const { value } = await capture(() => WebAssembly.instantiate(adder))
      const { add } = value.instance.exports
      const clean = checkpoint(value)
      const sums = [add(1), add(2)]
      clean.restore()
      sums.push(add(4))
      return [guarded.guarded, first, last, none, other, restored, shown, past, told, sums]
    },
    { flags: ['--no-warnings', '--require', prelude], args: path.join(__dirname, '..') }
  )
  const past = 'memory access out of bounds'
  expect(seen).toEqual([true, 1, 0, 0, 1, 1, 1, past, [null, 1], [1, 4, 4]])
})

const says = (Class, words) =>
  `Object.defineProperty(${Class}.prototype, 'message', { get() { return '${words}' }, configurable: true })`

// When a script may have done so: before the package was loaded, or later.
describe.each(['before', 'after'])(
  'errors that say something else, %s the package is loaded',
  when => {
    test('do not make a buffer look as if it could be taken, or could not', async () => {
      const patch = says('DOMException', 'all the same')
      const prelude = directory.file(when === 'before' ? patch : '', `words-${when}.cjs`)
      const seen = await inChild(
        async ({ args, require, failure }) => {
          const [main, patch] = args
          const { GuardedMemory } = require(main)
          const { markAsUntransferable } = require('node:worker_threads')
          ;(0, eval)(patch)
          const guarded = new GuardedMemory({ initial: 1 })
          const kept = new ArrayBuffer(2 ** 20)
          markAsUntransferable(kept)
          const whyNot = await failure(() => guarded.adopt(kept, { copy: 'never' }))
          const pool = Buffer.from('abc').buffer
          return [
            whyNot.message,
            guarded.adopt(kept).whyCopied,
            kept.byteLength,
            guarded.adopt(pool).whyCopied,
            pool.byteLength > 0,
            guarded.adopt(new ArrayBuffer(2 ** 20)).whyCopied
          ]
        },
        {
          flags: ['--no-warnings', '--require', prelude],
          args: [path.join(__dirname, '..'), when === 'after' ? patch : '']
        }
      )
      expect(seen[0]).toMatch(/may not be detached/)
      expect(seen.slice(1)).toEqual(['pinned', 2 ** 20, 'pinned', true, null])
    })

    test('do not change what a memory is, and what a module’s growth gives', async () => {
      const patch = `
      for (const name of ['RangeError', 'TypeError', 'Error', 'EvalError'])
        Object.defineProperty(globalThis[name].prototype, 'name', {
          get() { return name === 'RangeError' ? 'TypeError' : 'RangeError' }
        })
      WebAssembly.CompileError.prototype.name = 'RangeError'`
      const prelude = directory.file(when === 'before' ? patch : '', `names-${when}.cjs`)
      const seen = await inChild(
        async ({ args, require }) => {
          const [main, patch] = args
          const { GuardedMemory, instrumentGrowth } = require(main)
          ;(0, eval)(patch)
          const guarded = GuardedMemory.from(new WebAssembly.Memory({ initial: 1, maximum: 2 }))
          // (module (memory (export "memory") 1 2) (func (export "grow") (param i32) (result i32)
          // (memory.grow (local.get 0))))
          const grower = Buffer.from(
            'AGFzbQEAAAABBgFgAX8BfwMCAQAFBAEBAQIHEQIGbWVtb3J5AgAEZ3JvdwAACggBBgAgAEAACw==',
            'base64'
          )
          const instance = await instrumentGrowth(grower).instantiate({})
          return [guarded.address, instance.exports.grow(1), instance.exports.grow(1)]
        },
        {
          flags: ['--no-warnings', '--require', prelude],
          args: [path.join(__dirname, '..'), when === 'after' ? patch : '']
        }
      )
      expect(seen).toEqual(['i32', 1, -1])
    })
  }
)
