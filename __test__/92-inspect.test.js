'use strict'

// inspect() says what there is and nothing that is not; it keeps nothing alive and leaves nothing
// behind. `wasm-hostmap inspect` says the same of another process, and says why where it can't.

const { once } = require('node:events')
const fs = require('node:fs')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const { parseArgs } = require('node:util')
const fc = require('fast-check')
const { allowInspect, GuardedMemory, HostRegion, InstancePool, inspect, limits } = require('..')
const { askThreads } = require('../cli/inspect/ask')
const { barOf } = require('../cli/inspect/bar')
const command = require('../cli/inspect/command')
const { merged } = require('../cli/inspect/merge')
const { checked } = require('../cli/inspect/saved')
const { memoriesIn } = require('../cli/inspect/shapes')
const { drawing } = require('../cli/inspect/terminal')
const { pageOf } = require('../cli/inspect/page/page')
const { expectError, thrownBy } = require('./support/errors')
const { inChild } = require('./support/child')
const { temporaryDirectory } = require('./support/files')
const { native, processMap } = require('./support/native')
const { inspected, run } = require('./support/inspecting')

const { parseMap, deviceText } = processMap
const { GiB, KiB, MiB, WASM_PAGE } = require('./support/wasm')

const PAGE = limits().pageSize
const directory = temporaryDirectory()

/** The memory, the region and so on of this test, among those that other tests have left. */
const memoryOf = (found, guarded) => found.memories.find(it => it.base === baseOf(guarded))
const baseOf = guarded => native.baseOf(new Uint8Array(guarded.buffer))

let calls = 0
function called() {
  calls++
  throw new Error('It was called.')
}

