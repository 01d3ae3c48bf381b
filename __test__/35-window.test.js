'use strict'

// A window keeps its address; what it shows slides. Sources and chunks, which slide by themselves,
// are in 36.

const fs = require('node:fs')
const { inspect } = require('node:util')
const { GuardedMemory, HostRegion, Window, limits } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { kinds, baseOf, reservationMap } = require('./support/memories')
const { fdOf, countOpen, mappingsNamed, processMap } = require('./support/procfs')
const { temporaryDirectory, noise } = require('./support/files')
const { inChild } = require('./support/child')
const { TestWorker } = require('./support/worker')
const { GiB, WASM_PAGE, assemble, probe, probeWithMemory, test64 } = require('./support/wasm')

const HOST_PAGE = limits().pageSize
const directory = temporaryDirectory()

const made = []
const keep = region => (made.push(region), region)
const workers = []
const startWorker = () => (workers.push(new TestWorker()), workers.at(-1))
afterEach(async () => {
  await Promise.all(workers.splice(0).map(worker => worker.end()))
  made.splice(0).forEach(region => region.close())
})

const roundUp = byteLength => Math.ceil(byteLength / HOST_PAGE) * HOST_PAGE
const bytesOf = region => Buffer.from(region.view())
const linear = guarded => Buffer.from(guarded.buffer)

async function makeOwn(initial = 8, maximum = 64) {
  const guarded = new GuardedMemory({ initial, maximum })
  return { guarded, guest: await probe(guarded.memory) }
}

// Not a whole number of pages, so that the last page has a tail.
const REGION_PAGES = 40
const contents = noise((REGION_PAGES - 1) * HOST_PAGE + 1000)
const makeRegion = name => keep(HostRegion.copyFrom(contents, { name }))

const expectTrap = call => expect(call).toThrow(WebAssembly.RuntimeError)

/**
 * What a slide to this offset shows, where `byteLength` allows, to the module and to
 * JavaScript; and the rest behind it.
 */
function expectShown({ window, guest, guarded }, shown, region, bytes, byteOffset, byteLength) {
  const skew = byteOffset % HOST_PAGE
  const length = byteLength ?? Math.min(window.byteLength - skew, bytes.length - byteOffset)
  const address = window.address + skew
  const pointer = guarded.address === 'i64' ? BigInt(address) : address
  expect(shown).toEqual({ address, pointer, byteLength: length })
  expect(window).toMatchObject({ byteOffset, shownBytes: length })
  expect(window.region).toBe(region)
  const expected = bytes.subarray(byteOffset, byteOffset + length)
  expect(
    linear(guarded)
      .subarray(address, address + length)
      .equals(expected)
  ).toBe(true)
  for (const at of [0, length >> 1, length - 1])
    expect(guest.load8(address + at)).toBe(expected[at])
  expectRest({ window, guest }, window.address + roundUp(skew + length))
}

/** From here to the window's end there is its rest. */
function expectRest({ window, guest }, from) {
  const end = window.address + window.byteLength
  if (from >= end) return
  for (const at of [from, end - 8]) {
    if (window.rest === 'trap') expectTrap(() => guest.load8(at))
    else expect(guest.load64(at)).toBe(0n)
  }
}

const OFFSETS = [
  ['the start', 0],
  ['the second page', HOST_PAGE],
  ['the second byte', 1],
  ['the last byte of a page', HOST_PAGE - 1],
  ['an odd place', 5 * HOST_PAGE + 777],
  ['the last page that fills the window', (REGION_PAGES - 16) * HOST_PAGE],
  ['where the region ends in the window', (REGION_PAGES - 3) * HOST_PAGE + 5],
  ['the last page', (REGION_PAGES - 1) * HOST_PAGE],
  ['the last byte', contents.length - 1]
]

describe.each(kinds)('in a memory that is $kind', ({ make, address }) => {
  const pointerTo = address === 'i64' ? BigInt : Number

  describe.each(['trap', 'zeros'])("a window with rest '%s'", rest => {
    test('stands where it was put, in whole pages, and shows nothing at first', async () => {
      const { guarded, guest } = await make(8, 16)
      linear(guarded).fill(0xee)
      const at = 2 * WASM_PAGE
      const window = guarded.window({ byteLength: 3 * HOST_PAGE - 100, at, rest })
      expect(window).toBeInstanceOf(Window)
      expect(window).toMatchObject({
        address: at,
        pointer: pointerTo(at),
        byteLength: 3 * HOST_PAGE,
        access: 'readonly',
        rest,
        region: null,
        byteOffset: 0,
        shownBytes: 0,
        unmapped: false,
        strayWrites: 0,
        faults: 0,
        lastFault: null
      })
      expect(window.memory).toBe(guarded)
      expectRest({ window, guest }, at)
      // What is round it is as it was.
      expect(guest.load8(at - 1)).toBe(0xee)
      expect(guest.load8(at + 3 * HOST_PAGE)).toBe(0xee)
      window.unmap()
      expect(window.unmapped).toBe(true)
      expect(guest.sum(at, at + 3 * HOST_PAGE)).toBe(0n)
      guest.store64(at, 5n)
      expect(guest.load64(at)).toBe(5n)
    })

    test('shows any part of a region at its one address', async () => {
      const { guarded, guest } = await make(8, 16)
      const region = makeRegion()
      const window = guarded.window({ byteLength: 16 * HOST_PAGE, at: WASM_PAGE, rest })
      // There and back, so that each comes after larger and smaller ones.
      for (const [, byteOffset] of [...OFFSETS, ...OFFSETS.toReversed()]) {
        const shown = window.slide(region, byteOffset)
        expectShown({ window, guest, guarded }, shown, region, contents, byteOffset)
        expectTrap(() => guest.store8(shown.address, 1))
      }
      expect(bytesOf(region).equals(contents)).toBe(true)
    })

    test('is emptied by null', async () => {
      const { guarded, guest } = await make(8, 16)
      const window = guarded.window({ byteLength: 4 * HOST_PAGE, at: WASM_PAGE, rest })
      window.slide(makeRegion(), 1234)
      for (let times = 0; times < 2; times++) {
        expect(window.slide(null)).toEqual({
          address: WASM_PAGE,
          pointer: pointerTo(WASM_PAGE),
          byteLength: 0
        })
        expect(window).toMatchObject({
          region: null,
          byteOffset: 0,
          shownBytes: 0,
          unmapped: false
        })
        expectRest({ window, guest }, WASM_PAGE)
      }
    })
  })

  test('leaves the reservation as V8 had it', async () => {
    const { guarded } = await make(8, 16)
    const base = baseOf(guarded)
    const before = reservationMap(guarded, base)
    for (const rest of ['trap', 'zeros']) {
      for (const access of ['readonly', 'private', 'shared']) {
        const window = guarded.window({ byteLength: 5 * HOST_PAGE, at: WASM_PAGE, access, rest })
        window.slide(makeRegion(), 100)
        window.slide(makeRegion(), contents.length - 1)
        window.unmap()
        expect(reservationMap(guarded, base)).toEqual(before)
      }
    }
  })

  test('is told by layout(), whatever it shows', async () => {
    const { guarded } = await make(8, 16)
    const region = makeRegion('shown in a layout')
    const window = guarded.window({ byteLength: 4 * HOST_PAGE, at: WASM_PAGE })
    const mapped = () => guarded.layout().ranges.filter(({ kind }) => kind === 'mapped')
    const range = { kind: 'mapped', start: WASM_PAGE, end: WASM_PAGE + 4 * HOST_PAGE }
    expect(mapped()).toMatchObject([{ ...range, region: null, byteOffset: 0 }])
    expect(String(guarded.layout())).toContain(WASM_PAGE.toString(16))

    window.slide(region, 7 * HOST_PAGE + 5)
    expect(mapped()).toMatchObject([
      { ...range, access: 'readonly', region, byteOffset: 7 * HOST_PAGE }
    ])
    expect(String(guarded.layout())).toContain('shown in a layout')
    window.slide(null)
    expect(mapped()).toMatchObject([{ ...range, region: null, byteOffset: 0 }])
    window.unmap()
    expect(mapped()).toEqual([])
  })
})

