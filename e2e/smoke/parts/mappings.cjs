'use strict'
// Mappings, each access on each kind of region, and growth under them.
const {
  assert,
  bytesOf,
  fs,
  KiB,
  MiB,
  moduleOf,
  numbers,
  sumOf,
  trapOf
} = require('../support.cjs')

module.exports = {
  'sum a mapping': g => {
    const { exports, mapping } = g.mapped(2 * MiB)
    assert.equal(exports.sum(mapping.address, mapping.address + 2 * MiB), sumOf(2 * MiB))
  },
  'private, memory': g => {
    const { exports, mapping, region } = g.mapped(MiB, { access: 'private' })
    exports.store64(mapping.address, 77n)
    assert.equal(exports.load64(mapping.address), 77n)
    assert.equal(new BigUint64Array(region.view())[0], 0n)
    mapping.unmap()
    assert.equal(exports.load64(mapping.address), 0n)
  },
  'private, file': g => {
    const file = g.file('private', numbers(MiB))
    const { exports, mapping } = g.mapped(
      MiB,
      { access: 'private' },
      g.hostmap.HostRegion.open(file)
    )
    exports.store64(mapping.address + 16, 55n)
    assert.equal(exports.load64(mapping.address + 16), 55n)
    assert.equal(fs.readFileSync(file).readBigUInt64LE(16), 2n)
  },
  'shared, memory': g => {
    const { exports, mapping, region } = g.mapped(MiB, { access: 'shared' })
    exports.store64(mapping.address, 77n)
    assert.equal(exports.add(mapping.address, 3n), 77n)
    assert.equal(new BigUint64Array(region.view())[0], 80n)
  },
  'shared, file': g => {
    const file = g.file('shared', numbers(MiB))
    const region = g.hostmap.HostRegion.open(file, { writable: true })
    const { exports, mapping } = g.mapped(MiB, { access: 'shared' }, region)
    exports.store64(mapping.address + 16, 55n)
    assert.equal(fs.readFileSync(file).readBigUInt64LE(16), 55n)
  },
  '64-bit memory': {
    needs: ['memory64'],
    run: g => {
      const { guarded, exports } = g.memory({ initial: 1n, address: 'i64' })
      const mapping = guarded.map(g.hostmap.HostRegion.copyFrom(numbers(MiB)))
      assert.equal(exports.load64(mapping.pointer + 8n), 1n)
      assert.equal(exports.sum(mapping.pointer, mapping.pointer + BigInt(MiB)), sumOf(MiB))
      trapOf(() => exports.load64(2n ** 40n))
      return { guarded: guarded.guarded }
    }
  },
  'past the end is a trap': g => {
    const { exports } = g.memory()
    return [65_536, 2 ** 31, 2 ** 32 - 1].map(at => trapOf(() => exports.load8(at)))[0]
  },
  'growth by the host': g => {
    const { guarded, exports } = g.memory({ initial: 1, maximum: 200 })
    const mapping = guarded.map(g.hostmap.HostRegion.copyFrom(numbers(MiB)))
    assert.equal(guarded.grow(3), 17)
    assert.equal(exports.load64(mapping.address + 8), 1n)
    const [range] = [...guarded.layout()].filter(({ kind }) => kind === 'mapped')
    assert.equal(range.access, 'readonly')
  },
  'growth by the module': g => {
    const { guarded, exports } = g.memory({ initial: 1, maximum: 200 })
    const region = g.hostmap.HostRegion.copyFrom(numbers(MiB))
    const mapping = guarded.map(region)
    assert.equal(exports.grow(3), 17)
    exports.store64(mapping.address, 5n)
    assert.equal(new BigUint64Array(region.view())[0], 0n)
    guarded.layout()
    assert.equal(exports.load64(mapping.address + 8), 1n)
  },
  'growth that asks the host': async g => {
    const asked = []
    const onGrow = ({ wasmPages }) => asked.push(wasmPages) < 2
    const instrumented = g.hostmap.instrumentGrowth(bytesOf('state'), { onGrow })
    const { exports } = await instrumented.instantiate({})
    assert.deepEqual([exports.grow(), exports.grow()], [4, -1])
    assert.deepEqual(asked, [1, 1])
  },
  'a shared memory': g => {
    const { guarded, exports } = g.memory({ initial: 1, maximum: 1000, shared: true }, 'shared')
    const mapping = guarded.map(g.hostmap.HostRegion.copyFrom(numbers(MiB)))
    assert.equal(exports.load64(mapping.address + 8), 1n)
    mapping.unmap()
    assert.equal(exports.load64(mapping.address + 8), 0n)
  },
  reserve: g => {
    const { guarded } = g.memory({ initial: 1, maximum: 1000 })
    guarded.reserve(4 * MiB)
    const { byteLength } = guarded
    guarded.map(g.hostmap.HostRegion.copyFrom(numbers(MiB)))
    assert.equal(guarded.byteLength, byteLength)
  },
  'populate and prefetch': async g => {
    const { guarded, exports } = g.memory()
    const file = g.hostmap.HostRegion.open(g.file('prefetch', numbers(4 * MiB)))
    const mapping = guarded.map(file, { populate: true })
    await mapping.prefetch()
    const copy = guarded.map(g.hostmap.HostRegion.copyFrom(numbers(4 * MiB)), { access: 'private' })
    await copy.prefetch({ byteOffset: 64 * KiB, byteLength: MiB })
    assert.equal(exports.load64(mapping.address + 8), 1n)
    assert.equal(exports.load64(copy.address + 8), 1n)
  },
  'memory that a module exports': g => {
    const { exports } = new WebAssembly.Instance(moduleOf('state'))
    const guarded = g.hostmap.GuardedMemory.from(exports.memory)
    const mapping = guarded.map(g.hostmap.HostRegion.copyFrom(numbers(64 * KiB)))
    assert.equal(new BigUint64Array(exports.memory.buffer, mapping.address, 2)[1], 1n)
    assert.equal(
      g.hostmap.GuardedMemory.from(() => exports.memory.buffer),
      guarded
    )
  },
  '100 memories': g => {
    const region = g.hostmap.HostRegion.copyFrom(numbers(64 * KiB))
    const kept = []
    for (let count = 0; count < 100; count++) {
      const { guarded, exports } = g.memory()
      const { address } = guarded.map(region)
      assert.equal(exports.load64(address + 8), 1n)
      kept.push(guarded)
    }
    return g.hostmap.limits().mapCount.used
  },
  'memories are collected': async g => {
    const region = g.hostmap.HostRegion.copyFrom(numbers(64 * KiB))
    const turn = () => new Promise(resolve => setImmediate(resolve))
    for (let count = 0; count < 50; count++) {
      g.memory().guarded.map(region)
      if (count % 10 === 9) {
        globalThis.gc?.()
        await turn()
      }
    }
    const { guarded, exports } = g.memory()
    assert.equal(exports.load64(guarded.map(region).address + 8), 1n)
  }
}
