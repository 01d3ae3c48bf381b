// wasm-hostmap/emscripten over builds that show less, or other things, than it needs: what works is
// used, and what doesn't is refused with what to do. And over real packages.

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { HostRegion } from 'wasm-hostmap'
import { emscripten } from 'wasm-hostmap/emscripten'
import { emscriptenState } from 'wasm-hostmap/emscripten-state'

import { E, MAP, O, PROT, dataOf, load, program, sumOf } from '../support/emscripten-builds.mjs'

const require = createRequire(import.meta.url)
const LENGTH = 300_000
const DATA = dataOf(LENGTH, 7)
const REGION = HostRegion.copyFrom(DATA)
const FOLDER = mkdtempSync(join(tmpdir(), 'hostmap-emscripten-'))
after(() => rmSync(FOLDER, { recursive: true }))

const UNSUPPORTED = 'ERR_HOSTMAP_ENGINE_UNSUPPORTED'

for (const version of ['3.1.6', '3.1.69', '6.0.5']) {
  test(`Emscripten ${version} without FS: map() works, mountFile says how to build it`, async () => {
    const module = await load(version, 'nofs')
    const host = emscripten(module)
    assert.equal(emscripten(module), host)
    assert.throws(() => host.mountFile('/a', REGION), {
      code: UNSUPPORTED,
      message: /-sEXPORTED_RUNTIME_METHODS=FS/
    })
    const mapping = host.map(REGION)
    const c = program(module)
    assert.equal(c.sumAt(mapping.address, LENGTH), sumOf(DATA))
    assert.throws(() => c.put(mapping.address, 1), WebAssembly.RuntimeError)
    assert.equal(c.churn(50 * 2 ** 20), 3)
    assert.equal(c.sumAt(mapping.address, LENGTH), sumOf(DATA), 'after growth')
    mapping.unmap()
    assert.equal(host.memory.mappings.length, 0)
    const parts = [host.map(REGION, { byteOffset: 4096, byteLength: 10, access: 'private' })]
    assert.equal(c.get(parts[0].address), DATA[4096])
    assert.throws(() => host.map(REGION, { byteOffset: 1 }), { code: 'ERR_OUT_OF_RANGE' })
  })

  test(`Emscripten ${version} without allocator or views: files work, map() says how to build it`, async () => {
    const host = emscripten(await load(version, 'closed'))
    assert.throws(() => host.map(REGION), { code: UNSUPPORTED, message: /-sEXPORTED/ })
    host.mountFile('/a', REGION)
    assert.equal(host.files.length, 1)
  })
}

for (const version of ['3.1.6', '6.0.5']) {
  test(`Emscripten ${version}: WASMFS and NODERAWFS are refused with the reason`, async () => {
    for (const [kind, reason] of [
      ['wasmfs', /-sWASMFS/],
      ['rawfs', /NODERAWFS/]
    ]) {
      const module = await load(version, kind)
      const host = emscripten(module)
      const path = join(FOLDER, `never-${version}`)
      for (const at of ['/never', path]) {
        assert.throws(() => host.mountFile(at, REGION), { code: UNSUPPORTED, message: reason })
      }
      assert.throws(() => readFileSync(path), { code: 'ENOENT' })
      const mapping = host.map(REGION)
      assert.equal(program(module).sumAt(mapping.address, LENGTH), sumOf(DATA))
      mapping.unmap()
    }
  })
}

