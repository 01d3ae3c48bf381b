'use strict'

// V8 may copy a memory to another place when it grows: always where there are no guards, and V8 11
// (Node.js 20) also where `mprotect` fails. The old place may be another memory's by then. Nothing
// may touch it, and each object says what became of it.

const { inChild } = require('./support/child')
const { nativePath } = require('./support/native')
const { rounds } = require('./support/rounds')
const { compileProbe } = require('./support/wasm')
const { skipUnless } = require('./support/skip')

const has64 = Number(process.versions.node.split('.')[0]) >= 24
const ADDRESSES = has64 ? ['i32', 'i64'] : ['i32']

// With so little address space V8 can't reserve what a memory may grow into, so it copies.
const copies = { flags: ['--disable-wasm-trap-handler', '--expose-gc'], ulimit: '-v 2000000' }

beforeAll(() => Promise.all(['i32', ...ADDRESSES].map(address => compileProbe({ address }))))

/** For children: a memory of a kind, and how to make V8 move it. */
const PRELUDE = `
  const { GuardedMemory, HostRegion } = hostmap
  const { address } = args
  const size = address === 'i64' ? BigInt : Number
  const native = require(args.binding)
  const fs = require('node:fs')
  const baseOf = memory => native.baseOf(new Uint8Array(memory.buffer))
  const lineAt = at => fs.readFileSync('/proc/self/maps', 'latin1').split('\\n').find(line => {
    const [start, end] = line.split(' ')[0].split('-').map(it => parseInt(it, 16))
    return start <= at && at < end
  })
  const make = () => new WebAssembly.Memory(
    address === 'i64' ? { initial: 16n, address } : { initial: 16 }
  )
  // As a module does it: nobody here hears of it.
  const move = memory => {
    const before = baseOf(memory)
    memory.grow(size(64))
    assert.notEqual(baseOf(memory), before, 'V8 has moved it')
    return before
  }
  const codeOf = async call => (await failure(call))?.code ?? null
`
const binding = nativePath()

/** Runs a body in a child after the prelude. */
const inMovingChild = (body, address, options = copies) =>
  inChild(
    `async it => {
    const { hostmap, assert, failure, collect, probe, require, args } = it
    ${PRELUDE}
    return (${body})()
  }`,
    { ...options, args: { address, binding } }
  )

