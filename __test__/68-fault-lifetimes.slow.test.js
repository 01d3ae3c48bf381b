'use strict'

// Faults and the ends of things: what is collected, unmapped, closed, terminated or unloaded while
// it faults leaves no trace in what lives on; and a real crash is still a crash.

const { execFile, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { temporaryDirectory } = require('./support/files')
const { inChild } = require('./support/child')
const { nativePath } = require('./support/native')
const { skipUnless } = require('./support/skip')
const { assemble, compileProbe, MiB } = require('./support/wasm')

const ROOT = path.join(__dirname, '..')
const directory = temporaryDirectory()
const withGc = { flags: ['--expose-gc'] }

// Children find them in the cache, and don't each start an assembler.
beforeAll(() => Promise.all([compileProbe(), compileProbe({ shared: true }), assemble(LOAD)]))

const LOAD =
  '(module (memory 1) (func (export "load") (param i32) (result i32) (i32.load (local.get 0))))'

// In an emulated machine (npm run test:vm), all rounds would take longer than anybody waits.
const slowness = Number(process.env.SMOKE_SLOW ?? 1)

/** Runs a script that loads the package when it likes, and tells how it ended. */
function run(source, { flags = [], env = {}, args = [] } = {}) {
  const node = [process.execPath, ...flags, '-e', source, ...args]
  // No core dumps: they are large, and these crashes are meant to be.
  return new Promise(resolve => {
    const options = {
      env: { ...process.env, NODE_OPTIONS: '', ...env },
      maxBuffer: 2 ** 24,
      timeout: 30_000
    }
    execFile(
      '/bin/sh',
      ['-c', 'ulimit -c 0 && exec "$0" "$@"', ...node],
      options,
      (error, stdout, stderr) =>
        resolve({ signal: error?.signal ?? null, code: error ? error.code : 0, stdout, stderr })
    )
  })
}

/** What a script prints last, as JSON, if it ended well. */
async function resultOf(source, options) {
  const ended = await run(source, options)
  if (ended.code !== 0)
    throw new Error(`It ended by ${ended.signal ?? ended.code}.\n${ended.stderr.slice(-4000)}`)
  return JSON.parse(ended.stdout.trim().split('\n').at(-1))
}

/** For scripts: the package under its own names, from this folder. */
const requireFrom = folder =>
  `const { HostRegion, GuardedMemory, limits } = require(${JSON.stringify(folder)});`

function orders(items) {
  if (items.length < 2) return [items]
  return items.flatMap(first =>
    orders(items.filter(item => item !== first)).map(rest => [first, ...rest])
  )
}

describe('memories, mappings, regions and views that end in any order, faulting before and after', () => {
  test.each(['forgotten and collected', 'unmapped and closed'])(
    '%s: what is left works, the data stays as it was, and in the end nothing is left',
    async how => {
      const seen = await inChild(
        async ({ hostmap, collect, countOpen, mappingsNamed, assert, require, args }) => {
          const fs = require('node:fs')
          const { HostRegion, GuardedMemory } = hostmap
          const { pageSize: page } = hostmap.limits()
          const AT = 4 * 65536
          // Of the file, the second half is lost.
          const data = Buffer.alloc(16 * page, 7)
          const make = {
            memfd() {
              const region = HostRegion.copyFrom(data, { name: 'ends.bin' }).seal()
              return { region, fd: region.duplicateFd() }
            },
            file() {
              fs.writeFileSync(args.file, data)
              return { region: HostRegion.open(args.file), fd: fs.openSync(args.file, 'r+') }
            }
          }
          const present = Buffer.alloc(8 * page)
          let checks = 0

          // Touches another page each time, by whatever is left, and sees that the counts agree.
          const touch = (held, kind, round) => {
            const memory = held.memory?.memory ?? held.mapping?.memory.memory
            const stray = (array, start) => {
              const at = start + round * page
              assert.equal(array[at], 7)
              array[at] = 9
              assert.equal(array[at], 9)
              if (kind === 'file') assert.equal(array[at + 8 * page], held.grownBack ? 7 : 0)
              checks++
            }
            if (memory !== undefined && !held.ended.has('mapping')) {
              const before = held.mapping && [held.mapping.strayWrites, held.mapping.faults]
              stray(new Uint8Array(memory.buffer), AT)
              if (before !== undefined) {
                const lost = kind === 'file' && !held.grownBack ? 1 : 0
                assert.deepEqual(
                  [held.mapping.strayWrites, held.mapping.faults],
                  [before[0] + 1, before[1] + lost]
                )
              }
            } else if (memory !== undefined) {
              // The memory's own zeros are there.
              const array = new Uint8Array(memory.buffer)
              assert.equal(array[AT + round * page], 0)
              array[AT + round * page] = 9
            }
            if (held.view !== undefined && !held.ended.has('region')) {
              const before = held.region?.strayWrites
              stray(new Uint8Array(held.view), 0)
              if (before !== undefined) assert.equal(held.region.strayWrites, before + 1)
            } else if (held.view !== undefined) {
              assert.equal(held.view.byteLength, 0)
            }
          }

          // A function, so that what it held is not held by the next.
          const inOrder = async (kind, order) => {
            const held = { ended: new Set(), grownBack: false }
            const fd = (() => {
              const { region, fd } = make[kind]()
              held.region = region
              held.memory = new GuardedMemory({ initial: 16, maximum: 32 })
              held.mapping = held.memory.map(region, { at: AT })
              held.view = region.view()
              return fd
            })()
            if (kind === 'file') fs.ftruncateSync(fd, 8 * page)
            touch(held, kind, 0)
            for (const [i, end] of order.entries()) {
              if (args.how === 'unmapped and closed' && (end === 'mapping' || end === 'region')) {
                if (end === 'mapping') held.mapping.unmap()
                else held.region.close()
                held.ended.add(end)
              }
              held[end] = undefined
              // Whether it was collected by then shall not matter.
              if (i % 2 === 0) await collect(2)
              if (kind === 'file' && i === 1) {
                fs.writeSync(fd, data, 0, 8 * page, 8 * page)
                held.grownBack = true
              }
              if (kind === 'file' && i === 2) {
                fs.ftruncateSync(fd, 8 * page)
                held.grownBack = false
              }
              touch(held, kind, i + 1)
              fs.readSync(fd, present, 0, 8 * page, 0)
              assert.ok(present.equals(data.subarray(0, 8 * page)), `the data changed: ${order}`)
            }
            fs.closeSync(fd)
          }
          for (const kind of ['memfd', 'file'])
            for (const order of args.orders) await inOrder(kind, order)
          await collect(8)
          return { checks, mapped: mappingsNamed('ends.bin').length, open: countOpen('ends.bin') }
        },
        {
          ...withGc,
          args: {
            how,
            file: directory.file(undefined, 'ends.bin'),
            orders: orders(['memory', 'mapping', 'region', 'view'])
          }
        }
      )
      expect(seen).toMatchObject({ mapped: 0, open: 0 })
      expect(seen.checks).toBeGreaterThan(150)
    }
  )
})

// The address space is filled up with memories first, so that the next one gets the place of the
// last that died. All are V8's own, as the library would choose another place for some.
const crowded = `
  const { native } = require('./native')
  const { HostRegion, GuardedMemory } = hostmap
  const { pageSize: page } = hostmap.limits()
  const AT = 65536
  const baseOf = memory => native.baseOf(new Uint8Array(memory.buffer))
  const warnings = []
  process.on('warning', ({ code, message }) => warnings.push({ code, message }))
  const turn = () => new Promise(resolve => setImmediate(resolve))
  const plain = (wasmPages = 16) => new WebAssembly.Memory({ initial: wasmPages, maximum: wasmPages })
  new GuardedMemory({ initial: 1 }).map(HostRegion.allocate(1), { at: 0 })
  const crowd = []
  try {
    for (;;) crowd.push(new WebAssembly.Memory({ initial: 0, maximum: 65536 }))
  } catch {
    crowd.length -= 3
  }
  /**
   * Lets a memory die that 'before' maps into, and makes another one in its place before any
   * finalizer ran. Gives it to 'after', so many times.
   */
  const comeBack = async (times, make, before, after) => {
    let done = 0
    for (let tries = 0; done < times && tries < 100 * times; tries++) {
      const base = (() => {
        const guarded = GuardedMemory.from(plain())
        before(guarded)
        return baseOf(guarded.memory)
      })()
      await turn()
      gc()
      let made
      try {
        made = make()
      } catch {
        continue
      }
      if (baseOf(made.memory ?? made) !== base) continue
      await after(made)
      done++
    }
    return done
  }
`
const crowdedChild = (body, options = {}) =>
  inChild(
    `async support => { const { hostmap, probe, collect, failure, assert, require, args } = support; ${crowded}; return (${body})(support) }`,
    { ...withGc, ...options }
  )

describe('a base address that comes back before the dead memory was heard of', () => {
  /* global HostRegion, GuardedMemory, page, AT, comeBack, warnings, baseOf, crowd, plain, probe, collect, assert, args, turn, gc, failure, require */

  test('as the base of a plain memory: nothing of it is counted, protected or replaced', async () => {
    const seen = await crowdedChild(async () => {
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7), { name: 'of a dead memory' })
      const make = () => plain(2)
      // No stray write before it dies.
      const map = guarded => guarded.map(region, { at: AT })
      const done = await comeBack(5, make, map, async memory => {
        const guest = await probe(memory)
        // The memory ends at 128 KiB; the dead mapping ended there, too.
        const error = await failure(() => guest.store8(2 * 65536, 1))
        assert.equal(error.name, 'RuntimeError')
        const array = new Uint8Array(memory.buffer)
        array.fill(3)
        await collect(3)
        assert.ok(array.every(byte => byte === 3))
        guest.store8(AT, 4)
        assert.equal(array[AT], 4)
      })
      return { done, warnings }
    })
    expect(seen).toEqual({ done: 5, warnings: [] })
  })

  test('under a smaller memory: out of bounds where the dead mapping was is an ordinary trap', async () => {
    const seen = await crowdedChild(async () => {
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
      const map = guarded => {
        guarded.map(region, { at: 8 * AT })
        guarded.map(region, { at: 9 * AT, access: 'private' })
      }
      const make = () => plain(1)
      const done = await comeBack(5, make, map, async memory => {
        const guest = await probe(memory)
        // Before the finalizers of the dead one, and after them.
        for (let round = 0; round < 2; round++) {
          for (const access of ['load8', 'store8', 'atomicAdd', 'load64']) {
            for (const at of [8 * AT, 9 * AT]) {
              const error = await failure(() => guest.touch(access, at, 1))
              assert.equal(error.name, 'RuntimeError', access)
            }
          }
          await collect(3)
        }
      })
      return { done, warnings }
    })
    expect(seen).toEqual({ done: 5, warnings: [] })
  })

  test('as the base of a memory that is mapped anew: the new mapping has its own faults, also when the old one is finalized', async () => {
    const seen = await crowdedChild(
      async () => {
        const fs = require('node:fs')
        fs.writeFileSync(args, Buffer.alloc(16 * page, 5))
        const file = HostRegion.open(args)
        const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
        // The same pages in the same place, and others that overlap.
        const map = guarded => {
          guarded.map(region, { at: AT })
          guarded.map(file, { at: 4 * AT })
        }
        const make = () => GuardedMemory.from(plain())
        const done = await comeBack(5, make, map, async guarded => {
          const guest = await probe(guarded.memory)
          const array = new Uint8Array(guarded.buffer)
          const mappings = [
            guarded.map(region, { at: AT }),
            guarded.map(region, { at: 4 * AT - 2 * page, byteLength: 4 * page }),
            guarded.map(region, { at: 4 * AT + 2 * page, byteLength: page, access: 'private' })
          ]
          const lost = guarded.map(file, { at: 4 * AT + 4 * page })
          fs.truncateSync(args, 8 * page)
          const fault = round => {
            for (const mapping of mappings) array[mapping.address + (round * page) / 2] = 9
            assert.equal(array[lost.address + (8 + round) * page], 0)
          }
          fault(0)
          assert.deepEqual(
            [...mappings, lost].map(each => each.strayWrites),
            [1, 1, 0, 0]
          )
          assert.deepEqual(
            [...mappings, lost].map(each => each.faults),
            [0, 0, 0, 1]
          )
          // Now the dead ones are taken out.
          await collect(4)
          GuardedMemory.from(guarded.memory)
          fault(1)
          assert.deepEqual(
            [...mappings, lost].map(each => each.strayWrites),
            [2, 2, 0, 0]
          )
          assert.deepEqual(
            [...mappings, lost].map(each => each.faults),
            [0, 0, 0, 2]
          )
          GuardedMemory.from(guarded.memory)
          for (const at of [AT, 4 * AT])
            assert.equal((await failure(() => guest.store8(at, 1))).name, 'RuntimeError')
          guest.store8(4 * AT + 2 * page, 1)
          fs.truncateSync(args, 16 * page)
        })
        assert.ok(new Uint8Array(region.view()).every(byte => byte === 7))
        // Two readonly mappings and the file's, each time.
        return { done, warnings: warnings.length }
      },
      { args: directory.file() }
    )
    expect(seen).toEqual({ done: 5, warnings: 15 })
  })

  test("of views: an address that was another region's view has the new one's faults", async () => {
    const seen = await inChild(async ({ hostmap, collect, assert, require }) => {
      const { HostRegion } = hostmap
      const { native } = require('./native')
      const addresses = new Map()
      let again = 0
      for (let i = 0; i < 40; i++) {
        const region = HostRegion.copyFrom(Buffer.alloc(65536, i)).seal()
        ;(() => {
          const view = new Uint8Array(region.view())
          const address = native.baseOf(view)
          if (addresses.has(address)) again++
          addresses.set(address, region)
          view[5] = 255
          assert.deepEqual([view[5], view[6], region.strayWrites], [255, i, 1])
        })()
        // Odd ones are closed at once, and their addresses stay taken till the buffer is collected.
        if (i % 2) region.close()
        await collect(2)
      }
      for (const region of addresses.values()) assert.equal(region.strayWrites, 1)
      return again
    }, withGc)
    expect(seen).toBeGreaterThan(0)
  })
})

