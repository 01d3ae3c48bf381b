'use strict'

// What is to be in order after something failed: V8's own growth, address space, the stack.

const { inChild } = require('./support/child')
const { temporaryDirectory } = require('./support/files')
const { compileProbe } = require('./support/wasm')
const { skipUnless } = require('./support/skip')
const { spawnSync } = require('node:child_process')

const directory = temporaryDirectory()
const hasPrlimit = spawnSync('prlimit', ['--version']).status === 0

beforeAll(() => compileProbe())

// mprotect makes the memory writable from its start on, and fails where RLIMIT_DATA is passed.
test.each(['layout', 'map', 'unmap', 'window', 'from', 'restore', 'slide'])(
  'a growth of the module that failed: the next %s protects read-only mappings again',
  async what => {
    const stores = await inChild(
      async ({ hostmap, assert, probe, args: what }) => {
        const { GuardedMemory, HostRegion } = hostmap
        process.on('warning', () => {})
        const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
        const memory = new WebAssembly.Memory({ initial: 16 })
        const guarded = GuardedMemory.from(memory)
        const mapping = guarded.map(region, { at: 65536 })
        const other = guarded.map(region, { at: 4 * 65536 })
        const window = guarded.window({ byteLength: 65536, at: 8 * 65536 })
        window.slide(region)
        const snapshot = guarded.snapshot()
        const guest = await probe(memory)
        const traps = () => {
          try {
            guest.store8(mapping.address, 1)
            return false
          } catch {
            return true
          }
        }
        assert.ok(traps())
        try {
          memory.grow(40_000)
          return 'grew'
        } catch {
          // It ran out of memory, as it was to.
        }
        const call = {
          layout: () => guarded.layout(),
          map: () => guarded.map(region, { at: 2 * 65536 }),
          unmap: () => other.unmap(),
          window: () => guarded.window({ byteLength: 65536, at: 10 * 65536 }),
          from: () => GuardedMemory.from(memory),
          restore: () => guarded.restore(snapshot),
          slide: () => window.slide(region)
        }[what]
        call()
        // Slides ask once in a tick of the kernel's clock: sooner or later one does.
        if (what === 'slide') while (!traps()) call()
        return [traps(), new Uint8Array(memory.buffer)[mapping.address + 1]]
      },
      { args: what, ulimit: '-d 1500000' }
    )
    // V8 11 copies the memory instead where it can.
    expect([[true, 7], 'grew']).toContainEqual(stores)
  }
)

// V8 13 and later end the process when the heap gets no more room, which the child's own work under
// the limit asks for.
const survivesLimit = Number(process.versions.v8.split('.')[0]) < 13
skipUnless('needs prlimit, and V8 before 13', hasPrlimit && survivesLimit).test(
  'RLIMIT_AS that is lowered between two slides over a file: an error with a code, or a slide',
  async () => {
    const seen = await inChild(
      async ({ hostmap, failure, require, args: file }) => {
        const { execFileSync } = require('node:child_process')
        const fs = require('node:fs')
        const { GuardedMemory, HostRegion } = hostmap
        const MiB = 2 ** 20
        fs.writeFileSync(file, Buffer.alloc(64 * MiB, 5))
        // Not enough for a slide, which maps 16 MiB elsewhere first, but for V8 to go on.
        const fewMore = () =>
          Number(fs.readFileSync('/proc/self/statm', 'utf8').split(' ')[0]) * 4096 + 8 * MiB
        const region = HostRegion.open(file)
        const seen = []
        for (const access of ['readonly', 'private', 'shared']) {
          const source = access === 'shared' ? HostRegion.open(file, { writable: true }) : region
          const guarded = new GuardedMemory({ initial: 272 })
          const window = guarded.window({ byteLength: 16 * MiB, at: MiB, access })
          for (let i = 0; i < 4; i++) window.slide(source, i * 16 * MiB)
          execFileSync('prlimit', ['--pid', String(process.pid), `--as=${fewMore()}:`])
          const error = await failure(() => window.slide(source, 0))
          const shown = window.region === null ? 0 : new Uint8Array(guarded.buffer)[MiB]
          execFileSync('prlimit', ['--pid', String(process.pid), '--as=unlimited:'])
          window.slide(source, 16 * MiB)
          seen.push([error?.code, shown, new Uint8Array(guarded.buffer)[MiB]])
          window.unmap()
        }
        return seen
      },
      { args: directory.file() }
    )
    for (const each of seen) expect(each).toEqual(['ERR_HOSTMAP_RLIMIT_AS', 5, 5])
  }
)

