'use strict'

// Regions by themselves: each way to make one, views, seals and ends. What memories do with them is
// in 30.

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const { constants } = require('node:buffer')
const { inspect } = require('node:util')
const { GuardedMemory, HostRegion } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { temporaryDirectory, noise } = require('./support/files')
const {
  fdOf,
  mappingsOf,
  mappingsNamed,
  countOpen,
  flagsOfMappingsNamed
} = require('./support/procfs')
const { inChild } = require('./support/child')
const { KiB, MiB, GiB } = require('./support/wasm')
const { nextWarning } = require('./support/warnings')

const directory = temporaryDirectory()
const bytesOf = (region, ...range) => Buffer.from(region.view(...range))

// Regions that a test makes and has no reason to close are closed after it.
const made = []
const keep = region => (made.push(region), region)
afterEach(() => made.splice(0).forEach(region => region.close()))

describe('HostRegion.allocate', () => {
  test('gives zeros in a memfd, with just the size that was asked for', () => {
    const region = keep(HostRegion.allocate(10_001))
    expect(region).toMatchObject({
      byteLength: 10_001,
      backing: 'memfd',
      writable: true,
      sealed: false,
      closed: false
    })
    expect(fs.fstatSync(fdOf(region)).size).toBe(10_001)
    expect(bytesOf(region).equals(Buffer.alloc(10_001))).toBe(true)
  })

  test('takes no memory until pages are touched', () => {
    const region = keep(HostRegion.allocate(64 * GiB))
    const blocks = () => fs.fstatSync(fdOf(region)).blocks * 512
    expect(blocks()).toBe(0)
    new Uint8Array(region.view(63 * GiB, MiB)).fill(1)
    expect(blocks()).toBeGreaterThanOrEqual(MiB)
    expect(blocks()).toBeLessThan(5 * MiB)
  })

  test('takes any size up to 2^53 - 1', () => {
    const region = keep(HostRegion.allocate(Number.MAX_SAFE_INTEGER))
    expect(region.byteLength).toBe(Number.MAX_SAFE_INTEGER)
    expect(bytesOf(region, 2 ** 52, 3)).toEqual(Buffer.alloc(3))
  })

  test('can neither grow nor shrink, by anybody who has the descriptor', () => {
    const region = keep(HostRegion.allocate(MiB))
    expect(() => fs.ftruncateSync(fdOf(region), 1)).toThrow(/EPERM/)
    expect(() => fs.ftruncateSync(fdOf(region), 2 * MiB)).toThrow(/EPERM/)
    expect(() => fs.writeSync(fdOf(region), 'x', MiB)).toThrow(/EPERM/)
  })

  test('owns a descriptor that is closed on exec', () => {
    const region = keep(HostRegion.allocate(1))
    const [, octal] = /^flags:\s+([0-7]+)$/m.exec(
      fs.readFileSync(`/proc/self/fdinfo/${fdOf(region)}`, 'latin1')
    )
    expect(parseInt(octal, 8) & 0o2000000).not.toBe(0)
  })

  test('has the name that it was given, here, in util.inspect and in the process map', () => {
    const region = keep(HostRegion.allocate(1, { name: 'prices of 2026' }))
    expect(region.name).toBe('prices of 2026')
    expect(inspect(region)).toContain('prices of 2026')
    expect(fs.readlinkSync(`/proc/self/fd/${fdOf(region)}`)).toBe('/memfd:prices of 2026 (deleted)')
    region.view()
    expect(mappingsNamed('/memfd:prices of 2026')).toHaveLength(1)
  })

  test('takes names of 200 bytes, in any script, and the empty one', () => {
    const name = 'ζ'.repeat(100)
    expect(keep(HostRegion.allocate(1, { name })).name).toBe(name)
    expect(countOpen(name)).toBe(1)
    expect(keep(HostRegion.allocate(1, { name: '' })).name).toBe('')
  })

  test('has some name when none is given', () => {
    expect(keep(HostRegion.allocate(1)).name).toMatch(/./)
  })
})

