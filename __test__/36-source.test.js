'use strict'

// Sources and chunks: a region of any size comes through a window in steps, and each of its bytes
// is shown once, but for those that are to be shown again.

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const fc = require('fast-check')
const { GuardedMemory, HostRegion, WindowSource, limits } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { temporaryDirectory, noise } = require('./support/files')
const { inChild } = require('./support/child')
const { rounds } = require('./support/rounds')
const { GiB, MiB, WASM_PAGE, assemble, hasMemory64, probe, test64 } = require('./support/wasm')
const { fdOf } = require('./support/procfs.js')
const { skipUnless } = require('./support/skip')

const HOST_PAGE = limits().pageSize
const directory = temporaryDirectory()

const made = []
const keep = region => (made.push(region), region)
afterEach(() => made.splice(0).forEach(region => region.close()))

const contents = noise(30 * HOST_PAGE + 1234)
const makeRegion = (bytes = contents) => keep(HostRegion.copyFrom(bytes))
const makeMemory = (address = 'i32', initial = 1) =>
  new GuardedMemory({ initial, maximum: initial + 1000, address })
const makeWindow = (pages = 4, options) =>
  makeMemory().window({ byteLength: pages * HOST_PAGE, ...options })

/** What a source shows now, as JavaScript reads it. */
const shownBy = (source, byteLength) =>
  Buffer.from(new Uint8Array(source.window.memory.buffer, Number(source.pointer), byteLength))

/** All chunks of a source, from where it is. */
function drain(source) {
  const chunks = []
  for (let byteLength; (byteLength = Number(source.next())) > 0;) {
    chunks.push({ start: source.start, bytes: shownBy(source, byteLength) })
  }
  return chunks
}

