'use strict'

// Threads: shared memories, one table for each reservation, and what is left when a worker ends.

const fs = require('node:fs')
const { GuardedMemory, HostRegion, limits } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { fdOf, mappingsOf, mappingsNamed, countOpen } = require('./support/procfs')
const { temporaryDirectory, noise } = require('./support/files')
const { TestWorker } = require('./support/worker')
const { MiB, WASM_PAGE, probe } = require('./support/wasm')

const directory = temporaryDirectory()

const regions = []
const keep = region => (regions.push(region), region)
const workers = []
const startWorker = () => (workers.push(new TestWorker()), workers.at(-1))
afterEach(async () => {
  await Promise.all(workers.splice(0).map(worker => worker.end()))
  regions.splice(0).forEach(region => region.close())
})

/**
 * A shared memory, and a worker that has it too, as `state.guarded` with a probe, `state.guest`.
 */
async function share({ initial = 16, maximum = 64 } = {}) {
  const guarded = new GuardedMemory({ initial, maximum, shared: true })
  const worker = startWorker()
  await worker.run(async ({ state, hostmap, probe }, memory) => {
    state.guarded = hostmap.GuardedMemory.from(memory)
    state.guest = await probe(memory)
  }, guarded.memory)
  return { guarded, guest: await probe(guarded.memory), worker }
}

describe('a shared memory', () => {
  test('shows a mapping to every thread that has it', async () => {
    const { guarded, worker } = await share()
    const second = startWorker()
    const bytes = noise(2 * WASM_PAGE)
    guarded.map(keep(HostRegion.copyFrom(bytes)), { at: 4 * WASM_PAGE })
    const read = ({ state }, at) => Buffer.from(state.guest.bytes(at, 300))
    expect(Buffer.from(await worker.run(read, 4 * WASM_PAGE)).equals(bytes.subarray(0, 300))).toBe(
      true
    )
    await second.run(
      async ({ state, probe }, memory) => void (state.guest = await probe(memory)),
      guarded.memory
    )
    expect(
      Buffer.from(await second.run(read, 5 * WASM_PAGE)).equals(
        bytes.subarray(WASM_PAGE, WASM_PAGE + 300)
      )
    ).toBe(true)
  })

  test('traps in every thread on a store to a readonly mapping', async () => {
    const { guarded, worker } = await share()
    const bytes = noise(WASM_PAGE)
    const region = keep(HostRegion.copyFrom(bytes))
    guarded.map(region, { at: 0 })
    const error = await worker.run(({ state, failure }) =>
      failure(() => state.guest.store8(100, 1))
    )
    expect(error).toMatchObject({ name: 'RuntimeError' })
    expect(Buffer.from(region.view()).equals(bytes)).toBe(true)
  })

  test('has atomics in a shared mapping, that all threads see', async () => {
    const { guarded, worker } = await share()
    const region = keep(HostRegion.allocate(WASM_PAGE))
    guarded.map(region, { at: WASM_PAGE, access: 'shared' })
    const add = ({ state }, { at, times }) => {
      for (let i = 0; i < times; i++) state.guest.touch('atomicAdd', at, 1)
    }
    const others = [worker, ...(await Promise.all([share({}), share({})])).map(each => each.worker)]
    const [, second, third] = others
    // Memories of their own, over the same region.
    for (const each of [second, third]) {
      await each.run(({ state, hostmap }, fd) => {
        state.guarded.map(hostmap.HostRegion.fromFd(fd), { at: 65536, access: 'shared' })
      }, fdOf(region))
    }
    await Promise.all(others.map(each => each.run(add, { at: WASM_PAGE + 8, times: 10_000 })))
    expect(new Uint32Array(region.view())[2]).toBe(30_000)
  })
})

