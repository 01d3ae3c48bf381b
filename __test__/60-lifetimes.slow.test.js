'use strict'

// What is collected, closed or left by its thread gives back all that it held; what is in use
// stays.

const fs = require('node:fs')
const path = require('node:path')
const { temporaryDirectory, noise } = require('./support/files')
const { inChild } = require('./support/child')
const { MiB } = require('./support/wasm')

const directory = temporaryDirectory()
const withGc = { flags: ['--expose-gc'] }

describe('a region', () => {
  test('that is collected closes its descriptor', async () => {
    const { before, after } = await inChild(async ({ hostmap, collect, countOpen }) => {
      ;(() => {
        for (let i = 0; i < 10; i++) hostmap.HostRegion.allocate(1000, { name: 'forgotten' }).view()
      })()
      const before = countOpen('/memfd:forgotten')
      await collect(8)
      return { before, after: countOpen('/memfd:forgotten') }
    }, withGc)
    expect({ before, after }).toEqual({ before: 10, after: 0 })
  })

  test('that is collected leaves its views and mappings as they are', async () => {
    const bytes = await inChild(async ({ hostmap, collect, mappingsNamed, probe, assert }) => {
      const guarded = new hostmap.GuardedMemory({ initial: 2, maximum: 4 })
      const guest = await probe(guarded.memory)
      const view = (() => {
        const region = hostmap.HostRegion.copyFrom(Buffer.alloc(65536, 7), { name: 'outlived' })
        // The mapping object is not kept: the mapping stays.
        guarded.map(region, { at: 0 })
        return region.view()
      })()
      await collect(8)
      assert.equal(mappingsNamed('/memfd:outlived').length, 2)
      assert.throws(() => guest.store8(0, 1), WebAssembly.RuntimeError)
      return [new Uint8Array(view)[65535], guest.load8(65535)]
    }, withGc)
    expect(bytes).toEqual([7, 7])
  })

  test('is kept by the mapping object that is kept', async () => {
    const name = await inChild(async ({ hostmap, collect }) => {
      const guarded = new hostmap.GuardedMemory({ initial: 2, maximum: 4 })
      const mapping = guarded.map(hostmap.HostRegion.allocate(100, { name: 'kept' }), { at: 0 })
      await collect(8)
      return [mapping.region.name, mapping.region.closed, mapping.memory === guarded]
    }, withGc)
    expect(name).toEqual(['kept', false, true])
  })
})

describe('a view', () => {
  test('that is collected is unmapped, while its region lives on', async () => {
    const counts = await inChild(async ({ hostmap, collect, mappingsNamed }) => {
      const region = hostmap.HostRegion.allocate(100_000, { name: 'viewed' })
      ;(() => {
        for (let i = 0; i < 10; i++) new Uint8Array(region.view()).fill(i)
      })()
      const before = mappingsNamed('/memfd:viewed').length
      await collect(8)
      const after = mappingsNamed('/memfd:viewed').length
      return { before, after, last: new Uint8Array(region.view())[0] }
    }, withGc)
    expect(counts).toMatchObject({ after: 0, last: 9 })
    expect(counts.before).toBeGreaterThan(0)
  })

  test('keeps the memory while only a typed array over it is held', async () => {
    const byte = await inChild(async ({ hostmap, collect }) => {
      const array = (() =>
        new Uint8Array(hostmap.HostRegion.copyFrom(Buffer.alloc(5000, 3)).view(10)))()
      await collect(8)
      return array.at(-1)
    }, withGc)
    expect(byte).toBe(3)
  })
})