describe('a source', () => {
  test('shows a region chunk by chunk, and 0 bytes at its end', () => {
    const region = makeRegion()
    const window = makeWindow()
    const source = window.source(region, { chunk: 3 * HOST_PAGE })
    expect(source).toBeInstanceOf(WindowSource)
    expect(source.window).toBe(window)
    expect(source.region).toBe(region)
    expect(source).toMatchObject({ position: 0, start: 0 })
    for (let at = 0; at < contents.length; at += 3 * HOST_PAGE) {
      const byteLength = Math.min(3 * HOST_PAGE, contents.length - at)
      expect(source.next()).toBe(byteLength)
      expect(source).toMatchObject({
        start: at,
        position: at + byteLength,
        pointer: window.address
      })
      expect(window).toMatchObject({ byteOffset: at, shownBytes: byteLength })
      expect(shownBy(source, byteLength).equals(contents.subarray(at, at + byteLength))).toBe(true)
    }
    // What is shown stays shown.
    const { start, pointer, position } = source
    for (let times = 0; times < 3; times++) expect(source.next()).toBe(0)
    expect(source).toMatchObject({ start, pointer, position })
    expect(window.region).toBe(region)
  })

  test.each([1, 2, 7, 100])('fills a window of %i pages where no chunk is asked for', pages => {
    const window = makeWindow(pages)
    const chunks = drain(window.source(makeRegion()))
    expect(Buffer.concat(chunks.map(({ bytes }) => bytes)).equals(contents)).toBe(true)
    expect(chunks).toHaveLength(Math.ceil(contents.length / window.byteLength))
  })

  test('reads a part, of any bytes', () => {
    const window = makeWindow()
    const region = makeRegion()
    for (const [from, to] of [
      [0, 1],
      [5, 5 * HOST_PAGE + 1],
      [HOST_PAGE - 1, HOST_PAGE + 1],
      [contents.length - 1, contents.length],
      [777, contents.length]
    ]) {
      const source = window.source(region, { byteOffset: from, byteLength: to - from, chunk: 1000 })
      expect(source.position).toBe(from)
      const chunks = drain(source)
      expect(
        Buffer.concat(chunks.map(({ bytes }) => bytes)).equals(contents.subarray(from, to))
      ).toBe(true)
      expect(source.position).toBe(to)
    }
  })

  test.each([0, 5, contents.length])('an empty part at byte %i: nothing', at => {
    const window = makeWindow()
    const source = window.source(makeRegion(), { byteOffset: at, byteLength: 0 })
    expect(source.next()).toBe(0)
    expect(source.position).toBe(at)
    expect(window.region).toBe(null)
    expect([...window.chunks(source.region, { byteOffset: at, byteLength: 0 })]).toEqual([])
  })

  test('overlap: shows the last bytes again in front of the next', () => {
    const source = makeWindow().source(makeRegion(), { chunk: HOST_PAGE, overlap: 100 })
    const chunks = drain(source)
    chunks.forEach(({ start, bytes }, i) => {
      expect(start).toBe(i === 0 ? 0 : i * HOST_PAGE - 100)
      expect(bytes.length).toBe(Math.min((i + 1) * HOST_PAGE, contents.length) - start)
      expect(bytes.equals(contents.subarray(start, start + bytes.length))).toBe(true)
    })
    expect(chunks).toHaveLength(Math.ceil(contents.length / HOST_PAGE))
  })

  test.each([1, 2, 4])(
    'an overlap that is taken never fails in the middle, in a window of %i pages',
    pages => {
      const region = makeRegion()
      const byteLength = pages * HOST_PAGE
      for (const overlap of [
        1,
        HOST_PAGE,
        byteLength - HOST_PAGE,
        byteLength - HOST_PAGE + 1,
        byteLength - 1
      ]) {
        let source
        const error = thrownBy(() => void (source = makeWindow(pages).source(region, { overlap })))
        if (error)
          expectError(error, { code: 'ERR_OUT_OF_RANGE', says: [/overlap/, String(overlap)] })
        else {
          drain(source)
          expect(source.position).toBe(contents.length)
        }
      }
    }
  )

  test('keep: as many as the caller wants, another time another number', () => {
    const source = makeWindow().source(makeRegion(), { chunk: 1000, overlap: 10 })
    // Nothing was shown that could be kept.
    expect(source.next(500)).toBe(1000)
    expect(source.next(0)).toBe(1000)
    expect(source.start).toBe(1000)
    expect(source.next()).toBe(1010)
    expect(source.start).toBe(1990)
    expect(source.next(1n)).toBe(1001)
    expect(source.start).toBe(2999)
    // All that is shown, and no more than that.
    expect(source.next(1001)).toBe(2001)
    expect(source.start).toBe(2999)
    expect(source.next(1e9)).toBe(3001)
    expect(source).toMatchObject({ start: 2999, position: 6000 })
    expect(shownBy(source, 3001).equals(contents.subarray(2999, 6000))).toBe(true)
  })

  test('keep: shows less that is new where the window has no room for a whole chunk', () => {
    const source = makeWindow(2).source(makeRegion(), { chunk: 2 * HOST_PAGE })
    expect(source.next()).toBe(2 * HOST_PAGE)
    expect(source.next(HOST_PAGE)).toBe(2 * HOST_PAGE)
    expect(source).toMatchObject({ start: HOST_PAGE, position: 3 * HOST_PAGE })
    // Its start is in the middle of a page: that much is lost.
    expect(source.next(100)).toBe(HOST_PAGE + 100)
    expect(source).toMatchObject({ start: 3 * HOST_PAGE - 100, position: 4 * HOST_PAGE })
  })

  test('keep: is refused where the window has no room for anything new, and all stays as it is', () => {
    const source = makeWindow(2).source(makeRegion(), { chunk: 2 * HOST_PAGE })
    source.next()
    const expected = { code: 'ERR_OUT_OF_RANGE', says: [/keep/, String(2 * HOST_PAGE)] }
    expectError(
      thrownBy(() => source.next(2 * HOST_PAGE)),
      expected
    )
    expectError(
      thrownBy(() => source.imports.next(2 * HOST_PAGE)),
      expected
    )
    expect(source).toMatchObject({ start: 0, position: 2 * HOST_PAGE })
    expect(shownBy(source, 10).equals(contents.subarray(0, 10))).toBe(true)
    expect(source.next(0)).toBe(2 * HOST_PAGE)
  })

  test('keep: is refused where it is no count', () => {
    const source = makeWindow().source(makeRegion(), { chunk: 100 })
    source.next()
    for (const keep of [-1, 0.5, NaN, Infinity, -1n, 2n ** 60n]) {
      expectError(
        thrownBy(() => source.next(keep)),
        { code: 'ERR_OUT_OF_RANGE', says: [/keep/, String(keep)] }
      )
    }
    for (const keep of ['10', null, true, {}, [1], Symbol('s'), () => 1]) {
      expectError(
        thrownBy(() => source.next(keep)),
        { code: 'ERR_INVALID_ARG_TYPE', says: /keep/ }
      )
    }
    expect(source.position).toBe(100)
  })

  test('seek and rewind: goes on from any byte, with nothing kept', () => {
    const source = makeWindow().source(makeRegion(), {
      chunk: 1000,
      overlap: 10,
      byteOffset: 50,
      byteLength: 20_000 - 50
    })
    source.next()
    for (const at of [5000, 50, 19_999, 10_000, 51]) {
      source.seek(at)
      expect(source.position).toBe(at)
      const byteLength = Math.min(1000, 20_000 - at)
      expect(source.next()).toBe(byteLength)
      expect(source).toMatchObject({ start: at, position: at + byteLength })
      expect(shownBy(source, byteLength).equals(contents.subarray(at, at + byteLength))).toBe(true)
    }
    source.seek(20_000)
    expect(source.next()).toBe(0)
    source.rewind()
    expect(source.position).toBe(50)
    expect(drain(source)[0].start).toBe(50)
    for (const at of [49, 20_001, -1, 0.5, NaN]) {
      expectError(
        thrownBy(() => source.seek(at)),
        { code: 'ERR_OUT_OF_RANGE', says: [/byteOffset/, String(at)] }
      )
    }
    expect(source.position).toBe(20_000)
  })

  test('leaves its window to be slid by hand in between', () => {
    const window = makeWindow()
    const source = window.source(makeRegion(), { chunk: HOST_PAGE, overlap: 5 })
    source.next()
    window.slide(makeRegion(noise(100, 2)), 0)
    window.slide(null)
    expect(source.next()).toBe(HOST_PAGE + 5)
    expect(shownBy(source, 20).equals(contents.subarray(HOST_PAGE - 5, HOST_PAGE + 15))).toBe(true)
  })

  test('readAhead and leaveBehind change nothing of what is shown', () => {
    for (const region of [makeRegion(), keep(HostRegion.open(directory.file(contents)))]) {
      for (const readAhead of [true, false]) {
        for (const leaveBehind of [true, false, 'auto']) {
          const source = makeWindow().source(region, { readAhead, leaveBehind })
          for (let pass = 0; pass < 2; pass++) {
            const chunks = drain(source)
            expect(Buffer.concat(chunks.map(({ bytes }) => bytes)).equals(contents)).toBe(true)
            source.rewind()
          }
        }
      }
    }
  })

  test('goes on when its memory is restored, and so do chunks', async () => {
    const region = makeRegion()
    const window = makeWindow()
    const snapshot = window.memory.snapshot()
    const options = { chunk: 2 * HOST_PAGE }
    const starts = Array.from({ length: 16 }, (_, i) => 2 * i * HOST_PAGE)
    const seen = { source: [], chunks: [], later: [] }
    const see = (name, { byteOffset, start = byteOffset }) => {
      seen[name].push(start)
      window.memory.restore(snapshot)
      expect(window.region).toBe(null)
      // Else it might never end.
      return seen[name].length <= starts.length
    }
    const source = window.source(region, options)
    while (source.next() > 0 && see('source', source));
    for (const chunk of window.chunks(region, options)) if (!see('chunks', chunk)) break
    for await (const chunk of window.chunks(region, options)) if (!see('later', chunk)) break
    expect(seen).toEqual({ source: starts, chunks: starts, later: starts })
    snapshot.close()
  })

  test('does without what reads ahead where the system refuses it, and hides no mistake', () => {
    const { native } = require('./support/native')
    const { NativeStream } = native
    const source = makeWindow().source(makeRegion(), { chunk: HOST_PAGE })
    const broken = error =>
      class {
        constructor() {
          throw error
        }
      }
    try {
      native.NativeStream = broken(new Error('ERR_HOSTMAP_OUT_OF_MEMORY mmap 12\nno memory'))
      expect(source.next()).toBe(HOST_PAGE)
      expect(source.next()).toBe(HOST_PAGE)
      const mistake = new TypeError('x is not a function')
      native.NativeStream = broken(mistake)
      expect(thrownBy(() => makeWindow().source(makeRegion()).next())).toBe(mistake)
    } finally {
      native.NativeStream = NativeStream
    }
    expect(source.position).toBe(2 * HOST_PAGE)
  })

  test('access: writes go where it says', () => {
    const region = makeRegion()
    const window = makeWindow(4, { access: 'shared' })
    const write = access => {
      const source = window.source(region, { chunk: 5000, access })
      while (source.next() > 0) new Uint8Array(window.memory.buffer)[source.pointer] ^= 0xff
    }
    write('private')
    expect(Buffer.from(region.view()).equals(contents)).toBe(true)
    write(undefined)
    const expected = Buffer.from(contents)
    for (let at = 0; at < expected.length; at += 5000) expected[at] ^= 0xff
    expect(Buffer.from(region.view()).equals(expected)).toBe(true)
  })
})

