'use strict'

// HostRegion.from: every kind of source, and what goes wrong with each. A source that fails,
// stalls or changes leaves nothing behind, and is let go.

const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const { PassThrough, Readable, Duplex, addAbortSignal } = require('node:stream')
const { setImmediate: nextTurn } = require('node:timers/promises')
const vm = require('node:vm')
const zlib = require('node:zlib')
const { HostRegion } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { inChild } = require('./support/child')
const { temporaryDirectory, noise } = require('./support/files')
const { countOpen, fdOf, mappingsNamed } = require('./support/procfs')
const { KiB, MiB } = require('./support/wasm')

const directory = temporaryDirectory()
const LENGTH = 'ERR_HOSTMAP_SOURCE_LENGTH'
const TYPE = 'ERR_INVALID_ARG_TYPE'
const VALUE = 'ERR_INVALID_ARG_VALUE'

const made = []
const from = async (source, options) => {
  const region = await HostRegion.from(source, options)
  made.push(region)
  return region
}
afterEach(() => made.splice(0).forEach(region => region.close()))

const bytesOf = region => Buffer.from(region.view())

/** Checks that it fails with this error, and that no memory of it is left. */
async function expectRefused(source, options, expected) {
  const name = `refused ${expectRefused.count++}`
  const error = await thrownBy(() => HostRegion.from(source, { ...options, name }))
  expectError(error, expected)
  expect(countOpen(name)).toBe(0)
  expect(mappingsNamed(name)).toEqual([])
  return error
}
expectRefused.count = 0

/** In chunks of these sizes, over and over. */
function* chunksOf(bytes, ...sizes) {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length]
    yield bytes.subarray(at, at + size)
    at += size
  }
}

const all = noise(3 * MiB + 17)
const chunks = () => chunksOf(all, 1, 65_536, 0, 100_001)

async function* delayed(iterable) {
  for (const each of iterable) {
    await nextTurn()
    yield each
  }
}

/** A source that counts what it was asked for, and knows whether it was let go. */
function watched(iterable) {
  const told = { asked: 0, returned: 0 }
  const iterator = iterable[Symbol.iterator]()
  const source = {
    told,
    [Symbol.asyncIterator]: () => ({
      async next() {
        told.asked++
        return iterator.next()
      },
      async return() {
        told.returned++
        return { done: true, value: undefined }
      }
    })
  }
  return source
}

const webStream = (iterable, type) => {
  const iterator = iterable[Symbol.iterator]()
  return new ReadableStream({
    type,
    pull(controller) {
      for (;;) {
        const { done, value } = iterator.next()
        if (done) return controller.close()
        // A stream of bytes takes no empty chunk, and takes the buffer of each.
        if (type === 'bytes' && value.length === 0) continue
        return controller.enqueue(type === 'bytes' ? Uint8Array.from(value) : value)
      }
    }
  })
}

