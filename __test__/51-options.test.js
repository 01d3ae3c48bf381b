'use strict'

// How options are read, in every call that takes some: unknown names are refused, Object.prototype
// counts for nothing, and each option is read once.

const vm = require('node:vm')
const { GuardedMemory, HostRegion, InstancePool, Snapshot, limits } = require('..')
const { expectError, expectFailure, thrownBy } = require('./support/errors')
const { inChild } = require('./support/child')
const { temporaryDirectory, noise } = require('./support/files')
const { fdOf } = require('./support/procfs')
const { assemble, WASM_PAGE } = require('./support/wasm')

const PAGE = limits().pageSize
const directory = temporaryDirectory()
const contents = noise(8 * PAGE)
const file = directory.file(contents, 'good.bin')

let region, memory, window, mapping, snapshot, instance, pool, binary
beforeAll(async () => {
  binary = await assemble('(module (memory (export "memory") 1))')
  instance = new WebAssembly.Instance(new WebAssembly.Module(binary))
  region = HostRegion.copyFrom(contents)
  memory = new GuardedMemory({ initial: 4, maximum: 64 })
  window = memory.window({ byteLength: 2 * PAGE, at: 2 * WASM_PAGE })
  mapping = memory.map(region, { at: WASM_PAGE, byteLength: 2 * PAGE })
  snapshot = new GuardedMemory({ initial: 1 }).snapshot()
  pool = await InstancePool.create(binary)
})
afterAll(() => {
  pool.close()
  region.close()
})

function receiveSnapshot(bag) {
  const token = snapshot.share()
  try {
    return Snapshot.receive(token, bag)
  } finally {
    Snapshot.unshare(token)
  }
}

/** Every call that takes options: how it is made with some, and one that it takes. */
const calls = {
  'HostRegion.allocate': [bag => HostRegion.allocate(1, bag), 'hugePages', false],
  'HostRegion.copyFrom': [bag => HostRegion.copyFrom(contents, bag), 'name', 'copied'],
  'HostRegion.from': [bag => HostRegion.from([contents], bag), 'name', 'filled'],
  'HostRegion.load': [bag => HostRegion.load(file, bag), 'byteOffset', 0],
  'HostRegion.open': [bag => HostRegion.open(file, bag), 'writable', false],
  'HostRegion.fromFd': [bag => HostRegion.fromFd(openFile(), bag), 'byteLength', PAGE],
  'region.view': [bag => region.view(bag), 'byteLength', PAGE],
  'region.bytes': [bag => region.bytes(bag), 'access', 'readonly'],
  'region.createWriteStream': [bag => region.createWriteStream(bag).destroy(), 'byteLength', PAGE],
  'region.writableStream': [bag => region.writableStream(bag).abort(), 'byteOffset', PAGE],
  'region.createReadStream': [bag => region.createReadStream(bag).destroy(), 'chunk', PAGE],
  'region.readableStream': [bag => region.readableStream(bag).cancel(), 'chunk', PAGE],
  'region.blob': [bag => region.blob(bag), 'type', 'a/b'],
  'region.close': [bag => HostRegion.allocate(1).close(bag), 'views', 'keep'],
  'region.share': [bag => HostRegion.unshare(region.share(bag)), 'access', 'readonly'],
  'region.split': [bag => region.split(1, bag), 'align', 8],
  'new GuardedMemory': [bag => new GuardedMemory({ initial: 1, ...bag }), 'maximum', 1],
  'GuardedMemory.from': [bag => GuardedMemory.from(memory.memory, bag), 'address', 'i32'],
  'guarded.map': [bag => memory.map(region, bag).unmap(), 'access', 'private'],
  'guarded.adopt': [bag => memory.adopt(new ArrayBuffer(1), bag).unmap(), 'copy', 'allow'],
  'guarded.window': [bag => memory.window({ byteLength: PAGE, ...bag }).unmap(), 'rest', 'zeros'],
  'guarded.snapshot': [
    bag => snapshot.constructor && memory.snapshot(bag).close(),
    'hugePages',
    false
  ],
  'guarded.restore': [bag => fresh().restore(snapshot, bag), 'exclusive', true],
  'guarded.reset': [bag => fresh().reset(bag), 'keepResidentBytes', 0],
  'guarded.reserve': [bag => fresh().reserve(1, bag), 'allocator', undefined],
  'mapping.prefetch': [bag => mapping.prefetch(bag), 'byteOffset', PAGE],
  'window.slide': [bag => window.slide(region, 0, bag), 'byteLength', PAGE],
  'window.slide of a part': [bag => window.slide(region, bag ?? {}), 'byteLength', PAGE],
  'window.source': [bag => window.source(region, bag), 'overlap', 1],
  'window.chunks': [bag => window.chunks(region, bag), 'readAhead', false],
  'Snapshot.of': [bag => Snapshot.of(instance, bag).close(), 'name', 'of'],
  'Snapshot.load': [async bag => Snapshot.load(await saved(), bag), 'hugePages', false],
  'Snapshot.fromFd': [bag => Snapshot.fromFd(fdOf(snapshot), bag), 'keepResidentBytes', 0],
  'Snapshot.receive': [receiveSnapshot, 'keepResidentBytes', 0],
  'snapshot.save': [bag => snapshot.save(directory.file('', 'saved'), bag), 'signal', undefined],
  'snapshot.restoreTo': [bag => Snapshot.of(instance).restoreTo(instance, bag), 'exclusive', true],
  'InstancePool.create': [async bag => (await InstancePool.create(binary, bag)).close(), 'size', 0],
  'pool.acquire': [async bag => (await pool.acquire(bag)).release(), 'signal', undefined],
  'pool.run': [bag => pool.run(() => {}, bag), 'signal', undefined]
}
const rows = Object.entries(calls).map(([callee, [call, name, value]]) => [
  callee,
  call,
  name,
  value
])

