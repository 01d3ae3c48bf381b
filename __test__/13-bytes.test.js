'use strict'

// The Buffers that engines get of a region: whose bytes they are, who may write them, and how long
// they stay.

const fs = require('node:fs')
const { constants } = require('node:buffer')
const { GuardedMemory, HostRegion, limits } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { temporaryDirectory, noise } = require('./support/files')
const { fdOf, mappingsNamed, countOpen, flagsOfMappingsNamed } = require('./support/procfs')
const { inChild } = require('./support/child')
const { MiB, GiB } = require('./support/wasm')
const { nextWarning } = require('./support/warnings')

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

describe('collection', () => {
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