describe('HostRegion.from takes', () => {
  const path = directory.file(all, 'all.bin')
  const buffer = () => Uint8Array.from(all).buffer
  const shared = () => {
    const array = new Uint8Array(new SharedArrayBuffer(all.length))
    array.set(all)
    return array.buffer
  }
  const inAnotherRealm = () =>
    vm.runInNewContext('bytes => [new Uint8Array(bytes)][Symbol.iterator]()')(all)

  test.each([
    ['an ArrayBuffer', buffer],
    ['a SharedArrayBuffer', shared],
    ['a Buffer', () => all],
    ['a DataView', () => new DataView(buffer())],
    ['an array of chunks', () => [...chunks()]],
    ['a Set of chunks', () => new Set(chunks())],
    ['a generator', chunks],
    ['an async generator', () => delayed(chunks())],
    ['promises of chunks', () => [...chunks()].map(async chunk => chunk)],
    ['chunks that are ArrayBuffers', () => [...chunks()].map(each => Uint8Array.from(each).buffer)],
    ['chunks in shared memory', () => chunksOf(new Uint8Array(shared()), 65_537)],
    ['an iterator of another realm', inAnotherRealm],
    ['a Readable of a file', () => fs.createReadStream(path)],
    ['a Readable in object mode', () => Readable.from(chunks())],
    ['a Duplex', () => Duplex.from(delayed(chunks()))],
    ['a Transform', () => fs.createReadStream(path).pipe(new PassThrough())],
    [
      'what zlib unpacks',
      () => Readable.from([zlib.gzipSync(all)], { objectMode: false }).pipe(zlib.createGunzip())
    ],
    ['a ReadableStream', () => webStream(chunks())],
    ['a ReadableStream of bytes', () => webStream(chunks(), 'bytes')],
    ['a Blob', () => new Blob([all])],
    ['a File', () => new (require('node:buffer').File ?? Blob)([all], 'all.bin')],
    ['a Blob of a file', () => fs.openAsBlob(path)],
    ['a Response', () => new Response(all)],
    ['a Request', () => new Request('http://localhost/', { method: 'POST', body: all })],
    ["a Response's body", () => new Response(all).body]
  ])('%s', async (_, source) => {
    const region = await from(await source())
    expect(region).toMatchObject({ byteLength: all.length, backing: 'memfd', name: 'region' })
    expect(region.writable && !region.sealed).toBe(true)
    expect(bytesOf(region).equals(all)).toBe(true)
    // Its size is its bytes, and can't change.
    expect(fs.fstatSync(fdOf(region)).size).toBe(all.length)
    expect(() => fs.ftruncateSync(fdOf(region), 2 ** 30)).toThrow(/EPERM/)
  })

  test.each([true, false])('a name and huge pages, the length known: %s', async isKnown => {
    const region = await from(chunks(), {
      name: 'named',
      hugePages: true,
      ...(isKnown && { byteLength: all.length })
    })
    expect(region.name).toBe('named')
    expect(bytesOf(region).equals(all)).toBe(true)
    const { bytes, reason } = region.hugePages
    if (bytes > 0) expect([bytes, reason]).toEqual([2 * MiB, null])
  })

  test('huge pages for less than one: none, and no memory for them', async () => {
    const region = await from([all.subarray(0, 10)], { hugePages: true })
    expect(region.hugePages).toEqual({
      bytes: 0,
      reason: expect.stringMatching(/less than 2 MiB/)
    })
    expect(fs.fstatSync(fdOf(region)).blocks * 512).toBeLessThan(MiB)
  })

  test('a chunk that is larger than what is written at once, with turns for others', async () => {
    const large = noise(50 * MiB)
    let turns = 0
    let isDone = false
    const filling = from([large]).finally(() => (isDone = true))
    for (; !isDone; turns++) await nextTurn()
    expect(turns).toBeGreaterThan(3)
    expect(bytesOf(await filling).equals(large)).toBe(true)
  })
})

describe('one chunk at a time', () => {
  test('the next one is asked for when the last one is written', async () => {
    const scratch = Buffer.alloc(1000)
    function* again() {
      for (let i = 1; i <= 100; i++) yield scratch.fill(i)
    }
    const region = await from(again())
    const bytes = bytesOf(region)
    for (let i = 0; i < 100; i++) expect(bytes[i * 1000 + 999]).toBe(i + 1)
  })

  test('a Readable holds no more than its highWaterMark, though it has all', async () => {
    let most = 0
    const stream = new Readable({
      highWaterMark: 64 * KiB,
      read() {
        most = Math.max(most, this.readableLength)
        this.push(++this.given > 200 ? null : Buffer.alloc(16 * KiB, this.given))
      }
    })
    stream.given = 0
    const region = await from(stream)
    expect(region.byteLength).toBe(200 * 16 * KiB)
    expect(most).toBeLessThanOrEqual(64 * KiB)
  })
})

