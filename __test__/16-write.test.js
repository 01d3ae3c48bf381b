'use strict'

// Writing into a region by `write` and by streams, and the way out of it: streams and Blobs.

const fs = require('node:fs')
const { Blob: NodeBlob } = require('node:buffer')
const { PassThrough, Readable } = require('node:stream')
const { buffer } = require('node:stream/consumers')
const { finished, pipeline } = require('node:stream/promises')
const { setImmediate: nextTurn } = require('node:timers/promises')
const zlib = require('node:zlib')
const { GuardedMemory, HostRegion, limits } = require('..')
const { expectError, expectFailure, thrownBy } = require('./support/errors')
const { inChild } = require('./support/child')
const { temporaryDirectory, noise } = require('./support/files')
const { KiB, MiB, WASM_PAGE } = require('./support/wasm')

const PAGE = limits().pageSize
const directory = temporaryDirectory()
const LENGTH = 'ERR_HOSTMAP_SOURCE_LENGTH'
const READONLY = 'ERR_HOSTMAP_REGION_READONLY'
const CLOSED = 'ERR_HOSTMAP_REGION_CLOSED'
const RANGE = 'ERR_OUT_OF_RANGE'
const TYPE = 'ERR_INVALID_ARG_TYPE'

const made = []
const keep = region => (made.push(region), region)
afterEach(() => made.splice(0).forEach(region => region.close()))

const bytesOf = (region, ...range) => Buffer.from(region.view(...range))
const all = noise(MiB + 17)

/** Regions of every kind that can be written, with these bytes. */
const writable = {
  'a memfd': bytes => HostRegion.copyFrom(bytes),
  'huge pages': bytes => HostRegion.copyFrom(bytes, { hugePages: true }),
  'a file': bytes => HostRegion.open(directory.file(bytes), { writable: true }),
  'a part of a file': bytes =>
    HostRegion.open(directory.file(Buffer.concat([noise(PAGE, 5), bytes, noise(PAGE, 6)])), {
      writable: true,
      byteOffset: PAGE,
      byteLength: bytes.length
    }),
  'a region of a token': bytes => HostRegion.receive(HostRegion.copyFrom(bytes).share())
}

describe.each(Object.entries(writable))('region.write on %s', (_, make) => {
  test('writes any bytes at any offset, which views and mappings show', () => {
    const region = keep(make(all))
    const expected = Buffer.from(all)
    const view = bytesOf(region)
    const guarded = new GuardedMemory({ initial: 1 })
    const mapping = guarded.map(region)
    const cases = [
      [Buffer.from('text'), undefined],
      [Uint16Array.of(1, 2, 3).subarray(1), 4095],
      [new DataView(new ArrayBuffer(9), 2, 5), PAGE],
      [noise(100_000, 9).buffer, 77],
      [new Uint8Array(new SharedArrayBuffer(3)).fill(7), all.length - 3],
      [new Uint8Array(0), all.length]
    ]
    for (const [source, byteOffset] of cases) {
      const bytes = Buffer.from(
        ArrayBuffer.isView(source)
          ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
          : new Uint8Array(source)
      )
      expect(region.write(source, byteOffset)).toBe(bytes.length)
      bytes.copy(expected, byteOffset ?? 0)
    }
    expect(view.equals(expected)).toBe(true)
    const shown = Buffer.from(guarded.buffer, mapping.address, all.length)
    expect(shown.equals(expected)).toBe(true)
  })

  test('writes nothing outside of the region', async () => {
    const region = keep(make(all))
    const refused = [
      [new Uint8Array(1), all.length],
      [new Uint8Array(2), all.length - 1],
      [new Uint8Array(all.length), 1],
      [new Uint8Array(all.length + 1), 0],
      [new Uint8Array(1), -1],
      [new Uint8Array(1), 0.5],
      [new Uint8Array(1), NaN],
      [new Uint8Array(0), all.length + 1]
    ]
    for (const [source, byteOffset] of refused)
      await expectFailure(() => region.write(source, byteOffset), { code: RANGE })
    expect(bytesOf(region).equals(all)).toBe(true)
  })
})