// To measure takes two memories more, and reads of the whole process's map.
test('a worker takes over what another thread has measured', async () => {
  const known = new GuardedMemory({ initial: 1 })
  expect(known.guarded).toBe(true)
  const worker = startWorker()
  const grownBytes = await worker.run(({ state, hostmap, require }) => {
    const bytes = () =>
      1024 * /VmSize:\s+(\d+)/.exec(require('node:fs').readFileSync('/proc/self/status', 'utf8'))[1]
    const before = bytes()
    state.guarded = new hostmap.GuardedMemory({ initial: 1 })
    return bytes() - before
  })
  expect(grownBytes).toBeLessThan(1.5 * limits().wasm.reservationBytes32)
})

describe('one mapping table for each reservation', () => {
  test('refuses an overlap with a mapping that another thread made', async () => {
    const { guarded, guest, worker } = await share()
    const region = keep(HostRegion.copyFrom(noise(2 * WASM_PAGE)))
    await worker.run(({ state, hostmap }, fd) => {
      state.region = hostmap.HostRegion.fromFd(fd)
      state.mapping = state.guarded.map(state.region, { at: 4 * 65536 })
    }, fdOf(region))
    for (const at of [4, 5, 3]) {
      const error = thrownBy(() => guarded.map(region, { at: at * WASM_PAGE }))
      expectError(error, { code: 'ERR_HOSTMAP_OVERLAP' })
    }
    expect(guest.bytes(4 * WASM_PAGE, 100).equals(noise(100))).toBe(true)

    await worker.run(({ state }) => state.mapping.unmap())
    expect(guest.load64(4 * WASM_PAGE)).toBe(0n)
    const mapping = guarded.map(region, { at: 4 * WASM_PAGE })
    const error = await worker.run(({ state, failure }) =>
      failure(() => state.guarded.map(state.region, { at: 4 * 65536 }))
    )
    expect(error).toMatchObject({ code: 'ERR_HOSTMAP_OVERLAP' })
    mapping.unmap()
    await worker.run(
      ({ state }) => void (state.mapping = state.guarded.map(state.region, { at: 4 * 65536 }))
    )
  })

  test('shows in layout() what another thread mapped, without its region object', async () => {
    const { guarded, worker } = await share()
    const region = keep(HostRegion.allocate(2 * WASM_PAGE))
    await worker.run(({ state, hostmap }, fd) => {
      state.guarded.map(hostmap.HostRegion.fromFd(fd), {
        at: 4 * 65536,
        byteOffset: 65536,
        access: 'shared'
      })
    }, fdOf(region))
    guarded.map(region, { at: 6 * WASM_PAGE, byteLength: WASM_PAGE })
    const mapped = guarded.layout().ranges.filter(({ kind }) => kind === 'mapped')
    expect(mapped).toEqual([
      {
        kind: 'mapped',
        start: 4 * WASM_PAGE,
        end: 5 * WASM_PAGE,
        access: 'shared',
        region: null,
        byteOffset: expect.any(Number)
      },
      {
        kind: 'mapped',
        start: 6 * WASM_PAGE,
        end: 7 * WASM_PAGE,
        access: 'readonly',
        region,
        byteOffset: 0
      }
    ])
    expect(String(guarded.layout())).toMatch(/shared/)
  })

  test('places regions past the end so that no two threads get the same space', async () => {
    const { guarded, guest } = await share({ initial: 1, maximum: 2000 })
    const threads = [startWorker(), startWorker(), startWorker()]
    const taken = await Promise.all(
      threads.map((thread, i) =>
        thread.run(
          ({ hostmap, state }, { memory, i }) => {
            state.guarded = hostmap.GuardedMemory.from(memory)
            const region = hostmap.HostRegion.copyFrom(Buffer.alloc(65536, i + 1))
            return Array.from({ length: 100 }, () => state.guarded.map(region).address)
          },
          { memory: guarded.memory, i }
        )
      )
    )
    const addresses = taken.flat()
    expect(new Set(addresses).size).toBe(300)
    addresses.forEach((address, i) =>
      expect(guest.load8(address + 65_535)).toBe(Math.floor(i / 100) + 1)
    )
    expect(guarded.byteLength).toBe(guest.size() * WASM_PAGE)
    expect(guarded.layout().ranges.filter(({ kind }) => kind === 'mapped')).toHaveLength(300)
  })

  test('grown in one thread: readonly mappings of all threads trap again', async () => {
    const { guarded, guest, worker } = await share()
    const region = keep(HostRegion.copyFrom(noise(WASM_PAGE)))
    guarded.map(region, { at: 0 })
    await worker.run(({ state, hostmap }, fd) => {
      state.guarded.map(hostmap.HostRegion.fromFd(fd), { at: 65536 })
      state.guarded.grow(1)
    }, fdOf(region))
    for (const at of [0, WASM_PAGE])
      expect(() => guest.store8(at, 1)).toThrow(WebAssembly.RuntimeError)
    expect(guarded.byteLength).toBe(17 * WASM_PAGE)
    guarded.grow(1)
    const error = await worker.run(({ state, failure }) =>
      failure(() => state.guest.store8(65536, 1))
    )
    expect(error).toMatchObject({ name: 'RuntimeError' })
  })

  test('is told by the buffer alone, too', async () => {
    const { guarded, worker } = await share()
    const region = keep(HostRegion.allocate(WASM_PAGE))
    guarded.map(region, { at: 0 })
    const error = await worker.run(
      ({ hostmap, failure }, { buffer, fd }) => {
        const hidden = hostmap.GuardedMemory.from(buffer)
        return failure(() => hidden.map(hostmap.HostRegion.fromFd(fd), { at: 0 }))
      },
      { buffer: guarded.buffer, fd: fdOf(region) }
    )
    expect(error).toMatchObject({ code: 'ERR_HOSTMAP_OVERLAP' })
  })
})