for (const version of ['3.1.6', '3.1.69', '6.0.5']) {
  test(`Emscripten ${version}: mmap() maps files of NODEFS, and stores write to them`, async () => {
    const path = join(FOLDER, `host-${version}.bin`)
    writeFileSync(path, DATA)
    const module = await load(version, 'plain')
    const c = program(module)
    const { FS } = module
    const { NODEFS } = FS.filesystems
    const original = { ...NODEFS.stream_ops }
    FS.mkdir('/host')
    FS.mount(NODEFS, { root: FOLDER }, '/host')
    const host = emscripten(module)
    assert.throws(() => host.mapFiles('/tmp'), { code: UNSUPPORTED, message: /no NODEFS at \/tmp/ })
    assert.throws(() => host.mapFiles('/none'), { code: 'ERR_HOSTMAP_ENGINE_REFUSED' })
    assert.throws(() => host.mountFile('/host/x', REGION), { code: UNSUPPORTED })
    host.mapFiles('/host')
    const name = `/host/host-${version}.bin`
    const fd = c.open(name, O.RDONLY)
    const at = c.map(LENGTH, PROT.READ, MAP.SHARED, fd, 0)
    assert.equal(host.memory.mappings.length, 1)
    assert.equal(c.sumAt(at, LENGTH), sumOf(DATA))
    const part = c.map(5000, PROT.READ, MAP.PRIVATE, fd, 65_536)
    assert.equal(part, at + 65_536)
    const mine = c.map(5000, PROT.READ | PROT.WRITE, MAP.PRIVATE, fd, 65_536)
    c.put(mine, 1 + DATA[65_536])
    assert.equal(c.get(part), DATA[65_536])
    for (const from of [part, mine]) assert.equal(c.unmap(from, 5000), 0)
    assert.equal(c.unmap(at, LENGTH), 0)
    assert.equal(readFileSync(path)[65_536], DATA[65_536])

    const rw = c.open(name, O.RDWR)
    const shared = c.map(LENGTH, PROT.READ | PROT.WRITE, MAP.SHARED, rw, 0)
    c.put(shared + 123_456, 99)
    assert.equal(readFileSync(path)[123_456], 99, 'before msync')
    assert.equal(c.sync(shared, LENGTH), 0)
    assert.equal(c.unmap(shared, LENGTH), 0)
    // A file that grows is another mapping.
    assert.equal(c.fill(rw, LENGTH, 5000, 6), 5000)
    const grown = c.map(LENGTH + 5000, PROT.READ, MAP.SHARED, rw, 0)
    assert.equal(c.get(grown + LENGTH + 4999), 6)
    assert.equal(c.get(grown + 123_456), 99)
    assert.equal(c.unmap(grown, LENGTH + 5000), 0)
    assert.equal(c.churn(2 ** 21), 3)
    host[Symbol.dispose]()
    assert.deepEqual({ ...NODEFS.stream_ops }, original)
    const copy = c.map(LENGTH, PROT.READ, MAP.SHARED, rw, 0)
    assert.equal(c.get(copy + 123_456), 99)
    assert.equal(c.unmap(copy, LENGTH), 0)
  })
}

for (const version of ['3.1.6', '6.0.5']) {
  test(`Emscripten ${version} with threads: a thread reads a file that the main thread mounted`, async () => {
    const module = await load(version, 'threads', { noExitRuntime: true })
    try {
      const host = emscripten(module)
      host.mountFile('/orders.bin', REGION)
      const call = async (name, types, ...given) => {
        assert.equal(module.ccall(name, 'number', types, given), 0)
        for (;;) {
          const result = module.ccall('t_result', 'number', [], [])
          if (result !== -10) return result // EBUSY
          await new Promise(resolve => setTimeout(resolve, 1))
        }
      }
      assert.equal(await call('t_start', ['string'], '/orders.bin'), sumOf(DATA))
      // The memory grows in the thread; the main thread's views are behind.
      assert.equal(await call('t_grow', ['number'], 100 * 2 ** 20), 3)
      const c = program(module)
      const mapping = host.map(REGION)
      assert.equal(c.sumAt(mapping.address, LENGTH), sumOf(DATA))
      const fd = c.open('/orders.bin', O.RDONLY)
      const at = c.map(LENGTH, PROT.READ, MAP.SHARED, fd, 0)
      assert.equal(c.sumAt(at, LENGTH), sumOf(DATA))
      assert.equal(c.unmap(at, LENGTH), 0)
      mapping.unmap()
      assert.equal(await call('t_start', ['string'], '/orders.bin'), sumOf(DATA))
    } finally {
      module.PThread?.terminateAllThreads?.()
    }
  })
}

