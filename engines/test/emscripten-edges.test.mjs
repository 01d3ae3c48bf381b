// wasm-hostmap/emscripten where paths are odd, files lose bytes, mappings run out, and files go
// and come back.

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { HostRegion } from 'wasm-hostmap'
import { emscripten, emscriptenState } from 'wasm-hostmap/emscripten'

import { E, MAP, O, PROT, VERSIONS, dataOf, load, program } from '../support/emscripten-builds.mjs'

const LENGTH = 300_000
const DATA = dataOf(LENGTH, 11)
const REGION = HostRegion.copyFrom(DATA)
const FOLDER = mkdtempSync(join(tmpdir(), 'hostmap-emscripten-'))
after(() => rmSync(FOLDER, { recursive: true }))

const REFUSED = 'ERR_HOSTMAP_ENGINE_REFUSED'
const INVALID = 'ERR_INVALID_ARG_TYPE'

async function loaded(version) {
  const module = await load(version, 'plain')
  return { module, FS: module.FS, c: program(module), host: emscripten(module) }
}

/** A module with a folder of the host at /host, whose files it maps. */
async function withHost(version) {
  const all = await loaded(version)
  all.FS.mkdir('/host')
  all.FS.mount(all.FS.filesystems.NODEFS, { root: FOLDER }, '/host')
  all.host.mapFiles('/host')
  return all
}

const holds = (module, at, bytes) =>
  Buffer.compare(new Uint8Array(module.HEAPU8.buffer, at, bytes.length), bytes) === 0

