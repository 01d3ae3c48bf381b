'use strict'

// A message that refuses something says what was given and what would do. Each row is a mistake
// that people make, and the words that help.

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const vm = require('node:vm')
const { pathToFileURL } = require('node:url')
const { HostRegion, GuardedMemory, InstancePool, Snapshot, exposeState, limits } = require('..')
const { expectFailure, thrownBy } = require('./support/errors')
const { temporaryDirectory, noise } = require('./support/files')
const { assemble, WASM_PAGE, hasMemory64 } = require('./support/wasm')
const { skipUnless } = require('./support/skip')

const PAGE = limits().pageSize
const directory = temporaryDirectory()
const file = directory.file(noise(8 * PAGE), 'good.bin')

let region, guarded, window, mapping, snapshot, instance, compiled, binary, pool, handle, readonly
beforeAll(async () => {
  binary = await assemble(`(module (memory (export "heap") 1)
    (func (export "_malloc") (param i32) (result i32) (i32.const 0)) (func (export "_free") (param i32)))`)
  compiled = new WebAssembly.Module(binary)
  instance = new WebAssembly.Instance(compiled)
  region = HostRegion.copyFrom(noise(16 * PAGE), { name: 'dataset' })
  readonly = HostRegion.open(file)
  guarded = new GuardedMemory({ initial: 64, maximum: 128 })
  window = guarded.window({ byteLength: 4 * PAGE, at: 0 })
  mapping = guarded.map(region, { at: 16 * WASM_PAGE })
  snapshot = guarded.snapshot()
  pool = await InstancePool.create(binary, { accept: ['hidden-globals'] })
  handle = await fs.promises.open(file)
})
afterAll(async () => {
  pool.close()
  region.close()
  await handle.close()
})

const TYPE = 'ERR_INVALID_ARG_TYPE'
const VALUE = 'ERR_INVALID_ARG_VALUE'
const RANGE = 'ERR_OUT_OF_RANGE'
const promise = () => Promise.resolve(1)

