'use strict'

// Snapshots when memory, descriptors and address space come and go.

const { spawnSync, execFile } = require('node:child_process')
const path = require('node:path')
const { inChild } = require('./support/child')
const { skipUnless } = require('./support/skip')

test('a collected snapshot gives its memory and descriptor back, and keeps no memory alive', async () => {
  const seen = await inChild(
    async ({ hostmap, collect, countOpen, mappingsNamed }) => {
      const { GuardedMemory, Snapshot } = hostmap
      const memories = []
      const kept = []
      const globals = { g: new WebAssembly.Global({ value: 'i32', mutable: true }, 1) }
      ;(() => {
        for (let i = 0; i < 20; i++) {
          const guarded = new GuardedMemory({ initial: 4 })
          new Uint8Array(guarded.buffer).fill(i + 1)
          memories.push(new WeakRef(guarded.memory))
          const options = { name: 'counted', globals: { ...globals, memory: guarded.memory } }
          // Half of them without globals; and half of them shown.
          const snapshot = guarded.snapshot(i % 2 ? { name: 'counted' } : options)
          if (i % 4 < 2) guarded.restore(snapshot)
          if (i < 10) kept.push(snapshot)
        }
      })()
      await collect(8)
      const living = memories.filter(ref => ref.deref() !== undefined).length
      const first = { living, open: countOpen('memfd:counted') }
      const other = new GuardedMemory({ initial: 4 })
      other.restore(kept[7])
      const [byte] = new Uint8Array(other.buffer)
      kept.length = 0
      await collect(8)
      const second = {
        open: countOpen('memfd:counted'),
        shown: mappingsNamed('memfd:counted').length
      }
      // A memory goes on showing what is collected.
      const still = new Uint8Array(other.buffer).every(byte => byte === 8)
      return { first, byte, second, still, load: typeof Snapshot.load }
    },
    { flags: ['--expose-gc'] }
  )
  expect(seen.first).toEqual({ living: 0, open: 10 })
  expect([seen.byte, seen.still]).toEqual([8, true])
  expect(seen.second.open).toBe(0)
  // What the other memory shows.
  expect(seen.second.shown).toBeGreaterThan(0)
  expect(seen.second.shown).toBeLessThan(4)
})

test('a snapshot of an instance keeps it no longer than it is open', async () => {
  const seen = await inChild(
    async ({ hostmap, assemble, collect }) => {
      const module = new WebAssembly.Module(
        await assemble(
          '(module (memory (export "memory") 2) (global (export "g") (mut i32) (i32.const 1)))'
        )
      )
      const memories = []
      const make = close => {
        const instance = new WebAssembly.Instance(module)
        memories.push(new WeakRef(instance.exports.memory))
        const snapshot = hostmap.Snapshot.of(instance)
        if (close) snapshot.close()
        return snapshot
      }
      const closed = make(true)
      ;(() => void make(false))()
      await collect(8)
      return {
        living: memories.filter(ref => ref.deref() !== undefined).length,
        closed: closed.closed
      }
    },
    { flags: ['--expose-gc'] }
  )
  expect(seen).toEqual({ living: 0, closed: true })
})

test('memories at addresses that come back are not taken for those that showed a snapshot', async () => {
  const seen = await inChild(
    async ({ hostmap, collect, require }) => {
      const { GuardedMemory } = hostmap
      const { native } = require('./native')
      const origin = new GuardedMemory({ initial: 8 })
      const bytes = new Uint8Array(origin.buffer)
      for (let at = 0; at < bytes.length; at += 97) bytes[at] = at
      const before = Buffer.from(bytes)
      const snapshot = origin.snapshot()
      const bases = new Map()
      let wrong = 0
      for (let round = 0; round < 30; round++) {
        ;(() => {
          for (let i = 0; i < 20; i++) {
            const guarded = new GuardedMemory({ initial: 8 })
            const array = new Uint8Array(guarded.buffer)
            const base = native.baseOf(array)
            bases.set(base, (bases.get(base) ?? 0) + 1)
            if (i % 3 === 0) array.fill(round + 1)
            for (let times = i % 3; times >= 0; times--) {
              guarded.restore(snapshot)
              if (!Buffer.from(guarded.buffer).equals(before)) wrong++
              array[i * 4096] ^= 255
            }
            if (i % 5 === 0) guarded.reset()
          }
        })()
        // With and without finalizers in between.
        globalThis.gc()
        if (round % 2) await collect(2)
      }
      return { wrong, again: Math.max(...bases.values()) }
    },
    { flags: ['--expose-gc'] }
  )
  expect(seen.wrong).toBe(0)
  expect(seen.again).toBeGreaterThan(1)
})