describe('inspect()', () => {
  test('says where a memory is, how large it is and may be, and what guards it', () => {
    const guarded = new GuardedMemory({ initial: 2, maximum: 10 })
    const found = memoryOf(inspect({ processMap: false }), guarded)
    expect(found).toMatchObject({
      byteLength: 2 * WASM_PAGE,
      maximumByteLength: 10 * WASM_PAGE,
      address: 'i32',
      shared: false,
      guarded: guarded.guarded,
      knownBy: 'object',
      hidden: false,
      mappings: [],
      resident: null
    })
    guarded.grow(3)
    expect(memoryOf(inspect({ processMap: false }), guarded).byteLength).toBe(5 * WASM_PAGE)
    if (!guarded.guarded) return
    const { reservation } = found
    const { reservationBytes32 } = limits().wasm
    expect(reservation.end - reservation.start).toBe(reservationBytes32)
  })

  test('calls no function of the caller, and finds a hidden memory all the same', () => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 4 })
    let calls = 0
    const guarded = GuardedMemory.from(() => {
      calls++
      return memory.buffer
    })
    const base = baseOf(guarded)
    const before = calls
    const find = () => inspect({ processMap: false }).memories.find(it => it.base === base)
    expect(find()).toMatchObject({ hidden: true, byteLength: WASM_PAGE })
    memory.grow(1)
    expect(find()).toMatchObject({ hidden: true, byteLength: WASM_PAGE })
    expect(calls).toBe(before)
  })

  test('says which region each mapping and window shows, from where and how', () => {
    const guarded = new GuardedMemory({ initial: 1 })
    const region = HostRegion.allocate(6 * PAGE, { name: 'first of inspect' })
    const other = HostRegion.open(directory.file(Buffer.alloc(5 * PAGE), 'second of inspect'))
    const mapping = guarded.map(region, { byteOffset: PAGE, access: 'shared' })
    const window = guarded.window({ byteLength: 4 * PAGE, rest: 'zeros', strict: true })
    const find = () => {
      const found = inspect({ processMap: false })
      const named = id => found.regions[id]?.name
      const { mappings } = memoryOf(found, guarded)
      return mappings.map(it => ({ ...it, regionId: named(it.regionId) }))
    }
    const none = { strayWrites: 0, faults: 0, unacknowledgedFaults: 0, lastFault: null }
    const shownMapping = {
      kind: 'mapping',
      address: mapping.address,
      byteLength: 5 * PAGE,
      access: 'shared',
      regionId: 'first of inspect',
      byteOffset: PAGE,
      shownBytes: 5 * PAGE,
      rest: null,
      strict: false,
      ofThisThread: true,
      ...none,
      resident: null
    }
    const empty = {
      ...shownMapping,
      kind: 'window',
      address: window.address,
      byteLength: 4 * PAGE,
      access: 'readonly',
      regionId: undefined,
      byteOffset: null,
      shownBytes: 0,
      rest: 'zeros',
      strict: true
    }
    expect(find()).toEqual([shownMapping, empty])
    window.slide(other, 2 * PAGE)
    const slid = { ...empty, regionId: 'second of inspect', byteOffset: 2 * PAGE }
    expect(find()).toEqual([shownMapping, { ...slid, shownBytes: 3 * PAGE }])
    mapping.unmap()
    window.unmap()
    expect(find()).toEqual([])
    region.close()
    other.close()
  })

  test('says of regions what they are, who holds them, and that one was closed', () => {
    const guarded = new GuardedMemory({ initial: 1 })
    const region = HostRegion.allocate(4 * PAGE, { name: 'held by inspect' })
    const view = region.view(0, 3 * PAGE)
    const kept = region.bytes({ byteLength: PAGE })
    new Uint8Array(view)[0] = 1
    const find = () => inspect().regions.find(it => it.name === 'held by inspect')
    expect(find()).toMatchObject({
      state: 'open',
      backing: 'memfd',
      path: null,
      byteLength: 4 * PAGE,
      fileOffset: 0,
      heldBytes: PAGE,
      writable: true,
      sealed: false,
      holders: { views: 1, buffers: 1, byteLength: 4 * PAGE },
      faults: 0
    })
    const { ino, dev } = fs.fstatSync(region.duplicateFd(), { bigint: true })
    expect(find()).toMatchObject({ inode: String(ino), device: deviceText(dev) })
    const mapping = guarded.map(region)
    region.close()
    expect(find()).toMatchObject({ state: 'closed', byteLength: null, backing: 'memfd' })
    mapping.unmap()
    expect(find()).toBeUndefined()
    expect(kept.length).toBe(PAGE)
  })

  test('counts what is in memory, page by page where entries of the map are shared', () => {
    const guarded = new GuardedMemory({ initial: 1 })
    const region = HostRegion.copyFrom(Buffer.alloc(64 * PAGE, 1), { name: 'counted' })
    guarded.reserve(128 * PAGE)
    const at = WASM_PAGE
    // Side by side and in order: one entry to the kernel.
    const first = guarded.map(region, { at, byteLength: 32 * PAGE, access: 'private' })
    const options = { at: at + 32 * PAGE, byteOffset: 32 * PAGE, access: 'private' }
    const second = guarded.map(region, options)
    const bytes = new Uint8Array(guarded.buffer)
    for (let i = 0; i < 3; i++) bytes[first.address + 7 * i * PAGE] = 2
    for (let i = 0; i < 5; i++) bytes[second.address + 5 * i * PAGE] = 2
    const found = inspect({ pages: true })
    const memory = memoryOf(found, guarded)
    const entries = found.processMap.filter(
      it => it.start < memory.base + at + 64 * PAGE && it.end > memory.base + at
    )
    expect(entries.filter(it => it.inode !== '0')).toHaveLength(1)
    const own = memory.mappings.map(it => it.resident.ownBytes)
    expect(own).toEqual([3 * PAGE, 5 * PAGE])
    const runs = entries[0].pages.filter(it => it.kind === 'own')
    expect(runs.reduce((sum, it) => sum + it.count, 0)).toBe(8)
    expect(runs.map(it => it.from).slice(0, 4)).toEqual([0, 7, 14, 32])
    expect(memory.resident.ownBytes).toBeGreaterThanOrEqual(8 * PAGE)
    expect(found.resident.residentBytes).toBeGreaterThan(memory.resident.residentBytes)
    second.unmap()
    first.unmap()
    region.close()
  })

  test('counts faults as their mapping does', async () => {
    const found = await inChild(async ({ hostmap }) => {
      const { GuardedMemory, HostRegion, inspect } = hostmap
      const guarded = new GuardedMemory({ initial: 1 })
      const region = HostRegion.copyFrom(Buffer.alloc(65_536, 1))
      const mapping = guarded.map(region)
      if (inspect().memories.length !== 1) throw new Error('one memory is there')
      // A write from JavaScript, which V8 can't turn into a trap.
      new Uint8Array(guarded.buffer)[mapping.address + 5] = 9
      const [memory] = inspect({ processMap: false }).memories
      const { strayWrites, faults, lastFault } = memory.mappings[0]
      return {
        said: { strayWrites, faults, lastFault },
        has: {
          ...mapping,
          strayWrites: mapping.strayWrites,
          faults: mapping.faults,
          lastFault: mapping.lastFault
        }
      }
    })
    expect(found.said).toEqual(found.has)
    expect(found.said.strayWrites).toBe(1)
  })

  test('says which memories show a snapshot, and what a pool has', async () => {
    // (module (memory (export "memory") 1))
    const module = Buffer.from('AGFzbQEAAAAFAwEAAQcKAQZtZW1vcnkCAA==', 'base64')
    const init = (_, memory) => new Uint8Array(memory.buffer).fill(1)
    const pool = await InstancePool.create(module, { size: 2, max: 5, init })
    const leased = await pool.acquire()
    const found = inspect()
    const { snapshotId, ...said } = found.pools.at(-1)
    const { lastFailure: _, ...stats } = pool.stats()
    expect(said).toEqual({
      id: found.pools.length - 1,
      of: 'module',
      closed: false,
      lastFailure: null,
      ...stats
    })
    const snapshot = found.snapshots[snapshotId]
    expect(snapshot).toMatchObject({ byteLength: WASM_PAGE, backing: 'memfd', keptMappings: 0 })
    expect(snapshot.memories).toContain(memoryOf(found, leased.memory).id)
    leased.release()
    pool.close()
    expect(inspect({ processMap: false }).pools.at(-1).closed).toBe(true)
  })

  test.each([
    ['a getter', () => Object.defineProperty(new Error('no'), 'message', { get: called })],
    ['a toString', () => Object.assign(new Error('no'), { message: { toString: called } })],
    ['a Proxy', () => new Proxy({ message: 'no' }, { getOwnPropertyDescriptor: called })],
    ['no end', () => new Error('x'.repeat(200_000))]
  ])("a pool's last failure may be anything: its message with %s", async (_, make) => {
    const module = Buffer.from('AGFzbQEAAAAFAwEAAQcKAQZtZW1vcnkCAA==', 'base64')
    const value = () => new WebAssembly.Instance(new WebAssembly.Module(module))
    const pool = await InstancePool.create({
      make: () => {
        const { exports } = value()
        return { memory: exports.memory, value: exports }
      },
      after() {
        throw make()
      }
    })
    await pool.run(() => 0)
    expect(pool.stats().discarded).toBe(1)
    const before = calls
    const { lastFailure } = inspect({ processMap: false }).pools.at(-1)
    expect(calls).toBe(before)
    expect(lastFailure.length).toBeLessThanOrEqual(1000)
    pool.close()
  })

  test('is plain data, which goes through JSON and is what the command reads', () => {
    const found = inspect({ pages: true })
    const copy = JSON.parse(JSON.stringify(found))
    expect(copy).toEqual(found)
    expect(checked(copy)).toEqual(found)
  })

  test('keeps nothing alive: what was collected is not listed', async () => {
    const counts = await inChild(
      async ({ hostmap, collect }) => {
        const { GuardedMemory, HostRegion, InstancePool, inspect } = hostmap
        const module = Buffer.from('AGFzbQEAAAAFAwEAAQcKAQZtZW1vcnkCAA==', 'base64')
        const count = () => {
          const { memories, regions, snapshots, pools } = inspect()
          return [memories, regions, snapshots, pools].map(it => it.length)
        }
        const make = async () => {
          const guarded = new GuardedMemory({ initial: 1 })
          const region = HostRegion.allocate(65_536)
          guarded.map(region)
          const snapshot = guarded.snapshot()
          const pool = await InstancePool.create(module)
          const counted = count()
          return { counted, held: [guarded, region, snapshot, pool].length }
        }
        const { counted } = await make()
        await collect(10)
        return [counted, count()]
      },
      { flags: ['--expose-gc'] }
    )
    expect(counts).toEqual([
      [2, 1, 2, 1],
      [0, 0, 0, 0]
    ])
  })

  test.each([
    ['processMap', 1, 'ERR_INVALID_ARG_TYPE'],
    ['pages', 'yes', 'ERR_INVALID_ARG_TYPE'],
    ['page', true, 'ERR_INVALID_ARG_VALUE']
  ])('refuses the option %s: %p', (name, value, code) => {
    expectError(
      thrownBy(() => inspect({ [name]: value })),
      { code, says: name }
    )
  })
})

