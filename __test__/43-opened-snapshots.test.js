'use strict'

// Snapshots over the pages of saved files: what they cost, and that nobody else's writes show in a
// memory.

const fs = require('node:fs')
const path = require('node:path')
const { execFile, execFileSync } = require('node:child_process')
const { promisify } = require('node:util')
const { GuardedMemory, HostRegion, Snapshot, exposeState, limits } = require('..')
const { expectError, expectFailure, thrownBy } = require('./support/errors')
const { directoryWithLeases, temporaryDirectory, noise } = require('./support/files')
const { inChild } = require('./support/child')
const { pssOf } = require('./support/opened')
const { skipUnless } = require('./support/skip')
const { TestWorker } = require('./support/worker')
const { MiB, WASM_PAGE, assemble } = require('./support/wasm')
const { processMap } = require('./support/procfs.js')

const PAGE = limits().pageSize
const CODE = 'ERR_HOSTMAP_SNAPSHOT_UNGUARDED'
const directory = temporaryDirectory({ parent: directoryWithLeases() })
const bytesOf = guarded => Buffer.from(guarded.buffer)
const shell = (...args) => promisify(execFile)('/bin/sh', ['-c', ...args])

// 4 MiB, of which every page but a few holds noise.
const image = noise(4 * MiB)
image.fill(0, 2 * MiB, 3 * MiB)

let loadOfMemory
beforeAll(async () => {
  const text =
    '(module (memory (import "" "m") 1)' +
    ' (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0))))'
  loadOfMemory = Buffer.from(await assemble(text))
})

let count = 0
async function saved(options) {
  const guarded = new GuardedMemory({ initial: 64 })
  image.copy(bytesOf(guarded))
  const snapshot = guarded.snapshot()
  const file = directory.file(undefined, `saved-${++count}.snapshot`)
  await snapshot.save(file, options)
  snapshot.close()
  return file
}

async function opened(options) {
  const file = await saved()
  const snapshot = await Snapshot.open(file, options)
  const guarded = new GuardedMemory({ initial: 64 })
  guarded.restore(snapshot)
  return { file, snapshot, guarded, bytes: bytesOf(guarded) }
}

const shows = bytes => bytes.equals(image)
/** The mappings of a file in this process that can be written, as memories show them. */
const shownOf = file => processMap().filter(it => it.name === file && it.permissions[1] === 'w')