for (const version of VERSIONS) {
  test(`Emscripten ${version}: what FS refuses has a code, and leaves nothing`, async () => {
    const { FS, host } = await loaded(version)
    host.mountFile('/file', REGION)
    FS.symlink('/loop', '/loop')
    for (const path of [
      '/file/x',
      '/file/x/y',
      '/loop',
      '/loop/x',
      '/none/x',
      '/',
      '/tmp/.',
      '/tmp'
    ]) {
      assert.throws(() => host.mountFile(path, REGION), { code: REFUSED })
    }
    for (const path of ['/file', '/file/x', '/loop', '/none/x']) {
      assert.throws(() => host.mountFolder(path, { a: REGION }), { code: REFUSED })
    }
    for (const files of [null, undefined, 1, REGION]) {
      assert.throws(() => host.mountFolder('/folder', files), { code: INVALID })
    }
    assert.throws(() => host.mountFolder('/folder', {}, null), { code: INVALID })
    assert.throws(() => host.mountFolder('/folder', {}, { access: 'x' }), {
      code: 'ERR_INVALID_ARG_VALUE'
    })
    assert.equal(FS.analyzePath('/folder').exists, false)
    assert.throws(() => host.mountFile('/a', REGION, { byteOffset: 1n }), { code: INVALID })
    assert.throws(() => host.unmount('/file', null), { code: INVALID })
    assert.deepEqual(
      host.files.map(({ path }) => path),
      ['/file']
    )
  })

  test(`Emscripten ${version}: unmounts by any path that leads to the file`, async () => {
    const { FS, host } = await loaded(version)
    FS.symlink('/tmp', '/link')
    for (const path of ['/link/a', '/tmp//a', '/tmp/./a']) {
      const file = host.mountFile(path, REGION)
      assert.equal(file.path, '/tmp/a')
      host.unmount(path)
      assert.equal(file.mounted, false)
    }
    for (const path of ['/tmp/a', '/file/a', '/none/a']) {
      assert.throws(() => host.unmount(path), { code: 'ERR_INVALID_ARG_VALUE' })
    }
  })

  test(`Emscripten ${version}: dispose unmounts all that can be, and then throws`, async () => {
    const { FS, host } = await loaded(version)
    FS.mkdir('/closed')
    host.mountFile('/closed/a', REGION)
    host.mountFile('/b', REGION)
    FS.chmod('/closed', 0o555)
    assert.throws(() => host[Symbol.dispose](), { code: REFUSED })
    assert.deepEqual(
      host.files.map(({ path }) => path),
      ['/closed/a']
    )
    FS.chmod('/closed', 0o777)
    host[Symbol.dispose]()
    assert.deepEqual(host.files, [])
  })

  test(`Emscripten ${version}: bytes that a file has lost are never read as zeros`, async () => {
    for (const [byteOffset, isClosed] of [
      [0, false],
      [5000, false],
      [0, true]
    ]) {
      const path = join(FOLDER, 'cut.bin')
      writeFileSync(path, DATA)
      const { c, host } = await loaded(version)
      const region = HostRegion.open(path)
      host.mountFile('/cut', region, { byteOffset })
      const fd = c.open('/cut', O.RDONLY)
      if (isClosed) region.close()
      truncateSync(path, 10_000)
      // All of it at once, as a copy: each page that is gone is one of zeros from then on.
      assert.equal(c.map(LENGTH - byteOffset, PROT.READ, MAP.SHARED, fd, 0), E.EIO)
      assert.equal(c.sum('/cut', 65_536), E.EIO)
      for (const at of [12_288, 20_000, 99_999, LENGTH - 1]) {
        assert.equal(c.byte(fd, at - byteOffset), E.EIO, `byte ${at}`)
      }
      for (const at of [5000, 9999]) assert.equal(c.byte(fd, at - byteOffset), DATA[at])
      region.close()
    }
  })

  test(`Emscripten ${version}: a mapping that somebody unmapped serves no mmap()`, async () => {
    const { module, c, host } = await loaded(version)
    const file = host.mountFile('/a', REGION, { access: 'private' })
    const fd = c.open('/a', O.RDWR)
    const first = c.map(LENGTH, PROT.READ, MAP.SHARED, fd, 0)
    host.memory.mappings.forEach(mapping => mapping.unmap())
    assert.equal(file.mappings, 0)
    const block = module._malloc(LENGTH + 65_536)
    new Uint8Array(module.HEAPU8.buffer).fill(0xaa, block, block + LENGTH + 65_536)
    assert.ok(first >= block && first < block + LENGTH, 'its block was given out again')
    assert.equal(c.fill(fd, 0, 5000, 4), 5000)
    assert.equal(c.get(first + 4999), 0xaa, 'a write to the file is not shown there')
    const again = c.map(LENGTH, PROT.READ, MAP.SHARED, fd, 0)
    assert.ok(again >= block + LENGTH || again + LENGTH <= block)
    assert.ok(holds(module, again + 5000, DATA.subarray(5000)))
  })

  test(`Emscripten ${version}: a file comes back that was unmounted, its region closed`, async () => {
    const { module, c, FS, host } = await loaded(version)
    const region = HostRegion.copyFrom(DATA)
    const file = host.mountFile('/a', region, { access: 'private' })
    region.close()
    const goBack = emscriptenState(module)()
    const fd = c.open('/a', O.RDWR)
    assert.equal(c.fill(fd, 0, 10_000, 9), 10_000)
    assert.equal(c.truncate(fd, 20_000), 0)
    host.unmount(file)
    host.mountFile('/a', REGION, { byteLength: 5 })
    goBack()
    assert.equal(Buffer.compare(FS.readFile('/a'), DATA), 0)
    assert.equal(file.mounted, true)
    assert.deepEqual(host.files, [file])
    host[Symbol.dispose]()
    assert.equal(FS.analyzePath('/a').exists, false)
  })

  test(`Emscripten ${version}: NODEFS makes copies, of the right file, where no mapping has room`, async () => {
    const other = dataOf(LENGTH, 12)
    writeFileSync(join(FOLDER, 'a'), DATA)
    writeFileSync(join(FOLDER, 'b'), other)
    const { module, c } = await withHost(version)
    const first = c.open('/host/a', O.RDONLY)
    assert.ok(holds(module, c.map(LENGTH, PROT.READ, MAP.SHARED, first, 0), DATA))
    c.close(first)
    const second = c.open('/host/b', O.RDONLY) // has the host's descriptor that the first one had
    const third = c.open('/host/a', O.RDONLY)
    for (let i = 0; i < 4; i++) {
      if (i === 3) c.close(second)
      const at = c.map(LENGTH, PROT.READ | PROT.WRITE, MAP.PRIVATE, third, 0)
      assert.ok(at > 0 && holds(module, at, DATA), `mapping ${i}`)
    }
  })

  test(`Emscripten ${version}: what a copy of a NODEFS file wrote is in the file after msync()`, async () => {
    const path = join(FOLDER, 'grows')
    writeFileSync(path, '')
    const { c } = await withHost(version)
    const fd = c.open('/host/grows', O.RDWR)
    const empty = c.map(8192, PROT.READ | PROT.WRITE, MAP.SHARED, fd, 0) // nothing to map
    assert.equal(c.truncate(fd, 8192), 0)
    assert.ok(c.map(8192, PROT.READ | PROT.WRITE, MAP.SHARED, fd, 0) > 0)
    c.put(empty + 5, 55)
    assert.equal(c.sync(empty, 8192), 0)
    assert.equal(readFileSync(path)[5], 55)
  })
}