describe('a memory', () => {
  test.each([
    ['unshared', '{ initial: 16, maximum: 32 }'],
    ['shared', '{ initial: 16, maximum: 32, shared: true }']
  ])('%s: is collected while it is mapped, and its mappings with it', async (_, descriptor) => {
    const seen = await inChild(
      async ({ hostmap, collect, mappingsNamed, countOpen, probe, args: descriptor }) => {
        const { GuardedMemory, HostRegion } = hostmap
        const options = (0, eval)(`(${descriptor})`)
        const region = HostRegion.allocate(65536, { name: 'mapped everywhere' })
        const weak = await (async () => {
          const guarded = new GuardedMemory(options)
          const guest = await probe(guarded.memory)
          for (let i = 0; i < 8; i++)
            guarded.map(region, { at: i * 65536, access: i % 2 ? 'shared' : 'private' })
          guest.store8(0, 1)
          return new WeakRef(guarded.memory)
        })()
        const before = mappingsNamed('/memfd:mapped everywhere').length
        await collect(12)
        return {
          before,
          after: mappingsNamed('/memfd:mapped everywhere').length,
          collected: weak.deref() === undefined,
          open: countOpen('/memfd:mapped everywhere')
        }
      },
      { ...withGc, args: descriptor }
    )
    expect(seen).toEqual({ before: 8, after: 0, collected: true, open: 1 })
  })

  test('that was wrapped is collected, too, by memory and by buffer', async () => {
    const seen = await inChild(async ({ hostmap, collect, mappingsNamed, probeWithMemory }) => {
      const { GuardedMemory, HostRegion } = hostmap
      const region = HostRegion.allocate(65536, { name: 'wrapped' })
      await (async () => {
        for (const what of ['memory', 'buffer']) {
          const { memory } = await probeWithMemory({ initial: 4, maximum: 8 })
          const guarded = GuardedMemory.from(what === 'memory' ? memory : memory.buffer)
          guarded.map(region, { at: 0 })
          // Asked for again, as a program would.
          GuardedMemory.from(memory.buffer).layout()
        }
      })()
      const before = mappingsNamed('/memfd:wrapped').length
      await collect(12)
      return { before, after: mappingsNamed('/memfd:wrapped').length }
    }, withGc)
    expect(seen).toEqual({ before: 2, after: 0 })
  })

  test('outlives its GuardedMemory, mapped as it is, and is found again', async () => {
    const seen = await inChild(async ({ hostmap, collect, probeWithMemory, failure }) => {
      const { GuardedMemory, HostRegion } = hostmap
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
      const guest = await probeWithMemory({ initial: 4, maximum: 8 })
      ;(() => void GuardedMemory.from(guest.memory).map(region, { at: 0 }))()
      await collect(12)
      const { code } = await failure(() => GuardedMemory.from(guest.memory).map(region, { at: 0 }))
      return { byte: guest.load8(65535), code }
    }, withGc)
    expect(seen).toEqual({ byte: 7, code: 'ERR_HOSTMAP_OVERLAP' })
  })

  // More than the address space holds at a time; and many of them at an address where another one
  // was before.
  test('is one of 20,000 in a row: the dead make room, and an address that comes back starts clean', async () => {
    const made = await inChild(async ({ hostmap, probe, assert }) => {
      const { GuardedMemory, HostRegion } = hostmap
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
      for (let i = 0; i < 20_000; i++) {
        const guarded = new GuardedMemory({ initial: 2 + (i % 7), maximum: 16 })
        const bytes = new Uint8Array(guarded.buffer)
        assert.equal(bytes[65536], 0)
        const kinds = guarded.layout().ranges.map(({ kind }) => kind)
        assert.ok(!kinds.includes('mapped'))
        guarded.map(region, { at: 65536 })
        assert.equal(bytes[65536], 7)
        // Readonly stays readonly, even where a larger memory was before.
        if (i % 500 === 0) {
          const guest = await probe(guarded.memory)
          guarded.grow(1)
          assert.throws(() => guest.store8(65536, 1), WebAssembly.RuntimeError)
          // A turn of the loop, in which finalizers may run.
          await new Promise(resolve => setImmediate(resolve))
        }
      }
      return 20_000
    })
    expect(made).toBe(20_000)
  })
})

