'use strict'

// Zeros in the place of data are a wrong answer that nobody sees in time. Strict mappings and
// windows say so at the next call, and checkFaults() says it for all: after a query, whether its
// answer may be trusted.

const { GuardedMemory, HostRegion } = require('..')
const { inChild } = require('./support/child')
const { expectError, thrownBy } = require('./support/errors')

/** Runs `body` in a child that has a file of 64 pages of 5, a region of it, and a memory. */
const child = body =>
  inChild(
    `async support => {
      const { hostmap, require, probeWithMemory } = support
      const { HostRegion, GuardedMemory, limits } = hostmap
      const fs = require('node:fs')
      const os = require('node:os')
      const path = require('node:path')
      const page = limits().pageSize
      const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'strict-'))
      const file = path.join(folder, 'data')
      fs.writeFileSync(file, Buffer.alloc(64 * page, 5))
      const guest = await probeWithMemory({ initial: 64 })
      const ground = {
        ...support, HostRegion, GuardedMemory, fs, page, file, folder, guest,
        region: HostRegion.open(file),
        guarded: GuardedMemory.from(guest.memory),
        // As an engine's own code reads: V8's JavaScript and C++ find zeros, where a module's loads
        // trap.
        read: at => new Uint8Array(guest.memory.buffer)[at],
        shrink: pages => fs.truncateSync(file, pages * page),
        codeOf: call => { try { call(); return 'none' } catch (error) { return error.code ?? error.name } }
      }
      try {
        return await (${body})(ground)
      } finally {
        fs.rmSync(folder, { recursive: true })
      }
    }`,
    { flags: ['--no-warnings'] }
  )

const FAULTED = 'ERR_HOSTMAP_FAULTED'

describe('a strict mapping', () => {
  test('throws at each call once an access found no data, until that is acknowledged; unmap works', async () => {
    const seen = await child(async ({ guarded, region, page, read, shrink, codeOf, failure }) => {
      const mapping = guarded.map(region, { at: 0, strict: true })
      const fine = [
        mapping.strict,
        codeOf(() => mapping.checkFaults()),
        mapping.acknowledgeFaults()
      ]
      await mapping.prefetch()
      shrink(2)
      const zeros = read(2 * page) + read(3 * page)
      const { code, message } = await failure(() => mapping.prefetch({ byteLength: page }))
      let fault
      try {
        mapping.checkFaults()
      } catch (error) {
        fault = error.fault
      }
      const acknowledged = mapping.acknowledgeFaults()
      await mapping.prefetch({ byteLength: page })
      const after = codeOf(() => mapping.checkFaults())
      read(4 * page)
      const again = codeOf(() => mapping.checkFaults())
      mapping.unmap()
      return {
        page,
        fine,
        zeros,
        code,
        message,
        fault,
        acknowledged,
        after,
        again,
        left: guarded.mappings.length
      }
    })
    expect(seen).toMatchObject({
      fine: [true, 'none', 0],
      zeros: 0,
      code: FAULTED,
      fault: {
        address: 3 * seen.page,
        byteOffset: 3 * seen.page,
        cause: 'file-shrunk',
        outcome: 'zeros'
      },
      acknowledged: 2,
      after: 'none',
      again: FAULTED,
      left: 0
    })
    expect(seen.message).toMatch(
      /2 accesses to the mapping of region "data".*file-shrunk.*mapping\.acknowledgeFaults/
    )
  })

  test('counts what a module traps on too: somebody may have caught it', async () => {
    const seen = await child(({ guarded, region, page, guest, shrink, codeOf }) => {
      const mapping = guarded.map(region, { at: 0, strict: true })
      shrink(0)
      const load = codeOf(() => guest.load8(page))
      return {
        load,
        check: codeOf(() => mapping.checkFaults()),
        outcome: mapping.lastFault.outcome
      }
    })
    expect(seen).toEqual({ load: 'RuntimeError', check: FAULTED, outcome: 'trap' })
  })

  test('does not mind stray writes: what is read stays right', async () => {
    const seen = await child(({ guarded, region, read, guest, codeOf }) => {
      const mapping = guarded.map(region, { at: 0, strict: true })
      new Uint8Array(guest.memory.buffer)[0] = 1
      return [
        mapping.strayWrites,
        codeOf(() => mapping.checkFaults()),
        codeOf(() => guarded.checkFaults()),
        read(1)
      ]
    })
    expect(seen).toEqual([1, 'none', 'none', 5])
  })

  test('is one in a block of the module too, and takes nothing but a boolean', async () => {
    const seen = await child(({ guarded, region, page, read, shrink, codeOf }) => {
      const frees = []
      const allocator = { malloc: () => 16 * page + 8, free: block => frees.push(block) }
      const mapping = guarded.map(region, { allocator, strict: true })
      shrink(0)
      read(mapping.address)
      const check = codeOf(() => mapping.checkFaults())
      mapping.unmap()
      return {
        check,
        frees: frees.length,
        wrong: codeOf(() => guarded.map(region, { at: 0, strict: 1 }))
      }
    })
    expect(seen).toEqual({ check: FAULTED, frees: 1, wrong: 'ERR_INVALID_ARG_TYPE' })
  })
})

