'use strict'

// A process that has no descriptor left for a while: what could not be opened then is tried again,
// and is there later.

const { inChild } = require('./support/child')

/* global hostmap, exhaust, release, attempt */

/** Runs a body in a process that may open 64 files, with `exhaust()` and `release()`. */
const fewDescriptors = body =>
  inChild(
    `async support => {
      const { hostmap, require } = support
      const fs = require('node:fs')
      const taken = []
      const exhaust = () => {
        for (;;) {
          try {
            taken.push(fs.openSync('/dev/null'))
          } catch (error) {
            if (error.code === 'EMFILE') return taken.length
            throw error
          }
        }
      }
      const attempt = act => {
        try {
          act()
          return {}
        } catch ({ code }) {
          return { code }
        }
      }
      const release = () => {
        for (const fd of taken.splice(0)) fs.closeSync(fd)
      }
      return (${body})(support)
    }`,
    { ulimit: '-n 64' }
  )

describe('without a descriptor when the first mapping is made', () => {
  test('later faults are survived, once there are some again', async () => {
    const seen = await fewDescriptors(({ require }) => {
      const fs = require('node:fs')
      const path = require('node:path').join(
        require('node:os').tmpdir(),
        `hostmap-few-${process.pid}`
      )
      fs.writeFileSync(path, Buffer.alloc(131072, 7))
      const { HostRegion, GuardedMemory } = hostmap
      const memory = new WebAssembly.Memory({ initial: 8, maximum: 8 })
      const region = HostRegion.open(path)
      exhaust()
      const { code } = attempt(() => GuardedMemory.from(memory).map(region, { at: 0 }))
      release()
      const guarded = GuardedMemory.from(memory)
      const mapping = guarded.map(region, { at: 4 * 65536 })
      const u8 = new Uint8Array(memory.buffer)
      u8[4 * 65536] = 9
      fs.truncateSync(path, 65536)
      const lost = u8[5 * 65536]
      fs.unlinkSync(path)
      const { handler, traps } = hostmap.limits().faultGuard
      return {
        code: code ?? 'ERR_HOSTMAP_',
        read: [u8[4 * 65536], u8[4 * 65536 + 1], lost],
        strayWrites: mapping.strayWrites,
        faults: mapping.faults,
        handler,
        traps
      }
    })
    expect(seen).toEqual({
      code: expect.stringMatching(/^ERR_HOSTMAP_/),
      read: [9, 7, 0],
      strayWrites: 1,
      faults: 1,
      handler: 'first',
      traps: true
    })
  })

  test('the next mapping has all that is needed opened: faults are survived when there is none again', async () => {
    const seen = await fewDescriptors(({ require }) => {
      const fs = require('node:fs')
      const path = require('node:path').join(
        require('node:os').tmpdir(),
        `hostmap-few-${process.pid}`
      )
      fs.writeFileSync(path, Buffer.alloc(131072, 7))
      const { HostRegion, GuardedMemory } = hostmap
      const memory = new WebAssembly.Memory({ initial: 8, maximum: 8 })
      const copy = HostRegion.copyFrom(Buffer.alloc(65536))
      exhaust()
      // What is needed for a fault can't be opened now.
      const { code } = attempt(() => GuardedMemory.from(memory).map(copy, { at: 0 }))
      release()
      const region = HostRegion.open(path)
      const guarded = GuardedMemory.from(memory)
      const mapping = guarded.map(region, { at: 4 * 65536 })
      const u8 = new Uint8Array(memory.buffer)
      fs.truncateSync(path, 65536)
      exhaust()
      u8[4 * 65536] = 9
      const lost = u8[5 * 65536]
      release()
      fs.unlinkSync(path)
      return {
        read: [u8[4 * 65536], u8[4 * 65536 + 1], lost],
        strayWrites: mapping.strayWrites,
        faults: mapping.faults,
        code: code ?? 'ERR_HOSTMAP_'
      }
    })
    expect(seen).toMatchObject({ read: [9, 7, 0], strayWrites: 1, faults: 1 })
    expect(seen.code).toMatch(/^ERR_HOSTMAP_/)
  })

  test('a view is guarded all the same, from the next call of the library on also while there is none', async () => {
    const seen = await fewDescriptors(() => {
      const { HostRegion } = hostmap
      const regions = [1, 2].map(byte => HostRegion.copyFrom(Buffer.alloc(65536, byte)))
      exhaust()
      const first = new Uint8Array(regions[0].seal().view())
      // By what is opened for this one fault.
      release()
      first[0] = 9
      const second = new Uint8Array(regions[1].seal().view())
      exhaust()
      first[8192] = 9
      second[0] = 9
      const strayWrites = regions.map(region => region.strayWrites)
      release()
      return { read: [first[0], first[1], first[8192], second[0], second[1]], strayWrites }
    })
    expect(seen).toEqual({ read: [9, 1, 9, 9, 2], strayWrites: [2, 1] })
  })

  test('faults are survived while there is none, if the guard was installed before', async () => {
    const seen = await fewDescriptors(({ require }) => {
      const fs = require('node:fs')
      const path = require('node:path').join(
        require('node:os').tmpdir(),
        `hostmap-few-${process.pid}`
      )
      fs.writeFileSync(path, Buffer.alloc(131072, 7))
      const { HostRegion, GuardedMemory } = hostmap
      const guarded = new GuardedMemory({ initial: 8, maximum: 8 })
      const mapping = guarded.map(HostRegion.open(path), { at: 0 })
      const u8 = new Uint8Array(guarded.buffer)
      fs.truncateSync(path, 65536)
      exhaust()
      u8[0] = 9
      const lost = u8[65536]
      release()
      fs.unlinkSync(path)
      return {
        read: [u8[0], u8[1], lost],
        strayWrites: mapping.strayWrites,
        faults: mapping.faults
      }
    })
    expect(seen).toEqual({ read: [9, 7, 0], strayWrites: 1, faults: 1 })
  })
})