describe('a large region', () => {
  // A word at each side of every chunk's border: only those pages are touched.
  test.each(['file', 'memfd'])(
    'a terabyte of a sparse %s comes through a gigabyte, right at every border',
    async backing => {
      const size = 1024 * GiB
      const mark = Buffer.alloc(16)
      const region = keep(
        backing === 'file'
          ? HostRegion.open(directory.sparse(size), { writable: true })
          : HostRegion.allocate(size)
      )
      for (let at = GiB; at < size; at += GiB) {
        mark.writeBigInt64LE(BigInt(at) - 1n, 0)
        mark.writeBigInt64LE(BigInt(at), 8)
        fs.writeSync(fdOf(region), mark, 0, 16, at - 8)
      }
      const guarded = makeMemory('i32', GiB / WASM_PAGE)
      const guest = await probe(guarded.memory)
      const source = guarded
        .window({ byteLength: GiB, at: 0 })
        .source(region, { chunk: GiB, readAhead: false })
      let chunks = 0
      for (let byteLength; (byteLength = source.next()) > 0; chunks++) {
        const { start, pointer } = source
        expect([start, byteLength]).toEqual([chunks * GiB, GiB])
        const ends = [guest.load64(pointer), guest.load64(pointer + GiB - 8)]
        expect(ends).toEqual([BigInt(start), start + GiB === size ? 0n : BigInt(start + GiB) - 1n])
      }
      expect(chunks).toBe(1024)
    }
  )

  // Made once, for all who only read it.
  let noiseOfAll
  const largeNoise = () => (noiseOfAll ??= noise(24 * MiB + 5))

  // Pages are brought in and let go in the background: none may be lost, nor come back as it was
  // before.
  test.each([
    ['file', 'readonly'],
    ['file', 'private'],
    ['file', 'shared'],
    ['memfd', 'readonly'],
    ['memfd', 'private'],
    ['memfd', 'shared']
  ])('of a %s, %s: reading ahead and leaving behind lose nothing', async (backing, access) => {
    const bytes = largeNoise()
    const size = bytes.length
    const region = keep(
      backing === 'file'
        ? HostRegion.open(directory.file(bytes), { writable: true })
        : HostRegion.copyFrom(bytes)
    )
    const guarded = makeMemory()
    const window = guarded.window({ byteLength: 2 * MiB, access })
    const source = window.source(region, { readAhead: true, leaveBehind: true, overlap: 100 })
    const expected = Buffer.from(bytes)
    for (let pass = 0; pass < 3; pass++) {
      for (let byteLength; (byteLength = source.next()) > 0;) {
        assert.ok(
          shownBy(source, byteLength).equals(
            expected.subarray(source.start, source.start + byteLength)
          )
        )
        if (access === 'readonly') continue
        const first = source.position - 1
        new Uint8Array(guarded.buffer)[source.pointer + first - source.start] ^= 0xff
        if (access === 'shared') expected[first] ^= 0xff
      }
      assert.equal(source.position, size)
      source.seek(pass === 0 ? 15 * MiB + 3 : 0)
    }
    assert.ok(Buffer.from(region.view()).equals(expected))
    if (backing === 'file') {
      const onDisk = Buffer.alloc(size)
      fs.readSync(fdOf(region), onDisk, 0, size, 0)
      assert.ok(onDisk.equals(expected))
    }
  })

  test.each([true, false])(
    'of a file, with leaveBehind %s: a few chunks are resident',
    async leaveBehind => {
      const seen = await inChild(
        async ({ hostmap, probe, status, args: { file, leaveBehind } }) => {
          const { HostRegion, GuardedMemory } = hostmap
          const guarded = new GuardedMemory({ initial: 1, maximum: 1000 })
          const guest = await probe(guarded.memory)
          const region = HostRegion.open(file)
          const source = guarded.window({ byteLength: 2 ** 24 }).source(region, { leaveBehind })
          const before = status('RssFile')
          let most = 0
          for (let byteLength; (byteLength = source.next()) > 0;) {
            guest.sum(source.pointer, source.pointer + byteLength)
            most = Math.max(most, status('RssFile') - before)
          }
          return { most, position: source.position }
        },
        {
          args: { file: directory.sparse(256 * MiB, {}, `left behind ${leaveBehind}`), leaveBehind }
        }
      )
      expect(seen.position).toBe(256 * MiB)
      expect(seen.most).toBeLessThan(6 * 16 * MiB)
    }
  )

  // What the kernel keeps of a file is told by a tool of util-linux. Files of a tmpfs are nowhere
  // but there.
  const fincore = file =>
    Number(
      execFileSync('fincore', ['--bytes', '--noheadings', '--output', 'RES', file], {
        encoding: 'utf8'
      })
    )
  const TMPFS = 0x01021994
  const showsCache =
    thrownBy(() => execFileSync('fincore', ['--version'])) === null &&
    fs.statfsSync(directory.path).type !== TMPFS
  skipUnless('needs fincore, and a temporary directory on a disk', showsCache).test(
    'leaveBehind lets the pages that were passed leave the page cache, and only then',
    async () => {
      const file = directory.sparse(256 * MiB)
      const region = keep(HostRegion.open(file))
      const guarded = makeMemory()
      const guest = await probe(guarded.memory)
      const window = guarded.window({ byteLength: 16 * MiB })
      const passOver = leaveBehind => {
        const source = window.source(region, { leaveBehind, readAhead: false })
        for (let byteLength; (byteLength = source.next()) > 0;) {
          guest.sum(source.pointer, source.pointer + byteLength)
        }
      }
      passOver(false)
      expect(fincore(file)).toBeGreaterThan(128 * MiB)
      passOver(true)
      // Let go of in the background.
      const until = performance.now() + 10_000
      while (fincore(file) > 64 * MiB && performance.now() < until) {
        await new Promise(resolve => setTimeout(resolve, 20))
      }
      expect(fincore(file)).toBeLessThanOrEqual(64 * MiB)
    }
  )
})