describe('a place for a window', () => {
  test('is past the end where nothing else is asked for: the memory grows by it', async () => {
    const { guarded, guest } = await makeOwn(2)
    const first = guarded.window({ byteLength: WASM_PAGE + 1 })
    expect(first).toMatchObject({ address: 2 * WASM_PAGE, byteLength: WASM_PAGE + HOST_PAGE })
    expect(guest.size()).toBe(4)
    // The rest of what the memory grew by is used next, and what a window leaves is used again.
    const second = guarded.window({ byteLength: HOST_PAGE })
    expect(second.address).toBe(first.address + first.byteLength)
    expect(guest.size()).toBe(4)
    first.unmap()
    expect(guarded.map(makeRegion(), { byteLength: WASM_PAGE }).address).toBe(2 * WASM_PAGE)
    expect(guest.size()).toBe(4)
  })

  test('may be smaller than a Wasm page', async () => {
    const { guarded, guest } = await makeOwn()
    const region = makeRegion()
    const window = guarded.window({ byteLength: HOST_PAGE })
    expect(window.byteLength).toBe(HOST_PAGE)
    expectShown({ window, guest, guarded }, window.slide(region, 300), region, contents, 300)
  })

  test('may be all of the memory', async () => {
    const { guarded, guest } = await makeOwn(2, 2)
    const region = makeRegion()
    const window = guarded.window({ byteLength: 2 * WASM_PAGE, at: 0 })
    expectShown({ window, guest, guarded }, window.slide(region, 9), region, contents, 9)
    expectTrap(() => guest.load8(2 * WASM_PAGE))
  })

  test('is taken as a number or a BigInt', async () => {
    const { guarded } = await makeOwn()
    expect(guarded.window({ byteLength: HOST_PAGE, at: BigInt(WASM_PAGE) })).toMatchObject({
      address: WASM_PAGE,
      pointer: WASM_PAGE
    })
  })

  test("is a block of the module's own, that is given back once", async () => {
    const { guarded, guest } = await makeOwn()
    linear(guarded).fill(0xee)
    const block = WASM_PAGE + 100
    const calls = []
    const allocator = {
      malloc: byteLength => (calls.push(['malloc', byteLength]), block),
      free: address => void calls.push(['free', address])
    }
    const window = guarded.window({ byteLength: 2 * HOST_PAGE - 5, allocator })
    const [[, asked]] = calls
    expect(window.address).toBe(WASM_PAGE + HOST_PAGE)
    expect(window.address + window.byteLength).toBeLessThanOrEqual(block + asked)
    window.slide(makeRegion(), 4)
    expect(guest.load8(window.address - 1)).toBe(0xee)
    expect(guest.load8(window.address + window.byteLength)).toBe(0xee)
    window.unmap()
    window.unmap()
    expect(calls).toEqual([
      ['malloc', asked],
      ['free', block]
    ])
  })

  test('is refused where a mapping or a window is, and a window keeps off mappings', async () => {
    const { guarded, guest } = await makeOwn()
    const region = makeRegion()
    guarded.map(region, { at: WASM_PAGE, byteLength: WASM_PAGE })
    const window = guarded.window({ byteLength: WASM_PAGE, at: 3 * WASM_PAGE })
    window.slide(region, 10)
    const before = guarded.layout().ranges
    const overlaps = [
      [WASM_PAGE, HOST_PAGE],
      [2 * WASM_PAGE - HOST_PAGE, HOST_PAGE],
      [0, 8 * WASM_PAGE],
      [3 * WASM_PAGE, WASM_PAGE],
      [4 * WASM_PAGE - HOST_PAGE, 1 + HOST_PAGE],
      [3 * WASM_PAGE - HOST_PAGE, 2 * HOST_PAGE]
    ]
    for (const [at, byteLength] of overlaps) {
      expectError(
        thrownBy(() => guarded.window({ at, byteLength })),
        { code: 'ERR_HOSTMAP_OVERLAP' }
      )
      expectError(
        thrownBy(() => guarded.map(keep(HostRegion.allocate(byteLength)), { at })),
        { code: 'ERR_HOSTMAP_OVERLAP' }
      )
    }
    expect(guarded.layout().ranges).toEqual(before)
    expect(guest.load8(3 * WASM_PAGE + 10)).toBe(contents[10])
    window.unmap()
    guarded.window({ byteLength: WASM_PAGE, at: 3 * WASM_PAGE })
  })

  test('is beside mappings, which slides leave as they are', async () => {
    const { guarded, guest } = await makeOwn()
    const region = makeRegion()
    const options = { byteLength: 2 * HOST_PAGE, byteOffset: 8 * HOST_PAGE }
    const below = guarded.map(region, {
      ...options,
      at: WASM_PAGE - 2 * HOST_PAGE,
      access: 'shared'
    })
    const window = guarded.window({ byteLength: 3 * HOST_PAGE, at: WASM_PAGE, access: 'private' })
    const above = guarded.map(region, { ...options, at: WASM_PAGE + 3 * HOST_PAGE })
    for (const byteOffset of [0, 11 * HOST_PAGE, contents.length - 1, 6 * HOST_PAGE + 1]) {
      expectShown(
        { window, guest, guarded },
        window.slide(region, byteOffset),
        region,
        contents,
        byteOffset
      )
      for (const { address } of [below, above]) {
        expect(guest.load8(address)).toBe(contents[8 * HOST_PAGE])
        expect(guest.load8(address + 2 * HOST_PAGE - 1)).toBe(contents[10 * HOST_PAGE - 1])
      }
      expectTrap(() => guest.store8(above.address, 0))
    }
    below.unmap()
    above.unmap()
    expect(guest.load8(window.address)).toBe(contents[6 * HOST_PAGE])
  })
})