// What was done; the error's code; and what its message holds.
const table = {
  'where a region is wanted': [
    [
      'a path',
      () => guarded.map('/data/x.bin'),
      TYPE,
      "the string '/data/x.bin'",
      'HostRegion.open(path)',
      'HostRegion.load'
    ],
    [
      'a URL',
      () => guarded.map(new URL('file:///x')),
      TYPE,
      'the URL file:///x',
      'HostRegion.open(path)'
    ],
    ['a promise', () => guarded.map(promise()), TYPE, 'a promise', 'await'],
    [
      'a Buffer',
      () => guarded.map(Buffer.alloc(1)),
      TYPE,
      'a Buffer of 1 byte;',
      'HostRegion.copyFrom'
    ],
    [
      'a Float32Array',
      () => guarded.map(new Float32Array(2)),
      TYPE,
      'a Float32Array of 8 bytes',
      'HostRegion.copyFrom'
    ],
    [
      'an ArrayBuffer',
      () => guarded.map(new ArrayBuffer(8)),
      TYPE,
      'an ArrayBuffer of 8 bytes',
      'HostRegion.copyFrom'
    ],
    ['a Blob', () => guarded.map(new Blob(['x'])), TYPE, 'a Blob', 'HostRegion.from(it)'],
    ['a descriptor', () => guarded.map(5), TYPE, 'received 5', 'HostRegion.fromFd'],
    [
      'a FileHandle',
      () => guarded.map(handle),
      TYPE,
      'a FileHandle',
      'HostRegion.fromFd(handle.fd)'
    ],
    ['a mapping', () => guarded.map(mapping), TYPE, 'a Mapping', '`region`'],
    ['a snapshot', () => guarded.map(snapshot), TYPE, 'a Snapshot', 'restore'],
    ['a memory', () => guarded.map(guarded), TYPE, 'a GuardedMemory', 'copyFrom(memory.buffer)'],
    ['several', () => guarded.map([region]), TYPE, 'an array of 1', 'one region a call'],
    [
      'the class',
      () => guarded.map(HostRegion),
      TYPE,
      'the class HostRegion',
      'HostRegion.allocate'
    ],
    ['nothing', () => guarded.map(), TYPE, 'received undefined;', 'HostRegion.allocate'],
    ['of a slide, a path', () => window.slide('x'), TYPE, 'or null', 'HostRegion.open'],
    ['of a source, bytes', () => window.source(Buffer.alloc(3)), TYPE, 'HostRegion.copyFrom'],
    ['of chunks, a promise', () => window.chunks(promise()), TYPE, 'await']
  ],
  'where a memory is wanted': [
    [
      'its array',
      () => GuardedMemory.from(new Uint8Array(guarded.buffer)),
      TYPE,
      'Uint8Array',
      '`buffer`'
    ],
    [
      'an instance',
      () => GuardedMemory.from(instance),
      TYPE,
      'a WebAssembly.Instance',
      'instance.exports.heap'
    ],
    ['its exports', () => GuardedMemory.from(instance.exports), TYPE, 'exports.heap'],
    [
      'what instantiate gives',
      async () => GuardedMemory.from(await WebAssembly.instantiate(binary)),
      TYPE,
      'instance.exports.heap'
    ],
    ['a promise', () => GuardedMemory.from(promise()), TYPE, 'await'],
    [
      'a module',
      () => GuardedMemory.from(compiled),
      TYPE,
      'a WebAssembly.Module',
      'make an instance'
    ],
    ['a GuardedMemory', () => GuardedMemory.from(guarded), TYPE, 'use it as it is'],
    ['a region', () => GuardedMemory.from(region), TYPE, 'a HostRegion', 'map(region)'],
    [
      'an Emscripten module',
      () => GuardedMemory.from({ HEAPU8: new Uint8Array(1) }),
      TYPE,
      '() => Module.HEAPU8.buffer'
    ],
    [
      'an export of another name',
      () => GuardedMemory.from(instance.exports.memory),
      TYPE,
      'undefined',
      'Object.keys'
    ],
    [
      'of the constructor, a memory',
      () => new GuardedMemory(guarded.memory),
      TYPE,
      'GuardedMemory.from(memory)'
    ]
  ],
  'where bytes are wanted': [
    [
      'a text',
      () => HostRegion.copyFrom('hello'),
      TYPE,
      "'hello'",
      'Buffer.from(text)',
      'HostRegion.open(path)'
    ],
    ['an array', () => HostRegion.copyFrom([1, 2]), TYPE, 'an array of 2', 'Uint8Array.from'],
    ['a promise', () => HostRegion.copyFrom(promise()), TYPE, 'await'],
    ['a Blob', () => HostRegion.copyFrom(new Blob(['x'])), TYPE, 'arrayBuffer()'],
    ['a size', () => HostRegion.copyFrom(1000), TYPE, 'HostRegion.allocate'],
    ['a region', () => HostRegion.copyFrom(region), TYPE, '`bytes()`'],
    ['none', () => HostRegion.copyFrom(new Uint8Array(0)), VALUE, 'at least 1 byte', 'not detached']
  ],
  'where a module is wanted': [
    ['a path', () => exposeState('a.wasm'), TYPE, 'fs.readFileSync(path)'],
    ['a path, for a pool', () => InstancePool.create('a.wasm'), TYPE, 'fs.readFileSync(path)'],
    ['a promise', () => InstancePool.create(WebAssembly.compile(binary)), TYPE, 'await'],
    ['a compiled one, for its state', () => exposeState(compiled), TYPE, 'compiled from'],
    ['an instance', () => InstancePool.create(instance), TYPE, 'the bytes of its module'],
    ['its text', () => exposeState(Buffer.from('(module)')), VALUE, 'text format', 'assemble'],
    ['other bytes', () => InstancePool.create(Buffer.from('hello')), VALUE, '\\0asm', '"hell"'],
    ['a path, for a fork', () => snapshot.instantiate('a.wasm'), TYPE, 'fs.readFileSync(path)']
  ],
  'where an instance is wanted': [
    ['its exports', () => Snapshot.of(instance.exports), TYPE, 'the instance itself'],
    [
      'what instantiate gives',
      async () => Snapshot.of(await WebAssembly.instantiate(binary)),
      TYPE,
      '`instance`'
    ],
    ['a promise', () => Snapshot.of(promise()), TYPE, 'await'],
    ['a memory', () => Snapshot.of(guarded), TYPE, '`snapshot()`'],
    [
      'for exports, the instance',
      () => guarded.snapshot({ globals: instance }),
      TYPE,
      'pass its `exports`'
    ],
    [
      'for exports to restore, the instance',
      () => guarded.restore(snapshot, { globals: instance }),
      TYPE,
      'pass its `exports`'
    ]
  ],
  'where a snapshot is wanted': [
    ['a path', () => guarded.restore('x.snapshot'), TYPE, 'await Snapshot.load(path)'],
    ['a promise', () => guarded.restore(promise()), TYPE, 'await'],
    ['a pool', () => guarded.restore(pool), TYPE, '`snapshot`'],
    [
      'of a pool, a path',
      () => InstancePool.create(binary, { snapshot: 'x' }),
      TYPE,
      'await Snapshot.load(path)'
    ]
  ],
  'where a path is wanted': [
    [
      'a relative one that is not there',
      () => HostRegion.open('not/there.bin'),
      'ERR_HOSTMAP_OPEN_FAILED',
      path.resolve('not/there.bin'),
      'its folder does not exist'
    ],
    [
      'one that is not there',
      () => HostRegion.load('there.bin'),
      'ERR_HOSTMAP_OPEN_FAILED',
      `${path.resolve('there.bin')}: No such file or directory (ENOENT from open)`
    ],
    [
      'a home folder',
      () => HostRegion.open('~/x.bin'),
      'ERR_HOSTMAP_OPEN_FAILED',
      '`~`',
      'os.homedir()'
    ],
    [
      'a home folder, to load',
      () => HostRegion.load('~user/x.bin'),
      'ERR_HOSTMAP_OPEN_FAILED',
      'os.homedir()'
    ],
    [
      'a home folder, of a snapshot',
      () => Snapshot.load('~/x.snapshot'),
      'ERR_HOSTMAP_OPEN_FAILED',
      'os.homedir()'
    ],
    [
      'a home folder, to save to',
      () => snapshot.save('~/x.snapshot'),
      'ERR_HOSTMAP_OPEN_FAILED',
      'os.homedir()'
    ],
    [
      'a folder that is not there, to save to',
      () => snapshot.save('not/there/x'),
      'ERR_HOSTMAP_OPEN_FAILED',
      path.resolve('not/there/x'),
      'its folder does not exist'
    ],
    [
      'a file: URL as a string',
      () => HostRegion.open(pathToFileURL(file).href),
      'ERR_HOSTMAP_OPEN_FAILED',
      'new URL(...)'
    ],
    [
      'a http: URL as a string',
      () => HostRegion.open('http://localhost/x'),
      'ERR_HOSTMAP_OPEN_FAILED',
      'HostRegion.copyFrom'
    ],
    [
      'a http: URL',
      () => HostRegion.open(new URL('http://localhost/x')),
      VALUE,
      'HostRegion.copyFrom'
    ],
    ['a descriptor', () => HostRegion.open(3), TYPE, 'fromFd(fd)'],
    [
      'a Buffer',
      () => HostRegion.open(Buffer.from('x')),
      TYPE,
      'toString()',
      'HostRegion.copyFrom'
    ],
    ['nothing', () => HostRegion.load(), TYPE, 'received undefined'],
    [
      'of a running program, to be written',
      () => HostRegion.open(process.execPath, { writable: true }),
      'ERR_HOSTMAP_OPEN_FAILED',
      /(ETXTBSY from open\); .*without `writable`)|EACCES|EROFS/
    ]
  ],
  'where a descriptor is wanted': [
    ['a path', () => HostRegion.fromFd(file), TYPE, 'open(path)'],
    ['a FileHandle', () => HostRegion.fromFd(handle), TYPE, '`fd`'],
    [
      'one that is not open',
      () => HostRegion.fromFd(1e6),
      'ERR_HOSTMAP_OPEN_FAILED',
      '1000000: bad file descriptor (EBADF from fcntl)'
    ]
  ],
  'where a number is wanted': [
    ['a string of one', () => HostRegion.allocate('1024'), TYPE, "'1024'", 'pass 1024'],
    ['a size with a unit', () => HostRegion.allocate('4GiB'), TYPE, 'pass 4 * 2 ** 30'],
    ['a BigInt', () => HostRegion.allocate(1n), TYPE, '1n (a BigInt)', 'Number'],
    [
      'the array that a region is to hold',
      () => HostRegion.allocate(Int32Array.of(1, 2)),
      TYPE,
      'an Int32Array of 8 bytes',
      'HostRegion.copyFrom(it)'
    ],
    [
      'a list of numbers that a region is to hold',
      () => HostRegion.allocate([1, 2]),
      TYPE,
      'an array of 2',
      'HostRegion.copyFrom(Float64Array.from(it))'
    ],
    ['an address as a string', () => guarded.map(region, { at: '0' }), TYPE, 'pass 0'],
    ['nothing', () => guarded.window(), TYPE, 'options.byteLength', 'received undefined']
  ],
  'where options are wanted': [
    ['a number', () => guarded.map(region, 65536), TYPE, 'byteOffset, byteLength, at, access'],
    ['a number, for a window', () => guarded.window(65536), TYPE, 'byteLength, at'],
    [
      'an AbortController',
      () => HostRegion.load(file, { signal: new AbortController() }),
      TYPE,
      'pass its `signal`'
    ],
    [
      'a word where a list is',
      () => InstancePool.create(binary, { accept: 'gc-objects' }),
      TYPE,
      "['gc-objects']"
    ],
    [
      'more instances than there may be',
      () => InstancePool.create(binary, { size: 100 }),
      RANGE,
      '64, options.max',
      '100'
    ]
  ],
  'where an allocator is wanted': [
    ['a function', () => guarded.map(region, { allocator: () => 0 }), TYPE, '{ malloc, free }'],
    [
      'exports of Emscripten',
      () => guarded.map(region, { allocator: instance.exports }),
      TYPE,
      '{ malloc: exports._malloc, free: exports._free }'
    ],
    [
      'an instance',
      () => guarded.window({ byteLength: PAGE, allocator: instance }),
      TYPE,
      '{ malloc: instance.exports._malloc'
    ]
  ],
  'where a view is wanted': [
    ['a buffer', () => mapping.pointerOf(guarded.buffer), TYPE, 'pass new Uint8Array(it)'],
    ['the region', () => mapping.pointerOf(region), TYPE, '`view()` or `bytes()`'],
    ['an address', () => mapping.pointerOf(mapping.pointer), TYPE, 'pass it on as it is'],
    ['other bytes', () => mapping.pointerOf(Buffer.alloc(3)), VALUE, 'received a Buffer of 3 bytes']
  ],
  'where access is wanted': [
    [
      'another spelling',
      () => guarded.map(region, { access: 'read-only' }),
      VALUE,
      "'readonly', 'private' or 'shared'",
      "did you mean 'readonly'?"
    ],
    ['r', () => guarded.map(region, { access: 'r' }), VALUE, "'readonly' is for reading"],
    [
      'rw',
      () => guarded.map(region, { access: 'rw' }),
      VALUE,
      "'private' keeps",
      "'shared' writes to the region"
    ],
    [
      'copy-on-write',
      () => guarded.map(region, { access: 'copy-on-write' }),
      VALUE,
      "'private' is copy-on-write"
    ],
    [
      'shared, of what can only be read',
      () => guarded.map(readonly, { access: 'shared', at: 0x200000 }),
      'ERR_HOSTMAP_REGION_READONLY',
      "use 'readonly' or 'private'"
    ],
    [
      'another rest',
      () => guarded.window({ byteLength: PAGE, rest: 'zero' }),
      VALUE,
      "did you mean 'zeros'?"
    ],
    [
      'pages of another kind',
      () => HostRegion.allocate(1, { hugePages: 'thp' }),
      TYPE,
      'boolean',
      "'thp'"
    ]
  ],
  'where a range is too large': [
    ['offset of a view', () => region.view(2 ** 30), RANGE, 'bytes of region "dataset"', 2 ** 30],
    [
      'length of a view',
      () => region.view(5, 2 ** 30),
      RANGE,
      'region "dataset" has from byteOffset 5 on'
    ],
    ['offset of bytes', () => region.bytes({ byteOffset: 2 ** 30 }), RANGE, 'region "dataset"'],
    [
      'length of bytes',
      () => region.bytes({ byteOffset: 5, byteLength: 2 ** 30 }),
      RANGE,
      'region "dataset" has from byteOffset 5 on'
    ],
    [
      'offset to map',
      () => guarded.map(region, { byteOffset: 2 ** 30 }),
      RANGE,
      'bytes of region "dataset"'
    ],
    [
      'length to map',
      () => guarded.map(region, { byteLength: 2 ** 30 }),
      RANGE,
      'region "dataset" has from byteOffset 0 on'
    ],
    ['offset to slide to', () => window.slide(region, 2 ** 30), RANGE, 'bytes of region "dataset"'],
    [
      'more than the window has',
      () => window.slide(region, 1, { byteLength: 8 * PAGE }),
      RANGE,
      `the window has ${4 * PAGE} bytes`,
      '1 bytes into a page'
    ],
    [
      'more than the region has',
      () => window.slide(region, 15 * PAGE, { byteLength: 2 * PAGE }),
      RANGE,
      `region "dataset" has from byteOffset ${15 * PAGE} on`
    ],
    [
      'a chunk',
      () => window.source(region, { chunk: 8 * PAGE, overlap: 9 }),
      RANGE,
      `the window has ${4 * PAGE} bytes`,
      'the overlap takes 9'
    ],
    [
      'an overlap',
      () => window.source(region, { overlap: 8 * PAGE }),
      RANGE,
      `the window has ${4 * PAGE} bytes`
    ],
    [
      'a part to read',
      () => window.source(region, { byteOffset: 10, byteLength: 2 ** 30 }),
      RANGE,
      'region "dataset" has from byteOffset 10 on'
    ],
    [
      'a place to seek',
      () => window.source(region, { byteLength: 10 }).seek(11),
      RANGE,
      'the part that the source reads'
    ],
    [
      'a part to prefetch',
      () => mapping.prefetch({ byteLength: 2 ** 30 }),
      RANGE,
      'the mapping has from byteOffset 0 on'
    ],
    [
      'a part of a file',
      () => HostRegion.open(file, { byteLength: 2 ** 30 }),
      RANGE,
      'what the file has'
    ],
    [
      'a place past the end',
      () => guarded.map(region, { at: 2 ** 30 }),
      RANGE,
      "the memory's byteLength",
      'grow it first'
    ]
  ],
  'where bytes and pages are mixed up': [
    [
      'bytes to grow by',
      () => guarded.grow(2 ** 20),
      'ERR_HOSTMAP_MEMORY_FULL',
      'Wasm pages of 64 KiB',
      '1048576 bytes would be 16'
    ],
    [
      'a page, in bytes, to grow by',
      () => guarded.grow(65_536),
      'ERR_HOSTMAP_MEMORY_FULL',
      '65536 bytes would be 1'
    ],
    [
      'bytes to begin with',
      () => new GuardedMemory({ initial: 2 ** 20 }),
      RANGE,
      'Wasm pages',
      '64 KiB each',
      '1048576 bytes are 16'
    ],
    [
      'bytes as the maximum',
      () => new GuardedMemory({ initial: 1, maximum: 2 ** 32 }),
      RANGE,
      '4294967296 bytes are 65536'
    ],
    [
      'bytes by their name',
      () => new GuardedMemory({ byteLength: 2 ** 20 }),
      VALUE,
      'did you mean initial?'
    ],
    [
      'pages for an address',
      () => guarded.map(region, { at: 40 }),
      RANGE,
      'multiple of the host page size',
      '40 Wasm pages are 2621440'
    ],
    [
      'pages for a window',
      () => guarded.window({ byteLength: 16 }),
      RANGE,
      'in bytes',
      '16 Wasm pages are 1048576 bytes'
    ],
    [
      'a window that is too large',
      () => guarded.window({ byteLength: 2 ** 30 }),
      'ERR_HOSTMAP_MEMORY_FULL',
      'for 1073741824 bytes',
      'a larger maximum'
    ]
  ],
  'where no memory is large enough': [
    [
      'a 32-bit one',
      () => new GuardedMemory({ initial: 1 }).window({ byteLength: 2 ** 33 }),
      'ERR_HOSTMAP_MEMORY_FULL',
      'one part after another',
      "address: 'i64', Node.js 24"
    ],
    [
      'a 64-bit one neither',
      () => new GuardedMemory({ initial: 1 }).window({ byteLength: 20 * 2 ** 30 }),
      'ERR_HOSTMAP_MEMORY_FULL',
      /through a window$/
    ]
  ]
}

