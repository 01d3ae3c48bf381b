'use strict'

// V8 is not asked twice about a store that it can't trap: see src/v8/declined.rs. Whatever code is
// collected, compiled anew or put where other code was, a store that V8 can trap traps, one that it
// can't goes to a private page, and nothing ends the process.

const { inChild } = require('./support/child')
const { temporaryDirectory } = require('./support/files')
const { nativePath } = require('./support/native')
const { assemble, WASM_PAGE } = require('./support/wasm')

const AT = 2 * WASM_PAGE
const directory = temporaryDirectory()

/**
 * A store to a constant address, which V8 checks while it compiles where the memory has at least as
 * many pages, and then declines to trap. `atomic` or not, its code is the same in both modules.
 */
const constantStore = (pages, instruction, shared) => `(module
  (import "" "memory" (memory ${pages} ${shared ? '16 shared' : ''}))
  (func (export "store") (${instruction} (i32.const ${AT}) (i32.const 1))))`

const accesses = `(module
  (import "" "memory" (memory 4))
  (func (export "atomic") (param i32) (i32.atomic.store8 (local.get 0) (i32.const 1)))
  (func (export "plain") (param i32) (i32.store8 (local.get 0) (i32.const 1))))`

/** Functions with a store each: in turn one that V8 declines, and one that it takes. */
function manyStores(count) {
  const functions = Array.from({ length: count }, (_, i) =>
    i % 2 === 0
      ? `(func (export "${i}") (param i32) (i32.atomic.store8 (i32.const ${AT}) (i32.const ${i & 127})))`
      : `(func (export "${i}") (param i32) (i32.store8 (local.get 0) (i32.const ${i & 127})))`
  )
  return `(module (import "" "memory" (memory 4)) ${functions.join('\n')})`
}

const withGc = { flags: ['--expose-gc'] }
const text = async wat => (await assemble(wat)).toString('base64')

test.each(['i32.store8', 'i32.store'])(
  'code of other modules comes to the addresses of collected ones (%s)',
  async instruction => {
    const [declined, taken] = await Promise.all(
      [4, 0].map(pages => text(constantStore(pages, instruction, false)))
    )
    const seen = await inChild(
      async ({ hostmap, collect, args }) => {
        const { HostRegion, GuardedMemory } = hostmap
        const guarded = new GuardedMemory({ initial: 4 })
        const region = HostRegion.copyFrom(Buffer.alloc(65536, 7)).seal()
        const mapping = guarded.map(region, { at: args.at })
        const imports = { '': { memory: guarded.memory } }
        const seen = { declined: 0, taken: 0, wrong: 0 }
        const run = kind => {
          const bytes = Buffer.from(args[kind], 'base64')
          const { store } = new WebAssembly.Instance(new WebAssembly.Module(bytes), imports).exports
          // Several times: what is remembered is asked for.
          for (let i = 0; i < 3; i++) {
            const before = mapping.strayWrites
            let isTrap = false
            try {
              store()
            } catch (error) {
              isTrap = error instanceof WebAssembly.RuntimeError
            }
            const isPrivate = mapping.strayWrites === before + 1
            if (kind === 'taken' ? isTrap && !isPrivate : isPrivate && !isTrap) seen[kind]++
            else seen.wrong++
            // Protects it again.
            GuardedMemory.from(guarded.memory)
          }
        }
        for (let round = 0; round < args.rounds; round++) {
          run(round % 2 === 0 ? 'declined' : 'taken')
          // Not always: then both are there.
          if (round % 5 !== 4) globalThis.gc()
          if (round % 16 === 15) await collect(2)
        }
        return { ...seen, data: Buffer.from(region.view()).every(byte => byte === 7) }
      },
      { ...withGc, args: { declined, taken, at: AT, rounds: 300 } }
    )
    expect(seen).toEqual({ declined: 450, taken: 450, wrong: 0, data: true })
  }
)