for (const version of ['3.1.6', '3.1.69', '6.0.5']) {
  test(`Emscripten ${version}: emscriptenState brings a mounted file back`, async () => {
    const module = await load(version, 'plain')
    const c = program(module)
    const host = emscripten(module)
    const region = HostRegion.copyFrom(DATA)
    const file = host.mountFile('/a', region, { access: 'private' })
    host.mountFile('/read', region)
    const fd = c.open('/a', O.RDWR)
    assert.equal(c.fill(fd, 5000, 5000, 1), 5000)
    assert.equal(c.fill(fd, LENGTH, 100, 2), 100)
    const before = Buffer.from(module.FS.readFile('/a'))
    const goBack = emscriptenState(module)()
    const check = () => {
      assert.equal(file.byteLength, LENGTH + 100)
      assert.equal(Buffer.compare(module.FS.readFile('/a'), before), 0)
      assert.equal(c.size('/a'), LENGTH + 100)
      assert.equal(Buffer.compare(module.FS.readFile('/read'), DATA), 0)
    }
    check()
    for (const change of [
      () => c.fill(fd, 0, 20_000, 9), // pages that were written, and others
      () => c.fill(fd, LENGTH + 50, 100_000, 9),
      () => c.truncate(fd, 7000) + c.fill(fd, 7000, 5000, 8) - 5000,
      () => c.truncate(fd, 0),
      () => c.unlink('/a'),
      () => c.rename('/a', '/b') + c.rename('/read', '/a')
    ]) {
      assert.ok(change() >= 0)
      goBack()
      check()
    }
    region.close()
    assert.equal(c.fill(fd, 200_000, 10, 3), 10)
    goBack()
    check()
    // What mmap() shows is what the file holds.
    const at = c.map(LENGTH, PROT.READ, MAP.SHARED, fd, 0)
    assert.equal(c.sumAt(at, LENGTH), sumOf(Uint8Array.from(before.subarray(0, LENGTH))))
  })
}

describe('what is no running module', () => {
  test('is refused with what to do', async () => {
    const factory = require('../fixtures/emscripten/6.0.5/plain.js')
    const promise = load('6.0.5', 'plain')
    for (const [given, hint] of [
      [undefined, /module must be/],
      [null, /not null/],
      [factory, /call the factory/],
      [promise, /await/],
      ['Module', /not string/]
    ]) {
      assert.throws(() => emscripten(given), { code: 'ERR_INVALID_ARG_TYPE', message: hint })
    }
    await promise
    for (const given of [{}, { onRuntimeInitialized() {} }]) {
      assert.throws(() => emscripten(given), { code: 'ERR_HOSTMAP_ENGINE_NOT_READY' })
    }
  })

  test('an aborted module: its errors come through, and nothing is left half done', async () => {
    const module = await load('6.0.5', 'plain')
    const host = emscripten(module)
    host.mountFile('/a', REGION)
    const failing = Object.create(module, {
      _malloc: {
        value: () => {
          throw new WebAssembly.RuntimeError('Aborted()')
        }
      }
    })
    const aborted = emscripten(failing)
    assert.throws(() => aborted.map(REGION), WebAssembly.RuntimeError)
    assert.equal(aborted.memory.mappings.length, 0)
    assert.equal(program(module).size('/a'), LENGTH)
  })

  test('an allocator that returns 0: map() says so, and mmap() in C is ENOMEM or a copy', async () => {
    const module = await load('6.0.5', 'plain')
    const poor = Object.create(module, { _malloc: { value: () => 0 } })
    assert.throws(() => emscripten(poor).map(REGION), { code: 'ERR_HOSTMAP_ALLOCATOR_FAILED' })
    emscripten(poor).mountFile('/a', REGION)
    const c = program(module)
    const fd = c.open('/a', O.RDONLY)
    const at = c.map(LENGTH, PROT.READ, MAP.SHARED, fd, 0)
    assert.equal(c.sumAt(at, LENGTH), sumOf(DATA))
    assert.equal(c.unmap(at, LENGTH), 0)
    // More than the memory may have.
    assert.equal(c.map(2 ** 32 - 65_536, PROT.READ, MAP.SHARED, fd, 0), E.ENOMEM)
  })
})

