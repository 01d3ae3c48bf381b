'use strict'

// Several copies of the package in one process: other installs, workers, realms. One native part
// serves all.

const fs = require('node:fs')
const path = require('node:path')
const { nativePath, platform } = require('./support/native')
const manifest = require('../package.json')
const { inChild } = require('./support/child')
const { temporaryDirectory } = require('./support/files')

const root = path.join(__dirname, '..')
const directory = temporaryDirectory()
const binaryName = `wasm-hostmap.${platform.target()}.node`
const IDENTITY = new RegExp(`${manifest.version.replaceAll('.', '\\.')} [0-9a-f]{16}`, 'g')
const MAIN = require.resolve('./support/copies-main.js')

/** Another install, with a binary of its own. `version` and `build`: another one's. */
function install({ version = manifest.version, build, at } = {}) {
  const copy = at ?? fs.mkdtempSync(path.join(directory.path, 'install-'))
  for (const name of ['index.js', 'index.mjs', 'lib']) {
    fs.cpSync(path.join(root, name), path.join(copy, name), { recursive: true })
  }
  fs.writeFileSync(path.join(copy, 'package.json'), JSON.stringify({ ...manifest, version }))
  const text = fs.readFileSync(path.join(root, binaryName), 'latin1')
  const changed = text.replace(IDENTITY, found => `${version} ${build ?? found.split(' ')[1]}`)
  // By a rename, as installers do: what runs keeps the file that it has.
  const binary = path.join(copy, binaryName)
  fs.writeFileSync(`${binary}.new`, changed, { encoding: 'latin1', mode: 0o755 })
  fs.renameSync(`${binary}.new`, binary)
  return copy
}

/** Runs a body in a process that has loaded no copy yet. */
const inFresh = (body, args) => inChild(body, { main: MAIN, args })

const other = { version: '99.9.9'.slice(0, manifest.version.length), build: '0123456789abcdef' }

describe('copies of one version', () => {
  test('are one library in a realm, whichever is loaded first', async () => {
    const copies = [install(), root]
    for (const args of [copies, copies.toReversed?.() ?? [...copies].reverse()]) {
      const same = await inFresh(({ require, args: [first, second] }) => {
        const [one, two] = [require(first), require(second)]
        return Promise.resolve(Object.keys(one).every(name => one[name] === two[name]))
      }, args)
      expect(same).toBe(true)
    }
  })

  test('are one library where the first one of the process comes second in a thread, or once more', async () => {
    const copies = [root, install()]
    const outcome = await inFresh(async ({ require, inWorker, args: [first, second] }) => {
      const isOne = ([first, second]) => {
        const [one, two] = [require(first), require(second)]
        return Object.keys(one).every(name => one[name] === two[name])
      }
      const loaded = require(first)
      const { value } = await inWorker(isOne, [second, first])
      for (const file of Object.keys(require.cache)) delete require.cache[file]
      const again = require(first)
      return { inWorker: value, again: loaded.HostRegion === again.HostRegion }
    }, copies)
    expect(outcome).toEqual({ inWorker: true, again: true })
  })

  test('see one table of mappings in two realms of a thread', async () => {
    const outcome = await inFresh(
      async ({ require, loadInRealm, failure, args: [first, second] }) => {
        const A = require(first)
        const B = loadInRealm(second)
        const ours = new A.GuardedMemory({ initial: 64, maximum: 256 })
        const theirs = B.GuardedMemory.from(ours.memory)
        const region = A.HostRegion.copyFrom(Buffer.alloc(65536, 1))
        ours.map(region, { at: 65536 })
        const overlap = failure(() =>
          theirs.map(B.HostRegion.copyFrom(Buffer.alloc(65536, 2)), { at: 65536 })
        )
        // Protected again, whichever copy's call comes next after a growth of the module's own.
        ours.memory.grow(1)
        const seen = theirs.layout().ranges.filter(({ kind }) => kind === 'mapped').length
        new Uint8Array(ours.buffer)[65536] = 9
        return {
          separate: A.HostRegion !== B.HostRegion,
          overlap: overlap.code,
          seen,
          region: new Uint8Array(region.view())[0],
          memory: new Uint8Array(ours.buffer)[65536]
        }
      },
      [root, install()]
    )
    expect(outcome).toEqual({
      separate: true,
      overlap: 'ERR_HOSTMAP_OVERLAP',
      seen: 1,
      region: 1,
      memory: 9
    })
  })

  test.each(['unmap', 'reset'])('keep pages guarded over %s by the other one', async what => {
    const bytes = await inFresh(
      async ({ require, loadInRealm, args: [first, second, what] }) => {
        const A = require(first)
        const B = loadInRealm(second)
        const ours = new A.GuardedMemory({ initial: 64, maximum: 256 })
        const theirs = B.GuardedMemory.from(ours.memory)
        const region = A.HostRegion.copyFrom(Buffer.alloc(65536, 1))
        ours.map(region, { at: 65536 })
        if (what === 'reset') theirs.reset()
        else theirs.map(B.HostRegion.copyFrom(Buffer.alloc(65536, 2)), { at: 2 * 65536 }).unmap()
        ours.memory.grow(1)
        ours.layout()
        const bytes = new Uint8Array(ours.buffer)
        for (const page of [1, 2]) bytes[page * 65536] += 4
        return [bytes[65536], bytes[2 * 65536], new Uint8Array(region.view())[0]]
      },
      [root, install(), what]
    )
    expect(bytes).toEqual([5, 4, 1])
  })

  test('take no object of the other realm, and say whose it is', async () => {
    const copy = install()
    const [ofRegion, ofMemory] = await inFresh(
      async ({ require, loadInRealm, failure, args: [first, second] }) => {
        const A = require(first)
        const B = loadInRealm(second)
        const ours = new A.GuardedMemory({ initial: 1 })
        const theirs = new B.GuardedMemory({ initial: 1 })
        return [
          failure(() => ours.map(B.HostRegion.allocate(1))),
          failure(() => A.GuardedMemory.from(theirs))
        ]
      },
      [root, copy]
    )
    expect(ofRegion).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' })
    expect(ofRegion.message).toContain(
      `made in another realm, by the copy of wasm-hostmap in ${copy}`
    )
    expect(ofMemory).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' })
    expect(ofMemory.message).toContain('pass its `memory`')
  })

  test('share a table with workers that loaded another copy, and race to be the first', async () => {
    const copies = [root, install(), install()].map(copy => [copy, nativePath(copy)])
    const outcome = await inFresh(async ({ require, inWorker, args: copies }) => {
      const memory = new WebAssembly.Memory({ initial: 64, maximum: 64, shared: true })
      const body = ([copy, native, index, memory]) => {
        const { GuardedMemory, HostRegion } = require(copy)
        GuardedMemory.from(memory).map(HostRegion.copyFrom(Buffer.alloc(65536, index + 1)), {
          at: index * 65536
        })
        return require(native).loadedCopies()[0].path
      }
      const workers = await Promise.all(
        Array.from({ length: 9 }, (_, index) =>
          inWorker(body, [...copies[index % copies.length], index, memory], { wait: true })
        )
      )
      const { GuardedMemory } = require(copies[2][0])
      const { ranges } = GuardedMemory.from(memory).layout()
      const mapped = ranges.filter(({ kind }) => kind === 'mapped').length
      await Promise.all(workers.map(worker => worker.end()))
      return {
        failed: workers.filter(({ code }) => code),
        mapped,
        first: new Set(workers.map(({ value }) => value)).size
      }
    }, copies)
    expect(outcome).toEqual({ failed: [], mapped: 9, first: 1 })
  })

  test('need no file of the first one, nor the worker that loaded it', async () => {
    const outcome = await inFresh(
      async ({ fs, require, inWorker, args: [first, second, native] }) => {
        const body = path => require(path).limits().pageSize
        const worker = await inWorker(body, first)
        fs.rmSync(first, { recursive: true })
        const { GuardedMemory, HostRegion } = require(second)
        const guarded = new GuardedMemory({ initial: 1, maximum: 2 })
        const mapping = guarded.map(HostRegion.copyFrom(Buffer.from('abc')))
        const again = await inWorker(body, second)
        const [{ path, isOwn }] = require(native).loadedCopies()
        return {
          pages: [worker.value, again.value],
          text: Buffer.from(guarded.buffer, mapping.address, 3).toString(),
          fromFirst: path.startsWith(first) && isOwn
        }
      },
      [install(), root, nativePath()]
    )
    expect(outcome).toEqual({
      pages: [expect.any(Number), expect.any(Number)],
      text: 'abc',
      fromFirst: true
    })
  })
})