describe('a strict window', () => {
  test('throws at each slide and source, until it is acknowledged; unmap works', async () => {
    const seen = await child(({ guarded, region, page, read, shrink, codeOf }) => {
      const window = guarded.window({ byteLength: 4 * page, at: 0, strict: true })
      window.slide(region)
      shrink(2)
      read(3 * page)
      const calls = () => [
        codeOf(() => window.slide(region)),
        codeOf(() => window.slide(null)),
        codeOf(() => window.source(region)),
        codeOf(() => window.chunks(region)),
        codeOf(() => window.checkFaults())
      ]
      const before = calls()
      const shown = [window.shownBytes === 4 * page, window.region === region]
      const acknowledged = window.acknowledgeFaults()
      const after = calls()
      window.slide(region)
      read(2 * page)
      return { before, shown, acknowledged, after, unmap: codeOf(() => window.unmap()) }
    })
    expect(seen).toEqual({
      before: Array(5).fill(FAULTED),
      shown: [true, true],
      acknowledged: 1,
      after: Array(5).fill('none'),
      unmap: 'none'
    })
  })

  test('ends its sources: next() throws into the module, at the end of the data too', async () => {
    const seen = await child(async ({ guarded, region, page, read, shrink, codeOf, assemble, fs, file }) => {
      const window = guarded.window({ byteLength: 4 * page, at: 0, strict: true })
      const source = window.source(region)
      // Counts the chunks, and lets the host look at each: it ends by itself at the data's end
      // alone.
      const wat = `(module
        (import "host" "next" (func $next (param i32) (result i32)))
        (import "host" "look" (func $look (param i32)))
        (func (export "run") (result i32) (local $chunks i32)
          (block $done
            (loop $more
              (br_if $done (i32.eqz (call $next (i32.const 0))))
              (local.set $chunks (i32.add (local.get $chunks) (i32.const 1)))
              (call $look (local.get $chunks))
              (br $more)))
          (local.get $chunks)))`
      const chunks = []
      const run = at => {
        const look = chunk => {
          chunks.push(chunk)
          if (chunk !== at) return
          shrink(4 * (at - 1))
          read(page)
        }
        const { exports } = new WebAssembly.Instance(new WebAssembly.Module(binary), {
          host: { next: source.imports.next, look }
        })
        return exports.run()
      }
      const binary = await assemble(wat)
      const whole = run(-1)
      source.rewind()
      const third = codeOf(() => run(3))
      window.acknowledgeFaults()
      fs.truncateSync(file, 64 * page)
      source.rewind()
      const last = codeOf(() => run(16))
      return { whole, third, last, chunks: chunks.length }
    }) // prettier-ignore
    expect(seen).toEqual({ whole: 16, third: FAULTED, last: FAULTED, chunks: 16 + 3 + 16 })
  })

  test('takes zeros past what it shows for what they are', async () => {
    const seen = await child(({ guarded, region, page, read, codeOf }) => {
      const window = guarded.window({ byteLength: 4 * page, at: 0, strict: true })
      window.slide(region, 63 * page)
      const past = read(2 * page)
      const check = codeOf(() => window.checkFaults())
      const slide = codeOf(() => window.slide(region))
      const { cause } = window.lastFault
      const tolerant = guarded.window({
        byteLength: 4 * page,
        at: 8 * page,
        strict: true,
        rest: 'zeros'
      })
      tolerant.slide(region, 63 * page)
      return {
        past,
        check,
        slide,
        cause,
        zeros: [read(10 * page), codeOf(() => tolerant.checkFaults())]
      }
    })
    expect(seen).toEqual({
      past: 0,
      check: FAULTED,
      slide: FAULTED,
      cause: 'past-end',
      zeros: [0, 'none']
    })
  })

  test('stops a loop over chunks', async () => {
    const seen = await child(({ guarded, region, page, shrink, codeOf }) => {
      const window = guarded.window({ byteLength: 4 * page, at: 0, strict: true })
      let chunks = 0
      const code = codeOf(() => {
        for (const { bytes } of window.chunks(region)) {
          if (++chunks === 2) shrink(0)
          bytes[page]
        }
      })
      return { chunks, code }
    })
    expect(seen).toEqual({ chunks: 2, code: FAULTED })
  })
})

