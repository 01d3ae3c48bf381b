// wasm-hostmap/emscripten: files of every size, up to more than linear memory has, and what goes
// wrong: names, open files, growth in the middle of a read, and tries to end the process.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { HostRegion } from 'wasm-hostmap'
import { emscripten } from 'wasm-hostmap/emscripten'

import { E, MAP, O, PROT, dataOf, load, program, sumOf } from '../support/emscripten-builds.mjs'

const GiB = 2 ** 30
const FOLDER = mkdtempSync(join(tmpdir(), 'hostmap-emscripten-'))
after(() => rmSync(FOLDER, { recursive: true }))

/** A sparse file with a mark in its first, middle and last byte. */
function sparseFile(byteLength) {
  const path = join(FOLDER, `${byteLength}.bin`)
  const fd = openSync(path, 'w')
  for (const [i, at] of marksOf(byteLength).entries()) writeSync(fd, Buffer.of(11 + i), 0, 1, at)
  closeSync(fd)
  return path
}

const marksOf = byteLength => [0, Math.floor(byteLength / 2), byteLength - 1]

for (const version of ['3.1.6', '3.1.69', '6.0.5']) {
  describe(`Emscripten ${version}`, () => {
    for (const byteLength of [1, 4095, 4096, 2 * GiB - 1, 2 * GiB, 4 * GiB + 1]) {
      test(`a file of ${byteLength} bytes`, async () => {
        const region = HostRegion.open(sparseFile(byteLength))
        const c = program(
          await load(version, 'plain').then(module => {
            emscripten(module).mountFile('/read.bin', region)
            emscripten(module).mountFile('/write.bin', region, { access: 'private' })
            return module
          })
        )
        const marks = new Map(marksOf(byteLength).map((at, i) => [at, 11 + i]))
        // Emscripten before 3.1.11 has 32 bits for the offsets of pread(), pwrite() and
        // ftruncate().
        const far = version === '3.1.6' && byteLength >= 2 * GiB - 1
        for (const path of ['/read.bin', '/write.bin']) {
          const fd = c.open(path, path === '/read.bin' ? O.RDONLY : O.RDWR)
          for (const [at, mark] of marks) {
            if (!far) assert.equal(c.byte(fd, at), mark, 'pread')
            assert.equal(c.byteOf(path, at), mark, 'fseeko')
          }
          assert.equal(c.byteOf(path, byteLength), 256)
          assert.equal(c.size(path), byteLength)
          assert.equal(c.seek(fd, 0, 2), byteLength)
          // A long has 32 bits.
          assert.equal(c.tellEnd(path), byteLength < 2 * GiB ? byteLength : E.EOVERFLOW)
          const last = byteLength - 1 - ((byteLength - 1) % 4096)
          // And before 3.1.42, for those of mmap().
          if (last < 4 * GiB || version !== '3.1.6') {
            const at = c.map(4096, PROT.READ, MAP.SHARED, fd, last)
            assert.equal(c.get(at + byteLength - 1 - last), marks.get(byteLength - 1))
            assert.equal(c.unmap(at, 4096), 0)
          }
          if (path === '/write.bin') {
            assert.equal(c.writeText(path, 'a', 'cc'), 2)
            assert.equal(c.size(path), byteLength + 2)
            for (const [i, byte] of [99, 99, 256].entries()) {
              assert.equal(c.byteOf(path, byteLength + i), byte)
            }
            if (!far) assert.equal(c.fill(fd, byteLength - 1, 2, 98), 2)
            else assert.equal(c.fill(fd, 2 * GiB, 2, 98), E.EINVAL)
            assert.equal(c.byteOf(path, byteLength - 1), far ? marks.get(byteLength - 1) : 98)
            assert.equal(c.byteOf(path, byteLength + 1), 99)
            if (!far) {
              assert.equal(c.truncate(fd, byteLength - 1), 0)
              assert.equal(c.truncate(fd, byteLength + 5000), 0)
              assert.equal(c.byteOf(path, byteLength - 1), 0)
              assert.equal(c.byteOf(path, byteLength + 4999), 0)
            }
          }
          assert.equal(c.close(fd), 0)
        }
        assert.equal(region.bytes({ byteOffset: byteLength - 1 })[0], marks.get(byteLength - 1))
      })
    }

    test('a part of a region is a file, also an empty one', async () => {
      const data = dataOf(50_000, 3)
      const region = HostRegion.copyFrom(data)
      const module = await load(version, 'plain')
      const c = program(module)
      const host = emscripten(module)
      host.mountFile('/part', region, { byteOffset: 4096, byteLength: 10_000 })
      host.mountFile('/odd', region, { byteOffset: 4, byteLength: 10_000, access: 'private' })
      assert.equal(c.sum('/part', 2 ** 20), sumOf(data.slice(4096, 14_096)))
      assert.equal(c.sum('/odd', 2 ** 20), sumOf(data.slice(4, 10_004)))
      for (const [path, from] of [
        ['/part', 4096],
        ['/odd', 4]
      ]) {
        const fd = c.open(path, O.RDONLY)
        const at = c.map(10_000, PROT.READ, MAP.PRIVATE, fd, 0)
        assert.equal(c.sumAt(at, 10_000), sumOf(data.slice(from, from + 10_000)))
        assert.equal(c.unmap(at, 10_000), 0)
      }
      host.mountFile('/empty', region, { byteLength: 0, access: 'private' })
      assert.equal(c.size('/empty'), 0)
      const fd = c.open('/empty', O.RDWR)
      assert.equal(c.byte(fd, 0), 256)
      assert.equal(c.fill(fd, 5000, 10, 4), 10)
      assert.equal(c.size('/empty'), 5010)
      assert.equal(c.byte(fd, 4999), 0)
      const at = c.map(5010, PROT.READ, MAP.SHARED, fd, 0)
      assert.equal(c.get(at + 5009), 4)
      assert.equal(Buffer.compare(region.bytes(), data), 0)
    })

    test('more open files than the engine has: EMFILE, and all others read on', async () => {
      const module = await load(version, 'plain')
      const c = program(module)
      const region = HostRegion.copyFrom(dataOf(100))
      emscripten(module).mountFile('/a', region)
      const open = []
      for (let fd; (fd = c.open('/a', O.RDONLY)) >= 0;) open.push(fd)
      assert.ok(open.length >= 4000, `${open.length} files`)
      assert.equal(c.open('/a', O.RDONLY), E.EMFILE)
      assert.equal(c.byte(open.at(-1), 99), dataOf(100)[99])
      for (const fd of open) assert.equal(c.close(fd), 0)
      assert.equal(c.sum('/a', 4096), sumOf(dataOf(100)))
    })

    test('names, folders and options are checked before anything is done', async () => {
      const module = await load(version, 'plain')
      const host = emscripten(module)
      const region = HostRegion.copyFrom(dataOf(100))
      const tree = () => JSON.stringify([module.FS.readdir('/'), module.FS.readdir('/tmp')])
      const before = tree()
      const bad = 'ERR_INVALID_ARG_VALUE'
      const type = 'ERR_INVALID_ARG_TYPE'
      const refused = 'ERR_HOSTMAP_ENGINE_REFUSED'
      for (const [code, path, given, options] of [
        [type, 7, region],
        [bad, 'a', region],
        [bad, '', region],
        [bad, '/a\0b', region],
        [type, '/a', new Uint8Array(5)],
        [type, '/a', undefined],
        [type, '/a', region, null],
        [bad, '/a', region, { access: 'write' }],
        [bad, '/a', region, { at: 0 }],
        [type, '/a', region, { byteOffset: '1' }],
        ['ERR_OUT_OF_RANGE', '/a', region, { byteOffset: 101 }],
        ['ERR_OUT_OF_RANGE', '/a', region, { byteOffset: 90, byteLength: 11 }],
        ['ERR_OUT_OF_RANGE', '/a', region, { byteLength: 1.5 }],
        [refused, '/none/a', region],
        [refused, '/tmp', region],
        [refused, '/', region],
        [refused, '/tmp/', region],
        [refused, '/tmp/..', region]
      ]) {
        assert.throws(() => host.mountFile(path, given, options), { code }, `${path}`)
        assert.equal(tree(), before)
      }
      const closed = HostRegion.copyFrom(dataOf(100))
      closed.close()
      assert.throws(() => host.mountFile('/a', closed), { code: 'ERR_HOSTMAP_REGION_CLOSED' })
      const sealed = HostRegion.copyFrom(dataOf(100)).seal()
      assert.throws(() => host.mountFile('/a', sealed, { access: 'shared' }), {
        code: 'ERR_HOSTMAP_REGION_READONLY'
      })
      host.mountFile('/tmp/b', sealed)
      // All or nothing.
      assert.throws(() => host.mountFolder('/tmp', { a: region, b: region }), { code: refused })
      assert.throws(() => host.mountFolder('/in', { a: region, b: closed }), {
        code: 'ERR_HOSTMAP_REGION_CLOSED'
      })
      for (const name of ['..', 'a/b', '']) {
        assert.throws(() => host.mountFolder('/in', { [name]: region }), { code: bad })
      }
      host.unmount('/tmp/b')
      assert.throws(() => host.mountFolder('/no/in', { a: region }), { code: refused })
      assert.equal(tree(), before)
      const [file] = host.mountFolder('/in', { a: region })
      assert.equal(file.path, '/in/a')
      assert.throws(() => host.unmount(file, { release: 1 }), { code: type })
      assert.throws(() => host.unmount({}), { code: bad })
      host[Symbol.dispose]()
      assert.deepEqual(host.files, [])
    })

    test('a sealed region keeps its files; a shared one becomes read-only', async () => {
      const module = await load(version, 'plain')
      const c = program(module)
      const region = HostRegion.copyFrom(dataOf(10_000))
      emscripten(module).mountFile('/a', region, { access: 'private' })
      region.seal()
      const fd = c.open('/a', O.RDWR)
      assert.equal(c.fill(fd, 0, 5, 1), 5)
      assert.equal(c.byte(fd, 4), 1)
      assert.equal(Buffer.compare(region.bytes(), dataOf(10_000)), 0)
    })

    test('memory that grows in the middle of fread() does not disturb it', async () => {
      const module = await load(version, 'plain')
      const c = program(module)
      const data = dataOf(2 ** 20)
      emscripten(module).mountFile('/a', HostRegion.copyFrom(data))
      const node = module.FS.lookupPath('/a').node
      const { read } = node.stream_ops
      let reads = 0
      node.stream_ops.read = (stream, ...given) => {
        // Before the copy: the engine's views of its memory are as C left them.
        const count = read(stream, ...given)
        if (reads++ === 3) assert.equal(c.churn(60 * 2 ** 20), 3)
        return count
      }
      assert.equal(c.sum('/a', 65_536), sumOf(data))
      assert.ok(reads > 3)
    })
  })
}

