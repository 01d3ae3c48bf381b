'use strict'

// The Buffers that engines get of a region: whose bytes they are, who may write them, and how long
// they stay.

const fs = require('node:fs')
const { constants } = require('node:buffer')
const { inspect } = require('node:util')
const { GuardedMemory, HostRegion, limits } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { temporaryDirectory, noise } = require('./support/files')
const { fdOf, mappingsNamed, countOpen, flagsOfMappingsNamed } = require('./support/procfs')
const { inChild } = require('./support/child')
const { MiB, GiB } = require('./support/wasm')
const { nextWarning } = require('./support/warnings')
const { skipUnless } = require('./support/skip')

const directory = temporaryDirectory()
const LENGTH = 100_000
const contents = noise(LENGTH)

// Regions that a test makes and has no reason to close are closed after it.
const made = []
const keep = region => (made.push(region), region)
afterEach(() => made.splice(0).forEach(region => region.close({ views: 'detach' })))

const fileOf = (bytes = contents) => directory.file(bytes)
const unwritable = {
  file: () => keep(HostRegion.open(fileOf())),
  sealed: () => keep(HostRegion.copyFrom(contents).seal())
}

describe('region.bytes', () => {
  test('is a Buffer over the region, no copy, and alone in its ArrayBuffer', () => {
    const region = keep(HostRegion.copyFrom(contents, { name: 'bytes are mapped' }))
    const bytes = region.bytes()
    expect(Buffer.isBuffer(bytes)).toBe(true)
    expect(bytes).toMatchObject({ byteOffset: 0, length: LENGTH })
    expect(bytes.buffer.byteLength).toBe(LENGTH)
    expect(bytes.equals(contents)).toBe(true)
    expect(mappingsNamed('/memfd:bytes are mapped')).toHaveLength(1)
    new Uint8Array(region.view())[5000] = ~contents[5000]
    expect(bytes[5000]).toBe(~contents[5000] & 255)
  })

  test.each([
    [0, 1],
    [1, 1],
    [4095, 2],
    [4096, 4096],
    [65_537, 12_345],
    [99_999, 1]
  ])('starts at any offset and takes any length: %i, %i', (byteOffset, byteLength) => {
    const region = keep(HostRegion.copyFrom(contents))
    for (const access of ['private', 'readonly', 'shared']) {
      const bytes = region.bytes({ access, byteOffset, byteLength })
      expect(bytes).toMatchObject({ byteOffset: 0, length: byteLength })
      expect(bytes.buffer.byteLength).toBe(byteLength)
      expect(bytes.equals(contents.subarray(byteOffset, byteOffset + byteLength))).toBe(true)
    }
  })

  test('takes the parts that split gives', () => {
    const region = keep(HostRegion.copyFrom(contents))
    const parts = region.split(3).map(part => region.bytes(part))
    expect(Buffer.concat(parts).equals(contents)).toBe(true)
  })

  test('an empty part is an empty Buffer, which holds nothing', () => {
    const region = keep(HostRegion.copyFrom(contents, { name: 'empty bytes' }))
    for (const part of [
      { byteLength: 0 },
      { byteOffset: 5, byteLength: 0 },
      { byteOffset: LENGTH }
    ]) {
      const bytes = region.bytes(part)
      expect(Buffer.isBuffer(bytes)).toBe(true)
      expect(bytes).toMatchObject({ length: 0, byteOffset: 0 })
      expect(bytes.buffer.byteLength).toBe(0)
    }
    expect(mappingsNamed('/memfd:empty bytes')).toHaveLength(0)
  })

  const SIZES = [1, 4095, 4096, 4097, 2 * GiB - 1, 2 * GiB, 4 * GiB, 4 * GiB + 1, 8 * GiB]
  describe.each([0, 1, 4095, 4097])('of a file, from byte %i on', byteOffset => {
    test.each(SIZES)('has %i bytes, or says that this Node.js has no such Buffer', byteLength => {
      const end = byteOffset + byteLength
      const path = directory.sparse(end, { [byteOffset]: Buffer.of(1), [end - 1]: Buffer.of(2) })
      const region = keep(HostRegion.open(path))
      for (const access of ['private', 'readonly']) {
        if (byteLength > constants.MAX_LENGTH) {
          expectError(
            thrownBy(() => region.bytes({ access, byteOffset })),
            { code: 'ERR_OUT_OF_RANGE', says: [String(constants.MAX_LENGTH), String(byteLength)] }
          )
          continue
        }
        const bytes = region.bytes({ access, byteOffset })
        expect(bytes.length).toBe(byteLength)
        expect([bytes[0], bytes[byteLength - 1]]).toEqual([byteLength === 1 ? 2 : 1, 2])
        expect(bytes.subarray(-1)[0]).toBe(2)
      }
      fs.unlinkSync(path)
    })
  })

  test('is as large as this V8 allows, and no larger', () => {
    const region = keep(HostRegion.allocate(5 * GiB))
    if (constants.MAX_LENGTH >= 5 * GiB) {
      const bytes = region.bytes()
      expect(bytes.length).toBe(5 * GiB)
      bytes[5 * GiB - 1] = 9
      expect(bytes[5 * GiB - 1]).toBe(9)
    } else {
      expectError(
        thrownBy(() => region.bytes()),
        {
          code: 'ERR_OUT_OF_RANGE',
          says: [/options.byteLength/, String(constants.MAX_LENGTH), String(5 * GiB)]
        }
      )
      expect(region.bytes({ byteLength: 4 * GiB }).length).toBe(4 * GiB)
    }
  })

  test('stays out of core dumps', () => {
    const region = keep(HostRegion.allocate(MiB, { name: 'undumped bytes' }))
    region.bytes()
    expect(flagsOfMappingsNamed('/memfd:undumped bytes')).toEqual([expect.arrayContaining(['dd'])])
  })

  test('is no memory of a module', () => {
    const region = keep(HostRegion.allocate(65536))
    expectError(
      thrownBy(() => GuardedMemory.from(region.bytes().buffer)),
      { code: 'ERR_HOSTMAP_NOT_WASM_MEMORY', says: [/bytes/, /HostRegion/] }
    )
  })

  test('can not be had of a closed region', () => {
    const region = HostRegion.allocate(10)
    region.close()
    for (const part of [{}, { byteLength: 0 }]) {
      expectError(
        thrownBy(() => region.bytes(part)),
        { code: 'ERR_HOSTMAP_REGION_CLOSED' }
      )
    }
  })
})

