// wasm-hostmap/emscripten over programs that each Emscripten built for it: files of a program are
// regions, for read and write, stdio and mmap(), and never a copy where that can be.

import assert from 'node:assert/strict'
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { HostRegion } from 'wasm-hostmap'
import { emscripten } from 'wasm-hostmap/emscripten'

import {
  BUILDS,
  E,
  MAP,
  O,
  PROT,
  dataOf,
  load,
  program,
  sumOf
} from '../support/emscripten-builds.mjs'

const LENGTH = 1_234_567
const DATA = dataOf(LENGTH)
const REGION = HostRegion.copyFrom(DATA, { name: 'orders' })
/** Files that exist on the host, for regions over them. */
const FOLDER = mkdtempSync(join(tmpdir(), 'hostmap-emscripten-'))
after(() => rmSync(FOLDER, { recursive: true }))

const unchanged = region => assert.equal(Buffer.compare(region.bytes(), DATA), 0, 'the region')

/** A program with the data mounted at /orders.bin, and as Emscripten's own file at /usual.bin. */
async function mounted(version, kind, options) {
  const module = await load(version, kind)
  const c = program(module)
  const host = emscripten(module)
  const file = host.mountFile('/orders.bin', REGION, options)
  return { module, c, host, file }
}

for (const [version, kind] of BUILDS) {
  describe(`Emscripten ${version}, ${kind}`, () => {
    test('stdio reads what it reads of its own file', async () => {
      const { module, c } = await mounted(version, kind)
      module.FS.writeFile('/usual.bin', DATA)
      for (const block of [4096, 65_536, 1_000_000]) {
        assert.equal(c.sum('/orders.bin', block), c.sum('/usual.bin', block))
      }
      assert.equal(c.sum('/orders.bin', 2 ** 21), sumOf(DATA))
      for (const at of [0, 1, 4095, 4096, 65_535, 777_777, LENGTH - 1, LENGTH, LENGTH + 9]) {
        assert.equal(c.byteOf('/orders.bin', at), at < LENGTH ? DATA[at] : 256)
        assert.equal(c.byteOf('/usual.bin', at), at < LENGTH ? DATA[at] : 256)
      }
      assert.equal(c.size('/orders.bin'), LENGTH)
      assert.equal(c.tellEnd('/orders.bin'), LENGTH)
      const fd = c.open('/orders.bin', O.RDONLY)
      assert.equal(c.seek(fd, -1, 2), LENGTH - 1)
      assert.equal(c.seek(fd, 0, 1), LENGTH - 1)
      c.close(fd)
      assert.deepEqual(Buffer.from(module.FS.readFile('/orders.bin')), Buffer.from(DATA))
    })

    test('a read-only file refuses every write inside the program', async () => {
      const { c, file } = await mounted(version, kind)
      assert.equal(file.access, 'readonly')
      assert.equal(c.open('/orders.bin', O.RDWR), E.EACCES)
      assert.equal(c.open('/orders.bin', O.WRONLY | O.TRUNC), E.EACCES)
      assert.equal(c.writeText('/orders.bin', 'r+', 'no'), E.EACCES)
      // A program that changes the mode gets to the write.
      assert.equal(c.chmod('/orders.bin', 0o666), 0)
      const fd = c.open('/orders.bin', O.RDWR)
      assert.ok(fd >= 3)
      assert.equal(c.fill(fd, 10, 100, 7), E.EROFS)
      assert.equal(c.fill(fd, LENGTH, 1, 7), E.EROFS)
      assert.equal(c.truncate(fd, 10), E.EROFS)
      assert.equal(c.truncate(fd, LENGTH + 10), E.EROFS)
      assert.equal(c.open('/orders.bin', O.RDWR | O.TRUNC), E.EROFS)
      assert.equal(c.writeText('/orders.bin', 'w', 'no'), E.EROFS)
      assert.equal(c.byte(fd, 10), DATA[10])
      assert.equal(c.size('/orders.bin'), LENGTH)
      unchanged(REGION)
    })

    test('a copy-on-write file takes writes, grows and shrinks; the region does not change', async () => {
      const { c, file } = await mounted(version, kind, { access: 'private' })
      const expected = new Uint8Array(LENGTH + 200_000)
      expected.set(DATA)
      const fd = c.open('/orders.bin', O.RDWR)
      const fill = (at, count, byte) => {
        assert.equal(c.fill(fd, at, count, byte), count)
        expected.fill(byte, at, at + count)
      }
      const check = length => {
        assert.equal(c.size('/orders.bin'), length)
        assert.equal(file.byteLength, length)
        assert.equal(c.sum('/orders.bin', 2 ** 21), sumOf(expected.subarray(0, length)))
      }
      fill(0, 1, 200)
      fill(4090, 5000, 3)
      check(LENGTH)
      fill(LENGTH - 4, 8, 5) // over the end
      check(LENGTH + 4)
      fill(LENGTH + 100_000, 7, 9) // leaves a hole
      check(LENGTH + 100_007)
      assert.equal(c.truncate(fd, LENGTH + 10), 0)
      expected.fill(0, LENGTH + 10)
      check(LENGTH + 10)
      assert.equal(c.truncate(fd, LENGTH + 150_000), 0) // what was cut off reads as zeros
      check(LENGTH + 150_000)
      assert.equal(c.truncate(fd, 5000), 0)
      expected.fill(0, 5000)
      check(5000)
      fill(9000, 100, 1)
      check(9100)
      assert.equal(c.truncate(fd, 0), 0)
      assert.equal(c.size('/orders.bin'), 0)
      assert.equal(c.byte(fd, 0), 256)
      assert.equal(c.writeText('/orders.bin', 'w', 'anew'), 4)
      assert.equal(c.writeText('/orders.bin', 'a', ' and more'), 9)
      assert.equal(c.size('/orders.bin'), 13)
      assert.equal(c.byteOf('/orders.bin', 3), 'w'.charCodeAt(0))
      unchanged(REGION)
    })

    test('a shared file writes to the region, up to its size', async () => {
      const module = await load(version, kind)
      const c = program(module)
      const region = HostRegion.copyFrom(DATA)
      emscripten(module).mountFile('/orders.bin', region, { access: 'shared' })
      const fd = c.open('/orders.bin', O.RDWR)
      assert.equal(c.fill(fd, 5000, 10, 77), 10)
      assert.deepEqual([...region.bytes().subarray(4999, 5011)].slice(1, 11), Array(10).fill(77))
      assert.equal(c.fill(fd, LENGTH - 1, 2, 1), E.EFBIG)
      assert.equal(c.truncate(fd, LENGTH + 1), E.EFBIG)
      assert.equal(c.size('/orders.bin'), LENGTH)
      assert.equal(c.truncate(fd, 10), 0)
      assert.equal(c.truncate(fd, 5005), 0)
      assert.equal(c.byte(fd, 5004), 0)
      assert.equal(c.byte(fd, 9), DATA[9])
    })

    test('mmap() for reading shows the file, and munmap() leaves the allocator whole', async () => {
      const { module, c } = await mounted(version, kind)
      const fd = c.open('/orders.bin', O.RDONLY)
      for (const flags of [MAP.PRIVATE, MAP.SHARED]) {
        const at = c.map(LENGTH, PROT.READ, flags, fd, 0)
        assert.ok(at > 0, `mmap gave ${at}`)
        assert.equal(at % 4096, 0)
        assert.equal(c.sumAt(at, LENGTH), sumOf(DATA))
        const part = c.map(10_000, PROT.READ, flags, fd, 65_536)
        assert.equal(c.sumAt(part, 10_000), sumOf(DATA.slice(65_536, 75_536)))
        assert.equal(c.unmap(part, 10_000), 0)
        assert.equal(c.churn(3_000_000), 3)
        assert.equal(c.sumAt(at, LENGTH), sumOf(DATA), 'the other mapping')
        assert.equal(c.unmap(at, LENGTH), 0)
        assert.equal(c.unmap(at, LENGTH), E.EINVAL)
      }
      const last = c.map(65_536, PROT.READ, MAP.SHARED, fd, 1_232_896) // past the end of the file
      assert.equal(c.get(last + LENGTH - 1_232_896 - 1), DATA[LENGTH - 1])
      for (const at of [LENGTH - 1_232_896, 4095, 4096, 65_535]) assert.equal(c.get(last + at), 0)
      // The program may close the file before it unmaps it.
      assert.equal(c.close(fd), 0)
      c.unmap(last, 65_536)
      assert.equal(c.churn(3_000_000), 3)
      unchanged(REGION)
      assert.equal(module.FS.streams.filter(Boolean).length, 3)
    })

    test('mmap() again and again takes no more memory than a few times the file', async () => {
      const { module, c } = await mounted(version, kind)
      const fd = c.open('/orders.bin', O.RDONLY)
      const sizes = []
      for (let i = 0; i < 200; i++) {
        const from = (i % 4) * 65_536
        const write = i % 5 === 0 ? PROT.WRITE : 0
        const at = c.map(LENGTH - from, PROT.READ | write, MAP.PRIVATE, fd, from)
        assert.ok(at > 0, `mmap gave ${at}`)
        if (write) c.put(at + i, 1)
        if (i % 25 === 0) {
          const expected = DATA.slice(from)
          if (write) expected[i] = 1
          assert.equal(c.sumAt(at, LENGTH - from), sumOf(expected))
        }
        assert.equal(c.unmap(at, LENGTH - from), 0)
        if (i % 40 === 39) sizes.push(module.HEAPU8?.length ?? 0)
      }
      assert.equal(sizes.at(-1), sizes[1], 'the memory stops to grow')
      assert.ok(sizes.at(-1) < 2 ** 25)
      unchanged(REGION)
    })

    test('what a program writes to its private mapping is seen there only', async () => {
      const { c } = await mounted(version, kind)
      const fd = c.open('/orders.bin', O.RDONLY)
      const mine = c.map(100_000, PROT.READ | PROT.WRITE, MAP.PRIVATE, fd, 4096)
      const other = c.map(100_000, PROT.READ | PROT.WRITE, MAP.PRIVATE, fd, 4096)
      const read = c.map(100_000, PROT.READ, MAP.SHARED, fd, 4096)
      c.put(mine + 50_000, 250)
      c.put(mine + 99_999, 251)
      assert.equal(c.get(mine + 50_000), 250)
      for (const at of [other, read]) {
        assert.equal(c.sumAt(at, 100_000), sumOf(DATA.slice(4096, 104_096)))
      }
      assert.equal(c.byte(fd, 54_096), DATA[54_096])
      for (const at of [mine, other, read]) assert.equal(c.unmap(at, 100_000), 0)
      assert.equal(c.churn(3_000_000), 3)
      unchanged(REGION)
    })

    test('a shared mapping of a copy-on-write file and the file show each other', async () => {
      const { c } = await mounted(version, kind, { access: 'private' })
      const fd = c.open('/orders.bin', O.RDWR)
      assert.equal(c.fill(fd, 70_000, 3, 1), 3) // before the mapping
      const at = c.map(100_000, PROT.READ | PROT.WRITE, MAP.SHARED, fd, 65_536)
      assert.equal(c.get(at + 70_000 - 65_536), 1)
      assert.equal(c.get(at + 70_003 - 65_536), DATA[70_003])
      // Where C has a copy, msync() of 3.1.6 writes it to the start of the file, by itself.
      if (version !== '3.1.6' || kind !== 'closed') {
        c.put(at + 1233, 41)
        assert.equal(c.sync(at, 100_000), 0)
        assert.equal(c.byte(fd, 65_536 + 1233), 41, 'msync writes back')
        assert.equal(c.byte(fd, 1233), DATA[1233], 'and nowhere else')
        c.put(at + 1233, DATA[65_536 + 1233])
      }
      c.put(at + 1234, 42)
      c.put(at + 99_999, 43)
      assert.equal(c.unmap(at, 100_000), 0)
      assert.equal(c.byte(fd, 65_536 + 1234), 42, 'munmap writes back')
      assert.equal(c.byte(fd, 165_535), 43)
      assert.equal(c.byte(fd, 165_534), DATA[165_534])
      // What is written past the end of the file is in no file.
      const end = c.map(20_000, PROT.READ | PROT.WRITE, MAP.SHARED, fd, 1_232_896)
      c.put(end + 19_999, 1)
      c.unmap(end, 20_000)
      assert.equal(c.size('/orders.bin'), LENGTH)
      // Grown past the region: its own bytes and the region's in one mapping.
      assert.equal(c.fill(fd, LENGTH + 5000, 10, 8), 10)
      const grown = c.map(LENGTH + 5010, PROT.READ, MAP.SHARED, fd, 0)
      const bytes = new Uint8Array(LENGTH + 5010)
      bytes.set(DATA)
      bytes.fill(1, 70_000, 70_003).fill(8, LENGTH + 5000)
      bytes[65_536 + 1234] = 42
      bytes[165_535] = 43
      assert.equal(c.sumAt(grown, LENGTH + 5010), sumOf(bytes))
      unchanged(REGION)
    })

    test('mappings and files stay right when the memory grows', async () => {
      const { c } = await mounted(version, kind)
      const fd = c.open('/orders.bin', O.RDONLY)
      const at = c.map(LENGTH, PROT.READ, MAP.SHARED, fd, 0)
      const half = c.seek(fd, LENGTH / 2, 0)
      assert.equal(c.churn(80 * 2 ** 20), 3)
      assert.equal(c.seek(fd, 0, 1), half)
      assert.equal(c.sumAt(at, LENGTH), sumOf(DATA))
      assert.equal(c.sum('/orders.bin', 2 ** 21), sumOf(DATA))
      assert.equal(c.unmap(at, LENGTH), 0)
      assert.equal(c.churn(90 * 2 ** 20), 3)
      unchanged(REGION)
    })

    test('unmounts as unlink does: who has it open reads on', async () => {
      const { c, host, file } = await mounted(version, kind)
      const fd = c.open('/orders.bin', O.RDONLY)
      const at = c.map(LENGTH, PROT.READ, MAP.SHARED, fd, 0)
      host.unmount('/orders.bin')
      assert.equal(file.mounted, false)
      assert.deepEqual(host.files, [])
      assert.equal(c.open('/orders.bin', O.RDONLY), E.ENOENT)
      assert.equal(c.byte(fd, 99_999), DATA[99_999])
      assert.equal(c.sumAt(at, LENGTH), sumOf(DATA))
      assert.equal(c.unmap(at, LENGTH), 0)
      assert.equal(c.close(fd), 0)
      assert.throws(() => host.unmount('/orders.bin'), { code: 'ERR_INVALID_ARG_VALUE' })
      // The name is free again, and `release` gives back the blocks.
      const again = host.mountFile('/orders.bin', REGION)
      const second = c.open('/orders.bin', O.RDONLY)
      assert.equal(c.unmap(c.map(LENGTH, PROT.READ, MAP.SHARED, second, 0), LENGTH), 0)
      c.close(second)
      host.unmount(again, { release: true })
      assert.equal(again.mappings, 0)
      assert.equal(c.churn(3_000_000), 3)
    })

    test('the program renames, replaces and unlinks a mounted file', async () => {
      const { c, host, file } = await mounted(version, kind)
      assert.equal(c.rename('/orders.bin', '/tmp/old.bin'), 0)
      assert.equal(file.path, '/tmp/old.bin')
      assert.equal(c.sum('/tmp/old.bin', 2 ** 21), sumOf(DATA))
      assert.equal(c.size('/orders.bin'), E.ENOENT)
      assert.equal(c.writeText('/new', 'w', 'other'), 5)
      assert.equal(c.rename('/new', '/tmp/old.bin'), 0)
      assert.equal(file.mounted, false)
      assert.deepEqual(host.files, [])
      assert.equal(c.size('/tmp/old.bin'), 5)
      host.mountFile('/orders.bin', REGION)
      assert.equal(c.unlink('/orders.bin'), 0)
      assert.deepEqual(host.files, [])
      host.mountFile('/orders.bin', REGION)
      unchanged(REGION)
    })

    test('the region may be closed, and a truncated file is an error of the read', async () => {
      const path = join(FOLDER, `${version}-${kind}.bin`)
      writeFileSync(path, DATA)
      const module = await load(version, kind)
      const c = program(module)
      const host = emscripten(module)
      const closed = HostRegion.open(path)
      host.mountFile('/closed.bin', closed)
      closed.close()
      assert.equal(c.sum('/closed.bin', 2 ** 21), sumOf(DATA))
      const fd = c.open('/closed.bin', O.RDONLY)
      const at = c.map(LENGTH, PROT.READ, MAP.SHARED, fd, 0) // a copy: there is nothing to map
      assert.equal(c.sumAt(at, LENGTH), sumOf(DATA))
      assert.equal(c.unmap(at, LENGTH), 0)

      const region = HostRegion.open(path)
      host.mountFile('/cut.bin', region)
      truncateSync(path, 500_000)
      assert.equal(c.byteOf('/cut.bin', 499_999), DATA[499_999])
      assert.equal(c.sum('/cut.bin', 65_536), E.EIO)
      assert.equal(c.sum('/cut.bin', 65_536), E.EIO, 'again')
      assert.equal(c.size('/cut.bin'), LENGTH)
      assert.deepEqual(readFileSync(path), Buffer.from(DATA.subarray(0, 500_000)))
    })
  })
}

