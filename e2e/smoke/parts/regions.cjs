'use strict'
// Regions: where their bytes come from, and who sees them.
const { assert, fs, KiB, MiB, numbers, codeOf, bytesOf } = require('../support.cjs')

const elapsed = start => Number(process.hrtime.bigint() - start) / 1e6

module.exports = {
  'limits are known': ({ limits }) => {
    assert(limits.pageSize >= 4096)
    assert(limits.wasm.maxPages32 > 0)
    assert(limits.mapCount.used > 0 && limits.mapCount.used < limits.mapCount.limit)
    assert(limits.addressSpace.freeBytes > 0)
    return { pageBytes: limits.pageSize, faultGuard: limits.faultGuard, wasm: limits.wasm }
  },
  allocate: g => {
    const region = g.hostmap.HostRegion.allocate(100 * MiB, { name: 'dataset' })
    new Uint8Array(region.view())[5] = 9
    const { guarded, exports } = g.memory()
    const { address } = guarded.map(region)
    assert.equal(exports.load8(address + 5), 9)
    assert.equal(exports.load8(address + 99 * MiB), 0)
  },
  copyFrom: g => {
    const { exports, mapping } = g.mapped(3 * MiB)
    assert.equal(exports.load64(mapping.address + 8000), 1000n)
  },
  'load a file': async g => {
    let calls = 0
    const file = g.file('load', numbers(5 * MiB))
    const region = await g.hostmap.HostRegion.load(file, { onProgress: () => calls++ })
    assert(calls > 0)
    const { exports, mapping } = g.mapped(5 * MiB, {}, region)
    assert.equal(exports.load64(mapping.address + 8 * 100_000), 100_000n)
    return region.hugePages
  },
  'load a sparse file': async g => {
    const file = g.file('sparse', '')
    fs.truncateSync(file, 64 * MiB)
    const fd = fs.openSync(file, 'r+')
    // Deno ignores the position of a string.
    fs.writeSync(fd, Buffer.from('x'), 0, 1, 40 * MiB)
    fs.closeSync(fd)
    const region = await g.hostmap.HostRegion.load(file)
    assert.equal(new Uint8Array(region.view())[40 * MiB], 120)
    const own = region.duplicateFd()
    // Deno's fs knows no descriptors but its own.
    const { blocks } = fs.statSync(`/proc/self/fd/${own}`)
    if (!process.versions.deno) fs.closeSync(own)
    assert(blocks * 512 < 16 * MiB, `${blocks} blocks`)
  },
  'open a file': g => {
    const region = g.hostmap.HostRegion.open(g.file('open', numbers(MiB)))
    const { exports, mapping } = g.mapped(MiB, {}, region)
    assert.equal(region.backing, 'file')
    assert.equal(exports.load64(mapping.address + 8 * 12_345), 12_345n)
  },
  'huge pages': g => {
    const region = g.hostmap.HostRegion.copyFrom(numbers(4 * MiB), { hugePages: true })
    assert.equal(new BigUint64Array(region.view())[400_000], 400_000n)
    return region.hugePages
  },
  'views and Buffers': g => {
    const region = g.hostmap.HostRegion.open(g.file('bytes', numbers(MiB)))
    const buffer = region.bytes({ byteOffset: 64 * KiB, byteLength: 16 })
    assert.equal(buffer.readBigUInt64LE(8), 8193n)
    const view = new BigUint64Array(region.view(0, 64))
    assert.equal(view[7], 7n)
    const writable = g.hostmap.HostRegion.allocate(MiB)
    writable.bytes({ access: 'shared' })[3] = 5
    assert.equal(new Uint8Array(writable.view())[3], 5)
    writable.close()
    region.close()
    assert.equal(view.length, 0)
    assert.equal(buffer.readBigUInt64LE(8), 8193n)
  },
  seal: {
    needs: ['guard'],
    run: g => {
      const region = g.hostmap.HostRegion.copyFrom(numbers(MiB))
      const before = new Uint8Array(region.view())
      region.seal()
      assert(region.sealed && !region.writable)
      before[8] = 77
      const { guarded, exports } = g.memory()
      assert.equal(exports.load64(guarded.map(region).address + 8), 1n)
      assert.equal(
        codeOf(() => guarded.map(region, { access: 'shared' })),
        'ERR_HOSTMAP_REGION_READONLY'
      )
      assert.equal(region.strayWrites, 1)
    }
  },
  'wait and notify': async g => {
    const region = g.hostmap.HostRegion.allocate(64 * KiB)
    assert.equal(await region.wait(8, 1), 'not-equal')
    assert.equal(await region.wait(8, 0, { timeoutMs: 20 }), 'timed-out')
    assert.equal(region.waitSync(8, 0, { timeoutMs: 20 }), 'timed-out')
    const waited = region.wait(8, 0, { timeoutMs: 60_000 })
    let woken = 0
    while (woken === 0) {
      await new Promise(resolve => setTimeout(resolve, 5))
      woken = region.notify(8)
    }
    assert.equal(await waited, 'ok')
    const start = process.hrtime.bigint()
    const controller = new AbortController()
    const aborted = region.wait(8, 0, { signal: controller.signal }).catch(error => error.name)
    controller.abort()
    assert.equal(await aborted, 'AbortError')
    return { abortMilliseconds: Math.round(elapsed(start)) }
  },
  // Pages of hugetlbfs, where the machine has some (or where SMOKE_HUGETLB may make some).
  hugetlb: g => {
    if (process.env.SMOKE_HUGETLB) fs.writeFileSync('/proc/sys/vm/nr_hugepages', '2')
    const memory = fs.readFileSync('/proc/meminfo', 'utf8')
    const [free, pageKibibytes] = ['HugePages_Free', 'Hugepagesize'].map(name =>
      Number(new RegExp(`${name}:\\s+(\\d+)`).exec(memory)?.[1] ?? 0)
    )
    const mounts = fs.readFileSync('/proc/mounts', 'utf8').split('\n')
    const place = mounts
      .map(line => line.split(' '))
      .find(([, , type]) => type === 'hugetlbfs')?.[1]
    if (free === 0 || !place) return 'none here'
    const file = `${place}/hostmap-smoke-${process.pid}`
    const fd = fs.openSync(file, 'w+')
    fs.unlinkSync(file)
    fs.ftruncateSync(fd, pageKibibytes * KiB)
    try {
      g.memory().guarded.map(g.hostmap.HostRegion.fromFd(fd))
      return 'mapped'
    } catch (error) {
      // A refusal is an answer, as long as it has a code.
      assert.match(error.code, /^ERR_HOSTMAP_/)
      return error.code
    } finally {
      fs.closeSync(fd)
    }
  },
  'errors have codes': g => {
    const { HostRegion } = g.hostmap
    assert.equal(
      codeOf(() => HostRegion.open('/nowhere/at/all')),
      'ERR_HOSTMAP_OPEN_FAILED'
    )
    assert.equal(
      codeOf(() => HostRegion.open('/')),
      'ERR_HOSTMAP_NOT_A_FILE'
    )
    assert.equal(
      codeOf(() => g.hostmap.exposeState(bytesOf('probe').subarray(0, 20))),
      'ERR_INVALID_ARG_VALUE'
    )
  }
}
