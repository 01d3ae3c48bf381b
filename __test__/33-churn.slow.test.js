'use strict'

// What is made and dropped very often leaves nothing behind: no VMA, no descriptor, no address
// space.

const { inChild } = require('./support/child')
const { KiB, MiB } = require('./support/wasm')

/**
 * In a process of its own: a warm-up, then so many rounds, and what they left behind. `prepare`
 * gives the function that runs one round.
 */
async function churn(prepare, rounds) {
  return inChild(
    async ({ args, ...support }) => {
      const { collect, processMap, openFiles, smapsRollup, status } = support
      const prepare = (0, eval)(`(${args.prepare})`)
      // Global, so that what it holds is still there after the last round.
      const { round, guarded } = (globalThis.prepared = await prepare(support))
      const measure = async () => {
        await collect()
        return {
          mappings: processMap().length,
          fileMappings: processMap().filter(({ inode }) => inode !== 0).length,
          files: Object.keys(openFiles()).length,
          addressSpace: status('VmSize'),
          memory: smapsRollup('Private_Dirty'),
          heap: process.memoryUsage().heapUsed,
          external: process.memoryUsage().external,
          byteLength: guarded?.byteLength ?? 0,
          ranges: guarded?.layout().ranges.length ?? 0
        }
      }
      const part = args.rounds / 5
      // Until everything is compiled and the heap has found its size.
      for (let i = 0; i < part; i++) await round(i)
      const measures = [await measure()]
      for (let i = 0; i < args.rounds; i++) {
        await round(i)
        if ((i + 1) % part === 0) measures.push(await measure())
      }
      const growth = name =>
        measures.slice(1).map((measure, i) => measure[name] - measures[i][name])
      return Object.fromEntries(Object.keys(measures[0]).map(name => [name, growth(name)]))
    },
    { flags: ['--expose-gc'], args: { prepare: String(prepare), rounds } }
  )
}

const sum = values => values.reduce((total, value) => total + value, 0)

/**
 * What is ours is counted. Of the rest, V8's heap and malloc have their own ups and downs; but what
 * every round leaves behind grows in every part, so the least growth of the five tells it. The
 * default is 13 bytes for each of 20,000. On a busy machine, private memory alone is counted to
 * some hundred KiB only: 52 bytes for each.
 */
function expectNothingLeft(
  { files, fileMappings, byteLength, ranges, mappings, ...bytes },
  limit = 256 * KiB
) {
  expect({
    files: sum(files),
    fileMappings: sum(fileMappings),
    byteLength: sum(byteLength),
    ranges: sum(ranges)
  }).toEqual({ files: 0, fileMappings: 0, byteLength: 0, ranges: 0 })
  expect(sum(mappings)).toBeLessThan(500)
  const least = Object.fromEntries(
    Object.entries(bytes).map(([name, growth]) => [name, Math.min(...growth)])
  )
  const { memory, ...others } = least
  expect(memory).toBeLessThan(Math.max(limit, MiB))
  for (const bytes of Object.values(others)) expect(bytes).toBeLessThan(limit)
}

