'use strict'

// guest/: the C header and the Rust file that modules drop in. One fixture in each language calls
// all of it; what it is given is compared with the region. Each test runs over a fake source in
// JavaScript, which shows chunks in an ordinary memory, and over a real window.
//
// The fixtures are built by support/guest/build.sh, which runs this file over what it has built,
// too.

const { readFileSync } = require('node:fs')
const path = require('node:path')
const { GuardedMemory, HostRegion, limits } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { noise } = require('./support/files')
const { hasMemory64 } = require('./support/wasm')

const HOST_PAGE = limits().pageSize
const FIXTURES = process.env.HOSTMAP_GUEST_FIXTURES ?? path.join(__dirname, 'support/guest')
// Records of 4097 bytes have room, wherever in a page they start.
const WINDOW_BYTES = 4 * HOST_PAGE

const made = []
const keep = closable => (made.push(closable), closable)
afterEach(() => made.splice(0).forEach(closable => closable.close()))

/**
 * As a WindowSource of Window.source is, over an ordinary memory: only one chunk is there at any
 * time.
 */
class FakeSource {
  constructor(
    memory,
    address,
    bytes,
    { chunk, overlap = 0, byteOffset = 0, byteLength } = {},
    pointerOf
  ) {
    const to = byteLength === undefined ? bytes.length : byteOffset + byteLength
    let start = byteOffset
    let position = byteOffset
    this.imports = {
      next(kept = overlap) {
        if (position === to) return pointerOf(0)
        start = Math.max(position - Number(kept), start)
        const skew = start % HOST_PAGE
        const room = WINDOW_BYTES - skew - (position - start)
        position += Math.min(chunk ?? room, room, to - position)
        const window = new Uint8Array(memory.buffer, address, WINDOW_BYTES).fill(0xa5)
        window.set(bytes.subarray(start, position), skew)
        return pointerOf(position - start)
      },
      pointer: () => pointerOf(address + (start % HOST_PAGE))
    }
  }
}

const wasmPages = (count, address) => (address === 'i64' ? BigInt(count) : count)

/**
 * A memory with room for the fixture, and `source(bytes, options)`, which gives a new source in it.
 */
const places = {
  'a fake source'(address) {
    const memory = new WebAssembly.Memory({
      initial: wasmPages(64, address),
      ...(address && { address })
    })
    const pointerOf = address === 'i64' ? BigInt : Number
    // Behind all that is the fixture's own.
    let end = 62 * 65536
    const source = (bytes, options) =>
      new FakeSource(memory, (end -= WINDOW_BYTES), bytes, options, pointerOf)
    return { memory, source }
  },
  'a window'(address) {
    const guarded = new GuardedMemory({
      initial: wasmPages(64, address),
      ...(address && { address })
    })
    const source = (bytes, options) => {
      // A region has at least one byte.
      const region = keep(HostRegion.copyFrom(bytes.length === 0 ? Buffer.alloc(1) : bytes))
      return guarded
        .window({ byteLength: WINDOW_BYTES })
        .source(region, { ...options, ...(bytes.length === 0 && { byteLength: 0 }) })
    }
    return { memory: guarded.memory, source }
  }
}

const FNV_START = 2166136261

/** FNV-1a, as the fixtures compute it. */
function digest(bytes) {
  let digest = FNV_START
  for (let i = 0; i < bytes.length; i++) digest = Math.imul(digest ^ bytes[i], 16777619)
  return digest | 0
}

/**
 * A fixture over these sources. `run` calls an export, and gives what was reported meanwhile:
 * blocks of `count` records, each with a copy of all its bytes. It checks that the fixture itself
 * has read these bytes.
 */
function start(
  module,
  address,
  place,
  leftBytes,
  leftOptions,
  rightBytes = Buffer.of(0),
  rightOptions = {}
) {
  const { memory, source } = places[place](address)
  const left = source(leftBytes, leftOptions)
  const right = source(rightBytes, rightOptions)
  let reports = []
  const report = (first, count, bytes) => {
    const at = address === 'i64' ? Number(first) : first >>> 0
    const block = Buffer.from(Buffer.from(memory.buffer, at, Number(count) * Number(bytes)))
    reports.push({ at, count: Number(count), bytes: block })
  }
  const { exports } = new WebAssembly.Instance(module, {
    env: { memory },
    left: left.imports,
    right: right.imports,
    test: { report }
  })
  const run = (name, ...values) => {
    reports = []
    const read = exports[name](...values)
    expect(read).toBe(digest(Buffer.concat(reports.map(({ bytes }) => bytes))))
    return reports
  }
  return { run, exports, left, right }
}

