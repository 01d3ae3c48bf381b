'use strict'

// once: what an expensive call leaves in an instance is there without the call, or the call is
// made.

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { capture, exposeState, GuardedMemory, HostRegion, once, Snapshot } = require('..')
const { inChild } = require('./support/child')
const { expectError } = require('./support/errors')
const { assemble } = require('./support/wasm')

const WASM_PAGE = 65536

const failsWith = async (promise, code) =>
  expectError(
    await promise.then(
      () => null,
      error => error
    ),
    { code }
  )

// All but the memory is hidden. `build` fills a table at the end of a memory that it grows, moves
// the stack pointer, and puts another function into the table.
const ENGINE = `(module
  (memory (export "memory") 2 20)
  (global $sp (mut i32) (i32.const 65536))
  (table $table 3 funcref)
  (type $get (func (result i32)))
  (func $one (export "one") (result i32) (i32.const 1))
  (func $two (result i32) (i32.const 2))
  (elem (i32.const 1) $one $two)
  (func (export "sp") (result i32) (global.get $sp))
  (func (export "call") (param i32) (result i32) (call_indirect (type $get) (local.get 0)))
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
  (func (export "build") (param $pages i32) (result i32) (local $at i32) (local $end i32)
    (local.set $at (i32.mul (memory.grow (local.get $pages)) (i32.const 65536)))
    (local.set $end (i32.mul (memory.size) (i32.const 65536)))
    (global.set $sp (i32.sub (global.get $sp) (i32.const 32)))
    (table.set $table (i32.const 1) (table.get $table (i32.const 2)))
    (loop $next
      (i32.store (local.get $at) (i32.mul (local.get $at) (i32.const 7)))
      (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4)))
        (local.get $end))))
    (i32.sub (local.get $end) (i32.const 4))))`

let engine
let folder
let file
beforeAll(async () => (engine = await assemble(ENGINE)))
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hostmap-once-'))
  file = path.join(folder, 'built.snapshot')
})
afterEach(() => fs.rmSync(folder, { recursive: true, force: true }))

const makers = {
  captured: async bytes => {
    const make = async () => (await WebAssembly.instantiate(bytes)).instance
    const { value, unit } = await capture(make)
    return { target: unit, exports: value.exports }
  },
  exposed: async bytes => {
    const { instance } = await WebAssembly.instantiate(exposeState(bytes))
    return { target: instance, exports: instance.exports }
  }
}

/** What `once` gives for a call of `build`, and whether that was made. */
async function build({ target, exports }, options) {
  let called = 0
  const fn = () => {
    called++
    return { last: exports.build(3), of: [3] }
  }
  const given = await once(target, fn, { snapshot: file, module: engine, ...options })
  return { given, called }
}

const stateOf = ({ exports }) => ({
  bytes: exports.memory.buffer.byteLength,
  sp: exports.sp(),
  called: exports.call(1),
  words: [2, 3, 4, 5].map(page => exports.load(page * WASM_PAGE - 4)),
  low: exports.load(64)
})

describe.each(Object.keys(makers))('an instance that is %s', kind => {
  const make = () => makers[kind](engine)

  test('has the state after the call without the call, and goes on from there', async () => {
    const first = await make()
    const made = await build(first)
    expect(made).toEqual({ given: { last: 5 * WASM_PAGE - 4, of: [3] }, called: 1 })
    for (let i = 0; i < 2; i++) {
      const other = await make()
      expect(await build(other)).toEqual({ ...made, called: 0 })
      expect(stateOf(other)).toEqual(stateOf(first))
      expect(stateOf(other)).toMatchObject({ bytes: 5 * WASM_PAGE, sp: 65536 - 32, called: 2 })
      other.exports.store(64, 9)
    }
    // What others wrote is theirs.
    expect(first.exports.load(64)).toBe(0)
  })

  test('in another state makes the call, and the file is of that one then', async () => {
    const change = exports => exports.store(WASM_PAGE + 8, 5)
    await build(await make())
    const other = await make()
    change(other.exports)
    expect((await build(other)).called).toBe(1)
    expect((await build(await make())).called).toBe(1)
    const grown = await make()
    grown.exports.memory.grow(1)
    expect((await build(grown)).called).toBe(1)
    const again = await make()
    again.exports.memory.grow(1)
    // Pages of zeros are the same as pages that nobody wrote.
    again.exports.store(2 * WASM_PAGE, 1)
    again.exports.store(2 * WASM_PAGE, 0)
    expect((await build(again)).called).toBe(0)
    // It is where the call has led already.
    expect((await build(again)).called).toBe(1)
  })
})

