'use strict'

// What a script or a file could do to the memory of others: each of these once left a hole in a
// linear memory, reached past its end, or touched what was unmapped.

const fs = require('node:fs')
const { HostRegion, GuardedMemory, limits } = require('..')
const { inChild } = require('./support/child')
const { thrownBy, expectError } = require('./support/errors')
const { skipUnless } = require('./support/skip')

const hasTransfer = typeof ArrayBuffer.prototype.transfer === 'function'

const NOTES = '/sys/kernel/notes'
skipUnless(`needs ${NOTES}`, fs.existsSync(NOTES)).test(
  'a file that can be read and not mapped is refused before it takes the place of anything',
  () => {
    // The kernel calls such a file's own mmap operation when the old pages are gone already.
    const error = thrownBy(() => HostRegion.open(NOTES))
    expectError(error, { code: 'ERR_HOSTMAP_NOT_A_FILE', says: [NOTES, /mapped/] })
  }
)

skipUnless('needs ArrayBuffer.prototype.transfer', hasTransfer).test(
  'a view whose bytes went to another thread can be read when its own thread has ended',
  async () => {
    const seen = await inChild(async ({ require }) => {
      const { Worker } = require('node:worker_threads')
      const main = require.resolve('../..')
      const worker = new Worker(
        `const { HostRegion } = require(${JSON.stringify(main)})
       const view = HostRegion.copyFrom(Buffer.alloc(65536, 7)).view()
       const taken = view.transfer()
       require('node:worker_threads').parentPort.postMessage(taken, [taken])
       setInterval(() => {}, 1000)`,
        { eval: true }
      )
      const buffer = await new Promise(resolve => worker.once('message', resolve))
      const before = new Uint8Array(buffer)[5]
      // When it has ended, its finalizers have run.
      await worker.terminate()
      new Uint8Array(buffer)[6] = 1
      return { before, after: new Uint8Array(buffer)[5] }
    })
    expect(seen).toEqual({ before: 7, after: 0 })
  }
)

test('a foreign memfd or file that can shrink is looked at before it is mapped', () => {
  const path = `${require('node:os').tmpdir()}/memfd:${process.pid} (deleted)`
  fs.writeFileSync(path, Buffer.alloc(65536, 1))
  try {
    const region = HostRegion.open(path)
    expect(region.backing).toBe('file')
    fs.truncateSync(path, 4096)
    const guarded = new GuardedMemory({ initial: 1 })
    expectError(
      thrownBy(() => guarded.map(region, { at: 0 })),
      { code: 'ERR_HOSTMAP_FILE_SHRUNK' }
    )
    region.close()
  } finally {
    fs.unlinkSync(path)
  }
})

test('buffers that can change their size are no memories, whatever they say of themselves', () => {
  const tooLarge = 2 ** 33 + 2 ** 31
  const buffers = []
  try {
    const buffer = new ArrayBuffer(65536, { maxByteLength: tooLarge })
    Object.defineProperty(buffer, 'resizable', { value: false })
    buffers.push(buffer)
    buffers.push(new SharedArrayBuffer(65536, { maxByteLength: tooLarge }))
  } catch {
    // This V8 makes none so large.
  }
  for (const buffer of buffers) {
    expectError(
      thrownBy(() => GuardedMemory.from(buffer)),
      { code: 'ERR_HOSTMAP_NOT_WASM_MEMORY' }
    )
  }
})

test('memories and views are refused while V8 has mappings left', async () => {
  const { viewCode, memoryCode } = await inChild(async ({ hostmap, failure }) => {
    const region = hostmap.HostRegion.allocate(1)
    const views = []
    const viewCode = (
      await failure(() => {
        for (;;) views.push(region.view())
      })
    ).code
    const memories = []
    const memoryCode = (
      await failure(() => {
        for (let i = 0; i < 9000; i++) memories.push(new hostmap.GuardedMemory({ initial: 1 }))
      })
    ).code
    return { viewCode, memoryCode }
  })
  expect(viewCode).toBe('ERR_HOSTMAP_MAP_COUNT')
  expect(memoryCode).toBe('ERR_HOSTMAP_MAP_COUNT')
})