describe('when a worker ends', () => {
  test('its mappings stay in the shared memory, and the space is known to be taken', async () => {
    const { guarded, guest, worker } = await share()
    await worker.run(({ state, hostmap }, bytes) => {
      state.guarded.map(hostmap.HostRegion.copyFrom(bytes, { name: 'left by a worker' }), {
        at: 65536
      })
    }, noise(WASM_PAGE))
    await worker.end()
    expect(guest.bytes(WASM_PAGE, 100).equals(noise(100))).toBe(true)
    expect(mappingsNamed('/memfd:left by a worker')).toHaveLength(1)
    // The region object died with its thread, and its descriptor with it.
    expect(countOpen('/memfd:left by a worker')).toBe(0)
    const region = keep(HostRegion.allocate(WASM_PAGE))
    expectError(
      thrownBy(() => guarded.map(region, { at: WASM_PAGE })),
      { code: 'ERR_HOSTMAP_OVERLAP' }
    )
    guarded.grow(1)
    expect(() => guest.store8(WASM_PAGE, 1)).toThrow(WebAssembly.RuntimeError)
  })

  test('buffers that it has adopted are the memory’s own pages: kept, restored, mapped over', async () => {
    const { guarded, guest, worker } = await share()
    const contents = noise(MiB)
    const exclusive = { exclusive: true }
    const before = guarded.snapshot(exclusive)
    const adopted = await worker.run(({ state }, bytes) => {
      const { buffer } = Uint8Array.from(bytes)
      state.adopted = state.guarded.adopt(buffer, { copy: 'never' })
      state.copied = state.guarded.adopt(new Uint8Array(10).fill(7).buffer)
      const { address, byteLength } = state.adopted
      return { address, byteLength, copied: state.copied.address }
    }, contents)
    const { address, byteLength, copied } = adopted
    const kinds = () => guarded.layout().ranges.map(({ kind }) => kind)
    expect(kinds()).toContain('mapped')
    expectError(
      thrownBy(() => guarded.restore(before, exclusive)),
      { code: 'ERR_HOSTMAP_OVERLAP' }
    )
    await worker.end()
    expect(kinds()).not.toContain('mapped')
    expect(guest.bytes(address, byteLength).equals(contents)).toBe(true)
    expect(guest.bytes(copied, 10).equals(Buffer.alloc(10, 7))).toBe(true)
    const after = guarded.snapshot(exclusive)
    expect(guest.bytes(address, byteLength).equals(contents)).toBe(true)
    guarded.restore(before, exclusive)
    expect(guest.bytes(address, byteLength).equals(Buffer.alloc(byteLength))).toBe(true)
    guarded.restore(after, exclusive)
    expect(guest.bytes(address, byteLength).equals(contents)).toBe(true)
    expect(guest.bytes(copied, 10).equals(Buffer.alloc(10, 7))).toBe(true)
    const page = address - (address % 65536)
    const mapping = guarded.map(keep(HostRegion.copyFrom(noise(WASM_PAGE))), { at: page })
    expect(guest.bytes(page, WASM_PAGE).equals(noise(WASM_PAGE))).toBe(true)
    mapping.unmap()
    const again = guarded.adopt(Uint8Array.from(contents).buffer, { at: page, copy: 'never' })
    expect(Buffer.from(again.release()).equals(contents)).toBe(true)
    guarded.reset(exclusive)
    expect(guest.bytes(copied, 10).equals(Buffer.alloc(10))).toBe(true)
  })

  test('memories, regions and views of its own are gone', async () => {
    const path = directory.file(noise(WASM_PAGE), 'of a worker.bin')
    const worker = startWorker()
    const seen = await worker.run(({ state, hostmap, countOpen, mappingsNamed }, path) => {
      const { GuardedMemory, HostRegion } = hostmap
      state.guarded = new GuardedMemory({ initial: 4, maximum: 8 })
      state.regions = [
        HostRegion.open(path),
        HostRegion.allocate(65536, { name: 'of a worker.bin' })
      ]
      state.views = state.regions.map(region => region.view())
      state.mappings = state.regions.map((region, i) =>
        state.guarded.map(region, { at: i * 65536 })
      )
      return { open: countOpen('of a worker.bin'), mapped: mappingsNamed('of a worker.bin').length }
    }, path)
    expect(seen).toEqual({ open: 2, mapped: 4 })
    await worker.end()
    expect(countOpen('of a worker.bin')).toBe(0)
    expect(mappingsNamed('of a worker.bin')).toEqual([])
  })
})

