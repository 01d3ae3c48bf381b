'use strict'

// Kernels before 6.11 tell of one address by the text of the whole map: then faults and new
// memories cost no more for it, and what is proved by other means is proved.

const { inChild } = require('./support/child')

const asText = { env: { WASM_HOSTMAP_PROCESS_MAP: 'text' } }

/* global hostmap, bytesRead */

/**
 * Runs a body in a process with some thousand VMAs above its memories, with `bytesRead(act)`: how
 * many bytes system calls gave.
 */
const amongMany = (body, options = asText) =>
  inChild(
    `async support => {
      const { hostmap, require } = support
      const fs = require('node:fs')
      const { pageSize } = hostmap.limits()
      // Made first: what comes later is below.
      const many = new hostmap.GuardedMemory({ initial: 256 })
      const makeMany = () => {
        const single = hostmap.HostRegion.allocate(pageSize)
        for (let i = 0; i < 1024; i++) many.map(single, { at: 2 * i * pageSize })
        return single
      }
      const rchar = () => Number(/rchar: (\\d+)/.exec(fs.readFileSync('/proc/self/io', 'latin1'))[1])
      const bytesRead = act => {
        rchar()
        const before = rchar()
        const nothing = rchar() - before
        act()
        return rchar() - before - 2 * nothing
      }
      return (${body})({ ...support, makeMany, pageSize })
    }`,
    options
  )

describe('where the map is text', () => {
  test('stray writes, missing pages and traps read none of it', async () => {
    const seen = await amongMany(async ({ require, compileProbe, makeMany, pageSize, failure }) => {
      const fs = require('node:fs')
      const path = require('node:path').join(
        require('node:os').tmpdir(),
        `hostmap-text-${process.pid}`
      )
      fs.writeFileSync(path, Buffer.alloc(64 * pageSize, 7))
      const { HostRegion, GuardedMemory } = hostmap
      const guarded = new GuardedMemory({ initial: 64, maximum: 128 })
      const single = makeMany()
      const file = HostRegion.open(path)
      const mapping = guarded.map(file, { at: 0 })
      const window = guarded.window({ byteLength: 64 * pageSize })
      const u8 = new Uint8Array(guarded.buffer)
      window.slide(file, { byteOffset: 0, byteLength: 32 * pageSize })
      const { store8, load8 } = new WebAssembly.Instance(await compileProbe(), {
        env: { memory: guarded.memory }
      }).exports
      const whole = fs.readFileSync('/proc/self/maps').length
      // The first of each does what is done once.
      u8[0] = 1
      const trap = await failure(() => store8(pageSize, 1))
      fs.truncateSync(path, 16 * pageSize)
      const steps = {
        traps() {
          for (let i = 2; i < 40; i++) {
            try {
              store8(i * pageSize, 1)
            } catch {
              // It traps, as it is to.
            }
          }
        },
        strayWrites() {
          for (let i = 2; i < 10; i++) u8[i * pageSize] = 1
        },
        strayWritesInWindow() {
          for (let i = 2; i < 10; i++) u8[window.address + i * pageSize] = 1
        },
        missingPages() {
          for (let i = 32; i < 40; i++) u8[i * pageSize]
        },
        pastEnd() {
          for (let i = 40; i < 48; i++) {
            try {
              load8(window.address + i * pageSize)
            } catch {
              // It traps, as it is to.
            }
          }
        }
      }
      const tooMuch = []
      for (const [name, step] of Object.entries(steps)) {
        const read = bytesRead(step)
        if (read > whole / 4) tooMuch.push([name, read])
      }
      fs.unlinkSync(path)
      single.close()
      return {
        tooMuch,
        trap: trap.name,
        strayWrites: [mapping.strayWrites, window.strayWrites],
        last: window.lastFault.outcome,
        zeros: u8.subarray(32 * pageSize, 40 * pageSize).every(byte => byte === 0)
      }
    })
    expect(seen).toEqual({
      tooMuch: [],
      trap: 'RuntimeError',
      strayWrites: [9, 8],
      last: 'trap',
      zeros: true
    })
  })

  test('a new memory reads a part of it that does not grow with what was mapped before', async () => {
    const seen = await amongMany(({ makeMany, require }) => {
      const fs = require('node:fs')
      const { GuardedMemory } = hostmap
      const kept = [new GuardedMemory({ initial: 1 })]
      makeMany()
      const whole = fs.readFileSync('/proc/self/maps').length
      const read = bytesRead(() => {
        for (let i = 0; i < 8; i++) kept.push(new GuardedMemory({ initial: 1 }))
      })
      return read < 8 * whole
    })
    expect(seen).toBe(true)
  })

  test('the page of the guard that proves a memory alive adds no VMA, and nobody can read it', async () => {
    const seen = await inChild(async ({ hostmap, compileProbe, processMap, failure }) => {
      const { HostRegion, GuardedMemory } = hostmap
      const region = HostRegion.copyFrom(Buffer.alloc(65536, 7), { name: 'proved' })
      const guarded = new GuardedMemory({ initial: 2 })
      guarded.map(region, { at: 0 })
      const { start } = processMap().find(({ name }) => name.includes('/memfd:proved'))
      const areas = processMap().filter(
        area => area.end > start && area.start < start + 2 ** 33
      ).length
      const holding = processMap().find(({ end }) => end > start + 2 ** 32)
      const { load8, store8 } = new WebAssembly.Instance(await compileProbe(), {
        env: { memory: guarded.memory }
      }).exports
      const traps = []
      for (const at of [131072, 2 ** 31, 2 ** 32 - 1]) {
        traps.push(
          (await failure(() => load8(at | 0))).name,
          (await failure(() => store8(at | 0, 1))).name
        )
      }
      return { areas, permissions: holding.permissions, traps: [...new Set(traps)] }
    }, asText)
    expect(seen.permissions).toBe('---p')
    expect(seen.traps).toEqual(['RuntimeError'])
    // The mapping, the rest of the memory, and the guard above it.
    expect(seen.areas).toBe(3)
  })

  test('memories that die and whose addresses come back are not taken for each other', async () => {
    const seen = await inChild(
      async ({ hostmap, collect }) => {
        const { HostRegion, GuardedMemory } = hostmap
        const region = HostRegion.copyFrom(Buffer.alloc(65536, 7))
        let wrong = 0
        for (let round = 0; round < 20; round++) {
          for (let i = 0; i < 10; i++) {
            const guarded = new GuardedMemory({ initial: 4, maximum: 8 })
            const u8 = new Uint8Array(guarded.buffer)
            if (u8.some(byte => byte !== 0)) wrong++
            const mapping = guarded.map(region, { at: 65536 * (i % 3) })
            u8[65536 * (i % 3)] = 9
            if (mapping.strayWrites !== 1) wrong++
          }
          await collect()
        }
        return { wrong, region: Buffer.from(region.view()).every(byte => byte === 7) }
      },
      { ...asText, flags: ['--expose-gc'] }
    )
    expect(seen).toEqual({ wrong: 0, region: true })
  })
})