// What a thread does over and over: a function of what it has, that gives a round. `lose` cuts the
// file in half under its mappings, `restore` makes it whole again.
const ACTIVITIES = {
  'maps and unmaps': `({ guarded, region, at }) => () => guarded.map(region, { at }).unmap()`,
  'writes to what is read-only': `({ guarded, region, at, u8 }) => () => {
    const mapping = guarded.map(region, { at })
    for (let i = 0; i < 3; i++) u8[at + i * 4096] = 9
    Atomics.add(u8, at + 3 * 4096, 1)
    if (mapping.strayWrites < 1 || u8[at] !== 9 || u8[at + 3 * 4096] !== 8) throw new Error('not a private page')
    mapping.unmap()
  }`,
  'reads what a file lost': `({ guarded, file, at, u8, lose, restore }) => () => {
    const mapping = guarded.map(file, { at })
    lose()
    for (let i = 0; i < 16; i++) if (u8[at + i * 4096] !== (i < 8 ? 5 : 0)) throw new Error('wrong byte')
    if (mapping.faults < 1) throw new Error('not counted')
    mapping.unmap()
    restore()
  }`,
  'reads and writes views': `({ region, file, lose, restore }) => () => {
    const views = [region.view(), file.view()].map(view => new Uint8Array(view))
    lose()
    for (const view of views) view[4096] = view[60000]
    if (views[0][4096] !== 7 || views[1][4096] !== 0) throw new Error('wrong byte')
    restore()
  }`,
  'grows a memory with such mappings': `({ hostmap, region }) => {
    const make = () => new hostmap.GuardedMemory({ initial: 1, maximum: 100 })
    let guarded = make()
    return () => {
      const { address } = guarded.map(region)
      new Uint8Array(guarded.buffer)[address] = 9
      guarded.memory.grow(1)
      new Uint8Array(guarded.buffer)[address + 4096] = 9
      if (guarded.byteLength > 90 * 65536) guarded = make()
    }
  }`,
  'is told of faults': `({ guarded, region, file, at, u8, lose, restore, process }) => {
    process.on('warning', ({ code }) => {
      if (!code.startsWith('HOSTMAP_')) throw new Error(code)
    })
    return async () => {
      for (const [source, operation] of [[region, 'write'], [file, 'read']]) {
        const mapping = guarded.map(source, { at })
        if (source === file) lose()
        if (operation === 'write') u8[at + 60000] = 1
        else u8[at + 60000]
        if (mapping.lastFault.operation !== operation) throw new Error('not the last fault')
        mapping.unmap()
      }
      restore()
      await new Promise(resolve => setImmediate(resolve))
    }
  }`
}

