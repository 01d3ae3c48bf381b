'use strict'

// Jest runs each test file in a realm of its own: another ArrayBuffer, another WebAssembly, another
// TypeError than those of the main realm, where Node's own modules and the native part live.

const fs = require('node:fs')
const vm = require('node:vm')
const { GuardedMemory, HostRegion } = require('..')
const { thrownBy } = require('./support/errors')
const { temporaryDirectory, noise } = require('./support/files')
const { assemble, compileProbe, WASM_PAGE } = require('./support/wasm')

const directory = temporaryDirectory()

// Three realms: the test's, Node's own, and one that neither knows.
const names = [
  'ArrayBuffer',
  'SharedArrayBuffer',
  'Uint8Array',
  'Float64Array',
  'DataView',
  'WebAssembly',
  'Error',
  'Object'
]
const pick = run => Object.fromEntries(names.map(name => [name, run(name)]))
const realms = [
  ['the test', pick(name => globalThis[name])],
  ['Node itself', pick(name => vm.runInThisContext(name))],
  [
    'a context of its own',
    pick(
      (
        context => name =>
          vm.runInContext(name, context)
      )(vm.createContext())
    )
  ]
]

test('the realms are different ones, for this test', () => {
  const memories = realms.map(([, realm]) => realm.WebAssembly.Memory)
  expect(new Set(memories).size).toBe(3)
  expect(new Set(realms.map(([, realm]) => realm.Error)).size).toBe(3)
})

describe.each(realms)('with the objects of %s', (_, realm) => {
  test('copyFrom takes buffers and views', () => {
    const bytes = [1, 2, 3, 4, 5, 6, 7, 8]
    const buffer = new realm.ArrayBuffer(8)
    new realm.Uint8Array(buffer).set(bytes)
    const shared = new realm.SharedArrayBuffer(8)
    new realm.Uint8Array(shared).set(bytes)
    const sources = [
      buffer,
      shared,
      new realm.Uint8Array(buffer),
      new realm.Float64Array(buffer),
      new realm.DataView(shared)
    ]
    for (const source of sources) {
      const region = HostRegion.copyFrom(source)
      expect([...new Uint8Array(region.view())]).toEqual(bytes)
      region.close()
    }
  })

  test('from takes memories and their buffers', async () => {
    const module = new realm.WebAssembly.Module(fs.readFileSync(await probeBinary()))
    for (const shared of [false, true]) {
      const memory = new realm.WebAssembly.Memory({ initial: 2, maximum: 4, shared })
      const hidden = new realm.WebAssembly.Memory({ initial: 2, maximum: 4, shared })
      for (const guarded of [GuardedMemory.from(memory), GuardedMemory.from(hidden.buffer)]) {
        expect(guarded).toMatchObject({ byteLength: 2 * WASM_PAGE, guarded: true, address: 'i32' })
        const region = HostRegion.copyFrom(noise(1000))
        const mapping = guarded.map(region, { at: WASM_PAGE })
        expect(Buffer.from(guarded.buffer, WASM_PAGE, 1000).equals(noise(1000))).toBe(true)
        mapping.unmap()
        region.close()
      }
      expect(GuardedMemory.from(memory).memory).toBe(memory)
      expect(GuardedMemory.from(memory).grow(1)).toBe(2)
    }
    const memory = new realm.WebAssembly.Memory({ initial: 2, maximum: 4 })
    const { exports } = new realm.WebAssembly.Instance(module, { env: { memory } })
    const guarded = GuardedMemory.from(memory)
    const region = HostRegion.copyFrom(noise(1000))
    guarded.map(region, { at: 0 })
    expect(exports.load8(999)).toBe(noise(1000)[999])
    expect(() => exports.store8(0, 1)).toThrow(realm.WebAssembly.RuntimeError)
    region.close()
  })

  test('options may be objects of any realm, or of none', () => {
    for (const prototype of [realm.Object.prototype, null]) {
      const options = Object.assign(Object.create(prototype), { name: 'other realm' })
      const region = HostRegion.allocate(10, options)
      expect(region.name).toBe('other realm')
      region.close()
    }
  })

  test('nothing else is taken for a memory or a buffer', () => {
    for (const wrong of [
      new realm.Object(),
      realm.WebAssembly.Memory.prototype,
      realm.ArrayBuffer.prototype,
      realm.WebAssembly
    ]) {
      expect(thrownBy(() => GuardedMemory.from(wrong))).toMatchObject({
        code: 'ERR_INVALID_ARG_TYPE'
      })
      expect(thrownBy(() => HostRegion.copyFrom(wrong))).toMatchObject({
        code: 'ERR_INVALID_ARG_TYPE'
      })
    }
  })

  /** The probe's binary, in a file: an ArrayBuffer of no realm in particular. */
  async function probeBinary() {
    await compileProbe()
    return directory.file(await assemble(SMALL), 'small.wasm')
  }
})

const SMALL = `(module
  (import "env" "memory" (memory 0))
  (func (export "load8") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "store8") (param i32 i32) (i32.store8 (local.get 0) (local.get 1))))`

describe('errors are of the realm that loaded the library', () => {
  const region = HostRegion.allocate(1000)
  const closed = HostRegion.allocate(1000)
  closed.close()
  afterAll(() => region.close())

  test.each([
    ['TypeError', TypeError, () => HostRegion.allocate('x')],
    ['TypeError of a value', TypeError, () => new GuardedMemory({ initial: 1, address: 'i1' })],
    ['RangeError', RangeError, () => HostRegion.allocate(-1)],
    ['RangeError of a view', RangeError, () => region.view(1000)],
    ['Error', Error, () => closed.view()],
    ['Error of the system', Error, () => HostRegion.open('/nowhere/at/all')],
    ['Error of a rejected load', Error, () => HostRegion.load('/nowhere/at/all')],
    ['Error of a load of nothing', TypeError, () => HostRegion.load()],
    [
      'Error of an aborted load',
      Error,
      () => HostRegion.load(__filename, { signal: AbortSignal.abort() })
    ]
  ])('%s', async (_, Class, call) => {
    const error = await thrownBy(call)
    expect(error).toBeInstanceOf(Class)
    expect(error).toBeInstanceOf(Error)
    expect(error.stack).toContain(error.message.split('\n')[0])
  })
})

test('views are ArrayBuffers wherever they are looked at', () => {
  const region = HostRegion.copyFrom(noise(100))
  const view = region.view()
  for (const [, realm] of realms) {
    expect(new realm.Uint8Array(view)[99]).toBe(noise(100)[99])
    expect(new realm.DataView(view, 99).getUint8(0)).toBe(noise(100)[99])
  }
  region.close()
  expect(view.byteLength).toBe(0)
})