describe.each(ADDRESSES)('a memory (%s) that V8 has moved', address => {
  test('its mappings and windows say so, and can be unmapped', async () => {
    const seen = await inMovingChild(
      `async () => {
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
      const memory = make()
      const guarded = GuardedMemory.from(memory)
      const mapping = guarded.map(region, { at: 65536 })
      const window = guarded.window({ byteLength: 65536, at: 131072 })
      window.slide(region)
      const source = window.source(region, { chunk: 4096 })
      source.next()
      const before = move(memory)
      const there = lineAt(before + 65536)
      const codes = {
        slide: await codeOf(() => window.slide(region)),
        empty: await codeOf(() => window.slide(null)),
        source: await codeOf(() => source.next()),
        imported: await codeOf(() => source.imports.next(size(0))),
        chunks: await codeOf(() => [...window.chunks(region)]),
        prefetch: await codeOf(() => mapping.prefetch())
      }
      // V8's own copy has read past what the window shows.
      assert.deepEqual([mapping.faults, mapping.strayWrites, window.faults], [0, 0, 1])
      assert.deepEqual([mapping.unmapped, window.unmapped, guarded.mappings.length], [false, false, 0])
      mapping.unmap()
      window[Symbol.dispose]()
      assert.deepEqual([mapping.unmapped, window.unmapped], [true, true])
      assert.equal(lineAt(before + 65536), there, 'nobody touched the old place')
      // Copies of the bytes, in plain memory.
      const bytes = new Uint8Array(guarded.buffer)
      assert.deepEqual([65535, 65536, 131071].map(at => bytes[at]), [0, 7, 7])
      bytes[65536] = 8
      const again = guarded.map(region, { at: 65536 })
      assert.equal(new Uint8Array(guarded.buffer)[65536], 7)
      again.unmap()
      return codes
    }`,
      address
    )
    for (const code of Object.values(seen)) expect(code).toBe('ERR_HOSTMAP_MEMORY_MOVED')
  })

  test('unmap and dispose give the blocks of an allocator back, once', async () => {
    const freed = await inMovingChild(
      `async () => {
      const region = HostRegion.copyFrom(Buffer.alloc(4096, 7))
      const memory = make()
      const guarded = GuardedMemory.from(memory)
      let next = 65536
      const freed = []
      const allocator = { malloc: () => size(next += 65536), free: pointer => freed.push(Number(pointer)) }
      const mapping = guarded.map(region, { allocator })
      const window = guarded.window({ byteLength: 4096, allocator })
      move(memory)
      for (const it of [mapping, window, mapping, window]) it[Symbol.dispose]()
      return freed
    }`,
      address
    )
    expect(freed).toEqual([131072, 196608])
  })

  test('the next memory at the old place is safe from the old objects, and they from it', async () => {
    const same = await inMovingChild(
      `async () => {
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
      const memory = make()
      const guarded = GuardedMemory.from(memory)
      const mapping = guarded.map(region, { at: 65536 })
      const window = guarded.window({ byteLength: 65536, at: 131072 })
      const before = move(memory)
      const others = []
      let other
      for (let i = 0; i < ${rounds(10, 40)} && !other; i++) {
        others.push(make())
        if (baseOf(others.at(-1)) === before) other = others.at(-1)
      }
      if (other === undefined) return 'V8 chose other places'
      new Uint8Array(other.buffer).fill(9)
      const theirs = GuardedMemory.from(other.buffer.byteLength > 0 ? other : null)
      assert.notEqual(theirs, guarded)
      const mapped = theirs.map(region, { at: 262144 })
      await codeOf(() => window.slide(region))
      mapping.unmap()
      window.unmap()
      const bytes = new Uint8Array(other.buffer)
      assert.deepEqual([65536, 131072, 262144].map(at => bytes[at]), [9, 9, 7])
      assert.equal(theirs.mappings[0], mapped)
      mapped.unmap()
      assert.equal(bytes[262144], 0)
    }`,
      address
    )
    expect([null, 'V8 chose other places']).toContain(same)
  })

  test('a restore puts everything back anew; a snapshot, a reset and the layout are of the new place', async () => {
    await inMovingChild(
      `async () => {
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
      const memory = make()
      const guarded = GuardedMemory.from(memory)
      guarded.map(region, { at: 65536 })
      guarded.window({ byteLength: 65536, at: 131072 }).slide(region)
      new Uint8Array(memory.buffer)[5] = 5
      const snapshot = guarded.snapshot()
      guarded.restore(snapshot)
      move(memory)
      new Uint8Array(memory.buffer).fill(1)
      guarded.restore(snapshot)
      const bytes = new Uint8Array(memory.buffer)
      assert.deepEqual([5, 6, 65536, 131072, 196608].map(at => bytes[at]), [5, 0, 7, 7, 0])
      assert.equal(guarded.mappings.length, 2)
      assert.deepEqual(guarded.mappings.map(it => it.region), [region, region])
      assert.equal(guarded.layout().ranges.filter(range => range.kind === 'mapped').length, 2)
      guarded.restore(snapshot)
      guarded.mappings.forEach(it => it.unmap())
      guarded.reset()
      assert.ok(new Uint8Array(memory.buffer).every(byte => byte === 0))
    }`,
      address
    )
  })

  test('known by its buffer alone: unmap works, and the new buffer is that of a new object', async () => {
    const seen = await inMovingChild(
      `async () => {
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
      const memory = make()
      const seen = []
      for (const how of ['buffer', 'function']) {
        // Without the trap handler nothing proves what a buffer is.
        let guarded
        try {
          guarded = GuardedMemory.from(how === 'buffer' ? memory.buffer : () => memory.buffer)
        } catch (error) {
          seen.push(error.code)
          continue
        }
        seen.push(guarded.guarded)
      }
      return seen
    }`,
      address
    )
    expect(seen).toEqual(['ERR_HOSTMAP_NOT_WASM_MEMORY', 'ERR_HOSTMAP_NOT_WASM_MEMORY'])
  })

  test('the object is one for the memory, wherever it is', async () => {
    await inMovingChild(
      `async () => {
      const memory = make()
      const guarded = GuardedMemory.from(memory)
      for (let i = 0; i < 3; i++) {
        move(memory)
        assert.equal(GuardedMemory.from(memory), guarded)
        assert.equal(guarded.byteLength, memory.buffer.byteLength)
        assert.equal(guarded.guarded, false)
      }
      // What it leaves behind is not kept.
      assert.equal(guarded.layout().ranges.filter(range => range.kind === 'mapped').length, 0)
    }`,
      address
    )
  })
})

