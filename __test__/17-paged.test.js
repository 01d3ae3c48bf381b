'use strict'

// Paged regions: each touch of a chunk finds its bytes, and each chunk comes once.

const fs = require('node:fs')
const { buffer } = require('node:stream/consumers')
const { Worker } = require('node:worker_threads')
const { GuardedMemory, HostRegion, limits } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { inChild } = require('./support/child')
const { temporaryDirectory } = require('./support/files')
const { CHUNK, bytesFrom, closeAll, optionsOf, paged, sharedCounts } = require('./support/paged')
const { nextWarning } = require('./support/warnings')
const { MiB, WASM_PAGE, probe } = require('./support/wasm')

afterEach(closeAll)
const directory = temporaryDirectory()
const CLOSED = 'ERR_HOSTMAP_REGION_CLOSED'

const fails = async (call, code, says) => expectError(await thrownBy(call), { code, says })
const bytesIn = (region, ...part) => Buffer.from(region.view(...part))

describe.each([
  ['with what the kernel has', undefined],
  ['without userfaultfd', false]
])('%s', (_, userfaultfd) => {
  const make = (data, options) => paged(data, { userfaultfd, ...options })

  test('a view shows all bytes, each chunk comes once', async () => {
    const counts = sharedCounts()
    const region = await make({ byteLength: 20 * CHUNK + 777, counts }, { readAheadBytes: 0 })
    expect(region.byteLength).toBe(20 * CHUNK + 777)
    expect(region.paging.chunkBytes).toBe(CHUNK)
    if (userfaultfd === false) expect(region.paging.userfaultfd).toBe(false)
    expect(counts[0]).toBe(0)
    const bytes = new Uint8Array(region.view())
    expect(bytes[5 * CHUNK + 3]).toBe(bytesFrom(5 * CHUNK + 3, 1)[0])
    expect(counts[0]).toBe(1)
    expect(Buffer.from(bytes).equals(bytesFrom(0, region.byteLength))).toBe(true)
    expect(Buffer.from(bytes).equals(bytesFrom(0, region.byteLength))).toBe(true)
    expect(counts[0]).toBe(21)
    expect(region.faults).toBe(0)
    expect(region.paging.stats()).toMatchObject({
      failedTouches: 0,
      presentChunks: 21,
      requests: 21,
      fetchedBytes: region.byteLength,
      failures: 0,
      lastError: null
    })
  })

  test('a module reads it by mappings of both kinds, and writes to a private one', async () => {
    const region = await make({ byteLength: 16 * CHUNK })
    const guarded = new GuardedMemory({ initial: 1, maximum: 100 })
    const module = await probe(guarded.memory)
    const readonly = guarded.map(region)
    const own = guarded.map(region, { access: 'private' })
    const part = { byteOffset: 4 * CHUNK, byteLength: 2 * CHUNK }
    const third = guarded.map(region, part)
    expect(module.bytes(readonly.pointer + 3 * CHUNK - 5, 10)).toEqual(bytesFrom(3 * CHUNK - 5, 10))
    module.store8(own.pointer + 7 * CHUNK, 0xee)
    expect(module.load8(own.pointer + 7 * CHUNK)).toBe(0xee)
    expect(module.bytes(own.pointer + 7 * CHUNK + 1, 10)).toEqual(bytesFrom(7 * CHUNK + 1, 10))
    expect(module.bytes(readonly.pointer + 7 * CHUNK, 10)).toEqual(bytesFrom(7 * CHUNK, 10))
    expect(module.bytes(third.pointer, 10)).toEqual(bytesFrom(4 * CHUNK, 10))
    // V8's mprotect over all of the memory changes nothing of that.
    module.grow(1)
    expect(module.bytes(readonly.pointer + 11 * CHUNK, 10)).toEqual(bytesFrom(11 * CHUNK, 10))
    expect(module.load8(own.pointer + 7 * CHUNK)).toBe(0xee)
    const copy = new Uint8Array(guarded.memory.buffer, readonly.pointer, region.byteLength)
    expect(Buffer.from(copy).equals(bytesFrom(0, region.byteLength))).toBe(true)
    expect(readonly.faults + own.faults + third.faults).toBe(0)
  })

  test('windows slide over it, and sources stream it with read-ahead', async () => {
    const counts = sharedCounts()
    const region = await make({ byteLength: 64 * CHUNK + 99, counts })
    const guarded = new GuardedMemory({ initial: 1, maximum: 200 })
    const window = guarded.window({ byteLength: 4 * CHUNK })
    const module = await probe(guarded.memory)
    const { pointer } = window.slide(region, { byteOffset: 10 * CHUNK, byteLength: 2 * CHUNK })
    expect(module.bytes(Number(pointer), 8)).toEqual(bytesFrom(10 * CHUNK, 8))
    const chunks = []
    for await (const { pointer: at, byteLength } of window.chunks(region)) {
      chunks.push(
        Buffer.from(new Uint8Array(guarded.memory.buffer, Number(at), Number(byteLength)))
      )
    }
    expect(Buffer.concat(chunks).equals(bytesFrom(0, region.byteLength))).toBe(true)
    expect(counts[0]).toBe(65)
    const { touches, readAheadChunks } = region.paging.stats()
    expect(readAheadChunks).toBeGreaterThan(30)
    expect(touches).toBeLessThan(65)
  })

  test('streams and Blobs bring what they read', async () => {
    const byteLength = 10 * CHUNK + 5
    const region = await make({ byteLength })
    const part = { byteOffset: CHUNK - 7, byteLength: 3 * CHUNK }
    const expected = bytesFrom(part.byteOffset, part.byteLength)
    const isIt = bytes => expected.equals(bytes)
    expect(isIt(await buffer(region.createReadStream({ ...part, chunk: 50_000 })))).toBe(true)
    const other = await make({ byteLength })
    expect(isIt(await buffer(other.readableStream(part)))).toBe(true)
    const third = await make({ byteLength })
    expect(isIt(Buffer.from(await third.blob(part).arrayBuffer()))).toBe(true)
    const fourth = await make({ byteLength })
    expect(isIt(fourth.bytes(part))).toBe(true)
    expect((await buffer(fourth.createReadStream())).equals(bytesFrom(0, byteLength))).toBe(true)
  })

  test('100 touches of one missing chunk, by four threads, are one request', async () => {
    const counts = sharedCounts()
    const region = await make({ byteLength: 4 * CHUNK, counts, delayMs: 100 })
    const guarded = new GuardedMemory({ initial: 1, maximum: 20, shared: true })
    const { pointer } = guarded.map(region)
    const source = `
      const { parentPort, workerData } = require('node:worker_threads')
      const { memory, pointer } = workerData
      const bytes = new Uint8Array(memory.buffer)
      parentPort.on('message', () => {
        const seen = []
        for (let i = 0; i < 25; i++) seen.push(bytes[pointer + i * 64])
        parentPort.postMessage(seen)
        parentPort.close()
      })
      parentPort.postMessage('ready')`
    const workers = Array.from(
      { length: 4 },
      () => new Worker(source, { eval: true, workerData: { memory: guarded.memory, pointer } })
    )
    const said = worker => new Promise(resolve => worker.once('message', resolve))
    await Promise.all(workers.map(said))
    const answers = workers.map(said)
    workers.forEach(worker => worker.postMessage('go'))
    const expected = bytesFrom(0, 25 * 64).filter((_, i) => i % 64 === 0)
    for (const seen of await Promise.all(answers)) expect(Buffer.from(seen)).toEqual(expected)
    expect(counts[0]).toBe(1)
  })

  test('ensure holds chunks for system calls; prefetch brings them; chunks tells', async () => {
    const byteLength = 40 * CHUNK
    const limited = await make({ byteLength }, { cacheBytes: 16 * CHUNK, readAheadBytes: 0 })
    const { paging } = limited
    const part = { byteOffset: 2 * CHUNK + 5, byteLength: CHUNK }
    expect([...paging.chunks(part)]).toEqual([0, 0])
    const hold = await paging.ensure(part)
    expect(hold).toMatchObject(part)
    expect([...paging.chunks({ byteOffset: CHUNK, byteLength: 4 * CHUNK })]).toEqual([0, 2, 2, 0])
    await paging.prefetch()
    const here = () => paging.chunks().reduce((sum, state) => sum + (state === 2), 0)
    expect(here()).toBe(16)
    expect([...paging.chunks(part)]).toEqual([2, 2])
    expect(paging.stats()).toMatchObject({ presentChunks: 16, evictions: 24 })
    const file = directory.file()
    const fd = fs.openSync(file, 'w')
    expect(fs.writeSync(fd, new Uint8Array(limited.view(part)))).toBe(part.byteLength)
    const missing = new Uint8Array(limited.view(5 * CHUNK, CHUNK))
    expect(thrownBy(() => fs.writeSync(fd, missing))).toMatchObject({ code: 'EFAULT' })
    fs.closeSync(fd)
    expect(fs.readFileSync(file)).toEqual(bytesFrom(part.byteOffset, part.byteLength))
    hold.release()
    hold.release()
    await paging.prefetch({ byteOffset: 20 * CHUNK })
    expect([...paging.chunks(part)]).toEqual([0, 0])
    // More than there is room for, while it is held.
    const all = await paging.ensure()
    expect(here()).toBe(40)
    expect(bytesIn(limited).equals(bytesFrom(0, byteLength))).toBe(true)
    all[Symbol.dispose]()
    await paging.prefetch({ byteOffset: 0, byteLength: CHUNK })
    expect((await paging.ensure({ byteOffset: 3, byteLength: 0 })).byteLength).toBe(0)
  })

  test('within a limit, what is written to a private mapping stays', async () => {
    const byteLength = 64 * CHUNK
    const region = await make({ byteLength }, { cacheBytes: 16 * CHUNK, readAheadBytes: 0 })
    const guarded = new GuardedMemory({ initial: 1, maximum: 100 })
    const module = await probe(guarded.memory)
    const { pointer } = guarded.map(region, { access: 'private' })
    for (const chunk of [0, 3, 63]) module.store8(pointer + chunk * CHUNK + 9, 0x55)
    for (let pass = 0; pass < 2; pass++) {
      for (let chunk = 0; chunk < 64; chunk++) {
        const expected = bytesFrom(chunk * CHUNK, 12)
        if ([0, 3, 63].includes(chunk)) expected[9] = 0x55
        expect(module.bytes(pointer + chunk * CHUNK, 12)).toEqual(expected)
      }
    }
    // The mapping's own pages need no chunk, unless each chunk is mapped by itself.
    const [first] = region.paging.chunks({ byteLength: 1 })
    expect(first).toBe(region.paging.userfaultfd ? 0 : 2)
  })

  test('evicted chunks come again, in mappings, views and windows alike', async () => {
    const byteLength = 64 * CHUNK
    const region = await make({ byteLength }, { cacheBytes: 16 * CHUNK })
    const guarded = new GuardedMemory({ initial: 1, maximum: 200 })
    const { pointer } = guarded.map(region)
    const mapped = () => Buffer.from(new Uint8Array(guarded.memory.buffer, pointer, byteLength))
    const expected = bytesFrom(0, byteLength)
    for (let pass = 0; pass < 3; pass++) {
      expect(bytesIn(region).equals(expected)).toBe(true)
      expect(mapped().equals(expected)).toBe(true)
    }
    expect(region.paging.stats().evictions).toBeGreaterThan(200)
    expect(region.paging.stats().presentChunks).toBeLessThanOrEqual(16)
  })

  test('what fails is zeros that count in JavaScript, a trap in Wasm, and can be had again', async () => {
    const data = { byteLength: 8 * CHUNK, failEvery: 2 }
    const region = await make(data, { readAheadBytes: 0 })
    const guarded = new GuardedMemory({ initial: 1, maximum: 20 })
    const module = await probe(guarded.memory)
    const { pointer } = guarded.map(region)
    expect(module.bytes(pointer, 4)).toEqual(bytesFrom(0, 4)) // call 0
    expect(() => module.load8(pointer + CHUNK)).toThrow(WebAssembly.RuntimeError) // 1 fails
    expect(module.bytes(pointer + CHUNK, 4)).toEqual(bytesFrom(CHUNK, 4)) // 2
    expect(region.paging.stats()).toMatchObject({ failures: 1, failedTouches: 1 })
    expect(region.paging.stats().lastError).toMatch('call 1 fails')
    const bytes = new Uint8Array(region.view())
    expect(bytes[3 * CHUNK + 1]).toBe(0) // 3 fails
    expect(region.faults).toBe(1)
    expect(await nextWarning()).toMatchObject({ code: 'HOSTMAP_MISSING_PAGE' })
    expectError(
      thrownBy(() => region.checkFaults()),
      { code: 'ERR_HOSTMAP_FAULTED' }
    )
    const fresh = new Uint8Array(region.view(3 * CHUNK, CHUNK))
    expect(Buffer.from(fresh)).toEqual(bytesFrom(3 * CHUNK, CHUNK)) // 4
  })

  test('closing it ends waiting touches, and what is here can be read on', async () => {
    const found = await inChild(
      async ({ hostmap: { HostRegion, GuardedMemory }, require, args }) => {
        const { Worker } = require('node:worker_threads')
        const region = await HostRegion.paged(args)
        const guarded = new GuardedMemory({ initial: 1, maximum: 20, shared: true })
        const mapping = guarded.map(region)
        const { pointer } = mapping
        const worker = new Worker(
          `const { parentPort, workerData: { memory, pointer } } = require('node:worker_threads')
           const bytes = new Uint8Array(memory.buffer)
           parentPort.postMessage('ready')
           parentPort.postMessage(bytes[pointer + 100000])`,
          { eval: true, workerData: { memory: guarded.memory, pointer } }
        )
        const said = () => new Promise(resolve => worker.once('message', resolve))
        await said()
        while (region.paging.stats().touches === 0) await new Promise(f => setTimeout(f, 5))
        const begun = performance.now()
        region.close()
        const seen = await said()
        await worker.terminate()
        return { seen, waited: performance.now() - begun < 10_000, faults: mapping.faults }
      },
      { args: optionsOf({ byteLength: 4 * CHUNK, mode: 'never' }, { userfaultfd }) }
    )
    expect(found).toEqual({ seen: 0, waited: true, faults: 1 })
  })
})