describe('how many bytes', () => {
  test.each([
    ['as many as said', 100, [60, 40], null],
    ['fewer', 101, [60, 40], /ended after 100 bytes; it should have 101 by options.byteLength/],
    ['none', 10, [], /no bytes/],
    ['more, in a chunk', 99, [60, 40], /more than the 99 .* chunk 1, of 40 bytes, comes after 60/],
    ['more, in one of its own', 60, [60, 40], /more than the 60 bytes/]
  ])('%s', async (_, byteLength, sizes, says) => {
    const source = watched(sizes.map(size => Buffer.alloc(size, 1)))
    if (says === null) {
      const region = await from(source, { byteLength })
      expect(region.byteLength).toBe(byteLength)
      expect(source.told.returned).toBe(0)
      return
    }
    await expectRefused(source, { byteLength }, { code: LENGTH, says })
    expect(source.told.returned).toBe(/more/.test(says) ? 1 : 0)
  })

  test('a source that never ends ends at the first byte too many', async () => {
    function* endless() {
      for (;;) yield Buffer.alloc(MiB)
    }
    await expectRefused(endless(), { byteLength: 3 * MiB }, { code: LENGTH, says: /more than/ })
  })

  test.each([
    ['an empty array', () => []],
    ['empty chunks', () => [Buffer.alloc(0), Buffer.alloc(0)]],
    ['an empty Blob', () => new Blob([])],
    ['an empty buffer', () => new ArrayBuffer(0)],
    ['a response without a body', () => new Response(null, { status: 204 })],
    ['an empty stream', () => Readable.from([])]
  ])('%s has none: an error', async (_, source) => {
    await expectRefused(source(), {}, { code: LENGTH, says: /no bytes/ })
  })

  test('byteLength and what the source says must agree', async () => {
    const says = [/5 bytes by itself/, /options.byteLength is 4/]
    await expectRefused(Buffer.alloc(5), { byteLength: 4 }, { code: LENGTH, says })
    const response = new Response('12345', { headers: { 'content-length': '5' } })
    await expectRefused(response, { byteLength: 6 }, { code: LENGTH, says: /its Content-Length/ })
    expect((await from(new Blob(['12345']), { byteLength: 5 })).byteLength).toBe(5)
  })

  test('a Content-Length counts, unless the bytes were packed', async () => {
    const response = headers => new Response('12345', { headers })
    const length = { 'content-length': '6' }
    const says = /ended after 5 bytes; it should have 6 by its Content-Length/
    await expectRefused(response(length), {}, { code: LENGTH, says })
    await expectRefused(response({ 'content-length': '4' }), {}, { code: LENGTH })
    for (const packed of ['gzip', 'br, gzip', 'zstd']) {
      const region = await from(response({ ...length, 'content-encoding': packed }))
      expect(region.byteLength).toBe(5)
    }
    for (const odd of ['', 'x', '-1', '5, 5', '1e3'])
      expect((await from(response({ 'content-length': odd }))).byteLength).toBe(5)
    const right = { 'content-length': '5', 'content-encoding': 'identity' }
    expect((await from(response(right))).byteLength).toBe(5)
  })
})