describe("access 'private', the default", () => {
  test.each(Object.entries(unwritable))('keeps writes to itself, without a word: %s', (_, make) => {
    const region = make()
    const [mine, yours] = [region.bytes(), region.bytes({ access: 'private' })]
    mine[0] = ~mine[0]
    mine.fill(1, 50_000)
    expect(yours.equals(contents)).toBe(true)
    expect(mine.subarray(1, 50_000).equals(contents.subarray(1, 50_000))).toBe(true)
    expect(mine[LENGTH - 1]).toBe(1)
    expect(region).toMatchObject({ strayWrites: 0, lastFault: null })
  })

  test('keeps writes to itself, too, where the region is writable', () => {
    const region = keep(HostRegion.copyFrom(contents))
    const mine = region.bytes()
    mine.fill(0)
    expect(Buffer.from(region.view()).equals(contents)).toBe(true)
  })

  test('is not touched by a seal', () => {
    const region = keep(HostRegion.copyFrom(contents))
    const mine = region.bytes()
    mine[0] = ~contents[0]
    region.seal()
    mine[1] = ~contents[1]
    expect([mine[0], mine[1]]).toEqual([~contents[0] & 255, ~contents[1] & 255])
    expect(region.strayWrites).toBe(0)
  })
})

describe("access 'readonly'", () => {
  test.each(Object.entries(unwritable))('counts and tells of writes: %s', async (_, make) => {
    const region = make()
    const bytes = region.bytes({ access: 'readonly' })
    bytes[5] = ~contents[5]
    expect(bytes[5]).toBe(~contents[5] & 255)
    expect(region.bytes().equals(contents)).toBe(true)
    expect(region).toMatchObject({
      strayWrites: 1,
      lastFault: { cause: 'readonly', byteOffset: 5 }
    })
    expect(await nextWarning()).toMatchObject({ code: 'HOSTMAP_STRAY_WRITE' })
  })

  test('writes to no region, though it were writable', async () => {
    const region = keep(HostRegion.copyFrom(contents))
    region.bytes({ access: 'readonly' }).fill(0)
    expect(Buffer.from(region.view()).equals(contents)).toBe(true)
    expect(await nextWarning()).toMatchObject({ code: 'HOSTMAP_STRAY_WRITE' })
  })
})