test('regions that are not paged say so', () => {
  const region = HostRegion.allocate(5)
  expect(region.paging).toBe(null)
  region.close()
})

test('it is not written or handed out', async () => {
  const region = await paged({})
  expect(region.writable).toBe(false)
  const codes = ['ERR_HOSTMAP_REGION_PAGED', 'ERR_HOSTMAP_REGION_READONLY']
  const calls = [
    () => region.write(Buffer.from('x')),
    () => region.createWriteStream(),
    () => region.writableStream(),
    () => region.share({ access: 'shared' }),
    () => region.duplicateFd(),
    () => new GuardedMemory({ initial: 1 }).map(region, { access: 'shared' }),
    () => region.waitSync(0, 0, { timeoutMs: 0 }),
    () => region.wait(0, 0),
    () => region.notify(0)
  ]
  for (const call of calls) {
    await fails(call, codes)
  }
  expect(bytesIn(region, 0, 9)).toEqual(bytesFrom(0, 9))
})

test('after close, its calls say so', async () => {
  const region = await paged({})
  const { paging } = region
  const hold = await paging.ensure({ byteLength: 1 })
  region.close()
  hold.release()
  for (const call of [() => paging.ensure(), () => paging.prefetch(), () => paging.chunks()]) {
    await fails(call, CLOSED)
  }
  expect(paging.stats().presentChunks).toBe(1)
  expect(thrownBy(() => region.view())).toMatchObject({ code: CLOSED })
})

