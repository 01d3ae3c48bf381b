'use strict'

// limits(): its numbers are the kernel's.

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const { limits, HostRegion } = require('..')
const { processMap } = require('./support/procfs')
const { inChild } = require('./support/child')
const { GiB, hasMemory64 } = require('./support/wasm')

const sysctl = name => Number(fs.readFileSync(`/proc/sys/${name}`, 'latin1'))

describe('limits()', () => {
  test('knows the host page', () => {
    expect(limits().pageSize).toBe(Number(execFileSync('getconf', ['PAGESIZE'])))
  })

  test("knows this V8's memories", () => {
    const { wasm } = limits()
    expect(wasm).toMatchObject({ pageSize: 65_536, maxPages32: 65_536, trapHandler: true })
    expect(wasm.maxPages64).toBe(hasMemory64 ? 262_144 : 0)
    expect(() => new WebAssembly.Memory({ initial: wasm.maxPages32 + 1 })).toThrow()
    expect(new WebAssembly.Memory({ initial: wasm.maxPages32 }).buffer.byteLength).toBe(4 * GiB)
    if (hasMemory64) {
      const memory = pages => new WebAssembly.Memory({ initial: BigInt(pages), address: 'i64' })
      expect(() => memory(wasm.maxPages64 + 1)).toThrow()
      expect(memory(wasm.maxPages64).buffer.byteLength).toBe(wasm.maxPages64 * 65_536)
    }
  })

  test('knows how much address space a memory takes', async () => {
    const { taken, wasm } = await inChild(({ hostmap, status, hasMemory64 }) => {
      const { GuardedMemory, limits } = hostmap
      const { wasm } = limits()
      const take = descriptor => {
        const before = status('VmSize')
        globalThis.kept = [globalThis.kept, new GuardedMemory(descriptor)]
        return status('VmSize') - before
      }
      // The first of each kind: what V8 takes besides, it has taken then.
      const measure = descriptor => [take(descriptor), take(descriptor)][1]
      const taken = {
        of32: measure({ initial: 1 }),
        of64: hasMemory64 ? measure({ initial: 1, address: 'i64' }) : 0
      }
      return { taken, wasm }
    })
    // V8's heap may grow meanwhile.
    expect(Math.abs(taken.of32 - wasm.reservationBytes32)).toBeLessThan(GiB / 4)
    expect(Math.abs(taken.of64 - wasm.reservationBytes64)).toBeLessThan(GiB / 4)
    expect(wasm.reservationBytes32).toBeGreaterThanOrEqual(8 * GiB)
  })

  test('knows the address space, and what is free of it', async () => {
    const { before, viewed, closed, byteLength } = await inChild(
      async ({ hostmap, require, collect }) => {
        const { limits, HostRegion } = hostmap
        // The first call may try what V8 can do.
        limits()
        await collect()
        const before = limits().addressSpace
        // Up to a thousand GiB in one view, taken and given back.
        const region = HostRegion.allocate(1000 * 2 ** 30)
        const byteLength = Math.min(region.byteLength, require('node:buffer').constants.MAX_LENGTH)
        // In a function, so that nothing of this one holds the view.
        ;(() => void region.view(0, byteLength))()
        const viewed = limits().addressSpace
        region.close()
        // The view's addresses stay taken until its buffer is collected.
        await collect(8)
        return { before, viewed, closed: limits().addressSpace, byteLength }
      },
      { flags: ['--expose-gc'] }
    )
    expect(before.totalBytes).toBeGreaterThan(2 ** 46)
    expect(before.freeBytes).toBeLessThan(before.totalBytes)
    expect(before.largestFreeBytes).toBeLessThanOrEqual(before.freeBytes)
    expect(Math.abs(before.freeBytes - viewed.freeBytes - byteLength)).toBeLessThan(GiB)
    expect(Math.abs(before.freeBytes - closed.freeBytes)).toBeLessThan(GiB)
  })

  test('knows the mappings of the process, and how many there may be', () => {
    const { used, limit } = limits().mapCount
    expect(limit).toBe(sysctl('vm/max_map_count'))
    expect(Math.abs(used - processMap().length)).toBeLessThan(20)

    const region = HostRegion.allocate(100)
    for (let i = 0; i < 500; i++) region.view()
    expect(limits().mapCount.used - used).toBeGreaterThan(450)
    region.close()
  })

  test('knows the overcommit mode', () => {
    const mode = ['heuristic', 'always', 'never'][sysctl('vm/overcommit_memory')]
    expect(limits().overcommit).toBe(mode)
  })

  test('estimates how many memories are left', async () => {
    const { before, after } = await inChild(({ hostmap }) => {
      const { limits, GuardedMemory } = hostmap
      const before = limits()
      globalThis.held = Array.from({ length: 50 }, () => new GuardedMemory({ initial: 1 }))
      return { before, after: limits() }
    })
    const { guardedMemoriesLeft, addressSpace, wasm, mapCount } = before
    expect(Number.isInteger(guardedMemoriesLeft)).toBe(true)
    expect(guardedMemoriesLeft).toBeGreaterThan(1000)
    expect(guardedMemoriesLeft).toBeLessThanOrEqual(
      addressSpace.freeBytes / wasm.reservationBytes32
    )
    expect(guardedMemoriesLeft).toBeLessThanOrEqual(mapCount.limit - mapCount.used)
    expect(Math.abs(guardedMemoriesLeft - after.guardedMemoriesLeft - 50)).toBeLessThanOrEqual(10)
  })

  test('knows RLIMIT_AS, and that it leaves room for fewer memories', async () => {
    const unlimited = fs
      .readFileSync('/proc/self/limits', 'latin1')
      .match(/^Max address space\s+(\S+)/m)[1]
    expect(limits().rlimitAddressSpaceBytes).toBe(
      unlimited === 'unlimited' ? Infinity : Number(unlimited)
    )

    // Room for three or so memories of 8 to 10 GiB, and for Node itself.
    const limited = await inChild(
      ({ hostmap, status }) => {
        const { rlimitAddressSpaceBytes, guardedMemoriesLeft, wasm } = hostmap.limits()
        return {
          rlimitAddressSpaceBytes,
          guardedMemoriesLeft,
          reservation: wasm.reservationBytes32,
          used: status('VmSize')
        }
      },
      { ulimit: `-v ${36 * 2 ** 20}` }
    )
    expect(limited.rlimitAddressSpaceBytes).toBe(36 * GiB)
    const fit = Math.floor((36 * GiB - limited.used) / limited.reservation)
    expect(Math.abs(limited.guardedMemoriesLeft - fit)).toBeLessThanOrEqual(1)
  })

  test('gives a picture of the moment: a new object each time', () => {
    expect(limits()).not.toBe(limits())
    expect(Object.keys(limits()).sort()).toEqual([
      'addressSpace',
      'faultGuard',
      'guardedMemoriesLeft',
      'mapCount',
      'overcommit',
      'pageSize',
      'rlimitAddressSpaceBytes',
      'userfaultfd',
      'wasm'
    ])
  })
})