describe.each(Object.entries(table))('%s', (_, rows) => {
  test.each(rows)('%s', async (_given, call, code, ...says) => {
    const isMine = typeof says[0] === 'string' || says[0] instanceof RegExp
    expect(isMine).toBe(true)
    await expectFailure(call, {
      code,
      says: says.map(part => (part instanceof RegExp ? part : escaped(part)))
    })
  })
})

const escaped = text => new RegExp(String(text).replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))

describe('A message', () => {
  const hostile = () => {
    const mine = () => {
      throw new Error('mine')
    }
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    class Mine {
      get [Symbol.toStringTag]() {
        return mine()
      }
    }
    return [
      proxy,
      new Proxy(
        {},
        { get: mine, getPrototypeOf: mine, ownKeys: mine, getOwnPropertyDescriptor: mine }
      ),
      new Mine(),
      { [Symbol.for('nodejs.util.inspect.custom')]: mine },
      {
        get then() {
          return mine()
        }
      },
      {
        get constructor() {
          return mine()
        }
      },
      Object.assign(() => {}, { toString: mine }),
      Object.create(null),
      vm.runInNewContext('({ a: 1 })'),
      { toString: mine, toJSON: mine }
    ]
  }

  test('is given for whatever was passed, by our own words', async () => {
    const calls = [
      value => guarded.map(value),
      value => window.slide(value),
      value => GuardedMemory.from(value),
      value => HostRegion.copyFrom(value),
      value => HostRegion.open(value),
      value => HostRegion.fromFd(value),
      value => HostRegion.allocate(value),
      value => guarded.restore(value),
      value => Snapshot.of(value),
      value => exposeState(value),
      value => InstancePool.create(value),
      value => guarded.map(region, { access: value }),
      value => guarded.map(region, { at: value }),
      value => window.slide(region, 0, { byteLength: value }),
      value => HostRegion.load(file, { signal: value }),
      value => HostRegion.allocate(1, { name: value })
    ]
    for (const call of calls) {
      for (const value of hostile()) {
        const error = await thrownBy(() => call(value))
        // Its own code may be what fails, where it is asked for its properties.
        if (error?.message === 'mine') continue
        expect([call.toString(), error?.code, error?.message]).toEqual([
          call.toString(),
          expect.stringMatching(/^ERR_(INVALID_ARG|HOSTMAP)/),
          expect.any(String)
        ])
      }
    }
  })

  test('is one line, and not long, whatever was passed', async () => {
    const long = 'x\n\t\u202e'.repeat(1000)
    class A {}
    Object.defineProperty(A, 'name', { value: long })
    for (const value of [
      long,
      Object.assign(() => {}, {}),
      new A(),
      { [long]: long },
      new URL(`file:///${'y'.repeat(5000)}`)
    ]) {
      for (const call of [() => guarded.map(value), () => HostRegion.allocate(value)]) {
        const { message } = await thrownBy(call)
        expect(message).not.toMatch(/[\n\t\u202e]/)
        expect(message.length).toBeLessThan(400)
      }
    }
  })

  test('never says the same twice, nor `undefined (undefined)`', async () => {
    const { message } = await thrownBy(() => HostRegion.open('missing'))
    expect(message.match(/No such file or directory/g)).toHaveLength(1)
    expect((await thrownBy(() => guarded.map())).message).not.toMatch(/undefined.*undefined/)
  })

  test("for a missing file is as absolute as Node's own, where the folder was changed, too", async () => {
    const before = process.cwd()
    try {
      process.chdir(os.tmpdir())
      expect((await thrownBy(() => HostRegion.open('missing.bin'))).message).toContain(
        path.join(process.cwd(), 'missing.bin')
      )
    } finally {
      process.chdir(before)
    }
  })

  skipUnless('needs 64-bit memories', hasMemory64).test(
    'of a 64-bit memory knows its pages',
    async () => {
      await expectFailure(() => new GuardedMemory({ initial: 2n ** 30n, address: 'i64' }), {
        code: RANGE,
        says: /1073741824 bytes are 16384/
      })
    }
  )
})