describe('a region in a worker', () => {
  test('is had from the descriptor, of a memfd or a file', async () => {
    const worker = startWorker()
    const path = directory.file(noise(1000))
    for (const region of [keep(HostRegion.copyFrom(noise(1000))), keep(HostRegion.open(path))]) {
      const seen = await worker.run(({ hostmap }, fd) => {
        const region = hostmap.HostRegion.fromFd(fd)
        const bytes = Buffer.from(Buffer.from(region.view()))
        const { byteLength, backing, writable } = region
        region.close()
        return { bytes, byteLength, backing, writable }
      }, fdOf(region))
      expect(Buffer.from(seen.bytes).equals(noise(1000))).toBe(true)
      expect(seen).toMatchObject({
        byteLength: 1000,
        backing: region.backing,
        writable: region.writable
      })
      expect(region.closed).toBe(false)
      expect(fs.fstatSync(fdOf(region)).size).toBe(1000)
    }
  })

  test('outlives the one that it was had from', async () => {
    const worker = startWorker()
    const region = HostRegion.copyFrom(noise(WASM_PAGE))
    await worker.run(
      ({ state, hostmap }, fd) => void (state.region = hostmap.HostRegion.fromFd(fd)),
      fdOf(region)
    )
    region.close()
    const bytes = await worker.run(({ state }) =>
      Buffer.from(Buffer.from(state.region.view(0, 100)))
    )
    expect(Buffer.from(bytes).equals(noise(100))).toBe(true)
  })

  test('maps the same pages into a memory of its own', async () => {
    const worker = startWorker()
    const region = keep(HostRegion.allocate(WASM_PAGE))
    await worker.run(async ({ state, hostmap, probe }, fd) => {
      const guarded = new hostmap.GuardedMemory({ initial: 1, maximum: 4 })
      state.guest = await probe(guarded.memory)
      state.mapping = guarded.map(hostmap.HostRegion.fromFd(fd), { access: 'shared' })
      state.guest.store8(state.mapping.address + 5, 55)
    }, fdOf(region))
    const view = new Uint8Array(region.view())
    expect(view[5]).toBe(55)
    view[6] = 66
    expect(await worker.run(({ state }) => state.guest.load8(state.mapping.address + 6))).toBe(66)
    expect(mappingsOf(region)).toHaveLength(2)
  })
})