describe('a source that goes wrong', () => {
  test('because its window was unmapped says so', () => {
    const window = makeWindow()
    const source = window.source(makeRegion(), { chunk: 100 })
    source.next()
    window.unmap()
    for (const call of [() => source.next(), () => source.imports.next(0)]) {
      expectError(thrownBy(call), { code: 'ERR_HOSTMAP_WINDOW_UNMAPPED' })
    }
    expect(source).toMatchObject({ position: 100, start: 0 })
  })

  test('because its region was closed says so, and what is shown stays', () => {
    const region = HostRegion.copyFrom(contents, { name: 'closed in the middle' })
    const source = makeWindow().source(region, { chunk: 5000 })
    source.next()
    region.close()
    expectError(
      thrownBy(() => source.next()),
      { code: 'ERR_HOSTMAP_REGION_CLOSED', says: /closed in the middle/ }
    )
    expect(source).toMatchObject({ position: 5000, start: 0 })
    expect(shownBy(source, 5000).equals(contents.subarray(0, 5000))).toBe(true)
  })

  test('because its file was truncated: the module traps, JavaScript finds zeros and a warning, and nobody crashes', async () => {
    const seen = await inChild(
      async ({ hostmap, probe, require, watchWarnings, args: { file, page } }) => {
        const { HostRegion, GuardedMemory } = hostmap
        const warned = watchWarnings()
        const guarded = new GuardedMemory({ initial: 1, maximum: 16 })
        const guest = await probe(guarded.memory)
        const region = HostRegion.open(file)
        const source = guarded.window({ byteLength: 4 * page }).source(region, { chunk: 4 * page })
        const outcomes = { data: 0, trap: 0, zeros: 0, shrunk: 0 }
        for (let step = 0; ; step++) {
          if (step === 2) require('node:fs').truncateSync(file, 9 * page)
          try {
            if (source.next() === 0) break
          } catch (error) {
            if (error.code !== 'ERR_HOSTMAP_FILE_SHRUNK') throw error
            outcomes.shrunk++
            break
          }
          for (let i = 0; i < 4; i++) {
            const at = source.pointer + i * page
            const missing = step * 4 + i >= 9
            try {
              if (guest.load8(at) === 3 && !missing) outcomes.data++
            } catch (error) {
              if (!(error instanceof WebAssembly.RuntimeError) || !missing) throw error
              outcomes.trap++
              if (new Uint8Array(guarded.buffer)[at] === 0) outcomes.zeros++
            }
          }
        }
        const warnings = (await warned.until(1)).map(({ code }) => code)
        return { outcomes, warnings, position: source.position }
      },
      { args: { file: directory.file(Buffer.alloc(32 * HOST_PAGE, 3)), page: HOST_PAGE } }
    )
    expect(seen).toEqual({
      outcomes: { data: 9, trap: 23, zeros: 23, shrunk: 0 },
      warnings: ['HOSTMAP_MISSING_PAGE'],
      position: 32 * HOST_PAGE
    })
  })
})

// Sizes about the borders of pages and of the window.
const around = (most, ...marks) =>
  fc.oneof(
    fc.nat(most),
    ...marks.map(mark =>
      fc.integer({ min: -2, max: 2 }).map(by => Math.min(most, Math.max(0, mark * HOST_PAGE + by)))
    )
  )

