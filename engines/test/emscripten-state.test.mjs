// emscriptenState: after random operations of the FS, and after what no operation shows, the whole
// tree, all streams and what decides about the next file are as they were.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { emscriptenState } from 'wasm-hostmap/emscripten-state'
import { digestFS } from '../support/fs-digest.mjs'
import { operate, operation, plant } from '../support/fs-operations.mjs'
import { anyIsUndone, MODULES } from '../support/fs-property.mjs'

const require = createRequire(import.meta.url)
const SEED = 20_261_129
const ROUNDS = { '7z-wasm': 600, h5wasm: 300, 'gdal3.js': 100, '@electric-sql/pglite': 8 }

for (const [name, make] of Object.entries(MODULES)) {
  test(`${name}: any operations on files are undone`, () => anyIsUndone(make, ROUNDS[name], SEED))
}

const sevenZip = MODULES['7z-wasm']
const pglite = MODULES['@electric-sql/pglite']

const codeOf = code => error => error.code === code

/** How many descriptors of this process are open on files below a folder of the host. */
function hostFiles(folder) {
  const links = fs.readdirSync('/proc/self/fd').map(fd => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      return '' // The descriptor of the listing itself.
    }
  })
  return links.filter(target => target.startsWith(folder)).length
}

function temporaryFolder(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hostmap-state-'))
  t.after(() => fs.rmSync(folder, { recursive: true }))
  return folder
}

test('any number of checkpoints of one module, in any order', async () => {
  const { FS } = await sevenZip()
  plant(FS)
  const [steps] = fc.sample(fc.array(operation, { minLength: 400, maxLength: 400 }), {
    numRuns: 1,
    seed: SEED
  })
  const taken = []
  for (let i = 0; i < 8; i++) {
    for (const step of steps.slice(i * 50, (i + 1) * 50)) operate(FS, step)
    taken.push([emscriptenState({ FS })(), digestFS(FS)])
  }
  assert.equal(new Set(taken.map(([, digest]) => digest)).size, taken.length)
  for (const i of [7, 0, 3, 3, 6, 1, 7, 2, 0]) {
    for (const step of steps.slice(i * 20)) operate(FS, step)
    taken[i][0]()
    assert.equal(digestFS(FS), taken[i][1])
  }
})

test('a growing file keeps what it was, and a view that somebody kept changes nothing', async () => {
  const { FS } = await sevenZip()
  FS.writeFile('/log', 'first line\n')
  const restore = emscriptenState({ FS })()
  const before = digestFS(FS)
  const view = FS.lookupPath('/log').node.contents
  for (let i = 0; i < 20; i++) {
    const stream = FS.open('/log', 'a')
    FS.write(stream, new Uint8Array(100_000).fill(i + 1), 0, 100_000)
    FS.close(stream)
    view.fill(33)
    restore()
    assert.equal(FS.readFile('/log', { encoding: 'utf8' }), 'first line\n')
    assert.equal(digestFS(FS), before)
  }
})

test('a file named __proto__ leaves nothing in its folder', async () => {
  const { FS } = await sevenZip()
  FS.mkdir('/folder')
  const prototype = Object.getPrototypeOf(FS.lookupPath('/folder').node.contents)
  const restore = emscriptenState({ FS })()
  for (let round = 0; round < 2; round++) {
    FS.writeFile('/folder/__proto__', 'secret')
    restore()
    assert.equal(Object.getPrototypeOf(FS.lookupPath('/folder').node.contents), prototype)
    assert.throws(() => FS.stat('/folder/__proto__'))
    // Which goes through inherited names, too.
    FS.rmdir('/folder')
    restore()
  }
})

test('functions of the FS that a script has replaced come back', async () => {
  const { FS } = await sevenZip()
  const { open, streams } = FS
  const keys = Object.keys(FS)
  const restore = emscriptenState({ FS })()
  FS.open = () => assert.fail('a function of the request before')
  FS.streams = []
  FS.toString = () => 'left'
  delete FS.mkdir
  restore()
  assert.equal(FS.open, open)
  assert.equal(FS.streams, streams)
  assert.deepEqual(Object.keys(FS).toSorted(), keys.toSorted())
  FS.mkdir('/again')
})