describe("access 'shared'", () => {
  test('writes to the region', () => {
    const path = fileOf()
    const region = keep(HostRegion.open(path, { writable: true }))
    region.bytes({ access: 'shared' })[9] = ~contents[9]
    expect(fs.readFileSync(path)[9]).toBe(~contents[9] & 255)
  })

  test.each(Object.entries(unwritable))('needs a writable region: %s', (_, make) => {
    const region = make()
    for (const part of [{}, { byteLength: 0 }]) {
      expectError(
        thrownBy(() => region.bytes({ access: 'shared', ...part })),
        { code: 'ERR_HOSTMAP_REGION_READONLY', says: [/'shared'/, /'private'/] }
      )
    }
  })

  test('becomes read-only when the region is sealed', async () => {
    const region = keep(HostRegion.copyFrom(contents))
    const bytes = region.bytes({ access: 'shared' })
    bytes[0] = ~contents[0]
    region.seal()
    expect(bytes[0]).toBe(~contents[0] & 255)
    bytes[1] = ~contents[1]
    expect(region.bytes()[1]).toBe(contents[1])
    expect(region.strayWrites).toBe(1)
    expect(await nextWarning()).toMatchObject({ code: 'HOSTMAP_STRAY_WRITE' })
  })

  test('of another region over the same memory keeps it from being sealed, even when kept', () => {
    const region = keep(HostRegion.copyFrom(contents))
    const other = HostRegion.fromFd(fdOf(region))
    const bytes = other.bytes({ access: 'shared' })
    other.close()
    expectError(
      thrownBy(() => region.seal()),
      { code: 'ERR_HOSTMAP_REGION_BUSY' }
    )
    bytes[0] = 1
    expect(region.bytes()[0]).toBe(1)
    other.close({ views: 'detach' })
    region.seal()
  })
})

describe('region.close', () => {
  const openOne = name => {
    const region = HostRegion.copyFrom(contents, { name })
    return { region, view: region.view(), bytes: region.bytes() }
  }

  test('detaches views, keeps Buffers, and closes the descriptor', () => {
    const { region, view, bytes } = openOne('kept by its Buffer')
    region.close()
    region.close()
    expect(view.byteLength).toBe(0)
    expect(bytes.equals(contents)).toBe(true)
    bytes[0] = ~contents[0]
    expect(bytes[0]).toBe(~contents[0] & 255)
    expect(countOpen('/memfd:kept by its Buffer')).toBe(0)
    expect(mappingsNamed('/memfd:kept by its Buffer')).toHaveLength(1)
    region.close({ views: 'detach' })
  })

  test('is the same as Symbol.dispose', () => {
    const { region, view, bytes } = openOne('disposed with Buffers')
    region[Symbol.dispose]()
    expect([view.byteLength, bytes.length]).toEqual([0, LENGTH])
    region.close({ views: 'detach' })
  })

  test("views: 'detach' takes all, at once or later", () => {
    for (const before of [undefined, {}, { views: 'keep' }, null]) {
      const { region, view, bytes } = openOne('all detached')
      if (before !== null) region.close(before)
      region.close({ views: 'detach' })
      expect([view.byteLength, bytes.length, bytes.buffer.byteLength]).toEqual([0, 0, 0])
      expect(mappingsNamed('/memfd:all detached')).toHaveLength(0)
    }
  })

  test("views: 'keep' leaves all, and closing again leaves them, too", () => {
    const { region, view, bytes } = openOne('all kept')
    region.close({ views: 'keep' })
    region.close()
    region[Symbol.dispose]()
    expect(Buffer.from(view).equals(contents)).toBe(true)
    expect(bytes.equals(contents)).toBe(true)
    expect(region.closed).toBe(true)
    region.close({ views: 'detach' })
  })

  test('is refused with a wrong option, and nothing is closed', () => {
    const { region, view, bytes } = openOne('not closed')
    for (const options of [{ views: 'kept' }, { views: true }, { view: 'keep' }, 1, null, 'keep']) {
      expect(thrownBy(() => region.close(options)).code).toMatch(/^ERR_INVALID_ARG_(TYPE|VALUE)$/)
    }
    expect(region.closed).toBe(false)
    expect([view.byteLength, bytes.length]).toEqual([LENGTH, LENGTH])
    region.close({ views: 'detach' })
  })
})