describe('any source, against a model', () => {
  const address = hasMemory64 ? 'i64' : 'i32'
  const windows = new Map()
  let region
  beforeAll(() => (region = HostRegion.copyFrom(contents)))
  afterAll(() => region.close())
  const windowOf = (pages, address) => {
    const key = `${pages} ${address}`
    if (!windows.has(key)) {
      windows.set(key, makeMemory(address).window({ byteLength: pages * HOST_PAGE }))
    }
    return windows.get(key)
  }

  /**
   * One step of the model: what a call of `next` must show. By `assert`: a thousand steps of
   * `expect` take seconds.
   */
  function checkStep(source, state, plan, keep) {
    const { window } = source
    const given = Number(source.next(keep))
    const end = plan.byteOffset + plan.byteLength
    if (state.position >= end) {
      assert.deepEqual([given, source.start, source.position], [0, state.start, state.position])
      return false
    }
    // Kept: as many as asked for, of those that were shown.
    const kept = Math.min(Number(keep ?? plan.overlap), state.position - state.start)
    const start = state.position - kept
    const room = window.byteLength - (start % HOST_PAGE) - kept
    const fresh = given - kept
    const most = Math.min(plan.chunk ?? Infinity, room, end - state.position)
    if (plan.chunk === undefined) assert.ok(fresh > 0 && fresh <= most)
    else assert.equal(fresh, most)
    assert.deepEqual([source.start, source.position], [start, state.position + fresh])
    assert.deepEqual([window.byteOffset, window.shownBytes], [start, given])
    const address = window.address + (start % HOST_PAGE)
    assert.equal(source.pointer, window.memory.address === 'i64' ? BigInt(address) : address)
    assert.equal(source.imports.pointer(), source.pointer)
    assert.ok(shownBy(source, given).equals(contents.subarray(start, start + given)))
    state.start = start
    state.position += fresh
    return true
  }

  const plans = fc
    .record({
      pages: fc.constantFrom(1, 2, 3, 8, 40),
      address: fc.constantFrom('i32', address),
      chunk: fc.option(around(9 * HOST_PAGE, 1, 2, 3, 8), { nil: undefined }),
      overlap: fc.oneof(fc.constant(0), around(2 * HOST_PAGE, 1)),
      one: around(contents.length, 0, 1, 2),
      two: around(contents.length, 3, 30)
    })
    .map(({ pages, chunk, overlap, one, two, address }) => {
      const byteLength = pages * HOST_PAGE
      // As the documentation allows them, with room for a start anywhere in a page.
      const kept = Math.min(overlap, byteLength - HOST_PAGE)
      const most = byteLength - HOST_PAGE + 1 - kept
      const options = {
        overlap: kept,
        byteOffset: Math.min(one, two),
        byteLength: Math.abs(one - two)
      }
      return {
        pages,
        address,
        ...options,
        chunk: chunk === undefined ? undefined : Math.max(1, Math.min(chunk, most))
      }
    })

  test('every byte is shown once, in order, and kept ones again', () => {
    fc.assert(
      fc.property(plans, ({ pages, address, ...plan }) => {
        // Small steps over all of the region would take long.
        fc.pre(plan.byteLength / (plan.chunk ?? HOST_PAGE) < 200)
        const source = windowOf(pages, address).source(region, plan)
        const state = { start: plan.byteOffset, position: plan.byteOffset }
        while (checkStep(source, state, plan));
        assert.equal(state.position, plan.byteOffset + plan.byteLength)
      }),
      { numRuns: rounds(50, 300) }
    )
  })

  test('any calls of next, seek and rewind', () => {
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({ keep: fc.option(fc.nat(HOST_PAGE * 2), { nil: undefined }) })
      },
      { weight: 1, arbitrary: fc.record({ seek: fc.double({ min: 0, max: 1, noNaN: true }) }) },
      { weight: 1, arbitrary: fc.constant({ rewind: true }) }
    )
    fc.assert(
      fc.property(
        plans,
        fc.array(step, { maxLength: 40 }),
        ({ pages, address, ...plan }, steps) => {
          const window = windowOf(pages, address)
          const source = window.source(region, plan)
          const state = { start: plan.byteOffset, position: plan.byteOffset }
          const jump = to => (state.start = state.position = to)
          for (const { keep, seek, rewind } of steps) {
            if (rewind) {
              source.rewind()
              jump(plan.byteOffset)
            } else if (seek !== undefined) {
              const at = plan.byteOffset + Math.floor(seek * plan.byteLength)
              source.seek(at)
              jump(at)
            } else {
              const kept = Math.min(keep ?? plan.overlap, state.position - state.start)
              const skew = (state.position - kept) % HOST_PAGE
              if (
                state.position < plan.byteOffset + plan.byteLength &&
                skew + kept >= window.byteLength
              ) {
                assert.throws(() => source.next(keep), { code: 'ERR_OUT_OF_RANGE' })
              } else checkStep(source, state, plan, keep)
            }
            assert.equal(source.position, state.position)
          }
        }
      ),
      { numRuns: rounds(50, 300) }
    )
  })
})