describe('what is not strict', () => {
  test('goes on, and checkFaults() tells all the same', async () => {
    const seen = await child(async ({ guarded, region, page, read, shrink, codeOf }) => {
      const mapping = guarded.map(region, { at: 0, byteLength: 8 * page })
      const window = guarded.window({ byteLength: 8 * page, at: 16 * page })
      const source = window.source(region)
      source.next()
      shrink(1)
      read(2 * page)
      read(18 * page)
      await mapping.prefetch({ byteLength: page })
      const calls = [() => source.next(), () => window.slide(region), () => guarded.layout()].map(
        codeOf
      )
      const checks = () => [mapping, window, guarded].map(it => codeOf(() => it.checkFaults()))
      const before = checks()
      const acknowledged = guarded.acknowledgeFaults()
      return {
        strict: [mapping.strict, window.strict],
        calls,
        before,
        acknowledged,
        after: checks()
      }
    })
    expect(seen).toEqual({
      strict: [false, false],
      calls: Array(3).fill('none'),
      before: Array(3).fill(FAULTED),
      acknowledged: 2,
      after: Array(3).fill('none')
    })
  })
})

describe('checkFaults() of a memory', () => {
  test('remembers what was unmapped meanwhile, and keeps no region for it', async () => {
    const seen = await child(({ guarded, region, page, read, shrink, codeOf }) => {
      const mapping = guarded.map(region, { at: 0, byteLength: 8 * page })
      const window = guarded.window({ byteLength: 8 * page, at: 16 * page })
      window.slide(region)
      shrink(0)
      read(0)
      read(16 * page)
      read(17 * page)
      mapping.unmap()
      window.unmap()
      const before = [codeOf(() => guarded.checkFaults()), codeOf(() => mapping.checkFaults())]
      // Of its own, which the memory has heard of.
      const own = [
        mapping.acknowledgeFaults(),
        mapping.acknowledgeFaults(),
        codeOf(() => mapping.checkFaults())
      ]
      const still = codeOf(() => guarded.checkFaults())
      const all = [
        guarded.acknowledgeFaults(),
        guarded.acknowledgeFaults(),
        codeOf(() => guarded.checkFaults())
      ]
      return { before, own, still, all }
    })
    expect(seen).toEqual({
      before: [FAULTED, FAULTED],
      own: [1, 0, 'none'],
      still: FAULTED,
      all: [3, 0, 'none']
    })
  })

  test('tells of what another thread has mapped', async () => {
    const seen = await child(async ({ GuardedMemory, page, file, shrink, codeOf, require }) => {
      const { Worker } = require('node:worker_threads')
      const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true })
      const guarded = GuardedMemory.from(memory)
      const worker = new Worker(
        `const { parentPort, workerData: { memory, file, main } } = require('node:worker_threads')
        const { GuardedMemory, HostRegion } = require(main)
        globalThis.kept = GuardedMemory.from(memory).map(HostRegion.open(file), { at: 0 })
        parentPort.postMessage('mapped')
        parentPort.once('message', () => {})`,
        { eval: true, workerData: { memory, file, main: require.resolve(process.cwd()) } }
      )
      await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
      shrink(0)
      const before = codeOf(() => guarded.checkFaults())
      const zero = new Uint8Array(memory.buffer)[page]
      const after = codeOf(() => guarded.checkFaults())
      const acknowledged = [guarded.acknowledgeFaults(), codeOf(() => guarded.checkFaults())]
      await worker.terminate()
      return { before, zero, after, acknowledged }
    })
    expect(seen).toEqual({ before: 'none', zero: 0, after: FAULTED, acknowledged: [1, 'none'] })
  })
})

