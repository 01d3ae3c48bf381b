'use strict'
// Faults: what a mapping does about accesses that it does not allow, or that find nothing.
//
// Where V8's trap handler is off (Node.js 20 on arm64), a store of a module is as any other write:
// it goes to a page of the memory's own, and the region stays as it is.
const { assert, codeOf, fs, KiB, MiB, numbers, trapOf } = require('../support.cjs')

const first = region => new BigUint64Array(region.view())[0]

module.exports = {
  'a store to a read-only mapping': {
    needs: ['guard'],
    run: g => {
      const { exports, mapping, region } = g.mapped()
      const stores = [
        () => exports.store8(mapping.address + 3, 1),
        () => exports.store64(mapping.address + g.pageBytes, 1n),
        () => exports.store128(mapping.address + 2 * g.pageBytes, 1n)
      ]
      if (g.traps) {
        for (const store of stores) trapOf(store)
        assert.equal(mapping.strayWrites, 0)
        assert.equal(exports.load64(mapping.address), 0n)
      } else {
        for (const store of stores) store()
        assert.equal(mapping.strayWrites, 3)
      }
      assert.equal(first(region), 0n)
      return mapping.lastFault
    }
  },
  'a store to a read-only mapping, 64-bit': {
    needs: ['guard', 'memory64', 'traps'],
    run: g => {
      const { guarded, exports } = g.memory({ initial: 1n, address: 'i64' })
      const mapping = guarded.map(g.hostmap.HostRegion.copyFrom(numbers(MiB)))
      if (!guarded.guarded) return 'no guards'
      trapOf(() => exports.store64(mapping.pointer, 1n))
      return mapping.lastFault
    }
  },
  'atomics on a read-only mapping': {
    needs: ['guard'],
    run: g => {
      const { exports, mapping, region } = g.mapped()
      const outcome = call => {
        try {
          return String(call())
        } catch (error) {
          return error.message
        }
      }
      const outcomes = [
        outcome(() => exports.add(mapping.address, 5n)),
        outcome(() => exports.exchange(mapping.address + 64 * KiB, 8192n, 1n))
      ]
      assert.equal(first(region), 0n)
      return outcomes
    }
  },
  'memory.fill and memory.copy': {
    needs: ['guard'],
    run: g => {
      const { exports, mapping, region } = g.mapped()
      exports.fill(mapping.address + g.pageBytes, 7, 5000)
      assert.equal(exports.load8(mapping.address + g.pageBytes), 7)
      exports.copy(mapping.address, mapping.address + 4 * g.pageBytes, 4096)
      assert.equal(exports.load64(mapping.address), BigInt((4 * g.pageBytes) / 8))
      assert.equal(first(region), 0n)
      assert(mapping.strayWrites >= 2)
    }
  },
  'a stray write of JavaScript': {
    needs: ['guard'],
    run: async g => {
      const warned = new Promise(resolve => {
        process.on('warning', function listen({ code }) {
          if (code !== 'HOSTMAP_STRAY_WRITE') return
          process.off('warning', listen)
          resolve()
        })
      })
      const { guarded, exports, mapping, region } = g.mapped()
      new Uint8Array(guarded.buffer)[mapping.address + 5] = 1
      assert.equal(exports.load8(mapping.address + 5), 1)
      assert.equal(new Uint8Array(region.view())[5], 0)
      assert.equal(mapping.strayWrites, 1)
      await warned
      return mapping.lastFault
    }
  },
  '2,048 stray writes': {
    needs: ['guard'],
    run: g => {
      const pages = 2048
      const region = g.hostmap.HostRegion.allocate(pages * g.pageBytes)
      const { guarded, mapping } = g.mapped(0, {}, region)
      const bytes = new Uint8Array(guarded.buffer)
      for (let page = 0; page < pages; page++) bytes[mapping.address + page * g.pageBytes] = 1
      assert(mapping.strayWrites > 32)
      assert.equal(new Uint8Array(region.view())[0], 0)
      return mapping.strayWrites
    }
  },
  'a system call that writes there': g => {
    const { guarded, mapping } = g.mapped()
    const fd = fs.openSync(g.file('read', 'abcdef'))
    const into = new Uint8Array(guarded.buffer, mapping.address, 6)
    const code = codeOf(() => fs.readSync(fd, into))
    fs.closeSync(fd)
    assert.equal(code, 'EFAULT')
  },
  'a file that was truncated': {
    needs: ['guard'],
    run: g => {
      const file = g.file('truncated', numbers(MiB))
      const { guarded, exports, mapping } = g.mapped(MiB, {}, g.hostmap.HostRegion.open(file))
      assert.equal(exports.load64(mapping.address + 8), 1n)
      fs.truncateSync(file, 64 * KiB)
      const past = () => exports.load64(mapping.address + 512 * KiB)
      if (g.traps) trapOf(past)
      else assert.equal(past(), 0n)
      assert.equal(mapping.lastFault.cause, 'file-shrunk')
      assert.equal(new Uint8Array(guarded.buffer)[mapping.address + 700 * KiB], 0)
      assert(mapping.faults >= 2)
      assert.equal(exports.load64(mapping.address + 64 * KiB - 8), 8191n)
      assert.equal(
        codeOf(() => guarded.checkFaults()),
        'ERR_HOSTMAP_FAULTED'
      )
      assert(guarded.acknowledgeFaults() >= 2)
      guarded.checkFaults()
    }
  },
  'a trap, and then another one': {
    needs: ['guard'],
    run: g => {
      const { guarded, exports, mapping } = g.mapped()
      for (let round = 0; round < 3; round++) {
        new Uint8Array(guarded.buffer)[mapping.address + round * 16 * g.pageBytes] = 1
        trapOf(() => exports.load8(2 ** 31))
        exports.fill(mapping.address + (round * 16 + 8) * g.pageBytes, 1, 1)
        trapOf(() => exports.store8(2 ** 32 - 1, 1))
      }
    }
  }
}
