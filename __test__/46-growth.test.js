'use strict'

// Growth by the host and instrumentGrowth: mappings keep their place and their protection, and
// onGrow and limit are asked first.

const {
  exposeState,
  GuardedMemory,
  HostRegion,
  InstancePool,
  InstrumentedModule,
  instrumentGrowth,
  Snapshot
} = require('..')
const { inChild } = require('./support/child')
const { expectError, thrownBy } = require('./support/errors')
const { assemble, test64, WASM_PAGE } = require('./support/wasm')
const { skipUnless } = require('./support/skip')

const TRAP = WebAssembly.RuntimeError

const growWat = (memory, at = 'i32', rest = '') => `(module ${memory}
  (func (export "grow") (param ${at}) (result ${at}) (memory.grow (local.get 0)))
  (func (export "size") (result ${at}) memory.size)
  (func (export "store") (param ${at} i32) (i32.store8 (local.get 0) (local.get 1)))
  ${rest})`
const OWN = growWat('(memory (export "memory") 1 10)')

const pages = memory => memory.buffer.byteLength / WASM_PAGE
const mapIn = memory =>
  GuardedMemory.from(memory).map(HostRegion.copyFrom(Buffer.alloc(WASM_PAGE, 7)))
const wasmOf = hex => Buffer.from(hex, 'hex')
const testIfValid = bytes =>
  skipUnless('needs a V8 that takes this module', WebAssembly.validate(bytes)).test

/** The exports of an instance whose growth is watched. */
async function watched(wat, options, imports) {
  const { exports } = await instrumentGrowth(await assemble(wat), options).instantiate(imports)
  return exports
}

