'use strict'

// Buffers that a memory takes over: their bytes, places and lives, what can't be moved, and the way
// back.

const { execFileSync } = require('node:child_process')
const { subscribe, unsubscribe } = require('node:diagnostics_channel')
const { once } = require('node:events')
const { inspect } = require('node:util')
const { Worker, markAsUntransferable } = require('node:worker_threads')
const {
  AdoptedBuffer,
  GuardedMemory,
  HostRegion,
  InstancePool,
  inspect: inspectProcess,
  limits
} = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { inChild } = require('./support/child')
const { kinds } = require('./support/memories')
const { noise } = require('./support/files')
const { KiB, MiB, WASM_PAGE, assemble, probe } = require('./support/wasm')

const HOST_PAGE = limits().pageSize

/** A buffer with an allocation of its own. */
function bufferOf(bytes) {
  const buffer = new ArrayBuffer(bytes.length)
  Buffer.from(buffer).set(bytes)
  return buffer
}
const linear = guarded => Buffer.from(guarded.buffer)
const shown = ({ memory, address, byteLength }) =>
  linear(memory).subarray(address, address + byteLength)
const isZero = bytes => bytes.every(byte => byte === 0)

const makeOwn = (initial = 1, maximum = 1024) => new GuardedMemory({ initial, maximum })

