'use strict'

// What the fault guard promises beyond the single access, which the matrix (67) tries in every
// form: counts, reports, protection that comes back, and how little of the process's headroom it
// may take.

const { inChild } = require('./support/child')

/** A read-only mapping of 64 pages in a memory of 1 MiB, at 512 KiB. */
const setUp = `
  const { HostRegion, GuardedMemory } = hostmap
  const page = hostmap.limits().pageSize
  const AT = 524288
  const region = HostRegion.copyFrom(Buffer.alloc(64 * page, 1), { name: 'dataset' })
  const guarded = new GuardedMemory({ initial: 16, maximum: 64 })
  const mapping = guarded.map(region, { at: AT })
  const bytes = () => new Uint8Array(guarded.buffer)
  const intact = () => Buffer.from(region.view()).every(byte => byte === 1)
`

/** Runs a body that has the names above, in a process of its own. */
const guardedChild = (body, options) =>
  inChild(
    `async support => {
      const { hostmap, collect, failure, processMap, mappingsNamed, compileProbe, Probe } = support
      ${setUp}
      return (${body})(support)
    }`,
    options
  )

describe('a write to a read-only mapping', () => {
  /* global page, AT, region, guarded, mapping, bytes, intact, mappingsNamed, HostRegion, GuardedMemory */

  test('goes to a page that only this memory sees, and is counted', async () => {
    const seen = await guardedChild(() => {
      const other = guarded.map(region, { at: 0 })
      bytes()[AT + 5 * page] = 9
      bytes()[AT + 5 * page + 1] = 9
      bytes()[AT + 7 * page] = 9
      return {
        intact: intact(),
        read: bytes()[AT + 5 * page],
        beside: bytes()[5 * page],
        strayWrites: mapping.strayWrites,
        faults: mapping.faults,
        other: other.strayWrites,
        last: mapping.lastFault,
        none: other.lastFault,
        page
      }
    })
    expect(seen).toEqual({
      intact: true,
      read: 9,
      beside: 1,
      // One for each page: the second write to a page is no fault any more.
      strayWrites: 2,
      faults: 0,
      other: 0,
      last: {
        address: 524288 + 7 * seen.page,
        byteOffset: 7 * seen.page,
        operation: 'write',
        cause: 'readonly',
        outcome: 'private-page'
      },
      none: null,
      page: seen.page
    })
  })

  test('is counted still when the mapping is gone', async () => {
    const seen = await guardedChild(() => {
      bytes()[AT] = 9
      mapping.unmap()
      return {
        strayWrites: mapping.strayWrites,
        last: mapping.lastFault.outcome,
        after: bytes()[AT]
      }
    })
    expect(seen).toEqual({ strayWrites: 1, last: 'private-page', after: 0 })
  })

  test('has its page protected again at the next call, and what was written stays', async () => {
    const seen = await guardedChild(() => {
      const count = () =>
        mappingsNamed('dataset').filter(area => area.permissions === 'rw-p').length
      bytes()[AT] = 9
      const bare = count()
      GuardedMemory.from(guarded.memory)
      const protectedAgain = count()
      bytes()[AT] = 8
      return { bare, protectedAgain, strayWrites: mapping.strayWrites, read: bytes()[AT] }
    })
    expect(seen).toEqual({ bare: 1, protectedAgain: 0, strayWrites: 2, read: 8 })
  })

  test('to every second page takes no more than a few of the memory mappings of the process', async () => {
    const seen = await inChild(async ({ hostmap, processMap }) => {
      const { HostRegion, GuardedMemory, limits } = hostmap
      const { pageSize } = limits()
      const region = HostRegion.allocate(16384 * pageSize)
      const guarded = new GuardedMemory({ initial: (16384 * pageSize) / 65536 })
      const mapping = guarded.map(region, { at: 0 })
      const u8 = new Uint8Array(guarded.buffer)
      // In the memory alone: V8 takes and gives back others for its own sake.
      const { start } = processMap().find(({ name }) => name.includes('memfd:region'))
      const areas = () =>
        processMap().filter(area => area.end > start && area.start < start + u8.length).length
      const before = areas()
      for (let at = 0; at < u8.length; at += 2 * pageSize) u8[at] = 1
      const added = areas() - before
      // Protecting it again needs none either, and the next write finds it protected.
      GuardedMemory.from(guarded.memory)
      const strayWrites = mapping.strayWrites
      u8[pageSize] = 1
      const counted = mapping.strayWrites - strayWrites
      mapping.unmap()
      const left = areas() - before
      return {
        added,
        strayWrites,
        counted,
        left,
        region: Buffer.from(region.view()).every(byte => byte === 0)
      }
    })
    expect(seen).toMatchObject({ counted: 1, region: true })
    // One by one at first, then by blocks: not 8192.
    expect(seen.strayWrites).toBeGreaterThan(32)
    expect(seen.strayWrites).toBeLessThan(300)
    expect(seen.added).toBeLessThanOrEqual(66)
    expect(seen.left).toBeLessThanOrEqual(8)
  })

  test('of a thousand memories leaves V8 its headroom', async () => {
    const seen = await inChild(
      async ({ hostmap, processMap, args }) => {
        const { HostRegion, GuardedMemory, limits } = hostmap
        const { pageSize, mapCount } = limits()
        const region = HostRegion.allocate(128 * pageSize)
        const memories = []
        for (let i = 0; i < args.memories; i++) {
          const guarded = new GuardedMemory({ initial: 8 })
          guarded.map(region, { at: 0 })
          memories.push(guarded)
        }
        for (const guarded of memories) {
          const u8 = new Uint8Array(guarded.buffer)
          for (let at = 0; at < 128 * pageSize; at += 2 * pageSize) u8[at] = 1
        }
        return {
          used: processMap().length,
          limit: mapCount.limit,
          sum: new Uint8Array(region.view()).at(0)
        }
      },
      { args: { memories: 1200 } }
    )
    expect(seen.sum).toBe(0)
    // 1200 memories with 32 pages each would take 77,000 areas.
    expect(seen.used).toBeLessThan(seen.limit * 0.9)
  })

  test('to a view of a region that is sealed goes to a page of this view', async () => {
    const seen = await guardedChild(() => {
      const before = new Uint8Array(region.view())
      region.seal()
      const after = new Uint8Array(region.view())
      before[0] = 7
      after[page] = 8
      const seen = {
        before: [before[0], before[page]],
        after: [after[0], after[page]],
        module: [bytes()[AT], bytes()[AT + page]],
        strayWrites: region.strayWrites,
        mapping: mapping.strayWrites,
        last: region.lastFault
      }
      region.close()
      return { ...seen, closed: region.strayWrites, page }
    })
    expect(seen).toMatchObject({
      before: [7, 1],
      after: [1, 8],
      module: [1, 1],
      strayWrites: 2,
      mapping: 0,
      last: { address: null, byteOffset: seen.page, operation: 'write', outcome: 'private-page' },
      closed: 2
    })
  })
})

