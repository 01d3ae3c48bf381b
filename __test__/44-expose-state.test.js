'use strict'

// exposeState: the module does the same as before, its state can be reached, and what can't be
// restored is found.

const { Hash } = require('node:crypto')
const { exposeState, GuardedMemory, InstancePool, Snapshot } = require('..')
const { inChild } = require('./support/child')
const { expectError, thrownBy } = require('./support/errors')
const { assemble } = require('./support/wasm')
const { skipUnless } = require('./support/skip')

const WAT = `(module
  (import "env" "base" (global $base (mut i32)))
  (memory 1)
  (global $pointer (mut i32) (i32.const 1000))
  (global (export "shown") (mut i64) (i64.const 5))
  (global i32 (i32.const 3))
  (table $t 3 funcref)
  (elem (i32.const 1) $answer)
  (func $answer (result i32) (i32.const 42))
  (func (export "push") (global.set $pointer (i32.sub (global.get $pointer) (i32.const 16))))
  (func (export "clear") (table.set (i32.const 0) (ref.null func)))
  (func (export "pointer") (result i32) (global.get $pointer)))`

const exportsOf = bytes => WebAssembly.Module.exports(new WebAssembly.Module(bytes))
const kinds = bytes => Object.fromEntries(exportsOf(bytes).map(({ name, kind }) => [name, kind]))
const imports = () => ({
  env: { base: new WebAssembly.Global({ value: 'i32', mutable: true }, 7) }
})

describe('exposeState', () => {
  test('exports what a module hides, and keeps what it shows', async () => {
    expect(kinds(exposeState(await assemble(WAT)))).toEqual({
      shown: 'global',
      push: 'function',
      clear: 'function',
      pointer: 'function',
      'hostmap:memory': 'memory',
      'hostmap:global:0': 'global',
      'hostmap:global:1': 'global',
      'hostmap:table:0': 'table'
    })
  })

  test('gives the very globals, tables and memory that the module works with', async () => {
    const given = imports()
    const module = new WebAssembly.Module(exposeState(await assemble(WAT)))
    const { exports } = new WebAssembly.Instance(module, given)
    expect(exports['hostmap:global:0']).toBe(given.env.base)
    exports.push()
    expect(exports['hostmap:global:1'].value).toBe(984)
    exports['hostmap:global:1'].value = 1000
    expect(exports.pointer()).toBe(1000)
    expect(exports['hostmap:table:0'].get(1)()).toBe(42)
    expect(exports['hostmap:memory'].buffer.byteLength).toBe(65_536)
  })

  test('adds nothing to a module that shows all of its state, but for a section that says so', async () => {
    const bytes = await assemble('(module (memory (export "memory") 1) (func (export "run")))')
    const exposed = exposeState(bytes)
    expect(kinds(exposed)).toEqual({ memory: 'memory', run: 'function' })
    expect(Buffer.from(exposed.subarray(0, bytes.length))).toEqual(Buffer.from(bytes))
    const { customSections } = WebAssembly.Module
    const [section] = customSections(new WebAssembly.Module(exposed), 'wasm-hostmap')
    // An id, two bytes of length, and the name with its length.
    expect(exposed.length - bytes.length).toBe(1 + 2 + 13 + section.byteLength)
  })

  test('gives back what it has given', async () => {
    const once = exposeState(await assemble(WAT))
    expect(exposeState(once)).toEqual(once)
    expect(once).toBeInstanceOf(Uint8Array)
  })

  test('takes bytes in each form, and leaves them alone', async () => {
    const bytes = await assemble(WAT)
    const before = Buffer.from(bytes)
    const expected = exposeState(bytes)
    const shared = new Uint8Array(new SharedArrayBuffer(bytes.length))
    shared.set(bytes)
    const buffer = Uint8Array.from(bytes).buffer
    for (const form of [buffer, shared, shared.buffer, new DataView(buffer)]) {
      expect(exposeState(form)).toEqual(expected)
    }
    expect(Buffer.from(bytes)).toEqual(before)
  })

  test('refuses what another version of the package exposed, as bytes and compiled', async () => {
    const other = exposeState(await assemble(WAT))
    other[Buffer.from(other).indexOf('wasm-hostmap') + 'wasm-hostmap'.length] = 2
    const refusal = {
      code: 'ERR_HOSTMAP_UNSUITABLE_MODULE',
      says: ['report has version 2', 'pass the bytes that the module was made from']
    }
    expectError(
      thrownBy(() => exposeState(other)),
      refusal
    )
    const compiled = new WebAssembly.Module(other)
    expectError(await thrownBy(() => InstancePool.create(compiled)), refusal)
  })

  test('passes what it does not know in a function on to V8', async () => {
    const bytes = await assemble('(module (memory 1) (func (export "f") (drop (i32.const 99))))')
    const broken = Uint8Array.from(bytes)
    // No instruction begins with this byte.
    broken[Buffer.from(bytes).lastIndexOf(Buffer.from([0x41, 0xe3]))] = 0x27
    const exposed = exposeState(broken)
    expect(() => new WebAssembly.Module(exposed)).toThrow(WebAssembly.CompileError)
  })

  test.each([
    ['nothing', undefined, 'ERR_INVALID_ARG_TYPE'],
    ['a path', 'module.wasm', 'ERR_INVALID_ARG_TYPE'],
    ['a list of numbers', [0, 97, 115, 109], 'ERR_INVALID_ARG_TYPE'],
    ['no bytes', new Uint8Array(0), 'ERR_INVALID_ARG_VALUE'],
    ['text', Buffer.from('(module)'), 'ERR_INVALID_ARG_VALUE'],
    ['a component', Buffer.from('\0asm\x0d\0\x01\0', 'latin1'), 'ERR_INVALID_ARG_VALUE'],
    [
      'a section that ends too late',
      Buffer.from('\0asm\x01\0\0\0\x05\x7f', 'latin1'),
      'ERR_INVALID_ARG_VALUE'
    ]
  ])('refuses %s', (_, module, code) => {
    expectError(
      thrownBy(() => exposeState(module)),
      { code }
    )
  })

  test('refuses a compiled module: it can only be exposed before', async () => {
    const compiled = new WebAssembly.Module(await assemble('(module)'))
    expectError(
      thrownBy(() => exposeState(compiled)),
      { code: 'ERR_INVALID_ARG_TYPE' }
    )
  })

  test('says where the bytes stop making sense', async () => {
    const bytes = await assemble(WAT)
    const cut = bytes.subarray(0, bytes.length - 1)
    expect(thrownBy(() => exposeState(cut)).message).toMatch(/at byte \d+/)
  })
})