describe('a slide', () => {
  test('to the same place, and to overlapping ones, shows it again', async () => {
    const { guarded, guest } = await makeOwn()
    const region = makeRegion()
    const window = guarded.window({ byteLength: 4 * HOST_PAGE })
    for (const byteOffset of [99, 99, 99 + HOST_PAGE, 99, 100, 98, 3 * HOST_PAGE, 2 * HOST_PAGE]) {
      expectShown(
        { window, guest, guarded },
        window.slide(region, byteOffset),
        region,
        contents,
        byteOffset
      )
    }
  })

  test('goes from region to region, of memory and of files, and back', async () => {
    const { guarded, guest } = await makeOwn()
    const window = guarded.window({ byteLength: 4 * HOST_PAGE })
    const small = noise(10, 2)
    const other = noise(9 * HOST_PAGE + 1, 3)
    const regions = [
      [makeRegion(), contents],
      [keep(HostRegion.open(directory.file(other))), other],
      [keep(HostRegion.copyFrom(small)), small],
      [
        keep(HostRegion.open(directory.file(other), { byteOffset: HOST_PAGE })),
        other.subarray(HOST_PAGE)
      ],
      [keep(HostRegion.copyFrom(contents).seal()), contents],
      [keep(HostRegion.fromFd(fdOf(keep(HostRegion.copyFrom(other))))), other]
    ]
    for (const [region, bytes] of [...regions, ...regions]) {
      for (const byteOffset of [0, 7, bytes.length - 1]) {
        expectShown(
          { window, guest, guarded },
          window.slide(region, byteOffset),
          region,
          bytes,
          byteOffset
        )
      }
    }
  })

  test.each(['trap', 'zeros'])(
    "shows no more than options.byteLength asks for, rest '%s'",
    async rest => {
      const { guarded, guest } = await makeOwn()
      const region = makeRegion()
      const window = guarded.window({ byteLength: 4 * HOST_PAGE, rest })
      for (const [byteOffset, byteLength] of [
        [0, 4 * HOST_PAGE],
        [10, 1],
        [10, 2 * HOST_PAGE],
        [HOST_PAGE - 1, 2],
        [5, 4 * HOST_PAGE - 5]
      ]) {
        const shown = window.slide(region, byteOffset, { byteLength })
        expectShown({ window, guest, guarded }, shown, region, contents, byteOffset, byteLength)
      }
    }
  )

  test('that is refused leaves the window as it was', async () => {
    const { guarded, guest } = await makeOwn()
    const region = makeRegion()
    const window = guarded.window({ byteLength: 4 * HOST_PAGE, access: 'shared' })
    const closed = HostRegion.copyFrom(contents, { name: 'closed long ago' })
    closed.close()
    const shown = window.slide(region, 50)
    const refusals = [
      [() => window.slide(closed), { code: 'ERR_HOSTMAP_REGION_CLOSED', says: /closed long ago/ }],
      [
        () => window.slide(keep(HostRegion.copyFrom(contents).seal())),
        { code: 'ERR_HOSTMAP_REGION_READONLY', says: /private/ }
      ],
      [() => window.slide(region, contents.length), { code: 'ERR_OUT_OF_RANGE' }]
    ]
    for (const [call, expected] of refusals) {
      expectError(thrownBy(call), expected)
      expectShown({ window, guest, guarded }, shown, region, contents, 50)
      guest.store8(shown.address, contents[50])
    }
  })

  // Nobody asks for the file's size: that would be another system call.
  test('to a part that the file has no longer: its loads trap, and what the file has is read', async () => {
    const { guarded, guest } = await makeOwn()
    const window = guarded.window({ byteLength: 4 * HOST_PAGE })
    const file = directory.file(contents)
    const region = keep(HostRegion.open(file))
    fs.truncateSync(file, 10 * HOST_PAGE)
    expectTrap(() => guest.load8(window.slide(region, 20 * HOST_PAGE + 1).address))
    expect(window.lastFault).toMatchObject({ byteOffset: 20 * HOST_PAGE + 1, cause: 'file-shrunk' })
    const { address } = window.slide(region, 9 * HOST_PAGE + 1)
    expect(guest.load8(address)).toBe(contents[9 * HOST_PAGE + 1])
    expectTrap(() => guest.load8(address + HOST_PAGE))
    expect(window.lastFault).toMatchObject({ byteOffset: 10 * HOST_PAGE + 1, cause: 'file-shrunk' })
  })

  test('works in an import that the module calls, while its own function runs', async () => {
    const binary = await assemble(`(module
      (import "env" "memory" (memory 0))
      (import "env" "slide" (func $slide (param i32)))
      ;; The sum of the first bytes of n pages, each of which is shown by the call before it.
      (func (export "walk") (param $at i32) (param $n i32) (result i32) (local $i i32) (local $sum i32)
        (loop $next
          (call $slide (local.get $i))
          (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $next (i32.lt_u (local.get $i) (local.get $n))))
        (local.get $sum)))`)
    const guarded = new GuardedMemory({ initial: 1, maximum: 4 })
    const window = guarded.window({ byteLength: HOST_PAGE })
    const region = makeRegion()
    const env = {
      memory: guarded.memory,
      slide: page => void window.slide(region, page * HOST_PAGE)
    }
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(binary), { env })
    const firsts = Array.from({ length: REGION_PAGES }, (_, page) => contents[page * HOST_PAGE])
    expect(exports.walk(window.address, REGION_PAGES)).toBe(
      firsts.reduce((sum, byte) => sum + byte)
    )

    // An error of the slide goes through the module to its caller.
    const error = thrownBy(() => exports.walk(window.address, REGION_PAGES + 1))
    expectError(error, { code: 'ERR_OUT_OF_RANGE', says: String(contents.length - 1) })
  })

  test('of one window leaves other windows as they are', async () => {
    const { guarded, guest } = await makeOwn()
    const regions = [makeRegion(), keep(HostRegion.copyFrom(noise(30 * HOST_PAGE, 5)))]
    const [one, two] = regions.map(bytesOf)
    const windows = [3, 1, 2].map(pages => guarded.window({ byteLength: pages * HOST_PAGE }))
    const state = windows.map(() => null)
    for (let step = 0; step < 60; step++) {
      const i = step % 3
      const which = (step >> 2) % 2
      const byteOffset = (step * 1777) % (20 * HOST_PAGE)
      state[i] = { which, byteOffset, shown: windows[i].slide(regions[which], byteOffset) }
      for (const [j, window] of windows.entries()) {
        if (state[j] === null) continue
        const { which, byteOffset, shown } = state[j]
        expectShown(
          { window, guest, guarded },
          shown,
          regions[which],
          [one, two][which],
          byteOffset
        )
      }
    }
  })

  test('takes nothing of the process for good, however many there are', async () => {
    const { guarded } = await makeOwn()
    const regions = [makeRegion(), keep(HostRegion.open(directory.file(contents)))]
    const windows = [
      guarded.window({ byteLength: 4 * HOST_PAGE }),
      guarded.window({ byteLength: HOST_PAGE })
    ]
    const slide = step =>
      windows[step % 2].slide(regions[(step >> 1) % 2], (step * 997) % contents.length)
    for (let step = 0; step < 100; step++) slide(step)
    const before = processMap().length
    for (let step = 0; step < 4000; step++) slide(step)
    expect(processMap().length).toBeLessThanOrEqual(before + 8)
  })
})