// Node.js 20 alone: V8 11 copies a memory with guards where mprotect fails, and a collection frees
// room.
const copiesGuarded = process.versions.v8.startsWith('11.')
skipUnless('needs V8 11, of Node.js 20', copiesGuarded).describe(
  'a guarded memory that V8 11 moves, as mprotect fails',
  () => {
    const options = { ulimit: '-d 4194304', flags: ['--expose-gc'] }

    test.each([
      ['unmap', 'WebAssembly.Memory'],
      ['slide', 'WebAssembly.Memory'],
      ['source', 'WebAssembly.Memory'],
      ['prefetch', 'WebAssembly.Memory'],
      ['unmap', 'buffer'],
      ['slide', 'buffer'],
      ['unmap', 'function'],
      ['slide', 'function']
    ])(
      '%s, of a memory known by its %s, leaves the memory at the old place as it is',
      async (what, how) => {
        const seen = await inMovingChild(
          `async () => {
      const [what, how] = args.address
      const region = HostRegion.copyFrom(Buffer.alloc(4 << 20, 7))
      const memory = new WebAssembly.Memory({ initial: 1 })
      const known = GuardedMemory.from(
        how === 'buffer' ? memory.buffer : how === 'function' ? () => memory.buffer : memory
      )
      // The buffer alone can't be grown from here.
      memory.grow(200)
      if (how === 'buffer') GuardedMemory.from(memory.buffer)
      const at = how === 'WebAssembly.Memory' ? [undefined, undefined] : [65536, 8 << 20]
      const mapping = known.map(region, { at: at[0] })
      const window = known.window({ byteLength: 4 << 20, at: at[1] })
      window.slide(region)
      const source = window.source(region, { chunk: 65536 })
      source.next()
      // What fills RLIMIT_DATA: garbage that a collection would free. Less than one more is left,
      // for V8's own heap.
      let garbage = []
      try {
        for (;;) garbage.push(new WebAssembly.Memory({ initial: 4096 }))
      } catch {}
      garbage = null
      const before = baseOf(memory)
      memory.grow(4200)
      if (baseOf(memory) === before) return { moved: false }
      let victim
      const victims = []
      for (let i = 0; i < 40 && !victim; i++) {
        victims.push(new WebAssembly.Memory({ initial: 1 }))
        if (baseOf(victims.at(-1)) === before) victim = victims.at(-1)
      }
      const there = lineAt(before + mapping.address)
      const code = await codeOf(() => {
        if (what === 'unmap') mapping.unmap()
        if (what === 'slide') window.slide(region, 4096)
        if (what === 'source') source.next()
        if (what === 'prefetch') return mapping.prefetch()
      })
      assert.equal(lineAt(before + mapping.address), there)
      if (victim !== undefined) {
        const guest = await probe(victim)
        for (const { address } of [mapping, window]) assert.throws(() => guest.load8(address), /out of bounds/)
        const other = GuardedMemory.from(victim.buffer)
        assert.notEqual(other, known)
      }
      window.unmap()
      mapping.unmap()
      // The copy has guards again, and says so.
      const again = GuardedMemory.from(memory.buffer)
      const { guarded } = again
      assert.equal(again === known, how === 'WebAssembly.Memory')
      again.map(region, { at: 65536 })
      assert.equal(new Uint8Array(memory.buffer)[65536], 7)
      return { moved: true, code, guarded, victim: victim !== undefined }
    }`,
          [what, how],
          options
        )
        expect(seen.moved).toBe(true)
        expect(seen.guarded).toBe(true)
        expect(seen.code).toBe(what === 'unmap' ? null : 'ERR_HOSTMAP_MEMORY_MOVED')
      }
    )
  }
)

skipUnless('needs Node.js 24 or later', has64).describe(
  '64-bit memories under --no-wasm-memory64-trap-handling',
  () => {
    test.each([[undefined], [1], [100_000]])(
      'with the maximum %s are not guarded, and say so',
      async maximum => {
        const seen = await inChild(
          async ({ hostmap, args: { maximum } }) => {
            const { GuardedMemory } = hostmap
            const descriptor = { initial: 1n, address: 'i64' }
            if (maximum) descriptor.maximum = BigInt(maximum)
            const memory = new WebAssembly.Memory(descriptor)
            return [
              GuardedMemory.from(memory).guarded,
              new GuardedMemory({ ...descriptor, initial: 1 }).guarded,
              new GuardedMemory({ initial: 1 }).guarded
            ]
          },
          { flags: ['--no-wasm-memory64-trap-handling'], args: { maximum } }
        )
        expect(seen).toEqual([false, false, true])
      }
    )
  }
)

test('nothing but growth moves a memory or takes its buffer away', async () => {
  await inChild(async ({ hostmap, assert, require }) => {
    const { GuardedMemory, HostRegion } = hostmap
    const { MessageChannel } = require('node:worker_threads')
    const guarded = new GuardedMemory({ initial: 4, maximum: 8 })
    const region = HostRegion.copyFrom(Buffer.alloc(4096, 7))
    const mapping = guarded.map(region, { at: 65536 })
    const { port1 } = new MessageChannel()
    const attempts = [
      buffer => buffer.transfer(),
      buffer => buffer.transferToFixedLength(),
      buffer => structuredClone(buffer, { transfer: [buffer] }),
      buffer => port1.postMessage(buffer, [buffer])
    ]
    for (const attempt of attempts) {
      try {
        attempt(guarded.buffer)
      } catch {
        // Refused, or not there.
      }
      assert.equal(guarded.byteLength, 4 * 65536)
      assert.equal(new Uint8Array(guarded.buffer)[65536], 7)
    }
    port1.close()
    // V8 14: a memory's buffer may become one that grows in place, and back.
    if (guarded.memory.toResizableBuffer !== undefined) {
      guarded.memory.toResizableBuffer()
      guarded.grow(1)
      assert.equal(guarded.byteLength, 5 * 65536)
      guarded.memory.buffer.resize(6 * 65536)
      const other = guarded.map(region, { at: 5 * 65536 })
      assert.equal(new Uint8Array(guarded.buffer)[5 * 65536], 7)
      guarded.memory.toFixedLengthBuffer()
      other.unmap()
    }
    mapping.unmap()
    assert.deepEqual([new Uint8Array(guarded.buffer)[65536], guarded.mappings], [0, []])
  })
})