// A module of so many equal entries in one section, and what else comes before it.
const REPEATED = `
  function leb(n) { const out = []; do { const low = n % 128; n = Math.floor(n / 128); out.push(n ? low | 128 : low) } while (n); return Buffer.from(out) }
  function section(id, content) { return Buffer.concat([Buffer.from([id]), leb(content.length), content]) }
  function repeated(id, count, entry, before = []) {
    const entries = Buffer.alloc(count * entry.length).fill(Buffer.from(entry))
    return Buffer.concat([Buffer.from('\\0asm\\1\\0\\0\\0', 'latin1'), ...before.map(([id, content]) => section(id, Buffer.from(content))), section(id, Buffer.concat([leb(count), entries]))])
  }
  const GLOBAL = [0x7f, 1, 0x41, 0, 0x0b], IMPORT = [0, 0, 3, 0x7f, 1], ONE_MEMORY = [5, [1, 0, 1]]`
const outcomes = (body, flags) =>
  inChild(
    `async context => { ${REPEATED}
      const { exposeState, InstancePool } = context.hostmap
      const outcome = async call => { try { await call(); return 'done' } catch (error) { return error.code ?? String(error) } }
      ${body} }`,
    { flags }
  )

describe("a module's size", () => {
  test('of more things than any engine takes is refused at once, whichever call reads it, in a small heap', async () => {
    const body = `
      const found = []
      for (const [id, entry] of [[2, IMPORT], [6, GLOBAL]]) {
        const bytes = repeated(id, 2_000_000, entry)
        found.push(await outcome(() => exposeState(bytes)), await outcome(() => InstancePool.create(bytes)))
      }
      return found`
    const found = await outcomes(body, ['--max-old-space-size=40'])
    expect(found).toEqual(Array(4).fill('ERR_INVALID_ARG_VALUE'))
  })

  test('makes no JavaScript object for each global, and takes memory of a few times its bytes', async () => {
    const body = `
      const bytes = repeated(6, 1_000_000, GLOBAL, [ONE_MEMORY])
      const before = process.resourceUsage().maxRSS
      const found = [await outcome(() => exposeState(bytes)), await outcome(() => InstancePool.create(bytes))]
      return [...found, (1024 * (process.resourceUsage().maxRSS - before)) / bytes.length]`
    const [exposed, pooled, times] = await outcomes(body, ['--max-old-space-size=40'])
    expect([exposed, pooled]).toEqual(Array(2).fill('ERR_HOSTMAP_UNSUITABLE_MODULE'))
    expect(times).toBeLessThan(30)
  })

  test('is refused with a code where V8 would take no more exports, and taken up to that', async () => {
    const body = `
      const valid = []
      for (const count of [99_999, 100_000, 100_001]) {
        const bytes = repeated(6, count, GLOBAL, [ONE_MEMORY])
        valid.push(WebAssembly.validate(bytes))
        valid.push(await outcome(() => { if (!WebAssembly.validate(exposeState(bytes))) throw new Error('invalid') }))
      }
      return valid`
    const refused = 'ERR_HOSTMAP_UNSUITABLE_MODULE'
    expect(await outcomes(body, [])).toEqual([true, 'done', true, refused, true, refused])
  })

  test('is no way to fill the heap by a table of millions of entries', async () => {
    const body = `
      const table = [4, [1, 0x70, 0, ...leb(4_000_000)]]
      const bytes = repeated(5, 1, [0, 1], [table])
      const shown = Buffer.concat([bytes, section(7, Buffer.from([1, 1, 0x74, 1, 0]))])
      const instance = new WebAssembly.Instance(new WebAssembly.Module(exposeState(shown)))
      const { Snapshot } = context.hostmap
      // V8 keeps the table itself there, 32 to 96 MB for each instance.
      return [await outcome(() => InstancePool.create(shown)), await outcome(() => Snapshot.of(instance))]`
    expect(await outcomes(body, ['--max-old-space-size=320'])).toEqual(
      Array(2).fill('ERR_HOSTMAP_NOT_RESTORABLE')
    )
  })

  test('leaves the event loop running while a pool reads it', async () => {
    const body = `
      // Functions of 1,000 additions each.
      const code = [0, 0x41, 0, ...Array(1000).fill([0x41, 1, 0x6a]).flat(), 0x1a, 0x0b]
      const bodies = repeated(10, 2000, [...leb(code.length), ...code], [[1, [1, 0x60, 0, 0]], [3, [...leb(2000), ...Array(2000).fill(0)]], ONE_MEMORY])
      let turns = 0, done = false
      const turn = () => { turns++; if (!done) setImmediate(turn) }
      setImmediate(turn)
      const pool = await InstancePool.create(bodies)
      done = true
      pool.close()
      return turns`
    expect(await outcomes(body, [])).toBeGreaterThan(1)
  })
})