describe('allowInspect()', () => {
  const folder = () => fs.mkdtempSync(path.join(directory.path, 'allow-'))

  async function ask(file) {
    const socket = net.connect(file)
    let said = ''
    for await (const chunk of socket) said += chunk
    return JSON.parse(said)
  }

  test('answers who can enter a folder of this user alone, until it is closed', async () => {
    const access = await allowInspect({ directory: path.join(folder(), 'own') })
    const { mode } = fs.statSync(path.dirname(access.path))
    expect(mode & 0o777).toBe(0o700)
    const said = await ask(access.path)
    expect(checked(said)).toMatchObject({ pid: process.pid, processMap: null })
    access.close()
    access.close()
    expect(fs.existsSync(access.path)).toBe(false)
  })

  test('refuses a folder that others can enter, a link, a file, and too long a path', async () => {
    const open = path.join(folder(), 'open')
    fs.mkdirSync(open)
    fs.chmodSync(open, 0o750)
    const link = path.join(folder(), 'link')
    fs.symlinkSync(folder(), link)
    const shared = folder()
    fs.chmodSync(shared, 0o777)
    const long = path.join(folder(), 'x'.repeat(100))
    const rows = [
      [open, 'others may enter it (mode 0750)'],
      [link, 'it is no folder'],
      [directory.file(Buffer.alloc(1)), 'it is no folder'],
      [path.join(shared, 'own'), `anybody may rename what is in ${shared}`],
      [long, 'longer than the 107 bytes'],
      [path.join(folder(), 'no', 'parent'), 'ENOENT']
    ]
    for (const [given, message] of rows) {
      expectError(await thrownBy(() => allowInspect({ directory: given })), {
        code: 'ERR_HOSTMAP_OPEN_FAILED',
        says: message
      })
    }
  })

  test('removes the sockets of processes that are gone, and no others', async () => {
    const own = path.join(folder(), 'own')
    const first = await allowInspect({ directory: own })
    const name = `wasm-hostmap-1-0-${'0'.repeat(16)}.sock`
    const other = net.createServer().listen(path.join(own, name)).unref()
    await once(other, 'listening')
    const stale = path.join(own, `wasm-hostmap-1-0-${'1'.repeat(16)}.sock`)
    fs.writeFileSync(path.join(own, 'notes'), '')
    // What is left when a process ends without a word.
    await inChild(
      ({ require, args }) =>
        new Promise(resolve => {
          require('node:net')
            .createServer()
            .listen(args, () => resolve())
            .unref()
          process.on('exit', () => require('node:process').reallyExit(0))
        }),
      { args: stale }
    )
    if (!fs.existsSync(stale)) fs.writeFileSync(stale, '')
    const young = path.join(own, `wasm-hostmap-1-0-${'2'.repeat(16)}.sock`)
    fs.writeFileSync(young, '')
    for (const file of [stale, first.path, path.join(own, name)]) fs.utimesSync(file, 0, 0)
    const second = await allowInspect({ directory: own })
    expect(fs.readdirSync(own).sort()).toEqual(
      ['notes', name, ...[first.path, second.path, young].map(it => path.basename(it))].sort()
    )
    first.close()
    second.close()
    other.close()
  })

  /** What a call of `object` gives when one of its calls fails; `went`: whether one did. */
  async function failing(object, name, before, call) {
    const { [name]: original } = object
    let left = before
    let went = false
    const spy = jest.spyOn(object, name).mockImplementation(function (...args) {
      if (left-- !== 0) return original.apply(this, args)
      went = true
      const error = Object.assign(new Error(`EIO: ${name}`), { code: 'EIO' })
      if (name !== 'listen') throw error
      // As a server tells of it.
      queueMicrotask(() => this.emit('error', error))
      return this
    })
    try {
      return { access: await call(), went }
    } catch (error) {
      return { error, went }
    } finally {
      spy.mockRestore()
    }
  }

  const STALE = `wasm-hostmap-1-0-${'4'.repeat(16)}.sock`
  const CALLS = ['mkdirSync', 'lstatSync', 'realpathSync', 'statSync', 'readdirSync', 'rmSync']

  test.each([...CALLS.map(name => [name, fs]), ['connect', net], ['listen', net.Server.prototype]])(
    'where %s fails, nothing is left, and nothing listens',
    async (name, object) => {
      const outcomes = []
      for (const isThere of [false, true]) {
        for (let before = 0; ; before++) {
          const own = path.join(folder(), 'own')
          if (isThere) {
            fs.mkdirSync(own, { mode: 0o700 })
            fs.writeFileSync(path.join(own, STALE), '')
            fs.utimesSync(path.join(own, STALE), 0, 0)
          }
          const listeners = process.listenerCount('exit')
          const { access, error, went } = await failing(object, name, before, () =>
            allowInspect({ directory: own })
          )
          if (access !== undefined) {
            expect((await ask(access.path)).pid).toBe(process.pid)
            access.close()
          } else {
            expectError(error, { code: 'ERR_HOSTMAP_OPEN_FAILED', says: 'EIO' })
            expect(error.cause.code).toBe('EIO')
          }
          expect(process.listenerCount('exit')).toBe(listeners)
          const left = fs.existsSync(own) ? fs.readdirSync(own) : null
          expect(left?.filter(it => it !== STALE) ?? []).toEqual([])
          if (error !== undefined && !isThere) expect(left).toBeNull()
          if (!went) break
          outcomes.push(error === undefined)
        }
      }
      expect(outcomes.length).toBeGreaterThan(0)
    }
  )

  test('goes on when connections can not be accepted', async () => {
    const servers = []
    const { createServer } = net
    const spy = jest.spyOn(net, 'createServer').mockImplementation((...args) => {
      servers.push(createServer(...args))
      return servers.at(-1)
    })
    const access = await allowInspect({ directory: path.join(folder(), 'own') })
    spy.mockRestore()
    // As Node.js tells of an `accept` for which there is no memory, say.
    for (let time = 0; time < 3; time++) servers[0].emit('error', new Error('accept ENOMEM'))
    expect((await ask(access.path)).pid).toBe(process.pid)
    access.close()
  })

  test('is in the temporary folder where the folder of the session is not there', async () => {
    const saved = process.env.XDG_RUNTIME_DIR
    process.env.XDG_RUNTIME_DIR = path.join(directory.path, 'nowhere')
    try {
      const access = await allowInspect()
      expect(path.dirname(access.path)).toBe(
        path.join(os.tmpdir(), `wasm-hostmap-${process.geteuid()}`)
      )
      access.close()
    } finally {
      if (saved === undefined) delete process.env.XDG_RUNTIME_DIR
      else process.env.XDG_RUNTIME_DIR = saved
    }
  })

  test('does not keep the process running', async () => {
    const file = await inChild(
      async ({ hostmap, args }) => (await hostmap.allowInspect({ directory: args })).path,
      { args: path.join(folder(), 'own') }
    )
    expect(fs.existsSync(file)).toBe(false)
  })
})