describe("the rest with 'zeros'", () => {
  test('is zeros again after a longer part was shown', async () => {
    const { guarded, guest } = await makeOwn()
    const region = makeRegion()
    const window = guarded.window({ byteLength: 8 * HOST_PAGE, rest: 'zeros' })
    for (const byteLength of [8 * HOST_PAGE, 5 * HOST_PAGE, HOST_PAGE, 6 * HOST_PAGE, 1]) {
      window.slide(region, 0, { byteLength })
      const from = window.address + roundUp(byteLength)
      expect(guest.sum(from, window.address + window.byteLength)).toBe(0n)
    }
  })

  test.each(['readonly', 'private', 'shared'])(
    'of a %s window: no write to it outlives a slide',
    async access => {
      const { guarded, guest } = await makeOwn()
      const region = makeRegion()
      const window = guarded.window({ byteLength: 8 * HOST_PAGE, rest: 'zeros', access })
      const end = window.address + window.byteLength
      for (const [byteLength, next] of [
        [HOST_PAGE, HOST_PAGE],
        [2 * HOST_PAGE, 5 * HOST_PAGE],
        [4 * HOST_PAGE, HOST_PAGE]
      ]) {
        window.slide(region, 0, { byteLength })
        try {
          for (let at = window.address + byteLength; at < end; at += HOST_PAGE)
            guest.store64(at, -1n)
        } catch (error) {
          // It need not be writable.
          expect(error).toBeInstanceOf(WebAssembly.RuntimeError)
        }
        window.slide(region, HOST_PAGE, { byteLength: next })
        expect(guest.sum(window.address + next, end)).toBe(0n)
        window.slide(null)
        expect(guest.sum(window.address, end)).toBe(0n)
      }
      expect(bytesOf(region).equals(contents)).toBe(true)
    }
  )

  test('follows the last page, whose tail is zeros as well', async () => {
    const { guarded, guest } = await makeOwn()
    for (const region of [makeRegion(), keep(HostRegion.open(directory.file(contents)))]) {
      const window = guarded.window({ byteLength: 4 * HOST_PAGE, rest: 'zeros' })
      const { address, byteLength } = window.slide(region, contents.length - 8)
      expect(byteLength).toBe(8)
      expect(guest.load8(address + 7)).toBe(contents.at(-1))
      for (let at = address + 8; at < window.address + window.byteLength; at += 64) {
        expect(guest.load8(at)).toBe(0)
      }
    }
  })
})