// By which V8 judges when to collect.
describe('process.memoryUsage().external', () => {
  /** By how much it has grown while a region is held, mapped and viewed, and when it is closed. */
  const account = (make, args) =>
    inChild(
      `async ({ hostmap, collect, args }) => {
        const make = ${make}
        const guarded = new hostmap.GuardedMemory({ initial: 20_000 })
        globalThis.bytes = Buffer.alloc(64 * 2 ** 20, 1)
        const count = async () => (await collect(8), process.memoryUsage().external)
        // Once before, so that what is made for the first time is there.
        ;(await make(hostmap.HostRegion, args)).close()
        const before = await count()
        const region = await make(hostmap.HostRegion, args)
        const held = await count() - before
        const mapping = guarded.map(region, { at: 0 })
        const mapped = await count() - before
        const view = region.view(0, 64 * 2 ** 20)
        const viewed = await count() - before
        mapping.unmap()
        region.close()
        const closed = await count() - before
        return { held, mapped, viewed, closed, detached: view.byteLength }
      }`,
      { ...withGc, args }
    )
  const SLACK = 4 * MiB
  const near = (counts, expected) => {
    for (const [moment, bytes] of Object.entries(expected)) {
      if (Math.abs(counts[moment] - bytes) > SLACK)
        throw new Error(`${moment}: ${JSON.stringify(counts)}`)
    }
  }

  test('has what a region in memory holds, once', async () => {
    const counts = await account('HostRegion => HostRegion.copyFrom(globalThis.bytes)')
    near(counts, { held: 64 * MiB, mapped: 64 * MiB, viewed: 64 * MiB, closed: 0 })
  })

  test('has what a loaded file holds, and not its holes', async () => {
    const file = directory.sparse(1024 * MiB, { [512 * MiB]: noise(64 * MiB) })
    const counts = await account('(HostRegion, file) => HostRegion.load(file)', file)
    near(counts, { held: 64 * MiB, mapped: 64 * MiB, closed: 0 })
  })

  // V8 itself counts the length of every ArrayBuffer, a view's too.
  test.each([
    ['a region that nobody has written', 'HostRegion => HostRegion.allocate(64 * 2 ** 20)'],
    ['a file', '(HostRegion, file) => HostRegion.open(file)']
  ])('has nothing of %s', async (_, make) => {
    const counts = await account(make, directory.file(noise(64 * MiB)))
    near(counts, { held: 0, mapped: 0, closed: 0 })
  })

  test('has it back when a region is collected', async () => {
    const { held, left } = await inChild(async ({ hostmap, collect }) => {
      const external = () => process.memoryUsage().external
      globalThis.bytes = Buffer.alloc(64 * 2 ** 20, 1)
      await collect()
      const before = external()
      ;(() => void hostmap.HostRegion.copyFrom(globalThis.bytes))()
      const held = external() - before
      await collect(8)
      return { held, left: external() - before }
    }, withGc)
    near({ held, left }, { held: 64 * MiB, left: 0 })
  })
})

test('a process with regions, views, mappings and loads under way ends by itself, with code 0', async () => {
  const file = directory.file(noise(32 * MiB))
  await inChild(
    ({ hostmap, args: file }) => {
      const { HostRegion, GuardedMemory } = hostmap
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
      const guarded = new GuardedMemory({ initial: 2, maximum: 4, shared: true })
      globalThis.held = [region.view(), guarded.map(region, { at: 0 })]
      HostRegion.load(file)
    },
    { args: file }
  )
})