// In a child: a dataset, a shared memory of 64 Wasm pages, and workers that do something for ever.
// A worker maps at the Wasm page of its slot.
const threads = `
  const { TestWorker } = require('./worker')
  const fs = require('node:fs')
  const { HostRegion, GuardedMemory } = hostmap
  const dataset = HostRegion.copyFrom(Buffer.alloc(65536, 7), { name: 'dataset' })
  const guarded = new GuardedMemory({ initial: 64, maximum: 64, shared: true })
  const rounds = new Int32Array(new SharedArrayBuffer(256))
  const fileOf = slot => args.directory + '/lost-' + process.pid + '-' + slot
  const start = async (activity, slot) => {
    const worker = new TestWorker()
    fs.writeFileSync(fileOf(slot), Buffer.alloc(65536, 5))
    await worker.run(
      ({ hostmap, state }, { activity, memory, fd, path, slot, rounds }) => {
        const { createRequire } = process.getBuiltinModule?.('module') ?? process.mainModule.constructor
        const fs = createRequire('/')('node:fs')
        const { HostRegion, GuardedMemory } = hostmap
        const file = fs.openSync(path, 'r+')
        const half = Buffer.alloc(32768, 5)
        const round = (0, eval)(activity)({
          hostmap,
          process,
          guarded: GuardedMemory.from(memory),
          u8: new Uint8Array(memory.buffer),
          at: slot * 65536,
          // Opened for reading, which is as good as sealed.
          region: HostRegion.fromFd(fs.openSync('/proc/self/fd/' + fd)),
          file: HostRegion.open(path),
          lose: () => fs.ftruncateSync(file, 32768),
          restore: () => fs.writeSync(file, half, 0, 32768, 32768)
        })
        const count = () => Atomics.add(rounds, slot, 1)
        state.loop = async () => {
          for (;;) {
            const done = round()
            if (done?.then) await done
            count()
          }
        }
      },
      { activity, memory: guarded.memory, fd: dataset.duplicateFd(), path: fileOf(slot), slot, rounds }
    )
    return worker
  }
  // Runs till the thread is ended, and never answers. Gives what it died of, if it did so by
  // itself.
  const loop = worker =>
    worker.run(({ state }) => new Promise((_, reject) => setImmediate(() => state.loop().catch(reject))))
  const roundsOf = async (slot, count) => {
    const until = Atomics.load(rounds, slot) + count
    while (Atomics.load(rounds, slot) < until) await new Promise(resolve => setTimeout(resolve, 1))
  }
  const assertUnchanged = () => {
    assert.ok(Buffer.from(dataset.view()).every(byte => byte === 7), 'the dataset changed')
  }
`
const threadsChild = (body, options = {}) =>
  inChild(
    `async support => { const { hostmap, probe, failure, assert, require, args, fdOf } = support; ${threads}; return (${body})(support) }`,
    { flags: ['--no-warnings'], ...options, args: { directory: directory.path, ...options.args } }
  )
/* global TestWorker, dataset, guarded, rounds, fileOf, start, loop, roundsOf, assertUnchanged */

describe('worker.terminate() in the middle of it', () => {
  test.each(Object.entries(ACTIVITIES))(
    'of a thread that %s: all others go on',
    async (_, activity) => {
      const seen = await threadsChild(
        async ({ collect }) => {
          const own = guarded.map(dataset, { at: 63 * 65536 })
          const guest = await probe(guarded.memory)
          const u8 = new Uint8Array(guarded.buffer)
          const page = hostmap.limits().pageSize
          const failures = []
          for (let i = 0; i < args.times; i++) {
            const worker = await start(args.activity, i)
            loop(worker).catch(error => failures.push(error.message))
            await roundsOf(i, 1 + ((i * 37) % 50))
            await worker.end()
            // Faults of this thread are handled as before.
            const { strayWrites } = own
            u8[own.address + i * page] = 9
            assert.equal(own.strayWrites, strayWrites + 1)
            assert.equal(
              (await failure(() => guest.store8(own.address + 12 * page, 1))).name,
              'RuntimeError'
            )
            // What the worker left may be a mapping or not; it can be read and written in any case.
            for (let at = i * 65536; at < (i + 1) * 65536; at += page) u8[at] = u8[at] + 1
            assertUnchanged()
          }
          await collect(2)
          return failures
        },
        { flags: ['--no-warnings', '--expose-gc'], args: { activity, times: 4 } }
      )
      expect(seen).toEqual([])
    }
  )
})

