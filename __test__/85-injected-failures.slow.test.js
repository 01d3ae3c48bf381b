'use strict'

// Each system call fails once, in a build that can be told to. Whatever fails, the error names the
// call, nothing is left behind, and the next try works.

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { temporaryDirectory } = require('./support/files')
const { build, hasCargo, inChild } = require('./support/injected')
const { skipUnless } = require('./support/skip')

const directory = temporaryDirectory()

// Nothing of it can be built without Rust, which a user of a tarball needs not have.
skipUnless('needs Cargo', hasCargo).describe('when a system call fails', () => {
  beforeAll(() => void build(), 600_000)

  test('making a region leaves no descriptor', () => {
    const { outcomes, filesBefore, filesAfter } = inChild(() => {
      /* global hostmap, failing, files, mapped, native, EIO, EACCES, ENOMEM */
      const { HostRegion } = hostmap
      const bytes = Buffer.alloc(100, 1)
      HostRegion.copyFrom(bytes).close()
      const filesBefore = files()
      const outcomes = [
        ['memfd_create', () => HostRegion.allocate(1)],
        ['ftruncate', () => HostRegion.allocate(1)],
        ['fcntl', () => HostRegion.allocate(1)],
        ['fstat', () => HostRegion.allocate(1)],
        ['pwrite', () => HostRegion.copyFrom(bytes)],
        ['open', () => HostRegion.open(process.execPath)],
        ['fstat', () => HostRegion.open(process.execPath)],
        ['fcntl', () => HostRegion.open(process.execPath)],
        ['fcntl', () => HostRegion.fromFd(0)]
      ].map(([syscall, call]) => [syscall, failing(syscall, 0, EIO, call)])
      return { outcomes, filesBefore, filesAfter: files() }
    })
    for (const [syscall, outcome] of outcomes) {
      expect(outcome).toMatchObject({ went: true, errno: -5, syscall })
      expect(outcome.code).toMatch(/^ERR_HOSTMAP_/)
    }
    expect(filesAfter).toBe(filesBefore)
  })

  test('a module that there is no memory for is refused, by each call that reads it', () => {
    const { sync, later } = inChild(async () => {
      const { exposeState, instrumentGrowth, InstancePool } = hostmap
      // A memory, a mutable global, and a function that grows the memory.
      const hex =
        '0061736d010000000104016000000302010005030100010606017f0141000b0a09010700410140001a0b'
      const bytes = Buffer.from(hex, 'hex')
      const sync = []
      for (const call of [exposeState, instrumentGrowth]) {
        for (let before = 0; ; before++) {
          const outcome = failing('malloc', before, ENOMEM, () => call(bytes))
          if (!outcome.went) break
          sync.push(outcome.code)
        }
        call(bytes)
      }
      native.injectFailure('malloc', 0, ENOMEM)
      const later = []
      await InstancePool.create(bytes).catch(error => later.push(error.code))
      later.push(native.forgetFailures())
      ;(await InstancePool.create(bytes, { growth: {} })).close()
      return { sync, later }
    })
    expect(sync.length).toBeGreaterThan(10)
    expect(new Set(sync)).toEqual(new Set(['ERR_HOSTMAP_OUT_OF_MEMORY']))
    expect(later).toEqual(['ERR_HOSTMAP_OUT_OF_MEMORY', false])
  })

  test('a memory that can not be placed is made where V8 likes', () => {
    const seen = inChild(() => {
      const { GuardedMemory } = hostmap
      const kept = [new GuardedMemory({ initial: 1 })]
      const make = () => kept.push(new GuardedMemory({ initial: 1 }))
      // The first trial for a place; and the second, where there is one.
      const [first, second] = [0, 1].map(before => failing('mmap_filler', before, ENOMEM, make))
      const made = kept.map(({ byteLength, guarded }) => [byteLength, guarded])
      return { went: first.went, codes: [first.code ?? null, second.code ?? null], made }
    })
    expect(seen).toEqual({ went: true, codes: [null, null], made: Array(3).fill([65536, true]) })
  })

  test('map past the end keeps the space that the memory grew by for the next map', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
      const guarded = new GuardedMemory({ initial: 1, maximum: 10 })
      const before = mapped()
      const outcome = failing('mmap', 0, ENOMEM, () => guarded.map(region))
      const left = mapped() - before
      const { byteLength } = guarded
      const mapping = guarded.map(region)
      const layout = guarded.layout().ranges.filter(({ kind }) => kind === 'mapped').length
      return {
        outcome,
        left,
        byteLength,
        again: guarded.byteLength,
        address: mapping.address,
        layout
      }
    })
    expect(seen).toMatchObject({
      outcome: { went: true, code: 'ERR_HOSTMAP_OUT_OF_MEMORY', errno: -12, syscall: 'mmap' },
      left: 0,
      byteLength: 131072,
      again: 131072,
      address: 65536,
      layout: 1
    })
  })

  test('map in a block gives the block back', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const region = HostRegion.allocate(100)
      const guarded = new GuardedMemory({ initial: 4 })
      const freed = []
      const allocator = { malloc: () => 1024, free: address => freed.push(address) }
      const outcome = failing('mmap', 0, ENOMEM, () => guarded.map(region, { allocator }))
      return { outcome, freed }
    })
    expect(seen).toEqual({
      outcome: expect.objectContaining({ went: true, errno: -12 }),
      freed: [1024]
    })
  })

  test('map or window in a block of a hidden memory that malloc has grown gives the block back', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const region = HostRegion.allocate(65536)
      const memory = new WebAssembly.Memory({ initial: 1, maximum: 64 })
      const guarded = GuardedMemory.from(() => memory.buffer)
      const freed = []
      const allocator = {
        malloc: () => memory.grow(4) * 65536,
        free: address => freed.push(address / 65536)
      }
      const outcomes = [
        ['mmap', () => guarded.map(region, { allocator })],
        ['mmap', () => guarded.map(region, { allocator, strict: true })],
        ['mmap', () => guarded.window({ byteLength: 65536, allocator, strict: true })]
      ].map(([syscall, call]) => failing(syscall, 0, ENOMEM, call))
      const kinds = guarded.layout().ranges.map(({ kind }) => kind)
      const mapping = guarded.map(region, { allocator })
      return {
        outcomes,
        freed: [...freed],
        mapped: kinds.includes('mapped'),
        at: mapping.address / 65536
      }
    })
    expect(seen).toEqual({
      outcomes: Array(3).fill(expect.objectContaining({ went: true, errno: -12 })),
      freed: [1, 5, 9],
      mapped: false,
      at: 13
    })
  })

  test("unmap of an engine's block leaves all as it was, what was written too, and works the next time", () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
      const guarded = new GuardedMemory({ initial: 4 })
      const bytes = new Uint8Array(guarded.buffer)
      const allocator = { malloc: () => 65536, free() {}, owner: 'engine' }
      const picture = () => [65536, 65537, 65536 + 4096, 65536 + 8192].map(at => bytes[at])
      const calls = [
        'mprotect',
        'mmap',
        'mremap',
        'ioctl_pagemap',
        'memfd_create',
        'pwrite',
        'pread'
      ]
      return calls.map(syscall => {
        bytes.fill(0, 65536)
        const mapping = guarded.map(region, { allocator })
        bytes[65537] = 1
        bytes[65536 + 8192] = 2
        const outcome = failing(syscall, 0, ENOMEM, () => mapping.unmap())
        const during = { bytes: picture(), unmapped: mapping.unmapped }
        if (!mapping.unmapped) bytes[65536 + 4096] = 3
        mapping.unmap()
        const after = { bytes: picture(), unmapped: mapping.unmapped, mapped: mapped() }
        return { syscall, went: outcome.went, failed: outcome.errno, during, after }
      })
    })
    for (const { syscall, went, failed, during, after } of seen) {
      expect([syscall, went]).toEqual([syscall, true])
      // Without the scan, the page map is read.
      const works = syscall === 'ioctl_pagemap'
      expect(failed).toBe(works ? undefined : -12)
      expect(during).toEqual({ bytes: works ? [7, 1, 0, 2] : [7, 1, 7, 2], unmapped: works })
      expect(after).toEqual({ bytes: [7, 1, works ? 0 : 3, 2], unmapped: true, mapped: 0 })
    }
  })

  test('unmap leaves the mapping as it was, and works the next time', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
      const guarded = new GuardedMemory({ initial: 4 })
      const mapping = guarded.map(region, { at: 65536 })
      const outcome = failing('mmap', 0, ENOMEM, () => mapping.unmap())
      const bytes = new Uint8Array(guarded.buffer)
      const during = { byte: bytes[65536], unmapped: mapping.unmapped }
      mapping.unmap()
      return { outcome, during, after: { byte: bytes[65536], unmapped: mapping.unmapped } }
    })
    expect(seen).toEqual({
      outcome: expect.objectContaining({ went: true, errno: -12, syscall: 'mmap' }),
      during: { byte: 7, unmapped: false },
      after: { byte: 0, unmapped: true }
    })
  })

  test('seal leaves views writable and shared', () => {
    const seen = inChild(() => {
      const { HostRegion } = hostmap
      const region = HostRegion.allocate(100)
      const [one, two] = [new Uint8Array(region.view()), new Uint8Array(region.view())]
      // The second view's turn, and the seal itself.
      const outcomes = [failing('mmap', 1, ENOMEM, () => region.seal())]
      one[0] = 1
      const first = two[0]
      region.seal()
      return { outcomes, first, sealed: region.sealed }
    })
    expect(seen).toEqual({
      outcomes: [expect.objectContaining({ went: true, errno: -12 })],
      first: 1,
      sealed: true
    })
  })

  test('bytes are had as a whole or not at all', () => {
    const seen = inChild(() => {
      const { HostRegion } = hostmap
      const path = `/tmp/hostmap-inject-bytes-${process.pid}`
      fs.writeFileSync(path, Buffer.alloc(100_000, 7))
      const regions = [
        HostRegion.open(path, { writable: true }),
        HostRegion.copyFrom(Buffer.alloc(100_000, 7))
      ]
      fs.unlinkSync(path)
      const maps = () =>
        fs.readFileSync('/proc/self/maps', 'latin1').match(/hostmap-inject|memfd:/g)
      const state = region => JSON.stringify([files(), maps()?.length ?? 0, region.holders])
      const outcomes = []
      for (const region of regions) {
        for (const access of ['private', 'readonly', 'shared']) {
          for (const syscall of ['fcntl', 'fstat', 'mmap', 'madvise']) {
            for (let at = 0; ; at++) {
              const before = state(region)
              let bytes
              const outcome = failing(syscall, at, ENOMEM, () => {
                bytes = region.bytes({ access, byteOffset: 4097 })
              })
              if (!outcome.went) break
              const isRight = bytes === undefined ? state(region) === before : bytes[95_902] === 7
              outcomes.push({ syscall, at, ...outcome, isRight, thrown: bytes === undefined })
              if (at > 50) throw new Error('no end of calls')
            }
          }
        }
      }
      return outcomes
    })
    for (const { isRight, thrown, ...outcome } of seen) {
      expect({ ...outcome, isRight }).toMatchObject({ isRight: true })
      if (!thrown) continue
      expect(outcome).toMatchObject({ errno: -12 })
      expect(outcome.code).toMatch(/^ERR_HOSTMAP_(OUT_OF_MEMORY|OPEN_FAILED|MAP_FAILED)$/)
    }
    const thrown = new Set(seen.filter(({ thrown }) => thrown).map(({ syscall }) => syscall))
    expect([...thrown]).toEqual(expect.arrayContaining(['mmap', 'fstat']))
  })

  test('a seal that fails leaves each Buffer as it was', () => {
    const seen = inChild(() => {
      const { HostRegion } = hostmap
      const region = HostRegion.copyFrom(Buffer.alloc(100_000, 7))
      const shared = [0, 1].map(() => region.bytes({ access: 'shared' }))
      const mine = region.bytes()
      mine[0] = 1
      // The second one's turn, then the seal itself.
      const outcomes = ['mmap', 'fcntl'].map(syscall => {
        for (let at = 1; ; at++) {
          const outcome = failing(syscall, at, ENOMEM, () => region.seal())
          if (outcome.code !== undefined || !outcome.went) return outcome
          if (at > 20) throw new Error('no seal fails')
        }
      })
      const between = { sealed: region.sealed, mine: mine[0] }
      if (!region.sealed) {
        shared[0][5] = 2
        between.other = shared[1][5]
      }
      region.seal()
      mine[1] = 3
      return { outcomes, between, sealed: region.sealed, mine: [mine[0], mine[1], mine[5]] }
    })
    expect(seen).toEqual({
      outcomes: [
        expect.objectContaining({ went: true, errno: -12, syscall: 'mmap' }),
        expect.anything()
      ],
      between: expect.objectContaining({ mine: 1 }),
      sealed: true,
      mine: [1, 3, seen.between.other ?? 7]
    })
  })

  test('close detaches Buffers though their pages can not be replaced, and closes', () => {
    const seen = inChild(() => {
      const { HostRegion } = hostmap
      const region = HostRegion.copyFrom(Buffer.alloc(100_000, 7))
      const [view, bytes] = [region.view(), region.bytes()]
      const filesBefore = files()
      const outcome = failing('mmap', 0, ENOMEM, () => region.close({ views: 'detach' }))
      return {
        outcome,
        lengths: [view.byteLength, bytes.length],
        closed: region.closed,
        files: files() - filesBefore
      }
    })
    expect(seen).toEqual({ outcome: { went: true }, lengths: [0, 0], closed: true, files: -1 })
  })

  test('what only gives advice may fail', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const region = HostRegion.allocate(65536)
      const guarded = new GuardedMemory({ initial: 4, maximum: 10 })
      const mapping = guarded.map(region, { at: 0 })
      const outcomes = [
        failing('madvise', 0, ENOMEM, () => guarded.map(region, { at: 65536, access: 'private' })),
        failing('madvise', 0, ENOMEM, () => guarded.map(region, { at: 131072, populate: true })),
        failing('madvise', 0, ENOMEM, () => mapping.unmap()),
        // Read-only mappings are protected again at the next call.
        failing('mprotect', 0, ENOMEM, () => guarded.grow(1))
      ]
      guarded.layout()
      return {
        outcomes,
        mapped: guarded.layout().ranges.filter(({ kind }) => kind === 'mapped').length
      }
    })
    for (const outcome of seen.outcomes) expect(outcome).toEqual({ went: true })
    expect(seen.mapped).toBe(2)
  })

  // Older kernels are not asked by ioctl.
  const [major, minor] = os.release().split('.').map(Number)
  const isAsked = major > 6 || (major === 6 && minor >= 11)
  skipUnless('needs kernel 6.11', isAsked).test(
    'the process map that can not be read is an error, not a guard',
    () => {
      const seen = inChild(() => {
        const { GuardedMemory } = hostmap
        new GuardedMemory({ initial: 1 })
        return failing('ioctl', 0, EIO, () => new GuardedMemory({ initial: 1 }))
      })
      expect(seen).toMatchObject({ went: true, code: 'ERR_HOSTMAP_MEMORY_REFUSED', errno: -5 })
    }
  )

  test('open of a file whose pages can not be made writable leaves no descriptor and no mapping', () => {
    const seen = inChild(() => {
      const { HostRegion } = hostmap
      const path = process.execPath
      HostRegion.open(path).close()
      const maps = () => fs.readFileSync('/proc/self/maps', 'latin1').split(path).length
      const before = [files(), maps()]
      const outcome = failing('mprotect', 0, EACCES, () => HostRegion.open(path))
      return { ...outcome, same: before.join() === [files(), maps()].join() }
    })
    expect(seen).toMatchObject({
      went: true,
      code: 'ERR_HOSTMAP_NOT_A_FILE',
      errno: -13,
      same: true
    })
  })

  test('window opens none, and takes nothing', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const PAGE = hostmap.limits().pageSize
      const region = HostRegion.copyFrom(Buffer.alloc(PAGE, 7))
      const guarded = new GuardedMemory({ initial: 4, maximum: 10 })
      const windows = () => guarded.layout().ranges.filter(({ kind }) => kind === 'mapped').length
      const freed = []
      const allocator = { malloc: () => PAGE, free: address => freed.push(address) }
      const outcomes = [
        failing('mmap', 0, ENOMEM, () => guarded.window({ byteLength: PAGE, at: 0 })),
        failing('mmap', 0, EIO, () => guarded.window({ byteLength: PAGE })),
        failing('mmap', 0, ENOMEM, () => guarded.window({ byteLength: PAGE, allocator }))
      ]
      const left = { windows: windows(), byteLength: guarded.byteLength, freed }
      const opened = [{ at: 0 }, {}, { allocator }].map(options => {
        const window = guarded.window({ byteLength: PAGE, ...options })
        window.slide(region)
        return new Uint8Array(guarded.buffer)[window.address]
      })
      return { outcomes, left, opened, again: guarded.byteLength, windows: windows() }
    })
    expect(seen.outcomes).toEqual([
      { went: true, code: 'ERR_HOSTMAP_OUT_OF_MEMORY', errno: -12, syscall: 'mmap' },
      { went: true, code: 'ERR_HOSTMAP_MAP_FAILED', errno: -5, syscall: 'mmap' },
      { went: true, code: 'ERR_HOSTMAP_OUT_OF_MEMORY', errno: -12, syscall: 'mmap' }
    ])
    expect(seen.left).toMatchObject({ windows: 0, freed: [4096] })
    expect(seen).toMatchObject({ opened: [7, 7, 7], again: seen.left.byteLength, windows: 3 })
  })

  test('slide shows what it was asked for, or what it did before, and works the next time', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const PAGE = hostmap.limits().pageSize
      const bytes = Buffer.alloc(12 * PAGE)
      for (let page = 0; page < 12; page++) bytes.fill(page + 1, page * PAGE, (page + 1) * PAGE)
      const file = `${require('node:os').tmpdir()}/hostmap-inject-${process.pid}`
      fs.writeFileSync(file, bytes)
      const regions = {
        memfd: () => HostRegion.copyFrom(bytes),
        sealed: () => HostRegion.copyFrom(bytes).seal(),
        file: () => HostRegion.open(file)
      }
      const guarded = new GuardedMemory({ initial: 4 })
      const linear = new Uint8Array(guarded.buffer)
      /**
       * The first byte of each page that shows a region, and of each other one that can be read.
       */
      const shown = window => {
        const found = guarded.layout().ranges.find(({ kind }) => kind === 'mapped')
        const end = window.rest === 'zeros' ? window.byteLength : found.windowBytes
        const pages = Array.from(
          { length: end / PAGE },
          (_, page) => linear[window.address + page * PAGE]
        )
        return { pages: pages.join(), shownPages: found.windowBytes / PAGE }
      }
      const calls = [
        ...[0, 1, 2, 3].map(before => ['mmap', before]),
        ...[0, 1, 2].map(before => ['mremap', before]),
        ...[0, 1].map(before => ['madvise', before]),
        ['mprotect', 0],
        ['fcntl', 0]
      ]
      // From 3 of 4 pages to as many, more, fewer, none, and to another region.
      const moves = {
        along: (window, region) => window.slide(region, 5 * PAGE, { byteLength: 3 * PAGE }),
        more: (window, region) => window.slide(region, 5 * PAGE),
        fewer: (window, region) => window.slide(region, 11 * PAGE),
        none: window => window.slide(null),
        other: (window, region, other) => window.slide(other, 5 * PAGE)
      }
      const errors = {}
      const wrong = []
      for (const [kind, make] of Object.entries(regions)) {
        for (const [name, move] of Object.entries(moves)) {
          for (const [access, rest] of [
            ['readonly', 'trap'],
            ['private', 'zeros'],
            ['readonly', 'zeros']
          ]) {
            for (const [syscall, before] of calls) {
              const [region, other] = [make(), make()]
              const window = guarded.window({ byteLength: 4 * PAGE, at: 0, access, rest })
              window.slide(region, PAGE, { byteLength: 3 * PAGE })
              const old = shown(window)
              const outcome = failing(syscall, before, ENOMEM, () => move(window, region, other))
              const now = shown(window)
              const isTold =
                window.shownBytes === now.shownPages * PAGE &&
                (window.region === null) === (now.shownPages === 0)
              move(window, region, other)
              const expected = shown(window)
              const isKept = now.pages === old.pages && now.shownPages === old.shownPages
              // Less was asked for, and the tail was there already.
              const head = Math.min(expected.shownPages, old.shownPages)
              const isPart =
                now.shownPages === head &&
                now.pages
                  .split(',')
                  .every((byte, page) => Number(byte) === (page < head ? page + 2 : 0))
              const isRight = outcome.code
                ? (isKept || isPart) &&
                  outcome.code === 'ERR_HOSTMAP_OUT_OF_MEMORY' &&
                  outcome.errno === -ENOMEM &&
                  outcome.syscall === syscall
                : now.pages === expected.pages && now.shownPages === expected.shownPages
              if (!isRight || !isTold)
                wrong.push({
                  kind,
                  name,
                  access,
                  rest,
                  syscall,
                  before,
                  outcome,
                  old,
                  now,
                  expected
                })
              if (outcome.code)
                errors[`${kind} ${syscall}`] = (errors[`${kind} ${syscall}`] ?? 0) + 1
              window.unmap()
              region.close()
              other.close()
            }
          }
        }
      }
      fs.unlinkSync(file)
      return { wrong, errors }
    })
    expect(seen.wrong).toEqual([])
    expect(Object.keys(seen.errors)).toEqual(
      expect.arrayContaining(['memfd mmap', 'sealed mmap', 'file mmap'])
    )
  })

  test('without stages, files are slid over all the same', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const PAGE = hostmap.limits().pageSize
      const region = HostRegion.open(process.execPath)
      const bytes = new Uint8Array(region.view())
      const guarded = new GuardedMemory({ initial: 4 })
      const window = guarded.window({ byteLength: 2 * PAGE, at: 0 })
      // The trial with one page, by which it is found out whether the kernel can.
      const outcome = failing('mremap', 0, EIO, () => window.slide(region, 0))
      const areas = () =>
        fs
          .readFileSync('/proc/self/maps', 'latin1')
          .split('\n')
          .filter(line => line.endsWith(process.execPath)).length
      const before = areas()
      const equal = [0, 5000, 3 * PAGE].map(byteOffset => {
        const { address, byteLength } = window.slide(region, byteOffset)
        const shown = Buffer.from(guarded.buffer, address, byteLength)
        return shown.equals(bytes.subarray(byteOffset, byteOffset + byteLength))
      })
      const refused = failing('mremap', 0, ENOMEM, () => window.slide(region, PAGE))
      return { outcome, equal, refused, more: areas() - before, byteOffset: window.byteOffset }
    })
    expect(seen).toEqual({
      outcome: { went: true },
      equal: [true, true, true],
      refused: { went: true, code: 'ERR_HOSTMAP_OUT_OF_MEMORY', errno: -12, syscall: 'mremap' },
      more: 0,
      byteOffset: 12288
    })
  })

  test('a step of a source that fails changes nothing, and is done again', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const PAGE = hostmap.limits().pageSize
      const bytes = Buffer.alloc(10 * PAGE + 100)
      for (let at = 0; at < bytes.length; at++) bytes[at] = at % 251
      const file = `${require('node:os').tmpdir()}/hostmap-inject-${process.pid}`
      fs.writeFileSync(file, bytes)
      const guarded = new GuardedMemory({ initial: 4 })
      const results = []
      for (const region of [HostRegion.copyFrom(bytes), HostRegion.open(file)]) {
        const window = guarded.window({ byteLength: 3 * PAGE, at: 0 })
        const source = window.source(region, { overlap: 10, leaveBehind: true })
        const place = () => [source.position, source.start, source.pointer, window.byteOffset]
        const read = []
        for (;;) {
          // Both, so that neither way to show a chunk is left.
          native.injectFailure('mremap', 0, ENOMEM)
          const before = place()
          const { code, syscall } = failing('mmap', 0, ENOMEM, () => source.next())
          const isSame = String(place()) === String(before)
          const byteLength = source.next()
          if (byteLength === 0) break
          const shown = Buffer.from(guarded.buffer, source.pointer, byteLength)
          const isRight = shown.equals(bytes.subarray(source.start, source.position))
          read.push({ code, isCall: ['mmap', 'mremap'].includes(syscall), isSame, isRight })
        }
        // What reads ahead and leaves behind may fail at everything.
        const outcomes = ['madvise', 'fadvise64', 'fcntl'].map(syscall => {
          source.rewind()
          let sum = 0
          const { code } = failing(syscall, 0, EIO, () => {
            while (source.next(0) > 0) sum += source.position - source.start
          })
          return { code, sum }
        })
        results.push({ read, end: source.position, outcomes })
        window.unmap()
      }
      fs.unlinkSync(file)
      return { results, byteLength: bytes.length }
    })
    for (const { read, end, outcomes } of seen.results) {
      expect(read.length).toBeGreaterThan(4)
      const step = { code: 'ERR_HOSTMAP_OUT_OF_MEMORY', isCall: true, isSame: true, isRight: true }
      expect(read).toEqual(read.map(() => step))
      expect(end).toBe(seen.byteLength)
      expect(outcomes).toEqual(outcomes.map(() => ({ sum: seen.byteLength })))
    }
    expect(seen.results).toHaveLength(2)
  })

  test('chunks end with the error of a slide, and the next loop starts anew', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const PAGE = hostmap.limits().pageSize
      const region = HostRegion.copyFrom(Buffer.alloc(5 * PAGE, 7))
      const window = new GuardedMemory({ initial: 4 }).window({ byteLength: 2 * PAGE, at: 0 })
      const progress = []
      const offsets = []
      const outcome = failing('mmap', 1, ENOMEM, () => {
        const onProgress = (done, total) => progress.push([done, total])
        const options = { chunk: PAGE, readAhead: false, onProgress }
        for (const { byteOffset } of window.chunks(region, options)) offsets.push(byteOffset)
      })
      const again = Array.from(
        window.chunks(region, { chunk: PAGE }),
        ({ byteOffset }) => byteOffset / PAGE
      )
      return {
        outcome,
        offsets,
        progress: progress.map(pair => pair.map(bytes => bytes / PAGE)),
        again
      }
    })
    expect(seen).toEqual({
      outcome: { went: true, code: 'ERR_HOSTMAP_OUT_OF_MEMORY', errno: -12, syscall: 'mmap' },
      offsets: [0],
      progress: [[1, 5]],
      again: [0, 1, 2, 3, 4]
    })
  })

  test('a window that can not be unmapped is one still', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const PAGE = hostmap.limits().pageSize
      const region = HostRegion.copyFrom(Buffer.alloc(5 * PAGE, 7))
      const guarded = new GuardedMemory({ initial: 4 })
      const freed = []
      const allocator = { malloc: () => PAGE, free: address => freed.push(address) }
      const window = guarded.window({ byteLength: 2 * PAGE, allocator })
      const source = window.source(region, { chunk: PAGE })
      source.next()
      const byte = () => new Uint8Array(guarded.buffer)[window.address]
      const outcome = failing('mmap', 0, ENOMEM, () => window.unmap())
      const state = () => ({
        unmapped: window.unmapped,
        shown: window.shownBytes / PAGE,
        byte: byte(),
        freed: freed.length
      })
      const before = { ...state(), next: source.next() / PAGE, position: source.position / PAGE }
      window.unmap()
      return { outcome, before, after: state() }
    })
    expect(seen).toEqual({
      outcome: { went: true, code: 'ERR_HOSTMAP_OUT_OF_MEMORY', errno: -12, syscall: 'mmap' },
      before: { unmapped: false, shown: 1, byte: 7, freed: 0, next: 1, position: 2 },
      after: { unmapped: true, shown: 0, byte: 0, freed: 1 }
    })
  })

  // What a kernel without memory leaves: the old pages are gone when it gives up.
  test('a hole is closed before anybody else can be in it', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const PAGE = hostmap.limits().pageSize
      const bytes = Buffer.alloc(8 * PAGE, 7)
      const guarded = new GuardedMemory({ initial: 4 })
      const file = `${require('node:os').tmpdir()}/hostmap-inject-${process.pid}`
      fs.writeFileSync(file, bytes)
      /** Whether each address of the memory is in an area. */
      const isWhole = base => {
        let at = base
        for (const line of fs.readFileSync('/proc/self/maps', 'latin1').split('\n')) {
          const [start, end] = line
            .split(' ')[0]
            .split('-')
            .map(number => parseInt(number, 16))
          if (start <= at && at < end) at = end
        }
        return at >= base + guarded.byteLength
      }
      const mark = HostRegion.copyFrom(Buffer.alloc(PAGE, 1), { name: 'mark' })
      guarded.map(mark, { at: 0 })
      const line = fs
        .readFileSync('/proc/self/maps', 'latin1')
        .split('\n')
        .find(line => line.includes('memfd:mark'))
      const base = parseInt(line, 16)
      const results = [HostRegion.copyFrom(bytes), HostRegion.open(file)].flatMap(region =>
        [0, 1].map(before => {
          const window = guarded.window({ byteLength: 2 * PAGE, at: PAGE })
          window.slide(region, PAGE)
          const { went, code } = failing('hole', before, ENOMEM, () =>
            window.slide(region, 5 * PAGE)
          )
          const whole = isWhole(base)
          window.slide(region, 5 * PAGE)
          const byte = new Uint8Array(guarded.buffer)[window.address]
          window.unmap()
          return { went, code, whole, byte }
        })
      )
      fs.unlinkSync(file)
      return results
    })
    // A file's pages are mapped in the other way then.
    const whole = { whole: true, byte: 7 }
    expect(seen).toEqual([
      { went: true, code: 'ERR_HOSTMAP_OUT_OF_MEMORY', ...whole },
      { went: false, ...whole },
      { went: true, ...whole },
      { went: false, ...whole }
    ])
  })

  test('a window tells what is left of it after a hole', () => {
    const seen = inChild(() => {
      const { HostRegion, GuardedMemory } = hostmap
      const PAGE = hostmap.limits().pageSize
      const region = HostRegion.copyFrom(Buffer.alloc(8 * PAGE, 7), { name: 'left' })
      const guarded = new GuardedMemory({ initial: 4 })
      const told = window => {
        const { region, byteOffset, shownBytes, address } = window
        const range = guarded.layout().ranges.find(({ kind }) => kind === 'mapped')
        const byte = shownBytes > 0 ? new Uint8Array(guarded.buffer)[address + 5] : null
        return {
          name: region?.name ?? null,
          start: [Math.floor(byteOffset / PAGE), byteOffset % PAGE],
          end: (byteOffset + shownBytes) / PAGE,
          inLayout: [range.region?.name ?? null, range.byteOffset / PAGE, range.windowBytes / PAGE],
          byte
        }
      }
      const areas = () => fs.readFileSync('/proc/self/maps', 'latin1').split('\n')
      // To as much, to one page, whose tail comes first, and to nothing.
      return [[5 * PAGE], [7 * PAGE], null].map(to => {
        const window = guarded.window({ byteLength: 3 * PAGE, at: 0 })
        window.slide(region, PAGE + 5, { byteLength: 2 * PAGE })
        const slide = () => (to === null ? window.slide(null) : window.slide(region, ...to))
        const { went, code } = failing('hole', 0, ENOMEM, slide)
        const after = told(window)
        // More than is left, but not all: what is past it is as inaccessible as ever.
        window.slide(region, PAGE, { byteLength: 2 * PAGE })
        // Of one look at the map: V8's threads change it.
        const lines = areas()
        const rest = lines[lines.findIndex(line => line.includes('memfd:left')) + 1]
        window.unmap()
        return { went, code, ...after, rest: rest.split(' ')[1] }
      })
    })
    const failed = { went: true, code: 'ERR_HOSTMAP_OUT_OF_MEMORY', rest: '---p' }
    const nothing = {
      ...failed,
      name: null,
      start: [0, 0],
      end: 0,
      inLayout: [null, 0, 0],
      byte: null
    }
    const onePage = { name: 'left', start: [1, 5], end: 2, inLayout: ['left', 1, 1], byte: 7 }
    expect(seen).toEqual([nothing, { ...failed, ...onePage }, nothing])
  })

  test('a region that can not have huge pages has ordinary ones', () => {
    const seen = inChild(() => {
      const { HostRegion } = hostmap
      const bytes = Buffer.alloc(8 * 2 ** 20, 6)
      // What counting needs, and keeps.
      const first = HostRegion.copyFrom(bytes, { hugePages: true })
      void first.hugePages
      first.close()
      const filesBefore = files()
      const outcomes = []
      // All calls of the first block, and some of the second.
      for (const [syscall, last] of [
        ['mmap', 3],
        ['madvise', 5],
        ['madvise_collapse', 4]
      ]) {
        for (let at = 0; at <= last; at++) {
          let region
          const outcome = failing(
            syscall,
            at,
            ENOMEM,
            () => (region = HostRegion.copyFrom(bytes, { hugePages: true }))
          )
          const { reason } = region.hugePages
          const isRight = Buffer.from(region.view()).equals(bytes)
          region.close()
          outcomes.push({ syscall, at, ...outcome, isRight, reason })
        }
      }
      return { outcomes, left: files() - filesBefore }
    })
    for (const { syscall, at, code, isRight } of seen.outcomes) {
      expect([syscall, at, code, isRight]).toEqual([syscall, at, undefined, true])
    }
    expect(seen.outcomes.some(({ went }) => went)).toBe(true)
    expect(seen.outcomes.some(({ reason }) => reason !== null)).toBe(true)
    expect(seen.left).toBe(0)
  })

  test('a prefetch that fails says so, and the mapping is as it was', () => {
    const seen = inChild(async () => {
      const { GuardedMemory, HostRegion } = hostmap
      const EFAULT = 14
      const mapping = new GuardedMemory({ initial: 1 }).map(
        HostRegion.copyFrom(Buffer.alloc(2 ** 20, 6))
      )
      const outcomes = []
      for (const errno of [ENOMEM, EFAULT]) {
        native.injectFailure('madvise', 0, errno)
        const code = await mapping.prefetch().then(
          () => null,
          error => error.code
        )
        outcomes.push([
          code,
          native.forgetFailures(),
          new Uint8Array(mapping.memory.buffer)[mapping.address]
        ])
      }
      return outcomes
    })
    // Out of memory: pages come when they are touched.
    expect(seen).toEqual([
      [null, false, 6],
      ['ERR_HOSTMAP_READ_FAILED', false, 6]
    ])
  })

  test('a snapshot that can not be taken leaves no descriptor, and the memory as it was', () => {
    const seen = inChild(() => {
      const { GuardedMemory } = hostmap
      const guarded = new GuardedMemory({ initial: 80 })
      const bytes = new Uint8Array(guarded.buffer)
      // Some of it can be huge pages.
      bytes.fill(5, 100, 5_000_000)
      const before = Buffer.from(bytes)
      guarded.snapshot().close()
      const filesBefore = files()
      const outcomes = [
        ['memfd_create', 0],
        ['ftruncate', 0],
        ['fcntl', 0],
        ['fcntl', 1],
        ...[0, 1, 2].map(before => ['pwrite', before]),
        ['ioctl_pagemap', 0],
        ...[0, 1, 2, 3].flatMap(before => [
          ['madvise', before],
          ['madvise_collapse', before],
          ['madvise_discard', before],
          ['mmap', before],
          ['hole', before]
        ])
      ].map(([syscall, at]) => {
        let snapshot
        const outcome = failing(syscall, at, ENOMEM, () => (snapshot = guarded.snapshot()))
        const isRight = Buffer.from(guarded.buffer).equals(before)
        if (snapshot) {
          bytes[5000] = 1
          guarded.restore(snapshot)
        }
        snapshot?.close()
        return {
          syscall,
          ...outcome,
          isRight: isRight && Buffer.from(guarded.buffer).equals(before)
        }
      })
      return { outcomes, left: files() - filesBefore }
    })
    for (const { syscall, isRight, code, errno, syscall: named } of seen.outcomes) {
      expect([syscall, isRight]).toEqual([syscall, true])
      if (code !== undefined)
        expect([code, errno, named]).toEqual(['ERR_HOSTMAP_OUT_OF_MEMORY', -12, syscall])
    }
    const refused = seen.outcomes
      .filter(({ code }) => code !== undefined)
      .map(({ syscall }) => syscall)
    expect(refused).toEqual(
      expect.arrayContaining(['memfd_create', 'ftruncate', 'fcntl', 'pwrite'])
    )
    expect(refused).not.toContain('ioctl_pagemap')
    expect(seen.left).toBe(0)
  })

  test('a restore or reset that fails is done by the next one, and its mappings are known', () => {
    const seen = inChild(() => {
      const { GuardedMemory, HostRegion } = hostmap
      const PAGE = hostmap.limits().pageSize
      const region = HostRegion.copyFrom(Buffer.alloc(4 * PAGE, 7))
      const guarded = new GuardedMemory({ initial: 8 })
      const bytes = new Uint8Array(guarded.buffer)
      guarded.map(region, { at: 0, access: 'private' })
      guarded.map(region, { at: 8 * PAGE })
      guarded.window({ at: 16 * PAGE, byteLength: 4 * PAGE, rest: 'zeros' }).slide(region, PAGE)
      bytes.fill(3, 40 * PAGE, 60 * PAGE)
      bytes[PAGE] = 1
      const snapshot = guarded.snapshot({ keepResidentBytes: 2 * PAGE })
      const before = Buffer.from(bytes)
      guarded.reset()
      const zeros = Buffer.from(bytes)
      const other = guarded.snapshot()
      const dirty = () => {
        for (let page = 0; page < 128; page += 3)
          if (page < 8 || page > 20) bytes[page * PAGE + 9] = 200
      }
      const starts = {
        clean: () => guarded.restore(snapshot),
        other: () => guarded.restore(other),
        unmapped: () => guarded.mappings.forEach(mapping => mapping.unmap()),
        slid: () => {
          guarded.restore(snapshot)
          guarded.mappings[2].slide(region)
        }
      }
      const wrong = []
      const refused = {}
      const calls = [
        'mmap',
        'hole',
        'madvise',
        'madvise_collapse',
        'madvise_discard',
        'mremap',
        'mprotect',
        'ioctl_pagemap',
        'pread_pagemap',
        'fcntl',
        'ioctl'
      ]
      const works = {
        restore: [() => guarded.restore(snapshot), before],
        reset: [() => guarded.reset({ keepResidentBytes: PAGE }), zeros]
      }
      for (const [name, start] of Object.entries(starts)) {
        for (const [work, [run, expected]] of Object.entries(works)) {
          // What such a reset leaves is another memory.
          if (work === 'reset' && ['unmapped', 'slid'].includes(name)) continue
          for (const syscall of calls) {
            for (let at = 0; at < 60; at++) {
              start()
              dirty()
              const outcome = failing(syscall, at, ENOMEM, run)
              if (!outcome.went) break
              const standing = guarded
                .layout()
                .ranges.filter(({ kind }) => kind === 'mapped').length
              const isKnown = guarded.mappings.length === standing
              const isDone = outcome.code !== undefined || Buffer.from(bytes).equals(expected)
              const isNamed =
                outcome.code === undefined || outcome.code === 'ERR_HOSTMAP_OUT_OF_MEMORY'
              run()
              const isRight = Buffer.from(bytes).equals(expected)
              if (!isKnown || !isDone || !isNamed || !isRight)
                wrong.push({ name, work, syscall, at, outcome, isKnown, isDone, isNamed, isRight })
              if (outcome.code) refused[`${work} ${syscall}`] = true
              guarded.restore(snapshot)
            }
          }
        }
      }
      // Each that stands can be unmapped.
      for (const mapping of guarded.mappings) mapping.unmap()
      const left = guarded.layout().ranges.filter(({ kind }) => kind === 'mapped').length
      return { wrong: wrong.slice(0, 10), refused: Object.keys(refused), left }
    })
    expect(seen.wrong).toEqual([])
    expect(seen.refused).toEqual(expect.arrayContaining(['restore mmap', 'reset mmap']))
    expect(seen.refused.filter(name => name.includes('pagemap'))).toEqual([])
    expect(seen.left).toBe(0)
  })

  test('a unit that can not be booted or restored is discarded, and the next is as it was', () => {
    const seen = inChild(async () => {
      // Two memories of a page of 64 KiB each, so that one may be back when the other one is not.
      const wasm = Buffer.from('0061736d010000000503010001070a01066d656d6f72790200', 'hex')
      const made = async () => (await WebAssembly.instantiate(wasm)).instance.exports.memory
      const bytesOf = value => value.map(({ buffer }) => new Uint8Array(buffer))
      let destroyed = 0
      const options = {
        make: async () => [await made(), await made()],
        init: ({ value }) => bytesOf(value).forEach(bytes => bytes.fill(7, 0, 20_000)),
        destroy: () => destroyed++,
        keepResidentBytes: 4096,
        size: 0
      }
      const isClean = ({ value }) =>
        bytesOf(value).every(
          bytes =>
            bytes.subarray(0, 20_000).every(it => it === 7) &&
            !bytes.subarray(20_000).some(it => it)
        )
      const turn = () => new Promise(resolve => setImmediate(resolve))
      const wrong = []
      const refused = { boot: 0, restore: 0 }
      const codes = new Set()
      const pool = await hostmap.InstancePool.create(options)
      await pool.run(isClean)
      const filesBefore = files()
      // Where the request has emptied the memories, a restore puts pages in place.
      for (const isEmptied of [true, false]) {
        for (const syscall of ['mmap', 'madvise_discard', 'ioctl_pagemap']) {
          for (let at = 0; at < 12; at++) {
            const leased = await pool.acquire()
            const guarded = leased.value.map(memory => hostmap.GuardedMemory.from(memory))
            if (isEmptied) guarded.forEach(memory => memory.reset())
            bytesOf(leased.value).forEach(bytes => bytes.fill(9))
            const { discarded } = pool.stats()
            const { went } = failing(syscall, at, ENOMEM, () => leased.release())
            if (!went) break
            await turn()
            const stats = pool.stats()
            if (stats.discarded > discarded) {
              refused.restore += 1
              codes.add(stats.lastFailure.code)
            }
            if (!(await pool.run(isClean))) wrong.push({ syscall, at, stats })
            if (pool.stats().size !== 1 || pool.stats().busy !== 0) wrong.push(pool.stats())
          }
        }
      }
      await turn()
      const isDestroyed = destroyed === pool.stats().discarded
      const filesAfter = files()
      for (const syscall of ['memfd_create', 'ftruncate', 'pwrite', 'mmap']) {
        for (let at = 0; at < 4; at++) {
          ;(await pool.acquire()).discard()
          native.injectFailure(syscall, at, ENOMEM)
          const code = await pool.run(() => undefined).catch(error => error.code)
          native.forgetFailures()
          if (code !== undefined) {
            refused.boot += 1
            codes.add(code)
          }
          if (!(await pool.run(isClean))) wrong.push({ syscall, at, code })
        }
      }
      await turn()
      pool.close()
      return { wrong, refused, codes: [...codes], isDestroyed, files: [filesBefore, filesAfter] }
    })
    expect(seen.wrong).toEqual([])
    expect(seen.refused.restore).toBeGreaterThan(0)
    expect(seen.refused.boot).toBeGreaterThan(0)
    for (const code of seen.codes) expect(code).toMatch(/^ERR_HOSTMAP_/)
    expect(seen.codes).toContain('ERR_HOSTMAP_CHECKPOINT_BROKEN')
    expect(seen.isDestroyed).toBe(true)
    expect(seen.files[1]).toBe(seen.files[0])
  })

  test('a save that fails leaves the old file and nothing beside it, and a load no descriptor', async () => {
    const seen = inChild(() => {
      const { GuardedMemory, Snapshot } = hostmap
      const directory = fs.mkdtempSync(`${require('node:os').tmpdir()}/hostmap-inject-`)
      const file = `${directory}/a.snapshot`
      const guarded = new GuardedMemory({ initial: 40 })
      new Uint8Array(guarded.buffer).fill(5)
      const snapshot = guarded.snapshot()
      const calls = {
        save: ['open', 'ftruncate', 'pread', 'pwrite', 'fsync', 'rename'],
        load: ['open', 'fstat', 'memfd_create', 'ftruncate', 'pread', 'pwrite', 'fcntl'],
        open: ['open', 'fstat', 'fstatfs', 'fcntl_owner', 'fcntl_lease', 'pread', 'lseek', 'mmap']
      }
      // EAGAIN where a lease is left.
      const mayBeWritten = () => {
        const { O_WRONLY, O_NONBLOCK } = fs.constants
        fs.closeSync(fs.openSync(file, O_WRONLY | O_NONBLOCK))
      }
      const works = {
        save: () => snapshot.save(file),
        load: () => Snapshot.load(file),
        open: () => Snapshot.open(file)
      }
      return snapshot.save(file).then(async () => {
        const old = fs.readFileSync(file)
        const filesBefore = files()
        const outcomes = []
        for (const work of ['save', 'load', 'open']) {
          for (const syscall of calls[work]) {
            for (const at of [0, 1]) {
              // Of any thread: these are done on another one.
              native.injectFailure(syscall, at, EIO)
              const error = await works[work]().then(
                loaded => loaded?.close(),
                error => error
              )
              const went = !native.forgetFailures()
              outcomes.push({
                work,
                syscall,
                at,
                went,
                code: error?.code,
                errno: error?.errno,
                named: error?.syscall
              })
              const isKept =
                fs.readdirSync(directory).join() === 'a.snapshot' &&
                fs.readFileSync(file).equals(old)
              mayBeWritten()
              if (!isKept || files() !== filesBefore)
                outcomes.push({ work, syscall, at, isKept, files: files() - filesBefore })
            }
          }
        }
        fs.rmSync(directory, { recursive: true })
        return outcomes
      })
    })
    const went = seen.filter(({ went }) => went)
    for (const { code, errno, syscall, named } of went) {
      expect(code).toMatch(/^ERR_HOSTMAP_/)
      expect([errno, named]).toEqual([-5, syscall])
    }
    expect(seen.filter(({ isKept }) => isKept !== undefined)).toEqual([])
    expect(new Set(went.map(({ work, syscall }) => `${work} ${syscall}`))).toEqual(
      new Set([
        ...['open', 'ftruncate', 'pread', 'pwrite', 'fsync', 'rename'].map(call => `save ${call}`),
        ...['open', 'fstat', 'memfd_create', 'ftruncate', 'pread', 'pwrite', 'fcntl'].map(
          call => `load ${call}`
        ),
        ...['open', 'fstat', 'fstatfs', 'fcntl_owner', 'fcntl_lease', 'pread', 'lseek', 'mmap'].map(
          call => `open ${call}`
        )
      ])
    )
  })

  test('a file that others write is left all the same, and not opened while one waits', () => {
    const seen = inChild(async () => {
      const { GuardedMemory, Snapshot } = hostmap
      const directory = fs.mkdtempSync(`${require('node:os').tmpdir()}/hostmap-inject-`)
      const file = `${directory}/a.snapshot`
      const write = () => fs.promises.writeFile(file, 'z'.repeat(1e6))
      const origin = new GuardedMemory({ initial: 16 })
      new Uint8Array(origin.buffer).fill(5)
      const taken = origin.snapshot()
      await taken.save(file)
      const refused = []
      // There is no thread that could watch it yet.
      native.injectFailure('clone', 0, 11)
      refused.push((await Snapshot.open(file).catch(error => error)).syscall)
      native.forgetFailures()
      native.injectFailure('fcntl_wanted', 0, EIO)
      refused.push((await Snapshot.open(file).catch(error => error)).code)
      native.forgetFailures()
      const wrong = []
      const went = []
      const calls = [
        'memfd_create',
        'ftruncate',
        'copy_file_range',
        'sendfile',
        'fcntl',
        'mmap',
        'mremap',
        'ioctl_pagemap'
      ]
      for (const syscall of calls) {
        await taken.save(file)
        const snapshot = await Snapshot.open(file)
        const guarded = new GuardedMemory({ initial: 16 })
        guarded.restore(snapshot)
        const bytes = new Uint8Array(guarded.buffer)
        bytes[70_000] = 6
        native.injectFailure(syscall, 0, ENOMEM)
        await write()
        if (!native.forgetFailures()) went.push(syscall)
        const isRight = bytes.every((byte, at) => byte === (at === 70_000 ? 6 : 5))
        guarded.restore(snapshot)
        if (!isRight || !bytes.every(byte => byte === 5)) wrong.push(syscall)
        snapshot.close()
      }
      // The thread that is to answer waits for the file itself.
      const alone = []
      for (const syscall of ['mprotect', 'mmap', 'mremap', 'pwrite', 'pread', 'ioctl_pagemap']) {
        await taken.save(file)
        const snapshot = await Snapshot.open(file)
        const guarded = new GuardedMemory({ initial: 16 })
        guarded.restore(snapshot)
        const bytes = new Uint8Array(guarded.buffer)
        bytes[70_000] = bytes[(1 << 20) - 1] = 6
        native.injectFailure(syscall, 0, ENOMEM)
        fs.writeFileSync(file, 'z'.repeat(3e6))
        if (!native.forgetFailures()) alone.push(syscall)
        const written = at => at === 70_000 || at === (1 << 20) - 1
        const isRight = bytes.every((byte, at) => byte === (written(at) ? 6 : 5))
        bytes.fill(7)
        guarded.restore(snapshot)
        if (!isRight || !bytes.every(byte => byte === 5)) wrong.push(`alone: ${syscall}`)
        snapshot.close()
      }
      fs.rmSync(directory, { recursive: true })
      return { refused, wrong, went, alone }
    })
    expect(seen.alone).toEqual(
      expect.arrayContaining(['mprotect', 'mmap', 'mremap', 'pwrite', 'pread', 'ioctl_pagemap'])
    )
    expect(seen.refused).toEqual(['clone', 'ERR_HOSTMAP_SNAPSHOT_UNGUARDED'])
    expect(seen.wrong).toEqual([])
    const all = [
      'memfd_create',
      'ftruncate',
      'copy_file_range',
      'fcntl',
      'mmap',
      'mremap',
      'ioctl_pagemap'
    ]
    expect(seen.went).toEqual(expect.arrayContaining(all))
  })

  test('a process that can not know whether a file was written ends, and says why', () => {
    // Not for the child to remove: it ends.
    process.env.HOSTMAP_TEST_FILE = path.join(directory.path, 'lost.snapshot')
    const ended = () =>
      inChild(async () => {
        const { GuardedMemory, Snapshot } = hostmap
        const file = process.env.HOSTMAP_TEST_FILE
        const origin = new GuardedMemory({ initial: 16 })
        await origin.snapshot().save(file)
        const snapshot = await Snapshot.open(file)
        origin.restore(snapshot)
        native.injectFailure('fcntl_give_back', 0, EIO)
        await fs.promises.writeFile(file, 'z'.repeat(1e6))
      })
    expect(ended).toThrow('may have been written while memories showed it')
  })

  test('a share leaves nothing behind, and a token that was not received still can be', () => {
    const seen = inChild(() => {
      const { HostRegion } = hostmap
      const region = HostRegion.copyFrom(Buffer.from('injected'), { name: 'injected' })
      HostRegion.receive(region.share()).close()
      const before = files()
      const failures = []
      for (const syscall of [
        'getrandom',
        'open',
        'memfd_create',
        'pwrite',
        'fcntl',
        'fstat',
        'lseek_checked'
      ]) {
        for (let nth = 0; ; nth++) {
          let token
          const { went, code } = failing(syscall, nth, EIO, () => (token = region.share()))
          if (token) HostRegion.unshare(token)
          if (!went) break
          failures.push([syscall, nth, code ?? 'done', files() - before])
        }
      }
      const received = []
      for (const syscall of ['open', 'fcntl', 'fstat', 'fstatfs', 'mmap', 'lseek_checked']) {
        for (let nth = 0; ; nth++) {
          const token = region.share()
          let got
          const { went, code } = failing(syscall, nth, EIO, () => (got = HostRegion.receive(token)))
          got?.close()
          let again
          if (!got) HostRegion.receive(token).close()
          else again = HostRegion.unshare(token)
          if (!went) break
          received.push([syscall, nth, code ?? 'done', files() - before])
          if (again) throw new Error('what was received could be ended')
        }
      }
      return { failures, received, text: Buffer.from(region.view()).toString() }
    })
    expect(seen.text).toBe('injected')
    expect(seen.failures.length).toBeGreaterThan(8)
    expect(seen.received.length).toBeGreaterThan(4)
    for (const [, , code, left] of [...seen.failures, ...seen.received]) {
      expect(code).toMatch(/^(ERR_HOSTMAP_|done)/)
      expect(left).toBe(0)
    }
  })
})