describe('a window', () => {
  test('that is collected leaves what it shows where it is, and its region open no longer than that', async () => {
    const seen = await inChild(async ({ hostmap, collect, mappingsNamed, probe, assert }) => {
      const { HostRegion, GuardedMemory } = hostmap
      const guarded = new GuardedMemory({ initial: 2, maximum: 4 })
      const guest = await probe(guarded.memory)
      ;(() => {
        const region = HostRegion.copyFrom(Buffer.alloc(3 * 65536, 7), { name: 'outlived' })
        const window = guarded.window({ byteLength: 65536, at: 65536 })
        window.slide(region, 0)
        window.slide(region, 65536)
      })()
      await collect(8)
      assert.throws(() => guest.store8(65536, 1), WebAssembly.RuntimeError)
      const kinds = guarded.layout().ranges.filter(({ kind }) => kind === 'mapped')
      const inMemory = mappingsNamed('/memfd:outlived').some(
        ({ end, start }) => end - start === 65536
      )
      return { byte: guest.load8(2 * 65536 - 1), mapped: kinds.length, inMemory }
    }, withGc)
    expect(seen).toEqual({ byte: 7, mapped: 1, inMemory: true })
  })

  test('keeps what it shows, and a source its window and region', async () => {
    const seen = await inChild(async ({ hostmap, collect }) => {
      const { HostRegion, GuardedMemory } = hostmap
      const make = () => {
        const guarded = new GuardedMemory({ initial: 1, maximum: 4 })
        const region = HostRegion.copyFrom(Buffer.alloc(65536, 7), { name: 'kept' })
        return { window: guarded.window({ byteLength: 16384 }), region }
      }
      const window = (() => {
        const { window, region } = make()
        window.slide(region, 100)
        return window
      })()
      const source = (() => {
        const { window, region } = make()
        return window.source(region)
      })()
      const { next, pointer } = (() => {
        const { window, region } = make()
        return window.source(region).imports
      })()
      await collect(8)
      source.next()
      return {
        window: [
          window.region.name,
          window.region.closed,
          new Uint8Array(window.memory.buffer)[window.address]
        ],
        source: [source.region.closed, new Uint8Array(source.window.memory.buffer)[source.pointer]],
        imports: [next(0) > 0, typeof pointer()]
      }
    }, withGc)
    expect(seen).toEqual({
      window: ['kept', false, 7],
      source: [false, 7],
      imports: [true, 'number']
    })
  })

  const MEMORIES = 32
  test.each([
    ['unshared', '{ initial: 16, maximum: 32 }'],
    ['shared', '{ initial: 16, maximum: 32, shared: true }']
  ])('goes with its memory, and with all that it holds: %s', async (_, descriptor) => {
    const seen = await inChild(
      async ({ hostmap, collect, mappingsNamed, countOpen, processMap, args }) => {
        const { HostRegion, GuardedMemory } = hostmap
        const descriptor = (0, eval)(`(${args.descriptor})`)
        const use = () => {
          const regions = [
            HostRegion.copyFrom(Buffer.alloc(3 * 65536, 7), { name: 'seen in windows' }),
            HostRegion.open(args.file)
          ]
          const guarded = new GuardedMemory(descriptor)
          for (const [i, access] of ['readonly', 'private', 'shared'].entries()) {
            for (const [j, region] of regions.entries()) {
              const window = guarded.window({ byteLength: 65536, at: (2 * i + j) * 65536, access })
              const allowed = j === 1 && access === 'shared' ? 'private' : access
              const source = window.source(region, { access: allowed })
              while (source.next() > 0) new Uint8Array(guarded.buffer)[source.pointer]
              window.slide(null)
              window.slide(region, 5, { access: allowed })
            }
          }
          return {
            memory: new WeakRef(guarded.memory),
            ours: mappingsNamed('seen in windows').length
          }
        }
        // As many before, for what is made but once, and for V8's heap, which grows by them.
        const makeAll = () => Array.from({ length: args.memories }, use)
        makeAll()
        await collect(12)
        const before = processMap().length
        const used = makeAll()
        await collect(12)
        return {
          ours: used[0].ours,
          after: mappingsNamed('seen in windows').length,
          open: countOpen('seen in windows'),
          alive: used.filter(({ memory }) => memory.deref() !== undefined).length,
          added: processMap().length - before
        }
      },
      {
        ...withGc,
        args: {
          descriptor,
          memories: MEMORIES,
          file: directory.file(Buffer.alloc(3 * 65536, 7), `seen in windows ${_}`)
        }
      }
    )
    expect(seen).toMatchObject({ after: 0, open: 0, alive: 0 })
    expect(seen.ours).toBeGreaterThanOrEqual(6)
    // Less than one for each memory. Some are of V8's heap.
    expect(seen.added).toBeLessThanOrEqual(24)
  })

  test('that is unmapped holds nothing, even if its object is kept', async () => {
    const seen = await inChild(async ({ hostmap, collect, mappingsNamed, countOpen }) => {
      const { HostRegion, GuardedMemory } = hostmap
      const guarded = new GuardedMemory({ initial: 2, maximum: 16 })
      const window = guarded.window({ byteLength: 65536 })
      ;(() => {
        const region = HostRegion.copyFrom(Buffer.alloc(3 * 65536, 7), { name: 'let go' })
        for (const { bytes } of window.chunks(region)) bytes[0]
        window.unmap()
      })()
      await collect(8)
      return [mappingsNamed('/memfd:let go').length, countOpen('/memfd:let go'), window.unmapped]
    }, withGc)
    expect(seen).toEqual([0, 0, true])
  })

  test('lets go of a region that it slid away from', async () => {
    const seen = await inChild(async ({ hostmap, collect, mappingsNamed, countOpen }) => {
      const { HostRegion, GuardedMemory } = hostmap
      const window = new GuardedMemory({ initial: 2, maximum: 16 }).window({ byteLength: 65536 })
      for (let i = 0; i < 20; i++) {
        window.slide(HostRegion.copyFrom(Buffer.alloc(65536, i), { name: 'passed by' }), 0)
      }
      await collect(8)
      const byte = new Uint8Array(window.memory.buffer)[window.address]
      return [byte, countOpen('/memfd:passed by'), mappingsNamed('/memfd:passed by').length <= 2]
    }, withGc)
    expect(seen).toEqual([19, 1, true])
  })

  test('during an asynchronous loop, of a file that is read ahead: the process ends by itself, with code 0', async () => {
    const file = directory.file(noise(64 * MiB))
    for (const how of ['return', 'process.exit']) {
      await inChild(
        async ({ hostmap, args: { file, how } }) => {
          const { HostRegion, GuardedMemory } = hostmap
          const guarded = new GuardedMemory({ initial: 1, maximum: 1000, shared: true })
          const region = HostRegion.open(file)
          const loops = [1, 2].map(async () => {
            const window = guarded.window({ byteLength: 2 ** 20 })
            let sum = 0
            for await (const { bytes } of window.chunks(region, { leaveBehind: true }))
              sum += bytes[0]
            return sum
          })
          globalThis.held = [guarded, region, loops]
          await new Promise(resolve => setTimeout(resolve, 5))
          if (how === 'process.exit') {
            process.stdout.write('\nnull\n')
            process.exit(0)
          }
        },
        { args: { file, how } }
      )
    }
  })
})