describe('HostRegion.copyFrom', () => {
  const source = noise(100_000)
  const inner = source.buffer.slice(source.byteOffset, source.byteOffset + 100_000)
  const shared = new SharedArrayBuffer(100_000)
  source.copy(Buffer.from(shared))

  test.each([
    ['an ArrayBuffer', inner],
    ['a SharedArrayBuffer', shared],
    ['a Buffer', source],
    ['a Uint8Array over shared memory', new Uint8Array(shared)],
    ['a Float64Array', new Float64Array(inner)],
    ['a BigInt64Array', new BigInt64Array(inner)],
    ['a DataView', new DataView(inner)],
    ['the memory of a WebAssembly module', wasmMemory(source)]
  ])('copies %s', (_, bytes) => {
    const region = keep(HostRegion.copyFrom(bytes))
    expect(region.byteLength).toBe(bytes.byteLength)
    expect(region).toMatchObject({ backing: 'memfd', writable: true, sealed: false })
    expect(bytesOf(region, 0, 100_000).equals(source)).toBe(true)
  })

  function wasmMemory(bytes) {
    const { buffer } = new WebAssembly.Memory({ initial: 2 })
    bytes.copy(Buffer.from(buffer))
    return buffer
  }

  test('copies just the part that a view shows', () => {
    const region = keep(HostRegion.copyFrom(new Uint16Array(inner, 70_002, 333)))
    expect(region.byteLength).toBe(666)
    expect(bytesOf(region).equals(source.subarray(70_002, 70_668))).toBe(true)
    expect(
      bytesOf(keep(HostRegion.copyFrom(new DataView(inner, 99_999)))).equals(
        source.subarray(99_999)
      )
    ).toBe(true)
  })

  test('is a copy: what happens to the source later does not show', () => {
    const changing = Buffer.from('before')
    const region = keep(HostRegion.copyFrom(changing))
    changing.write('after!')
    expect(bytesOf(region).toString()).toBe('before')
  })

  test('takes a single byte, and a name', () => {
    const region = keep(HostRegion.copyFrom(Uint8Array.of(7), { name: 'seven' }))
    expect(region).toMatchObject({ byteLength: 1, name: 'seven' })
    expect([...bytesOf(region)]).toEqual([7])
  })
})

describe('HostRegion.open', () => {
  test('is the file itself: what is written to it shows', () => {
    const path = directory.file(noise(20_000), 'weather.f32')
    const region = keep(HostRegion.open(path))
    expect(region).toMatchObject({
      byteLength: 20_000,
      backing: 'file',
      writable: false,
      sealed: false
    })
    expect(region.name).toContain('weather.f32')
    const view = new Uint8Array(region.view())
    expect(Buffer.from(view).equals(noise(20_000))).toBe(true)

    const fd = fs.openSync(path, 'r+')
    fs.writeSync(fd, Buffer.from([1, 2, 3]), 0, 3, 9000)
    fs.closeSync(fd)
    expect([...view.slice(9000, 9003)]).toEqual([1, 2, 3])
  })

  test('opens for reading only by default: JavaScript writes stay in the view that made them', async () => {
    const path = directory.file(Buffer.from('dataset'))
    const region = keep(HostRegion.open(path))
    const [one, two] = [new Uint8Array(region.view()), new Uint8Array(region.view())]
    one.fill(0)
    expect(Buffer.from(two).toString()).toBe('dataset')
    expect(fs.readFileSync(path, 'latin1')).toBe('dataset')
    expect(() => fs.writeSync(fdOf(region), 'x')).toThrow(/EBADF/)
    expect(await nextWarning()).toMatchObject({ code: 'HOSTMAP_STRAY_WRITE' })
  })

  test('with writable: true, writes go to the file', () => {
    const path = directory.file(Buffer.from('dataset'))
    const region = keep(HostRegion.open(path, { writable: true }))
    expect(region.writable).toBe(true)
    Buffer.from(region.view()).write('DATA')
    expect(fs.readFileSync(path, 'latin1')).toBe('DATAset')
  })

  test('takes a path, a file URL, a link, and names in any script', () => {
    const path = directory.file(Buffer.from('x'), 'Ζürich 100%.bin')
    const link = directory.file(undefined, 'link')
    fs.symlinkSync(path, link)
    const { pathToFileURL } = require('node:url')
    for (const way of [path, pathToFileURL(path), link])
      expect(bytesOf(keep(HostRegion.open(way))).toString()).toBe('x')
  })

  test('opens a part of a file', () => {
    const path = directory.file(noise(200_000))
    const part = keep(HostRegion.open(path, { byteOffset: 65536, byteLength: 100_001 }))
    expect(part.byteLength).toBe(100_001)
    expect(bytesOf(part).equals(noise(200_000).subarray(65536, 165_537))).toBe(true)
    const rest = keep(HostRegion.open(path, { byteOffset: 131_072 }))
    expect(rest.byteLength).toBe(200_000 - 131_072)
    expect(bytesOf(rest, 3).equals(noise(200_000).subarray(131_075))).toBe(true)
  })

  test('opens a sparse file of 300 GB, and reads it wherever it is looked at', () => {
    const byteLength = 300e9
    const path = directory.sparse(byteLength, {
      0: Buffer.from('first'),
      2e11: Buffer.from('far'),
      [byteLength - 4]: Buffer.from('last')
    })
    const region = keep(HostRegion.open(path))
    expect(region.byteLength).toBe(byteLength)
    expect(bytesOf(region, 0, 5).toString()).toBe('first')
    expect(bytesOf(region, 2e11, 3).toString()).toBe('far')
    expect(bytesOf(region, byteLength - 4).toString()).toBe('last')
    expect(fs.statSync(path).blocks * 512).toBeLessThan(MiB)
  })

  test('owns a descriptor that is closed on exec', () => {
    const region = keep(HostRegion.open(directory.file('x')))
    const [, octal] = /^flags:\s+([0-7]+)$/m.exec(
      fs.readFileSync(`/proc/self/fdinfo/${fdOf(region)}`, 'latin1')
    )
    expect(parseInt(octal, 8) & 0o2000000).not.toBe(0)
  })
})