describe('npx wasm-hostmap inspect', () => {
  let open
  beforeAll(async () => {
    open = await inspected(directory, '--allow')
  })
  afterAll(() => open.end())

  test('says what the process knows, if its thread agreed to it', async () => {
    const { status, stdout, stderr } = await run([String(open.pid), '--json'])
    expect([status, stderr]).toEqual([0, ''])
    const found = checked(JSON.parse(stdout))
    expect(found.threads).toEqual([0])
    const memory = found.memories.find(it => it.byteLength === open.byteLength)
    expect(memory).toMatchObject({ knownBy: 'object', maximumByteLength: 256 * MiB })
    expect(memory.mappings.map(it => [it.kind, it.strict])).toEqual([
      ['mapping', false],
      ['mapping', false],
      ['window', true]
    ])
    expect(memory.resident.ownBytes).toBeGreaterThanOrEqual(5 * open.pageBytes)
    expect(found.pools).toHaveLength(1)
    expect(found.snapshots).toHaveLength(2)
    // A snapshot's pages are no region's.
    const inodes = new Set(found.snapshots.map(it => it.inode))
    expect(found.regions.filter(it => inodes.has(it.inode))).toEqual([])
    // Nothing is said twice.
    const bases = found.memories.map(it => it.base)
    expect(new Set(bases).size).toBe(bases.length)
  })

  test.each([
    [[], 2, 'Which process? Give its id'],
    [['zero'], 2, "received 'zero'"],
    [['1', '2'], 2, 'takes one process'],
    [['1', '--file', 'x'], 2, 'and not both'],
    [['--file', 'x', '--watch'], 2, 'does not change'],
    [['1', '--watch', '--html', 'x'], 2, 'leave out --html'],
    [
      ['1', '--interval', 'soon'],
      2,
      "--interval takes seconds, from 0.1 to 86400; received 'soon'"
    ],
    [['--file', '/nowhere/at/all.json'], 1, 'ENOENT']
  ])('refuses %j', async (args, status, message) => {
    const { options } = command
    const write = jest.spyOn(process.stderr, 'write').mockReturnValue(true)
    try {
      expect(await command.run(parseArgs({ args, options, allowPositionals: true }))).toBe(status)
      expect(write.mock.calls.flat().join('')).toContain(message)
    } finally {
      write.mockRestore()
    }
  })

  test('says what is wrong with a file in words that can do nothing to the terminal', async () => {
    const file = directory.file(Buffer.from('x\u001b[31m'))
    const write = jest.spyOn(process.stderr, 'write').mockReturnValue(true)
    try {
      expect(await command.run({ values: { file }, positionals: [] })).toBe(1)
      expect(write.mock.calls.flat().join('')).toContain('"x?[31m" is not valid JSON')
    } finally {
      write.mockRestore()
    }
  })

  test("asks no socket that another user may have put into the kernel's list", async () => {
    const own = fs.mkdtempSync(path.join(directory.path, 'asked-'))
    const access = await allowInspect({ directory: path.join(own, 'own') })
    const line = fs
      .readFileSync('/proc/net/unix', 'utf8')
      .split('\n')
      .find(it => it.endsWith(access.path))
    const inode = line.trim().split(/ +/)[6]
    const shared = fs.mkdtempSync('/tmp/a-')
    const forged = path.join(shared, `wasm-hostmap-1-0-${'3'.repeat(16)}.sock`)
    let asked = 0
    const stranger = net.createServer(socket => {
      asked++
      socket.end('null')
    })
    fs.chmodSync(shared, 0o755)
    stranger.listen(forged).unref()
    // A line of the list, by the name of a socket.
    const forger = net.createServer().listen(`\0\n0: 2 0 00010000 1 1 ${inode} ${forged}`)
    forger.unref()
    try {
      const { answers, notes } = await askThreads(process.pid, 100)
      expect(answers.map(it => it.pid)).toEqual([process.pid])
      expect(asked).toBe(0)
      // The forged line, and from Node.js 22 on the stranger's own, which is this process's, too.
      expect(new Set(notes.map(it => it.replace(/.*(other users may put one).*/, '$1')))).toEqual(
        new Set(['other users may put one'])
      )
    } finally {
      for (const it of [access, forger, stranger]) it.close()
      fs.rmSync(shared, { recursive: true })
    }
  })
})