test('what waits for chunks ends when the region is closed, or the signal says so', async () => {
  const region = await paged({ mode: 'never' })
  const { paging } = region
  await fails(() => paging.ensure({ signal: AbortSignal.abort() }), 'ABORT_ERR')
  const controller = new AbortController()
  const { signal } = controller
  const waits = [paging.ensure({ signal }), paging.prefetch({ signal })]
  setImmediate(() => controller.abort(new Error('enough')))
  for (const wait of waits) await fails(() => wait, 'ABORT_ERR')
  const others = [paging.ensure(), paging.prefetch()]
  setImmediate(() => region.close())
  for (const wait of others) await fails(() => wait, 'ERR_HOSTMAP_PAGING_ENDED')
})

test('opening ends when the signal says so, before and during', async () => {
  for (const signal of [AbortSignal.abort(), AbortSignal.timeout(300)]) {
    const opening = () => paged({ mode: 'never-opens' }, { signal })
    await fails(opening, 'ABORT_ERR')
  }
})

test('progress is told, and what it throws ends the prefetch', async () => {
  const region = await paged({ byteLength: 30 * CHUNK, delayMs: 30 }, { concurrency: 2 })
  const told = []
  await region.paging.prefetch({ onProgress: (...said) => told.push(said) })
  expect(told.length).toBeGreaterThan(2)
  expect(told.at(-1)).toEqual([30 * CHUNK, 30 * CHUNK])
  expect(told).toEqual(told.toSorted((a, b) => a[0] - b[0]))
  const other = await paged({ byteLength: 30 * CHUNK, delayMs: 30 }, { concurrency: 2 })
  const onProgress = () => {
    throw new Error('no more')
  }
  await expect(other.paging.prefetch({ onProgress })).rejects.toThrow('no more')
})