describe('HostRegion.fromFd', () => {
  test('duplicates the descriptor: the caller keeps his', () => {
    const path = directory.file(Buffer.from('bytes'))
    const fd = fs.openSync(path)
    const region = keep(HostRegion.fromFd(fd))
    expect(fdOf(region)).not.toBe(fd)
    fs.closeSync(fd)
    expect(region).toMatchObject({ byteLength: 5, backing: 'file', writable: false })
    expect(bytesOf(region).toString()).toBe('bytes')

    const kept = fs.openSync(path)
    HostRegion.fromFd(kept).close()
    expect(fs.fstatSync(kept).size).toBe(5)
    fs.closeSync(kept)
  })

  test('is writable if the descriptor is open for reading and writing', () => {
    const path = directory.file(Buffer.from('bytes'))
    const fd = fs.openSync(path, 'r+')
    const region = keep(HostRegion.fromFd(fd))
    fs.closeSync(fd)
    expect(region.writable).toBe(true)
    Buffer.from(region.view()).write('B')
    expect(fs.readFileSync(path, 'latin1')).toBe('Bytes')
  })

  test('of a memfd shares its memory', () => {
    const one = keep(HostRegion.copyFrom(noise(100_000)))
    const two = keep(HostRegion.fromFd(fdOf(one)))
    expect(two).toMatchObject({
      byteLength: 100_000,
      backing: 'memfd',
      writable: true,
      sealed: false
    })
    new Uint8Array(one.view())[99_999] = 42
    expect(new Uint8Array(two.view())[99_999]).toBe(42)
    one.close()
    expect(new Uint8Array(two.view())[99_999]).toBe(42)
  })

  test('takes a part', () => {
    const one = keep(HostRegion.copyFrom(noise(200_000)))
    const two = keep(HostRegion.fromFd(fdOf(one), { byteOffset: 65536, byteLength: 70_000 }))
    expect(bytesOf(two).equals(noise(200_000).subarray(65536, 135_536))).toBe(true)
  })

  test('sees that a memfd is sealed', () => {
    const one = keep(HostRegion.allocate(1).seal())
    expect(keep(HostRegion.fromFd(fdOf(one)))).toMatchObject({ sealed: true, writable: false })
  })
})

describe('shared memory of another program', () => {
  const path = `/dev/shm/hostmap-test-${process.pid}`
  const write = (text, at) =>
    execFileSync('dd', [`of=${path}`, 'bs=1', `seek=${at}`, 'conv=notrunc'], {
      input: text,
      stdio: ['pipe', 'ignore', 'ignore']
    })
  beforeEach(() => write('theirs'.padEnd(8192, '.'), 0))
  afterEach(() => fs.rmSync(path))

  const viaFd = () => {
    const fd = fs.openSync(path, 'r+')
    const region = HostRegion.fromFd(fd)
    fs.closeSync(fd)
    return region
  }

  test.each([
    ['HostRegion.open', () => HostRegion.open(path, { writable: true })],
    ['HostRegion.fromFd', viaFd]
  ])('%s: each sees what the other writes', (_, open) => {
    const region = keep(open())
    const guarded = new GuardedMemory({ initial: 1 })
    const { address } = guarded.map(region, { access: 'shared' })
    const bytes = Buffer.from(guarded.buffer, address, region.byteLength)
    expect(bytes.toString('latin1', 0, 6)).toBe('theirs')

    write('again', 5000)
    expect(bytes.toString('latin1', 5000, 5005)).toBe('again')
    bytes.write('ours', 100)
    expect(execFileSync('cat', [path]).toString('latin1', 100, 104)).toBe('ours')
  })
})

