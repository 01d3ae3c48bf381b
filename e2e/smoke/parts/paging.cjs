'use strict'
// Regions whose bytes come when they are touched, with userfaultfd where it is allowed and without.
const { assert, KiB, MiB, numbers, sumOf, trapOf } = require('../support.cjs')

const PROVIDER = `
export default ({ byteLength, fails }) => ({
  byteLength,
  read(byteOffset, target) {
    if (byteOffset === fails) throw new Error('it is asked to fail')
    const values = new BigUint64Array(target.buffer, target.byteOffset, target.byteLength / 8)
    for (let at = 0; at < values.length; at++) values[at] = BigInt(byteOffset / 8 + at)
    return target.byteLength
  }
})`

const paged = (g, options, data) =>
  g.hostmap.HostRegion.paged({
    provider: {
      // Bun gives modules of data: URLs no exports.
      module: g.file('provider.mjs', PROVIDER),
      data: { byteLength: 4 * MiB, ...data }
    },
    chunkBytes: 64 * KiB,
    ...options
  })

/** `userfaultfd`: undefined takes it where it is allowed. */
function ways(userfaultfd) {
  const scan = async g => {
    const region = await paged(g, { userfaultfd, cacheBytes: MiB })
    const { exports, mapping } = g.mapped(4 * MiB, {}, region)
    for (let round = 0; round < 2; round++)
      assert.equal(exports.sum(mapping.pointer, mapping.pointer + 4 * MiB), sumOf(4 * MiB))
    const { touches, evictions } = region.paging.stats()
    assert.ok(touches > 0)
    const { userfaultfd: isUserfaultfd } = region.paging
    const note = `${isUserfaultfd ? 'userfaultfd' : 'mappings'}, ${evictions} evictions`
    mapping.unmap()
    region.close()
    return note
  }
  const view = async g => {
    const region = await paged(g, { userfaultfd })
    const at = 3 * MiB + 8
    assert.equal(new BigUint64Array(region.view())[at / 8], BigInt(at / 8))
    const hold = await region.paging.ensure({ byteOffset: MiB, byteLength: MiB })
    assert.deepEqual(region.bytes().subarray(MiB, 2 * MiB), numbers(4 * MiB).subarray(MiB, 2 * MiB))
    hold.release()
    region.close()
  }
  const fails = {
    needs: ['traps', 'paging'],
    run: async g => {
      const region = await paged(g, { userfaultfd }, { fails: 2 * MiB })
      const { exports, mapping } = g.mapped(4 * MiB, {}, region)
      trapOf(() => exports.load8(mapping.pointer + 2 * MiB))
      assert.equal(
        exports.load64(mapping.pointer + 2 * MiB + 64 * KiB),
        BigInt((2 * MiB + 64 * KiB) / 8)
      )
      const { failedTouches } = region.paging.stats()
      mapping.unmap()
      region.close()
      return `${failedTouches} touches failed`
    }
  }
  return { scan, view, fails }
}

const here = ways(undefined)
const without = ways(false)

module.exports = {
  'paged: a scan through a small cache': { needs: ['guard', 'paging'], run: here.scan },
  'paged: a view, and what was ensured': { needs: ['guard', 'paging'], run: here.view },
  'paged: a chunk that fails': here.fails,
  'paged by mappings: a scan through a small cache': {
    needs: ['guard', 'paging'],
    run: without.scan
  },
  'paged by mappings: a view, and what was ensured': {
    needs: ['guard', 'paging'],
    run: without.view
  },
  'paged by mappings: a chunk that fails': without.fails
}