describe('windows in workers', () => {
  /** The sum of the 64-bit words of bytes. */
  const sumOf = bytes =>
    BigInt.asIntN(
      64,
      new BigInt64Array(bytes.buffer, bytes.byteOffset).reduce((a, b) => a + b)
    )
  const total = sums =>
    BigInt.asIntN(
      64,
      sums.reduce((a, b) => a + b)
    )

  test('each take a part of one region, in memories of their own: the sums add up', async () => {
    const bytes = noise(8 * MiB + 8 * 1001)
    for (const region of [
      keep(HostRegion.copyFrom(bytes)),
      keep(HostRegion.open(directory.file(bytes)))
    ]) {
      const parts = region.split(3, { align: 8 })
      const sums = await Promise.all(
        parts.map(part =>
          startWorker().run(
            async ({ hostmap, probe }, { fd, part }) => {
              const guarded = new hostmap.GuardedMemory({ initial: 1, maximum: 100 })
              const guest = await probe(guarded.memory)
              const window = guarded.window({ byteLength: 262144 })
              const source = window.source(hostmap.HostRegion.fromFd(fd), {
                ...part,
                chunk: 8 * 12345
              })
              let sum = 0n
              for (let byteLength; (byteLength = source.next()) > 0;) {
                sum += guest.sum(source.pointer, source.pointer + byteLength)
              }
              return sum
            },
            { fd: fdOf(region), part }
          )
        )
      )
      expect(sums).toHaveLength(3)
      expect(total(sums)).toBe(sumOf(bytes))
    }
  })

  test('each take a part, in windows of one shared memory', async () => {
    const bytes = noise(4 * MiB)
    const region = keep(HostRegion.copyFrom(bytes))
    const { guarded } = await share({ initial: 1, maximum: 256 })
    const parts = region.split(3)
    const seen = await Promise.all(
      parts.map(part =>
        startWorker().run(
          async ({ hostmap, probe, state }, { memory, fd, part }) => {
            const guarded = hostmap.GuardedMemory.from(memory)
            const guest = await probe(memory)
            state.window = guarded.window({ byteLength: 131072 })
            let sum = 0n
            for await (const { address, byteLength, bytes } of state.window.chunks(
              hostmap.HostRegion.fromFd(fd),
              part
            )) {
              if (bytes[0] !== guest.load8(address)) throw new Error('another memory')
              sum += guest.sum(address, address + byteLength)
            }
            return { sum, address: state.window.address }
          },
          { memory: guarded.memory, fd: fdOf(region), part }
        )
      )
    )
    expect(total(seen.map(({ sum }) => sum))).toBe(sumOf(bytes))
    // Beside each other.
    expect(new Set(seen.map(({ address }) => address)).size).toBe(3)
    expect(guarded.layout().ranges.filter(({ kind }) => kind === 'mapped')).toHaveLength(3)
  })

  test('may be filled by one thread and read by another', async () => {
    const { guarded, guest, worker } = await share()
    const bytes = noise(40 * WASM_PAGE)
    const region = keep(HostRegion.copyFrom(bytes))
    const source = guarded.window({ byteLength: WASM_PAGE, at: WASM_PAGE }).source(region)
    const sums = []
    for (let byteLength; (byteLength = source.next()) > 0;) {
      const range = [source.pointer, source.pointer + byteLength]
      const sum = await worker.run(({ state }, range) => state.guest.sum(...range), range)
      expect(sum).toBe(guest.sum(...range))
      sums.push(sum)
    }
    expect(total(sums)).toBe(sumOf(bytes))
  })

  test('of another thread are neither slid nor unmapped from here, and their space is taken', async () => {
    const { guarded, guest, worker } = await share()
    const region = keep(HostRegion.copyFrom(noise(4 * WASM_PAGE)))
    await worker.run(({ state, hostmap }, fd) => {
      state.region = hostmap.HostRegion.fromFd(fd)
      state.window = state.guarded.window({ byteLength: 65536, at: 2 * 65536 })
      state.window.slide(state.region, 65536)
    }, fdOf(region))
    expect(guest.load8(2 * WASM_PAGE)).toBe(noise(4 * WASM_PAGE)[WASM_PAGE])
    for (const call of [
      () => guarded.window({ byteLength: WASM_PAGE, at: 2 * WASM_PAGE }),
      () => guarded.map(region, { at: WASM_PAGE, byteLength: WASM_PAGE + 1 })
    ]) {
      expectError(thrownBy(call), { code: 'ERR_HOSTMAP_OVERLAP' })
    }
    expect(String(guarded.layout())).toMatch(/another thread/)

    // Grown here, it is protected there; and what it does not show traps here.
    await worker.run(({ state }) => void state.window.slide(state.region, 0, { byteLength: 100 }))
    guarded.grow(1)
    expect(() => guest.store8(2 * WASM_PAGE, 1)).toThrow(WebAssembly.RuntimeError)
    expect(() => guest.load8(3 * WASM_PAGE - 1)).toThrow(WebAssembly.RuntimeError)
    const error = await worker.run(({ state, failure }) =>
      failure(() => state.guest.store8(2 * 65536, 1))
    )
    expect(error).toMatchObject({ name: 'RuntimeError' })

    await worker.run(({ state }) => state.window.unmap())
    guarded.window({ byteLength: WASM_PAGE, at: 2 * WASM_PAGE }).slide(region, 7)
    expect(await worker.run(({ state }) => state.guest.load8(2 * 65536 + 7))).toBe(noise(8)[7])
    const unmapped = await worker.run(({ state, failure }) =>
      failure(() => state.window.slide(state.region, 0))
    )
    expect(unmapped).toMatchObject({ code: 'ERR_HOSTMAP_WINDOW_UNMAPPED' })
  })

  test('stay with what they show when their worker ends, and the space is known to be taken', async () => {
    const { guarded, guest, worker } = await share()
    await worker.run(
      ({ state, hostmap }, bytes) => {
        const region = hostmap.HostRegion.copyFrom(bytes, { name: 'shown by a worker' })
        state.window = state.guarded.window({ byteLength: 2 * 65536, at: 65536 })
        state.window.slide(region, 0)
        state.window.slide(region, 65536)
      },
      noise(2 * WASM_PAGE)
    )
    await worker.end()
    const bytes = noise(2 * WASM_PAGE).subarray(WASM_PAGE)
    expect(guest.bytes(WASM_PAGE, 100).equals(bytes.subarray(0, 100))).toBe(true)
    expect(() => guest.load8(2 * WASM_PAGE)).toThrow(WebAssembly.RuntimeError)
    // Only what it shows of the region.
    expect(mappingsNamed('/memfd:shown by a worker').map(({ start, end }) => end - start)).toEqual([
      WASM_PAGE
    ])
    expect(countOpen('/memfd:shown by a worker')).toBe(0)
    expectError(
      thrownBy(() => guarded.window({ byteLength: WASM_PAGE, at: 2 * WASM_PAGE })),
      { code: 'ERR_HOSTMAP_OVERLAP' }
    )
  })
})