test('threads that end with regions, memories and mappings that faulted leave no address space behind', async () => {
  const grown = await inChild(
    async ({ status, require, args }) => {
      const { Worker } = require('node:worker_threads')
      const source = `
        const { HostRegion, GuardedMemory } = require(${JSON.stringify(require.resolve('../..'))})
        globalThis.region = HostRegion.copyFrom(Buffer.alloc(${args.bytes}, 1))
        globalThis.guarded = new GuardedMemory({ initial: 1024 })
        guarded.map(region, { at: 0 })
        new Uint8Array(guarded.buffer)[0] = 1`
      const sizes = []
      for (let i = 0; i < 8; i++) {
        const worker = new Worker(source, { eval: true })
        await new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject))
        sizes.push(status('VmSize'))
      }
      // The first ones find room for what threads need.
      return sizes.at(-1) - sizes[2]
    },
    { flags: ['--no-warnings'], args: { bytes: 32 * MiB } }
  )
  expect(grown).toBeLessThan(32 * MiB)
})

describe('the end of the process', () => {
  const activities = Object.values(ACTIVITIES)

  test('by process.exit() while six threads are in the middle of it: its code is the one that was given', async () => {
    const ended = inChild(
      `async support => {
        const { hostmap, assert, require, args, fdOf } = support; ${threads}
        const workers = await Promise.all(args.activities.map(start))
        for (const worker of workers) loop(worker).catch(() => {})
        await Promise.all(workers.map((_, slot) => roundsOf(slot, 3)))
        process.exit(7)
      }`,
      { flags: ['--no-warnings'], args: { directory: directory.path, activities } }
    )
    await expect(ended).rejects.toThrow(/ended with code 7/)
  })

  test('of one thread by process.exit() while others are in the middle of it: they go on', async () => {
    const failures = await threadsChild(
      async () => {
        const failures = []
        const others = await Promise.all([start(args.strays, 0), start(args.lost, 1)])
        for (const other of others) loop(other).catch(error => failures.push(error.message))
        for (let i = 2; i < 6; i++) {
          const leaver = await start(
            args.strays.replace('mapping.unmap()', 'if (Math.random() < 0.1) process.exit(0)'),
            i
          )
          loop(leaver).catch(() => {})
          await leaver.end()
          await Promise.all([roundsOf(0, 5), roundsOf(1, 5)])
        }
        assertUnchanged()
        await Promise.all(others.map(other => other.end()))
        return failures
      },
      {
        args: {
          // Its mappings stay when it leaves; it never asks for that place again.
          strays: ACTIVITIES['writes to what is read-only'].replaceAll(
            '({ guarded,',
            '({ process, guarded,'
          ),
          lost: ACTIVITIES['reads what a file lost']
        }
      }
    )
    expect(failures).toEqual([])
  })

  test('by an exception nobody catches, right after faults', async () => {
    const ended = await run(`${requireFrom(ROOT)}
      const guarded = new GuardedMemory({ initial: 1 })
      guarded.map(HostRegion.allocate(65536), { at: 0 })
      new Uint8Array(guarded.buffer)[0] = 1
      throw new Error('on purpose')`)
    expect(ended).toMatchObject({
      code: 1,
      signal: null,
      stderr: expect.stringContaining('on purpose')
    })
  })
})

describe('loaded in a worker alone', () => {
  // Node unloads an addon when the last thread that loaded it ends.
  const outOfBounds = `
    const { load } = new WebAssembly.Instance(new WebAssembly.Module(Buffer.from(process.argv[1], 'base64'))).exports
    const trap = () => {
      try {
        return load(1 << 20)
      } catch (error) {
        return error.name
      }
    }`
  const fault = `
    const guarded = new GuardedMemory({ initial: 2 })
    const mapping = guarded.map(HostRegion.allocate(65536), { at: 0 })
    new Uint8Array(guarded.buffer)[0] = 1
    const traps = limits().faultGuard.traps
    require('node:worker_threads').parentPort?.postMessage([mapping.strayWrites, traps])`

  test('when it has ended, traps are traps and later threads load it again', async () => {
    const wasm = (await assemble(LOAD)).toString('base64')
    const seen = await resultOf(
      `${outOfBounds}
      const { Worker } = require('node:worker_threads')
      const inWorker = async source => {
        const worker = new Worker(source, { eval: true })
        const messages = []
        worker.on('message', message => messages.push(message))
        await new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject))
        return messages
      }
      const source = ${JSON.stringify(requireFrom(ROOT) + fault)}
      ;(async () => {
        const seen = []
        for (let i = 0; i < 3; i++) seen.push(await inWorker(source), trap())
        // Then here.
        ${requireFrom(ROOT)}
        const guarded = new GuardedMemory({ initial: 1 })
        const mapping = guarded.map(HostRegion.allocate(65536), { at: 0 })
        new Uint8Array(guarded.buffer)[0] = 1
        console.log(JSON.stringify([...seen, mapping.strayWrites, trap()]))
      })()`,
      { flags: ['--no-warnings'], args: [wasm] }
    )
    const [worker, main] = [[[1, true]], 'RuntimeError']
    expect(seen).toEqual([worker, main, worker, main, worker, main, 1, 'RuntimeError'])
  })

  test('and ended at any moment of that, the next thread has all of it', async () => {
    const wasm = (await assemble(LOAD)).toString('base64')
    const seen = await resultOf(
      `${outOfBounds}
      const { Worker } = require('node:worker_threads')
      const source = ${JSON.stringify(requireFrom(ROOT) + fault)}
      ;(async () => {
        const traps = []
        for (let i = 0; i < 8; i++) {
          const worker = new Worker(source, { eval: true })
          await new Promise(resolve => worker.once('online', resolve))
          await new Promise(resolve => setTimeout(resolve, i))
          await worker.terminate()
          traps.push(trap())
        }
        const worker = new Worker(source, { eval: true })
        const message = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
        console.log(JSON.stringify({ traps, message }))
      })()`,
      { flags: ['--no-warnings'], args: [wasm] }
    )
    expect(seen).toEqual({ traps: Array(8).fill('RuntimeError'), message: [1, true] })
  })

  test('and ended while it is learning how V8 can be asked, the next thread learns it', async () => {
    const native = JSON.stringify(nativePath())
    const seen = await resultOf(
      `const { Worker } = require('node:worker_threads')
      const source = ${JSON.stringify(`
        const native = require(${native})
        const { beginProbe } = native
        native.beginProbe = array => {
          const begun = beginProbe(array)
          require('node:worker_threads').parentPort.postMessage(begun)
          for (;;);
        }
        ${requireFrom(ROOT)} ${fault}`)}
      const worker = new Worker(source, { eval: true })
      worker.once('message', async begun => {
        await worker.terminate()
        ${requireFrom(ROOT)}
        console.log(JSON.stringify([begun, limits().faultGuard.traps]))
      })`
    )
    expect(seen).toEqual([true, true])
  })
})