describe('region.write', () => {
  test.each([
    ['a text', 'x', /Buffer\.from/],
    ['a number', 1, /received 1/],
    ['an array', [1], /Uint8Array\.from/],
    ['null', null, /null/],
    ['a Blob', new Blob(['x']), /HostRegion\.from/]
  ])('refuses %s', async (_, source, says) => {
    const region = keep(HostRegion.allocate(10))
    await expectFailure(() => region.write(source), { code: TYPE, says: [/source/, says] })
  })

  test('refuses a detached buffer', async () => {
    const region = keep(HostRegion.allocate(10))
    const { buffer } = new Uint8Array(1)
    structuredClone(buffer, { transfer: [buffer] })
    await expectFailure(() => region.write(buffer), {
      code: 'ERR_INVALID_ARG_VALUE',
      says: /not detached/
    })
  })

  test.each([
    ['sealed', () => HostRegion.allocate(10).seal()],
    ['of a file opened for reading', () => HostRegion.open(directory.file(noise(10)))],
    [
      'received for reading',
      () => HostRegion.receive(HostRegion.allocate(10).share({ access: 'readonly' }))
    ]
  ])('refuses a region that is %s', async (_, make) => {
    const region = keep(make())
    const before = bytesOf(region)
    const calls = [
      () => region.write(Buffer.alloc(1)),
      () => region.write(Buffer.alloc(0)),
      () => region.createWriteStream(),
      () => region.writableStream()
    ]
    for (const call of calls) await expectFailure(call, { code: READONLY, says: /can't write/ })
    expect(bytesOf(region).equals(before)).toBe(true)
  })

  test('refuses a closed region', async () => {
    const region = HostRegion.allocate(10)
    region.close()
    for (const call of [
      () => region.write(Buffer.alloc(1)),
      () => region.createWriteStream(),
      () => region.writableStream(),
      () => region.createReadStream(),
      () => region.readableStream(),
      () => region.blob()
    ])
      await expectFailure(call, { code: CLOSED })
  })

  test('a file that got shorter is an error, and stays so short', async () => {
    const file = directory.file(noise(3 * PAGE))
    const region = keep(HostRegion.open(file, { writable: true }))
    fs.truncateSync(file, PAGE)
    await expectFailure(() => region.write(Buffer.alloc(1), 2 * PAGE), {
      code: 'ERR_HOSTMAP_FILE_SHRUNK',
      says: [
        /^can't write to region/,
        `has ${PAGE} bytes now`,
        `byte ${2 * PAGE + 1} of it; make the file`
      ]
    })
    expect(fs.statSync(file).size).toBe(PAGE)
    region.write(Buffer.from('there'))
    expect(fs.readFileSync(file).subarray(0, 5).toString()).toBe('there')
  })

  test('bytes of a file that got shorter are an error with a code', async () => {
    const file = directory.file(noise(3 * PAGE))
    const source = keep(HostRegion.open(file)).bytes()
    const region = keep(HostRegion.allocate(3 * PAGE))
    fs.truncateSync(file, 0)
    expectError(await thrownBy(() => region.write(source)), {
      code: 'ERR_HOSTMAP_READ_FAILED',
      says: /truncated/
    })
  })

  test('a descriptor that appends writes where it should', () => {
    const file = directory.file(noise(PAGE))
    const fd = fs.openSync(file, 'a+')
    const region = keep(HostRegion.fromFd(fd))
    region.write(Buffer.from('here'), 10)
    fs.closeSync(fd)
    expect(fs.statSync(file).size).toBe(PAGE)
    expect(fs.readFileSync(file).subarray(10, 14).toString()).toBe('here')
  })

  test('of a view of the region itself is what it was', () => {
    const region = keep(HostRegion.copyFrom(all))
    region.write(new Uint8Array(region.view(0, 5000)), 600_000)
    expect(bytesOf(region, 600_000, 5000).equals(all.subarray(0, 5000))).toBe(true)
  })

  test('changes no snapshot of a mapping that is private', () => {
    const region = keep(HostRegion.copyFrom(noise(WASM_PAGE)))
    const bytes = region.bytes({ access: 'private' })
    bytes[0] = 99
    region.write(Buffer.from([1, 2]), 0)
    expect([bytes[0], bytesOf(region)[0]]).toEqual([99, 1])
  })
})

const streams = {
  'a stream of Node': {
    open: (region, options) => region.createWriteStream(options),
    fill: (stream, chunks) => pipeline(Readable.from(chunks), stream)
  },
  'a web stream': {
    open: (region, options) => region.writableStream(options),
    fill: (stream, chunks) =>
      new ReadableStream({
        start(controller) {
          for (const chunk of chunks) controller.enqueue(chunk)
          controller.close()
        }
      }).pipeTo(stream)
  }
}

describe.each(Object.entries(streams))('%s into a region', (_, { open, fill }) => {
  const pieces = [all.subarray(0, 1), all.subarray(1, 70_000), all.subarray(70_000)]

  test('writes one chunk after another', async () => {
    const region = keep(HostRegion.allocate(all.length))
    await fill(open(region), pieces)
    expect(bytesOf(region).equals(all)).toBe(true)
  })

  test('gives others their turn', async () => {
    const region = keep(HostRegion.allocate(64 * MiB))
    let turns = 0
    let isOver = false
    const turn = () => {
      turns++
      if (!isOver) setImmediate(turn)
    }
    setImmediate(turn)
    const piece = Buffer.alloc(64 * KiB)
    await fill(open(region), Array(region.byteLength / piece.length).fill(piece))
    isOver = true
    expect(turns).toBeGreaterThan(4)
  })

  test('keeps to its part, and may end before', async () => {
    const region = keep(HostRegion.allocate(100))
    await fill(open(region, { byteOffset: 10, byteLength: 20 }), [Buffer.alloc(15, 1)])
    await fill(open(region, { byteOffset: 30 }), [Buffer.alloc(70, 2)])
    const expected = Buffer.concat([
      Buffer.alloc(10),
      Buffer.alloc(15, 1),
      Buffer.alloc(5),
      Buffer.alloc(70, 2)
    ])
    expect(bytesOf(region).equals(expected)).toBe(true)
  })

  test('fails with the first chunk that is too long, of which nothing is written', async () => {
    const region = keep(HostRegion.allocate(100))
    const filling = fill(open(region, { byteOffset: 10, byteLength: 20 }), [
      Buffer.alloc(15, 1),
      Buffer.alloc(6, 2)
    ])
    expectError(await thrownBy(() => filling), { code: LENGTH, says: [/6 bytes after 15/, /20/] })
    expect(bytesOf(region).filter(byte => byte === 2).length).toBe(0)
  })

  test.each([
    ['closed', region => region.close(), CLOSED],
    ['sealed', region => region.seal(), READONLY]
  ])('fails once the region is %s', async (_, end, code) => {
    const region = keep(HostRegion.allocate(100))
    const stream = open(region)
    end(region)
    expectError(await thrownBy(() => fill(stream, [Buffer.alloc(1)])), { code })
  })

  test('refuses parts outside of the region', async () => {
    const region = keep(HostRegion.allocate(100))
    for (const options of [
      { byteOffset: 101 },
      { byteOffset: 50, byteLength: 51 },
      { byteOffset: -1 }
    ])
      await expectFailure(() => open(region, options), { code: RANGE })
    await expectFailure(() => open(region, { start: 1 }), {
      code: 'ERR_INVALID_ARG_VALUE',
      says: /byteOffset/
    })
  })
})

test('a stream of Node says how much it has written, and encodes strings', async () => {
  const region = keep(HostRegion.allocate(100))
  const stream = region.createWriteStream()
  expect(stream.bytesWritten).toBe(0)
  stream.write('äb')
  stream.end('6364', 'hex')
  await finished(stream)
  expect(stream.bytesWritten).toBe(5)
  expect(bytesOf(region, 0, 5).toString()).toBe('äbcd')
})

test('a web stream takes no strings', async () => {
  const region = keep(HostRegion.allocate(100))
  const writing = thrownBy(() => new Response('x').text().then(() => write('x')))
  const write = chunk => region.writableStream().getWriter().write(chunk)
  expectError(await writing, { code: TYPE, says: /Buffer\.from\(text\)/ })
})

// Its best quality takes seconds.
const packQuickly = bytes =>
  zlib.brotliCompressSync(bytes, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 1 } })

