'use strict'

// Allocations of the native part that fail: an error that says so, nothing half done, and no end of
// the process.

/* global hostmap, each, fs */

const { build, hasCargo, inChild } = require('./support/injected')
const { skipUnless } = require('./support/skip')

skipUnless('needs Cargo', hasCargo).describe('an allocation that fails', () => {
  beforeAll(build, 600_000)

  test.each([
    [
      'a snapshot, its save and its load',
      async () => {
        const { GuardedMemory, HostRegion, Snapshot } = hostmap
        const region = HostRegion.copyFrom(Buffer.alloc(2 ** 20, 7), { name: 'r' })
        const memory = new GuardedMemory({ initial: 96 })
        memory.map(region, { at: 4 * 2 ** 20, access: 'private' })
        const bytes = new Uint8Array(memory.buffer)
        for (let at = 0; at < 5 * 2 ** 20; at += 8192) bytes[at] ^= 1
        const table = new WebAssembly.Table({ element: 'externref', initial: 3000 }, 'x')
        const exports = { table, memory: memory.memory }
        const file = `${require('node:os').tmpdir()}/hostmap-alloc-${process.pid}`
        const key = Buffer.alloc(32, 1)
        const regions = () => region
        try {
          return [
            await each(
              async () => Snapshot.of({ exports }, { accept: ['v128-globals'] }),
              it => it.close()
            ),
            await each(async () => {
              const snapshot = memory.snapshot()
              await snapshot.save(file, { key }).finally(() => snapshot.close())
            }),
            await each(
              () => Snapshot.load(file, { regions, key }),
              it => it.close()
            ),
            await each(
              async () => {
                const snapshot = memory.snapshot()
                const fd = snapshot.duplicateFd()
                try {
                  return Snapshot.fromFd(fd, { regions })
                } finally {
                  fs.closeSync(fd)
                  snapshot.close()
                }
              },
              it => it.close()
            ),
            await each(async () => {
              const snapshot = memory.snapshot()
              try {
                memory.restore(snapshot)
              } finally {
                snapshot.close()
              }
            })
          ]
        } finally {
          fs.rmSync(file, { force: true })
        }
      }
    ],
    [
      'what lists the mappings of a memory, or of the process',
      async () => {
        const { GuardedMemory, HostRegion, limits } = hostmap
        const region = HostRegion.copyFrom(Buffer.alloc(4096, 7))
        const memory = new GuardedMemory({ initial: 64 })
        for (let i = 0; i < 500; i++) memory.map(region, { at: i * 8192 })
        return [await each(async () => memory.layout()), await each(async () => limits())]
      }
    ],
    [
      'views and their seal',
      async () => {
        const { HostRegion } = hostmap
        const region = HostRegion.copyFrom(Buffer.alloc(4096, 7))
        const views = []
        return [
          await each(async () => {
            for (let i = 0; i < 600; i++) views.push(region.view())
          }),
          await each(async () => {
            for (let i = 0; i < 600; i++) views.push(region.bytes())
          }),
          await each(async () => region.seal())
        ]
      }
    ]
  ])('in %s', (_, body) => {
    const seen = inChild(`async () => {
      // napi-rs keeps a table of all objects of its classes, whose growth can't be refused: it has
      // grown before.
      const objects = Array.from({ length: 5000 }, () => new native.NativeTask())
      /** Lets each allocation of a call fail in turn, until none is left. */
      async function each(call, undo = () => {}) {
        const codes = new Set()
        for (let before = 0; ; before++) {
          if (before > 300) throw new Error('no end of allocations')
          native.injectAllocationFailure(4096, before)
          let error = null
          let made
          try { made = await call() } catch (caught) { error = caught }
          const went = native.allocationHasFailed()
          if (error === null && made != null) undo(made)
          if (!went) return { before, codes: [...codes], error: error?.message ?? null }
          codes.add(error === null ? 'done' : error.code ?? error.message)
        }
      }
      return (${body})()
    }`)
    for (const { before, codes, error } of seen) {
      // The last call met no failure.
      expect(error).toBeNull()
      for (const code of codes) expect(['done', 'ERR_HOSTMAP_OUT_OF_MEMORY']).toContain(code)
      expect(before === 0 || codes.length > 0).toBe(true)
    }
    // At least one of them had something to fail.
    expect(seen.some(({ codes }) => codes.includes('ERR_HOSTMAP_OUT_OF_MEMORY'))).toBe(true)
  })
})