describe('several installs in one process', () => {
  const installs = []
  beforeAll(() => {
    const binary = process.env.WASM_HOSTMAP_BINARY_PATH
    for (const name of ['one', 'two']) {
      const folder = path.join(directory.path, name)
      fs.mkdirSync(folder)
      for (const entry of ['index.js', 'package.json', 'lib']) {
        fs.cpSync(path.join(ROOT, entry), path.join(folder, entry), { recursive: true })
      }
      for (const entry of fs
        .readdirSync(ROOT)
        .filter(entry => /^wasm-hostmap\..*\.node$/.test(entry))) {
        fs.cpSync(path.resolve(binary ?? path.join(ROOT, entry)), path.join(folder, entry))
      }
      installs.push(folder)
    }
  })
  // Else both would load the one build that it names.
  const env = { WASM_HOSTMAP_BINARY_PATH: '' }

  const both = `
    const fs = require('node:fs')
    const [one, two] = args.installs.map(folder => require(folder))
    const { pageSize: page } = one.limits()
    const warned = support.watchWarnings()
  `
  const bothChild = (body, options = {}) =>
    inChild(
      `async support => { const { probe, collect, failure, assert, require, args } = support; ${both}; return (${body})(support) }`,
      {
        env,
        flags: ['--expose-gc', '--no-warnings'],
        ...options,
        args: { installs, ...options.args }
      }
    )
  /* global hostmap, one, two, warned */

  test('each sees to its own mappings, views and lost files, and both leave crashes to those below', async () => {
    const seen = await bothChild(
      async () => {
        const make = async ({ HostRegion, GuardedMemory }, i) => {
          const name = ['first', 'second'][i]
          const path = `${args.file}-${name}`
          fs.writeFileSync(path, Buffer.alloc(8 * page, 5))
          const region = HostRegion.copyFrom(Buffer.alloc(8 * page, 7), { name }).seal()
          const guarded = new GuardedMemory({ initial: 16 })
          const mapping = guarded.map(region, { at: 0 })
          const lost = guarded.map(HostRegion.open(path), { at: 65536 })
          fs.truncateSync(path, page)
          const guest = await probe(guarded.memory)
          return { region, guarded, mapping, lost, guest, view: new Uint8Array(region.view()) }
        }
        const all = await Promise.all([one, two].map(make))
        for (let round = 0; round < 3; round++) {
          for (const { guarded, view, guest, mapping } of all) {
            const u8 = new Uint8Array(guarded.buffer)
            u8[round * page] = 9
            guest.touch('atomicAdd', round * page + 64, 5)
            view[round * page] = 8
            assert.equal(u8[65536 + (2 + round) * page], 0)
            for (const at of [(4 + round) * page, 65536 + 6 * page, 2 ** 31]) {
              const access = at < 65536 ? 'store8' : 'load8'
              assert.equal((await failure(() => guest.touch(access, at, 1))).name, 'RuntimeError')
            }
            assert.equal(mapping.lastFault.outcome, 'trap')
          }
        }
        // Six warnings; a seventh would come before those that end it.
        const end = ({ HostRegion }) => HostRegion.copyFrom(Buffer.alloc(1), { name: 'end' }).seal()
        await warned.until(6)
        const ends = [one, two].map(each => new Uint8Array(end(each).view()))
        for (const view of ends) view[0] = 1
        const warnings = (await warned.until(8)).map(
          ({ code, message }) => `${code} ${/region "(.*?)"/.exec(message)[1]}`
        )
        const counts = all.map(({ mapping, lost, region }) => [
          mapping.strayWrites,
          lost.faults,
          region.strayWrites
        ])
        const handlers = [one, two].map(each => each.limits().faultGuard)
        return { counts, handlers, warnings: warnings.sort() }
      },
      { args: { file: directory.file() } }
    )
    expect(seen.counts).toEqual(Array(2).fill([3, 6, 3]))
    // They share one native part, and so one handler, above which nobody is.
    expect(seen.handlers).toEqual(Array(2).fill({ handler: 'first', traps: true, reason: null }))
    expect(seen.warnings.filter(text => text.startsWith('HOSTMAP_STRAY_WRITE'))).toEqual(
      ['end', 'end', 'first', 'first', 'second', 'second'].map(
        name => `HOSTMAP_STRAY_WRITE ${name}`
      )
    )
    expect(seen.warnings.filter(text => text.startsWith('HOSTMAP_MISSING_PAGE'))).toHaveLength(2)
  })

  test('in a worker each, that ends: the other goes on', async () => {
    const seen = await bothChild(async () => {
      const { Worker } = require('node:worker_threads')
      const counts = []
      for (const [i, folder] of [...args.installs, ...args.installs].entries()) {
        const worker = new Worker(
          `const { HostRegion, GuardedMemory } = require(${JSON.stringify(folder)})
          const guarded = new GuardedMemory({ initial: 2 })
          const mapping = guarded.map(HostRegion.allocate(65536), { at: 0 })
          new Uint8Array(guarded.buffer)[0] = 1
          require('node:worker_threads').parentPort.postMessage(mapping.strayWrites)`,
          { eval: true }
        )
        worker.on('message', count => counts.push(count))
        await new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject))
        const { HostRegion, GuardedMemory } = i % 2 ? one : two
        const guarded = new GuardedMemory({ initial: 2 })
        const mapping = guarded.map(HostRegion.allocate(65536), { at: 0 })
        new Uint8Array(guarded.buffer)[0] = 1
        counts.push(mapping.strayWrites)
      }
      return counts
    })
    expect(seen).toEqual(Array(8).fill(1))
  })

  test.each([
    ['second', [1, 0]],
    ['first', [0, 1]]
  ])(
    "a base that comes back as the other's memory, with the same pages of the same file, the dead one of the %s install: each has its own counts, and the dataset is as it was",
    async (which, [dead, living]) => {
      const seen = await crowdedChild(
        async () => {
          const installs = args.installs.map(folder => require(folder))
          crowd.length -= 2
          for (const { HostRegion, GuardedMemory } of installs) {
            for (let tries = 0; ; tries++) {
              try {
                GuardedMemory.from(plain(1)).map(HostRegion.allocate(1), { at: 0 })
                break
              } catch (error) {
                // Not until the crowd's address space is given back.
                if (tries === 50) throw error
                await turn()
                gc()
              }
            }
          }
          const dataset = HostRegion.copyFrom(Buffer.alloc(65536, 7))
          const [dead, living] = [args.dead, args.living].map(i => installs[i])
          const [gone, region] = [dead, living].map(each =>
            each.HostRegion.fromFd(dataset.duplicateFd())
          )
          const counts = []
          for (let tries = 0; counts.length < 3 && tries < 1500; tries++) {
            const base = (() => {
              try {
                const guarded = dead.GuardedMemory.from(plain())
                guarded.map(gone, { at: AT })
                return baseOf(guarded.memory)
              } catch {
                // Not until the crowd's address space is given back.
                return null
              }
            })()
            await turn()
            gc()
            if (base === null) continue
            let guarded
            try {
              guarded = living.GuardedMemory.from(plain())
            } catch {
              continue
            }
            if (baseOf(guarded.memory) !== base) continue
            const mapping = guarded.map(region, { at: AT })
            const array = new Uint8Array(guarded.buffer)
            array[AT] = 1
            const { strayWrites } = mapping
            living.GuardedMemory.from(guarded.memory)
            array[AT] = 2
            counts.push([strayWrites, mapping.strayWrites])
          }
          assert.ok(Buffer.from(dataset.view()).every(byte => byte === 7))
          return counts
        },
        { args: { installs, dead, living }, env }
      )
      expect(seen).toEqual(Array(3).fill([1, 2]))
    }
  )
})