describe('a file', () => {
  const make = () => makers.captured(engine)
  const key = Buffer.alloc(32, 7)
  const other = () => assemble(ENGINE.replace('(i32.const 7)', '(i32.const 11)'))

  test('of another module is not used', async () => {
    await build(await make())
    const bytes = await other()
    const second = await makers.captured(bytes)
    expect((await build(second, { module: bytes })).called).toBe(1)
    expect(second.exports.load(5 * WASM_PAGE - 4)).toBe((5 * WASM_PAGE - 4) * 11)
  })

  test('that is damaged or no such file is replaced', async () => {
    await build(await make())
    const whole = fs.readFileSync(file)
    const wrong = [
      whole.subarray(0, whole.length - 1),
      whole.subarray(0, 100),
      Buffer.alloc(0),
      Buffer.from('text'),
      Buffer.from(whole).fill(255, 0, 8)
    ]
    // In the checksum, in the memory's pages, in what is said of them.
    const page = whole.findIndex((byte, at) => at >= WASM_PAGE && byte !== 0)
    for (const at of [20, page, whole.length - 9]) {
      const altered = Buffer.from(whole)
      altered[at] ^= 1
      wrong.push(altered)
    }
    for (const bytes of wrong) {
      // In its place: memories show the other one.
      fs.writeFileSync(`${file}.new`, bytes)
      fs.renameSync(`${file}.new`, file)
      expect((await build(await make())).called).toBe(1)
      expect((await build(await make())).called).toBe(0)
    }
    // A snapshot that once did not take.
    const { exports } = await makers.exposed(engine)
    const plain = Snapshot.of({ exports }, { module: engine })
    await plain.save(file)
    plain.close()
    expect((await build(await make())).called).toBe(1)
    expect(fs.readdirSync(folder)).toEqual(['built.snapshot'])
  })

  test('is not used without the key that it was saved with, or with another one', async () => {
    await build(await make())
    expect((await build(await make(), { key })).called).toBe(1)
    expect((await build(await make(), { key })).called).toBe(0)
    expect((await build(await make(), { key: Buffer.alloc(32, 8) })).called).toBe(1)
    expect((await build(await make(), { key })).called).toBe(1)
  })

  test('is no snapshot of the instance for anybody else', async () => {
    await build(await make())
    const snapshot = await Snapshot.load(file)
    const { target } = await makers.exposed(engine)
    expect(() => snapshot.restoreTo(target)).toThrow(
      expect.objectContaining({ code: 'ERR_HOSTMAP_SNAPSHOT_MISMATCH' })
    )
    snapshot.close()
  })

  test('can be one that the caller has, and keeps', async () => {
    await build(await make())
    const from = await Snapshot.load(file)
    fs.rmSync(file)
    for (let i = 0; i < 2; i++) expect((await build(await make(), { from })).called).toBe(0)
    expect(from.closed).toBe(false)
    const changed = await make()
    changed.exports.store(8, 1)
    expect((await build(changed, { from })).called).toBe(1)
    expect(from.closed).toBe(false)
    from.close()
    await failsWith(build(await make(), { from }), 'ERR_HOSTMAP_SNAPSHOT_CLOSED')
    await failsWith(build(await make(), { from: {} }), 'ERR_INVALID_ARG_TYPE')
  })

  test('is whole when several make it at once', async () => {
    const four = await Promise.all(Array.from({ length: 4 }, make))
    const built = await Promise.all(four.map(it => build(it)))
    expect(built.map(({ called }) => called)).toEqual([1, 1, 1, 1])
    expect((await build(await make())).called).toBe(0)
    expect(fs.readdirSync(folder)).toEqual(['built.snapshot'])
  })

  test('is not there after a call that threw, or that the process has not survived', async () => {
    const { target } = await make()
    const options = { snapshot: file, module: engine }
    const error = new Error('no')
    await expect(once(target, () => Promise.reject(error), options)).rejects.toBe(error)
    await expect(
      once(
        target,
        () => {
          throw error
        },
        options
      )
    ).rejects.toBe(error)
    await expect(
      inChild(
        async ({ hostmap, args: [bytes, snapshot] }) => {
          const module = Buffer.from(bytes, 'hex')
          const make = async () => (await WebAssembly.instantiate(module)).instance
          const { unit } = await hostmap.capture(make)
          await hostmap.once(unit, () => process.exit(7), { snapshot, module })
        },
        { args: [Buffer.from(engine).toString('hex'), file] }
      )
    ).rejects.toThrow('ended with code 7')
    expect(fs.readdirSync(folder)).toEqual([])
  })

  test('that can not be written fails after the call', async () => {
    const it = await make()
    await failsWith(
      build(it, { snapshot: path.join(folder, 'none', 'x') }),
      'ERR_HOSTMAP_OPEN_FAILED'
    )
    expect(it.exports.sp()).toBe(65536 - 32)
  })
})