describe('an opened snapshot', () => {
  test('gives the memory back, from the file itself', async () => {
    const { file, snapshot, guarded, bytes } = await opened()
    expect(snapshot).toMatchObject({ byteLength: 4 * MiB, residentBytes: 0, closed: false })
    expect(snapshot.name).toBe(path.basename(file))
    expect(shows(bytes)).toBe(true)
    expect(shownOf(file)).not.toEqual([])
    for (let round = 0; round < 3; round++) {
      bytes.fill(round, 0, 3 * MiB - round * PAGE)
      guarded.restore(snapshot)
      expect(shows(bytes)).toBe(true)
    }
    guarded.reset()
    expect(shownOf(file)).toEqual([])
    expect(bytes.every(byte => byte === 0)).toBe(true)
    snapshot.close()
  })

  test('gives mappings, globals and tables back', async () => {
    const wasm = await assemble(
      '(module (memory (export "memory") 2) (global (export "g") (mut i32) (i32.const 1))' +
        ' (func $f (export "f") (result i32) (i32.const 42))' +
        ' (table (export "t") 2 funcref) (elem (i32.const 0) $f))'
    )
    const { instance } = await WebAssembly.instantiate(exposeState(wasm))
    instance.exports.g.value = 7
    instance.exports.t.set(1, instance.exports.f)
    const file = directory.file(undefined, 'instance.snapshot')
    await Snapshot.of(instance, { module: wasm }).save(file)
    const snapshot = await Snapshot.open(file, { module: wasm, verify: true })
    const copy = await snapshot.instantiate(wasm)
    expect([copy.exports.g.value, copy.exports.t.get(1)()]).toEqual([7, 42])
    await expectFailure(() => Snapshot.open(file, { module: Buffer.from('other') }), {
      code: 'ERR_HOSTMAP_SNAPSHOT_MISMATCH'
    })

    const guarded = new GuardedMemory({ initial: 2 })
    const region = HostRegion.copyFrom(noise(2 * PAGE, 3))
    guarded.map(region, { at: WASM_PAGE, access: 'private' })
    bytesOf(guarded)[WASM_PAGE + PAGE] ^= 255
    const mapped = directory.file(undefined, 'mapped.snapshot')
    await guarded.snapshot().save(mapped)
    const other = new GuardedMemory({ initial: 2 })
    other.restore(await Snapshot.open(mapped, { regions: () => region }))
    expect(bytesOf(other).equals(bytesOf(guarded))).toBe(true)
  })

  test('is saved, taken again, and passed on, as any other', async () => {
    const { file, snapshot, guarded, bytes } = await opened()
    const again = directory.file(undefined, 'again.snapshot')
    await snapshot.save(again)
    expect(fs.readFileSync(again).equals(fs.readFileSync(file))).toBe(true)

    bytes[5 * PAGE] ^= 255
    const taken = guarded.snapshot()
    const other = new GuardedMemory({ initial: 64 })
    other.restore(taken)
    expect(bytesOf(other).equals(bytes)).toBe(true)

    const worker = new TestWorker()
    const seen = await worker.run(
      ({ hostmap }, { token, fd }) => {
        const { GuardedMemory, Snapshot } = hostmap
        return [Snapshot.receive(token), Snapshot.fromFd(fd)].map(snapshot => {
          const guarded = new GuardedMemory({ initial: 64 })
          guarded.restore(snapshot)
          return [snapshot.residentBytes, Buffer.from(guarded.buffer).toString('latin1')]
        })
      },
      { token: snapshot.share(), fd: snapshot.duplicateFd() }
    )
    await worker.end()
    const whole = seen.map(([resident, text]) => [resident, shows(Buffer.from(text, 'latin1'))])
    expect(whole).toEqual([
      [0, true],
      [0, true]
    ])
  })

  test('comes from the descriptor of a file, too', async () => {
    const file = await saved()
    const handle = await fs.promises.open(file)
    const snapshot = Snapshot.fromFd(handle.fd)
    await handle.close()
    const guarded = new GuardedMemory({ initial: 64 })
    guarded.restore(snapshot)
    expect([snapshot.residentBytes, shows(bytesOf(guarded))]).toEqual([0, true])
    snapshot.close()
    const writable = await fs.promises.open(file, 'r+')
    expectError(
      thrownBy(() => Snapshot.fromFd(writable.fd)),
      { code: CODE, says: /for writing/ }
    )
    await writable.close()
  })

  test('with a key is one that was saved with it', async () => {
    const key = Buffer.alloc(32, 5)
    const file = await saved({ key })
    const snapshot = await Snapshot.open(file, { key })
    expect(snapshot.byteLength).toBe(4 * MiB)
    await expectFailure(() => Snapshot.open(file, { key: Buffer.alloc(32, 6) }), {
      code: 'ERR_HOSTMAP_SNAPSHOT_INVALID',
      says: /options\.key/
    })
  })

  test('is for no shared memory', async () => {
    const { snapshot } = await opened()
    const shared = new GuardedMemory({ initial: 64, maximum: 64, shared: true })
    expectError(
      thrownBy(() => shared.restore(snapshot, { exclusive: true })),
      {
        code: 'ERR_HOSTMAP_SHARED_MEMORY',
        says: /Snapshot\.load/
      }
    )
  })

  test('is verified if asked for', async () => {
    const file = await saved()
    const fd = fs.openSync(file, 'r+')
    fs.writeSync(fd, 'x', fs.fstatSync(fd).size - MiB / 2)
    fs.closeSync(fd)
    await expectFailure(() => Snapshot.open(file, { verify: true }), {
      code: 'ERR_HOSTMAP_SNAPSHOT_INVALID',
      says: /checksum/
    })
  })
})