test('many restores take nothing more: no descriptor, no mapping, no memory', async () => {
  const seen = await inChild(
    async ({ hostmap, collect, processMap, openFiles, status }) => {
      const guarded = new hostmap.GuardedMemory({ initial: 256, maximum: 256 })
      const bytes = new Uint8Array(guarded.buffer)
      for (let at = 0; at < bytes.length; at += 5000) bytes[at] = 1
      const region = hostmap.HostRegion.allocate(65536)
      guarded.map(region, { at: 0, access: 'private' })
      const window = guarded.window({ byteLength: 65536, at: 65536 })
      const snapshots = [guarded.snapshot(), guarded.snapshot()]
      const holds = async () => {
        await collect(3)
        return {
          files: Object.keys(openFiles()).length,
          areas: processMap().length,
          rss: status('VmRSS')
        }
      }
      const run = rounds => {
        for (let i = 0; i < rounds; i++) {
          for (let page = 0; page < 300; page++) bytes[(page * 4096 * 13) % bytes.length] = 3
          window.slide(region)
          guarded.restore(snapshots[i % 3 ? 0 : 1])
          if (i % 10 === 0) guarded.reset()
        }
      }
      run(300)
      const before = await holds()
      run(3000)
      const after = await holds()
      return { before, after }
    },
    { flags: ['--expose-gc'] }
  )
  expect(seen.after.files).toBe(seen.before.files)
  expect(seen.after.areas - seen.before.areas).toBeLessThan(40)
  expect(seen.after.rss - seen.before.rss).toBeLessThan(32 * 2 ** 20)
})

test('without descriptors there is no snapshot, and restores go on', async () => {
  const seen = await inChild(
    async ({ hostmap, require, failure }) => {
      const fs = require('node:fs')
      const { GuardedMemory, Snapshot } = hostmap
      const guarded = new GuardedMemory({ initial: 4 })
      new Uint8Array(guarded.buffer).fill(1)
      const snapshot = guarded.snapshot()
      guarded.restore(snapshot)
      const duplicate = snapshot.duplicateFd()
      const open = []
      for (;;) {
        try {
          open.push(fs.openSync('/dev/null'))
        } catch {
          break
        }
      }
      const errors = [
        await failure(() => guarded.snapshot()),
        await failure(() => Snapshot.fromFd(duplicate)),
        await failure(() => snapshot.save('/tmp/never-written.snapshot'))
      ]
      const bytes = new Uint8Array(guarded.buffer)
      const right = [0, 1, 2].map(() => {
        bytes.fill(2)
        guarded.restore(snapshot)
        return bytes.every(byte => byte === 1)
      })
      for (const fd of open) fs.closeSync(fd)
      guarded.snapshot().close()
      return { codes: errors.map(({ code }) => code), right }
    },
    { ulimit: '-n 64' }
  )
  for (const code of seen.codes) expect(code).toBe('ERR_HOSTMAP_TOO_MANY_FILES')
  expect(seen.right).toEqual([true, true, true])
})

test('where the process may have no more address space, a restore says so or works', async () => {
  const seen = await inChild(
    async ({ hostmap, failure, status }) => {
      const { GuardedMemory } = hostmap
      const guarded = new GuardedMemory({ initial: 1024 })
      const bytes = new Uint8Array(guarded.buffer)
      bytes.fill(1)
      const first = guarded.snapshot()
      // What is left is taken, so that not even the snapshot's own pages can be mapped to copy
      // from.
      const taken = []
      const left = () => {
        try {
          taken.push(new ArrayBuffer(64 * 2 ** 20))
          return taken.length < 1000
        } catch {
          return false
        }
      }
      while (left());
      const outcomes = []
      for (let round = 0; round < 4; round++) {
        bytes.fill(2, 0, 4096 * 40)
        const error = await failure(() => guarded.restore(first))
        outcomes.push(error === null ? bytes.every(byte => byte === 1) : error.code)
      }
      taken.length = 0
      return { outcomes, space: status('VmSize') }
    },
    { ulimit: `-v ${40 * 2 ** 20}` }
  )
  for (const outcome of seen.outcomes)
    expect([true, 'ERR_HOSTMAP_OUT_OF_MEMORY']).toContain(outcome)
})

// Takes a build of its own: see model/inject.cjs.
const hasCargo = spawnSync('cargo', ['--version']).status === 0
skipUnless('needs Cargo', hasCargo).test(
  'patterns come back where the kernel can not tell which pages were written',
  async () => {
    const run = path.join(__dirname, 'snapshots/run.mjs')
    const stdout = await new Promise((resolve, reject) => {
      const options = { env: { ...process.env, NODE_OPTIONS: '' } }
      const args = [run, '--patterns', '200', '--without-scan']
      execFile(process.execPath, args, options, (error, stdout, stderr) =>
        error ? reject(new Error(`${stdout}\n${stderr}`)) : resolve(stdout)
      )
    })
    expect(stdout).toContain('200 patterns restored without a difference')
  },
  600_000
)