test('four threads map, fault and unmap in one shared memory, in places of their own and in one that they all want: nothing of it shows in the data', async () => {
  const seen = await threadsChild(
    async ({ collect, mappingsNamed }) => {
      const page = hostmap.limits().pageSize
      const u8 = new Uint8Array(guarded.buffer)
      const failures = []
      const workers = await Promise.all(args.activities.map(start))
      for (const worker of workers) loop(worker).catch(error => failures.push(error.message))
      // This thread writes and reads what the others map, too: whatever it finds there at the
      // moment.
      const all = () => Array.from(workers, (_, slot) => Atomics.load(rounds, slot))
      while (failures.length === 0 && Math.min(...all()) < args.rounds) {
        for (let slot = 0; slot < workers.length; slot++) {
          for (let i = 0; i < 16; i++) {
            const byte = Atomics.load(u8, slot * 65536 + i * page + 8)
            if (byte !== 0 && byte !== 5 && byte !== 7) failures.push(`${byte} at ${slot}:${i}`)
            Atomics.compareExchange(u8, slot * 65536 + i * page + 16, 255, 1)
          }
          try {
            guarded.map(dataset, { at: args.wanted * 65536 }).unmap()
          } catch (error) {
            if (error.code !== 'ERR_HOSTMAP_OVERLAP') throw error
          }
        }
        await new Promise(resolve => setImmediate(resolve))
      }
      await Promise.all(workers.map(worker => worker.end()))
      assertUnchanged()
      for (let slot = 0; slot < 4; slot++) {
        const bytes = fs.readFileSync(args.directory + '/lost-' + process.pid + '-' + slot)
        assert.ok(
          bytes.subarray(0, 32768).every(byte => byte === 5),
          'a file changed'
        )
      }
      await collect(4)
      const stands = guarded.layout().ranges.filter(({ kind }) => kind === 'mapped')
      for (let at = 0; at < u8.length; at += page) {
        const taken = stands.some(({ start, end }) => start <= at && at < end)
        if (!taken && u8[at + 8] !== 0) failures.push(`${u8[at + 8]} is left at ${at}`)
      }
      return { failures, stands: stands.length, mapped: mappingsNamed('memfd:dataset').length }
    },
    {
      flags: ['--no-warnings', '--expose-gc'],
      args: {
        rounds: Math.ceil(60 / slowness),
        wanted: 40,
        activities: [
          ACTIVITIES['writes to what is read-only'],
          ACTIVITIES['reads what a file lost'],
          // The place that all want: half of them get it, the others are refused.
          `(has) => {
            const rounds = [${ACTIVITIES['writes to what is read-only']}, ${ACTIVITIES['reads what a file lost']}]
              .map(activity => activity({ ...has, at: 40 * 65536 }))
            let i = 0
            return () => {
              try { rounds[i++ % 2]() } catch (error) { has.restore(); if (error.code !== 'ERR_HOSTMAP_OVERLAP') throw error }
            }
          }`,
          `(has) => {
            const rounds = [${ACTIVITIES['writes to what is read-only']}].map(activity => activity({ ...has, at: 40 * 65536 }))
            return () => {
              try { rounds[0]() } catch (error) { if (error.code !== 'ERR_HOSTMAP_OVERLAP') throw error }
            }
          }`
        ]
      }
    }
  )
  expect(seen.failures).toEqual([])
  // What a thread had mapped when it was ended stays.
  expect(seen.stands).toBeLessThanOrEqual(4)
  expect(seen.mapped).toBeLessThanOrEqual(4)
})

test('pages that are taken away while another thread faults on them: it finds data or zeros, and the memory is as before', async () => {
  const seen = await threadsChild(
    async () => {
      const page = hostmap.limits().pageSize
      const u8 = new Uint8Array(guarded.buffer)
      fs.writeFileSync(fileOf(0), Buffer.alloc(16 * page, 5))
      const file = HostRegion.open(fileOf(0))
      const fd = fs.openSync(fileOf(0), 'r+')
      const half = Buffer.alloc(8 * page, 5)
      const worker = new TestWorker()
      await worker.run(
        (_, { memory, page, rounds }) => {
          const u8 = new Uint8Array(memory.buffer)
          setImmediate(() => {
            for (;;) {
              for (let i = 8; i < 16; i++) {
                const byte = Atomics.load(u8, i * page)
                if (byte !== 0 && byte !== 5) Atomics.store(rounds, 1, byte)
              }
              Atomics.add(rounds, 0, 1)
            }
          })
        },
        { memory: guarded.memory, page, rounds }
      )
      await roundsOf(0, 1)
      let faults = 0
      for (let i = 0; i < args.rounds; i++) {
        const mapping = guarded.map(file, { at: 0 })
        fs.ftruncateSync(fd, 8 * page)
        // The other thread is at its first page by then, or a few pages further.
        for (let j = 0; j < 500 && mapping.faults <= i % 3; j++);
        mapping.unmap()
        faults += mapping.faults
        // Zeros that came too late could not be written.
        for (let j = 0; j < 16; j++) Atomics.store(u8, j * page, 0)
        fs.writeSync(fd, half, 0, 8 * page, 8 * page)
      }
      await worker.end()
      return { faulted: faults > 0, other: rounds[1] }
    },
    { args: { rounds: Math.ceil(2000 / slowness) } }
  )
  expect(seen).toEqual({ faulted: true, other: 0 })
})