test('100,000 faults at 10,000 instructions', async () => {
  const FUNCTIONS = 10_000
  const ROUNDS = 10
  // Too long for an argument.
  const file = directory.file(await assemble(manyStores(FUNCTIONS)))
  const seen = await inChild(
    ({ hostmap, require, args }) => {
      const { HostRegion, GuardedMemory } = hostmap
      const guarded = new GuardedMemory({ initial: 4 })
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7)).seal()
      const mapping = guarded.map(region, { at: args.at })
      const module = new WebAssembly.Module(require('node:fs').readFileSync(args.file))
      const { exports } = new WebAssembly.Instance(module, { '': { memory: guarded.memory } })
      const bytes = new Uint8Array(guarded.buffer)
      const seen = { traps: 0, writes: 0, wrong: 0 }
      for (let round = 0; round < args.rounds; round++) {
        for (let i = 0; i < args.functions; i++) {
          const before = mapping.strayWrites
          try {
            exports[i](args.at)
            if (mapping.strayWrites === before + 1 && bytes[args.at] === (i & 127)) seen.writes++
            else seen.wrong++
            // Protects it again.
            GuardedMemory.from(guarded.memory)
          } catch {
            if (mapping.strayWrites === before) seen.traps++
            else seen.wrong++
          }
        }
        if (round % 3 === 0) globalThis.gc()
      }
      return { ...seen, data: Buffer.from(region.view()).every(byte => byte === 7) }
    },
    {
      ...withGc,
      args: { file, at: AT, functions: FUNCTIONS, rounds: ROUNDS }
    }
  )
  const half = (FUNCTIONS * ROUNDS) / 2
  expect(seen).toEqual({ traps: half, writes: half, wrong: 0, data: true })
})

test('V8 tells of each collection, and until then what it declined is remembered', async () => {
  const seen = await inChild(
    async ({ hostmap, require, args }) => {
      const { declinedStamp } = require(args.native)
      const { HostRegion, GuardedMemory } = hostmap
      const before = declinedStamp()
      const guarded = new GuardedMemory({ initial: 4 })
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7)).seal()
      const mapping = guarded.map(region, { at: args.at })
      const module = new WebAssembly.Module(Buffer.from(args.module, 'base64'))
      const { atomic } = new WebAssembly.Instance(module, { '': { memory: guarded.memory } })
        .exports
      const stray = () => {
        atomic(args.at)
        GuardedMemory.from(guarded.memory)
        return declinedStamp()
      }
      const stamps = []
      for (const collect of [() => globalThis.gc(), () => globalThis.gc({ type: 'minor' })]) {
        collect()
        const forgotten = declinedStamp()
        stamps.push([forgotten, stray(), stray()])
      }
      return { before, stamps, strays: mapping.strayWrites }
    },
    { ...withGc, args: { module: await text(accesses), at: AT, native: nativePath() } }
  )
  expect(seen.before).toBeNull()
  expect(seen.strays).toBe(4)
  const [[first, ...one], [second, ...two]] = seen.stamps
  expect([first, second]).toEqual([0, 0])
  expect(one[0]).toBeGreaterThan(0)
  expect(one[1]).toBe(one[0])
  expect(two[0]).toBeGreaterThan(one[0])
  expect(two[1]).toBe(two[0])
})

test('a function that is compiled anew traps from then on', async () => {
  const seen = await inChild(
    async ({ hostmap, args }) => {
      const { HostRegion, GuardedMemory } = hostmap
      const guarded = new GuardedMemory({ initial: 4 })
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7)).seal()
      const mapping = guarded.map(region, { at: args.at })
      const module = new WebAssembly.Module(Buffer.from(args.module, 'base64'))
      const { atomic, plain } = new WebAssembly.Instance(module, {
        '': { memory: guarded.memory }
      }).exports
      // In turns, so that both are remembered as they are now.
      const outcomeOf = access => {
        const before = mapping.strayWrites
        let outcome = 'nothing'
        try {
          access(args.at)
          if (mapping.strayWrites === before + 1) outcome = 'private'
        } catch {
          if (mapping.strayWrites === before) outcome = 'trap'
        }
        GuardedMemory.from(guarded.memory)
        return outcome
      }
      const outcomes = []
      for (let round = 0; round < 200 && outcomes.at(-1) !== 'trap'; round++) {
        outcomes.push(outcomeOf(atomic))
        if (outcomeOf(plain) !== 'trap') throw new Error('a plain store did not trap')
        for (let i = 0; i < 500; i++) atomic(0)
        await new Promise(resolve => setTimeout(resolve, 5))
      }
      for (let i = 0; i < 100; i++) outcomes.push(outcomeOf(atomic))
      return outcomes
    },
    { flags: ['--wasm-tiering-budget=1000'], args: { module: await text(accesses), at: AT } }
  )
  const first = seen.indexOf('trap')
  expect(first).toBeGreaterThan(0)
  expect(new Set(seen.slice(0, first))).toEqual(new Set(['private']))
  expect(new Set(seen.slice(first))).toEqual(new Set(['trap']))
})