describe('copies that are not of one version', () => {
  const load = ({ require, failure, args: [first, second] }) => {
    require(first)
    return Promise.resolve([failure(() => require(second)), failure(() => require(second))])
  }

  test.each([
    ['another version', other],
    ['another build of the same version', { build: other.build }]
  ])('are refused: %s', async (_, options) => {
    const stranger = install(options)
    for (const args of [
      [root, stranger],
      [stranger, root]
    ]) {
      const [error, again] = await inFresh(load, args)
      expect(again).toEqual(error)
      expect(error).toMatchObject({ code: 'ERR_HOSTMAP_TWO_VERSIONS' })
      for (const copy of args) expect(error.message).toContain(path.join(copy, binaryName))
      for (const part of [manifest.version, options.version ?? manifest.version, other.build]) {
        expect(error.message).toContain(part)
      }
      expect(error.message).toMatch(/^ {2}1\. Install /m)
    }
  })

  test('are refused in workers too', async () => {
    const [ok, refused] = await inFresh(
      async ({ inWorker, args }) => {
        const body = path => Object.keys(require(path)).length
        return [await inWorker(body, args[0]), await inWorker(body, args[1])]
      },
      [install(), install(other)]
    )
    expect(ok.value).toBeGreaterThan(5)
    expect(refused.code).toBe('ERR_HOSTMAP_TWO_VERSIONS')
  })

  test('are refused where one replaced the other on disk while the process ran', async () => {
    const place = install()
    const next = install(other)
    const [before, after] = await inFresh(
      async ({ fs, inWorker, args: [place, next] }) => {
        const body = path => Object.keys(require(path)).length
        const before = await inWorker(body, place)
        fs.rmSync(place, { recursive: true })
        fs.renameSync(next, place)
        return [before, await inWorker(body, place)]
      },
      [place, next]
    )
    expect(before.value).toBeGreaterThan(5)
    expect(after.code).toBe('ERR_HOSTMAP_TWO_VERSIONS')
    expect(after.message).toContain(manifest.version)
    expect(after.message).toContain(other.version)
  })
})
