'use strict'
// Snapshots, checkpoints, pools, and what is called once.
const { assert, bytesOf, fs, KiB, MiB, numbers } = require('../support.cjs')

const WASM_PAGE = 64 * KiB

/** A memory of 100 Wasm pages with a number in each third of them. */
function marked(g) {
  const ground = g.memory({ initial: 100 })
  for (let page = 0; page < 100; page += 3)
    ground.exports.store64(page * WASM_PAGE, BigInt(page + 1))
  return ground
}

function checkMarks({ exports }) {
  for (let page = 0; page < 100; page++) {
    assert.equal(exports.load64(page * WASM_PAGE), page % 3 ? 0n : BigInt(page + 1))
    assert.equal(exports.load64(page * WASM_PAGE + 8), 0n)
  }
}

module.exports = {
  restore: g => {
    const ground = marked(g)
    const snapshot = ground.guarded.snapshot()
    for (let round = 0; round < 5; round++) {
      for (let page = 0; page < 100; page++) ground.exports.store64(page * WASM_PAGE + 8, 99n)
      ground.exports.store64(0, 5n)
      ground.guarded.restore(snapshot)
      checkMarks(ground)
    }
    const other = g.memory({ initial: 100 })
    other.guarded.restore(snapshot)
    checkMarks(other)
  },
  'restore with mappings': g => {
    const { guarded, exports } = g.memory({ initial: 10 })
    const region = g.hostmap.HostRegion.copyFrom(numbers(MiB))
    const mapping = guarded.map(region, { access: 'private' })
    const window = guarded.window({ byteLength: 256 * KiB })
    window.slide(region, 512 * KiB)
    exports.store64(mapping.address, 7n)
    const snapshot = guarded.snapshot()
    exports.store64(mapping.address, 8n)
    exports.store64(mapping.address + 64 * KiB, 9n)
    window.slide(region, 0)
    guarded.restore(snapshot)
    assert.equal(exports.load64(mapping.address), 7n)
    assert.equal(exports.load64(mapping.address + 64 * KiB), 8192n)
    assert.equal(exports.load64(window.address), 65_536n)
  },
  'save, load and open': async g => {
    const ground = marked(g)
    const file = g.path('saved.snapshot')
    const key = Buffer.alloc(32, 7)
    await ground.guarded.snapshot().save(file, { key })
    const loaded = await g.hostmap.Snapshot.load(file, { key })
    const other = g.memory({ initial: 100 })
    other.guarded.restore(loaded)
    checkMarks(other)
    try {
      const opened = await g.hostmap.Snapshot.open(file, { verify: true })
      const third = g.memory({ initial: 100 })
      third.guarded.restore(opened)
      checkMarks(third)
      return 'opened'
    } catch (error) {
      // File systems without leases: overlays and networks.
      assert.equal(error.code, 'ERR_HOSTMAP_SNAPSHOT_UNGUARDED')
      return error.message
    }
  },
  reset: g => {
    const ground = marked(g)
    ground.guarded.reset()
    for (let page = 0; page < 100; page++) assert.equal(ground.exports.load64(page * WASM_PAGE), 0n)
  },
  'a snapshot of an instance': async g => {
    const bytes = g.hostmap.exposeState(bytesOf('state'))
    const { instance } = await WebAssembly.instantiate(bytes, {})
    instance.exports.boot()
    instance.exports.handle(3)
    const snapshot = g.hostmap.Snapshot.of(instance)
    const expected = instance.exports.handle(1)
    const fork = await snapshot.instantiate(bytes, {})
    assert.equal(fork.exports.handle(1), expected)
    assert.equal(fork.exports.second(), 2)
    snapshot.restoreTo(instance)
    assert.equal(instance.exports.handle(1), expected)
  },
  'a pool': async g => {
    const pool = await g.hostmap.InstancePool.create(bytesOf('state'), {
      init: ({ exports }) => exports.boot(),
      max: 4
    })
    const answer = () => pool.run(({ exports }) => exports.handle(5))
    const first = await answer()
    assert.equal(first, 1_000_000 + 47_000 + 12)
    assert.equal(await answer(), first)
    await assert.rejects(
      pool.run(({ exports }) => exports.crash()),
      WebAssembly.RuntimeError
    )
    assert.equal(await answer(), first)
    assert.equal(await pool.run(({ exports }) => exports.second()), 2)
    pool.close()
  },
  'a pool of a factory': async g => {
    if (process.versions.deno || process.versions.bun) {
      const refused = { code: 'ERR_HOSTMAP_UNSUPPORTED_RUNTIME' }
      await assert.rejects(g.hostmap.InstancePool.create({ make() {} }), refused)
      return refused.code
    }
    const make = async () => {
      const { instance } = await WebAssembly.instantiate(bytesOf('state'), {})
      instance.exports.boot()
      return { answer: n => instance.exports.handle(n) }
    }
    const pool = await g.hostmap.InstancePool.create({ make, max: 2 })
    const answers = []
    for (let round = 0; round < 3; round++)
      answers.push(await pool.run(({ value }) => value.answer(5)))
    assert.deepEqual(new Set(answers), new Set([1_047_012]))
    pool.close()
  },
  'capture and checkpoint': async g => {
    const { value } = await g.hostmap.capture(async () => {
      const { instance } = await WebAssembly.instantiate(bytesOf('state'), {})
      instance.exports.boot()
      return instance
    })
    const clean = g.hostmap.checkpoint(value)
    const answer = value.exports.handle(5)
    assert.throws(() => value.exports.crash())
    clean.restore()
    assert.equal(value.exports.handle(5), answer)
    clean.close()
  },
  once: async g => {
    const options = { snapshot: g.path('once.snapshot'), module: bytesOf('state') }
    let calls = 0
    for (let round = 0; round < 2; round++) {
      const bytes = g.hostmap.exposeState(bytesOf('state'))
      const { instance } = await WebAssembly.instantiate(bytes, {})
      const boot = () => {
        calls++
        return instance.exports.boot()
      }
      assert.equal(await g.hostmap.once(instance, boot, options), 100)
      assert.equal(instance.exports.handle(5), 1_047_012)
    }
    assert.equal(calls, 1)
    assert(fs.existsSync(options.snapshot))
  }
}