describe('what cannot be restored', () => {
  const code = 'ERR_HOSTMAP_NOT_RESTORABLE'
  const DROPS = `(module (memory (export "memory") 1) (data $d "abc")
    (func (export "run") (memory.init $d (i32.const 0) (i32.const 0) (i32.const 3)) (data.drop $d)))`
  test('is refused by all that restore, until it is accepted', async () => {
    const bytes = await assemble(DROPS)
    const instance = new WebAssembly.Instance(new WebAssembly.Module(exposeState(bytes)))
    const says = [/may drop/, /'dropped-segments'/, /options.accept/]
    const accept = ['dropped-segments']
    expectError(await thrownBy(() => InstancePool.create(bytes)), { code, says })
    expectError(
      thrownBy(() => Snapshot.of(instance)),
      { code, says }
    )
    // The memory alone can be kept of any instance; it does not say that the rest was accepted.
    const partly = GuardedMemory.from(instance.exports.memory).snapshot()
    expectError(
      thrownBy(() => partly.restoreTo(instance)),
      { code, says }
    )
    for (const module of [bytes, new WebAssembly.Module(exposeState(bytes))]) {
      expectError(await thrownBy(() => partly.instantiate(module)), { code, says })
      expect(await partly.instantiate(module, {}, { accept })).toBeDefined()
    }
    partly.restoreTo(instance, { accept })
    const whole = Snapshot.of(instance, { accept })
    // The caller that took it has said that it does no harm.
    whole.restoreTo(instance)
    expect(await whole.instantiate(bytes)).toBeDefined()
    expectError(
      thrownBy(() => whole.restoreTo(instance, { accept: ['dropped-segment'] })),
      { code: 'ERR_INVALID_ARG_VALUE', says: /accept/ }
    )
  })

  // (type $s (struct (field (mut i32)))) (memory 1) (global (export "g") (mut (ref null $s))
  // (ref.null $s)) (func (export "init") (global.set 0 (struct.new $s (i32.const 1)))) and "get",
  // "clear": wabt can't assemble it.
  const OBJECTS = Buffer.from(
    '0061736d01000000010c035f017f016000006000017f0304030102010503010001060701630001d0000b071a040167030004696e6974000003676574000105636c65617200020a1b0309004101fb000024000b08002300fb0200000b0600d00024000b000b046e616d65040401000173',
    'hex'
  )
  const hasObjects = WebAssembly.validate(OBJECTS)

  skipUnless('needs Node.js 22, with structs in modules', hasObjects).test(
    'are objects that a fork would share with its original',
    async () => {
      const { exports } = new WebAssembly.Instance(new WebAssembly.Module(exposeState(OBJECTS)))
      const says = /'gc-objects'/
      expectError(
        thrownBy(() => Snapshot.of({ exports })),
        { code, says }
      )
      const partly = GuardedMemory.from(exports['hostmap:memory']).snapshot({ globals: exports })
      expectError(await thrownBy(() => partly.instantiate(OBJECTS)), { code, says })
      const snapshot = Snapshot.of({ exports }, { accept: ['gc-objects'] })
      expect((await snapshot.instantiate(OBJECTS)).exports.g.value).toBe(null)
      exports.init()
      // An instance of which nobody knows the module: its global shows what it holds.
      const shown = { exports: { memory: exports['hostmap:memory'], g: exports.g } }
      expectError(
        thrownBy(() => Snapshot.of(shown)),
        { code, says }
      )
      exports.clear()
      Snapshot.of(shown).restoreTo(shown)
    }
  )

  test('is not what the start function alone does, nor what no code can', async () => {
    const once = DROPS.replace('(func (export "run")', '(func $run').replace(
      /\)\)\)$/,
      ')) (start $run))'
    )
    const bytes = await assemble(once)
    const instance = new WebAssembly.Instance(new WebAssembly.Module(exposeState(bytes)))
    Snapshot.of(instance).restoreTo(instance)
    expect(
      WebAssembly.Module.exports(new WebAssembly.Module(exposeState(bytes))).map(it => it.name)
    ).toEqual(['memory'])
  })
})