test('a restore that fails in the middle is done by the next one', async () => {
  const { FS } = await sevenZip()
  plant(FS)
  const restore = emscriptenState({ FS })()
  const before = digestFS(FS)
  FS.writeFile('/tree/a/a', 'other')
  FS.unlink('/tree/a/12')
  FS.chmod('/tree/a/b', 0o111)
  const { node } = FS.lookupPath('/tree/a/b')
  const { mode } = node
  const refuse = () => {
    throw new Error('not now')
  }
  Object.defineProperty(node, 'mode', {
    get: () => mode,
    set: refuse,
    configurable: true,
    enumerable: true
  })
  assert.throws(restore, /not now/)
  assert.notEqual(digestFS(FS), before)
  Object.defineProperty(node, 'mode', { value: mode, writable: true })
  restore()
  assert.equal(digestFS(FS), before)
})

test('host files: mounts stay, what was opened since is closed', async t => {
  const folder = temporaryFolder(t)
  fs.writeFileSync(path.join(folder, 'kept'), 'on the host')
  const { FS, NODEFS } = await sevenZip()
  FS.mkdir('/host')
  FS.mount(NODEFS, { root: folder }, '/host')
  const kept = FS.open('/host/kept', 'r+')
  FS.read(kept, new Uint8Array(3), 0, 3)
  const restore = emscriptenState({ FS })()
  const before = digestFS(FS)
  for (let round = 0; round < 3; round++) {
    const opened = Array.from({ length: 1000 }, (_, i) => FS.open(`/host/new${i % 10}`, 'w+'))
    FS.dupStream(opened[0])
    FS.dupStream(kept)
    FS.write(opened[1], new Uint8Array([1, 2, 3]), 0, 3)
    FS.read(kept, new Uint8Array(5), 0, 5)
    assert.equal(hostFiles(folder), 1001)
    restore()
    assert.equal(hostFiles(folder), 1)
    assert.equal(digestFS(FS), before)
    assert.throws(() => FS.close(opened[1]))
  }
  // The host's files are the host's, and can be read again.
  assert.deepEqual([...fs.readFileSync(path.join(folder, 'new1'))], [1, 2, 3])
  assert.equal(FS.readFile('/host/kept', { encoding: 'utf8' }), 'on the host')
  assert.equal(FS.read(kept, new Uint8Array(100), 0, 100), 8)
  FS.close(FS.getStream(kept.fd))
  const after = digestFS(FS)
  assert.throws(restore, codeOf('ERR_HOSTMAP_NOT_RESTORABLE'))
  assert.equal(digestFS(FS), after)
})

test('host files that can not be closed are said, and all else is back', async t => {
  const folder = temporaryFolder(t)
  const { FS, NODEFS } = await sevenZip()
  FS.mkdir('/host')
  FS.mount(NODEFS, { root: folder }, '/host')
  const restore = emscriptenState({ FS })()
  const before = digestFS(FS)
  const { nfd } = FS.open('/host/file', 'w')
  fs.closeSync(nfd)
  assert.throws(
    restore,
    error => error.code === 'ERR_HOSTMAP_NOT_RESTORABLE' && error.cause !== undefined
  )
  assert.equal(digestFS(FS), before)
})

test('pipes: they hold what they held', async () => {
  const { FS } = await pglite()
  const [reader, writer] = FS.streams.filter(stream => stream?.node.pipe)
  const write = bytes => FS.write(writer, bytes, 0, bytes.length)
  const read = length => {
    const bytes = new Uint8Array(length)
    return [...bytes.subarray(0, FS.read(reader, bytes, 0, length))]
  }
  write(new Uint8Array([1, 2, 3, 4]))
  assert.deepEqual(read(1), [1])
  const restore = emscriptenState({ FS })()
  const before = digestFS(FS)
  for (let round = 0; round < 3; round++) {
    write(new Uint8Array(20_000).fill(9))
    assert.equal(read(30_000).length, 20_003)
    write(new Uint8Array(10).fill(8))
    restore()
    assert.equal(digestFS(FS), before)
    assert.deepEqual(read(2), [2, 3])
    restore()
  }
})