describe('imports', () => {
  /**
   * A module that reads everything of the source that it imports: the sum of its bytes, each
   * counted once.
   */
  const reader = async address => {
    const i64 = address === 'i64'
    const at = i64 ? 'i64' : 'i32'
    const binary = await assemble(`(module
      (import "env" "memory" (memory ${i64 ? 'i64 ' : ''}0))
      (import "orders" "next" (func $next (param ${at}) (result ${at})))
      (import "orders" "pointer" (func $pointer (result ${at})))
      (func $sumOf (param $p ${at}) (param $n ${at}) (result i64) (local $sum i64)
        (loop $again
          (if (${at}.eqz (local.get $n)) (then (return (local.get $sum))))
          (local.set $sum (i64.add (local.get $sum) (i64.load8_u (local.get $p))))
          (local.set $p (${at}.add (local.get $p) (${at}.const 1)))
          (local.set $n (${at}.sub (local.get $n) (${at}.const 1)))
          (br $again))
        unreachable)
      (func (export "step") (param $keep ${at}) (result i64) (local $n ${at})
        (if (${at}.eqz (local.tee $n (call $next (local.get $keep)))) (then (return (i64.const -1))))
        ;; Kept bytes are in front.
        (call $sumOf
          (${at}.add (call $pointer) (local.get $keep))
          (${at}.sub (local.get $n) (local.get $keep))))
      (func (export "all") (result i64) (local $sum i64) (local $n ${at})
        (loop $again
          (if (${at}.eqz (local.tee $n (call $next (${at}.const 0)))) (then (return (local.get $sum))))
          (local.set $sum (i64.add (local.get $sum) (call $sumOf (call $pointer) (local.get $n))))
          (br $again))
        unreachable))`)
    const module = new WebAssembly.Module(binary)
    return (memory, orders) => new WebAssembly.Instance(module, { env: { memory }, orders }).exports
  }
  const sumOf = bytes => BigInt(bytes.reduce((sum, byte) => sum + byte, 0))

  test.each(['i32', ...(hasMemory64 ? ['i64'] : [])])(
    'of a memory with %s addresses feed a module',
    async address => {
      const instantiate = await reader(address)
      const guarded = makeMemory(address)
      const source = guarded
        .window({ byteLength: 4 * HOST_PAGE })
        .source(makeRegion(), { chunk: 10_001 })
      const exports = instantiate(guarded.memory, source.imports)
      const pointer = address === 'i64' ? BigInt : Number
      for (let pass = 0; pass < 2; pass++) {
        expect(exports.all()).toBe(sumOf(contents))
        expect(source.position).toBe(contents.length)
        expect(exports.step(pointer(0))).toBe(-1n)
        source.rewind()
      }
      expect(exports.step(pointer(0))).toBe(sumOf(contents.subarray(0, 10_001)))
      const end = contents.length < 20_002 ? contents.length : 20_002
      expect(exports.step(pointer(77))).toBe(sumOf(contents.subarray(10_001, end)))
      expect(source.start).toBe(10_001 - 77)
    }
  )

  test('are two functions that need no `this`, and cannot be changed', () => {
    const { imports } = makeWindow().source(makeRegion(), { chunk: 100 })
    expect(Object.keys(imports).sort()).toEqual(['next', 'pointer'])
    expect(Object.isFrozen(imports)).toBe(true)
    const { next, pointer } = imports
    expect(next(0)).toBe(100)
    expect(typeof pointer()).toBe('number')
  })

  test("take a module's numbers as unsigned: -1 keeps all that is shown", () => {
    const source = makeWindow().source(makeRegion(), { chunk: 100 })
    const { next } = source.imports
    next(0)
    expect(next(-1)).toBe(200)
    expect(source.start).toBe(0)
  })

  test('handed to two modules give each chunk to one of them, in turn', async () => {
    const instantiate = await reader('i32')
    const guarded = makeMemory()
    const window = guarded.window({ byteLength: 4 * HOST_PAGE })
    const source = window.source(makeRegion(), { chunk: 7000 })
    const modules = [
      instantiate(guarded.memory, source.imports),
      instantiate(guarded.memory, source.imports)
    ]
    const count = Math.ceil(contents.length / 7000)
    for (let i = 0; i < count; i++) {
      const chunk = contents.subarray(i * 7000, (i + 1) * 7000)
      expect(modules[i % 2].step(0)).toBe(sumOf(chunk))
    }
    for (const module of modules) expect(module.step(0)).toBe(-1n)
  })

  test('of two windows at once: a join', async () => {
    const binary = await assemble(`(module
      (import "env" "memory" (memory 0))
      (import "left" "next" (func $nextLeft (param i32) (result i32)))
      (import "left" "pointer" (func $left (result i32)))
      (import "right" "next" (func $nextRight (param i32) (result i32)))
      (import "right" "pointer" (func $right (result i32)))
      ;; How many bytes of the two streams, side by side, are equal.
      (func (export "equal") (result i32)
        (local $a i32) (local $an i32) (local $b i32) (local $bn i32) (local $count i32)
        (loop $again
          (if (i32.eqz (local.get $an)) (then
            (local.set $an (call $nextLeft (i32.const 0)))
            (local.set $a (call $left))))
          (if (i32.eqz (local.get $bn)) (then
            (local.set $bn (call $nextRight (i32.const 0)))
            (local.set $b (call $right))))
          (if (i32.or (i32.eqz (local.get $an)) (i32.eqz (local.get $bn))) (then (return (local.get $count))))
          (local.set $count (i32.add (local.get $count)
            (i32.eq (i32.load8_u (local.get $a)) (i32.load8_u (local.get $b)))))
          (local.set $a (i32.add (local.get $a) (i32.const 1)))
          (local.set $b (i32.add (local.get $b) (i32.const 1)))
          (local.set $an (i32.sub (local.get $an) (i32.const 1)))
          (local.set $bn (i32.sub (local.get $bn) (i32.const 1)))
          (br $again))
        unreachable))`)
    const other = Buffer.from(contents)
    for (let at = 0; at < other.length; at += 3) other[at] ^= 1
    const guarded = makeMemory()
    const left = guarded.window({ byteLength: 4 * HOST_PAGE }).source(makeRegion(), { chunk: 5003 })
    const right = guarded
      .window({ byteLength: 2 * HOST_PAGE })
      .source(makeRegion(other), { chunk: 4099 })
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(binary), {
      env: { memory: guarded.memory },
      left: left.imports,
      right: right.imports
    })
    expect(exports.equal()).toBe(contents.length - Math.ceil(contents.length / 3))
  })

  test64('take and give BigInts in a 64-bit memory, above 4 GiB too', async () => {
    const guarded = new GuardedMemory({ initial: (5 * GiB) / WASM_PAGE, address: 'i64' })
    const window = guarded.window({ byteLength: 4 * HOST_PAGE, at: 5 * GiB - 4 * HOST_PAGE })
    const source = window.source(makeRegion(), { chunk: 1000 })
    expect(source.next()).toBe(1000n)
    expect(source.next(10)).toBe(1010n)
    expect(source.next(10n)).toBe(1010n)
    expect(source.imports.next(0n)).toBe(1000n)
    expect(source.pointer).toBe(BigInt(5 * GiB - 4 * HOST_PAGE + 3000))
    expect(source.imports.pointer()).toBe(source.pointer)
    expect(source.position).toBe(4000)
    const guest = await probe(guarded.memory, { address: 'i64' })
    expect(guest.bytes(Number(source.pointer), 1000).equals(contents.subarray(3000, 4000))).toBe(
      true
    )
  })
})