test('what zlib unpacks goes into a region', async () => {
  const region = keep(HostRegion.allocate(all.length))
  for (const [pack, unpack] of [
    [zlib.gzipSync, zlib.createGunzip],
    [packQuickly, zlib.createBrotliDecompress],
    ...(zlib.zstdCompressSync ? [[zlib.zstdCompressSync, zlib.createZstdDecompress]] : [])
  ]) {
    region.write(Buffer.alloc(all.length))
    const source = new PassThrough()
    source.end(pack(all))
    await pipeline(source, unpack(), region.createWriteStream())
    expect(bytesOf(region).equals(all)).toBe(true)
  }
})

const outward = {
  'a stream of Node': (region, options) => buffer(region.createReadStream(options)),
  'a web stream': (region, options) => buffer(region.readableStream(options)),
  'a Blob': (region, options) => buffer(region.blob(withoutChunk(options)).stream())
}
const withoutChunk = ({ byteOffset, byteLength } = {}) => ({ byteOffset, byteLength })

const sources = {
  ...writable,
  'a sealed memfd': bytes => HostRegion.copyFrom(bytes).seal(),
  'a file for reading': bytes => HostRegion.open(directory.file(bytes))
}

describe.each(Object.entries(outward))('%s out of', (_, read) => {
  test.each(Object.entries(sources))('%s has its bytes', async (_, make) => {
    const region = keep(make(all))
    expect((await read(region)).equals(all)).toBe(true)
    const options = { byteOffset: 4095, byteLength: 70_001, chunk: 5000 }
    expect((await read(region, options)).equals(all.subarray(4095, 74_096))).toBe(true)
    expect((await read(region, { byteOffset: all.length })).length).toBe(0)
    expect((await read(region, { byteLength: 0 })).length).toBe(0)
    expect((await read(region, { byteLength: 1, chunk: 1 })).equals(all.subarray(0, 1))).toBe(true)
  })

  test('refuses parts outside of the region', async () => {
    const region = keep(HostRegion.allocate(100))
    for (const options of [{ byteOffset: 101 }, { byteOffset: 50, byteLength: 51 }])
      expectError(await thrownBy(() => read(region, options)), { code: RANGE })
  })

  test('of a file that got shorter is an error', async () => {
    const file = directory.file(noise(4 * PAGE))
    const region = keep(HostRegion.open(file))
    fs.truncateSync(file, PAGE)
    const code = 'ERR_HOSTMAP_FILE_SHRUNK'
    expectError(await thrownBy(() => read(region)), { code, says: /can't/ })
  })
})

describe('streams out of a region', () => {
  test.each([0, -1, 0.5, 2 ** 30 + 1, '1'])('refuse %p for chunk', async chunk => {
    const region = keep(HostRegion.allocate(100))
    const code = typeof chunk === 'string' ? TYPE : RANGE
    for (const call of [
      () => region.createReadStream({ chunk }),
      () => region.readableStream({ chunk })
    ])
      await expectFailure(call, { code, says: /options\.chunk/ })
  })

  test('read no more ahead than a chunk', async () => {
    const region = keep(HostRegion.copyFrom(all))
    const stream = region.createReadStream({ chunk: 1000 })
    stream.once('readable', () => {})
    for (let turns = 0; turns < 20; turns++) await nextTurn()
    expect(stream.readableLength).toBeLessThanOrEqual(2000)
    stream.destroy()
    await finished(stream).catch(() => {})
  })

  test('go on after the region is closed, once they were read', async () => {
    const region = HostRegion.copyFrom(all)
    const node = region.createReadStream({ chunk: 1000 })[Symbol.asyncIterator]()
    const web = region.readableStream({ chunk: 1000 }).getReader()
    const never = region.createReadStream()
    const parts = [[(await node.next()).value], [(await web.read()).value]]
    region.close()
    for (let each; !(each = await node.next()).done;) parts[0].push(each.value)
    for (let each; !(each = await web.read()).done;) parts[1].push(each.value)
    for (const chunks of parts) expect(Buffer.concat(chunks).equals(all)).toBe(true)
    expectError(await thrownBy(() => buffer(never)), { code: CLOSED })
  })

  test('a reader that brings its own buffers gets them filled', async () => {
    const region = keep(HostRegion.copyFrom(all))
    const reader = region.readableStream().getReader({ mode: 'byob' })
    let at = 0
    for (let view = new Uint8Array(100_000); ;) {
      const { done, value } = await reader.read(view)
      if (done) break
      expect(Buffer.from(value).equals(all.subarray(at, at + value.length))).toBe(true)
      at += value.length
      view = new Uint8Array(value.buffer)
    }
    expect(at).toBe(all.length)
  })

  test('several reads at once, past the end too', async () => {
    const region = keep(HostRegion.copyFrom(all.subarray(0, 10)))
    const reader = region.readableStream().getReader({ mode: 'byob' })
    const reads = [8, 8, 8].map(length => reader.read(new Uint8Array(length)))
    const [first, second, third] = await Promise.all(reads)
    expect([first.value.length, second.value.length, third.done]).toEqual([8, 2, true])
  })

  test('leave no descriptor: at their end, destroyed, cancelled, failed or forgotten', async () => {
    const left = await inChild(
      async ({ hostmap: { HostRegion }, collect, openFiles }) => {
        const region = HostRegion.copyFrom(Buffer.alloc(2 ** 20), { name: 'outward' })
        const count = () =>
          Object.values(openFiles()).filter(file => file.includes('outward')).length
        for await (const _ of region.createReadStream()) void _
        await new Response(region.readableStream()).arrayBuffer()
        await region.createReadStream({ chunk: 1000 }).take(1).toArray()
        const cancelled = region.readableStream().getReader()
        await cancelled.read()
        await cancelled.cancel()
        const destroyed = region.createReadStream()
        destroyed.read()
        destroyed.destroy()
        await (async () => {
          const forgotten = [region.createReadStream(), region.readableStream()]
          await forgotten[0][Symbol.asyncIterator]().next()
          await forgotten[1].getReader().read()
        })()
        const opened = count()
        region.close()
        for (let rounds = 0; count() > 0 && rounds < 100; rounds++) await collect(1)
        return [opened, count()]
      },
      { flags: ['--expose-gc'] }
    )
    // The region's own, which all of them share.
    expect(left).toEqual([1, 0])
  })

  test('leave none in a worker that ends in the middle, and no warning in one that goes on', async () => {
    const [ended, left, warnings] = await inChild(
      async ({ hostmap: { HostRegion }, collect, openFiles, require }) => {
        const { Worker } = require('node:worker_threads')
        const { once } = require('node:events')
        const warnings = []
        process.on('warning', ({ message }) => warnings.push(message))
        const region = HostRegion.copyFrom(Buffer.alloc(2 ** 20), { name: 'outward' })
        const file = require.resolve('wasm-hostmap')
        const script = `
          const { parentPort, workerData } = require('node:worker_threads')
          const { HostRegion } = require(workerData.file)
          const region = HostRegion.receive(workerData.token)
          ;(async () => {
            for await (const _ of region.createReadStream()) void _
            globalThis.kept = Array.from({ length: 5 }, () => region.createReadStream({ chunk: 1000 }))
            for (const stream of kept) await stream[Symbol.asyncIterator]().next()
            parentPort.postMessage('read')
          })()`
        const workerData = { file, token: region.share() }
        const worker = new Worker(script, { eval: true, workerData })
        const [ended] = await once(worker, 'message')
        await worker.terminate()
        region.close()
        const count = () =>
          Object.values(openFiles()).filter(file => file.includes('outward')).length
        for (let rounds = 0; count() > 0 && rounds < 100; rounds++) await collect(1)
        return [ended, count(), warnings]
      },
      { flags: ['--expose-gc'] }
    )
    expect([ended, left, warnings]).toEqual(['read', 0, []])
  })

  test('of a short part keep no long buffer', async () => {
    const region = keep(HostRegion.copyFrom(all))
    const reader = region.readableStream({ byteLength: 4 }).getReader()
    const { value } = await reader.read()
    expect([value.length, value.buffer.byteLength]).toEqual([4, 4])
  })
})

describe('region.blob', () => {
  test('is a Blob with a type, and a copy', async () => {
    const region = keep(HostRegion.copyFrom(Buffer.from('{"a":1}')))
    const blob = region.blob({ type: 'application/json' })
    expect([blob.constructor.name, blob.size, blob.type]).toEqual(['Blob', 7, 'application/json'])
    expect(Object.getPrototypeOf(blob)).toBe(NodeBlob.prototype)
    region.write(Buffer.from('[]'))
    expect(await blob.text()).toBe('{"a":1}')
    region.close()
    expect(await blob.slice(1, 4).text()).toBe('"a"')
  })

  test('refuses a type that is no string', async () => {
    const region = keep(HostRegion.allocate(1))
    for (const type of [1, null, {}])
      await expectFailure(() => region.blob({ type }), { code: TYPE, says: /options\.type/ })
  })
})