describe('growth that the host does', () => {
  test('is what memory.grow gives a module', async () => {
    const { grow, size, memory } = await watched(OWN)
    expect([grow(0), grow(1), grow(2), size(), pages(memory)]).toEqual([1, 1, 2, 4, 4])
    // Past the maximum, and past all that there can be.
    expect([grow(7), grow(-1), grow(0x7fffffff), size()]).toEqual([-1, -1, -1, 4])
    expect([grow(6), grow(1), size()]).toEqual([4, -1, 10])
  })

  test('leaves read-only mappings read-only, whether or not it succeeds', async () => {
    const { grow, store, memory } = await watched(growWat('(memory (export "memory") 1)'))
    const mapping = mapIn(memory)
    const write = () => store(mapping.address, 1)
    expect(write).toThrow(TRAP)
    expect(grow(1)).toBe(2)
    expect(write).toThrow(TRAP)
    expect(grow(65_534)).toBe(-1)
    expect(write).toThrow(TRAP)
    expect(mapping.strayWrites).toBe(0)
    // A module that grows by itself leaves them unprotected until the next call.
    const plain = (
      await WebAssembly.instantiate(await assemble(growWat('(memory (export "memory") 1)')))
    ).instance.exports
    const bare = mapIn(plain.memory)
    plain.grow(1)
    expect(() => plain.store(bare.address, 1)).not.toThrow()
  })

  test('knows the memory by whatever it was wrapped', async () => {
    const { grow, store, memory } = await watched(growWat('(memory (export "memory") 3)'))
    const guarded = GuardedMemory.from(memory.buffer)
    const mapping = guarded.map(HostRegion.copyFrom(Buffer.alloc(WASM_PAGE, 7)), { at: WASM_PAGE })
    grow(1)
    expect(() => store(mapping.address, 1)).toThrow(TRAP)
    expect(GuardedMemory.from(memory)).toBe(guarded)
  })

  test('comes to memories that are imported, hidden, or grown by the start function', async () => {
    const seen = []
    const onGrow = ({ wasmPages, byteLength, newByteLength, memoryIndex, memory }) => {
      seen.push([wasmPages, byteLength / WASM_PAGE, newByteLength / WASM_PAGE, memoryIndex, memory])
    }
    const start = '(func $s (drop (memory.grow (i32.const 2)))) (start $s)'
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 10 })
    const guarded = GuardedMemory.from(memory)
    const imported = await watched(
      growWat('(import "env" "memory" (memory 1 10))', 'i32', start),
      { onGrow },
      { env: { memory } }
    )
    expect([imported.grow(1), pages(memory)]).toEqual([3, 4])
    expect(seen.splice(0)).toEqual([
      [2, 1, 3, 0, guarded],
      [1, 3, 4, 0, guarded]
    ])
    // The module makes its memory, and nobody has it before the start function is through.
    const hidden = await watched(growWat('(memory 1 10)', 'i32', start), { onGrow })
    expect([hidden.size(), hidden.grow(1), hidden.size()]).toEqual([3, 3, 4])
    expect(seen.map(it => it[4]?.byteLength)).toEqual([undefined, 4 * WASM_PAGE])
    expect(Object.keys(hidden)).toEqual(['grow', 'size', 'store', 'hostmap:memory'])
    expect(
      (await watched(growWat('(memory 1 10)', 'i32', start), { limit: 2 * WASM_PAGE })).size()
    ).toBe(1)
  })

  test('stops at a limit, in bytes', async () => {
    const { grow, size } = await watched(OWN, { limit: 3 * WASM_PAGE + 1 })
    expect([grow(3), grow(2), grow(1), grow(0), size()]).toEqual([-1, 1, -1, 3, 3])
  })

  test('is refused by onGrow with false, and done with true or nothing', async () => {
    const answers = [false, true, undefined]
    const { grow, size } = await watched(OWN, { onGrow: () => answers.shift() })
    expect([grow(1), size(), grow(1), grow(1), size()]).toEqual([-1, 1, 1, 2, 3])
  })

  test('is not done where onGrow throws, and the error goes through the module', async () => {
    const error = new Error('no more')
    const { grow, size } = await watched(OWN, {
      onGrow: () => {
        throw error
      }
    })
    expect(() => grow(1)).toThrow(error)
    expect([grow(0), size()]).toEqual([1, 1])
    const later = await watched(OWN, { onGrow: async () => true })
    expectError(
      thrownBy(() => later.grow(1)),
      { code: 'ERR_INVALID_ARG_TYPE', says: [/onGrow/, /promise/i] }
    )
    expect(later.size()).toBe(1)
  })

  test('keeps its limit where onGrow grows the memory, too', async () => {
    let exports
    let depth = 0
    const onGrow = () => {
      depth += 1
      if (depth === 1) expect(exports.grow(2)).toBe(1)
    }
    exports = await watched(OWN, { onGrow, limit: 4 * WASM_PAGE })
    expect([exports.grow(2), exports.size(), exports.grow(1), exports.size()]).toEqual([
      -1, 3, 3, 4
    ])
  })

  test('keeps its limit whatever size a script gives the buffer', async () => {
    const onGrow = ({ memory }) => {
      memory.grow(2)
      Object.defineProperty(memory.buffer, 'byteLength', { value: 0 })
    }
    const { grow, size } = await watched(OWN, { onGrow, limit: 3 * WASM_PAGE })
    expect([grow(1), size()]).toEqual([-1, 3])
  })

  test('leaves names alone that a module has', async () => {
    const wat = `(module (import "hostmap" "grow:0" (func $f (result i32))) (memory 1)
      (func (export "hostmap:memory") (result i32) (call $f))
      (func (export "grow") (result i32) (memory.grow (i32.const 1))))`
    const made = instrumentGrowth(await assemble(wat))
    expect(made.importModule).toBe('hostmap:2')
    const { exports } = await made.instantiate({ hostmap: { 'grow:0': () => 42 } })
    expect([exports['hostmap:memory'](), exports.grow()]).toEqual([42, 1])
    expect(pages(exports['hostmap:memory:2'])).toBe(2)
  })

  test('gives each instance imports of its own, and does not touch what was passed', async () => {
    const wat = growWat('(import "env" "f" (func)) (memory 1 4)')
    const made = instrumentGrowth(await assemble(wat))
    const given = Object.freeze({ env: Object.freeze({ f: () => {} }) })
    const module = new WebAssembly.Module(made.bytes)
    const [first, second] = [0, 1].map(() => {
      const { imports, bind } = made.importsFor(given)
      const instance = new WebAssembly.Instance(module, imports)
      bind(instance)
      return instance.exports
    })
    expect([first.grow(1), first.size(), second.size()]).toEqual([1, 2, 1])
    expect(Object.keys(given)).toEqual(['env'])
  })

  test('is of the memory that the module got, where a getter makes another one each time', async () => {
    const wat = `(module (import "env" "memory" (memory 1)) (import "env" "f" (func $f (result i32)))
      (global $size (mut i32) (i32.const 0))
      (func $start (drop (memory.grow (i32.const 3))) (global.set $size (memory.size)))
      (start $start)
      (func (export "size") (result i32) (global.get $size)) (func (export "f") (result i32) (call $f)))`
    const made = []
    class Env {
      #answer = 42
      get memory() {
        return (made[made.length] = new WebAssembly.Memory({ initial: 1 }))
      }
      // Works on an Env alone.
      get f() {
        const answer = this.#answer
        return () => answer
      }
    }
    const { size, f } = await watched(wat, {}, { env: Object.freeze(new Env()) })
    expect([size(), f(), made.map(pages)]).toEqual([4, 42, [4]])
  })

  // (memory (export "a") 1 4) (memory 1 4) (memory $still 1), growA and growB by their first two,
  // and both sizes.
  const SEVERAL = wasmOf(
    '0061736d01000000010a0260017f017f6000017f0304030000010509030101040101040001071d04016102000567726f774100000567726f774200010573697a657300020a1b030600200040000b0600200040010b0b003f0041e4006c3f016a0b000f046e616d6506080102057374696c6c'
  )
  testIfValid(SEVERAL)('tells several memories apart', async () => {
    const seen = []
    const made = instrumentGrowth(SEVERAL, {
      onGrow: ({ memoryIndex }) => void seen.push(memoryIndex)
    })
    const { exports } = await made.instantiate()
    expect([exports.growB(2), exports.growA(1), exports.sizes()]).toEqual([1, 1, 203])
    expect(seen).toEqual([1, 0])
    expect([pages(exports.a), pages(exports['hostmap:memory-1'])]).toEqual([2, 3])
  })

  // (memory 1 100), a function $grow, and ways to it: direct, by a table, by call_ref and a tail
  // call, into a struct, and out of an exception; a global and segments refer to functions, and a
  // type section ends before ours.
  const PROPOSALS = wasmOf(
    '0061736d01000000010e035f017f0160017f017f60017f0003090801010101010101010404017000040504010101640d030100020606017000d2000b072a05066469726563740003057461626c650004037265660005066f626a6563740006066361756768740007090c020041010b020001030001020a56080700200041026c0b0600200040000b0600200012010b08002000100110000b0900200041021101000b08002000d20214010b0d0020001001fb0000fb0200000b1400027f1f40010000002000100108000b417b0b0b0049046e616d6501140300057477696365010467726f7702047461696c03060107010001630407020001730101660504010001740704010001670a060100010001780b070100046f6f7073'
  )
  testIfValid(PROPOSALS)(
    'is reached by tables, references, tail calls, and past objects and exceptions',
    async () => {
      const { exports } = await instrumentGrowth(PROPOSALS).instantiate()
      expect([
        exports.direct(1),
        exports.table(1),
        exports.ref(1),
        exports.object(1),
        exports.caught(1)
      ]).toEqual([2, 2, 3, 4, 5])
      expect(pages(exports['hostmap:memory'])).toBe(6)
    }
  )

  const wide = growWat(
    '(memory (export "memory") i64 1 10)',
    'i64',
    '(func $s (drop (memory.grow (i64.const 1)))) (start $s)'
  )
  // (module (memory i64 1))
  const takes64 = WebAssembly.validate(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 5, 3, 1, 4, 1))
  const with64 = skipUnless('needs a V8 with 64-bit memories in modules', takes64)
  with64.test('of 64-bit memories takes and gives BigInts', async () => {
    const bytes = await assemble(wide)
    const seen = []
    const onGrow = ({ newByteLength }) => void seen.push(newByteLength / WASM_PAGE)
    const { exports } = await instrumentGrowth(bytes, {
      onGrow,
      limit: 6 * WASM_PAGE
    }).instantiate()
    expect([exports.grow(0n), exports.grow(2n), exports.grow(5n), exports.size()]).toEqual([
      2n,
      2n,
      -1n,
      4n
    ])
    expect([exports.grow(-1n), exports.grow(2n ** 40n)]).toEqual([-1n, -1n])
    expect(seen).toEqual([2, 4])
  })

  test('of 64-bit memories is -1 for more pages than there can be, also where the host must ask V8', async () => {
    const flags = process.version.startsWith('v20.') ? ['--experimental-wasm-memory64'] : []
    const seen = await inChild(
      async ({ assemble, hostmap, args }) => {
        const { exports } = await hostmap.instrumentGrowth(await assemble(args)).instantiate()
        const wanted = [2n ** 31n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 40n, 2n ** 48n, 2n ** 60n, -1n]
        return [...wanted.map(pages => exports.grow(pages)), exports.size()].map(Number)
      },
      { flags, args: growWat('(memory (export "memory") i64 1 10)', 'i64') }
    )
    expect(seen).toEqual([-1, -1, -1, -1, -1, -1, -1, 1])
  })

  test64('of 64-bit memories keeps mappings read-only', async () => {
    const { grow, store, memory } = await watched(
      growWat('(memory (export "memory") i64 1)', 'i64')
    )
    const mapping = mapIn(memory)
    expect(grow(1n)).toBe(2n)
    expect(() => store(BigInt(mapping.address), 1)).toThrow(TRAP)
  })

  test('of shared memories keeps mappings read-only that another thread has made', async () => {
    const result = await inChild(async ({ assemble, hostmap, require }) => {
      const { Worker } = require('node:worker_threads')
      const wat = `(module (import "env" "memory" (memory 1 100 shared))
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
        (func (export "store") (param i32) (i32.store8 (local.get 0) (i32.const 1))))`
      const memory = new WebAssembly.Memory({ initial: 1, maximum: 100, shared: true })
      const guarded = hostmap.GuardedMemory.from(memory)
      const mapping = guarded.map(hostmap.HostRegion.copyFrom(Buffer.alloc(65536, 7)))
      const source = `
        const { parentPort, workerData: { bytes, memory, at, root } } = require('node:worker_threads')
        const { instrumentGrowth } = require(root)
        instrumentGrowth(bytes).instantiate({ env: { memory } }).then(({ exports }) => {
          const grown = exports.grow(1)
          let end = 'wrote'
          try { exports.store(at) } catch (error) { end = error.name }
          parentPort.postMessage([grown, end])
        })`
      const workerData = {
        bytes: await assemble(wat),
        memory,
        at: mapping.address,
        root: require.resolve('../..')
      }
      const worker = new Worker(source, { eval: true, workerData })
      const answer = await new Promise((resolve, reject) =>
        worker.on('message', resolve).on('error', reject)
      )
      return [...answer, mapping.strayWrites]
    })
    expect(result).toEqual([2, 'RuntimeError', 0])
  })

  test('is whole or not done at the end of the stack', async () => {
    const result = await inChild(
      async ({ assemble, hostmap }) => {
        const wat = `(module (memory (export "memory") 4)
          (func $deep (export "deep") (param i32) (result i32)
            (if (result i32) (i32.eqz (local.get 0)) (then (memory.grow (i32.const 1)))
              (else (call $deep (i32.sub (local.get 0) (i32.const 1))))))
          (func (export "store") (param i32) (i32.store8 (local.get 0) (i32.const 1))))`
        const made = hostmap.instrumentGrowth(await assemble(wat), { onGrow: () => true })
        const { exports } = await made.instantiate()
        const mapping = hostmap.GuardedMemory.from(exports.memory).map(
          hostmap.HostRegion.copyFrom(Buffer.alloc(65536, 7)),
          { at: 65536 }
        )
        const grows = depth => {
          try {
            return exports.deep(depth) >= 0
          } catch (error) {
            if (error.name !== 'RangeError') throw error
            return false
          }
        }
        const deepest = () => {
          let [low, high] = [10, 1_000_000]
          while (high - low > 1) {
            const depth = (low + high) >> 1
            if (grows(depth)) low = depth
            else high = depth
          }
          return low
        }
        // The first call compiles, and what JavaScript calls gets smaller frames once.
        let low = 0
        for (let last = -1; low !== last;) {
          last = low
          low = deepest()
        }
        const found = new Set()
        for (let depth = low - 150; depth < low + 250; depth++) {
          const before = exports.memory.buffer.byteLength
          const grown = grows(depth)
          let store = 'wrote'
          try {
            exports.store(mapping.address)
          } catch (error) {
            store = error.name
          }
          found.add(`${grown} ${exports.memory.buffer.byteLength > before} ${store}`)
        }
        return [...found].sort()
      },
      // Code that TurboFan compiles meanwhile has smaller frames, an eighth of Liftoff's on Node.js
      // 24, and the end is elsewhere. `--no-wasm-tier-up` does not keep it from that there.
      { flags: ['--stack-size=500', '--liftoff-only'] }
    )
    expect(result).toEqual(['false false RuntimeError', 'true true RuntimeError'])
  })
})