describe('checkFaults() of a memory that threads share', () => {
  test('tells of what another thread has mapped and unmapped, until one of them takes note', async () => {
    const seen = await child(async ({ GuardedMemory, page, file, shrink, codeOf, require }) => {
      const { once } = require('node:events')
      const { Worker } = require('node:worker_threads')
      const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true })
      const guarded = GuardedMemory.from(memory)
      const worker = new Worker(
        `const { parentPort, workerData: { memory, file, main } } = require('node:worker_threads')
        const { GuardedMemory, HostRegion } = require(main)
        const guarded = GuardedMemory.from(memory)
        const mapping = guarded.map(HostRegion.open(file), { at: 0 })
        const codeOf = call => { try { call(); return 'none' } catch ({ code }) { return code } }
        parentPort.on('message', what => {
          if (what === 'unmap') mapping.unmap()
          parentPort.postMessage(codeOf(() => guarded.checkFaults()))
        })
        parentPort.postMessage('mapped')`,
        { eval: true, workerData: { memory, file, main: require.resolve(process.cwd()) } }
      )
      await once(worker, 'message')
      shrink(0)
      const zero = new Uint8Array(memory.buffer)[page]
      worker.postMessage('unmap')
      const [there] = await once(worker, 'message')
      const here = codeOf(() => guarded.checkFaults())
      const acknowledged = [guarded.acknowledgeFaults(), codeOf(() => guarded.checkFaults())]
      worker.postMessage('check')
      const [then] = await once(worker, 'message')
      await worker.terminate()
      return { zero, there, here, acknowledged, then }
    })
    expect(seen).toEqual({
      zero: 0,
      there: FAULTED,
      here: FAULTED,
      acknowledged: [1, 'none'],
      then: 'none'
    })
  })
})

describe('snapshots', () => {
  test('keep what is strict: a restore makes it so again, from a file too', async () => {
    const seen = await child(
      async ({ guarded, region, page, read, shrink, codeOf, folder, hostmap, GuardedMemory }) => {
        const mapping = guarded.map(region, { at: 0, byteLength: 4 * page, strict: true })
        guarded.window({ byteLength: 4 * page, at: 8 * page, strict: true }).slide(region)
        guarded.map(region, { at: 16 * page, byteLength: 4 * page })
        const snapshot = guarded.snapshot()
        await snapshot.save(`${folder}/snapshot`)
        guarded.mappings.forEach(it => it.unmap())
        guarded.restore(snapshot)
        const loaded = await hostmap.Snapshot.load(`${folder}/snapshot`, { regions: () => region })
        const other = new GuardedMemory({ initial: 64 })
        other.restore(loaded)
        const strict = [guarded, other].map(({ mappings }) => mappings.map(it => it.strict))
        shrink(0)
        read(0)
        read(8 * page)
        const [again, window] = guarded.mappings
        return {
          strict,
          codes: [() => again.checkFaults(), () => window.slide(region)].map(codeOf),
          old: mapping.faults
        }
      }
    )
    const strict = [true, true, false]
    expect(seen).toEqual({ strict: [strict, strict], codes: [FAULTED, FAULTED], old: 0 })
  })
})