/** All reports, one after the other, are `expected`, each at its place in a page. */
function expectTiled(reports, expected, from) {
  let offset = from
  const misplaced = reports.filter(({ at, bytes }) => {
    const skewed = bytes.length > 0 && at % HOST_PAGE !== offset % HOST_PAGE
    offset += bytes.length
    return skewed
  })
  expect(misplaced).toEqual([])
  expect(Buffer.concat(reports.map(({ bytes }) => bytes)).equals(expected)).toBe(true)
}

const fixtures = [
  ['C, wasm32', 'c32.wasm', undefined],
  ['Rust, wasm32', 'rust32.wasm', undefined],
  ['C, wasm64', 'c64.wasm', 'i64']
].filter(([, , address]) => address === undefined || hasMemory64)

const combinations = fixtures.flatMap(fixture =>
  Object.keys(places).map(place => [...fixture, place])
)

describe.each(combinations)('%s (%s, %s) over %s', (name, file, address, place) => {
  const pointerOf = address === 'i64' ? BigInt : Number
  const module = new WebAssembly.Module(readFileSync(path.join(FIXTURES, file)))
  const open = (...rest) => start(module, address, place, ...rest)

  describe.each([1, 3, 7, 12, 24, 4095, 4097])('records of %i bytes', recordBytes => {
    const expectRecords = (bytes, options) => {
      const { byteOffset: from = 0, byteLength = bytes.length - from } = options
      const { run } = open(bytes, options)
      const reports = run('records', pointerOf(recordBytes))
      expectTiled(reports, bytes.subarray(from, from + byteLength), from)
      const leftOver = reports.pop()
      expect(leftOver.bytes.length).toBe(byteLength % recordBytes)
      expect(reports.filter(({ count }) => count < 1)).toEqual([])
      return reports
    }
    const whole = noise(
      6 * recordBytes + 5 * HOST_PAGE - ((5 * HOST_PAGE) % recordBytes),
      recordBytes
    )

    test('are whole where each chunk ends within one', () => {
      const chunk = recordBytes === 1 ? 1000 : 3 * recordBytes - 1 - (recordBytes >> 1)
      expect(expectRecords(whole, { chunk }).length).toBeGreaterThan(1)
    })

    test('are whole in chunks as large as the window', () => {
      expect(expectRecords(whole, {}).length).toBeGreaterThan(1)
    })

    test('are whole in chunks of a record, one byte more and one less', () => {
      for (const chunk of [recordBytes, recordBytes + 1, recordBytes - 1 || 1]) {
        expectRecords(whole.subarray(0, 5 * recordBytes), { chunk })
      }
    })

    test('are whole in chunks smaller than a record', () => {
      const chunk = Math.max(1, Math.floor(recordBytes / 3.5))
      expectRecords(whole.subarray(0, 6 * recordBytes), { chunk })
    })

    test('are whole in a part of the region', () => {
      for (const byteOffset of [8, HOST_PAGE - 8, HOST_PAGE]) {
        for (const byteLength of [3 * recordBytes, whole.length - byteOffset])
          expectRecords(whole, { byteOffset, byteLength, chunk: 5000 })
      }
    })

    test('tell what is left over of the last', () => {
      for (const length of [recordBytes - 1, recordBytes, 2 * recordBytes + (recordBytes >> 1)]) {
        for (const chunk of [1, recordBytes, recordBytes + 1]) {
          if (length > 0) expectRecords(whole.subarray(0, length), { chunk })
        }
      }
    })

    test('are none in an empty source', () => {
      expect(expectRecords(whole, { byteOffset: 8, byteLength: 0 })).toEqual([])
    })
  })

  const text = Buffer.from('\none two  three\n\n\u{e9}t\u{e9}, four-five\nsix\n')
  const splits = (bytes, pattern) => bytes.toString('latin1').split(pattern)
  const given = reports => reports.map(({ bytes }) => bytes.toString('latin1'))

  test('lines are whole in chunks of any size', () => {
    for (const bytes of [
      text,
      text.subarray(0, -1),
      noise(3 * HOST_PAGE),
      Buffer.from('\n'),
      Buffer.alloc(0)
    ]) {
      const expected = splits(bytes, '\n')
      const unterminated = expected.at(-1) !== ''
      if (!unterminated) expected.pop()
      for (const chunk of [1, 2, 3, 4, 5, 7, 4000, undefined]) {
        const { run, exports } = open(bytes, { chunk })
        expect(given(run('lines', 10))).toEqual(expected)
        expect(exports.was_unterminated()).toBe(Number(unterminated))
      }
    }
  })

  test('words are whole in chunks of any size, and none is empty', () => {
    for (const bytes of [
      text,
      text.subarray(0, -1),
      noise(3 * HOST_PAGE),
      Buffer.from('-'),
      Buffer.alloc(0)
    ]) {
      const expected = splits(bytes, /[^a-z\x80-\xff]+/).filter(word => word !== '')
      for (const chunk of [1, 2, 3, 4, 5, 7, 4000, undefined]) {
        expect(given(open(bytes, { chunk }).run('words'))).toEqual(expected)
      }
    }
  })

  test('a line longer than many chunks is whole', () => {
    const bytes = Buffer.concat([Buffer.alloc(2 * HOST_PAGE + 3, 'x'), Buffer.from('\ny')])
    const reports = open(bytes, { chunk: 100 }).run('lines', 10)
    expect(reports.map(({ bytes }) => bytes.length)).toEqual([2 * HOST_PAGE + 3, 1])
  })

  test('chunks are cut and overlap as the host says', () => {
    const bytes = noise(2500)
    const cut = (chunk, overlap) =>
      open(bytes, { chunk, overlap })
        .run('chunks')
        .map(({ bytes }) => bytes)
    expect(cut(1000, 0)).toEqual([
      bytes.subarray(0, 1000),
      bytes.subarray(1000, 2000),
      bytes.subarray(2000)
    ])
    expect(cut(1000, 16)).toEqual([
      bytes.subarray(0, 1000),
      bytes.subarray(984, 2000),
      bytes.subarray(1984)
    ])
  })

  test('chunks keep what the module says, whatever the host says', () => {
    const bytes = noise(2500)
    const reports = open(bytes, { chunk: 1000, overlap: 16 }).run('chunks_keeping', pointerOf(5))
    expect(reports.map(({ bytes }) => bytes)).toEqual([
      bytes.subarray(0, 1000),
      bytes.subarray(995, 2000),
      bytes.subarray(1995)
    ])
  })

  test('a module reads two sources at once', () => {
    const items = new Uint32Array(2 * 3000)
    const orders = new Uint32Array(3 * 5000)
    for (let i = 0; i < 3000; i++) items.set([2 * i, 7 * i + 1], 2 * i)
    for (let i = 0; i < 5000; i++) orders.set([i + (i >> 3), i % 11, i], 3 * i)
    let total = 0n
    for (let i = 0; i < 5000; i++) {
      const key = orders[3 * i]
      if (key % 2 === 0 && key < 6000) total += BigInt(items[key + 1]) * BigInt(orders[3 * i + 1])
    }
    expect(total).toBeGreaterThan(0n)
    const bytesOf = array => Buffer.from(array.buffer)
    for (const [itemChunk, orderChunk] of [
      [1001, 777],
      [undefined, 13],
      [5, undefined]
    ]) {
      const { exports } = open(bytesOf(items), { chunk: itemChunk }, bytesOf(orders), {
        chunk: orderChunk
      })
      expect(exports.join()).toBe(total)
    }
  })

  if (place === 'a window') {
    test('a rewound source is read again by a new iterator', () => {
      const bytes = noise(3 * WINDOW_BYTES)
      const { run, left } = open(bytes, { chunk: 5000 })
      for (let i = 0; i < 2; i++) {
        expectTiled(run('records', pointerOf(7)), bytes, 0)
        left.rewind()
      }
    })

    test('a record that the window can not hold is the error of the source', () => {
      const { exports } = open(Buffer.alloc(2 * WINDOW_BYTES, 'x'), {})
      expectError(
        thrownBy(() => exports.lines(10)),
        { code: 'ERR_OUT_OF_RANGE' }
      )
    })
  }
})

test('Rust records that are not aligned are a trap', () => {
  const module = new WebAssembly.Module(readFileSync(path.join(FIXTURES, 'rust32.wasm')))
  const { exports } = start(module, undefined, 'a window', noise(100), { byteOffset: 2 })
  expect(() => exports.records(12)).toThrow(WebAssembly.RuntimeError)
})