describe('instrumentGrowth', () => {
  test('leaves a module alone that does not grow', async () => {
    const bytes = await assemble('(module (memory (export "memory") 1))')
    const made = instrumentGrowth(bytes, { limit: 1 })
    expect(Buffer.from(made.bytes)).toEqual(bytes)
    expect(made).toBeInstanceOf(InstrumentedModule)
    expect(pages((await made.instantiate()).exports.memory)).toBe(1)
  })

  test('goes with exposeState, in both orders', async () => {
    const bytes = await assemble(
      growWat(
        '(memory 1 10) (global $g (mut i32) (i32.const 5))',
        'i32',
        '(func (export "g") (result i32) (global.get $g))'
      )
    )
    const growthFirst = instrumentGrowth(bytes, { limit: 2 * WASM_PAGE })
    const exposedFirst = instrumentGrowth(exposeState(bytes), { limit: 2 * WASM_PAGE })
    for (const [code, made] of [
      [exposeState(growthFirst.bytes), growthFirst],
      [exposedFirst.bytes, exposedFirst]
    ]) {
      const { imports, bind } = made.importsFor()
      const instance = new WebAssembly.Instance(new WebAssembly.Module(code), imports)
      bind(instance)
      const { exports } = instance
      exports['hostmap:global:0'].value = 6
      expect([
        exports.grow(1),
        exports.grow(1),
        exports.g(),
        pages(exports['hostmap:memory'])
      ]).toEqual([1, -1, 6, 2])
      Snapshot.of(instance)
    }
  })

  test.each([
    ['no module', [undefined], 'ERR_INVALID_ARG_TYPE'],
    ['text', [Buffer.from('(module)')], 'ERR_INVALID_ARG_VALUE'],
    ['an unknown option', [Buffer.from('(module)'), { ongrow: () => {} }], 'ERR_INVALID_ARG_VALUE'],
    [
      'an onGrow that is no function',
      [Buffer.from('(module)'), { onGrow: true }],
      'ERR_INVALID_ARG_TYPE'
    ],
    ['a limit that is no size', [Buffer.from('(module)'), { limit: -1 }], 'ERR_OUT_OF_RANGE']
  ])('refuses %s', (_, args, code) => {
    expectError(
      thrownBy(() => instrumentGrowth(...args)),
      { code }
    )
  })

  test('refuses code that it can not read', async () => {
    const bytes = Uint8Array.from(await assemble(OWN.replace('memory.size', '(i32.const 99)')))
    bytes[Buffer.from(bytes).lastIndexOf(Buffer.from([0x41, 0xe3]))] = 0x27
    expectError(
      thrownBy(() => instrumentGrowth(bytes)),
      { code: 'ERR_HOSTMAP_UNSUITABLE_MODULE', says: /read/ }
    )
  })

  test('has an error with a code for what is no instance, and no imports', async () => {
    const made = instrumentGrowth(await assemble(OWN))
    const code = 'ERR_INVALID_ARG_TYPE'
    expectError(
      thrownBy(() => made.importsFor().bind({})),
      { code }
    )
    expectError(
      thrownBy(() => made.importsFor(5)),
      { code }
    )
    expectError(
      thrownBy(() => new InstrumentedModule()),
      { code: 'ERR_ILLEGAL_CONSTRUCTOR' }
    )
  })
})