test('neither process nor thread is kept by it, and nothing is left', async () => {
  const found = await inChild(
    async ({ hostmap: { HostRegion }, require, args }) => {
      const fs = require('node:fs')
      const settle = () => new Promise(f => setTimeout(f, 50))
      const count = () => ({
        fds: fs.readdirSync('/proc/self/fd').length,
        threads: fs.readdirSync('/proc/self/task').length
      })
      const round = async () => {
        const region = await HostRegion.paged(args)
        new Uint8Array(region.view())[5]
        region.close()
      }
      await round()
      await settle()
      const before = count()
      for (let i = 0; i < 10; i++) await round()
      let after
      for (let i = 0; i < 100; i++) {
        await settle()
        after = count()
        if (after.fds <= before.fds && after.threads <= before.threads) break
      }
      // This one is open when the process ends.
      await HostRegion.paged(args)
      return { before, after }
    },
    { args: optionsOf({}) }
  )
  expect(found.after.fds).toBeLessThanOrEqual(found.before.fds)
  expect(found.after.threads).toBeLessThanOrEqual(found.before.threads)
})

test('what nobody has any more is let go without a word, region and hold together', async () => {
  const found = await inChild(
    async ({ hostmap: { HostRegion }, collect, args }) => {
      let paging
      const make = async () => {
        const region = await HostRegion.paged(args)
        await region.paging.ensure({ byteLength: 1 })
        return [region.paging, await region.paging.ensure({ byteLength: 1 })]
      }
      let hold
      for (let i = 0; i < 3; i++) [paging, hold] = await make()
      for (let i = 0; i < 10; i++) await collect()
      hold.release()
      await paging.ensure()
      return paging.stats().presentChunks
    },
    { args: optionsOf({ byteLength: 2 * CHUNK }), flags: ['--expose-gc'] }
  )
  expect(found).toBe(2)
})