describe('a file that is made shorter', () => {
  /* global require */
  const file = `
    const fs = require('node:fs')
    const path = require('node:path').join(require('node:os').tmpdir(), 'hostmap-' + process.pid)
    fs.writeFileSync(path, Buffer.alloc(600 * page, 5))
    process.once('exit', () => fs.unlinkSync(path))
    const source = HostRegion.open(path)
    const long = new GuardedMemory({ initial: 40 * page / 4096, maximum: 2000 })
    const u8 = new Uint8Array(long.buffer)
  `
  const fileChild = body =>
    guardedChild(`({ require, ...support }) => { ${file}; return (${body})(support) }`)
  /* global fs, path, source, long, u8 */

  test('reads as zeros past its end, counted page by page, and as data before', async () => {
    const seen = await fileChild(() => {
      const part = long.map(source, { at: 0 })
      fs.truncateSync(path, 2 * page)
      const read = [u8[0], u8[page], u8[2 * page], u8[2 * page + 1], u8[3 * page]]
      return {
        read,
        faults: part.faults,
        strayWrites: part.strayWrites,
        last: part.lastFault,
        page
      }
    })
    expect(seen).toMatchObject({
      read: [5, 5, 0, 0, 0],
      faults: 2,
      strayWrites: 0,
      last: { byteOffset: 3 * seen.page, operation: 'read', cause: 'file-shrunk', outcome: 'zeros' }
    })
  })

  test('shows its data again when it grows back, where no zeros were put', async () => {
    const seen = await fileChild(() => {
      long.map(source, { at: 0 })
      fs.truncateSync(path, 0)
      const zero = u8[3 * page]
      fs.writeFileSync(path, Buffer.alloc(600 * page, 6))
      const read = [u8[0], u8[3 * page], u8[599 * page]]
      return { zero, read }
    })
    expect(seen).toEqual({ zero: 0, read: [6, 0, 6] })
  })

  test('takes memory mappings for pages that are apart, and none for those side by side', async () => {
    const seen = await fileChild(({ processMap }) => {
      const part = long.map(source, { at: 0, access: 'private' })
      fs.truncateSync(path, 0)
      const areas = () =>
        processMap().filter(({ name }) => name === path || name === '/dev/zero').length
      let sum = 0
      for (let at = 0; at < 600; at += 2) sum += u8[at * page]
      const scattered = areas()
      for (let at = 0; at < 600; at++) sum += u8[at * page]
      const all = areas()
      part.unmap()
      return { sum, scattered, all, left: areas(), faults: part.faults }
    })
    expect(seen.sum).toBe(0)
    // Two for each page that stands alone.
    expect(seen.scattered).toBeLessThanOrEqual(601)
    // Neighbouring pages of zeros are one area.
    expect(seen.all).toBe(1)
    expect(seen.left).toBe(0)
    expect(seen.faults).toBe(600)
  })

  test('and its pages of zeros are protected, written and unmapped like all others', async () => {
    const seen = await fileChild(({ processMap }) => {
      const part = long.map(source, { at: 0 })
      fs.truncateSync(path, 0)
      const zero = u8[0]
      // Its first page is not the file's any more; it is the same memory all the same.
      const same = GuardedMemory.from(long.memory) === long
      long.grow(1)
      const grown = new Uint8Array(long.buffer)
      grown[0] = 3
      const read = grown[0]
      const strayWrites = part.strayWrites
      part.unmap()
      return {
        zero,
        same,
        read,
        strayWrites,
        after: grown[0],
        kind: part.lastFault.cause,
        maps: processMap().length > 0
      }
    })
    expect(seen).toMatchObject({
      zero: 0,
      same: true,
      read: 3,
      strayWrites: 1,
      after: 0,
      kind: 'readonly'
    })
  })

  test('is seen by views as by mappings', async () => {
    const seen = await fileChild(() => {
      const view = new Uint8Array(source.view(page + 10, 100))
      fs.truncateSync(path, 0)
      return { read: view[5], faults: source.faults, last: source.lastFault, page }
    })
    expect(seen).toMatchObject({
      read: 0,
      faults: 1,
      last: { address: null, byteOffset: seen.page + 15, cause: 'file-shrunk', outcome: 'zeros' }
    })
  })
})