describe('what is no source, or a wrong chunk', () => {
  test.each([
    ['a path', () => '/data/x.bin', /HostRegion\.open\(path\).*load\(path\)/],
    ['a URL', () => new URL('file:///x'), /HostRegion\.open/],
    ['a promise', () => Promise.resolve(new Blob(['x'])), /await/],
    ['a number', () => 7, /HostRegion\.allocate/],
    ['null', () => null, /null/],
    ['undefined', () => undefined, /undefined/],
    ['an object', () => ({}), /iterable/],
    ['a region', () => HostRegion.allocate(1), /`bytes\(\)`/],
    ['a memory', () => new WebAssembly.Memory({ initial: 1 }), /`buffer`/],
    ['a function', () => function* generate() {}, /call it/],
    ['a TransformStream', () => new TransformStream(), /`readable`/],
    ['a DecompressionStream', () => new DecompressionStream('gzip'), /`readable`/],
    ['a Writable', () => new (require('node:stream').Writable)(), /Writable|object/]
  ])('%s', async (_, source, says) => {
    await expectRefused(source(), {}, { code: TYPE, says: [/^source must be/, says] })
  })

  test('a FileHandle: the error leads to fromFd', async () => {
    const handle = await fs.promises.open(__filename)
    await expectRefused(handle, {}, { code: TYPE, says: /fromFd\(handle\.fd\)/ })
    await handle.close()
  })

  test.each([
    ['a string', 'x', /Buffer\.from\(text\)/],
    ['a number', 1, /Uint8Array\.from/],
    ['null', null, /null/],
    ['undefined', undefined, /undefined/],
    ['an object that looks like bytes', { byteLength: 1, buffer: new ArrayBuffer(1) }, /object/],
    ['a Blob', new Blob(['x']), /arrayBuffer/]
  ])('a chunk that is %s', async (_, chunk, says) => {
    const source = watched([Buffer.alloc(10), chunk, Buffer.alloc(10)])
    await expectRefused(source, {}, { code: TYPE, says: [/chunk 1 of source/, says] })
    expect(source.told).toEqual({ asked: 2, returned: 1 })
  })

  test('a stream with an encoding is refused, and not read', async () => {
    const stream = fs.createReadStream(__filename, 'utf8')
    await expectRefused(stream, {}, { code: VALUE, says: /encoding 'utf8'/ })
    stream.destroy()
    const later = new PassThrough()
    const filling = thrownBy(() => HostRegion.from(later))
    later.setEncoding('utf8')
    later.write('text')
    expectError(await filling, { code: TYPE, says: /chunk 0 .* the string 'text'/ })
    expect(later.destroyed).toBe(true)
  })

  test('a stream that is locked, read, destroyed or at its end', async () => {
    const locked = webStream(chunks())
    locked.getReader()
    await expectRefused(locked, {}, { code: VALUE, says: /locked/ })
    const response = new Response('x')
    await response.text()
    await expectRefused(response, {}, { code: VALUE, says: /not read yet/ })
    const destroyed = new PassThrough().destroy()
    await expectRefused(destroyed, {}, { code: VALUE, says: /destroyed/ })
    const ended = new PassThrough()
    ended.end('x')
    await ended.toArray()
    await expectRefused(ended, {}, { code: VALUE, says: /ended/ })
  })

  describe('a stream or iterator that somebody else reads: each would get a part', () => {
    const says = /nobody else reads.*get a part/

    test('two calls: the first one gets all', async () => {
      for (const make of [
        () => Readable.from(chunks(), { objectMode: false }),
        () => fs.createReadStream(directory.file(all)),
        () => chunks(),
        () => delayed(chunks())
      ]) {
        const source = make()
        const first = from(source)
        await expectRefused(source, {}, { code: VALUE, says })
        expect(bytesOf(await first).equals(all)).toBe(true)
      }
    })

    test('a listener, a pipe, a loop, a web stream over it; and it goes on', async () => {
      const readers = {
        data: stream => void stream.on('data', () => {}),
        paused: stream => void stream.on('data', () => {}).pause(),
        readable: stream => void stream.on('readable', () => {}),
        resumed: stream => void stream.resume(),
        pipe: stream => void stream.pipe(new PassThrough()),
        loop: stream => void stream[Symbol.asyncIterator]().next(),
        web: stream => void Readable.toWeb(stream)
      }
      for (const read of Object.values(readers)) {
        const stream = new PassThrough()
        read(stream)
        await expectRefused(stream, {}, { code: VALUE, says })
        expect(stream.destroyed).toBe(false)
      }
    })

    test('what was only looked at, paused or read in part before is taken', async () => {
      const paused = new PassThrough().pause()
      paused.end('paused')
      const begun = Readable.from([Buffer.from('header'), Buffer.from('body')])
      expect(String(begun.read() ?? (await once(begun, 'readable'), begun.read()))).toBe('header')
      const waited = new PassThrough()
      waited.end('waited')
      await once(waited, 'readable')
      for (const [stream, says] of [
        [paused, 'paused'],
        [begun, 'body'],
        [waited, 'waited']
      ])
        expect(String(bytesOf(await from(stream)))).toBe(says)
      const twice = [Buffer.from('again')]
      for (let i = 0; i < 2; i++) expect(String(bytesOf(await from(twice)))).toBe('again')
    })
  })

  test('a response that has not succeeded', async () => {
    for (const status of [404, 500, 304]) {
      const response = new Response(status === 304 ? null : 'no such thing', { status })
      const says = [String(status), /response\.body/]
      await expectRefused(response, {}, { code: VALUE, says })
    }
    const { body } = new Response('no such thing', { status: 404 })
    expect((await from(body)).byteLength).toBe(13)
  })

  test('an iterator that breaks the rules', async () => {
    const iterable = next => ({ [Symbol.asyncIterator]: () => ({ next }) })
    for (const next of [() => 1, () => null, async () => 'x', () => undefined])
      await expectRefused(iterable(next), {}, { code: TYPE, says: /done and value/ })
    for (const broken of [
      { [Symbol.iterator]: () => ({}) },
      { [Symbol.iterator]: () => null },
      iterable(undefined)
    ])
      expect(await thrownBy(() => HostRegion.from(broken))).toBeInstanceOf(TypeError)
  })
})