describe('a file that gets shorter', () => {
  const PAGE = limits().pageSize
  test.each([['open'], ['closed']])('leaves zeros, and they are counted: %s', async state => {
    const path = fileOf(Buffer.alloc(4 * PAGE, 7))
    const region = keep(HostRegion.open(path))
    const [bytes, written] = [region.bytes(), region.bytes()]
    written[3 * PAGE] = 1
    if (state === 'closed') region.close()
    fs.truncateSync(path, PAGE)
    expect([bytes[0], bytes[3 * PAGE]]).toEqual([7, 0])
    // Truncation takes copies of pages, too.
    expect(written[3 * PAGE]).toBe(0)
    written[3 * PAGE] = 5
    expect(written[3 * PAGE]).toBe(5)
    expect(region.faults).toBe(2)
    expect(region.lastFault).toMatchObject({ byteOffset: 3 * PAGE, outcome: 'zeros' })
    expectError(
      thrownBy(() => region.checkFaults()),
      { code: 'ERR_HOSTMAP_FAULTED' }
    )
    expect(region.acknowledgeFaults()).toBe(2)
    region.checkFaults()
    expect(await nextWarning()).toMatchObject({ code: 'HOSTMAP_MISSING_PAGE' })
    expect(await nextWarning()).toMatchObject({ code: 'HOSTMAP_MISSING_PAGE' })
    region.close()
    expectError(
      thrownBy(() => HostRegion.open(path).bytes({ byteLength: 4 * PAGE })),
      { code: 'ERR_OUT_OF_RANGE' }
    )
  })

  test('before it is asked for its bytes is refused', () => {
    const path = fileOf()
    const region = keep(HostRegion.open(path))
    fs.truncateSync(path, 10)
    expectError(
      thrownBy(() => region.bytes()),
      { code: 'ERR_HOSTMAP_FILE_SHRUNK' }
    )
  })
})

describe('windows and mappings over the same region', () => {
  const show = (memory, { address, byteLength }) => Buffer.from(memory.buffer, address, byteLength)

  test.each([
    ['a file', () => HostRegion.open(directory.file(noise(4 * 65536)), { writable: true })],
    ['a memfd', () => HostRegion.copyFrom(noise(4 * 65536))]
  ])('see what shared Buffers write, and nothing of private ones: %s', (_, make) => {
    const region = keep(make())
    const memory = new GuardedMemory({ initial: 8 })
    const window = memory.window({ byteLength: 65536, access: 'private' })
    const mapping = memory.map(region, { access: 'readonly' })
    const [shared, mine] = [region.bytes({ access: 'shared' }), region.bytes()]
    // Slides of a file move pages out of a mirror of all of it.
    for (const byteOffset of [0, 131072, 65536]) {
      const at = byteOffset + 5
      const value = ~shared[at] & 255
      const before = shared[at]
      mine[at + 1] = ~mine[at + 1]
      window.slide(region, byteOffset)
      expect(show(memory, window)[5]).toBe(before)
      shared[at] = value
      expect(show(memory, window)[5]).toBe(value)
      expect(show(memory, mapping)[at]).toBe(value)
      expect(show(memory, window)[6]).toBe(shared[at + 1])
      expect(mine[at + 1]).toBe(~shared[at + 1] & 255)
      // The module's own writes are nobody else's, either.
      show(memory, window)[7] = ~shared[at + 2]
      expect(mine[at + 2]).toBe(shared[at + 2])
    }
    mapping.unmap()
    region.close()
    window.unmap()
    const expected = Buffer.from(shared)
    expect(mine.length).toBe(4 * 65536)
    expect(shared.equals(expected)).toBe(true)
    region.close({ views: 'detach' })
  })
})