describe('real packages', () => {
  test('7z-wasm packs, lists and tests what is mounted', async () => {
    const lines = []
    const sevenZip = await require('7z-wasm')({ print: line => lines.push(line) })
    const host = emscripten(sevenZip)
    host.mountFolder('/in', { 'orders.bin': REGION, 'again.bin': REGION })
    sevenZip.callMain(['a', '-mx1', '/out.7z', '/in/orders.bin', '/in/again.bin'])
    const archive = HostRegion.copyFrom(sevenZip.FS.readFile('/out.7z'))
    host.mountFile('/mounted.7z', archive)
    sevenZip.callMain(['x', '-o/back', '/mounted.7z'])
    assert.deepEqual(Buffer.from(sevenZip.FS.readFile('/back/orders.bin')), Buffer.from(DATA))
    assert.ok(lines.includes('Everything is Ok'))
    // It has no NODEFS there, but it shows none of its memory either.
    assert.throws(() => host.map(REGION), { code: UNSUPPORTED })
  })

  test('h5wasm reads a mounted file, and extends a copy-on-write one', async () => {
    // What browsers get: its build for Node.js has NODERAWFS.
    const h5wasm = await import(
      new URL('../node_modules/h5wasm/dist/esm/hdf5_hl.js', import.meta.url)
    )
    const module = await h5wasm.ready
    const host = emscripten(module)
    const values = Float64Array.from({ length: 50_000 }, (_, i) => i * 1.5)
    const made = new h5wasm.File('/made.h5', 'w')
    made.create_dataset({ name: 'prices', data: values })
    made.close()
    const bytes = module.FS.readFile('/made.h5')
    const region = HostRegion.copyFrom(bytes)
    host.mountFile('/read.h5', region)
    const read = new h5wasm.File('/read.h5', 'r')
    assert.deepEqual(read.get('prices').value, values)
    read.close()
    const file = host.mountFile('/write.h5', region, { access: 'private' })
    const write = new h5wasm.File('/write.h5', 'a')
    write.create_dataset({ name: 'more', data: values })
    write.close()
    assert.ok(file.byteLength > region.byteLength)
    const again = new h5wasm.File('/write.h5', 'r')
    assert.deepEqual(again.get('more').value, values)
    assert.deepEqual(again.get('prices').value, values)
    again.close()
    assert.equal(Buffer.compare(region.bytes(), bytes), 0)
    const mapping = host.map(region)
    assert.equal(
      Buffer.compare(new Uint8Array(module.HEAPU8.buffer, mapping.address, bytes.length), bytes),
      0
    )
    mapping.unmap()
  })

  test('PGlite reads a mounted file by COPY', async () => {
    const { PGlite } = await import('@electric-sql/pglite')
    const db = await PGlite.create()
    const text = Array.from({ length: 20_000 }, (_, i) => `${i}\t${i * 7}\n`).join('')
    const region = HostRegion.copyFrom(Buffer.from(text))
    const host = emscripten(db.Module)
    host.mountFile('/tmp/orders.tsv', region)
    await db.exec(`CREATE TABLE orders (id int, cents int); COPY orders FROM '/tmp/orders.tsv'`)
    const { rows } = await db.query('SELECT count(*)::int AS n, sum(cents)::float AS s FROM orders')
    assert.deepEqual(rows, [{ n: 20_000, s: (7 * 20_000 * 19_999) / 2 }])
    await assert.rejects(db.exec(`COPY orders TO '/tmp/orders.tsv'`))
    assert.equal(region.bytes().toString(), text)
    const mapping = host.map(region)
    assert.equal(
      Buffer.from(db.Module.HEAPU8.buffer, mapping.address, 12).toString(),
      text.slice(0, 12)
    )
    mapping.unmap()
    await db.close()
  })

  test('sql.js shows neither memory nor FS: it takes region.bytes()', async () => {
    const SQL = await require('sql.js')()
    const host = emscripten(SQL)
    assert.throws(() => host.mountFile('/a', REGION), { code: UNSUPPORTED })
    assert.throws(() => host.map(REGION), { code: UNSUPPORTED, message: /memory|allocator/ })
  })
})