// Each call is made with less and less of the stack left, until it goes through; after each, what
// V8's memory shows and what the objects say must be the same.
test.each([
  'map',
  'mapIntoFree',
  'mapInBlock',
  'unmap',
  'window',
  'slide',
  'slideToNothing',
  'next',
  'restore',
  'restoreWindow',
  'windowUnmap'
])(
  'the end of the stack in %s leaves no mapping that nobody knows, and no block that is still mapped',
  async what => {
    const bad = await inChild(
      async ({ hostmap, args: what }) => {
        const { GuardedMemory, HostRegion } = hostmap
        const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
        const guarded = new GuardedMemory({ initial: 64 })
        const blocks = new Set()
        const allocator = {
          malloc: () => {
            let block = 1 << 20
            while (blocks.has(block)) block += 2 * 65536
            blocks.add(block)
            return block
          },
          free: block => blocks.delete(block)
        }
        let made
        let window
        let source
        let snapshot
        const slid = () => {
          window ??= guarded.window({ byteLength: 65536, at: 0 })
          return window
        }
        const calls = {
          map: { call: () => (made = guarded.map(region, { at: 65536 })) },
          mapIntoFree: { call: () => (made = guarded.map(region)) },
          mapInBlock: { call: () => (made = guarded.map(region, { allocator })) },
          unmap: {
            before: () => (made = guarded.map(region, { allocator })),
            call: () => made.unmap()
          },
          window: { call: () => (made = guarded.window({ byteLength: 4096, allocator })) },
          windowUnmap: {
            before: () => {
              made = guarded.window({ byteLength: 4096, allocator })
              made.slide(region)
            },
            call: () => made.unmap()
          },
          slideToNothing: { before: () => slid().slide(region), call: () => window.slide(null) },
          slide: { before: () => slid().slide(null), call: () => window.slide(region, 4096) },
          next: {
            before: () => (source = slid().source(region, { chunk: 4096 })),
            call: () => source.next()
          },
          restore: {
            before: () => {
              if (snapshot === undefined) {
                const mapping = guarded.map(region, { at: 65536 })
                snapshot = guarded.snapshot()
                mapping.unmap()
              }
              guarded.mappings.forEach(it => it.unmap())
            },
            call: () => guarded.restore(snapshot)
          },
          restoreWindow: {
            before: () => {
              if (snapshot === undefined) {
                slid().slide(region)
                snapshot = guarded.snapshot()
              }
              guarded.mappings[0]?.slide(null)
            },
            call: () => guarded.restore(snapshot)
          }
        }
        const { before = () => {}, call } = calls[what]
        const keepsWindow = ['slide', 'slideToNothing', 'next'].includes(what)
        // Warm, so that nothing is compiled for the first time down there.
        for (let i = 0; i < 200; i++) {
          before()
          call()
          if (!keepsWindow) guarded.mappings.forEach(it => it.unmap())
        }
        const dive = depth => {
          if (depth === 0) call()
          else dive(depth - 1)
        }
        const goesThrough = depth => {
          made = undefined
          before()
          try {
            dive(depth)
            return true
          } catch (error) {
            if (
              !(error instanceof RangeError) &&
              !/stack size/.test(String(error.message ?? error))
            )
              throw error
            return false
          }
        }
        const check = depth => {
          const mapped = guarded.layout().ranges.filter(range => range.kind === 'mapped')
          for (const { start, windowBytes } of mapped) {
            const { shownBytes } = guarded.mappings.find(it => it.address === start) ?? {}
            if (windowBytes !== shownBytes)
              return `at depth ${depth}: ${windowBytes} bytes are shown, ${shownBytes} known`
          }
          if (made?.unmapped && made.shownBytes > 0)
            return `at depth ${depth}: what was unmapped shows ${made.shownBytes} bytes`
          const shown = mapped.map(range => range.start)
          const known = guarded.mappings.map(it => it.address)
          if (String(shown) !== String(known))
            return `at depth ${depth}: mapped ${shown}, known ${known}`
          for (const start of shown) {
            if (
              ['mapInBlock', 'unmap', 'window', 'windowUnmap'].includes(what) &&
              !blocks.has(start)
            )
              return `at depth ${depth}: the block at ${start} was given back`
          }
          const of = source
          if (what === 'next' && of.position > 0 && window.shownBytes === 0)
            return `at depth ${depth}: nothing is shown`
          return null
        }
        const clear = () => {
          if (keepsWindow) return
          made?.unmap()
          guarded.mappings.forEach(it => it.unmap())
        }
        let low = 10
        let high = 200_000
        while (high - low > 1) {
          const depth = (low + high) >> 1
          if (goesThrough(depth)) low = depth
          else high = depth
          clear()
        }
        for (let depth = low - 150; depth < low + 150; depth++) {
          goesThrough(depth)
          const bad = check(depth)
          if (bad !== null) return bad
          clear()
          if (!keepsWindow && guarded.layout().ranges.some(range => range.kind === 'mapped'))
            return `at depth ${depth}: it can't be unmapped`
        }
        return null
      },
      { args: what }
    )
    expect(bad).toBe(null)
  }
)