describe('a real crash', () => {
  // After faults that were ours, so that the handler is there and has been used.
  const prelude = `${requireFrom(ROOT)}
    const guarded = new GuardedMemory({ initial: 2 })
    const mapping = guarded.map(HostRegion.copyFrom(Buffer.alloc(65536, 7), { name: 'crash' }), { at: 0 })
    if (limits().faultGuard.handler !== 'none') new Uint8Array(guarded.buffer)[0] = 1
    else if (process.env.WASM_HOSTMAP_FAULT_GUARD !== 'off') throw new Error('no handler')
    process.removeAllListeners('warning')
  `
  const inWorker = source =>
    `${prelude}; new (require('node:worker_threads').Worker)(${JSON.stringify(prelude + source)}, { eval: true, argv: process.argv.slice(1) })
    setInterval(() => {}, 1000)`

  /** The same death with the handler, without it, and in a worker. */
  async function expectDeath(source, expected, { worker = true, ...options } = {}) {
    const off = { ...options, env: { ...options.env, WASM_HOSTMAP_FAULT_GUARD: 'off' } }
    const ends = await Promise.all([
      run(prelude + source, options),
      run(prelude + source, off),
      ...(worker ? [run(inWorker(source), options)] : [])
    ])
    for (const { signal, code, stderr } of ends)
      expect({ signal, code, stderr }).toMatchObject(expected)
  }

  test.each(['SIGSEGV', 'SIGBUS'])('%s from a process ends it by this signal', signal =>
    expectDeath(`process.kill(process.pid, '${signal}'); setInterval(() => {}, 1000)`, { signal })
  )

  test('process.abort() is SIGABRT', () =>
    expectDeath('process.abort()', { signal: 'SIGABRT' }, { worker: false }))

  test.each([
    ['an error', "throw new Error('on purpose')", /on purpose/],
    [
      'the trap of a store to a read-only mapping',
      'exports.store(4096)',
      /memory access out of bounds/
    ]
  ])(
    '--abort-on-uncaught-exception with %s ends it as it does without a handler, and not where it is caught',
    async (_, thrower, says) => {
      const wasm = await assemble(
        '(module (import "" "" (memory 0)) (func (export "store") (param i32) (i32.store (local.get 0) (i32.const 1))))'
      )
      const source = `
      const module = new WebAssembly.Module(Buffer.from('${wasm.toString('base64')}', 'base64'))
      const { exports } = new WebAssembly.Instance(module, { '': { '': guarded.memory } })
      try { ${thrower} } catch {}
      console.log('caught')
      process.nextTick(() => { ${thrower} })`
      const flags = ['--abort-on-uncaught-exception']
      const [guarded, plain] = await Promise.all([
        run(prelude + source, { flags }),
        run("throw new Error('on purpose')", { flags })
      ])
      expect(guarded).toMatchObject({ stdout: 'caught\n', stderr: expect.stringMatching(says) })
      // V8 chooses between abort() and an instruction that traps.
      expect(['SIGABRT', 'SIGTRAP', 'SIGILL']).toContain(plain.signal)
      expect(guarded.signal).toBe(plain.signal)
    }
  )

  test('diagnostic reports are written, after faults as well', async () => {
    const seen = await resultOf(
      `${prelude}
      const file = process.report.writeReport(${JSON.stringify(directory.file(undefined, 'report.json'))})
      const { header, javascriptHeap, sharedObjects } = JSON.parse(require('node:fs').readFileSync(file, 'utf8'))
      console.log(JSON.stringify([header.trigger, javascriptHeap !== undefined, sharedObjects.length > 0, mapping.strayWrites]))`
    )
    expect(seen).toEqual(['API', true, true, 1])
  })

  // A library whose constructor crashes: no header of Node's is needed, and dlopen runs it on any
  // thread.
  const hasCompiler = spawnSync('gcc', ['--version']).status === 0
  skipUnless('needs gcc', hasCompiler).describe('in native code', () => {
    const library = path.join(directory.path, 'crash.so')
    beforeAll(() => {
      const source = path.join(directory.path, 'crash.c')
      fs.writeFileSync(
        source,
        `#define _GNU_SOURCE
        #include <pthread.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/mman.h>
        #include <unistd.h>
        static volatile char *null;
        static int overflow(volatile char *above) {
          volatile char frame[4096];
          frame[0] = *above;
          return overflow(frame) + frame[0];
        }
        static void *touch_null(void *unused) { return (void *)(long)*null; }
        __attribute__((constructor)) static void crash(void) {
          const char *how = getenv("CRASH");
          const char *at = getenv("CRASH_AT");
          volatile char *address = at ? (volatile char *)strtoul(at, NULL, 16) : NULL;
          long page = sysconf(_SC_PAGESIZE);
          if (!strcmp(how, "read")) (void)*null;
          if (!strcmp(how, "write")) *null = 1;
          if (!strcmp(how, "constant")) *(volatile char *)"constant" = 1;
          if (!strcmp(how, "noncanonical")) *(volatile char *)0x8000000000000000 = 1;
          if (!strcmp(how, "stack")) overflow((volatile char *)how);
          if (!strcmp(how, "jump")) ((void (*)(void))0)();
          if (!strcmp(how, "execute")) ((void (*)(void))address)();
          if (!strcmp(how, "unmapped")) { munmap((void *)address, page); *address = 1; }
          if (!strcmp(how, "replaced")) {
            mmap((void *)address, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            *address = 1;
          }
          if (!strcmp(how, "inaccessible")) { mprotect((void *)address, page, PROT_NONE); (void)*address; }
          if (!strcmp(how, "abort")) abort();
          if (!strcmp(how, "thread")) {
            pthread_t thread;
            pthread_create(&thread, NULL, touch_null, NULL);
            pthread_join(thread, NULL);
          }
          if (!strcmp(how, "bus")) {
            int fd = memfd_create("crash", 0);
            volatile char *map = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
            (void)*map;
          }
          _exit(99);
        }`
      )
      const made = spawnSync('gcc', [
        '-O0',
        '-w',
        '-shared',
        '-fPIC',
        '-pthread',
        '-o',
        library,
        source
      ])
      if (made.status !== 0) throw new Error(String(made.stderr))
    })
    const dlopen = `process.dlopen({ exports: {} }, ${JSON.stringify(library)})`
    // Where the mapping stands, by the kernel's map.
    const address = `
      const line = require('node:fs').readFileSync('/proc/self/maps', 'latin1').split('\\n').find(line => line.includes('/memfd:crash') && line.includes(' r--p '))
      process.env.CRASH_AT = line.split('-')[0]
    `

    test.each([
      ['a read of a null pointer', 'read', 'SIGSEGV'],
      ['a write of a null pointer', 'write', 'SIGSEGV'],
      ['a write to a constant', 'constant', 'SIGSEGV'],
      ['an address that no machine has', 'noncanonical', 'SIGSEGV'],
      ['a stack overflow', 'stack', 'SIGSEGV'],
      ['a jump to a null pointer', 'jump', 'SIGSEGV'],
      ['a null pointer on a thread of its own', 'thread', 'SIGSEGV'],
      ["a page of somebody else's file that is not there", 'bus', 'SIGBUS'],
      ['abort()', 'abort', 'SIGABRT']
    ])('%s', (_, how, signal) => expectDeath(dlopen, { signal }, { env: { CRASH: how } }))

    test.each([
      ['jumps into a mapping', 'execute'],
      ['unmaps a page of a mapping and writes it', 'unmapped'],
      ['puts a page of its own into a mapping, read-only, and writes it', 'replaced'],
      ['forbids a page of a mapping and reads it', 'inaccessible']
    ])('that %s', (_, how) =>
      expectDeath(address + dlopen, { signal: 'SIGSEGV' }, { env: { CRASH: how }, worker: false })
    )
  })
})