describe('a window', () => {
  const PAGE = limits().pageSize
  const make = () => {
    const guarded = new GuardedMemory({ initial: 4, maximum: 64 })
    const region = HostRegion.copyFrom(Buffer.alloc(8 * PAGE, 7))
    const other = HostRegion.copyFrom(Buffer.alloc(8 * PAGE, 9))
    const window = guarded.window({ byteLength: 4 * PAGE, at: 65536 })
    return { guarded, region, other, window, bytes: () => new Uint8Array(guarded.buffer) }
  }

  test('that its own options unmap is not slid over what came in its place', () => {
    for (const name of ['byteLength', 'access']) {
      for (const replace of [
        ({ guarded, other }) => guarded.map(other, { at: 65536 }),
        ({ guarded, other }) => guarded.window({ byteLength: PAGE, at: 65536 }).slide(other, 0),
        () => {}
      ]) {
        const all = make()
        const { region, window, bytes } = all
        const options = {
          get [name]() {
            window.unmap()
            replace(all)
            return undefined
          }
        }
        const error = thrownBy(() => window.slide(region, 0, options))
        expectError(error, { code: 'ERR_HOSTMAP_WINDOW_UNMAPPED' })
        expect(bytes()[65536]).toBe(replace.length === 0 ? 0 : 9)
        expect(window).toMatchObject({ unmapped: true, region: null, shownBytes: 0 })
      }
    }
  })

  test('is not slid to a region that its own options close, nor past a memory that they grow', () => {
    const { guarded, region, other, window, bytes } = make()
    window.slide(other, 0)
    const closes = {
      get byteLength() {
        region.close()
        return 1
      }
    }
    expectError(
      thrownBy(() => window.slide(region, 0, closes)),
      { code: 'ERR_HOSTMAP_REGION_CLOSED' }
    )
    expect(window.region).toBe(other)
    const grows = {
      get byteLength() {
        guarded.grow(1)
        return PAGE
      }
    }
    window.slide(other, PAGE, grows)
    expect(bytes()[65536]).toBe(9)
    expect(window.shownBytes).toBe(PAGE)
  })

  test('opened with options that answer differently each time stays inside the memory', () => {
    const { guarded } = make()
    const answers = [0, 100 * 65536, 100 * 65536]
    const window = guarded.window({
      get at() {
        return answers.shift()
      },
      byteLength: PAGE
    })
    expect(window.address).toBe(0)
    window.unmap()
  })

  test('whose allocator uses the memory itself is refused what it took, and nothing is lost', () => {
    const { guarded, region, bytes } = make()
    const before = guarded.layout().ranges.map(({ kind, start, end }) => [kind, start, end])
    const freed = []
    let inner
    const allocator = {
      malloc() {
        inner = guarded.window({ byteLength: PAGE, at: 2 * 65536 + PAGE })
        inner.slide(region, 0)
        return 2 * 65536
      },
      free: address => void freed.push(address)
    }
    expectError(
      thrownBy(() => guarded.window({ byteLength: 4 * PAGE, allocator })),
      { code: 'ERR_HOSTMAP_OVERLAP' }
    )
    expect(freed).toEqual([2 * 65536])
    expect(bytes()[inner.address]).toBe(7)
    inner.unmap()
    expect(guarded.layout().ranges.map(({ kind, start, end }) => [kind, start, end])).toEqual(
      before
    )
  })

  test('whose `free` throws, or unmaps it again, is gone all the same', () => {
    const { guarded, region, bytes } = make()
    const mine = new Error('mine')
    let times = 0
    const allocator = {
      malloc: () => 2 * 65536,
      free() {
        times++
        window.unmap()
        throw mine
      }
    }
    const window = guarded.window({ byteLength: PAGE, allocator })
    window.slide(region, 0)
    expect(() => window.unmap()).toThrow(mine)
    window.unmap()
    expect([times, window.unmapped, bytes()[window.address]]).toEqual([1, true, 0])
  })

  test('that a loop over it unmaps, slides, closes under and restarts shows right bytes or throws', () => {
    const { region, other, window } = make()
    let nested = false
    const chunks = window.chunks(region, {
      chunk: PAGE,
      onProgress(done) {
        if (done === 2 * PAGE) window.slide(other, 0)
        if (done === 6 * PAGE) window.unmap()
        if (done !== 3 * PAGE || nested) return
        nested = true
        for (const { bytes } of chunks) if (bytes[0] !== 7) throw new Error('wrong byte')
      }
    })
    const seen = []
    const error = thrownBy(() => {
      for (const { bytes, byteOffset } of chunks) seen.push([byteOffset / PAGE, bytes[0]])
    })
    // The loop inside ends the loop outside: it unmaps the window when it gets so far.
    expectError(error, { code: 'ERR_HOSTMAP_WINDOW_UNMAPPED' })
    expect(seen).toEqual([
      [0, 7],
      [1, 7],
      [2, 7]
    ])
  })

  test('whose import is called from within itself keeps its count', () => {
    const { region, window } = make()
    const source = window.source(region, { chunk: PAGE })
    let inside = false
    const keep = {
      valueOf() {
        inside = true
        source.next()
        return 0
      }
    }
    // A module hands over numbers; a script may hand over anything.
    try {
      source.imports.next(keep)
    } catch (error) {
      expect(error.name).toBe('TypeError')
    }
    const { position, start } = source
    expect(position - start).toBe(position === 0 ? 0 : PAGE)
    expect(position).toBeLessThanOrEqual(inside ? 2 * PAGE : PAGE)
  })

  test('in a module that grows its memory between calls, and in the call, is at its address still', async () => {
    const seen = await inChild(async ({ hostmap, assemble }) => {
      const { HostRegion, GuardedMemory } = hostmap
      const binary = await assemble(`(module
        (import "env" "next" (func $next (param i32) (result i32)))
        (import "env" "pointer" (func $pointer (result i32)))
        (memory (export "memory") 4 64)
        (func (export "grow") (drop (memory.grow (i32.const 1))))
        (func (export "all") (result i32) (local $count i32)
          (loop $again
            (drop (memory.grow (i32.const 1)))
            (if (call $next (i32.const 0)) (then
              (if (i32.ne (i32.load8_u (call $pointer)) (i32.const 7)) (then unreachable))
              (local.set $count (i32.add (local.get $count) (i32.const 1)))
              (br $again))))
          (local.get $count)))`)
      const page = hostmap.limits().pageSize
      let source
      const env = {
        next(keep) {
          exports.grow()
          return source.imports.next(keep)
        },
        pointer: () => source.imports.pointer()
      }
      const { exports } = new WebAssembly.Instance(new WebAssembly.Module(binary), { env })
      const guarded = GuardedMemory.from(exports.memory)
      const region = HostRegion.copyFrom(Buffer.alloc(20 * page, 7))
      source = guarded.window({ byteLength: 4 * page, at: 65536 }).source(region, { chunk: page })
      return { count: exports.all(), wasmPages: guarded.byteLength / 65536 }
    })
    expect(seen).toEqual({ count: 20, wasmPages: 4 + 2 * 21 })
  })

  test('and many of them, of many regions, leave V8 its mappings', async () => {
    const seen = await inChild(async ({ hostmap, failure }) => {
      const { HostRegion, GuardedMemory, limits } = hostmap
      const { pageSize } = limits()
      const held = []
      const { code } = await failure(() => {
        for (;;) {
          const guarded = new GuardedMemory({ initial: 64, maximum: 64 })
          for (let at = 0; at < 64 * 65536; at += 2 * pageSize) {
            const window = guarded.window({ byteLength: pageSize, at })
            window.slide(HostRegion.allocate(2 * pageSize), 1)
            held.push(window)
          }
        }
      })
      const { used, limit } = limits().mapCount
      // What is there goes on.
      held[0].slide(held.at(-1).region ?? held[1].region, 0)
      new WebAssembly.Memory({ initial: 1 }).grow(1)
      return { code, left: limit - used, limit }
    })
    expect(['ERR_HOSTMAP_MAP_COUNT', 'ERR_HOSTMAP_TOO_MANY_FILES']).toContain(seen.code)
    expect(seen.left).toBeGreaterThan(seen.limit / 20)
  })
})

