'use strict'
// Windows, what is past their end, and passes over a region.
const { assert, KiB, MiB, moduleOf, numbers, sumOf, trapOf } = require('../support.cjs')

/** Slides over a region, and reads and writes there. */
function slides(g, region, access) {
  const { guarded, exports } = g.memory()
  const window = guarded.window({ byteLength: MiB, access })
  for (const at of [0, 3 * MiB, 5 * MiB + 64 * KiB, 7 * MiB, 8 * 77_777]) {
    const { pointer } = window.slide(region, at)
    assert.equal(exports.load64(pointer), BigInt(at / 8))
    if (access !== 'readonly') exports.store64(pointer + 8, 5n)
  }
  window.unmap()
  assert.equal(exports.load8(window.address), 0)
}

const inMemory = g => g.hostmap.HostRegion.copyFrom(numbers(8 * MiB))
const inFile = (g, options) =>
  g.hostmap.HostRegion.open(g.file('window', numbers(8 * MiB)), options)

module.exports = {
  'slide, memory': g => slides(g, inMemory(g), 'readonly'),
  'slide, file': g => slides(g, inFile(g), 'readonly'),
  'slide, private, memory': g => slides(g, inMemory(g), 'private'),
  'slide, private, file': g => slides(g, inFile(g), 'private'),
  'slide, shared, memory': g => slides(g, inMemory(g), 'shared'),
  'slide, shared, file': g => slides(g, inFile(g, { writable: true }), 'shared'),
  'past what a window shows': {
    needs: ['traps'],
    run: g => {
      const region = g.hostmap.HostRegion.copyFrom(numbers(3 * 64 * KiB + 800))
      const { guarded, exports } = g.memory()
      const window = guarded.window({ byteLength: 128 * KiB })
      assert.equal(window.slide(region, 3 * 64 * KiB).byteLength, 800)
      trapOf(() => exports.load8(window.address + 64 * KiB))
      const zeros = guarded.window({ byteLength: 128 * KiB, rest: 'zeros' })
      zeros.slide(region, 3 * 64 * KiB)
      assert.equal(exports.load8(zeros.address + 64 * KiB), 0)
      return window.lastFault.cause
    }
  },
  chunks: async g => {
    const region = inFile(g)
    const { guarded, exports } = g.memory()
    const window = guarded.window({ byteLength: MiB })
    let sum = 0n
    for await (const { pointer, byteLength } of window.chunks(region)) {
      sum += exports.sum(pointer, pointer + byteLength)
    }
    assert.equal(sum, sumOf(8 * MiB))
  },
  'a source that the module asks': g => {
    const region = inFile(g)
    const guarded = new g.hostmap.GuardedMemory({ initial: 1 })
    const source = guarded.window({ byteLength: MiB }).source(region, { chunk: 256 * KiB })
    const imports = { env: { memory: guarded.memory }, source: source.imports }
    const { exports } = new WebAssembly.Instance(moduleOf('scan'), imports)
    assert.equal(exports.scan(), sumOf(8 * MiB))
    source.seek(4 * MiB)
    assert.equal(exports.scan(), sumOf(8 * MiB) - sumOf(4 * MiB))
  },
  'parts of a region': g => {
    const region = inMemory(g)
    const parts = region.split(4)
    const { guarded, exports } = g.memory()
    const sums = parts.map(part => {
      const mapping = guarded.map(region, part)
      const sum = exports.sum(mapping.address, mapping.address + mapping.byteLength)
      mapping.unmap()
      return sum
    })
    assert.equal(
      sums.reduce((all, sum) => all + sum),
      sumOf(8 * MiB)
    )
  }
}