describe('region.holders', () => {
  test('says who holds what, before and after close', () => {
    const region = HostRegion.copyFrom(contents)
    expect(region.holders).toEqual({ views: 0, buffers: 0, byteLength: 0 })
    const held = [
      region.view(),
      region.bytes({ byteLength: 10 }),
      region.bytes({ access: 'shared', byteOffset: 5, byteLength: 20 }),
      region.bytes({ byteLength: 0 })
    ]
    const all = { views: 1, buffers: 2, byteLength: LENGTH + 30 }
    expect(region.holders).toEqual(all)
    expect(inspect(region)).toContain('holders: { views: 1, buffers: 2, byteLength: 100030 }')
    region.seal()
    expect(region.holders).toEqual(all)
    region.close()
    expect(region.holders).toEqual({ views: 0, buffers: 2, byteLength: 30 })
    expect(inspect(region)).toContain('closed: true')
    region.close({ views: 'detach' })
    expect(region.holders).toEqual({ views: 0, buffers: 0, byteLength: 0 })
    expect(held.map(({ byteLength }) => byteLength)).toEqual([0, 0, 0, 0])
  })
})

describe('collection', () => {
  test('of a Buffer shows in what its closed region says of its holders', async () => {
    const seen = await inChild(
      async ({ hostmap, collect }) => {
        const region = hostmap.HostRegion.allocate(1000)
        const held = { one: region.bytes(), other: region.bytes() }
        region.close()
        const seen = [region.holders.buffers]
        for (const name of ['one', 'other']) {
          delete held[name]
          await collect()
          seen.push(region.holders.buffers)
        }
        return seen
      },
      { flags: ['--expose-gc'] }
    )
    expect(seen).toEqual([2, 1, 0])
  })

  test('is what ends the count of external memory that a Buffer keeps', async () => {
    const seen = await inChild(
      async ({ hostmap, collect, MiB }) => {
        const count = async () => (await collect(8), process.memoryUsage().external)
        const source = Buffer.alloc(64 * MiB, 1)
        const make = () => hostmap.HostRegion.copyFrom(source)
        make().close()
        const before = await count()
        const since = async () => Math.round(((await count()) - before) / MiB / 4) * 4
        const held = { region: make() }
        held.part = held.region.bytes({ byteLength: MiB })
        const seen = { open: await since() }
        // A memfd keeps all of its memory as long as a page of it is mapped.
        held.region.close()
        seen.closed = await since()
        delete held.part
        seen.left = await since()
        held.part = make().bytes({ byteLength: MiB })
        seen.collected = await since()
        delete held.part
        delete held.region
        seen.end = await since()
        return seen
      },
      { flags: ['--expose-gc'] }
    )
    expect(seen).toEqual({ open: 64, closed: 64, left: 0, collected: 64, end: 0 })
  })

  test('of the region leaves Buffers, and that of the last one unmaps', async () => {
    const seen = await inChild(
      async ({ hostmap, collect, mappingsNamed, countOpen }) => {
        const name = '/memfd:collected'
        const state = () => [countOpen(name), mappingsNamed(name).length]
        const made = () =>
          hostmap.HostRegion.copyFrom(Buffer.alloc(100_000, 7), { name: 'collected' }).bytes()
        const held = { bytes: made() }
        await collect()
        const seen = [state(), held.bytes[99_999]]
        held.part = held.bytes.subarray(5, 10)
        delete held.bytes
        await collect()
        seen.push(state(), held.part[0])
        delete held.part
        await collect()
        seen.push(state())
        return seen
      },
      { flags: ['--expose-gc'] }
    )
    expect(seen).toEqual([[0, 1], 7, [0, 1], 7, [0, 0]])
  })
})