describe('region.view', () => {
  test('is no copy: all views show the same bytes', () => {
    const region = keep(HostRegion.allocate(100_000))
    const [all, part] = [new Uint8Array(region.view()), new Uint8Array(region.view(70_001, 10))]
    all[70_003] = 1
    part[9] = 2
    expect(part[2]).toBe(1)
    expect(all[70_010]).toBe(2)
    expect(region.view()).not.toBe(region.view())
  })

  test.each([
    [0, 1],
    [1, 1],
    [4095, 2],
    [4096, 4096],
    [65_537, 12_345],
    [99_999, 1]
  ])('starts at any offset and takes any length: %i, %i', (byteOffset, byteLength) => {
    const region = keep(HostRegion.copyFrom(noise(100_000)))
    const view = region.view(byteOffset, byteLength)
    expect(Object.prototype.toString.call(view)).toBe('[object ArrayBuffer]')
    expect(view.byteLength).toBe(byteLength)
    expect(
      Buffer.from(view).equals(noise(100_000).subarray(byteOffset, byteOffset + byteLength))
    ).toBe(true)
  })

  test('takes undefined as the default', () => {
    const region = keep(HostRegion.allocate(1000))
    expect(region.view(undefined, 10).byteLength).toBe(10)
    expect(region.view(10, undefined).byteLength).toBe(990)
  })

  test('is as large as this V8 allows, and no larger', () => {
    const region = keep(HostRegion.allocate(5 * GiB))
    if (constants.MAX_LENGTH >= 5 * GiB) {
      const view = region.view()
      expect(view.byteLength).toBe(5 * GiB)
      new DataView(view).setUint8(5 * GiB - 1, 9)
    } else {
      expectError(
        thrownBy(() => region.view()),
        { code: 'ERR_OUT_OF_RANGE', says: [/byteLength/, String(5 * GiB)] }
      )
      new Uint8Array(region.view(1 * GiB, 4 * GiB))[4 * GiB - 1] = 9
    }
    expect([...bytesOf(region, 5 * GiB - 1)]).toEqual([9])
  })

  test('stays out of core dumps', () => {
    const region = keep(HostRegion.allocate(MiB, { name: 'undumped view' }))
    region.view()
    region.view(5000, 5000)
    expect(flagsOfMappingsNamed('/memfd:undumped view')).toEqual([
      expect.arrayContaining(['dd']),
      expect.arrayContaining(['dd'])
    ])
  })

  // What a program may try with any ArrayBuffer. `ArrayBuffer.prototype.transfer` can't be
  // forbidden: there, the bytes go on to the new buffer, and close() leaves zeros of its own there.
  // Whatever is tried, the process lives.
  test('can not be posted to another thread; what is moved stays sound', async () => {
    const moved = await inChild(
      async ({ hostmap, assert, collect }) => {
        const attempts = {
          structuredClone: view => structuredClone(view, { transfer: [view] }),
          postMessage: view => new MessageChannel().port1.postMessage(view, [view]),
          transfer: view => view.transfer?.(),
          transferToFixedLength: view => view.transferToFixedLength?.(10),
          resize: view => view.resize?.(10)
        }
        const moved = []
        for (const [name, attempt] of Object.entries(attempts)) {
          const region = hostmap.HostRegion.copyFrom(Buffer.alloc(100_000, 7))
          const view = region.view()
          let got
          try {
            got = attempt(view)
          } catch (error) {
            assert.match(error.name, /TypeError|DataCloneError/)
          }
          if (view.byteLength === 0) moved.push(name)
          else assert.equal(new Uint8Array(view)[99_999], 7)
          region.seal()
          region.close()
          assert.equal(view.byteLength, 0)
          await collect()
          if (got instanceof ArrayBuffer) {
            assert.ok([0, 7].includes(new Uint8Array(got).at(-1)))
            new Uint8Array(got).fill(1)
            assert.equal(new Uint8Array(got).at(-1), 1)
          }
        }
        return moved
      },
      { flags: ['--expose-gc'] }
    )
    for (const name of moved) expect(name).toMatch(/^transfer/)
  })
})