describe('what was saved', () => {
  let saved
  beforeAll(() => {
    saved = JSON.stringify(inspect({ pages: true }))
  })
  const good = () => JSON.parse(saved)
  const change = what => {
    const found = good()
    what(found)
    return found
  }

  test.each([
    ['no object', null, 'it is not what inspect()'],
    ['another format', { format: 'x' }, 'it is not what inspect()'],
    [
      'a version that is no number',
      { format: 'wasm-hostmap.inspection', version: { toString: 1 } },
      'has version {"toString":1}'
    ],
    ['a later version', { format: 'wasm-hostmap.inspection', version: 2 }, 'has version 2']
  ])('%s is refused', (_, value, message) => {
    expect(() => checked(value)).toThrow(message)
  })

  test.each([
    ['a text for a number', it => (it.pid = '1'), 'inspection.pid'],
    ['a time that is none', it => (it.takenAt = '\u001b[2J'), 'inspection.takenAt'],
    [
      'an access that there is not',
      it => (it.processMap[3].access = '<b>'),
      'processMap[3].access'
    ],
    ['a page size of 0', it => (it.pageBytes = 0), 'inspection.pageBytes'],
    ['a negative size', it => (it.processMap[0].residentBytes = -1), 'processMap[0].residentBytes'],
    ['entries out of order', it => it.processMap.reverse(), 'do not belong together'],
    ['a list that is none', it => (it.pools = {}), 'inspection.pools']
  ])('%s is refused, and where it is is said', (_, what, message) => {
    expect(() => checked(change(what))).toThrow(message)
  })

  test('what it has beside that is dropped', () => {
    const found = good()
    const more = structuredClone(found)
    more.processMap[0].more = '<script>'
    expect(checked(more)).toEqual(found)
  })
})