const fresh = () => new GuardedMemory({ initial: 1 })

function openFile() {
  const fs = require('node:fs')
  const fd = fs.openSync(file, 'r')
  setImmediate(() => fs.closeSync(fd))
  return fd
}

async function saved() {
  const path = directory.file('', 'a.snapshot')
  await snapshot.save(path)
  return path
}

describe.each(rows)('%s', (_callee, call, name, value) => {
  test('takes its options', async () => {
    await call({ [name]: value })
    await call(undefined)
    await call({})
    // Of another realm, of none, and given by what it was made from.
    await call(Object.assign(vm.runInNewContext('({})'), { [name]: value }))
    await call(Object.assign(Object.create(null), { [name]: value }))
  })

  test.each(['frobnicate', 'acces', 'constructor', 'toString', '0', ''])(
    'refuses an option %p',
    async key => {
      const error = await thrownBy(() => call({ [key]: undefined }))
      expectError(error, { code: 'ERR_INVALID_ARG_VALUE', says: /is not an option/ })
      expect(error.message).toContain(`.${key} `)
    }
  )

  test('refuses one of JSON that is called __proto__', async () => {
    expectError(await thrownBy(() => call(JSON.parse('{ "__proto__": { "access": "shared" } }'))), {
      code: ['ERR_INVALID_ARG_VALUE', 'ERR_INVALID_ARG_TYPE']
    })
  })

  test('suggests the name that was meant', async () => {
    for (const typo of [name.slice(0, -1), `${name}s`, name.toUpperCase()]) {
      expectError(await thrownBy(() => call({ [typo]: value })), {
        code: 'ERR_INVALID_ARG_VALUE',
        says: [`.${typo} is not an option`, `did you mean ${name}?`]
      })
    }
  })
})

const own = rows.filter(([callee]) => !['new GuardedMemory', 'guarded.window'].includes(callee))
describe.each(own)('%s', (callee, call, name, value) => {
  test('reads each option once', async () => {
    let reads = 0
    const bag = {
      get [name]() {
        reads++
        return value
      }
    }
    await call(bag)
    expect(reads).toBe(1)
  })

  test('takes only what classes define', async () => {
    let reads = 0
    class Base {
      #value = value
      get [name]() {
        reads++
        return this.#value
      }
      helper() {}
    }
    await call(new (class extends Base {})())
    expect(reads).toBe(1)
    await call(Object.create({ [name]: value }))
    expectError(await thrownBy(() => call(Object.create({ frobnicate: 1 }))), {
      code: 'ERR_INVALID_ARG_VALUE',
      says: 'frobnicate'
    })
  })

  test('throws what a getter and the traps of a Proxy throw', async () => {
    const mine = new Error('mine')
    const thrower = () => {
      throw mine
    }
    const bags = [
      Object.defineProperty({}, name, { get: thrower, enumerable: true }),
      new Proxy({ [name]: value }, { get: thrower }),
      new Proxy({}, { ownKeys: thrower }),
      new Proxy({}, { getPrototypeOf: thrower }),
      Object.create(new Proxy({}, { getPrototypeOf: thrower }))
    ]
    for (const bag of bags) expect(await thrownBy(() => call(bag))).toBe(mine)
    await call(new Proxy({ [name]: value }, {}))
  })

  test('refuses a Proxy that is revoked, and what is no options at all', async () => {
    const revoked = () => {
      const { proxy, revoke } = Proxy.revocable({}, {})
      revoke()
      return proxy
    }
    const promise = Promise.resolve({ [name]: value })
    const others = [
      revoked(),
      new Proxy(revoked(), {}),
      promise,
      new Date(),
      new Map([[name, value]])
    ]
    for (const other of [...others, Object(1), /x/, [], Buffer.alloc(1), new ArrayBuffer(1)]) {
      expectError(await thrownBy(() => call(other)), { code: 'ERR_INVALID_ARG_TYPE' })
    }
    expectError(await thrownBy(() => call(Object.create(revoked()))), {
      code: 'ERR_INVALID_ARG_TYPE'
    })
  })
})