describe('warnings', () => {
  const { name, codes } = {
    name: 'HostmapWarning',
    codes: ['HOSTMAP_MISSING_PAGE', 'HOSTMAP_STRAY_WRITE']
  }

  test('come once for each mapping and view, in the thread that made it, whichever wrote', async () => {
    const seen = await inChild(
      async ({ hostmap, require, args }) => {
        const { TestWorker } = require('./worker')
        const { watchWarnings } = require('./watch-warnings')
        const fs = require('node:fs')
        const { HostRegion, GuardedMemory, limits } = hostmap
        const { pageSize: page } = limits()
        const warned = watchWarnings()
        fs.writeFileSync(args, Buffer.alloc(16 * page, 5))
        const guarded = new GuardedMemory({ initial: 16, maximum: 16, shared: true })
        const region = HostRegion.copyFrom(Buffer.alloc(65536, 7), { name: 'of main' })
        const worker = new TestWorker()
        await worker.run(
          ({ hostmap, state, watchWarnings }, { memory, path }) => {
            const { HostRegion, GuardedMemory } = hostmap
            state.warned = watchWarnings()
            state.guarded = GuardedMemory.from(memory)
            const region = HostRegion.copyFrom(Buffer.alloc(65536, 6), {
              name: 'of the worker'
            }).seal()
            state.guarded.map(region, { at: 8 * 65536 })
            state.guarded.map(HostRegion.open(path), { at: 10 * 65536 })
            state.view = new Uint8Array(region.view())
          },
          { memory: guarded.memory, path: args }
        )
        guarded.map(region, { at: 0 })
        guarded.map(region, { at: 65536 })
        const views = [0, 1].map(() => new Uint8Array(region.seal().view()))
        const file = HostRegion.open(args)
        guarded.map(file, { at: 4 * 65536 })
        fs.truncateSync(args, page)
        const array = new Uint8Array(guarded.buffer)
        const touch = ({ state, array, page }) => {
          array ??= new Uint8Array(state.guarded.buffer)
          for (const wasmPage of [0, 1, 8]) {
            for (let i = 0; i < 3; i++) {
              array[wasmPage * 65536 + i * page] = 1
              Atomics.add(array, wasmPage * 65536 + i * page + 4, 1)
            }
          }
          for (const wasmPage of [4, 10])
            for (let i = 3; i < 6; i++) array[wasmPage * 65536 + i * page]
        }
        // Each round ends with a warning of its own: any that came again would come before.
        const end = HostRegion => {
          const view = HostRegion.copyFrom(Buffer.alloc(1), { name: 'end' }).seal().view()
          new Uint8Array(view)[0] = 1
          return view
        }
        const ends = []
        for (let round = 0; round < 2; round++) {
          touch({ array, page })
          for (const view of views) for (let i = 0; i < 3; i++) view[i * page] = round
          // Armed again, so that the next write is another one that counts.
          GuardedMemory.from(guarded.memory)
          await warned.until(5 + round)
          ends.push(end(HostRegion))
          await warned.until(6 + round)
          await worker.run(
            `async ({ hostmap, state }, { page, round }) => {
            (${touch})({ state, page })
            for (let i = 0; i < 3; i++) state.view[i * page] = 1
            await state.warned.until(3 + round)
            state.ends = [state.ends, (${end})(hostmap.HostRegion)]
            await state.warned.until(4 + round)
          }`,
            { page, round }
          )
          await worker.run(({ state }) => void state.guarded.layout())
        }
        const others = await worker.run(({ state }) => state.warned.seen)
        await worker.end()
        const facts = list =>
          list.map(({ name, code, message }) => [
            name,
            code,
            /region "(.*?)"(?: at \[(\d+))?/.exec(message).slice(1)
          ])
        return { main: facts(warned.seen), worker: facts(others) }
      },
      { flags: ['--no-warnings'], args: directory.file(undefined, 'warned.bin') }
    )
    const [lost, stray] = codes
    const sorted = list => list.map(fact => JSON.stringify(fact)).sort()
    expect(sorted(seen.main)).toEqual(
      sorted([
        [name, stray, ['of main', '0']],
        [name, stray, ['of main', '65536']],
        [name, stray, ['of main', null]],
        [name, stray, ['of main', null]],
        [name, stray, ['end', null]],
        [name, stray, ['end', null]],
        [name, lost, ['warned.bin', '262144']]
      ])
    )
    expect(sorted(seen.worker)).toEqual(
      sorted([
        [name, stray, ['of the worker', '524288']],
        [name, stray, ['of the worker', null]],
        [name, stray, ['end', null]],
        [name, stray, ['end', null]],
        [name, lost, ['warned.bin', '655360']]
      ])
    )
  })

  const write = `
    const guarded = new GuardedMemory({ initial: 1 })
    const region = HostRegion.copyFrom(Buffer.alloc(65536, 7)).seal()
    guarded.map(region, { at: 0 })`
  const writes = {
    'a mapping': 'new Uint8Array(guarded.buffer)[0] = 1',
    'a view': 'new Uint8Array(region.view())[0] = 1',
    'a mapping, which is unmapped': 'new Uint8Array(guarded.buffer)[0] = 1; guarded.layout()'
  }
  test.each(Object.entries(writes))(
    'of %s are told when the thread ends right after the write',
    async (_, last) => {
      const source = `${requireFrom(ROOT)}; ${write}; ${last}`
      const [main, worker] = await Promise.all([
        run(source),
        run(
          `new (require('node:worker_threads').Worker)(${JSON.stringify(source)}, { eval: true })`
        )
      ])
      for (const { code, stderr } of [main, worker]) {
        expect({
          code,
          count: stderr.match(/\[HOSTMAP_STRAY_WRITE\] HostmapWarning/g)?.length
        }).toEqual({
          code: 0,
          count: 1
        })
      }
    }
  )

  test('do not keep a process alive', async () => {
    const started = Date.now()
    const ended = await run(
      `${requireFrom(ROOT)}; ${write}; new Uint8Array(guarded.buffer)[0] = 1; process.on('warning', () => {})`
    )
    expect(ended.code).toBe(0)
    expect(Date.now() - started).toBeLessThan(20_000)
  })
})
