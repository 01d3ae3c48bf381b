'use strict'

// What takes processes of its own: `wasm-hostmap inspect` in all its forms, and threads and workers
// that are looked at.

const { execFile, spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { runInNewContext } = require('node:vm')
const { limits } = require('..')
const { barOf } = require('../cli/inspect/bar')
const { checked } = require('../cli/inspect/saved')
const { inChild } = require('./support/child')
const { temporaryDirectory } = require('./support/files')
const { MAIN, inspected, run } = require('./support/inspecting')
const { skipUnless } = require('./support/skip')
const { MiB } = require('./support/wasm')

const directory = temporaryDirectory()

describe('inspect()', () => {
  test('lists the memories of other threads by the mapping table, and those regions by name', async () => {
    const found = await inChild(async ({ require }) => {
      const { Worker } = require('node:worker_threads')
      const { once } = require('node:events')
      const { GuardedMemory, HostRegion, inspect } = require('../..')
      const shared = new GuardedMemory({ initial: 1, maximum: 64, shared: true })
      const body = `
        const { parentPort, workerData } = require('node:worker_threads')
        const { GuardedMemory, HostRegion, inspect } = require(${JSON.stringify(require.resolve('../..'))})
        const own = new GuardedMemory({ initial: 3 })
        const region = HostRegion.allocate(65536, { name: 'of the worker' })
        own.map(region)
        GuardedMemory.from(workerData).map(region)
        const { memories, regions, threads } = inspect()
        parentPort.postMessage({ memories, regions, threads })
        parentPort.once('message', () => parentPort.close())
        globalThis.kept = [own, region]`
      const worker = new Worker(body, { eval: true, workerData: shared.memory })
      const [theirs] = await once(worker, 'message')
      const mine = inspect()
      worker.postMessage('done')
      await once(worker, 'exit')
      return { mine: { ...mine, processMap: null }, theirs, name: HostRegion.name }
    })
    const { mine, theirs } = found
    expect([mine.threads, theirs.threads]).toEqual([[0], [1]])
    const bases = list => list.map(it => it.base)
    expect(bases(mine.memories)).toEqual(bases(theirs.memories))
    const known = list => list.memories.map(it => it.knownBy).sort()
    expect(known(mine)).toEqual(['object', 'table'])
    expect(known(theirs)).toEqual(['object', 'object'])
    expect(theirs.regions.map(it => [it.name, it.state])).toEqual([['of the worker', 'open']])
    expect(mine.regions.map(it => [it.name, it.state])).toEqual([['of the worker', 'elsewhere']])
    // Three pages and what it grew by for the mapping, in both.
    const table = mine.memories.find(it => it.knownBy === 'table')
    const object = theirs.memories.find(it => it.base === table.base)
    expect(table.byteLength).toBe(object.byteLength)
    expect(mine.memories.flatMap(it => it.mappings.map(one => one.ofThisThread))).toEqual([
      false,
      false
    ])
    expect(theirs.memories.flatMap(it => it.mappings.map(one => one.ofThisThread))).toEqual([
      true,
      true
    ])
  })

  test('leaves no descriptor and no entry of the map behind', async () => {
    const [before, after] = await inChild(
      async ({ hostmap, collect, processMap, openFiles }) => {
        const { GuardedMemory, HostRegion, inspect } = hostmap
        const guarded = new GuardedMemory({ initial: 1 })
        const region = HostRegion.allocate(65_536)
        guarded.map(region)
        const snapshot = guarded.snapshot()
        const ours = () => [
          Object.values(openFiles()).length,
          processMap().filter(it => it.inode !== 0).length
        ]
        inspect({ pages: true })
        await collect()
        const before = ours()
        for (let i = 0; i < 20; i++) inspect({ pages: i % 2 === 0, processMap: i % 3 > 0 })
        const after = ours()
        snapshot.close()
        return [before, after]
      },
      { flags: ['--expose-gc'] }
    )
    expect(after).toEqual(before)
  })
})

describe('allowInspect()', () => {
  test('in a worker of node:cluster, the worker listens and not its primary', async () => {
    const [worker, primary] = await inChild(
      async ({ require, args }) => {
        const { readFileSync, readdirSync, readlinkSync } = require('node:fs')
        const { once } = require('node:events')
        const cluster = require('node:cluster')
        cluster.setupPrimary({ exec: args.file, args: [args.own] })
        const forked = cluster.fork()
        const [file] = await once(forked, 'message')
        const line = readFileSync('/proc/net/unix', 'utf8')
          .split('\n')
          .find(it => it.endsWith(file))
        const socket = `socket:[${line.trim().split(/ +/)[6]}]`
        const has = pid =>
          readdirSync(`/proc/${pid}/fd`).some(fd => {
            try {
              return readlinkSync(`/proc/${pid}/fd/${fd}`) === socket
            } catch {
              return false
            }
          })
        const found = [has(forked.process.pid), has('self')]
        forked.kill()
        await once(forked, 'exit')
        return found
      },
      {
        args: {
          own: path.join(directory.path, 'own'),
          file: path.join(__dirname, 'support', 'allowed.js')
        }
      }
    )
    expect([worker, primary]).toEqual([true, false])
  })
})

describe('npx wasm-hostmap inspect', () => {
  let silent, open
  beforeAll(async () => {
    ;[silent, open] = await Promise.all([inspected(directory), inspected(directory, '--allow')])
  })
  afterAll(() => Promise.all([silent.end(), open.end()]))

  const { trapHandler } = limits().wasm
  skipUnless('needs guards', trapHandler).test(
    'finds memories and files from outside by what V8 reserves',
    async () => {
      const { status, stdout, stderr } = await run([String(silent.pid), '--json'])
      expect([status, stderr]).toEqual([0, ''])
      const found = checked(JSON.parse(stdout))
      expect(found).toMatchObject({ pid: silent.pid, threads: [], pools: [], snapshots: [] })
      const memory = found.memories.find(it => it.byteLength === silent.byteLength)
      expect(memory).toMatchObject({ address: 'i32', knownBy: 'shape', maximumByteLength: null })
      const named = memory.mappings.map(it => [
        it.address,
        it.access,
        found.regions[it.regionId].name,
        it.kind
      ])
      expect(named).toEqual([
        [silent.mapping, 'readonly', silent.regionName, null],
        [silent.own, 'private', silent.fileName, null],
        [silent.window, 'readonly', silent.fileName, null]
      ])
      expect(memory.mappings[1].resident.ownBytes).toBe(2 * silent.pageBytes)
      const region = found.regions.find(it => it.name === silent.regionName)
      expect(region).toMatchObject({ backing: 'memfd', byteLength: 8 * MiB, heldBytes: 8 * MiB })
      // Of memories that were never restored, and of those of the pool, which were.
      expect(found.memories.length).toBeGreaterThanOrEqual(2)
    }
  )

  test('puts together what several threads say', async () => {
    const both = await inspected(directory, '--allow', '--worker')
    const { status, stdout, stderr } = await run([String(both.pid), '--json'])
    await both.end()
    expect([status, stderr]).toEqual([0, ''])
    const found = checked(JSON.parse(stdout))
    expect(found.threads).toEqual([0, 1])
    // One region, which each thread maps into a memory of its own.
    const same = found.regions.filter(it => it.name === both.regionName)
    expect(same).toHaveLength(1)
    const showing = found.memories.filter(memory =>
      memory.mappings.some(it => it.regionId === same[0].id)
    )
    expect(showing).toHaveLength(2)
    for (const { knownBy, mappings } of showing) {
      expect(knownBy).toBe('object')
      expect(mappings.every(it => it.ofThisThread)).toBe(true)
    }
  })

  test('draws it, with names that can do nothing to the terminal', async () => {
    const { status, stdout } = await run([String(open.pid)])
    expect(status).toBe(0)
    expect(stdout).toMatch(/^memory \d+ at 0x[0-9a-f]+$/m)
    expect(stdout).toMatch(/^ +A +0x100000 +8 MiB readonly data <img/m)
    expect(stdout).toMatch(/map +\|.*A.*B.*\|/)
    expect(stdout).toContain('pools')
    // eslint-disable-next-line no-control-regex
    expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029]/)
    const longest = Math.max(
      ...stdout
        .split('\n')
        .filter(it => it.includes('|'))
        .map(it => [...it].length)
    )
    expect(longest).toBeLessThanOrEqual(100)
    const ascii = await run([String(open.pid), '--ascii'])
    expect(
      ascii.stdout
        .split('\n')
        .filter(it => it.includes('|'))
        .join('')
    ).toMatch(/^[ -~]*$/)
  })

  test('writes a page of one file, and draws what was saved', async () => {
    const html = path.join(directory.path, 'page.html')
    const saved = path.join(directory.path, 'saved.json')
    const { status, stdout } = await run([String(open.pid), '--json', '--html', html])
    expect(status).toBe(0)
    expect(fs.statSync(html).mode & 0o777).toBe(0o600)
    fs.writeFileSync(saved, stdout)
    const again = path.join(directory.path, 'again.html')
    const page = await run(['--file', saved, '--html', again])
    expect(page).toEqual({ status: 0, stdout: `${again}\n`, stderr: '' })
    expect(fs.readFileSync(again, 'utf8')).toBe(fs.readFileSync(html, 'utf8'))
    const text = fs.readFileSync(html, 'utf8')
    expect(text).not.toContain('<img')
    expect(text.match(/<script/g)).toHaveLength(2)
    expect(text).not.toMatch(/https?:\/\//)
  })

  test('--watch draws it anew until it is interrupted, or the process ends', async () => {
    const watching = await inspected(directory)
    const env = { ...process.env, NODE_OPTIONS: '' }
    const start = pid =>
      spawn(process.execPath, [MAIN, 'inspect', '--watch', '--interval', '0.1', String(pid)], {
        env,
        stdio: ['ignore', 'pipe', 'inherit']
      })
    const twice = async child => {
      let said = ''
      for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
        said += chunk
        if (said.match(/^Process \d+, /gm)?.length >= 2) return
      }
      throw new Error(`It ended: ${said}`)
    }
    const interrupted = start(open.pid)
    await twice(interrupted)
    interrupted.kill('SIGINT')
    expect(await once(interrupted, 'exit')).toEqual([0, null])
    const left = start(watching.pid)
    await twice(left)
    left.stdout.resume()
    // It may end before the other one is known to have ended.
    const leftEnded = once(left, 'exit')
    await watching.end()
    expect(await leftEnded).toEqual([0, null])
  })

  test('ends with status 2 where it is not used as it can be', async () => {
    const found = await run(['1', '--timeout', '-1'])
    expect([found.status, found.stdout]).toEqual([2, ''])
    expect(found.stderr).toContain('Usage: npx wasm-hostmap inspect PID')
  })

  test('says that a process is gone', async () => {
    const gone = spawn(process.execPath, ['-e', '0'])
    await once(gone, 'exit')
    const { status, stderr } = await run([String(gone.pid)])
    expect(status).toBe(1)
    expect(stderr).toBe(
      `There is no process ${gone.pid}: it has ended, or is in another container's PID namespace.\n`
    )
  })

  skipUnless('needs root, to be another user', process.geteuid() === 0).test(
    'says whose process it is, and who may look',
    async () => {
      // The repository may be where no other user gets.
      const folder = fs.mkdtempSync('/tmp/wasm-hostmap-cli-')
      fs.chmodSync(folder, 0o755)
      for (const part of ['cli', 'lib', 'package.json'])
        fs.cpSync(path.join(__dirname, '..', part), path.join(folder, part), { recursive: true })
      const main = path.join(folder, 'cli', 'main.js')
      const spawning = { uid: 65534, gid: 65534, cwd: '/', env: { PATH: process.env.PATH } }
      const found = await new Promise(resolve =>
        execFile(
          process.execPath,
          [main, 'inspect', String(open.pid)],
          spawning,
          (error, _, stderr) => resolve({ status: error?.code, stderr })
        )
      )
      fs.rmSync(folder, { recursive: true })
      expect(found.status).toBe(1)
      expect(found.stderr).toBe(
        `Process ${open.pid} belongs to user 0, and this is user 65534: run this as user 0, or as root.\n`
      )
    }
  )
})

test('a process may have more mappings than a call takes arguments', () => {
  const count = 200_000
  const map = Array.from({ length: count }, (_, i) => ({
    start: i * 8192,
    end: i * 8192 + 4096,
    access: 'rw-p',
    inode: '0',
    path: ''
  }))
  const file = path.join(__dirname, '..', 'cli', 'inspect', 'page', 'model.client.js')
  const source = `${fs.readFileSync(file, 'utf8')}; new Model(data).whole`
  const kinds = map.map(() => 'anonymous')
  const none = { memories: [], regions: [], snapshots: [], pools: [] }
  const data = { ...none, pageBytes: 4096, processMap: map, kinds }
  expect(runInNewContext(source, { data })).toEqual({ start: 0, end: 2 ** 47 })

  const mappings = map.map(({ start }) => ({ address: start, byteLength: 4096, regionId: 0 }))
  const memory = { base: 0, byteLength: count * 8192, maximumByteLength: null, reservation: null }
  const { cells } = barOf({ ...memory, mappings }, 80, () => 1, 4096)
  expect(cells.length).toBeLessThanOrEqual(80)
})