describe('100,000 rounds of map and unmap leave nothing behind', () => {
  test('of a gigabyte past the end of the memory', async () => {
    const left = await churn(async ({ hostmap, probe }) => {
      const region = hostmap.HostRegion.allocate(2 ** 30)
      new Uint8Array(region.view(2 ** 30 - 1))[0] = 7
      const guarded = new hostmap.GuardedMemory({ initial: 1, maximum: 65_536 })
      const guest = await probe(guarded.memory)
      const round = () => {
        const mapping = guarded.map(region)
        if (guest.load8(mapping.address + 2 ** 30 - 1) !== 7) throw new Error('wrong byte')
        mapping.unmap()
      }
      return { round, guarded }
    }, 100_000)
    expectNothingLeft(left)
  })

  test.each(['readonly', 'private', 'shared'])(
    'at an address, %s, with a page that is touched',
    async access => {
      const prepare = `async ({ hostmap, probe }) => {
      const access = '${access}'
      const region = hostmap.HostRegion.allocate(2 ** 20)
      const guarded = new hostmap.GuardedMemory({ initial: 64, maximum: 64 })
      const guest = await probe(guarded.memory)
      const round = i => {
        const at = 65536 * (i % 16)
        const mapping = guarded.map(region, { at, access })
        if (access === 'readonly') guest.load8(at)
        else guest.store8(at, i & 255)
        mapping.unmap()
        if (guest.load8(at) !== 0) throw new Error('not zeroed')
      }
      return { round, guarded }
    }`
      expectNothingLeft(await churn(prepare, 100_000))
    }
  )

  test("in blocks of the module's allocator", async () => {
    const left = await churn(async ({ hostmap }) => {
      const region = hostmap.HostRegion.allocate(100_000)
      const guarded = new hostmap.GuardedMemory({ initial: 64, maximum: 64 })
      let blocks = 0
      const allocator = {
        malloc: () => (blocks++, 2 ** 20 + 8),
        free: () => blocks--
      }
      const round = () => {
        guarded.map(region, { allocator }).unmap()
        if (blocks !== 0) throw new Error('a block was not given back')
      }
      return { round, guarded }
    }, 100_000)
    expectNothingLeft(left)
  })

  test('in a memory whose buffer alone is known, of a file', async () => {
    const left = await churn(async ({ hostmap, probeWithMemory, require }) => {
      const guest = await probeWithMemory({ initial: 64, maximum: 64 })
      const guarded = hostmap.GuardedMemory.from(guest.memory.buffer)
      const region = hostmap.HostRegion.open(require('node:process').execPath, {
        byteLength: 2 ** 20
      })
      const round = () => {
        const mapping = guarded.map(region, { at: 0 })
        if (guest.load8(0) !== 0x7f) throw new Error('not an ELF file')
        mapping[Symbol.dispose]()
      }
      return { round, guarded }
    }, 100_000)
    expectNothingLeft(left)
  })
})

test('mappings of all sizes, many at a time and unmapped in any order, need no more space in the end', async () => {
  const left = await churn(async ({ hostmap, probe }) => {
    const region = hostmap.HostRegion.allocate(2 ** 26)
    const guarded = new hostmap.GuardedMemory({ initial: 1, maximum: 65_536 })
    const guest = await probe(guarded.memory)
    const live = []
    let state = 1
    const random = below => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return Math.floor((state / 2 ** 32) * below)
    }
    const round = () => {
      // Filled to 16, then emptied, so that each measurement sees none.
      while (live.length < 16) {
        const byteLength = 1 + random(2 ** random(26))
        const mapping = guarded.map(region, { byteLength })
        guest.load8(mapping.address + byteLength - 1)
        live.push(mapping)
      }
      while (live.length > 0) live.splice(random(live.length), 1)[0].unmap()
    }
    return { round, guarded }
  }, 5000)
  // Sixteen at a time, at most 64 MiB each: the memory finds its size in the warm-up, and rarely
  // grows after.
  expect(sum(left.byteLength)).toBeLessThan(256 * MiB)
  expect(left.byteLength.at(-1)).toBeLessThan(64 * MiB)
  // V8's pages find their number within some 100,000 mappings (Node.js 26) and are flat after. What
  // the native part keeps for each of the 16,000 of a part would be more than this.
  expectNothingLeft({ ...left, byteLength: [0] }, 4 * MiB)
})

test('20,000 regions, viewed and closed, leave nothing behind', async () => {
  const left = await churn(async ({ hostmap }) => {
    const bytes = Buffer.alloc(10_000, 1)
    const round = () => {
      const region = hostmap.HostRegion.copyFrom(bytes)
      if (new Uint8Array(region.view(9999))[0] !== 1) throw new Error('wrong byte')
      region.seal().close()
    }
    return { round }
  }, 20_000)
  // A quarter of a page for each of 4,000: far less than a region.
  expectNothingLeft(left, 4 * MiB)
})

test('5,000 loads leave nothing behind, aborted and failed ones included', async () => {
  const left = await churn(async ({ hostmap, require }) => {
    const { HostRegion } = hostmap
    const file = require('node:process').execPath
    const round = async i => {
      const controller = new AbortController()
      const loading = HostRegion.load(i % 5 === 4 ? '/nowhere' : file, {
        byteLength: 100_000,
        signal: controller.signal
      })
      if (i % 5 === 3) controller.abort()
      const region = await loading.catch(error => {
        if (i % 5 < 3) throw error
      })
      region?.close()
    }
    return { round }
  }, 5000)
  // A page for each of 1,000.
  expectNothingLeft(left, 4 * MiB)
})