describe('reports', () => {
  /** Warnings of a process, until it has nothing more to do. */
  const warningsOf = body =>
    guardedChild(`async support => {
      const warned = support.watchWarnings()
      await (${body})({ ...support, warned })
      return warned.until(1)
    }`)

  test('each mapping is reported once, as a warning with a code', async () => {
    const warnings = await warningsOf(async ({ warned }) => {
      bytes()[AT] = 9
      await warned.until(1)
      bytes()[AT + page] = 9
      // A second warning of the first mapping would come before this one's.
      guarded.map(region, { at: 0 })
      bytes()[0] = 9
      await warned.until(2)
    })
    expect(warnings).toHaveLength(2)
    expect(warnings[1].message).toMatch(/'readonly' mapping of region "dataset" at \[0, \d+\)/)
    expect(warnings[0]).toMatchObject({ name: 'HostmapWarning', code: 'HOSTMAP_STRAY_WRITE' })
    expect(warnings[0].message).toMatch(/'readonly' mapping of region "dataset" at \[524288, \d+\)/)
  })

  test('a mapping that is gone by then is reported too', async () => {
    const warnings = await warningsOf(() => {
      bytes()[AT] = 9
      mapping.unmap()
    })
    expect(warnings).toMatchObject([{ code: 'HOSTMAP_STRAY_WRITE' }])
  })

  test('a program that ends at once still says it', async () => {
    const { spawnSync } = require('node:child_process')
    const main = require.resolve('..')
    const { stderr, status } = spawnSync(
      process.execPath,
      [
        '-e',
        `const { HostRegion, GuardedMemory } = require(${JSON.stringify(main)})
         const guarded = new GuardedMemory({ initial: 1 })
         guarded.map(HostRegion.allocate(1), { at: 0 })
         new Uint8Array(guarded.buffer)[0] = 1`
      ],
      { encoding: 'utf8' }
    )
    expect(status).toBe(0)
    expect(stderr.match(/HOSTMAP_STRAY_WRITE/g)).toHaveLength(1)
  })

  test('a trap is an error of the program, and no warning', async () => {
    const seen = await guardedChild(async ({ compileProbe, watchWarnings }) => {
      const warned = watchWarnings()
      const module = await compileProbe()
      const { exports } = new WebAssembly.Instance(module, { env: { memory: guarded.memory } })
      let message
      try {
        exports.store8(AT, 1)
      } catch (error) {
        message = error.message
      }
      // Its warning would come before that of another mapping.
      guarded.map(region, { at: 0 })
      bytes()[0] = 9
      const warnings = (await warned.until(1)).map(({ message }) => /at \[(\d+)/.exec(message)[1])
      return { message, warnings, strayWrites: mapping.strayWrites, last: mapping.lastFault }
    })
    expect(seen).toMatchObject({
      message: 'memory access out of bounds',
      warnings: ['0'],
      strayWrites: 0,
      last: { outcome: 'trap', cause: 'readonly', operation: 'write', byteOffset: 0 }
    })
  })
})

describe('which protection there is', () => {
  const guardOf = options => inChild(({ hostmap }) => hostmap.limits().faultGuard, options)

  test('limits() says so', async () => {
    expect(await guardOf()).toEqual({ handler: 'first', traps: true, reason: null })
  })

  test("without V8's trap handler writes land on private pages", async () => {
    const flags = ['--disable-wasm-trap-handler']
    expect(await guardOf({ flags })).toEqual({
      handler: 'first',
      traps: false,
      reason: expect.stringMatching(/trap handler/)
    })
    const seen = await guardedChild(
      async ({ compileProbe }) => {
        const module = await compileProbe()
        const { exports } = new WebAssembly.Instance(module, { env: { memory: guarded.memory } })
        exports.store8(AT, 9)
        return { read: exports.load8(AT), strayWrites: mapping.strayWrites, intact: intact() }
      },
      { flags }
    )
    expect(seen).toEqual({ read: 9, strayWrites: 1, intact: true })
  })

  test('it can be turned off, and views of sealed regions can be written all the same', async () => {
    const env = { WASM_HOSTMAP_FAULT_GUARD: 'off' }
    expect(await guardOf({ env })).toEqual({
      handler: 'none',
      traps: false,
      reason: expect.stringMatching(/WASM_HOSTMAP_FAULT_GUARD/)
    })
    const seen = await guardedChild(
      () => {
        region.seal()
        const view = new Uint8Array(region.view())
        view[0] = 9
        return [view[0], new Uint8Array(region.view())[0], region.strayWrites]
      },
      { env }
    )
    expect(seen).toEqual([9, 1, 0])
    await expect(guardedChild(() => (bytes()[AT] = 1), { env })).rejects.toThrow(/SIGSEGV/)
  })
})

test('descriptors that a script closed under us do no harm', async () => {
  const seen = await guardedChild(({ require, openFiles }) => {
    const fs = require('node:fs')
    // Ours are taken away, and their numbers given to a file of the script's.
    const own = Object.entries(openFiles()).filter(([, name]) => /\/maps$|\/dev\/zero$/.test(name))
    for (const [fd] of own) fs.closeSync(Number(fd))
    const path = `/proc/self/cmdline`
    for (const _ of own) fs.openSync(path)
    const file = require('node:path').join(require('node:os').tmpdir(), `hostmap-fd-${process.pid}`)
    fs.writeFileSync(file, Buffer.alloc(2 * page, 5))
    const source = HostRegion.open(file)
    const part = guarded.map(source, { at: 0 })
    fs.truncateSync(file, 0)
    fs.unlinkSync(file)
    bytes()[AT] = 9
    const read = bytes()[page]
    return { own: own.length, strayWrites: mapping.strayWrites, read, faults: part.faults }
  })
  // Where the map is read as text, each thread that reads it has a descriptor of its own.
  expect([2, 9]).toContain(seen.own)
  expect(seen).toMatchObject({ strayWrites: 1, read: 0, faults: 1 })
})