describe('chunks', () => {
  test('in a loop: each is where it says it is', () => {
    const region = makeRegion()
    const window = makeWindow()
    const read = []
    for (const { address, pointer, byteOffset, byteLength, bytes } of window.chunks(region, {
      chunk: 3333
    })) {
      expect(bytes).toBeInstanceOf(Uint8Array)
      expect(bytes.buffer).toBe(window.memory.buffer)
      expect(bytes.byteOffset).toBe(address)
      expect(bytes.length).toBe(byteLength)
      expect(pointer).toBe(address)
      expect(address).toBe(window.address + (byteOffset % HOST_PAGE))
      expect(byteOffset).toBe(read.length * 3333)
      expect(
        Buffer.from(bytes).equals(contents.subarray(byteOffset, byteOffset + byteLength))
      ).toBe(true)
      read.push(Buffer.from(bytes))
    }
    expect(Buffer.concat(read).equals(contents)).toBe(true)
    expect(window.unmapped).toBe(false)
  })

  test64('in a 64-bit memory: pointers are BigInts, the rest are numbers', () => {
    const window = makeMemory('i64').window({ byteLength: 4 * HOST_PAGE })
    let done = 0
    for (const { address, pointer, byteOffset, byteLength, bytes } of window.chunks(makeRegion())) {
      expect(pointer).toBe(BigInt(address))
      expect([byteOffset, bytes.byteOffset]).toEqual([done, address])
      done += byteLength
    }
    expect(done).toBe(contents.length)
  })

  test('with overlap, of a part', () => {
    const options = { chunk: 1000, overlap: 30, byteOffset: 500, byteLength: 5200 }
    const chunks = [...makeWindow().chunks(makeRegion(), options)]
    expect(
      chunks.map(({ byteOffset, byteLength }) => [byteOffset, byteOffset + byteLength])
    ).toEqual([
      [500, 1500],
      [1470, 2500],
      [2470, 3500],
      [3470, 4500],
      [4470, 5500],
      [5470, 5700]
    ])
  })

  test('bytes are of the memory as it is, when the loop makes it grow', () => {
    const window = makeWindow()
    const read = []
    for (const { bytes } of window.chunks(makeRegion(), { chunk: 9000 })) {
      read.push(Buffer.from(bytes))
      window.memory.grow(1)
    }
    expect(Buffer.concat(read).equals(contents)).toBe(true)
  })

  test('left by break, and begun again: from the start', () => {
    const chunks = makeWindow().chunks(makeRegion(), { chunk: 1000, byteOffset: 10 })
    const first = []
    for (const { byteOffset } of chunks) {
      first.push(byteOffset)
      if (first.length === 3) break
    }
    expect(first).toEqual([10, 1010, 2010])
    const all = [...chunks].map(({ byteOffset }) => byteOffset)
    expect(all).toEqual(
      Array.from({ length: Math.ceil((contents.length - 10) / 1000) }, (_, i) => 10 + i * 1000)
    )
  })

  test('two loops over one of them each go all the way', () => {
    const chunks = makeWindow().chunks(makeRegion(), { chunk: 4 * HOST_PAGE })
    const pairs = []
    for (const outer of chunks)
      for (const inner of chunks) pairs.push([outer.byteOffset, inner.byteOffset])
    const count = Math.ceil(contents.length / (4 * HOST_PAGE))
    expect(pairs).toHaveLength(count * count)
    expect(new Set(pairs.map(String)).size).toBe(count * count)
  })

  test('nested loops over one window: the last slide is what is shown', () => {
    const window = makeWindow()
    const other = noise(2 * HOST_PAGE, 9)
    const [one, two] = [makeRegion(), makeRegion(other)]
    let steps = 0
    for (const outer of window.chunks(one, { chunk: HOST_PAGE, byteLength: 4 * HOST_PAGE })) {
      expect(
        Buffer.from(outer.bytes).equals(
          contents.subarray(outer.byteOffset, outer.byteOffset + HOST_PAGE)
        )
      ).toBe(true)
      for (const inner of window.chunks(two, { chunk: HOST_PAGE })) {
        const shown = other.subarray(inner.byteOffset, inner.byteOffset + HOST_PAGE)
        expect(Buffer.from(inner.bytes).equals(shown)).toBe(true)
        // The same addresses.
        expect(Buffer.from(outer.bytes).equals(shown)).toBe(true)
        steps++
      }
    }
    expect(steps).toBe(8)
  })

  test('asynchronously: timers fire in between, and each chunk is right', async () => {
    const read = []
    let fired = 0
    const timer = setInterval(() => fired++, 0)
    const firedAt = []
    for await (const { bytes, byteOffset } of makeWindow().chunks(makeRegion(), { chunk: 500 })) {
      expect(byteOffset).toBe(read.length * 500)
      read.push(Buffer.from(bytes))
      firedAt.push(fired)
      // Long enough for a timer to be due.
      const until = performance.now() + 2
      while (performance.now() < until);
    }
    clearInterval(timer)
    expect(Buffer.concat(read).equals(contents)).toBe(true)
    // Not only before the first and after the last.
    expect(firedAt.at(-1)).toBeGreaterThan(firedAt.length / 4)
  })

  test('asynchronously: where a script has replaced setImmediate, as fake timers do', async () => {
    const { setImmediate } = globalThis
    const seen = []
    try {
      globalThis.setImmediate = () => {}
      for await (const { byteOffset } of makeWindow().chunks(makeRegion(), { chunk: 1000 })) {
        seen.push(byteOffset)
      }
    } finally {
      globalThis.setImmediate = setImmediate
    }
    expect(seen.length).toBeGreaterThan(1)
  })

  test('asynchronously: left by break, and by an error of the loop', async () => {
    const chunks = makeWindow().chunks(makeRegion(), { chunk: 1000 })
    for await (const { byteOffset } of chunks) if (byteOffset === 2000) break
    const mine = new Error('mine')
    const loop = async () => {
      for await (const { byteOffset } of chunks) if (byteOffset === 1000) throw mine
    }
    await expect(loop()).rejects.toBe(mine)
    let count = 0
    for await (const _ of chunks) count++
    expect(count).toBe(Math.ceil(contents.length / 1000))
  })

  describe('with a signal', () => {
    const expectAborted = (error, reason) => {
      expectError(error, { code: 'ABORT_ERR' })
      expect(error.name).toBe('AbortError')
      expect(error.cause).toBe(reason)
    }

    test('that is aborted already show nothing', async () => {
      const window = makeWindow()
      const signal = AbortSignal.abort('too late')
      const chunks = window.chunks(makeRegion(), { signal })
      expectAborted(
        thrownBy(() => [...chunks]),
        'too late'
      )
      const error = await thrownBy(async () => {
        for await (const _ of chunks);
      })
      expectAborted(error, 'too late')
      expect(window.region).toBe(null)
    })

    test('that is aborted in the loop end after that chunk', () => {
      const controller = new AbortController()
      const seen = []
      const error = thrownBy(() => {
        for (const { byteOffset } of makeWindow().chunks(makeRegion(), {
          chunk: 1000,
          signal: controller.signal
        })) {
          seen.push(byteOffset)
          if (byteOffset === 2000) controller.abort('enough')
        }
      })
      expectAborted(error, 'enough')
      expect(seen).toEqual([0, 1000, 2000])
    })

    test('that a timer aborts end the asynchronous loop', async () => {
      const controller = new AbortController()
      setTimeout(() => controller.abort('by a timer'), 5)
      const window = makeWindow()
      const region = makeRegion()
      let count = 0
      const error = await thrownBy(async () => {
        // Without an end of its own.
        for (;;)
          for await (const _ of window.chunks(region, { chunk: 1000, signal: controller.signal }))
            count++
      })
      expectAborted(error, 'by a timer')
      expect(count).toBeGreaterThan(0)
      expect([...window.chunks(region)].length).toBeGreaterThan(0)
    })

    test('that is never aborted leave no listener', async () => {
      const { signal } = new AbortController()
      let listeners = 0
      const { addEventListener, removeEventListener } = signal
      signal.addEventListener = (...args) => (listeners++, addEventListener.apply(signal, args))
      signal.removeEventListener = (...args) => (
        listeners--,
        removeEventListener.apply(signal, args)
      )
      for await (const _ of makeWindow().chunks(makeRegion(), { signal }));
      expect(listeners).toBe(0)
    })
  })

  describe('with onProgress', () => {
    test.each([
      ['all', {}],
      ['a part', { byteOffset: 100, byteLength: 9100 }],
      ['overlapping chunks', { overlap: 50 }]
    ])('of %s: tells bytes done and bytes to do, after each chunk', (_, options) => {
      const calls = []
      const plan = { chunk: 1000, ...options, onProgress: (...args) => calls.push(args) }
      let chunks = 0
      for (const _ of makeWindow().chunks(makeRegion(), plan)) {
        expect(calls).toHaveLength(chunks)
        chunks++
      }
      const total = options.byteLength ?? contents.length
      expect(calls).toEqual(
        Array.from({ length: Math.ceil(total / 1000) }, (_, i) => [
          Math.min(total, (i + 1) * 1000),
          total
        ])
      )
    })

    test('asynchronously as well', async () => {
      const calls = []
      const onProgress = (...args) => calls.push(args)
      for await (const _ of makeWindow().chunks(makeRegion(), { chunk: 4000, onProgress }));
      expect(calls.at(-1)).toEqual([contents.length, contents.length])
      expect(calls).toHaveLength(Math.ceil(contents.length / 4000))
    })

    test('that throws ends the loop with what it threw, and the window can be used again', async () => {
      const window = makeWindow()
      const region = makeRegion()
      const mine = new Error('mine')
      const onProgress = done => {
        if (done >= 2000) throw mine
      }
      const chunks = window.chunks(region, { chunk: 1000, onProgress })
      const seen = []
      expect(() => {
        for (const { byteOffset } of chunks) seen.push(byteOffset)
      }).toThrow(mine)
      expect(seen).toEqual([0, 1000])
      await expect(
        (async () => {
          for await (const _ of chunks);
        })()
      ).rejects.toBe(mine)
      expect([...window.chunks(region, { chunk: 1000 })]).toHaveLength(
        Math.ceil(contents.length / 1000)
      )
    })
  })

  test('of a window that is unmapped in the loop say so', async () => {
    const window = makeWindow()
    const chunks = window.chunks(makeRegion(), { chunk: 1000 })
    const error = thrownBy(() => {
      for (const _ of chunks) window.unmap()
    })
    expectError(error, { code: 'ERR_HOSTMAP_WINDOW_UNMAPPED' })
  })

  test('of a region that is closed in the loop say so', async () => {
    const region = HostRegion.copyFrom(contents)
    const error = await thrownBy(async () => {
      for await (const _ of makeWindow().chunks(region, { chunk: 1000 })) region.close()
    })
    expectError(error, { code: 'ERR_HOSTMAP_REGION_CLOSED' })
  })
})