describe('chunks that are not what they seem', () => {
  const detach = array => structuredClone(array.buffer, { transfer: [array.buffer] })

  test('one that its buffer has shrunk away from is an error, and no empty chunk', async () => {
    const buffer = new ArrayBuffer(100, { maxByteLength: 100 })
    const chunk = new Uint8Array(buffer, 50, 50)
    buffer.resize(20)
    const expected = { code: VALUE, says: /outside of its buffer/ }
    await expectRefused([Buffer.alloc(5), chunk], {}, expected)
    // Of no length, and where it was.
    buffer.resize(60)
    const empty = new Uint8Array(buffer, 50, 0)
    expect((await from([Buffer.alloc(5), empty])).byteLength).toBe(5)
  })

  test('a detached one is an error, and no empty chunk', async () => {
    const array = new Uint8Array(10)
    detach(array)
    for (const chunk of [array, array.buffer])
      await expectRefused([chunk], {}, { code: VALUE, says: /chunk 0 of source must be not det/ })
  })

  test.each([
    ['is detached', detach],
    ['shrinks', array => array.buffer.resize(10)]
  ])('one that %s while it is written', async (_, change) => {
    const array = new Uint8Array(new ArrayBuffer(40 * MiB, { maxByteLength: 40 * MiB }))
    const onProgress = () => {}
    const filling = thrownBy(() => HostRegion.from([array], { onProgress, name: 'changed' }))
    // After the first step, before the last.
    await nextTurn()
    change(array)
    expectError(await filling, { code: VALUE, says: /left alone/ })
    expect(countOpen('changed')).toBe(0)
  })

  test('what its class says of itself counts for nothing', async () => {
    class Liar extends Uint8Array {
      get byteLength() {
        return 2 ** 40
      }
      get length() {
        return 2 ** 40
      }
      get byteOffset() {
        return -5
      }
      get buffer() {
        return new ArrayBuffer(2 ** 20)
      }
    }
    const region = await from([new Liar([1, 2, 3])])
    expect([...bytesOf(region)]).toEqual([1, 2, 3])
  })

  test('one of a file that was truncated is an error with a code, and no signal', async () => {
    const file = directory.file(noise(64 * KiB), 'cut.bin')
    const mapped = HostRegion.open(file)
    const bytes = mapped.bytes()
    fs.truncateSync(file, 0)
    await expectRefused([bytes], {}, { code: 'ERR_HOSTMAP_READ_FAILED', says: /truncated/ })
    mapped.close({ views: 'detach' })
  })
})