// What a program may try with any Buffer. Whatever it is, the process lives and the region is as it
// was.
describe('a Buffer of a region', () => {
  test('is copied by structuredClone and postMessage, and is never transferred', async () => {
    const region = keep(HostRegion.copyFrom(contents))
    const bytes = region.bytes()
    const clone = structuredClone(bytes)
    clone[0] = ~contents[0]
    expect(bytes.equals(contents)).toBe(true)
    for (const attempt of [
      () => structuredClone(bytes, { transfer: [bytes.buffer] }),
      () => new MessageChannel().port1.postMessage(bytes, [bytes.buffer])
    ]) {
      // Node 20 copies what it can't transfer.
      const error = thrownBy(attempt)
      if (error !== null) expect(error).toMatchObject({ name: 'DataCloneError' })
    }
    expect(bytes.equals(contents)).toBe(true)
  })

  const canTransfer = typeof ArrayBuffer.prototype.transfer === 'function'
  skipUnless('needs ArrayBuffer.prototype.transfer', canTransfer).test(
    'may be moved by transfer, and close still decides',
    () => {
      const region = HostRegion.copyFrom(contents)
      const moved = region.bytes().buffer.transfer()
      expect(region.holders).toEqual({ views: 0, buffers: 1, byteLength: LENGTH })
      region.close()
      expect(Buffer.from(moved).equals(contents)).toBe(true)
      // It can't be detached any more: nobody but its holder knows it. Its pages are taken away.
      region.close({ views: 'detach' })
      expect(Buffer.from(moved).equals(Buffer.alloc(LENGTH))).toBe(true)
      new Uint8Array(moved).fill(1)
    }
  )

  test('is written by asynchronous reads of files, whatever becomes of the region', async () => {
    const path = fileOf(Buffer.alloc(LENGTH, 3))
    const file = await fs.promises.open(path)
    const region = HostRegion.copyFrom(contents)
    const bytes = region.bytes()
    const reading = file.read(bytes, 0, LENGTH, 0)
    region.close()
    expect((await reading).bytesRead).toBe(LENGTH)
    expect(bytes.equals(Buffer.alloc(LENGTH, 3))).toBe(true)
    const again = file.read(bytes, 0, LENGTH, 0)
    region.close({ views: 'detach' })
    // Node has the address by now, or finds the Buffer empty.
    await again.catch(() => {})
    await file.close()
  })

  test('ends with its worker, and other threads keep theirs', async () => {
    const seen = await inChild(async ({ hostmap, assert, mappingsNamed, require }) => {
      const { Worker } = require('node:worker_threads')
      const { once } = require('node:events')
      const name = '/memfd:of a worker'
      const region = hostmap.HostRegion.copyFrom(Buffer.alloc(100_000, 7), { name: 'of a worker' })
      const mine = region.bytes()
      const worker = new Worker(
        `const { parentPort, workerData } = require('node:worker_threads')
          const { HostRegion } = require(workerData.path)
          const region = HostRegion.receive(workerData.token)
          globalThis.held = [region.bytes(), region.bytes({ access: 'shared' })]
          region.close()
          held[0][0] = 1
          held[1][1] = 2
          // The page is its own since it wrote to it.
          parentPort.postMessage([...held[0].subarray(0, 3)])
          setInterval(() => {}, 1000)`,
        {
          eval: true,
          workerData: { path: require.resolve('../..'), token: region.share({ access: 'shared' }) }
        }
      )
      const [seen] = await once(worker, 'message')
      const during = mappingsNamed(name).length
      await worker.terminate()
      const after = mappingsNamed(name).length
      region.close()
      assert.deepEqual([...mine.subarray(0, 3)], [7, 2, 7])
      return { seen, during, after }
    })
    expect(seen).toEqual({ seen: [1, 7, 7], during: 3, after: 1 })
  })
})