describe('region.split', () => {
  test('gives parts that cover the region, each a plain object to spread', () => {
    const region = makeRegion()
    const parts = region.split(3)
    expect(parts).toHaveLength(3)
    const read = parts.map(part =>
      Buffer.concat(
        drain(makeWindow().source(region, { ...part, chunk: 5000 })).map(({ bytes }) => bytes)
      )
    )
    expect(Buffer.concat(read).equals(contents)).toBe(true)
  })

  test('any region, any number of parts, any alignment', () => {
    const region = keep(HostRegion.allocate(2 ** 45 + 3))
    const most = region.byteLength
    const size = fc.oneof(
      fc.nat(100),
      fc.nat(10 * HOST_PAGE),
      fc.maxSafeNat().map(n => n % most)
    )
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 64 }),
        fc.option(
          fc.oneof(
            fc.constantFrom(1, 7, 48, HOST_PAGE, 2 ** 21),
            fc.integer({ min: 1, max: 2 ** 40 })
          ),
          {
            nil: undefined
          }
        ),
        size,
        size,
        (n, align, one, two) => {
          const [from, to] = [Math.min(one, two), Math.max(one, two)]
          const parts = region.split(n, { align, byteOffset: from, byteLength: to - from })
          const step = align ?? HOST_PAGE
          const units = Math.ceil((to - from) / step)
          assert.equal(parts.length, Math.min(n, units))
          let at = from
          for (const part of parts) {
            assert.equal(part.byteOffset, at)
            assert.equal((part.byteOffset - from) % step, 0)
            assert.ok(part.byteLength > 0)
            // Fair: none has a whole unit more than its share.
            assert.ok(part.byteLength <= Math.ceil(units / n) * step)
            at += part.byteLength
          }
          assert.equal(at, to)
        }
      ),
      { numRuns: rounds(100, 500) }
    )
  })

  test('gives fewer parts where there is too little', () => {
    const region = makeRegion(noise(HOST_PAGE + 1))
    expect(region.split(8)).toEqual([
      { byteOffset: 0, byteLength: HOST_PAGE },
      { byteOffset: HOST_PAGE, byteLength: 1 }
    ])
    expect(region.split(8, { align: 2 ** 30 })).toEqual([
      { byteOffset: 0, byteLength: HOST_PAGE + 1 }
    ])
    expect(region.split(8, { byteOffset: 5, byteLength: 0 })).toEqual([])
    expect(makeRegion(noise(3)).split(8, { align: 1 })).toEqual([
      { byteOffset: 0, byteLength: 1 },
      { byteOffset: 1, byteLength: 1 },
      { byteOffset: 2, byteLength: 1 }
    ])
  })

  test('keeps records whole, counted from `byteOffset`', () => {
    // A header of 10 bytes, then records of 24.
    const region = makeRegion(noise(10 + 24 * 1000))
    for (const { byteOffset, byteLength } of region.split(7, { align: 24, byteOffset: 10 })) {
      expect([(byteOffset - 10) % 24, byteLength % 24]).toEqual([0, 0])
    }
  })

  test('works when the region is closed: it is arithmetic', () => {
    const region = HostRegion.allocate(2 * HOST_PAGE)
    region.close()
    expect(region.split(2)).toHaveLength(2)
  })
})