describe('a source that fails', () => {
  const failure = new Error('the source failed')
  const failing = {
    *'a generator'() {
      yield Buffer.alloc(10)
      throw failure
    },
    async *'an async generator'() {
      yield Buffer.alloc(10)
      throw failure
    },
    'a promise of a chunk': () => [Buffer.alloc(10), Promise.reject(failure)],
    'a Readable': () =>
      new Readable({
        read() {
          if (this.readableDidRead) this.destroy(failure)
          else this.push(Buffer.alloc(10))
        }
      }),
    'a ReadableStream': () =>
      new ReadableStream({
        pull(controller) {
          if (this.asked) controller.error(failure)
          this.asked = true
          if (!controller.desiredSize) return
          controller.enqueue(new Uint8Array(10))
        }
      }),
    'a getter': () => ({
      get [Symbol.asyncIterator]() {
        throw failure
      }
    })
  }

  test.each(Object.entries(failing))('%s: its own error comes out', async (_, source) => {
    const error = await thrownBy(() => HostRegion.from(source(), { name: 'failing' }))
    expect(error).toBe(failure)
    expect(countOpen('failing')).toBe(0)
  })

  test('a Blob whose file was changed', async () => {
    const file = directory.file(noise(MiB))
    const blob = await fs.openAsBlob(file)
    fs.truncateSync(file, 100)
    const error = await thrownBy(() => HostRegion.from(blob, { name: 'blob' }))
    expect([error.name, error.code]).toEqual(
      error.code === LENGTH ? ['Error', LENGTH] : ['NotReadableError', 0]
    )
    expect(countOpen('blob')).toBe(0)
  })

  test('a server that ends in the middle', async () => {
    const server = http.createServer((_, response) => {
      response.writeHead(200, { 'content-length': '1000000' })
      response.write(Buffer.alloc(1000), () => response.destroy())
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const url = `http://127.0.0.1:${server.address().port}/`
    const error = await thrownBy(async () => HostRegion.from(await fetch(url), { name: 'server' }))
    expect(error).toMatchObject({ name: 'TypeError' })
    const [message] = await once(http.get(url), 'response')
    const other = await thrownBy(() => HostRegion.from(message, { name: 'server' }))
    expect(other.code).toBe('ECONNRESET')
    expect(countOpen('server')).toBe(0)
    await new Promise(resolve => server.close(resolve))
  })

  test('what its return() does changes nothing', async () => {
    for (const end of [
      () => {
        throw new Error('other')
      },
      async () => {
        throw new Error('other')
      },
      () => 1
    ]) {
      const source = {
        [Symbol.asyncIterator]: () => ({
          next: async () => ({ done: false, value: 'text' }),
          return: end
        })
      }
      await expectRefused(source, {}, { code: TYPE, says: /chunk 0/ })
    }
  })
})

describe('a source that is let go', () => {
  test('a file that is not there ends no process that has caught the refusal', async () => {
    const ended = await inChild(async ({ hostmap: { HostRegion }, require }) => {
      const fs = require('node:fs')
      const source = fs.createReadStream('/nonexistent/file')
      const { code } = await HostRegion.from(source, { signal: AbortSignal.abort() }).catch(e => e)
      await new Promise(resolve => setTimeout(resolve, 50))
      return [code, source.destroyed]
    })
    expect(ended).toEqual(['ABORT_ERR', true])
  })

  test('a stream that nobody had read is destroyed', async () => {
    const stream = Readable.from([Buffer.alloc(1)])
    await expectRefused(stream, { signal: AbortSignal.abort() }, { code: 'ABORT_ERR' })
    expect(stream.destroyed).toBe(true)
  })

  test('one that has failed before: its own error comes out', async () => {
    const stream = fs.createReadStream('/nonexistent/file')
    await once(stream, 'error')
    expect((await thrownBy(() => HostRegion.from(stream))).code).toBe('ENOENT')
  })

  test('a response that was cloned: the failure comes out, and the clone can be read', async () => {
    const bytes = Buffer.alloc(500_000, 7)
    const response = new Response(webStream(chunksOf(bytes, 1000)))
    const clone = response.clone()
    await expectRefused(response, { byteLength: 1000 }, { code: LENGTH })
    expect(Buffer.from(await clone.arrayBuffer()).equals(bytes)).toBe(true)
  })

  test('headers that throw leave the body as it was', async () => {
    const body = webStream([Buffer.alloc(1)])
    const headers = {
      get() {
        throw new Error('no')
      }
    }
    const response = { ok: true, body, bodyUsed: false, headers, arrayBuffer() {} }
    expect((await thrownBy(() => HostRegion.from(response))).message).toBe('no')
    expect(body.locked).toBe(false)
  })
})

describe('an AbortSignal', () => {
  const stalled = {
    'an iterator': () => {
      const source = watched([])
      source[Symbol.asyncIterator] = () => ({
        next: () => new Promise(() => {}),
        return: () => (source.told.returned++, new Promise(() => {}))
      })
      return [source, () => source.told.returned > 0]
    },
    'an async generator': () => [
      (async function* () {
        await new Promise(() => {})
        yield Buffer.alloc(1)
      })(),
      () => true
    ],
    'a Readable': () => {
      const stream = new Readable({ read() {} })
      return [stream, () => stream.destroyed]
    },
    'a ReadableStream': () => {
      let isCancelled = false
      const cancel = () => ((isCancelled = true), new Promise(() => {}))
      return [new ReadableStream({ cancel }), () => isCancelled]
    },
    'a Response': () => {
      let isCancelled = false
      return [
        new Response(new ReadableStream({ cancel: () => void (isCancelled = true) })),
        () => isCancelled
      ]
    }
  }

  test.each(Object.entries(stalled))('ends %s that stalls, and lets it go', async (_, make) => {
    const [source, isLetGo] = make()
    const controller = new AbortController()
    const filling = expectRefused(
      source,
      { signal: controller.signal },
      { code: 'ABORT_ERR', says: /fill was aborted/ }
    )
    await nextTurn()
    controller.abort('enough')
    expect((await filling).cause).toBe('enough')
    expect(isLetGo()).toBe(true)
    await nextTurn()
  })

  test.each(Object.entries(stalled))('that is aborted before: %s is let go', async (_, make) => {
    const [source, isLetGo] = make()
    await expectRefused(source, { signal: AbortSignal.abort() }, { code: 'ABORT_ERR' })
    expect(isLetGo()).toBe(true)
  })

  test('ends an iterable that never waits', async () => {
    function* endless() {
      for (;;) yield Buffer.alloc(1)
    }
    const controller = new AbortController()
    const filling = expectRefused(endless(), { signal: controller.signal }, { code: 'ABORT_ERR' })
    setImmediate(() => controller.abort())
    await filling
  })

  test.each([
    ['within next()', controller => ({ next: () => (controller.abort(), new Promise(() => {})) })],
    [
      'by others, in their turn',
      controller => {
        let asked = 0
        setImmediate(() => controller.abort())
        return {
          next: () =>
            asked++ < 1024
              ? Promise.resolve({ done: false, value: Buffer.alloc(1) })
              : new Promise(() => {})
        }
      }
    ]
  ])('ends a source that stalls, also %s', async (_, make) => {
    const controller = new AbortController()
    const source = { [Symbol.asyncIterator]: () => make(controller) }
    await expectRefused(source, { signal: controller.signal }, { code: 'ABORT_ERR' })
  })

  describe('that throws', () => {
    const mine = new Error('of the signal')
    const fail = () => {
      throw mine
    }
    const signalWith = more => ({
      aborted: false,
      addEventListener() {},
      removeEventListener: fail,
      ...more
    })
    const failed = new Error('of the source')
    async function* failing() {
      yield Buffer.alloc(10)
      throw failed
    }
    const refused = async (source, options) => {
      const name = 'with a signal that throws'
      const error = await thrownBy(() => HostRegion.from(source, { ...options, name }))
      expect(countOpen(name)).toBe(0)
      expect(mappingsNamed(name)).toEqual([])
      return error
    }

    test('when its listener goes: it is told of, and no region is left', async () => {
      expect(await refused([Buffer.alloc(10)], { signal: signalWith() })).toBe(mine)
    })

    test('where something else has failed: that is told', async () => {
      expect(await refused(failing(), { signal: signalWith() })).toBe(failed)
      const aborted = signalWith({ addEventListener: (_, hear) => setTimeout(hear, 5) })
      const stalls = delayed([Buffer.alloc(1), new Promise(() => {})])
      const error = await refused(stalls, { signal: aborted })
      expectError(error, { code: 'ABORT_ERR' })
    })

    test('when it is asked for its reason: the fill ends all the same', async () => {
      const aborted = signalWith({ addEventListener: (_, hear) => setTimeout(hear, 5) })
      Object.defineProperty(aborted, 'reason', { get: fail })
      const error = await refused(delayed([new Promise(() => {})]), { signal: aborted })
      expectError(error, { code: 'ABORT_ERR' })
      expect(error.cause).toBe(mine)
    })

    test('when it gets a listener: it keeps none that it had kept', async () => {
      const kept = new Set()
      const signal = signalWith({
        addEventListener: (_, hear) => {
          kept.add(hear)
          fail()
        },
        removeEventListener: (_, hear) => kept.delete(hear)
      })
      expect(await refused([Buffer.alloc(10)], { signal })).toBe(mine)
      expect(kept.size).toBe(0)
    })

    test('changes nothing of what a load fails with', async () => {
      const signal = signalWith()
      const missing = `${directory.file(Buffer.alloc(1))}.none`
      const error = await thrownBy(() => HostRegion.load(missing, { signal }))
      expectError(error, { code: 'ERR_HOSTMAP_OPEN_FAILED' })
    })
  })

  test('ends a source that stalls after its progress was told', async () => {
    const controller = new AbortController()
    const { signal } = controller
    async function* source() {
      while (!signal.aborted) {
        await nextTurn()
        yield Buffer.alloc(1)
      }
      await new Promise(() => {})
    }
    const onProgress = () => controller.abort()
    await expectRefused(source(), { signal, onProgress }, { code: 'ABORT_ERR' })
  })

  test('is heard beside a source that never waits, and takes its time', async () => {
    function* slow() {
      for (;;) {
        for (const end = performance.now() + 2; performance.now() < end;);
        yield Buffer.alloc(1)
      }
    }
    const controller = new AbortController()
    let asked = 0
    const counted = (function* () {
      for (const chunk of slow()) {
        asked++
        yield chunk
      }
    })()
    setImmediate(() => controller.abort())
    await expectRefused(counted, { signal: controller.signal }, { code: 'ABORT_ERR' })
    // Turns come by the clock, too, and not only after so many chunks.
    expect(asked).toBeLessThan(1024)
  })

  test('ends in the middle of a large chunk', async () => {
    const controller = new AbortController()
    const filling = expectRefused(
      [Buffer.alloc(64 * MiB)],
      { signal: controller.signal },
      { code: 'ABORT_ERR' }
    )
    setImmediate(() => controller.abort())
    await filling
  })

  test('has no listener left, whatever happened', async () => {
    const { getEventListeners } = require('node:events')
    const { signal } = new AbortController()
    await from([Buffer.alloc(1)], { signal })
    await thrownBy(() => HostRegion.from(['x'], { signal }))
    await thrownBy(() => HostRegion.from([], { signal }))
    expect(getEventListeners(signal, 'abort')).toEqual([])
  })

  test('of the stream itself: its own error comes out', async () => {
    const controller = new AbortController()
    const stream = addAbortSignal(controller.signal, new Readable({ read() {} }))
    const filling = thrownBy(() => HostRegion.from(stream))
    controller.abort()
    expect((await filling).name).toBe('AbortError')
  })

  test('leaves no rejection that nobody handles, and no error event', async () => {
    const unhandled = await inChild(async ({ hostmap: { HostRegion }, require }) => {
      const { Readable } = require('node:stream')
      const seen = []
      process.on('unhandledRejection', error => seen.push(String(error)))
      process.on('uncaughtException', error => seen.push(String(error)))
      const sources = [
        () => new Readable({ read() {} }),
        () => new ReadableStream({ cancel: () => Promise.reject(new Error('cancel')) }),
        async function* () {
          await new Promise(resolve => setTimeout(resolve, 20))
          yield Promise.reject(new Error('too late'))
        }
      ]
      for (const make of sources) {
        for (const when of ['before', 'after']) {
          const controller = new AbortController()
          if (when === 'before') controller.abort()
          const filling = HostRegion.from(make(), { signal: controller.signal })
          setImmediate(() => controller.abort())
          await filling.catch(() => {})
        }
      }
      await new Promise(resolve => setTimeout(resolve, 60))
      return seen
    })
    expect(unhandled).toEqual([])
  })
})

describe('onProgress', () => {
  test('is told the total where it is known, and at the end that all is done', async () => {
    for (const [source, total] of [
      [all, all.length],
      [chunks(), undefined]
    ]) {
      const calls = []
      await from(source, { onProgress: (...call) => calls.push(call) })
      expect(calls.at(-1)).toEqual([all.length, all.length])
      for (const [filled, known] of calls.slice(0, -1)) {
        expect(filled).toBeLessThanOrEqual(all.length)
        expect(known).toBe(total)
      }
    }
  })

  test('that throws ends the fill with its error, and the source is let go', async () => {
    const mine = new Error('mine')
    const source = watched([Buffer.alloc(10)])
    const error = await thrownBy(() =>
      HostRegion.from(source, {
        name: 'thrown',
        onProgress() {
          throw mine
        }
      })
    )
    expect(error).toBe(mine)
    expect(countOpen('thrown')).toBe(0)
  })

  test('may abort', async () => {
    const controller = new AbortController()
    await expectRefused(
      [Buffer.alloc(10)],
      { signal: controller.signal, onProgress: () => controller.abort() },
      { code: 'ABORT_ERR' }
    )
  })
})