describe('region.seal', () => {
  test('makes the region read-only for good, for everybody', () => {
    const region = keep(HostRegion.copyFrom(Buffer.from('final')))
    const other = keep(HostRegion.fromFd(fdOf(region)))
    expect(region.seal()).toBe(region)
    expect(region).toMatchObject({ sealed: true, writable: false })
    expect(() => fs.writeSync(fdOf(region), 'x', 0)).toThrow(/EPERM/)
    expect(other).toMatchObject({ sealed: true, writable: false })
    expect(region.seal()).toBe(region)
  })

  test('makes views that exist copy-on-write, with the bytes they had', async () => {
    const region = keep(HostRegion.copyFrom(noise(100_000)))
    const before = new Uint8Array(region.view())
    const inner = new Uint8Array(region.view(50_001, 100))
    before[0] = 1
    region.seal()
    expect(before.length).toBe(100_000)
    expect(before[0]).toBe(1)
    before[1] = before[50_001] = ~noise(100_000)[50_001]
    const after = new Uint8Array(region.view())
    expect(after[0]).toBe(1)
    expect(Buffer.from(after.subarray(1)).equals(noise(100_000).subarray(1))).toBe(true)
    expect(Buffer.from(inner).equals(noise(100_000).subarray(50_001, 50_101))).toBe(true)
    expect(await nextWarning()).toMatchObject({ code: 'HOSTMAP_STRAY_WRITE' })
  })

  test('makes views that come later copy-on-write', async () => {
    const region = keep(HostRegion.copyFrom(Buffer.from('final')).seal())
    Buffer.from(region.view()).write('drafts')
    expect(bytesOf(region).toString()).toBe('final')
    expect(await nextWarning()).toMatchObject({ code: 'HOSTMAP_STRAY_WRITE' })
  })

  test('is refused while somebody else can still write, and changes nothing then', () => {
    const region = keep(HostRegion.copyFrom(Buffer.from('draft')))
    const other = keep(HostRegion.fromFd(fdOf(region)))
    const writer = Buffer.from(other.view())
    const mine = Buffer.from(region.view())
    expectError(
      thrownBy(() => region.seal()),
      { code: 'ERR_HOSTMAP_REGION_BUSY' }
    )
    expect(region).toMatchObject({ sealed: false, writable: true })
    mine.write('DRA')
    expect(writer.toString()).toBe('DRAft')
    other.close()
    region.seal()
    expect(mine.toString()).toBe('DRAft')
  })
})

describe('region.close', () => {
  test('closes the descriptor, and what was known stays known', () => {
    const region = HostRegion.allocate(12_345, { name: 'of region.close' })
    expect(countOpen('/memfd:of region.close')).toBe(1)
    expect(region.close()).toBeUndefined()
    expect(countOpen('/memfd:of region.close')).toBe(0)
    expect(region).toMatchObject({
      closed: true,
      byteLength: 12_345,
      name: 'of region.close',
      backing: 'memfd'
    })
    expect(inspect(region)).toMatch(/closed/)
    region.close()
  })

  test('is the same as Symbol.dispose', () => {
    const region = HostRegion.allocate(1, { name: 'disposed' })
    region[Symbol.dispose]()
    region[Symbol.dispose]()
    expect(region.closed).toBe(true)
    expect(countOpen('/memfd:disposed')).toBe(0)
  })

  test('detaches all views, and unmaps them', () => {
    const region = HostRegion.allocate(100_000, { name: 'detached views' })
    const views = [region.view(), region.view(5), region.view(50_000, 1)]
    const bytes = new Uint8Array(views[0])
    expect(mappingsNamed('/memfd:detached views')).not.toHaveLength(0)
    region.close()
    expect(views.map(view => view.byteLength)).toEqual([0, 0, 0])
    expect(bytes.length).toBe(0)
    expect(bytes[0]).toBeUndefined()
    expect(mappingsNamed('/memfd:detached views')).toHaveLength(0)
  })

  test('does not touch other regions over the same memory', () => {
    const one = HostRegion.copyFrom(Buffer.from('kept'))
    const two = keep(HostRegion.fromFd(fdOf(one)))
    const view = two.view()
    one.close()
    expect(Buffer.from(view).toString()).toBe('kept')
    expect(mappingsOf(two)).toHaveLength(1)
  })
})

describe('a region', () => {
  test('shows in util.inspect what it is', () => {
    const text = inspect(keep(HostRegion.allocate(64 * KiB, { name: 'shown' })))
    expect(text).toMatch(/^HostRegion/)
    for (const part of ['shown', 'memfd']) expect(text).toContain(part)
  })

  test('has properties that can only be read', () => {
    const region = keep(HostRegion.allocate(100))
    for (const name of ['byteLength', 'backing', 'name', 'writable', 'sealed', 'closed']) {
      const before = region[name]
      expect(() => {
        'use strict'
        region[name] = 1
      }).toThrow(TypeError)
      expect(region[name]).toBe(before)
    }
  })
})