describe('a pool', () => {
  test('watches the growth of its instances, and shows nothing of how', async () => {
    const bytes = await assemble(growWat('(memory 1 10)'))
    const seen = []
    const onGrow = ({ newByteLength, memory }) =>
      void seen.push([newByteLength / WASM_PAGE, memory])
    const growth = { onGrow, limit: 3 * WASM_PAGE }
    const pool = await InstancePool.create(bytes, { growth, accept: ['grown-memory'], max: 1 })
    for (let round = 0; round < 2; round++) {
      await pool.run(({ exports, memory }) => {
        expect(Object.keys(exports)).toEqual(['grow', 'size', 'store'])
        const before = exports.size()
        expect([exports.grow(3), exports.grow(0)]).toEqual([-1, before])
        if (round === 0) {
          const mapping = memory.map(HostRegion.copyFrom(Buffer.alloc(WASM_PAGE, 7)), { at: 0 })
          exports.grow(2)
          expect(() => exports.store(0, 1)).toThrow(TRAP)
          mapping.unmap()
        }
        expect(seen.splice(0)).toEqual(round === 0 ? [[3, memory]] : [])
      })
    }
    pool.close()
  })

  test('needs the bytes for that, and its states are none of the module as it was', async () => {
    const bytes = await assemble(OWN)
    expectError(
      await thrownBy(() =>
        InstancePool.create(new WebAssembly.Module(exposeState(bytes)), { growth: {} })
      ),
      {
        code: 'ERR_HOSTMAP_UNSUITABLE_MODULE',
        says: /bytes/
      }
    )
    expectError(await thrownBy(() => InstancePool.create(bytes, { growth: { limit: '1' } })), {
      code: 'ERR_INVALID_ARG_TYPE',
      says: /growth\.limit/
    })
    const pool = await InstancePool.create(bytes, { growth: {} })
    // Its functions have other indices.
    expectError(await thrownBy(() => pool.snapshot.instantiate(bytes)), {
      code: 'ERR_HOSTMAP_SNAPSHOT_MISMATCH'
    })
    const again = await InstancePool.create(bytes, {
      growth: { limit: 0 },
      snapshot: pool.snapshot
    })
    await again.run(({ exports }) => expect(exports.grow(1)).toBe(-1))
    const made = instrumentGrowth(bytes)
    expect(
      (await pool.snapshot.instantiate(made.bytes, made.importsFor().imports)).exports.grow(1)
    ).toBe(1)
    pool.close()
    again.close()
  })
})