test('a lazy file is read again', async () => {
  const { FS } = await sevenZip()
  const file = require.resolve('7z-wasm/package.json')
  FS.createLazyFile('/', 'lazy', file, true, false)
  const restore = emscriptenState({ FS })()
  for (let round = 0; round < 2; round++) {
    const stream = FS.open('/lazy', 'r')
    const bytes = new Uint8Array(20)
    FS.read(stream, bytes, 0, 20)
    FS.close(stream)
    assert.deepEqual(Buffer.from(bytes), fs.readFileSync(file).subarray(0, 20))
    assert.notEqual(FS.lookupPath('/lazy').node.contents, null)
    restore()
    assert.equal(FS.lookupPath('/lazy').node.contents, null)
  }
})

test('files that hold more than 4 GiB are refused, and stay as they are', async () => {
  const { FS } = await sevenZip()
  for (const name of ['a', 'b', 'c'])
    FS.writeFile(name, new Uint8Array(1.5 * 2 ** 30), { canOwn: true })
  const contents = FS.lookupPath('a').node.contents
  assert.throws(emscriptenState({ FS }), codeOf('ERR_HOSTMAP_MEMORY_FULL'))
  assert.equal(FS.lookupPath('a').node.contents, contents)
})

test('contents that are no bytes are refused', async () => {
  const { FS } = await sevenZip()
  FS.writeFile('wide', new Float64Array(10), { canOwn: true })
  assert.throws(emscriptenState({ FS }), codeOf('ERR_HOSTMAP_NOT_RESTORABLE'))
})

test('refuses what it can not bring back', async () => {
  for (const value of [undefined, null, 1, 'module'])
    assert.throws(() => emscriptenState(value), codeOf('ERR_INVALID_ARG_TYPE'))
  const refused = codeOf('ERR_HOSTMAP_ENGINE_UNSUPPORTED')
  const withoutFS = await require('sql.js')()
  assert.throws(() => emscriptenState(withoutFS), refused)
  const withAssertions = await require('sql.js/dist/sql-wasm-debug.js')()
  assert.throws(() => emscriptenState(withAssertions), refused)
  // Its getter for FS would have aborted it.
  assert.equal(new withAssertions.Database().exec('select 1')[0].values[0][0], 1)
  const onHostFiles = await (await import('h5wasm/node')).ready
  assert.throws(() => emscriptenState(onHostFiles), refused)
})

test('a state that is no longer used does not keep its files', () => {
  const script = `
    const { emscriptenState } = require('wasm-hostmap/emscripten-state')
    const live = () => require('node:fs').readFileSync('/proc/self/status', 'utf8').match(/VmRSS:\\s+(\\d+)/)[1] / 1024
    require('7z-wasm')({ print() {} }).then(async ({ FS }) => {
      FS.writeFile('/big', new Uint8Array(16 * 2 ** 20).fill(7))
      let most = 0
      for (let i = 0; i < 16; i++) {
        FS.lookupPath('/big').node.contents.fill(i)
        emscriptenState({ FS })()()
        global.gc()
        await new Promise(setImmediate)
        if (i === 5) most = live() + 48
      }
      console.log(live() < most ? 'freed' : 'kept ' + live() + ' of ' + most)
    })`
  const out = execFileSync(process.execPath, ['--expose-gc', '-e', script], {
    cwd: path.dirname(import.meta.dirname ?? new URL('.', import.meta.url).pathname),
    encoding: 'utf8'
  })
  assert.match(out, /freed/)
})