describe('what the call gives', () => {
  const give = async value => {
    const options = { snapshot: file, module: engine }
    const made = await once((await makers.captured(engine)).target, () => value, options)
    const never = () => {
      throw new Error('called')
    }
    return [made, await once((await makers.captured(engine)).target, never, options)]
  }

  test.each([
    [undefined],
    [null],
    [true],
    ['text \u0000 \ud800'],
    [1.5],
    [-0],
    [NaN],
    [-Infinity],
    [2n ** 70n],
    [[1, [undefined, -5n], {}]],
    [{ a: 1, list: [], nested: { b: 'c' } }],
    [JSON.parse('{"__proto__": 1}')],
    [Buffer.from('bytes').buffer.slice(0, 4)],
    [new Float64Array([1, -0, NaN])],
    [new Uint8Array([1, 2, 3]).subarray(1)]
  ])('is the same either way: %p', async value => {
    const [made, found] = await give(value)
    expect(made).toEqual(value)
    expect(found).toEqual(value)
    expect(Object.getPrototypeOf(Object(found))).toBe(Object.getPrototypeOf(Object(made)))
  })

  const cycle = {}
  cycle.inside = [cycle]
  let deep = 1
  for (let i = 0; i < 200; i++) deep = [deep]
  // As text, 2^60 numbers.
  let wide = 1
  for (let i = 0; i < 60; i++) wide = [wide, wide]
  test.each([
    [() => {}],
    [Symbol('s')],
    [{ map: new Map() }],
    [new Date(0)],
    [/x/],
    [new (class Odd {})()],
    [new Proxy({}, {})],
    [cycle],
    [deep],
    [wide],
    [new Array(2 ** 32 - 1)],
    [new ArrayBuffer(2 ** 30)],
    ['x'.repeat(600 * 1024)]
  ])('is refused where it is no plain data, and nothing is saved: %#', async value => {
    await failsWith(give(value), 'ERR_HOSTMAP_NOT_RESTORABLE')
    expect(fs.readdirSync(folder)).toEqual([])
  })

  test('is no object of the instance', async () => {
    const it = await makers.exposed(engine)
    await failsWith(
      once(it.target, () => it.exports, { snapshot: file, module: engine }),
      'ERR_HOSTMAP_NOT_RESTORABLE'
    )
  })
})

describe('it is refused, and nothing is called', () => {
  const never = () => {
    throw new Error('called')
  }

  test('for other things than one instance with a memory', async () => {
    const options = { snapshot: file, module: engine }
    const two = async () => [
      await WebAssembly.instantiate(engine),
      await WebAssembly.instantiate(engine)
    ]
    const { unit } = await capture(two)
    await failsWith(once(unit, never, options), 'ERR_HOSTMAP_UNSUITABLE_MODULE')
    await failsWith(once({}, never, options), 'ERR_HOSTMAP_NOT_CAPTURED')
    const { instance } = await WebAssembly.instantiate(engine)
    await failsWith(once(instance, never, options), 'ERR_HOSTMAP_NOT_RESTORABLE')
  })

  test('with a mapping in the memory, also one that the call has made', async () => {
    const options = { snapshot: file, module: engine }
    const { target, exports } = await makers.exposed(engine)
    const guarded = GuardedMemory.from(exports.memory)
    const region = HostRegion.copyFrom(Buffer.alloc(10))
    const mapping = guarded.map(region)
    await failsWith(once(target, never, options), 'ERR_HOSTMAP_NOT_RESTORABLE')
    mapping.unmap()
    const map = () => void guarded.map(region)
    await failsWith(once(target, map, options), 'ERR_HOSTMAP_NOT_RESTORABLE')
    expect(fs.readdirSync(folder)).toEqual([])
  })

  test('with other arguments', async () => {
    const { target } = await makers.exposed(engine)
    const good = { snapshot: file, module: engine }
    for (const [fn, options] of [
      [1, good],
      [never, undefined],
      [never, { ...good, snapshot: 1 }],
      [never, { ...good, module: undefined }],
      [never, { ...good, module: 'x' }],
      [never, { ...good, key: 'secret' }],
      [never, { ...good, accept: 'all' }],
      [never, { ...good, exclusive: 1 }],
      [never, { ...good, hugePages: 1 }],
      [never, { ...good, keepResidentBytes: -1 }],
      [never, { ...good, other: 1 }]
    ]) {
      await expect(once(target, fn, options)).rejects.toMatchObject({
        code: expect.stringMatching(/^ERR_(INVALID_ARG|OUT_OF_RANGE|HOSTMAP_OUT_OF_RANGE)/)
      })
    }
    expect(fs.readdirSync(folder)).toEqual([])
  })
})