test('a thread that ends during loads and saves leaves nothing of them', async () => {
  const folder = fs.mkdtempSync(path.join(directory.path, 'ending-'))
  fs.writeFileSync(path.join(folder, 'bytes'), noise(32 * MiB))
  const seen = await inChild(
    async ({ hostmap, countOpen, require, args }) => {
      const { Worker } = require('node:worker_threads')
      const { readdirSync } = require('node:fs')
      const { HostRegion, GuardedMemory, Snapshot } = hostmap
      const guarded = new GuardedMemory({ initial: 512 })
      const region = await HostRegion.load(`${args.folder}/bytes`, { name: 'first' })
      new Uint8Array(guarded.buffer).set(new Uint8Array(region.view()))
      await guarded.snapshot({ name: 'second' }).save(`${args.folder}/taken`)
      const source = `
        const { GuardedMemory, HostRegion, Snapshot } = require(${JSON.stringify(args.root)})
        const { parentPort, workerData } = require('node:worker_threads')
        HostRegion.load(${JSON.stringify(`${args.folder}/bytes`)}, { name: 'left' })
        Snapshot.load(${JSON.stringify(`${args.folder}/taken`)})
        const memory = new GuardedMemory({ initial: 512 })
        new Uint8Array(memory.buffer).fill(workerData + 1)
        memory.snapshot({ name: 'left' }).save(${JSON.stringify(`${args.folder}/saved`)})
        parentPort.postMessage('started')`
      for (let i = 0; i < 6; i++) {
        const worker = new Worker(source, { eval: true, workerData: i })
        await new Promise(resolve => worker.once('message', resolve))
        await worker.terminate()
      }
      const saved = await Snapshot.load(`${args.folder}/saved`)
      guarded.restore(saved)
      const [first] = new Uint8Array(guarded.buffer)
      return {
        left: countOpen('/memfd:left') + countOpen('/memfd:taken') + countOpen(args.folder),
        files: readdirSync(args.folder).sort(),
        first
      }
    },
    { args: { root: path.join(__dirname, '..'), folder } }
  )
  expect(seen).toEqual({ left: 0, files: ['bytes', 'saved', 'taken'], first: 6 })
})