describe('a file that others change', () => {
  const ways = {
    'is overwritten': 'tr "\\0" z </dev/zero | head -c 9000000 > "$0"',
    'is written to': 'tr "\\0" z </dev/zero | dd of="$0" bs=1M count=4 conv=notrunc 2>/dev/null',
    'is appended to': 'echo more >> "$0"',
    'is emptied': ': > "$0"'
  }
  test.each(Object.entries(ways))('that %s never shows in a memory', async (_, way) => {
    const { file, snapshot, guarded, bytes } = await opened()
    const link = `${file}.link`
    fs.linkSync(file, link)
    bytes[PAGE] ^= 255
    const expected = Buffer.from(image)
    expected[PAGE] ^= 255
    const before = fs.readFileSync(file)
    // The file, by another of its names.
    await shell(way, link)
    expect(fs.readFileSync(file).equals(before)).toBe(false)
    expect(shownOf(file)).toEqual([])
    expect(bytes.equals(expected)).toBe(true)
    guarded.restore(snapshot)
    expect(shows(bytes)).toBe(true)
    // From here on it is one in memory.
    expect(snapshot.residentBytes).toBeGreaterThan(2 * MiB)
    const again = directory.file(undefined, 'after.snapshot')
    await snapshot.save(again)
    const loaded = await Snapshot.load(again)
    const other = new GuardedMemory({ initial: 64 })
    other.restore(loaded)
    other.restore(Snapshot.receive(snapshot.share()))
    expect(shows(bytesOf(other))).toBe(true)
  })

  test('shows in none of many memories, instances and captures, nor after close()', async () => {
    const { file, snapshot, guarded } = await opened()
    const others = Array.from({ length: 20 }, (_, index) => {
      const other = new GuardedMemory({ initial: 64 + index })
      other.restore(snapshot)
      return other
    })
    others[3].reset()
    others[4].memory.grow(1)
    const taken = others[5].snapshot()
    others[5].restore(taken)
    snapshot.close()
    await shell('tr "\\0" z </dev/zero | head -c 9000000 > "$0"', file)
    for (const [index, it] of [guarded, ...others].entries()) {
      const expected = index === 4 ? Buffer.alloc(4 * MiB) : image
      expect(
        bytesOf(it)
          .subarray(0, 4 * MiB)
          .equals(expected)
      ).toBe(true)
    }
  })

  test('is left by all threads that show it', async () => {
    const { file, snapshot, bytes } = await opened()
    const workers = [new TestWorker(), new TestWorker()]
    for (const worker of workers) {
      await worker.run(async ({ state, hostmap }, file) => {
        state.guarded = new hostmap.GuardedMemory({ initial: 64 })
        state.guarded.restore(await hostmap.Snapshot.open(file))
      }, file)
    }
    await workers[1].end()
    await shell('tr "\\0" z </dev/zero | head -c 9000000 > "$0"', file)
    expect(shows(bytes)).toBe(true)
    const there = await workers[0].run(({ state }) =>
      Buffer.from(state.guarded.buffer).toString('latin1')
    )
    expect(shows(Buffer.from(there, 'latin1'))).toBe(true)
    await workers[0].end()
    snapshot.close()
  })

  test('by this process itself shows in no memory', async () => {
    const { file, bytes } = await opened()
    await fs.promises.writeFile(file, Buffer.alloc(9 * MiB, 'z'))
    expect(shows(bytes)).toBe(true)
  })

  test('by the very thread that shows it shows in no memory', async () => {
    const { file, snapshot, guarded, bytes } = await opened()
    const expected = Buffer.from(image)
    for (const at of [0, 2 * MiB, 4 * MiB - 1]) expected[at] = bytes[at] ^= 255
    // Shorter, and then longer than it was, without a turn of the event loop.
    fs.writeFileSync(file, Buffer.alloc(9 * MiB, 'z'))
    expect(bytes.equals(expected)).toBe(true)
    guarded.restore(snapshot)
    expect(shows(bytes)).toBe(true)
    fs.truncateSync(file)
    expect(shows(bytes)).toBe(true)
    snapshot.close()
  })

  test('that open() empties in spite of its lease is missing pages', async () => {
    const seen = await inChild(
      async ({ hostmap, require, failure, args }) => {
        const { GuardedMemory, Snapshot } = hostmap
        const fs = require('node:fs')
        const warnings = []
        process.on('warning', warning => warnings.push(warning.code))
        const snapshot = await Snapshot.open(args.file)
        const [guarded, other] = [0, 1].map(() => {
          const guarded = new GuardedMemory({ initial: 64 })
          guarded.restore(snapshot)
          return guarded
        })
        const module = new WebAssembly.Module(Buffer.from(args.load, 'base64'))
        const { load } = new WebAssembly.Instance(module, { '': { m: guarded.memory } }).exports
        const loaded = at => {
          try {
            return load(at)
          } catch (error) {
            return error.constructor.name
          }
        }
        // The restores copy from the file, too.
        Buffer.from(other.buffer).fill(1)
        other.restore(snapshot)
        Buffer.from(other.buffer).fill(1)
        const before = loaded(5000)
        const { O_RDONLY, O_TRUNC } = fs.constants
        fs.closeSync(fs.openSync(args.file, O_RDONLY | O_TRUNC))
        const result = { before, trap: loaded(5000), zero: Buffer.from(guarded.buffer)[9000] }
        const lost = async fn => (await failure(async () => fn())).code
        result.lost = []
        for (const fn of [
          () => guarded.restore(snapshot),
          () => other.restore(snapshot),
          () => guarded.snapshot(),
          () => snapshot.share()
        ]) {
          result.lost.push(await lost(fn))
        }
        await fs.promises.writeFile(args.file, Buffer.alloc(9 << 20, 'z'))
        result.after = [loaded(5000), Buffer.from(guarded.buffer)[3 << 20]]
        result.lost.push(await lost(() => guarded.restore(snapshot)))
        await new Promise(resolve => setTimeout(resolve, 50))
        result.warnings = warnings
        other.reset()
        guarded.restore(await Snapshot.open(args.again))
        return { ...result, again: loaded(5000) }
      },
      { args: { file: await saved(), again: await saved(), load: loadOfMemory.toString('base64') } }
    )
    expect(seen).toEqual({
      before: image[5000],
      again: image[5000],
      trap: limits().faultGuard.traps ? 'RuntimeError' : 0,
      zero: 0,
      lost: Array(5).fill(CODE),
      after: [limits().faultGuard.traps ? 'RuntimeError' : 0, 0],
      warnings: expect.arrayContaining(['HOSTMAP_MISSING_PAGE'])
    })
  })

  test('that is replaced or removed stays what it is, and nobody waits', async () => {
    const { file, snapshot, guarded, bytes } = await opened()
    const other = directory.file(Buffer.alloc(9 * MiB, 'z'), 'other')
    fs.renameSync(other, file)
    fs.unlinkSync(file)
    bytes.fill(1)
    guarded.restore(snapshot)
    expect(shows(bytes)).toBe(true)
    expect(snapshot.residentBytes).toBe(0)
    // Saving takes the place of the file, too.
    await snapshot.save(file)
    await (await Snapshot.open(file)).save(file)
    expect(shows(bytes)).toBe(true)
  })

  test('is let go of once nothing shows it', async () => {
    const { file, snapshot, guarded } = await opened()
    guarded.reset()
    snapshot.close()
    // Nobody is asked: this thread does not reach its event loop.
    execFileSync('/bin/sh', ['-c', 'echo > "$0"', file], { timeout: 20_000 })
  })

  test('is refused while anybody could write it', async () => {
    const file = await saved()
    const fd = fs.openSync(file, 'a')
    await expectFailure(() => Snapshot.open(file), {
      code: CODE,
      says: [file, /for writing/, /load/]
    })
    // A writable mapping whose descriptor is closed is as good.
    const region = HostRegion.open(file, { writable: true })
    fs.closeSync(fd)
    await expectFailure(() => Snapshot.open(file), { code: CODE, says: /for writing/ })
    region.close()
    expect((await Snapshot.open(file)).byteLength).toBe(4 * MiB)
  })

  skipUnless('needs to be root', process.getuid() === 0).test(
    'is refused if it is another user’s',
    async () => {
      const file = await saved()
      fs.chmodSync(file, 0o444)
      fs.chmodSync(directory.path, 0o755)
      const error = await inChild(
        async ({ hostmap, failure, args }) => {
          process.setgroups([])
          process.setgid(65534)
          process.setuid(65534)
          return failure(() => hostmap.Snapshot.open(args))
        },
        { args: file }
      )
      expect(error).toMatchObject({ code: CODE })
      expect(error.message).toMatch(/another user's/)
    }
  )
})

test('six processes share the pages of one file', async () => {
  const guarded = new GuardedMemory({ initial: 16 * 16 })
  noise(16 * MiB).copy(bytesOf(guarded))
  const file = directory.file(undefined, 'shared.snapshot')
  await guarded.snapshot().save(file)
  const { one, six, written } = await pssOf(file, 6)
  expect(one).toBeGreaterThanOrEqual(16 * MiB)
  expect(six - 6 * written).toBeLessThan(1.2 * one)
})