test('a script that changes what a typed array says of its length does not get past the end of a memory', async () => {
  const seen = await inChild(async ({ hostmap, failure, probe }) => {
    const { HostRegion, GuardedMemory } = hostmap
    const guarded = new GuardedMemory({ initial: 1, maximum: 100 })
    const guest = await probe(guarded.memory)
    const region = HostRegion.copyFrom(Buffer.alloc(65536, 5))
    const inside = guarded.map(region, { at: 0 })
    const snapshot = guarded.snapshot()
    const TypedArray = Object.getPrototypeOf(Uint8Array)
    const { get } = Object.getOwnPropertyDescriptor(TypedArray.prototype, 'length')
    Object.defineProperty(TypedArray.prototype, 'length', {
      get() {
        return this.buffer === guarded.buffer ? 2 ** 20 : get.call(this)
      },
      configurable: true
    })
    const codes = []
    for (const call of [
      () => guarded.map(region, { at: 131072 }),
      () => guarded.window({ byteLength: 65536, at: 131072 }),
      () => guarded.restore(snapshot),
      () => guarded.reset(),
      () => inside.unmap()
    ])
      codes.push((await failure(call))?.code ?? null)
    const { byteLength } = guarded
    const trapped = []
    for (const at of [65536, 131072]) trapped.push((await failure(() => guest.load8(at)))?.name)
    return { codes, byteLength, trapped }
  })
  expect(seen).toEqual({
    codes: ['ERR_OUT_OF_RANGE', 'ERR_OUT_OF_RANGE', null, null, null],
    byteLength: 65536,
    trapped: ['RuntimeError', 'RuntimeError']
  })
})