describe('access', () => {
  test('private: writes are copies, gone with the next slide, and the region is as it was', async () => {
    const { guarded, guest } = await makeOwn()
    const region = makeRegion()
    const window = guarded.window({ byteLength: 4 * HOST_PAGE, access: 'private' })
    for (const back of [0, 2 * HOST_PAGE, 20 * HOST_PAGE]) {
      const { address } = window.slide(region, 0)
      guest.store64(address + HOST_PAGE, -1n)
      linear(guarded).write('JavaScript', address + 3 * HOST_PAGE)
      expect(guest.load64(address + HOST_PAGE)).toBe(-1n)
      window.slide(region, back)
      expectShown({ window, guest, guarded }, window.slide(region, 0), region, contents, 0)
      expect(bytesOf(region).equals(contents)).toBe(true)
    }
  })

  test('shared: writes reach the region, and everybody sees them', async () => {
    const { guarded, guest } = await makeOwn()
    for (const region of [
      makeRegion(),
      keep(HostRegion.open(directory.file(contents), { writable: true }))
    ]) {
      const window = guarded.window({ byteLength: 4 * HOST_PAGE, access: 'shared' })
      const view = bytesOf(region)
      for (const byteOffset of [3, 9 * HOST_PAGE, 30 * HOST_PAGE + 100]) {
        const { address } = window.slide(region, byteOffset)
        guest.store64(address + HOST_PAGE, 0x0807060504030201n)
        const at = byteOffset + HOST_PAGE
        expect([...view.subarray(at, at + 8)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
        view[at] = 99
        expect(guest.load8(address + HOST_PAGE)).toBe(99)
      }
      window.slide(null)
      expect([...view.subarray(9 * HOST_PAGE + HOST_PAGE).subarray(0, 2)]).toEqual([99, 2])
      window.unmap()
    }
  })

  test('may be less in a slide than the window was opened with, and all of it in the next', async () => {
    const { guarded, guest } = await makeOwn()
    const region = makeRegion()
    const window = guarded.window({ byteLength: 2 * HOST_PAGE, access: 'shared' })
    const { address } = window.slide(region, 0, { access: 'readonly' })
    expectTrap(() => guest.store8(address, 1))
    window.slide(region, 0, { access: 'private' })
    guest.store8(address, contents[0] ^ 0xff)
    expect(bytesOf(region)[0]).toBe(contents[0])
    window.slide(region, 0)
    expect(guest.load8(address)).toBe(contents[0])
    guest.store8(address, contents[0] ^ 0xff)
    expect(bytesOf(region)[0]).toBe(contents[0] ^ 0xff)
    window.slide(region, 0, { access: 'readonly' })
    expectTrap(() => guest.store8(address, 1))
    expect(window.access).toBe('shared')

    const copies = guarded.window({ byteLength: 2 * HOST_PAGE, access: 'private' })
    const shown = copies.slide(region, 0, { access: 'readonly' })
    expectTrap(() => guest.store8(shown.address, 1))
    guest.store8(copies.slide(region, 0).address, 1)
  })

  test('readonly is enough for a sealed region in a shared window', async () => {
    const { guarded, guest } = await makeOwn()
    const region = keep(HostRegion.copyFrom(contents).seal())
    const window = guarded.window({ byteLength: 2 * HOST_PAGE, access: 'shared' })
    const { address } = window.slide(region, 5, { access: 'readonly' })
    expect(guest.load8(address)).toBe(contents[5])
  })

  test('shared keeps a region from being sealed while it is shown, and no longer', async () => {
    const { guarded } = await makeOwn()
    const window = guarded.window({ byteLength: 2 * HOST_PAGE, access: 'shared' })
    for (const leave of [
      () => window.slide(null),
      () => window.slide(makeRegion(), 0),
      region => window.slide(region, 0, { access: 'readonly' }),
      () => window.unmap()
    ]) {
      const region = makeRegion()
      window.slide(region, 0)
      window.slide(region, HOST_PAGE)
      expectError(
        thrownBy(() => region.seal()),
        { code: 'ERR_HOSTMAP_REGION_BUSY' }
      )
      leave(region)
      expect(region.seal().sealed).toBe(true)
    }
  })
})

describe('a memory that grows while a window is open', () => {
  test.each([
    ['by the library', ({ guarded }) => guarded.grow(1)],
    [
      'by the module, and the library is called',
      ({ guest, guarded }) => (guest.grow(1), guarded.layout())
    ],
    [
      'by the module, and the window slides',
      ({ guest, window, region }) => (guest.grow(1), window.slide(region, 3))
    ]
  ])('%s: readonly stays protected, and the rest traps', async (_, grow) => {
    const { guarded, guest } = await makeOwn()
    const region = makeRegion()
    const window = guarded.window({ byteLength: 4 * HOST_PAGE, at: WASM_PAGE })
    const empty = guarded.window({ byteLength: 4 * HOST_PAGE, at: 2 * WASM_PAGE })
    const { address } = window.slide(region, 3, { byteLength: HOST_PAGE })
    guarded.grow(0)
    grow({ guarded, guest, window, region })
    window.slide(region, 3, { byteLength: HOST_PAGE })
    expect(guest.load8(address)).toBe(contents[3])
    expectTrap(() => guest.store8(address, 1))
    expectRest({ window, guest }, window.address + 2 * HOST_PAGE)
    expectRest({ window: empty, guest }, empty.address)
    guest.store8(guarded.byteLength - 1, 1)
  })

  test('readonly is protected again without a slide', async () => {
    const { guarded, guest } = await makeOwn()
    const region = makeRegion()
    const window = guarded.window({ byteLength: 4 * HOST_PAGE, at: WASM_PAGE })
    const { address } = window.slide(region, 3, { byteLength: HOST_PAGE })
    guarded.grow(1)
    expectTrap(() => guest.store8(address, 1))
    expectTrap(() => guest.load8(window.address + 2 * HOST_PAGE))
    guest.grow(1)
    // Until the library is called V8 has made all writable; what is written goes to a copy.
    guest.store8(address, contents[3] ^ 1)
    expect(bytesOf(region).equals(contents)).toBe(true)
    guarded.layout()
    expectTrap(() => guest.store8(address, 1))
    expectTrap(() => guest.load8(window.address + 2 * HOST_PAGE))
  })

  // The old buffer of a shared memory tells of no growth.
  test.each([1, 2, 7])(
    'protects what stands beside %i windows that slide at once after',
    async count => {
      const guest = await probeWithMemory({ shared: true, initial: 16, maximum: 64 })
      const guarded = GuardedMemory.from(guest.memory.buffer)
      const region = makeRegion()
      const view = new Uint8Array(region.view())
      const slides = Array.from({ length: count }, (_, i) =>
        guarded.window({ byteLength: 4 * HOST_PAGE, at: i * WASM_PAGE })
      )
      const slide = () =>
        slides.forEach(window => window.slide(region, 3, { byteLength: HOST_PAGE }))
      const mapping = guarded.map(region, { byteLength: HOST_PAGE, at: 8 * WASM_PAGE })
      const empty = guarded.window({ byteLength: HOST_PAGE, at: 9 * WASM_PAGE })
      for (let round = 0; round < 20; round++) {
        slide()
        if (round % 2 === 0) guest.grow(1)
        else slide()
        if (round % 4 === 0) slide()
        if (round % 3 === 0) slides[0].slide(null)
        guarded.layout()
        expectTrap(() => guest.store8(mapping.address, 1))
        // The kernel was asked about it, which leaves no copy behind.
        view[0] = round
        expect(guest.load8(mapping.address)).toBe(round)
        expectTrap(() => guest.load8(empty.address))
        for (const { address } of slides) {
          if (round % 3 !== 0) expectTrap(() => guest.store8(address, 1))
          expectTrap(() => guest.load8(address + 3 * HOST_PAGE))
        }
      }
    }
  )

  test('shows no old bytes in the rest', async () => {
    const { guarded, guest } = await makeOwn()
    const region = makeRegion()
    const window = guarded.window({ byteLength: 4 * HOST_PAGE, at: WASM_PAGE })
    window.slide(region, 0)
    window.slide(region, 0, { byteLength: 10 })
    guest.grow(1)
    expect(guest.sum(window.address + HOST_PAGE, window.address + window.byteLength)).toBe(0n)
  })
})

describe('after unmap', () => {
  test('nothing can be shown, and the object says so', async () => {
    const { guarded, guest } = await makeOwn()
    const region = makeRegion()
    const window = guarded.window({ byteLength: 2 * HOST_PAGE })
    window.slide(region, 10)
    window.unmap()
    window.unmap()
    window[Symbol.dispose]()
    expect(window).toMatchObject({
      unmapped: true,
      region: null,
      shownBytes: 0,
      byteLength: 2 * HOST_PAGE
    })
    for (const call of [
      () => window.slide(region, 0),
      () => window.slide(null),
      () => window.source(region),
      () => window.chunks(region)
    ]) {
      expectError(thrownBy(call), { code: 'ERR_HOSTMAP_WINDOW_UNMAPPED', says: /unmapped/ })
    }
    expect(guest.sum(window.address, window.address + window.byteLength)).toBe(0n)
    guest.store8(window.address, 1)
    expect(inspect(window)).toMatch(/^Window .*unmapped: true/s)
  })

  test('by Symbol.dispose', async () => {
    const { guarded } = await makeOwn()
    const window = guarded.window({ byteLength: 2 * HOST_PAGE })
    window[Symbol.dispose]()
    expect(window.unmapped).toBe(true)
  })

  test('another window in its place is not touched by it', async () => {
    const { guarded, guest } = await makeOwn()
    const region = makeRegion()
    const first = guarded.window({ byteLength: 2 * HOST_PAGE, at: 0 })
    first.unmap()
    const second = guarded.window({ byteLength: 2 * HOST_PAGE, at: 0 })
    second.slide(region, 0)
    first.unmap()
    expectError(
      thrownBy(() => first.slide(region, HOST_PAGE)),
      { code: 'ERR_HOSTMAP_WINDOW_UNMAPPED' }
    )
    expect(guest.load8(0)).toBe(contents[0])
  })
})

describe('a region', () => {
  test('that is closed while it is shown stays there, and is gone when the window slides on', async () => {
    const { guarded, guest } = await makeOwn()
    const window = guarded.window({ byteLength: 4 * HOST_PAGE })
    for (const leave of [
      () => window.slide(null),
      () => window.slide(makeRegion(), 0),
      () => window.unmap()
    ]) {
      const region = HostRegion.copyFrom(contents, { name: 'closed while shown' })
      window.slide(region, 0)
      const shown = window.slide(region, 5 * HOST_PAGE + 5)
      region.close()
      expectShown({ window, guest, guarded }, shown, region, contents, 5 * HOST_PAGE + 5)
      expectTrap(() => guest.store8(shown.address, 1))
      expectError(
        thrownBy(() => window.slide(region, 0)),
        { code: 'ERR_HOSTMAP_REGION_CLOSED' }
      )
      expectShown({ window, guest, guarded }, shown, region, contents, 5 * HOST_PAGE + 5)
      leave()
      expect(mappingsNamed('/memfd:closed while shown')).toEqual([])
      expect(countOpen('/memfd:closed while shown')).toBe(0)
    }
  })

  test('that is closed while nothing shows it any more leaves nothing', async () => {
    const { guarded } = await makeOwn()
    const window = guarded.window({ byteLength: 4 * HOST_PAGE })
    const region = HostRegion.copyFrom(contents, { name: 'shown before' })
    window.slide(region, 0)
    window.slide(null)
    region.close()
    expect(mappingsNamed('/memfd:shown before')).toEqual([])
  })
})

describe('faults', () => {
  // Each in a process of its own: they give warnings.
  const faulty = (body, args) =>
    inChild(
      `async support => {
        const { hostmap, probe, args } = support
        const { HostRegion, GuardedMemory } = hostmap
        const page = hostmap.limits().pageSize
        const warned = support.watchWarnings()
        const told = () => warned.until(1)
        const guarded = new GuardedMemory({ initial: 8, maximum: 64 })
        const guest = await probe(guarded.memory)
        const bytes = () => new Uint8Array(guarded.buffer)
        const traps = call => {
          try {
            call()
            return false
          } catch (error) {
            return error instanceof WebAssembly.RuntimeError
          }
        }
        const region = HostRegion.copyFrom(Buffer.alloc(20 * page, 1), { name: 'dataset' })
        const intact = () => Buffer.from(region.view()).every(byte => byte === 1)
        return (${body})({ ...support, told })
      }`,
      { args }
    )
  /* global region, guarded, guest, page, bytes, traps, intact */

  test('a write of JavaScript to a readonly window is counted, and gone after a slide', async () => {
    const seen = await faulty(async ({ told }) => {
      const window = guarded.window({ byteLength: 4 * page })
      const { address } = window.slide(region, 3 * page + 10)
      bytes()[address + page] = 9
      const first = {
        strayWrites: window.strayWrites,
        last: window.lastFault,
        read: bytes()[address + page]
      }
      window.slide(region, 9 * page)
      const elsewhere = bytes()[window.address + page + 10]
      window.slide(region, 3 * page + 10)
      const back = bytes()[address + page]
      bytes()[window.address] = 9
      const second = { strayWrites: window.strayWrites, last: window.lastFault }
      window.unmap()
      const after = { strayWrites: window.strayWrites, last: window.lastFault }
      const codes = (await told()).map(({ code }) => code)
      return {
        page,
        address,
        at: window.address,
        first,
        elsewhere,
        back,
        second,
        after,
        intact: intact(),
        codes
      }
    })
    const { page, address, at } = seen
    const fault = { operation: 'write', cause: 'readonly', outcome: 'private-page' }
    expect(seen).toMatchObject({
      first: {
        strayWrites: 1,
        last: { ...fault, address: address + page, byteOffset: 4 * page + 10 },
        read: 9
      },
      elsewhere: 1,
      back: 1,
      second: { strayWrites: 2, last: { ...fault, address: at, byteOffset: 3 * page } },
      intact: true,
      codes: ['HOSTMAP_STRAY_WRITE']
    })
    expect(seen.after).toEqual(seen.second)
  })

  test('a store of the module is told with the byte of the region, right after a slide', async () => {
    const seen = await faulty(() => {
      const window = guarded.window({ byteLength: 4 * page })
      return [0, 5 * page, 5 * page + 123, 16 * page].map(byteOffset => {
        const { address } = window.slide(region, byteOffset)
        const trapped = traps(() => guest.store8(address + 7, 1))
        const { lastFault, strayWrites } = window
        return { trapped, strayWrites, lastFault, byteOffset, address }
      })
    })
    for (const { trapped, strayWrites, lastFault, byteOffset, address } of seen) {
      expect({ trapped, strayWrites }).toEqual({ trapped: true, strayWrites: 0 })
      expect(lastFault).toEqual({
        address: address + 7,
        byteOffset: byteOffset + 7,
        operation: 'write',
        cause: 'readonly',
        outcome: 'trap'
      })
    }
  })

  test('the last fault stays what it was when the window slides on', async () => {
    const seen = await faulty(() => {
      const window = guarded.window({ byteLength: 4 * page })
      const other = HostRegion.copyFrom(Buffer.alloc(20 * page, 2))
      window.slide(region, 3 * page + 10)
      traps(() => guest.store8(window.address + page, 1))
      const faults = [window.lastFault]
      for (const leave of [
        () => window.slide(region, 9 * page),
        () => window.slide(other, 16 * page),
        () => window.slide(null),
        () => window.unmap()
      ]) {
        leave()
        faults.push(window.lastFault)
      }
      return { faults, at: window.address, page }
    })
    const expected = {
      address: seen.at + seen.page,
      byteOffset: 4 * seen.page,
      operation: 'write',
      cause: 'readonly',
      outcome: 'trap'
    }
    expect(seen.faults).toEqual(Array(5).fill(expected))
  })

  test("a load of the module past what is shown traps, with the cause 'past-end'", async () => {
    const seen = await faulty(() => {
      const window = guarded.window({ byteLength: 4 * page })
      const read = traps(() => guest.load8(window.address))
      const empty = { faults: window.faults, last: window.lastFault }
      window.slide(region, 19 * page)
      const at = window.address + 2 * page + 5
      const write = traps(() => guest.store8(at, 1))
      return {
        read,
        empty,
        write,
        faults: window.faults,
        last: window.lastFault,
        at,
        address: window.address
      }
    })
    expect(seen).toMatchObject({
      read: true,
      empty: {
        faults: 1,
        last: { address: seen.address, operation: 'read', cause: 'past-end', outcome: 'trap' }
      },
      write: true,
      faults: 2,
      last: { address: seen.at, operation: 'write', cause: 'past-end', outcome: 'trap' }
    })
  })

  test('a read of JavaScript past what is shown finds zeros and is counted, and the next slide protects it again', async () => {
    const seen = await faulty(async ({ told }) => {
      const window = guarded.window({ byteLength: 4 * page })
      window.slide(region, 0)
      window.slide(region, 19 * page)
      const at = window.address + 2 * page
      const read = Array.from(
        bytes().subarray(window.address + page, window.address + 4 * page)
      ).every(byte => byte === 0)
      const first = {
        faults: window.faults,
        strayWrites: window.strayWrites,
        last: window.lastFault
      }
      const warnings = await told()
      bytes()[at] = 7
      window.slide(region, 19 * page + 1)
      const trapped = traps(() => guest.load8(at))
      const zero = bytes()[at]
      return { read, first, warnings, trapped, zero, address: window.address, page }
    })
    expect(seen).toMatchObject({
      read: true,
      first: {
        faults: 1,
        last: {
          address: seen.address + seen.page,
          byteOffset: 20 * seen.page,
          operation: 'read',
          cause: 'past-end',
          outcome: 'zeros'
        }
      },
      trapped: true,
      zero: 0
    })
    // It is nobody's file that got shorter.
    for (const { message } of seen.warnings) expect(message).not.toMatch(/file get shorter/)
  })

  test('of a file that got shorter are told as those of that file, whatever is shown by then', async () => {
    const seen = await faulty(
      async ({ require, args: file, told }) => {
        const cut = HostRegion.open(file)
        const window = guarded.window({ byteLength: 4 * page })
        window.slide(cut, 2 * page)
        require('node:fs').truncateSync(file, 3 * page)
        const at = window.address + page
        const trapped = traps(() => guest.load8(at))
        const first = window.lastFault
        const read = [bytes()[window.address], bytes()[at]]
        const second = window.lastFault
        const codes = (await told()).map(({ code }) => code)
        window.slide(region, 0)
        return {
          trapped,
          first,
          read,
          second,
          codes,
          later: window.lastFault,
          faults: window.faults,
          at,
          page
        }
      },
      directory.file(Buffer.alloc(8 * HOST_PAGE, 3))
    )
    const fault = {
      address: seen.at,
      byteOffset: 3 * seen.page,
      operation: 'read',
      cause: 'file-shrunk'
    }
    expect(seen).toMatchObject({
      trapped: true,
      first: { ...fault, outcome: 'trap' },
      read: [3, 0],
      second: { ...fault, outcome: 'zeros' },
      codes: ['HOSTMAP_MISSING_PAGE'],
      faults: 2
    })
    // A memfd is shown by then; what happened was no lack of memory.
    expect(seen.later).toMatchObject({ address: seen.at, byteOffset: 3 * seen.page })
    expect(['file-shrunk', 'unavailable']).toContain(seen.later.cause)
  })

  test('a page of zeros that stands for a missing one is gone after a slide', async () => {
    const seen = await faulty(
      ({ require, args: file }) => {
        const fs = require('node:fs')
        const cut = HostRegion.open(file)
        const window = guarded.window({ byteLength: 4 * page })
        window.slide(cut, 2 * page)
        fs.truncateSync(file, 3 * page)
        const zero = bytes()[window.address + page]
        fs.truncateSync(file, 8 * page)
        const fd = fs.openSync(file, 'r+')
        fs.writeSync(fd, Buffer.alloc(page, 4), 0, page, 3 * page)
        window.slide(cut, 2 * page)
        return [zero, bytes()[window.address + page], bytes()[window.address]]
      },
      directory.file(Buffer.alloc(8 * HOST_PAGE, 3))
    )
    expect(seen).toEqual([0, 4, 3])
  })
})

describe('64-bit', () => {
  const WASM_PAGES_OF_5_GIB = (5 * GiB) / WASM_PAGE
  const makeLarge = async () => {
    const guarded = new GuardedMemory({
      initial: WASM_PAGES_OF_5_GIB,
      maximum: WASM_PAGES_OF_5_GIB + 100,
      address: 'i64'
    })
    return { guarded, guest: await probe(guarded.memory, { address: 'i64' }) }
  }

  test64('a window above 4 GiB, and one across that border', async () => {
    const { guarded, guest } = await makeLarge()
    const region = makeRegion()
    for (const at of [
      BigInt(4 * GiB - 2 * HOST_PAGE),
      BigInt(5 * GiB - 4 * HOST_PAGE),
      undefined
    ]) {
      const window = guarded.window({ byteLength: 4 * HOST_PAGE, at })
      expect(window.pointer).toBe(at ?? BigInt(5 * GiB))
      for (const byteOffset of [0, 6 * HOST_PAGE + 1, contents.length - 1]) {
        const shown = window.slide(region, byteOffset)
        expectShown({ window, guest, guarded }, shown, region, contents, byteOffset)
        expectTrap(() => guest.store8(shown.address, 1))
      }
      window.unmap()
    }
  })

  test64('a window of more than 4 GiB', async () => {
    const { guarded, guest } = await makeLarge()
    const byteLength = 4 * GiB + 8 * HOST_PAGE
    const window = guarded.window({ byteLength, at: WASM_PAGE })
    const path = directory.sparse(6 * GiB, {
      [HOST_PAGE]: Buffer.from('first'),
      [byteLength + HOST_PAGE - 4]: Buffer.from('last')
    })
    const region = keep(HostRegion.open(path))
    const { address, byteLength: shownBytes } = window.slide(region, HOST_PAGE)
    expect(shownBytes).toBe(byteLength)
    expect(guest.bytes(address, 5).toString()).toBe('first')
    expect(guest.bytes(address + byteLength - 4, 4).toString()).toBe('last')
    window.slide(region, 6 * GiB - HOST_PAGE)
    expectTrap(() => guest.load8(address + byteLength - 4))
  })
})

test('parts far past 4 GiB of a region show in a small window', async () => {
  const { guarded, guest } = await makeOwn()
  const size = 3 * 2 ** 40 + 5
  const marks = [0, 4 * GiB - 3, 5 * GiB, 2 ** 40 - 3, size - 6]
  const islands = Object.fromEntries(marks.map((at, i) => [at, Buffer.from(`mark ${i}`)]))
  const window = guarded.window({ byteLength: WASM_PAGE })
  const memfd = keep(HostRegion.allocate(size))
  for (const [at, mark] of Object.entries(islands))
    fs.writeSync(fdOf(memfd), mark, 0, mark.length, Number(at))
  for (const region of [keep(HostRegion.open(directory.sparse(size, islands))), memfd]) {
    for (const [i, at] of marks.entries()) {
      const { address, byteLength } = window.slide(region, at)
      expect(guest.bytes(address, 6).toString()).toBe(`mark ${i}`)
      expect(byteLength).toBe(Math.min(size - at, WASM_PAGE - (at % HOST_PAGE)))
    }
  }
})

describe('a shared memory', () => {
  test('in which a worker slides while a module reads on this thread: each word is old or new', async () => {
    const guarded = new GuardedMemory({ initial: 16, maximum: 16, shared: true })
    const byteLength = 32 * HOST_PAGE
    const half = byte => Buffer.alloc(byteLength, byte)
    const region = keep(HostRegion.copyFrom(Buffer.concat([half(1), half(2)])))
    const binary = await assemble(`(module
      (import "env" "memory" (memory 0 65536 shared))
      (func $one (param $word i64) (result i32)
        (i32.or (i64.eq (local.get $word) (i64.const 0x0101010101010101))
                (i64.eq (local.get $word) (i64.const 0x0202020202020202))))
      ;; How many words of [p, end) are neither of the two.
      (func (export "strange") (param $p i32) (param $end i32) (result i32) (local $count i32)
        (loop $next
          (if (i32.eqz (call $one (i64.load (local.get $p))))
            (then (local.set $count (i32.add (local.get $count) (i32.const 1)))))
          (local.set $p (i32.add (local.get $p) (i32.const 8)))
          (br_if $next (i32.lt_u (local.get $p) (local.get $end))))
        (local.get $count)))`)
    const env = { memory: guarded.memory }
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(binary), { env })

    const worker = startWorker()
    const address = await worker.run(
      ({ state, hostmap }, { memory, fd, byteLength }) => {
        state.region = hostmap.HostRegion.fromFd(fd)
        state.window = hostmap.GuardedMemory.from(memory).window({ byteLength, at: 65536 })
        state.window.slide(state.region, 0)
        return state.window.address
      },
      { memory: guarded.memory, fd: fdOf(region), byteLength }
    )
    // Not ours to slide: here it is only known that the space is taken.
    expect(guarded.layout().ranges.find(({ start }) => start === address)).toMatchObject({
      kind: 'mapped',
      end: address + byteLength,
      region: null
    })
    expectError(
      thrownBy(() => guarded.window({ byteLength, at: address })),
      { code: 'ERR_HOSTMAP_OVERLAP' }
    )

    let sliding = true
    const slides = worker
      .run(({ state }, byteLength) => {
        for (let i = 0; i < 3000; i++) state.window.slide(state.region, (i % 2) * byteLength)
        return 3000
      }, byteLength)
      .finally(() => (sliding = false))
    let strange = 0
    let scans = 0
    do {
      for (let i = 0; i < 50; i++) {
        strange += exports.strange(address, address + byteLength)
        const word = new BigInt64Array(guarded.buffer, address, 1)[0]
        if (word !== 0x0101010101010101n && word !== 0x0202020202020202n) strange++
        scans++
      }
      await new Promise(resolve => setImmediate(resolve))
    } while (sliding)
    expect(await slides).toBe(3000)
    expect(scans).toBeGreaterThan(0)
    expect(strange).toBe(0)
  })

  // What is read is right, or is not there: by a trap in the module, by zeros in JavaScript.
  test.each(['trap', 'zeros'])(
    "in which a worker shortens and empties it meanwhile: no crash, rest '%s'",
    async rest => {
      const seen = await inChild(
        async ({ hostmap, probe, require, fdOf, args: rest }) => {
          const { TestWorker } = require('./worker')
          const page = hostmap.limits().pageSize
          const guarded = new hostmap.GuardedMemory({ initial: 16, maximum: 16, shared: true })
          const guest = await probe(guarded.memory)
          const bytes = new Uint8Array(guarded.buffer)
          const region = hostmap.HostRegion.copyFrom(Buffer.alloc(16 * page, 7))
          process.on('warning', () => {})
          const worker = new TestWorker()
          const address = await worker.run(
            ({ state, hostmap }, { memory, fd, page, rest }) => {
              process.on('warning', () => {})
              state.region = hostmap.HostRegion.fromFd(fd)
              state.window = hostmap.GuardedMemory.from(memory).window({
                byteLength: 8 * page,
                at: 65536,
                rest
              })
              return state.window.address
            },
            { memory: guarded.memory, fd: fdOf(region), page, rest }
          )
          let sliding = true
          const slides = worker
            .run(({ state }, page) => {
              for (let i = 0; i < 2000; i++) {
                state.window.slide(state.region, (i % 8) * page)
                state.window.slide(state.region, i % page, { byteLength: 1 + (i % 4) * page })
                state.window.slide(null)
              }
              return state.window.faults
            }, page)
            .finally(() => (sliding = false))
          const outcomes = { right: 0, trap: 0, zero: 0, wrong: 0 }
          const count = byte => outcomes[byte === 7 ? 'right' : byte === 0 ? 'zero' : 'wrong']++
          for (let i = 0; sliding; i++) {
            for (let j = 0; j < 200; j++) {
              const at = address + ((i + j) % 8) * page
              try {
                count(guest.load8(at))
              } catch (error) {
                if (!(error instanceof WebAssembly.RuntimeError)) throw error
                outcomes.trap++
              }
              if (j % 20 === 0) count(bytes[at])
            }
            await new Promise(resolve => setImmediate(resolve))
          }
          await slides
          await worker.end()
          // The window is empty. What JavaScript's reads left unprotected is protected again, and
          // V8 still takes traps for what they are.
          guarded.layout()
          let last
          try {
            last = guest.load8(address)
          } catch (error) {
            last = error.name
          }
          return { ...outcomes, last }
        },
        { args: rest }
      )
      expect(seen).toMatchObject({ wrong: 0 })
      expect(seen.right + seen.zero + seen.trap).toBeGreaterThan(0)
      expect(seen.last).toBe(rest === 'trap' ? 'RuntimeError' : 0)
      if (rest === 'zeros') expect(seen.trap).toBe(0)
    }
  )
})