describe('adopt and release', () => {
  test('a large buffer is moved back before V8 has one again, and `free` may throw all the same', () => {
    const guarded = makeOwn(1, 4096)
    const contents = noise(64 * MiB + 5)
    let isBroken = false
    const allocator = {
      malloc: byteLength => guarded.grow(Math.ceil(byteLength / WASM_PAGE)) * WASM_PAGE + 8,
      free() {
        if (isBroken) throw new Error('no')
      }
    }
    let buffer = bufferOf(contents)
    for (const options of [{}, { allocator }]) {
      const adopted = guarded.adopt(buffer, { copy: 'never', ...options })
      expect(shown(adopted).equals(contents)).toBe(true)
      isBroken = true
      if (options.allocator) expect(thrownBy(() => adopted.release()).message).toBe('no')
      isBroken = false
      buffer = adopted.release()
      expect(Buffer.from(buffer).equals(contents)).toBe(true)
      expectError(
        thrownBy(() => adopted.release()),
        { code: 'ERR_HOSTMAP_MAPPING_UNMAPPED', says: 'released' }
      )
    }
  })

  test.each([MiB, 4 * MiB, 256 * KiB, 128 * KiB, 100 * KiB, 10 * KiB, 1])(
    'a buffer of %d bytes is in the memory, is detached, and comes back as it is by then',
    byteLength => {
      const contents = noise(byteLength)
      const guarded = makeOwn()
      const buffer = bufferOf(contents)
      const view = new Uint8Array(buffer)
      const adopted = guarded.adopt(buffer)
      expect(view.length).toBe(0)
      expect(thrownBy(() => new Uint8Array(buffer))).not.toBeNull()
      expect(adopted).toBeInstanceOf(AdoptedBuffer)
      expect(adopted).toMatchObject({ byteLength, memory: guarded, unmapped: false })
      expect(adopted.pointer).toBe(adopted.address)
      expect(adopted.address).toBeGreaterThanOrEqual(WASM_PAGE)
      expect(shown(adopted).equals(contents)).toBe(true)
      expect(guarded.mappings).toEqual([adopted])

      shown(adopted)[byteLength >> 1] ^= 0xff
      const { address } = adopted
      const back = adopted.release()
      contents[byteLength >> 1] ^= 0xff
      expect(Buffer.from(back).equals(contents)).toBe(true)
      expect(adopted.unmapped).toBe(true)
      expect(guarded.mappings).toEqual([])
      expect(isZero(linear(guarded).subarray(address, address + byteLength))).toBe(true)
      expectError(
        thrownBy(() => adopted.release()),
        { code: 'ERR_HOSTMAP_MAPPING_UNMAPPED', says: 'released' }
      )
      adopted.unmap()
    }
  )

  test('whole pages are moved, and at most the two at the ends are copied', () => {
    const guarded = makeOwn()
    for (const byteLength of [128 * KiB, MiB + 5, 4 * MiB]) {
      const adopted = guarded.adopt(bufferOf(noise(byteLength)), { copy: 'never' })
      expect(adopted.whyCopied).toBeNull()
      expect(adopted.copiedBytes).toBeLessThan(2 * HOST_PAGE)
      const moved = byteLength - adopted.copiedBytes
      expect(moved % HOST_PAGE).toBe(0)
      adopted.unmap()
    }
  })

  test('the same memory goes there and back many times, and the place is used again', () => {
    const guarded = makeOwn()
    const contents = noise(3 * MiB)
    let buffer = bufferOf(contents)
    const addresses = new Set()
    for (let i = 0; i < 50; i++) {
      const adopted = guarded.adopt(buffer, { copy: 'never' })
      addresses.add(adopted.address)
      expect(shown(adopted).equals(contents)).toBe(true)
      buffer = adopted.release()
      expect(Buffer.from(buffer).equals(contents)).toBe(true)
    }
    expect(addresses.size).toBe(1)
    expect(guarded.byteLength).toBeLessThan(9 * MiB)
  })

  test.each(kinds)('the module of a $kind memory reads and writes it', async ({ make, grows }) => {
    const { guarded, guest } = await make(64, 1024)
    const contents = noise(192 * KiB)
    const adopted = guarded.adopt(bufferOf(contents), grows ? {} : { at: 8 * WASM_PAGE })
    expect(typeof adopted.pointer).toBe(guarded.address === 'i64' ? 'bigint' : 'number')
    const at = offset =>
      guarded.address === 'i64' ? adopted.pointer + BigInt(offset) : adopted.pointer + offset
    expect(guest.load8(at(100_000))).toBe(contents[100_000])
    guest.store8(at(100_000), 7)
    guest.store8(at(0), 8)
    const back = Buffer.from(adopted.release())
    expect([back[0], back[100_000], back[1]]).toEqual([8, 7, contents[1]])
  })

  test('a growth of the memory leaves it as it is, writable', async () => {
    const guarded = makeOwn()
    const guest = await probe(guarded.memory)
    const contents = noise(MiB)
    const adopted = guarded.adopt(bufferOf(contents))
    guest.grow(3)
    guarded.grow(2)
    expect(shown(adopted).equals(contents)).toBe(true)
    guest.store8(adopted.address + 5000, 1)
    contents[5000] = 1
    expect(Buffer.from(adopted.release()).equals(contents)).toBe(true)
  })

  test('what is past its end in its last page, and before it in the first, is zeros', () => {
    const guarded = makeOwn(8)
    linear(guarded).fill(0xaa)
    const adopted = guarded.adopt(bufferOf(noise(130 * KiB + 1)), { at: WASM_PAGE })
    const start = adopted.address - (adopted.address % HOST_PAGE)
    const end = adopted.address + adopted.byteLength
    const memory = linear(guarded)
    expect(start).toBe(WASM_PAGE)
    expect(isZero(memory.subarray(start, adopted.address))).toBe(true)
    expect(isZero(memory.subarray(end, Math.ceil(end / HOST_PAGE) * HOST_PAGE))).toBe(true)
    expect(memory[start - 1]).toBe(0xaa)
    expect(memory[Math.ceil(end / HOST_PAGE) * HOST_PAGE]).toBe(0xaa)
  })

  test('of random lengths and places, every byte is right, there and back', () => {
    const guarded = makeOwn(64, 512)
    const contents = noise(2 * MiB)
    const random = numbers(11)
    for (let i = 0; i < 200; i++) {
      const byteLength = 1 + random(random(2) ? 2 * MiB : 200 * KiB)
      const bytes = contents
        .subarray(random(contents.length - byteLength + 1))
        .subarray(0, byteLength)
      const at = random(3) === 0 ? { at: random(128) * HOST_PAGE } : {}
      const adopted = guarded.adopt(bufferOf(bytes), at)
      if (!shown(adopted).equals(bytes)) throw new Error(`wrong in the memory: ${byteLength}, ${i}`)
      const back = Buffer.from(adopted.release())
      if (!back.equals(bytes)) throw new Error(`wrong when it is back: ${byteLength}, ${i}`)
    }
  })

  test('unmap drops it', () => {
    const guarded = makeOwn()
    const adopted = guarded.adopt(bufferOf(noise(MiB)))
    const { address } = adopted
    adopted.unmap()
    adopted.unmap()
    adopted[Symbol.dispose]()
    expect(adopted.unmapped).toBe(true)
    expect(isZero(linear(guarded).subarray(address, address + MiB))).toBe(true)
    const next = guarded.adopt(bufferOf(noise(MiB)))
    expect(guarded.mappings).toEqual([next])
    guarded[Symbol.dispose]()
    expect(next.unmapped).toBe(true)
    for (const gone of [adopted, next]) {
      expectError(
        thrownBy(() => gone.release()),
        { code: 'ERR_HOSTMAP_MAPPING_UNMAPPED', says: 'unmapped' }
      )
    }
  })

  test('looking at it shows what it is', () => {
    const guarded = makeOwn()
    const adopted = guarded.adopt(bufferOf(noise(128 * KiB)))
    expect(inspect(adopted)).toMatch(/^AdoptedBuffer \{\s+pointer: \d+,\s+byteLength: 131072,/)
    const range = guarded.layout().ranges.find(({ kind }) => kind === 'adopted')
    expect(range).toMatchObject({ access: 'private', region: null })
    expect(String(guarded.layout())).toMatch(/^@ adopted .* private$/m)
    expect(guarded.layout().ranges.some(({ kind }) => kind === 'mapped')).toBe(false)
    const seen = inspectProcess().memories.flatMap(({ mappings }) => mappings)
    expect(seen.find(({ kind }) => kind === 'adopted')).toMatchObject({
      regionId: null,
      access: 'private',
      ofThisThread: true
    })
  })
})

describe('places', () => {
  test('a large one is where its page tables can be moved: in free space, and in a block', () => {
    const contents = noise(5 * MiB)
    const guarded = makeOwn(1, 2048)
    const next = []
    const allocator = {
      malloc: byteLength => grown(guarded, byteLength),
      free: at => next.push(at)
    }
    for (const options of [{}, { allocator }]) {
      const adopted = guarded.adopt(bufferOf(contents), { copy: 'never', ...options })
      expect(shown(adopted).equals(contents)).toBe(true)
      adopted.release()
    }
    expect(next).toHaveLength(1)
  })
  const grown = (guarded, byteLength) =>
    guarded.grow(Math.ceil(byteLength / WASM_PAGE)) * WASM_PAGE + 8

  test("at: anywhere in the module's own memory, which is zeros afterwards", () => {
    const guarded = makeOwn(64)
    linear(guarded).fill(3)
    const contents = noise(MiB)
    const adopted = guarded.adopt(bufferOf(contents), { at: BigInt(7 * HOST_PAGE) })
    expect(adopted.address - (adopted.address % HOST_PAGE)).toBe(7 * HOST_PAGE)
    expect(shown(adopted).equals(contents)).toBe(true)
    const region = HostRegion.allocate(10)
    expectError(
      thrownBy(() => guarded.map(region, { at: 9 * HOST_PAGE })),
      { code: 'ERR_HOSTMAP_OVERLAP' }
    )
    const second = bufferOf(contents)
    expectError(
      thrownBy(() => guarded.adopt(second, { at: 8 * HOST_PAGE })),
      { code: 'ERR_HOSTMAP_OVERLAP' }
    )
    expect(Buffer.from(second).equals(contents)).toBe(true)
    adopted.unmap()
    region.close()
    expect(linear(guarded)[6 * HOST_PAGE]).toBe(3)
    expect(linear(guarded)[8 * HOST_PAGE]).toBe(0)
  })

  test('a block is given back once: by release, by unmap, and where adopting fails', () => {
    const guarded = makeOwn(64)
    const freed = []
    const allocator = { malloc: () => 5 * HOST_PAGE + 8, free: at => freed.push(at) }
    const contents = noise(MiB)
    const adopted = guarded.adopt(bufferOf(contents), { allocator })
    // Where in its page the buffer begins is V8's affair: at the very start, too.
    expect(adopted.address).toBeGreaterThanOrEqual(6 * HOST_PAGE)
    expect(adopted.address).toBeLessThan(7 * HOST_PAGE)
    expect(Buffer.from(adopted.release()).equals(contents)).toBe(true)
    expect(freed).toEqual([5 * HOST_PAGE + 8])
    guarded.adopt(bufferOf(contents), { allocator }).unmap()
    expect(freed).toHaveLength(2)
    const kept = guarded.adopt(bufferOf(contents), { at: 10 * HOST_PAGE })
    const buffer = bufferOf(contents)
    expectError(
      thrownBy(() => guarded.adopt(buffer, { allocator })),
      { code: 'ERR_HOSTMAP_OVERLAP' }
    )
    expect(freed).toHaveLength(3)
    expect(buffer.byteLength).toBe(MiB)
    kept.unmap()
  })

  test('what `free` throws comes out of release, and the bytes of a second one', () => {
    const guarded = makeOwn(64)
    const contents = noise(MiB)
    let isBroken = true
    const allocator = {
      malloc: () => 5 * HOST_PAGE + 8,
      free() {
        if (isBroken) throw new Error('no')
      }
    }
    const adopted = guarded.adopt(bufferOf(contents), { allocator })
    expect(thrownBy(() => adopted.release()).message).toBe('no')
    isBroken = false
    expect(Buffer.from(adopted.release()).equals(contents)).toBe(true)
    expectError(
      thrownBy(() => adopted.release()),
      { code: 'ERR_HOSTMAP_MAPPING_UNMAPPED' }
    )
  })

  test('a memory that is full refuses it, and the buffer is as it was', () => {
    const guarded = makeOwn(1, 4)
    const contents = noise(MiB)
    const buffer = bufferOf(contents)
    expectError(
      thrownBy(() => guarded.adopt(buffer)),
      { code: 'ERR_HOSTMAP_MEMORY_FULL' }
    )
    expect(Buffer.from(buffer).equals(contents)).toBe(true)
    expect(guarded.mappings).toEqual([])
  })

  test('an allocator that detaches the buffer finds it refused', () => {
    const guarded = makeOwn(64)
    const buffer = bufferOf(noise(MiB))
    const freed = []
    const allocator = {
      malloc() {
        structuredClone(buffer, { transfer: [buffer] })
        return HOST_PAGE
      },
      free: at => freed.push(at)
    }
    expectError(
      thrownBy(() => guarded.adopt(buffer, { allocator })),
      { code: 'ERR_INVALID_ARG_VALUE', says: 'meanwhile' }
    )
    expect(freed).toEqual([HOST_PAGE])
    expect(guarded.mappings).toEqual([])
  })
})

/** What can't be moved: why, and whether it is detached all the same where it is copied. */
const SIZE = 256 * KiB
const unmovable = [
  ['a small one', 'small', true, () => bufferOf(noise(60 * KiB))],
  ['a SharedArrayBuffer', 'shared', false, () => filled(new SharedArrayBuffer(SIZE))],
  [
    'a resizable one',
    'resizable',
    true,
    () => filled(new ArrayBuffer(SIZE, { maxByteLength: 2 * SIZE }))
  ],
  [
    'one that is marked as untransferable',
    'pinned',
    false,
    () => {
      const buffer = filled(new ArrayBuffer(SIZE))
      markAsUntransferable(buffer)
      return buffer
    }
  ],
  ["Node's pool of Buffers", 'pinned', false, () => Buffer.from('a text').buffer],
  [
    "another memory's",
    'pinned',
    false,
    () => filled(new WebAssembly.Memory({ initial: 4 }).buffer)
  ],
  ["a region's view", 'pinned', false, () => filled(HostRegion.allocate(SIZE).view())],
  ["a region's bytes", 'pinned', false, () => filled(HostRegion.allocate(SIZE).bytes().buffer)]
]
function filled(buffer) {
  Buffer.from(buffer).set(noise(buffer.byteLength))
  return buffer
}

describe.each(unmovable)('%s', (name, reason, isDetached, make) => {
  test("is refused with copy 'never', and nothing has happened", () => {
    const guarded = makeOwn()
    const buffer = make()
    const before = Buffer.from(Buffer.from(buffer))
    const error = thrownBy(() => guarded.adopt(buffer, { copy: 'never' }))
    expectError(error, { code: 'ERR_HOSTMAP_BUFFER_NOT_MOVABLE', says: "'allow'" })
    expect(error.reason).toBe(reason)
    expect(Buffer.from(buffer).equals(before)).toBe(true)
    expect([guarded.byteLength, guarded.mappings.length]).toEqual([WASM_PAGE, 0])
  })

  test('is copied otherwise, and what can be detached is', () => {
    const guarded = makeOwn()
    const buffer = make()
    const before = Buffer.from(Buffer.from(buffer))
    const adopted = guarded.adopt(buffer)
    expect(adopted).toMatchObject({ whyCopied: reason, copiedBytes: before.length })
    expect(shown(adopted).equals(before)).toBe(true)
    if (isDetached) expect(thrownBy(() => new Uint8Array(buffer))).not.toBeNull()
    else expect(Buffer.from(buffer).equals(before)).toBe(true)
    shown(adopted)[0] ^= 1
    const back = Buffer.from(adopted.release())
    back[0] ^= 1
    expect(back.equals(before)).toBe(true)
    if (!isDetached) expect(Buffer.from(buffer).equals(before)).toBe(true)
  })
})

describe('what else there is', () => {
  test('snapshots, restores, resets and pools refuse a memory with one', async () => {
    const guarded = makeOwn()
    const snapshot = guarded.snapshot()
    const contents = noise(MiB)
    const adopted = guarded.adopt(bufferOf(contents), {})
    for (const call of [
      () => guarded.snapshot(),
      () => guarded.restore(snapshot),
      () => guarded.reset()
    ]) {
      expectError(thrownBy(call), { code: 'ERR_HOSTMAP_OVERLAP', says: 'release' })
    }
    expect(shown(adopted).equals(contents)).toBe(true)
    adopted.release()
    guarded.restore(snapshot)
    guarded.reset()
    snapshot.close()

    const bytes = await assemble('(module (memory (export "memory") 2 1000))')
    const pool = await InstancePool.create(bytes, { size: 1 })
    const instance = await pool.acquire()
    instance.memory.adopt(bufferOf(contents))
    await thrownBy(() => instance.release())
    const next = await pool.acquire()
    expect(next.memory.mappings).toEqual([])
    expect(isZero(linear(next.memory))).toBe(true)
    pool.close()
  })

  test('beside mappings and windows, each keeps what it has', () => {
    const guarded = makeOwn(16)
    const contents = noise(MiB)
    const region = HostRegion.copyFrom(contents)
    const mapping = guarded.map(region)
    const adopted = guarded.adopt(bufferOf(contents))
    const window = guarded.window({ byteLength: 256 * KiB })
    window.slide(region, 4 * HOST_PAGE)
    expect(shown(adopted).equals(contents)).toBe(true)
    mapping.unmap()
    expect(shown(adopted).equals(contents)).toBe(true)
    guarded.checkFaults()
    expect(Buffer.from(adopted.release()).equals(contents)).toBe(true)
    expect(linear(guarded).readUInt32LE(window.address)).toBe(contents.readUInt32LE(4 * HOST_PAGE))
    region.close()
  })

  test('listeners hear of it as of mappings', () => {
    const heard = []
    const hear = (message, name) => heard.push([name, message])
    subscribe('wasm-hostmap:map', hear)
    subscribe('wasm-hostmap:unmap', hear)
    const guarded = makeOwn()
    const adopted = guarded.adopt(bufferOf(noise(128 * KiB)))
    const { address, byteLength } = adopted
    adopted.release()
    guarded.adopt(bufferOf(noise(10))).unmap()
    unsubscribe('wasm-hostmap:map', hear)
    unsubscribe('wasm-hostmap:unmap', hear)
    const channels = ['map', 'unmap', 'map', 'unmap'].map(name => `wasm-hostmap:${name}`)
    expect(heard.map(([name]) => name)).toEqual(channels)
    for (const [, message] of heard.slice(0, 2)) {
      const about = { kind: 'adopted', mapping: adopted, memory: guarded, address, byteLength }
      expect(message).toMatchObject({ ...about, region: null, access: 'private' })
    }
  })

  test('a child process is spawned meanwhile and afterwards', () => {
    const guarded = makeOwn()
    const adopted = guarded.adopt(bufferOf(noise(4 * MiB)))
    const say = () => execFileSync(process.execPath, ['-p', '1 + 1'], { encoding: 'utf8' }).trim()
    expect(say()).toBe('2')
    adopted.release()
    expect(say()).toBe('2')
  })

  test('other memories, workers and their ends have no part in it', async () => {
    const body = `
      const { parentPort, workerData } = require('node:worker_threads')
      const { GuardedMemory } = require(workerData.main)
      const guarded = new GuardedMemory({ initial: 1, maximum: 1024 })
      const adopted = guarded.adopt(workerData.buffer)
      const at = new Uint8Array(guarded.buffer)
      const sum = at.subarray(adopted.address, adopted.address + adopted.byteLength).reduce((a, b) => a + b, 0)
      globalThis.kept = guarded.adopt(new ArrayBuffer(2 ** 20))
      const back = adopted.release()
      parentPort.postMessage({ sum, back }, [back])`
    const contents = noise(MiB)
    const buffer = bufferOf(contents)
    const main = require.resolve('..')
    const worker = new Worker(body, {
      eval: true,
      workerData: { main, buffer },
      transferList: [buffer]
    })
    const ended = once(worker, 'exit')
    const [{ sum, back }] = await once(worker, 'message')
    await ended
    expect(sum).toBe(contents.reduce((a, b) => a + b, 0))
    expect(Buffer.from(back).equals(contents)).toBe(true)
    const guarded = makeOwn()
    const adopted = guarded.adopt(back, { copy: 'never' })
    expect(shown(adopted).equals(contents)).toBe(true)
  })

  test('a shared memory shows it to its workers', async () => {
    const guarded = new GuardedMemory({ initial: 1, maximum: 1024, shared: true })
    const contents = noise(MiB)
    const adopted = guarded.adopt(bufferOf(contents), { copy: 'never' })
    const body = `
      const { parentPort, workerData: { memory, address, byteLength } } = require('node:worker_threads')
      const bytes = new Uint8Array(memory.buffer, address, byteLength)
      parentPort.postMessage(bytes.reduce((a, b) => a + b, 0))
      bytes[77777] = 1`
    const { memory } = guarded
    const { address, byteLength } = adopted
    const worker = new Worker(body, { eval: true, workerData: { memory, address, byteLength } })
    const ended = once(worker, 'exit')
    const [sum] = await once(worker, 'message')
    await ended
    expect(sum).toBe(contents.reduce((a, b) => a + b, 0))
    contents[77777] = 1
    expect(Buffer.from(adopted.release()).equals(contents)).toBe(true)
  })
})

describe('in a process of its own', () => {
  test.each([16 * 1024, 8 * MiB])(
    'nothing is left of buffers of %i bytes that came and went, or whose memory did',
    async byteLength => {
      const left = await inChild(
        async ({ hostmap, collect, args: [byteLength] }) => {
          const { GuardedMemory } = hostmap
          const guarded = new GuardedMemory({ initial: 1, maximum: 8192 })
          const count = Math.min(500, 2 ** 28 / byteLength)
          const buffer = () => new ArrayBuffer(byteLength)
          const ports = () =>
            process.getActiveResourcesInfo().filter(each => each === 'MessagePort').length
          const before = process.memoryUsage().arrayBuffers
          for (let n = 0; n < count; n++) {
            guarded.adopt(buffer()).unmap()
            guarded.adopt(buffer()).release()
          }
          ;(() => {
            const dropped = new GuardedMemory({ initial: 1, maximum: 8192 })
            for (let n = 0; n < count / 4; n++) dropped.adopt(buffer())
          })()
          let more
          for (let rounds = 0; rounds < 50; rounds++) {
            await collect(1)
            more = process.memoryUsage().arrayBuffers - before
            if (more < 2 * byteLength) break
          }
          return { buffers: more / byteLength, ports: ports() }
        },
        { args: [byteLength], flags: ['--expose-gc'] }
      )
      expect(left.buffers).toBeLessThan(2)
      expect(left.ports).toBeLessThan(40)
    }
  )

  test('what is called when a channel is made may grow the memory, or take the buffer', async () => {
    const seen = await inChild(async ({ hostmap, require }) => {
      const { GuardedMemory } = hostmap
      const { createHook } = require('node:async_hooks')
      const MiB = 2 ** 20
      let then
      const init = (_id, type) => {
        if (type !== 'MESSAGEPORT' || then === undefined) return
        const once = then
        then = undefined
        once()
      }
      createHook({ init }).enable()
      const guarded = new GuardedMemory({ initial: 1, maximum: 4096 })
      const grown = new Uint8Array(MiB).fill(7).buffer
      then = () => guarded.memory.grow(3)
      const back = guarded.adopt(grown).release()
      // No channel is left to be used again.
      const kept = Array.from({ length: 20 }, () => guarded.adopt(new ArrayBuffer(MiB)))
      const taken = new Uint8Array(MiB).fill(7).buffer
      let clone
      then = () => (clone = structuredClone(taken, { transfer: [taken] }))
      let code
      try {
        guarded.adopt(taken)
      } catch (error) {
        code = error.code
      }
      const isWhole = buffer => new Uint8Array(buffer).every(byte => byte === 7)
      const { length } = guarded.mappings
      kept.forEach(each => each.release())
      return [isWhole(back), code, isWhole(clone), length]
    })
    expect(seen).toEqual([true, 'ERR_INVALID_ARG_VALUE', true, 20])
  })

  test('where others close all ports, the bytes come back in buffers of their own', async () => {
    const seen = await inChild(async ({ hostmap, require }) => {
      const { GuardedMemory } = hostmap
      const { createHook } = require('node:async_hooks')
      const { setTimeout: sleep } = require('node:timers/promises')
      const ports = new Set()
      const init = (_id, type, _trigger, port) => type === 'MESSAGEPORT' && ports.add(port)
      createHook({ init }).enable()
      const LARGE = 64 * 2 ** 20
      const make = byte => new Uint8Array(LARGE).fill(byte).buffer
      const guarded = new GuardedMemory({ initial: 1, maximum: 8192 })
      // Its ports are to be used again.
      guarded.adopt(make(1)).release()
      const before = guarded.adopt(make(2))
      ports.forEach(port => port.close())
      const now = guarded.adopt(make(3))
      await sleep(20)
      const after = guarded.adopt(make(4))
      // They may be where those were that V8 has freed.
      const others = [5, 6, 7].map(make)
      const back = [before, now, after].map(adopted => adopted.release())
      return [...back, ...others].map(buffer => {
        const bytes = Buffer.from(buffer)
        return bytes.equals(Buffer.alloc(LARGE, bytes[0])) ? bytes[0] : 'wrong'
      })
    })
    expect(seen).toEqual([2, 3, 4, 5, 6, 7])
  })

  test.each([
    [200 * KiB, 200],
    [64 * MiB, 5]
  ])('a release of %i bytes where the stack ends is made later', async (...args) => {
    const outcomes = await inChild(releaseAtEnd, { args })
    expect(outcomes).toEqual(['RangeError', true])
  })
  const releaseAtEnd = async ({ hostmap, args: [byteLength, times] }) => {
    const { GuardedMemory } = hostmap
    const guarded = new GuardedMemory({ initial: 1, maximum: 4096 })
    const expected = Buffer.alloc(byteLength, 7)
    const outcomes = new Set()
    for (let n = 0; n < times; n++) {
      const adopted = guarded.adopt(new Uint8Array(byteLength).fill(7).buffer)
      let back
      // At the deepest call that has room for it, and some above.
      const dive = (...rest) => {
        try {
          dive(...rest)
        } catch (error) {
          outcomes.add(error.constructor.name)
        }
        if (back === undefined) {
          try {
            back = adopted.release()
          } catch (error) {
            outcomes.add(error.constructor.name)
          }
        }
      }
      dive(...Array(n % 23).fill(0))
      back ??= adopted.release()
      outcomes.add(expected.equals(Buffer.from(back)))
    }
    return [...outcomes].sort()
  }

  test('memory is never held twice, and V8 counts it once', async () => {
    const seen = await inChild(async ({ hostmap, require }) => {
      const { GuardedMemory } = hostmap
      const fs = require('node:fs')
      const rss = () =>
        Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync('/proc/self/status', 'latin1'))[1])
      const peak = () =>
        Number(/VmHWM:\s+(\d+)/.exec(fs.readFileSync('/proc/self/status', 'latin1'))[1])
      const MiB = 2 ** 20
      const guarded = new GuardedMemory({ initial: 1, maximum: 8192 })
      guarded.adopt(new ArrayBuffer(MiB)).release()
      guarded.reserve(260 * MiB)
      const buffer = new ArrayBuffer(256 * MiB)
      new Uint8Array(buffer).fill(1)
      const [rssBefore, externalBefore] = [rss(), process.memoryUsage().external]
      const adopted = guarded.adopt(buffer, { copy: 'never' })
      const [rssIn, externalIn] = [rss(), process.memoryUsage().external]
      const back = adopted.release()
      const [rssAfter, externalAfter] = [rss(), process.memoryUsage().external]
      guarded.adopt(back, { copy: 'never' }).unmap()
      await new Promise(resolve => setTimeout(resolve, 0))
      return {
        more: [rssIn - rssBefore, rssAfter - rssBefore, peak() - rssBefore].map(kib => kib / 1024),
        freed: (rssBefore - rss()) / 1024,
        external: [externalIn - externalBefore, externalAfter - externalBefore].map(
          bytes => bytes / MiB
        )
      }
    })
    for (const mib of seen.more) expect(mib).toBeLessThan(32)
    expect(seen.freed).toBeGreaterThan(200)
    expect(seen.external[0]).toBeLessThan(-200)
    expect(Math.abs(seen.external[1])).toBeLessThan(32)
  })

  test('garbage is collected while buffers come and go, and nothing is lost or freed twice', async () => {
    const wrong = await inChild(
      async ({ hostmap }) => {
        const { GuardedMemory } = hostmap
        let wrong = 0
        for (let round = 0; round < 8; round++) {
          // Dropped with all that it has adopted, of which nobody hears.
          const guarded = new GuardedMemory({ initial: 1, maximum: 4096 })
          const held = []
          for (let i = 1; i < 12; i++) {
            const buffer = new ArrayBuffer(i * 150_000)
            new Uint8Array(buffer).fill(i)
            held.push(guarded.adopt(buffer))
            if (i % 3 === 0) gc()
          }
          for (let i = 0; i < held.length; i += 2) {
            const bytes = new Uint8Array(held[i].release())
            if (!Buffer.alloc(bytes.length, i + 1).equals(bytes)) wrong++
            if (i % 3 === 0) gc()
          }
          for (let i = 1; i < held.length; i += 2) {
            const { address, byteLength } = held[i]
            const bytes = new Uint8Array(guarded.buffer, address, byteLength)
            if (!Buffer.alloc(bytes.length, i + 1).equals(bytes)) wrong++
          }
          await new Promise(setImmediate)
        }
        gc()
        return wrong
      },
      { flags: ['--expose-gc'] }
    )
    expect(wrong).toBe(0)
  })

  test('a read from a file or a pipe that is under way writes where the pages were, and nothing ends', async () => {
    const seen = await inChild(async ({ hostmap, require }) => {
      const { GuardedMemory } = hostmap
      const { execFileSync } = require('node:child_process')
      const [fs, os, path] = ['node:fs', 'node:os', 'node:path'].map(it => require(it))
      const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'adopt-'))
      const name = path.join(directory, 'pipe')
      execFileSync('mkfifo', [name])
      const pipe = fs.openSync(name, 'r+')
      fs.rmSync(directory, { recursive: true })
      const guarded = new GuardedMemory({ initial: 1, maximum: 1024 })
      const bytes = new Uint8Array(2 ** 21).fill(5)
      const read = new Promise((resolve, reject) =>
        fs.read(pipe, bytes, 2 ** 20, 8, null, (error, count) =>
          error ? reject(error) : resolve(count)
        )
      )
      // A thread waits in the read of the empty pipe.
      await new Promise(resolve => fs.stat('.', resolve))
      const adopted = guarded.adopt(bytes.buffer, { copy: 'never' })
      fs.writeSync(pipe, 'too late')
      const count = await read
      const at = new Uint8Array(guarded.buffer, adopted.address + 2 ** 20, 8)
      const inMemory = Array.from(at)
      const back = Array.from(new Uint8Array(adopted.release(), 2 ** 20, 8))
      return { count, inMemory, back }
    })
    expect(seen).toEqual({ count: 8, inMemory: Array(8).fill(5), back: Array(8).fill(5) })
  })

  test('in a memory that V8 has moved its bytes are copies, and release says so', async () => {
    const seen = await inChild(
      async ({ hostmap, failure }) => {
        const guarded = hostmap.GuardedMemory.from(new WebAssembly.Memory({ initial: 16 }))
        const adopted = guarded.adopt(new Uint8Array(2 ** 18).fill(7).buffer, { at: 65536 })
        const { address, byteLength } = adopted
        // As a module does it: nobody here hears of it.
        guarded.memory.grow(64)
        const copy = Buffer.from(guarded.buffer, address, byteLength)
        const isThere = copy.equals(Buffer.alloc(byteLength, 7))
        const { code } = await failure(() => adopted.release())
        adopted.unmap()
        return { isThere, code, unmapped: adopted.unmapped, left: guarded.mappings.length }
      },
      // There is no room for the guards of a memory, so V8 copies it where it grows.
      { flags: ['--disable-wasm-trap-handler'], ulimit: '-v 2000000' }
    )
    const code = 'ERR_HOSTMAP_MEMORY_MOVED'
    expect(seen).toEqual({ isThere: true, code, unmapped: true, left: 0 })
  })

  test.each([
    ['a limit on data', { ulimit: '-d 4000000' }],
    ['a limit on address space', { ulimit: '-v 40000000' }]
  ])('%s means that it is copied', async (name, { ulimit }) => {
    const seen = await inChild(
      ({ hostmap }) => {
        const { GuardedMemory } = hostmap
        const guarded = new GuardedMemory({ initial: 1, maximum: 1024 })
        const buffer = new ArrayBuffer(2 ** 20)
        let code
        try {
          guarded.adopt(buffer, { copy: 'never' })
        } catch (error) {
          code = [error.code, error.reason]
        }
        const { whyCopied, byteLength } = guarded.adopt(buffer)
        return [code, whyCopied, byteLength]
      },
      { ulimit }
    )
    expect(seen).toEqual([['ERR_HOSTMAP_BUFFER_NOT_MOVABLE', 'limited'], 'limited', MiB])
  })
})

/** Random whole numbers below a bound, the same each time. */
function numbers(seed) {
  let state = seed
  return below => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}