describe("a region's views", () => {
  test('are asked by region.checkFaults()', async () => {
    const seen = await child(({ region, page, shrink, codeOf }) => {
      const view = new Uint8Array(region.view(page, 8 * page))
      const before = codeOf(() => region.checkFaults())
      shrink(1)
      const zeros = view[0] + view[2 * page]
      const after = codeOf(() => region.checkFaults())
      const acknowledged = [
        region.acknowledgeFaults(),
        region.acknowledgeFaults(),
        codeOf(() => region.checkFaults())
      ]
      view[3 * page]
      region.close()
      return { before, zeros, after, acknowledged, closed: codeOf(() => region.checkFaults()) }
    })
    expect(seen).toEqual({
      before: 'none',
      zeros: 0,
      after: FAULTED,
      acknowledged: [2, 0, 'none'],
      closed: FAULTED
    })
  })
})

test('strict and checkFaults() are there for our own memory, which can have no faults', () => {
  const guarded = new GuardedMemory({ initial: 16 })
  const region = HostRegion.copyFrom(Buffer.alloc(65536, 1))
  const mapping = guarded.map(region, { at: 0, strict: true })
  const window = guarded.window({ byteLength: 65536, at: 65536, strict: true })
  window.slide(region)
  for (const it of [mapping, window, guarded, region]) {
    it.checkFaults()
    expect(it.acknowledgeFaults()).toBe(0)
  }
  for (const strict of [1, 'yes', null]) {
    const calls = [
      () => guarded.map(region, { at: 2 * 65536, strict }),
      () => guarded.window({ byteLength: 65536, at: 2 * 65536, strict })
    ]
    for (const call of calls)
      expectError(thrownBy(call), { code: 'ERR_INVALID_ARG_TYPE', says: /options\.strict/ })
  }
  region.close()
})

describe('a pool', () => {
  test('rejects a run whose strict mapping or window faulted, and discards the instance; others are fine', async () => {
    const seen = await child(
      async ({ hostmap, region, page, compileProbe, shrink, failure, HostRegion, fs, file }) => {
        const pool = await hostmap.InstancePool.create(await compileProbe({ initial: 64 }), {
          size: 1,
          accept: ['hidden-globals', 'hidden-tables'],
          init: (instance, memory) => void memory.map(region, { at: 0, strict: true })
        })
        const look = at => pool.run(({ memory }) => new Uint8Array(memory.buffer)[at])
        const fine = await look(page)
        shrink(0)
        const first = await failure(() => look(page))
        const { discarded, lastFailure } = pool.stats()
        // A new instance, which has seen nothing yet.
        fs.writeFileSync(file, Buffer.alloc(64 * page, 6))
        const next = await look(page)
        // One that the program mapped and unmapped.
        const own = await failure(() =>
          pool.run(({ memory }) => {
            const mapping = memory.map(HostRegion.open(file), { at: 128 * page, strict: true })
            shrink(0)
            new Uint8Array(memory.buffer)[128 * page]
            mapping.unmap()
          })
        )
        fs.writeFileSync(file, Buffer.alloc(64 * page, 7))
        const last = await pool.run(({ memory }) => memory.checkFaults())
        pool.close()
        return {
          fine,
          codes: [first.code, own.code, lastFailure.code],
          discarded,
          next,
          last: last ?? 'none'
        }
      }
    )
    expect(seen).toEqual({
      fine: 5,
      codes: [FAULTED, FAULTED, FAULTED],
      discarded: 1,
      next: 6,
      last: 'none'
    })
  })
})