describe("an instance's state", () => {
  const COUNTER = `(module (memory (export "memory") 1) (global $next (mut i32) (i32.const 16))
    (func (export "take") (result i32)
      (global.set $next (i32.add (global.get $next) (i32.const 1))) (global.get $next)))`
  const code = 'ERR_HOSTMAP_SNAPSHOT_MISMATCH'
  const bytesOf = ({ exports }) =>
    new Uint8Array((exports.memory ?? exports['hostmap:memory']).buffer)

  test('goes to another instance as a whole, or not at all', async () => {
    const plain = await assemble(COUNTER)
    const exposed = new WebAssembly.Module(exposeState(plain))
    const partly = new WebAssembly.Instance(new WebAssembly.Module(plain))
    const wholly = new WebAssembly.Instance(exposed)
    for (const instance of [partly, wholly]) {
      bytesOf(instance)[5] = 7
      instance.exports.take()
    }
    const says = /lacks the instance's "hostmap:global:0"/
    const target = new WebAssembly.Instance(exposed)
    for (const snapshot of [
      Snapshot.of(partly),
      GuardedMemory.from(partly.exports.memory).snapshot()
    ]) {
      expectError(
        thrownBy(() => snapshot.restoreTo(target)),
        { code, says }
      )
      expectError(await thrownBy(() => snapshot.instantiate(plain)), { code, says })
      expect([bytesOf(target)[5], target.exports.take()]).toEqual([0, expect.any(Number)])
    }
    const copy = await Snapshot.of(wholly).instantiate(plain)
    expect([bytesOf(copy)[5], copy.exports.take()]).toEqual([7, 18])
    expect(wholly.exports.take()).toBe(18)
  })

  test('goes into code that was checked, whatever another thread writes to shared bytes', async () => {
    const wat = '(module (memory (export "memory") 1) (func (export "f") (result i32) i32.const 1))'
    const plain = await assemble(wat)
    const at = Buffer.from(plain).indexOf(Buffer.of(0x41, 1, 0x0b)) + 1
    expect(at).toBeGreaterThan(0)
    const module = new WebAssembly.Module(exposeState(plain))
    const snapshot = Snapshot.of(new WebAssembly.Instance(module), { module: plain })
    const shared = new Uint8Array(new SharedArrayBuffer(plain.length))
    shared.set(plain)
    // As another thread may at that moment.
    const { digest } = Hash.prototype
    const spy = jest.spyOn(Hash.prototype, 'digest').mockImplementation(function (...rest) {
      shared[at] = 2
      return digest.apply(this, rest)
    })
    let instance
    try {
      instance = await snapshot.instantiate(shared)
    } finally {
      spy.mockRestore()
    }
    expect([shared[at], instance.exports.f()]).toEqual([2, 1])
    expectError(await thrownBy(() => snapshot.instantiate(shared)), {
      code,
      says: 'another module'
    })
  })

  test('goes as a whole, or not at all, where the stack ends', async () => {
    const found = await inChild(
      async ({ assemble, hostmap }) => {
        const bytes = await assemble(`(module (memory (export "memory") 1)
          (global (export "g") (mut i32) (i32.const 1)) (table (export "t") 20 funcref) (func $f)
          (func (export "change") (global.set 0 (i32.const 2)) (i32.store8 (i32.const 0) (i32.const 2))
            (table.set (i32.const 19) (ref.func $f))) (elem declare func $f))`)
        const module = new WebAssembly.Module(hostmap.exposeState(bytes))
        const [first, second] = [0, 1].map(() => new WebAssembly.Instance(module))
        const snapshot = hostmap.Snapshot.of(first)
        const seen = new Set()
        for (const instance of [first, second]) {
          const { memory, g, t, change } = instance.exports
          const deep = depth => (depth === 0 ? snapshot.restoreTo(instance) : deep(depth - 1))
          const tryAt = depth => {
            change()
            try {
              deep(depth)
              return true
            } catch (error) {
              if (error.name !== 'RangeError') throw error
              return false
            } finally {
              seen.add(
                [new Uint8Array(memory.buffer)[0] === 2, g.value === 2, t.get(19) !== null].join(
                  ' '
                )
              )
            }
          }
          // Frames get smaller as V8 compiles the functions better.
          for (let i = 0; i < 2000; i++) tryAt(10)
          let depth = 10
          while (tryAt(depth)) depth += 50
          depth = Math.max(10, depth - 400)
          for (let failed = 0; failed < 50; depth++) if (!tryAt(depth)) failed += 1
        }
        return [...seen].sort()
      },
      { flags: ['--stack-size=200'] }
    )
    expect(found).toEqual(['false false false', 'true true true'])
  })

  test('is refused before anything changes where a table has grown', async () => {
    const wat = '(module (memory (export "memory") 1) (table (export "t") 1 10 funcref))'
    const module = new WebAssembly.Module(await assemble(wat))
    const first = new WebAssembly.Instance(module)
    const snapshot = Snapshot.of(first)
    for (const instance of [first, new WebAssembly.Instance(module)]) {
      instance.exports.t.grow(1)
      bytesOf(instance)[0] = 5
      expectError(
        thrownBy(() => snapshot.restoreTo(instance)),
        { code: 'ERR_HOSTMAP_NOT_RESTORABLE', says: /table "t" has grown/ }
      )
      expect(bytesOf(instance)[0]).toBe(5)
    }
  })

  test('is of the exports that there are, and not of those that an object had before', async () => {
    const module = new WebAssembly.Module(exposeState(await assemble(COUNTER)))
    const [first, second] = [new WebAssembly.Instance(module), new WebAssembly.Instance(module)]
    const holder = { exports: first.exports }
    Snapshot.of(holder)
    holder.exports = second.exports
    bytesOf(second)[5] = 7
    const target = new WebAssembly.Instance(module)
    Snapshot.of(holder).restoreTo(target)
    expect(bytesOf(target)[5]).toBe(7)
  })
})