test('nothing that a program does to mounted files ends the process', async () => {
  const path = join(FOLDER, 'cut.bin')
  writeFileSync(path, dataOf(2 ** 20))
  const script = `
    import { HostRegion } from 'wasm-hostmap'
    import { emscripten } from 'wasm-hostmap/emscripten'
    import { truncateSync } from 'node:fs'
    import { load, program } from ${JSON.stringify(new URL('../support/emscripten-builds.mjs', import.meta.url))}
    const module = await load('6.0.5', 'plain')
    const c = program(module)
    const region = HostRegion.open(${JSON.stringify(path)})
    for (const access of ['readonly', 'private']) {
      emscripten(module).mountFile('/' + access, region, { access })
      const fd = c.open('/' + access, 0)
      const at = c.map(2 ** 20, 1, 1, fd, 0)
      const outcomes = [() => c.put(at, 1), () => c.sumAt(at, 2 ** 20), () => module.HEAPU8.fill(3, at, at + 9)]
      truncateSync(${JSON.stringify(path)}, 4096)
      outcomes.push(() => c.sumAt(at, 2 ** 20), () => c.sum('/' + access, 65536), () => c.get(at + 500000),
        () => c.unmap(at, 2 ** 20), () => c.churn(2 ** 22), () => c.close(fd))
      for (const outcome of outcomes) {
        try {
          console.log(access, outcome())
        } catch (error) {
          if (!(error instanceof WebAssembly.RuntimeError)) throw error
          console.log(access, 'trap')
        }
      }
      truncateSync(${JSON.stringify(path)}, 2 ** 20)
    }
    console.log('alive')
  `
  const printed = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: new URL('.', import.meta.url),
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore']
  })
  assert.match(printed, /alive\n$/)
  assert.match(printed, /readonly trap/)
  assert.match(printed, /readonly -29/)
})