describe('shapes', () => {
  const at = 0x7f00_0000_0000
  const line = (start, end, access, path = '') =>
    `${start.toString(16)}-${end.toString(16)} ${access} 00000000 00:00 ${path === '' ? 0 : 7} ${path}`
  const find = lines => memoriesIn(parseMap(lines.join('\n')))

  test('memories with 8 GiB each, side by side', () => {
    const lines = [0, 1, 2].flatMap(i => {
      const base = at + 8 * GiB * i
      return [
        line(base, base + (i + 1) * WASM_PAGE, 'rw-p'),
        line(base + (i + 1) * WASM_PAGE, base + 8 * GiB, '---p')
      ]
    })
    expect(find(lines).map(it => [it.base, it.byteLength, it.address, it.reservation])).toEqual(
      [0, 1, 2].map(i => {
        const base = at + 8 * GiB * i
        return [base, (i + 1) * WASM_PAGE, 'i32', { start: base, end: base + 8 * GiB }]
      })
    )
  })

  test('memories with 2 GiB below them too', () => {
    const lines = [line(at - 2 * GiB, at, '---p')]
    for (const i of [0, 1]) {
      const base = at + 10 * GiB * i
      lines.push(line(base, base + WASM_PAGE, 'rw-p'))
      lines.push(line(base + WASM_PAGE, base + (i === 1 ? 8 : 10) * GiB, '---p'))
    }
    expect(find(lines).map(it => it.reservation)).toEqual(
      [0, 1].map(i => ({ start: at + (10 * i - 2) * GiB, end: at + (10 * i + 8) * GiB }))
    )
  })

  test('a memory of more than 4 GiB is a 64-bit one; of less, that is not known', () => {
    const lines = bytes => [line(at, at + bytes, 'rw-p'), line(at + bytes, at + 16 * GiB, '---p')]
    expect(find(lines(6 * GiB))[0].address).toBe('i64')
    expect(find(lines(WASM_PAGE))[0].address).toBe(null)
  })

  test('no memory: heaps, arenas, code, and what has less behind it', () => {
    const rows = [
      [line(at, at + WASM_PAGE, 'rw-p'), line(at + WASM_PAGE, at + 64 * MiB, '---p')],
      [line(at, at + WASM_PAGE, 'rwxp'), line(at + WASM_PAGE, at + 16 * GiB, '---p')],
      [line(at, at + 4 * KiB, 'rw-p'), line(at + 4 * KiB, at + 16 * GiB, '---p')],
      [line(at, at + WASM_PAGE, 'rw-p'), line(at + 2 * WASM_PAGE, at + 16 * GiB, '---p')]
    ]
    for (const lines of rows) expect(find(lines)).toEqual([])
  })

  test('what ends right below a memory is no part of it', () => {
    for (const behind of [8, 10, 16, 18]) {
      const lines = [
        line(at - 12 * MiB, at - 9 * MiB, 'r--p', '/data'),
        line(at - 8 * MiB, at, 'r--p'),
        line(at, at + WASM_PAGE, 'rw-p'),
        line(at + WASM_PAGE, at + behind * GiB, '---p')
      ]
      expect(find(lines).map(it => [it.base, it.byteLength])).toEqual([[at, WASM_PAGE]])
    }
  })

  test('a window whose end is inaccessible does not end its memory', () => {
    const pages = [1, 2, 3].map(i => at + i * WASM_PAGE)
    const lines = [
      line(at, pages[0], 'rw-p'),
      line(pages[0], pages[1], '---p', '/memfd:shown (deleted)'),
      line(pages[1], pages[2], 'rw-p'),
      line(pages[2], at + 8 * GiB, '---p')
    ]
    expect(find(lines)[0].byteLength).toBe(3 * WASM_PAGE)
  })
})

