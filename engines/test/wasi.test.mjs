// A program under node:wasi goes back to a checkpoint: what it has opened is closed, what it had
// open stays, at its position and with its flags, and what can't come back is refused.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { WASI } from 'node:wasi'
import fc from 'fast-check'
import { InstancePool, capture, checkpoint } from 'wasm-hostmap'
import { wasiState } from 'wasm-hostmap/wasi'
import {
  CATALOG,
  COMMAND,
  bootIn,
  loadCatalog,
  makeFolder,
  openIn,
  program,
  sumOf
} from '../support/wasi-program.mjs'

const SEED = 20_261_129
const [APPEND, NONBLOCK] = [1, 4]
const BADF = 8
const { O_APPEND, O_NONBLOCK } = fs.constants

const codeOf = code => error => error.code === code

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc')

function heapBytes() {
  gc()
  return process.memoryUsage().heapUsed
}

/** Whether a restore failed in the middle, for a reason of wasiState's. */
const refused = pattern => error =>
  error.code === 'ERR_HOSTMAP_CHECKPOINT_BROKEN' &&
  error.cause.code === 'ERR_HOSTMAP_NOT_RESTORABLE' &&
  pattern.test(error.cause.message)

function folderOf(t) {
  const folder = makeFolder()
  t.after(() => fs.rmSync(folder, { recursive: true }))
  return folder
}

/** A captured program in a folder of its own, with its catalog read. */
async function captured(t) {
  const folder = folderOf(t)
  const { value, unit } = await capture(() => bootIn(folder))
  t.after(() => value.state.close())
  loadCatalog(value)
  return { ...value, unit, folder, keep: () => checkpoint(unit, { state: [value.state] }) }
}

test('without a state, each request leaves a descriptor of the host', async t => {
  const { c, unit, folder, state } = await captured(t)
  const clean = checkpoint(unit)
  for (let n = 1; n <= 10; n++) {
    assert.equal(c.request(n), sumOf(n))
    clean.restore()
    // One is the folder itself.
    assert.equal(openIn(folder), 1 + n)
  }
  state.close()
  assert.equal(openIn(folder), 0)
})

test('with it, none', async t => {
  const { c, folder, keep } = await captured(t)
  const clean = keep()
  const [digest, last] = [c.digest(), c.open_many(1, 0)]
  clean.restore()
  for (let n = 1; n <= 200; n++) {
    assert.equal(c.request(n), sumOf(n))
    assert.notEqual(c.digest(), digest)
    clean.restore()
    assert.equal(openIn(folder), 1)
    assert.equal(c.digest(), digest)
  }
  // Descriptors are given as in a fresh one, too.
  assert.equal(c.open_many(1, 0), last)
})

test('1,000 open files, of which any part was closed again', async t => {
  const { c, folder, keep } = await captured(t)
  const clean = keep()
  for (const closed of [990, 0, 1000, 1, 500, 990]) {
    assert.equal(c.open_many(1000, closed), 4 + 999)
    assert.equal(openIn(folder), 1 + 1000 - closed)
    clean.restore()
    assert.equal(openIn(folder), 1)
  }
})

test('what was open stays, at its position and with its flags', async t => {
  const { c, folder, keep } = await captured(t)
  assert.equal(c.keep_open(100), 100)
  const clean = keep()
  const [first, second] = [c.read_kept(), c.read_kept()]
  assert.notEqual(first, second)
  for (let i = 0; i < 3; i++) {
    c.open_many(20, 10)
    assert.equal(c.set_flags(c.kept_descriptor(), APPEND | NONBLOCK), 0)
    clean.restore()
    assert.equal(openIn(folder), 2)
    assert.equal(flagsOf(path.join(folder, 'catalog.csv')), 0)
    assert.deepEqual([c.read_kept(), c.read_kept()], [first, second])
  }
})