test('a program slides over a file larger than what its memory may hold, by mmap() and munmap()', async () => {
  // 3.1.6 shows emscripten_builtin_memalign: blocks that C frees, and no copy.
  const path = join(FOLDER, 'large.bin')
  const length = 3 * 2 ** 30
  const step = 2 ** 28
  writeFileSync(path, '')
  truncateSync(path, length)
  const marks = openSync(path, 'r+')
  for (let at = 0; at < length; at += step) writeSync(marks, DATA, at / step, 8, at + step - 8)
  closeSync(marks)
  const module = await load('3.1.6', 'plain')
  const c = program(module)
  const host = emscripten(module)
  // Views may take twice the file: most of what the memory may hold is taken away from them.
  host.mountFile('/large.bin', HostRegion.open(path))
  const held = Array.from({ length: 3 }, () => module._malloc(step * 2))
  assert.ok(held.every(pointer => pointer !== 0))
  const fd = c.open('/large.bin', O.RDONLY)
  for (let round = 0; round < 2; round++) {
    for (let at = 0; at < length; at += 2 * step) {
      const before = process.memoryUsage.rss()
      const pointer = c.map(step, PROT.READ | PROT.WRITE, MAP.PRIVATE, fd, at)
      const more = process.memoryUsage.rss() - before
      assert.ok(pointer > 0, `mmap gave ${pointer} at ${at}`)
      assert.ok(more < step / 4, `no copy, which would take ${step} bytes, but ${more}`)
      for (let i = 0; i < 8; i++) {
        assert.equal(c.get(pointer + step - 8 + i), DATA[at / step + i])
      }
      assert.equal(c.get(pointer + 12_345), 0)
      c.put(pointer + 12_345, 1)
      // Which copies all of it in this version, for msync, before it looks at the flags.
      assert.equal(c.unmap(pointer, step), 0)
      assert.equal(c.churn(100_000), 3)
    }
  }
  assert.ok(host.memory.mappings.length <= 4, `${host.memory.mappings.length} mappings`)
})