test('the chunk size is a multiple of the host page, up to the region and beyond', async () => {
  const page = limits().pageSize
  for (const chunkBytes of [page, 3 * page, 8 * MiB]) {
    const region = await paged({ byteLength: 5 * page + 1 }, { chunkBytes })
    expect(bytesIn(region)).toEqual(bytesFrom(0, 5 * page + 1))
  }
  const one = await paged({ byteLength: 1 })
  expect(bytesIn(one)).toEqual(bytesFrom(0, 1))
})

test('a large region costs nothing before it is touched', async () => {
  const region = await paged({ byteLength: 2 ** 40 }, { chunkBytes: MiB })
  const at = 2 ** 39 + 12_345
  const guarded = new GuardedMemory({ initial: 1, maximum: 2 })
  const window = guarded.window({ byteLength: WASM_PAGE })
  const module = await probe(guarded.memory)
  const { pointer } = window.slide(region, at)
  expect(module.bytes(Number(pointer), 5)).toEqual(bytesFrom(at, 5))
  expect(region.paging.stats().presentChunks).toBe(1)
})

test('it says what it is', async () => {
  const region = await paged({ byteLength: 5 }, { name: 'orders' })
  const { name, backing, writable } = region
  expect({ name, backing, writable }).toEqual({ name: 'orders', backing: 'memfd', writable: false })
})