describe('merged', () => {
  test('what is right below a known memory, and looks like its beginning, is no memory', () => {
    const guarded = new GuardedMemory({ initial: 16 })
    const found = inspect()
    const known = memoryOf(found, guarded)
    const shapeFrom = base => ({
      ...known,
      base,
      byteLength: known.base + known.byteLength - base,
      knownBy: 'shape',
      mappings: []
    })
    const basesOf = memories => {
      const outside = { memories, regions: [], processMap: found.processMap }
      return merged(outside, [found], undefined).memories.map(it => it.base)
    }
    const bases = found.memories.map(it => it.base).sort((a, b) => a - b)
    expect(basesOf([shapeFrom(known.base - 8 * MiB)])).toEqual(bases)
    expect(basesOf([shapeFrom(known.base)])).toEqual(bases)
    const other = { ...shapeFrom(known.base - 8 * MiB), byteLength: MiB }
    expect(basesOf([other])).toContain(other.base)
  })
})

describe('bars', () => {
  const memory = (byteLength, mappings = []) => ({
    base: 0x7f00_0000_0000,
    byteLength,
    maximumByteLength: 4 * GiB,
    reservation: { start: 0x7f00_0000_0000 - 2 * GiB, end: 0x7f00_0000_0000 + 8 * GiB },
    mappings
  })
  const widthOf = cells =>
    cells.reduce((sum, { words }) => sum + (words === null ? 1 : words.length + 4), 0)

  test('of any memory fit the columns, and have all of it in order', () => {
    const some = fc.record({
      wasmPages: fc.integer({ min: 0, max: 65_536 }),
      borders: fc.uniqueArray(fc.integer({ min: 0, max: 65_535 }), { maxLength: 60 }),
      columns: fc.integer({ min: 24, max: 300 }),
      fill: fc.constantFrom(0, 0.001, 1)
    })
    fc.assert(
      fc.property(some, ({ wasmPages, borders, columns, fill }) => {
        const inside = borders.filter(it => it < wasmPages).sort((a, b) => a - b)
        const mappings = []
        for (let i = 0; i + 1 < inside.length; i += 2) {
          const address = inside[i] * WASM_PAGE
          mappings.push({ address, byteLength: inside[i + 1] * WASM_PAGE - address, regionId: i })
        }
        const fillOf = start => (start % (7 * WASM_PAGE) === 0 ? fill : 0)
        const { cells } = barOf(memory(wasmPages * WASM_PAGE, mappings), columns, fillOf, PAGE)
        const inOrder = cells.every((it, i) => i === 0 || it.start >= cells[i - 1].start)
        return inOrder && widthOf(cells) <= columns
      }),
      { numRuns: 200 }
    )
  })

  test('show each of few mappings, however small, and many together', () => {
    const small = [1, 500, 9000].map((page, i) => ({
      address: page * WASM_PAGE,
      byteLength: PAGE,
      regionId: i
    }))
    const few = barOf(memory(GiB, small), 80, () => 0.5, PAGE)
    const shown = new Set(few.cells.map(it => it.part.mapping?.regionId))
    expect([...shown]).toEqual(expect.arrayContaining([0, 1, 2]))
    const many = Array.from({ length: 1000 }, (_, i) => ({
      address: 2 * i * WASM_PAGE,
      byteLength: WASM_PAGE,
      regionId: i
    }))
    const crowded = barOf(memory(GiB, many), 80, () => 0.5, PAGE)
    expect(crowded.cellBytes).toBe(null)
    expect(widthOf(crowded.cells)).toBeLessThanOrEqual(80)
  })

  test('are shortened where nothing is in memory, and say by how much', () => {
    const busy = start => (start < MiB ? 1 : 0)
    const { cells } = barOf(memory(GiB), 80, busy, PAGE)
    expect(cells.filter(it => it.words !== null).map(it => it.words)).toEqual([
      '2 GiB',
      expect.stringMatching(/ MiB$/),
      '3 GiB',
      '4 GiB'
    ])
    expect(cells.filter(it => it.words === null && it.fill === 1).length).toBeGreaterThan(8)
  })
})

test('drawings and pages are made of an inspection without the map of the process, too', () => {
  const guarded = new GuardedMemory({ initial: 1 })
  const found = inspect({ processMap: false })
  const text = drawing(found, { columns: 80, colour: false, unicode: false, all: true })
  expect(text).toContain(`at 0x${baseOf(guarded).toString(16)}`)
  expect(pageOf(found)).toContain('</html>')
})