/** The flags that can be set, of the one descriptor that is open on a file, as Linux has them. */
function flagsOf(file) {
  const fd = fs.readdirSync('/proc/self/fd').find(each => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${each}`) === file
    } catch {
      return false
    }
  })
  const [, flags] = /^flags:\s+(\d+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))
  return Number.parseInt(flags, 8) & (O_APPEND | O_NONBLOCK)
}

test('the memory is as it was, also where the calls write meanwhile', async t => {
  const { c, keep } = await captured(t)
  c.keep_open(8)
  const bytes = () => Buffer.from(c.memory.buffer.slice(0))
  const before = bytes()
  const clean = keep()
  assert.ok(bytes().equals(before))
  c.request(1)
  c.set_flags(c.kept_descriptor(), APPEND)
  clean.restore()
  assert.ok(bytes().equals(before))
})

test('traps, the end of the stack, all of the memory, and exit() in the middle', async t => {
  const { c, wasi, folder, keep } = await captured(t)
  const clean = keep()
  const digest = c.digest()
  const faults = [
    () => assert.throws(() => c.crash(), WebAssembly.RuntimeError),
    () => assert.throws(() => c.dive(0), /out of bounds|call stack/),
    () => assert.throws(() => c.quit(7)),
    () => assert.equal(c.take_memory(2 ** 30), 0)
  ]
  // The last one: a memory that has grown stays so large, of which a pool has an option.
  const exhaust = () => {
    let taken = 0
    while (c.take_memory(2 ** 20) !== 0) taken += 1
    assert.ok(taken > 0)
  }
  for (const fail of [...faults, ...faults, exhaust]) {
    c.request(3)
    fail()
    clean.restore()
    assert.equal(c.digest(), digest)
    assert.equal(openIn(folder), 1)
  }
  // exit() throws what the WASI knows, and keeps the code: a fresh one has 0.
  assert.ok(Reflect.ownKeys(wasi).every(key => wasi[key] !== 7))
})

test('a command starts again, with its exit code', async t => {
  const folder = folderOf(t)
  const out = fs.openSync(path.join(folder, 'out'), 'w+')
  t.after(() => fs.closeSync(out))
  const { value, unit } = await capture(async () => {
    const wasi = new WASI({
      version: 'preview1',
      args: ['catalog', '5', '9'],
      preopens: { '/data': folder },
      stdout: out
    })
    const state = wasiState(wasi)
    const { instance } = await WebAssembly.instantiate(COMMAND, wasi.getImportObject())
    return { wasi, state, instance }
  })
  const clean = checkpoint(unit, { state: [value.state] })
  for (let run = 0; run < 20; run++) {
    assert.equal(value.wasi.start(value.instance), 9)
    assert.throws(() => value.wasi.start(value.instance), { code: 'ERR_WASI_ALREADY_STARTED' })
    clean.restore()
    // The folder, and what is its standard output.
    assert.equal(openIn(folder), 2)
  }
  const said = fs.readFileSync(path.join(folder, 'out'), 'utf8')
  assert.equal(said, `catalog: ${sumOf(5)} of 20000\n`.repeat(20))
  value.state.close()
  assert.equal(openIn(folder), 1)
})

test('what was closed, replaced or weakened is refused, and all is closed then', async t => {
  const cases = [
    [c => c.close_it(3), /descriptor 3 was closed/],
    [c => c.renumber(c.open_many(1, 0), 3), /descriptor 3 was closed, or is another file/],
    [c => c.renumber(3, c.open_many(1, 0)), /descriptor 3 was closed/],
    [c => [c.close_it(4), c.open_many(1, 0)], /descriptor 4 was closed, or is another file/],
    [c => c.take_rights(4), /rights of descriptor 4/]
  ]
  for (const [harm, message] of cases) {
    const { c, folder, keep } = await captured(t)
    c.keep_open(1)
    const clean = keep()
    harm(c)
    c.open_many(10, 5)
    assert.throws(() => clean.restore(), refused(message))
    assert.equal(openIn(folder), 0)
    assert.throws(keep, codeOf('ERR_HOSTMAP_NOT_RESTORABLE'))
  }
})

test('what was weakened before, or is not the state’s, is no harm', async t => {
  const { c, folder, keep } = await captured(t)
  c.keep_open(1)
  c.take_rights(4)
  const clean = keep()
  for (let i = 0; i < 3; i++) {
    const last = c.open_many(3, 0)
    assert.equal(c.renumber(last, last - 1), 0)
    assert.equal(c.take_rights(last - 1), 0)
    assert.equal(c.renumber(99, 3), BADF)
    assert.equal(c.close_it(99), BADF)
    clean.restore()
    assert.equal(openIn(folder), 2)
  }
})

test('nothing is kept of descriptors that are closed, though their flags were set', async t => {
  const { c, keep } = await captured(t)
  const clean = keep()
  const requests = count => {
    for (let n = 0; n < count; n++) {
      const fd = c.open_many(1, 0)
      assert.equal(c.set_flags(fd, n % 2 === 0 ? APPEND : 0), 0)
      // Also where another file takes its place.
      const other = c.open_many(1, 0)
      assert.equal(c.set_flags(other, APPEND), 0)
      assert.equal(c.renumber(fd, other), 0)
      clean.restore()
    }
  }
  requests(1000)
  const before = heapBytes()
  requests(5000)
  const each = (heapBytes() - before) / 5000
  assert.ok(each < 100, `${each} bytes are kept of each request`)
})

test('several checkpoints of one program', async t => {
  const { c, folder, keep } = await captured(t)
  const early = keep()
  c.keep_open(100)
  c.set_flags(4, APPEND)
  const late = keep()
  const text = c.read_kept()
  for (let i = 0; i < 2; i++) {
    c.open_many(5, 2)
    c.set_flags(4, NONBLOCK)
    late.restore()
    assert.equal(openIn(folder), 2)
    assert.equal(flagsOf(path.join(folder, 'catalog.csv')), O_APPEND)
    assert.equal(c.read_kept(), text)
  }
  early.restore()
  assert.equal(openIn(folder), 1)
  assert.equal(c.open_many(1, 0), 4)
  early.restore()
  // Its file is not open any more.
  assert.throws(() => late.restore(), refused(/descriptor 4 was closed/))
})

test('any order of calls is undone', async t => {
  const { c, folder, keep } = await captured(t)
  c.keep_open(10)
  const clean = keep()
  const text = c.read_kept()
  clean.restore()
  const fd = fc.integer({ min: 5, max: 12 })
  const call = fc.oneof(
    fc.tuple(fc.constant('open_many'), fc.integer({ min: 0, max: 9 }), fc.integer({ max: 9 })),
    fc.tuple(fc.constant('close_it'), fd),
    fc.tuple(fc.constant('renumber'), fd, fd),
    fc.tuple(fc.constant('set_flags'), fd, fc.constantFrom(0, APPEND, NONBLOCK)),
    fc.tuple(fc.constant('take_rights'), fd),
    fc.tuple(fc.constant('request'), fc.nat(100))
  )
  fc.assert(
    fc.property(fc.array(call, { maxLength: 30 }), calls => {
      for (const [name, ...args] of calls) c[name](...args)
      clean.restore()
      assert.equal(openIn(folder), 2)
      assert.equal(c.read_kept(), text)
      // A fresh one gives 5, too.
      assert.equal(c.open_many(1, 0), 5)
      clean.restore()
    }),
    { numRuns: 60, seed: SEED }
  )
})

test('a file of the program in place of standard output is its own', async t => {
  const folder = folderOf(t)
  const out = fs.openSync(path.join(folder, 'out'), 'w+')
  const { value, unit } = await capture(async () => {
    const wasi = new WASI({ version: 'preview1', preopens: { '/data': folder }, stdout: out })
    const state = wasiState(wasi)
    const { instance } = await WebAssembly.instantiate(CATALOG, wasi.getImportObject())
    wasi.initialize(instance)
    return { state, c: instance.exports }
  })
  // It closes the host's descriptor.
  assert.equal(value.c.renumber(value.c.open_many(1, 0), 1), 0)
  const clean = checkpoint(unit, { state: [value.state] })
  const reopened = value.c.open_many(3, 0)
  clean.restore()
  assert.equal(value.c.open_many(3, 0), reopened)
  value.state.close()
  assert.equal(openIn(folder), 0)
})

test('standard output keeps its position: it is the host’s', async t => {
  const folder = folderOf(t)
  const out = fs.openSync(path.join(folder, 'out'), 'w+')
  t.after(() => fs.closeSync(out))
  const { value, unit } = await capture(async () => {
    const wasi = new WASI({ version: 'preview1', preopens: { '/data': folder }, stdout: out })
    const state = wasiState(wasi)
    const { instance } = await WebAssembly.instantiate(CATALOG, wasi.getImportObject())
    wasi.initialize(instance)
    return { state, c: instance.exports }
  })
  t.after(() => value.state.close())
  const clean = checkpoint(unit, { state: [value.state] })
  for (let i = 0; i < 3; i++) {
    assert.equal(value.c.write_some(1), 4)
    assert.equal(value.c.set_flags(1, APPEND), 0)
    clean.restore()
  }
  assert.equal(fs.readFileSync(path.join(folder, 'out'), 'utf8'), 'texttexttext')
  assert.equal(flagsOf(path.join(folder, 'out')), 0)
})

test('a WASI that can’t be watched is refused', async t => {
  for (const wrong of [undefined, null, 3, 'wasi'])
    assert.throws(() => wasiState(wrong), codeOf('ERR_INVALID_ARG_TYPE'))
  for (const other of [{}, { wasiImport: {} }, { wasiImport: { path_open() {} } }])
    assert.throws(() => wasiState(other), codeOf('ERR_HOSTMAP_ENGINE_UNSUPPORTED'))

  const folder = folderOf(t)
  const wasi = new WASI({ version: 'preview1', preopens: { '/data': folder } })
  const { instance } = await WebAssembly.instantiate(CATALOG, wasi.getImportObject())
  wasi.initialize(instance)
  assert.throws(() => wasiState(wasi), codeOf('ERR_HOSTMAP_NOT_RESTORABLE'))
  instance.exports.close_it(3)
})

test('close() closes the folders of what was never started, too', t => {
  const folder = folderOf(t)
  const wasi = new WASI({ version: 'preview1', preopens: { '/a': folder, '/b': folder } })
  const state = wasiState(wasi)
  assert.equal(openIn(folder), 2)
  const restore = state()
  state.close()
  state.close()
  assert.equal(openIn(folder), 0)
  assert.throws(restore, codeOf('ERR_HOSTMAP_NOT_RESTORABLE'))
})

test('calls that go around what is watched are found', async t => {
  const folder = folderOf(t)
  const wasi = new WASI({ version: 'preview1', preopens: { '/data': folder } })
  const early = { wasi_snapshot_preview1: { ...wasi.wasiImport } }
  const state = wasiState(wasi)
  assert.equal(wasiState(wasi), state)
  const { value: instance, unit } = await capture(async () => {
    const made = await WebAssembly.instantiate(CATALOG, early)
    wasi.initialize(made.instance)
    return made.instance
  })
  const clean = checkpoint(unit, { state: [state] })
  clean.restore()
  const fd = instance.exports.open_many(1, 0)
  assert.throws(() => clean.restore(), refused(/not watched/))
  instance.exports.close_it(fd)
  assert.equal(openIn(folder), 0)
})

test('a pool: 1,000 requests that leave files open, and nothing is left', async t => {
  const folder = folderOf(t)
  const pool = await InstancePool.create({
    make: () => bootIn(folder),
    init: ({ value }) => loadCatalog(value),
    state: [({ value }) => value.state()],
    destroy: ({ value }) => value.state.close(),
    max: 1
  })
  const digest = ({ value: { c } }) => [c.digest(), c.open_many(1, 0)]
  const fresh = await pool.run(digest)
  const active = () => process.getActiveResourcesInfo().toSorted()
  await new Promise(resolve => setImmediate(resolve))
  const [before, resources] = [openIn('/'), active()]
  const misdeeds = [
    ({ c }) => c.open_many(100, 90),
    ({ c }) => c.crash(),
    ({ c }) => c.quit(3),
    ({ c }) => c.dive(0)
  ]
  for (let n = 0; n < 1000; n++) {
    assert.equal(await pool.run(({ value: { c } }) => c.request(n)), sumOf(n))
    if (n % 50 !== 0) continue
    // What was thrown by exit() is no error.
    await pool.run(({ value }) => misdeeds[(n / 50) % 4](value)).catch(() => {})
    assert.deepEqual(await pool.run(digest), fresh)
  }
  assert.equal(openIn('/'), before)
  assert.equal(openIn(folder), 1)
  for (let turns = 0; turns < 3; turns++) await new Promise(resolve => setImmediate(resolve))
  assert.deepEqual(active(), resources)
  assert.equal(pool.stats().discarded, 0)
  assert.equal(pool.stats().created, 1)
  pool.close()
  await settled(() => openIn(folder) === 0)
})

test('a pool discards what can’t go back, and closes its descriptors', async t => {
  const folder = folderOf(t)
  const pool = await InstancePool.create({
    make: () => bootIn(folder),
    init: ({ value }) => loadCatalog(value),
    state: [({ value }) => value.state()],
    destroy: ({ value }) => value.state.close(),
    maxMemoryBytes: 2 ** 23,
    max: 1
  })
  const fresh = await pool.run(({ value: { c } }) => c.digest())
  const harms = [
    [({ c }) => c.close_it(3), /descriptor 3 was closed/],
    [({ c }) => c.take_rights(3), /rights of descriptor 3/],
    [({ c }) => c.take_memory(2 ** 24), /bytes/]
  ]
  for (const [count, [harm, why]] of harms.entries()) {
    await pool.run(({ value }) => {
      value.c.open_many(10, 0)
      harm(value)
    })
    assert.equal(await pool.run(({ value: { c } }) => c.digest()), fresh)
    const { discarded, lastFailure } = pool.stats()
    assert.equal(discarded, count + 1)
    assert.match(lastFailure.cause?.message ?? lastFailure.message, why)
    await settled(() => openIn(folder) === 1)
  }
  pool.close()
  await settled(() => openIn(folder) === 0)
})

test('a pool whose make fails closes what it had opened', async t => {
  const folder = folderOf(t)
  const made = []
  const pool = await InstancePool.create({
    async make() {
      made.push(await bootIn(folder))
      return made.at(-1)
    },
    init({ value }) {
      if (made.length === 1) throw new Error('on purpose')
      loadCatalog(value)
    },
    state: [({ value }) => value.state()],
    destroy: ({ value }) => value.state.close(),
    size: 0,
    max: 1
  })
  await assert.rejects(
    pool.run(() => 0),
    /on purpose/
  )
  await settled(() => openIn(folder) === 0)
  assert.equal(await pool.run(({ value: { c } }) => c.request(1)), sumOf(1))
  assert.equal(openIn(folder), 1)
  pool.close()
  await settled(() => openIn(folder) === 0)
})

/** Waits for what happens in a turn of the event loop or in some more; a test's limit ends it. */
async function settled(isSo) {
  while (!isSo()) await new Promise(resolve => setImmediate(resolve))
}

test('without room, each request makes the memory larger; with room, none does', async t => {
  const folder = folderOf(t)
  const sizesOf = async init => {
    const pool = await InstancePool.create({
      make: () => bootIn(folder),
      init,
      state: [({ value }) => value.state()],
      destroy: ({ value }) => value.state.close()
    })
    const sizes = []
    for (let n = 0; n < 5; n++) {
      sizes.push(
        await pool.run(({ value: { c }, memory }) => {
          c.take_memory(2 ** 20)
          return memory.byteLength
        })
      )
    }
    pool.close()
    return new Set(sizes).size
  }
  assert.equal(await sizesOf(), 5)
  assert.equal(await sizesOf(({ value: { c } }) => c.make_room(2 ** 20)), 1)
})

test('the program of the bench leaves nothing behind', async () => {
  const { make, init, state } = program.poolOptions()
  const { value, unit } = await capture(make)
  init({ value })
  const clean = checkpoint(unit, { state: state.map(each => () => each({ value })) })
  const first = program.digest({ value })
  clean.restore()
  for (let n = 0; n < 20; n++) {
    program.check(program.request({ value }, n), n)
    clean.restore()
    assert.deepEqual(program.digest({ value }), first)
    clean.restore()
  }
  program.close(value)
})