describe('a part', () => {
  const parts = () => region.split(4)

  test('that split gives is taken by every call that takes one', async () => {
    for (const part of parts()) {
      const { byteOffset, byteLength } = part
      const expected = contents.subarray(byteOffset, byteOffset + byteLength)
      const same = bytes => expect(Buffer.from(bytes).equals(expected)).toBe(true)
      same(region.view(part))
      same(region.bytes(part))
      same([...window.chunks(region, part)].flatMap(({ bytes }) => [...bytes]))
      expect(window.source(region, { ...part, chunk: 9 }).position).toBe(byteOffset)
      const shown = window.slide(region, part)
      same(new Uint8Array(memory.buffer, shown.address, shown.byteLength))
      const mapped = memory.map(region, part)
      same(new Uint8Array(memory.buffer, mapped.address, mapped.byteLength))
      expect(mapped).toMatchObject(part)
      mapped.unmap()
      same(HostRegion.open(file, part).view())
      same((await HostRegion.load(file, part)).view())
      expect(region.split(1, part)).toEqual([part])
      const whole = memory.map(region)
      await whole.prefetch(part)
      whole.unmap()
    }
  })

  test.each(['from', 'to', 'offset', 'length', 'start', 'end', 'size'])(
    'has no %s: the error names byteOffset and byteLength',
    async name => {
      for (const call of [
        bag => memory.map(region, bag),
        bag => mapping.prefetch(bag),
        bag => window.slide(region, bag),
        bag => window.source(region, bag),
        bag => window.chunks(region, bag),
        bag => region.view(bag),
        bag => region.bytes(bag),
        bag => region.split(2, bag),
        bag => HostRegion.open(file, bag)
      ]) {
        await expectFailure(() => call({ [name]: 0 }), {
          code: 'ERR_INVALID_ARG_VALUE',
          says: [`.${name} is not an option`, /byteOffset/, /byteLength/]
        })
      }
    }
  )

  test('is given once', async () => {
    await expectFailure(() => window.slide(region, { byteOffset: 0 }, { byteLength: 1 }), {
      code: 'ERR_INVALID_ARG_TYPE',
      says: /byteOffset/
    })
    await expectFailure(() => region.view({ byteOffset: 0 }, 5), {
      code: 'ERR_INVALID_ARG_TYPE',
      says: /byteOffset/
    })
  })
})

test('Object.prototype has no options, whatever a script puts there', async () => {
  const seen = await inChild(async ({ hostmap, assert }) => {
    const { HostRegion, GuardedMemory } = hostmap
    const page = hostmap.limits().pageSize
    const polluted = {
      access: 'shared',
      writable: true,
      at: page,
      byteOffset: page,
      byteLength: page,
      populate: true,
      exclusive: true,
      hugePages: 'yes',
      name: 'polluted',
      shared: true,
      maximum: 3,
      rest: 'zeros',
      chunk: 1,
      align: 1,
      signal: 'none',
      keepResidentBytes: -1
    }
    for (const enumerable of [false, true]) {
      for (const [name, value] of Object.entries(polluted))
        Object.defineProperty(Object.prototype, name, {
          value,
          enumerable,
          configurable: true,
          writable: true
        })
      try {
        const region = HostRegion.copyFrom(Buffer.alloc(2 * page), {})
        assert.equal(region.name, 'region')
        assert.equal(HostRegion.open(process.execPath, {}).writable, false)
        const guarded = new GuardedMemory({ initial: 1 })
        for (const options of [undefined, {}]) {
          const { access, byteOffset, byteLength, address } = guarded.map(region, options)
          assert.deepEqual([access, byteOffset, byteLength], ['readonly', 0, 2 * page])
          assert.notEqual(address, page)
        }
        const own = { __proto__: null, byteLength: 2 * page }
        const window = guarded.window(own)
        assert.deepEqual([window.access, window.rest], ['readonly', 'trap'])
        assert.equal(window.slide(region, 0, {}).byteLength, 2 * page)
        assert.equal(window.slide(region, {}).byteLength, 2 * page)
        assert.equal([...window.chunks(region, {})].length, 1)
        assert.equal(region.split(1, {})[0].byteLength, 2 * page)
        guarded.snapshot({}).close()
        guarded.reset({})
        const all = new GuardedMemory({ initial: 1, maximum: 2, shared: true })
        assert.throws(() => all.reset({}), { code: 'ERR_HOSTMAP_SHARED_MEMORY' })
      } finally {
        for (const name of Object.keys(polluted)) delete Object.prototype[name]
      }
    }
    return 'as documented'
  })
  expect(seen).toBe('as documented')
})