test('workers that come and go, with this package and without it', async () => {
  const [declined, taken] = await Promise.all(
    [4, 0].map(pages => text(constantStore(pages, 'i32.store8', true)))
  )
  const seen = await inChild(
    async ({ hostmap, args, require }) => {
      const { Worker } = require('node:worker_threads')
      const { HostRegion, GuardedMemory } = hostmap
      const memory = new WebAssembly.Memory({ initial: 4, maximum: 16, shared: true })
      const guarded = GuardedMemory.from(memory)
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7)).seal()
      guarded.map(region, { at: args.at })
      const source = `
        const { parentPort, workerData: { memory, modules, withPackage, entry } } =
          require('node:worker_threads')
        const GuardedMemory = withPackage ? require(entry).GuardedMemory : null
        // It learns of the memory, and so joins in.
        GuardedMemory?.from(memory)
        const seen = { declined: 0, taken: 0, wrong: 0 }
        for (let round = 0; round < 6; round++) {
          const kind = round % 2 === 0 ? 'declined' : 'taken'
          const module = new WebAssembly.Module(Buffer.from(modules[kind], 'base64'))
          const { store } = new WebAssembly.Instance(module, { '': { memory } }).exports
          for (let i = 0; i < 3; i++) {
            let isTrap = false
            try { store() } catch { isTrap = true }
            // Where another thread has made the page private meanwhile, nothing faults.
            if (!isTrap) seen[kind]++
            else if (kind === 'taken') seen[kind]++
            else seen.wrong++
            GuardedMemory?.from(memory)
          }
          globalThis.gc?.()
        }
        parentPort.postMessage(seen)`
      const total = { declined: 0, taken: 0, wrong: 0 }
      const once = withPackage =>
        new Promise((resolve, reject) => {
          const worker = new Worker(source, {
            eval: true,
            workerData: {
              memory,
              modules: { declined: args.declined, taken: args.taken },
              withPackage,
              entry: args.entry
            }
          })
          let answer
          worker.on('message', message => (answer = message))
          worker.on('error', reject)
          worker.on('exit', () => resolve(answer))
        })
      for (let round = 0; round < 20; round++) {
        for (const answer of await Promise.all([once(true), once(round % 2 === 0)])) {
          for (const [kind, count] of Object.entries(answer)) total[kind] += count
        }
        GuardedMemory.from(memory)
        if (round % 4 === 0) globalThis.gc()
      }
      // One that is ended in the middle of its faults.
      for (let round = 0; round < 10; round++) {
        const worker = new Worker(source.replace('round < 6', 'true'), {
          eval: true,
          workerData: {
            memory,
            modules: { declined: args.declined, taken: args.taken },
            withPackage: true,
            entry: args.entry
          }
        })
        await new Promise(resolve => worker.on('online', resolve))
        await new Promise(resolve => setTimeout(resolve, 10 * round))
        await worker.terminate()
      }
      return { ...total, data: Buffer.from(region.view()).every(byte => byte === 7) }
    },
    {
      ...withGc,
      args: { declined, taken, at: AT, entry: require.resolve('..') }
    }
  )
  expect(seen).toEqual({ declined: 360, taken: 360, wrong: 0, data: true })
})
