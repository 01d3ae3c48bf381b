'use strict'

// Handing regions and snapshots to other threads and processes: a token stands for just what was
// shared, for one receiver, or it is an error.

const { execFileSync, fork, spawn, spawnSync } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const threads = require('node:worker_threads')
const util = require('node:util')
const { GuardedMemory, HostRegion, InstancePool, Snapshot } = require('..')
const { nextWarning } = require('./support/warnings')
const { thrownBy, expectError } = require('./support/errors')
const { temporaryDirectory } = require('./support/files')
const { TestWorker } = require('./support/worker')
const { inChild } = require('./support/child')
const { countOpen } = require('./support/procfs')
const { assemble } = require('./support/wasm')
const { NOBODY, canBeOthers } = require('./support/other-user')
const { skipUnless } = require('./support/skip')
const { reuse } = require('./share/reuse')

const RECEIVE = path.join(__dirname, 'share/receive.js')
const directory = temporaryDirectory()
const open = []
const keep = thing => {
  open.push(thing)
  return thing
}
afterEach(() => {
  for (const thing of open.splice(0)) thing.close()
})

const regionOf = (text, options) => keep(HostRegion.copyFrom(Buffer.from(text), options))
const textOf = region => Buffer.from(region.view()).toString()
const receiveIn = (token, options) =>
  JSON.parse(
    execFileSync(process.execPath, [RECEIVE, JSON.stringify(token)], {
      encoding: 'utf8',
      ...options
    })
  )

function revoked() {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

/** Waits for what another process brings about. */
async function until(isTrue) {
  for (let i = 0; !isTrue(); i++) {
    if (i === 500) throw new Error(`not so in time: ${isTrue}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

describe('a token', () => {
  test('is a plain object, the same after JSON and after structuredClone', () => {
    const token = regionOf('plain').share()
    expect(JSON.parse(JSON.stringify(token))).toEqual(token)
    expect(structuredClone(token)).toEqual(token)
    expect(token).toMatchObject({
      pid: process.pid,
      access: 'shared',
      byteLength: 5,
      name: 'region'
    })
    expect(HostRegion.unshare(token)).toBe(true)
  })

  test('gives the same pages in the thread that shared', () => {
    const region = regionOf('same pages')
    const received = keep(HostRegion.receive(region.share()))
    Buffer.from(received.view()).write('SAME')
    expect(textOf(region)).toBe('SAME pages')
    expect(received).toMatchObject({ name: 'region', backing: 'memfd', writable: true })
  })

  test.each([
    [
      'a part of a memfd',
      () => HostRegion.fromFd(regionOf('-'.repeat(9000)).duplicateFd(), { byteOffset: 4096 })
    ],
    ['a file', () => HostRegion.open(__filename)],
    ['a part of a file', () => HostRegion.open(__filename, { byteOffset: 4096, byteLength: 100 })],
    ['a sealed region', () => regionOf('sealed').seal()]
  ])('of %s gives just that', (_, make) => {
    const region = keep(make())
    const received = keep(HostRegion.receive(region.share()))
    for (const name of ['name', 'byteLength', 'backing', 'writable', 'sealed']) {
      expect([name, received[name]]).toEqual([name, region[name]])
    }
    const text = textOf(region)
    expect(textOf(received)).toBe(text)
    expect(receiveIn(region.share())).toEqual({
      text,
      writable: region.writable,
      sealed: region.sealed
    })
  })

  test('keeps what it stands for until it is received, even if the region is closed', () => {
    const region = HostRegion.copyFrom(Buffer.from('kept'), { name: 'kept by a token' })
    const [one, two] = [region.share(), region.share()]
    region.close()
    const received = HostRegion.receive(one)
    expect(textOf(received)).toBe('kept')
    received.close()
    expect(countOpen('kept by a token')).toBe(1)
    expect(receiveIn(two).text).toBe('kept')
    return until(() => countOpen('kept by a token') === 0)
  })

  test('that nobody takes is ended by unshare, once', () => {
    const token = HostRegion.copyFrom(Buffer.from('x'), { name: 'unshared' }).share()
    expect(HostRegion.unshare(token)).toBe(true)
    expect(HostRegion.unshare(token)).toBe(false)
    expectError(
      thrownBy(() => HostRegion.receive(token)),
      { code: 'ERR_HOSTMAP_SHARE_CLOSED' }
    )
    expect(receiveIn(token).code).toBe('ERR_HOSTMAP_SHARE_CLOSED')
    expect(HostRegion.unshare({ ...token, pid: 1 })).toBe(false)
  })

  test('is for one receiver', () => {
    const region = regionOf('once')
    const here = region.share()
    HostRegion.receive(here).close()
    const there = region.share()
    expect(receiveIn(there).text).toBe('once')
    for (const token of [here, there]) {
      expectError(
        thrownBy(() => HostRegion.receive(token)),
        { code: 'ERR_HOSTMAP_SHARE_USED' }
      )
      expect(receiveIn(token).code).toBe('ERR_HOSTMAP_SHARE_USED')
    }
  })

  test('that was altered is refused, and is still good as it was', () => {
    const token = regionOf('altered').share({ access: 'readonly' })
    const changes = {
      access: 'shared',
      device: '7',
      inode: '7',
      byteOffset: 4096,
      byteLength: 4,
      name: 'other',
      nonce: '0'.repeat(32),
      type: 'wasm-hostmap.snapshot',
      version: 2
    }
    const codes = ['ERR_HOSTMAP_SHARE_INVALID', 'ERR_INVALID_ARG_VALUE']
    const forged = Object.entries(changes).map(([name, value]) => ({ ...token, [name]: value }))
    for (const each of forged) {
      expectError(
        thrownBy(() => HostRegion.receive(each)),
        { code: codes }
      )
    }
    for (const { code } of receiveIn(forged)) expect(codes).toContain(code)
    expect(receiveIn({ ...token, proof: 0 }).text).toBe('altered')
  })

  test('of a file that got shorter says so, and is good again when the file is', () => {
    const path = directory.file(Buffer.alloc(3 * 4096, 1))
    const region = keep(HostRegion.open(path))
    const token = region.share()
    fs.truncateSync(path, 4096)
    expectError(
      thrownBy(() => HostRegion.receive(token)),
      { code: 'ERR_HOSTMAP_FILE_SHRUNK', says: 'ends before what was shared does' }
    )
    expect(receiveIn(token).code).toBe('ERR_HOSTMAP_FILE_SHRUNK')
    fs.truncateSync(path, 3 * 4096)
    expect(keep(HostRegion.receive(token)).byteLength).toBe(3 * 4096)
  })

  test.each([
    ['nothing', undefined],
    ['a number', 7],
    ['an empty object, as a posted region arrives', {}],
    ['an object', { nonce: 'x' }],
    ['an object of the type of a property that all objects have', { type: 'constructor' }],
    ['a revoked Proxy', revoked()]
  ])('must be one: %s is not', (_, value) => {
    const says = util.inspect(value) === '{}' ? 'share()' : 'token must be'
    expectError(
      thrownBy(() => HostRegion.receive(value)),
      { code: 'ERR_INVALID_ARG_TYPE', says }
    )
  })

  test.each([
    'pid',
    'proof',
    'socket',
    'nonce',
    'access',
    'device',
    'inode',
    'byteOffset',
    'byteLength',
    'name'
  ])('has a %s, and says so where it has none', name => {
    const token = regionOf('fields').share()
    for (const value of [undefined, null, -1, {}, [], '\0', 2 ** 60, Symbol('x')]) {
      expectError(
        thrownBy(() => HostRegion.receive({ ...token, [name]: value })),
        { code: 'ERR_HOSTMAP_SHARE_INVALID', says: `token.${name}` }
      )
    }
    expect(HostRegion.unshare(token)).toBe(true)
  })

  test('of a process that was killed is refused, and nothing of it is left', async () => {
    const child = spawn(process.execPath, [
      '-e',
      `const { HostRegion } = require(${JSON.stringify(path.join(__dirname, '..'))})
       console.log(JSON.stringify(HostRegion.copyFrom(Buffer.from('gone')).share()))
       setInterval(() => {}, 1000)`
    ])
    const [line] = await once(child.stdout, 'data')
    const token = JSON.parse(line)
    expect(fs.readFileSync('/proc/net/unix', 'latin1')).toContain(token.socket)
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
    expectError(
      thrownBy(() => HostRegion.receive(token)),
      { code: 'ERR_HOSTMAP_SHARE_CLOSED', says: String(token.pid) }
    )
    expect(fs.readFileSync('/proc/net/unix', 'latin1')).not.toContain(token.socket)
  })

  test('waits for a receiver with 1,023 others, and no more', async () => {
    const seen = await inChild(async ({ hostmap: { HostRegion }, failure }) => {
      const region = HostRegion.copyFrom(Buffer.from('many'))
      const tokens = []
      const error = await failure(() => {
        for (;;) tokens.push(region.share())
      })
      const ended = tokens.filter(token => HostRegion.unshare(token)).length
      return { error, ended, again: HostRegion.unshare(region.share()) }
    })
    expect(seen).toMatchObject({ ended: 1024, again: true })
    expect(seen.error).toMatchObject({ code: 'ERR_HOSTMAP_TOO_MANY_SHARES' })
    expect(seen.error.message).toContain('unshare')
  })
})

describe('a receiver may be', () => {
  test('a worker, by message and by workerData, while the region is closed and collected', async () => {
    const worker = new TestWorker()
    const token = regionOf('to a worker').share()
    open.pop().close()
    const told = await worker.run(({ state, hostmap }, token) => {
      state.region = hostmap.HostRegion.receive(token)
      return Buffer.from(state.region.view()).toString()
    }, token)
    expect(told).toBe('to a worker')
    const back = await worker.run(({ state }) => state.region.share())
    // The worker's own ends with it; what it shared does not.
    await worker.end()
    expect(textOf(keep(HostRegion.receive(back)))).toBe('to a worker')

    const started = new threads.Worker(
      `const { workerData, parentPort } = require('node:worker_threads')
       const { HostRegion } = require(workerData.main)
       parentPort.postMessage(Buffer.from(HostRegion.receive(workerData.token).view()).toString())`,
      {
        eval: true,
        workerData: { main: require.resolve('..'), token: regionOf('in workerData').share() }
      }
    )
    const [text] = await once(started, 'message')
    expect(text).toBe('in workerData')
  })

  test('a child process, by IPC: what it writes is here', async () => {
    const region = regionOf('ipc to a child')
    const child = fork(RECEIVE)
    child.send(region.share())
    const [told] = await once(child, 'message')
    expect(told).toEqual({ text: 'ipc to a child', writable: true, sealed: false })
    expect(textOf(region)).toBe('Wpc to a child')
    child.kill()
  })

  test('a worker of a cluster', async () => {
    const script = directory.file(
      `const cluster = require('node:cluster')
       const { HostRegion } = require(${JSON.stringify(path.join(__dirname, '..'))})
       if (cluster.isPrimary) {
         const region = HostRegion.copyFrom(Buffer.from('cluster'))
         let left = 3
         for (let i = 0; i < 3; i++) {
           const worker = cluster.fork()
           worker.on('online', () => worker.send(region.share({ access: 'readonly' })))
           worker.on('message', text => {
             console.log(text)
             worker.kill()
             if (--left === 0) region.close()
           })
         }
       } else {
         process.on('message', token => process.send(Buffer.from(HostRegion.receive(token).view()).toString()))
       }`,
      'cluster.js'
    )
    const out = execFileSync(process.execPath, [script], { encoding: 'utf8' })
    expect(out).toBe('cluster\n'.repeat(3))
  })

  test('an unrelated process of the same user, while this one does something else', () => {
    const region = regionOf('unrelated')
    const tokenFile = directory.file(JSON.stringify(region.share()), 'token.json')
    const out = execFileSync('/bin/sh', [
      '-c',
      'setsid "$0" "$1" "$(cat "$2")"',
      process.execPath,
      RECEIVE,
      tokenFile
    ])
    expect(JSON.parse(out).text).toBe('unrelated')
  })

  const inNamespace = ['--fork', '--pid', '--mount-proc', process.execPath, RECEIVE]
  const hasNamespaces = spawnSync('unshare', [...inNamespace.slice(0, 3), 'true']).status === 0
  skipUnless('needs PID namespaces', hasNamespaces).test(
    'a process that can not look into this one: the socket of this one serves it',
    () => {
      const region = regionOf('by a socket')
      const receive = token =>
        JSON.parse(
          execFileSync('unshare', [...inNamespace, JSON.stringify(token)], { encoding: 'utf8' })
        )
      // This process answers on another thread, since it waits here.
      const token = region.share({ access: 'readonly' })
      expect(receive({ ...token, access: 'shared' }).code).toBe('ERR_HOSTMAP_SHARE_INVALID')
      expect(receive(token)).toEqual({ text: 'by a socket', writable: false, sealed: false })
      expect(receive(token).code).toBe('ERR_HOSTMAP_SHARE_USED')
      const ended = region.share()
      HostRegion.unshare(ended)
      expect(receive(ended).code).toBe('ERR_HOSTMAP_SHARE_CLOSED')
      expect(receive({ ...token, nonce: '1'.repeat(32) }).code).toBe('ERR_HOSTMAP_SHARE_INVALID')
      expect(receive(region.share())).toEqual({
        text: 'by a socket',
        writable: true,
        sealed: false
      })
      expect(textOf(region)).toBe('Wy a socket')
    }
  )

  skipUnless('needs root, to run a process of another user', canBeOthers()).test(
    'no process of another user',
    async () => {
      const token = regionOf('mine').share()
      expect(receiveIn(token, NOBODY).code).toBe('ERR_HOSTMAP_SHARE_DENIED')
      expect(receiveIn(token).text).toBe('mine')
      // Nor does root take what is another user's.
      const child = spawn(
        process.execPath,
        [
          '-e',
          `const { HostRegion } = require(${JSON.stringify(path.join(__dirname, '..'))})
         console.log(JSON.stringify(HostRegion.copyFrom(Buffer.from('theirs')).share()))
         setInterval(() => {}, 1000)`
        ],
        NOBODY
      )
      const [line] = await once(child.stdout, 'data')
      expectError(
        thrownBy(() => HostRegion.receive(JSON.parse(line))),
        { code: 'ERR_HOSTMAP_SHARE_DENIED' }
      )
      child.kill()
    }
  )
})

describe("access 'readonly'", () => {
  test('with enforce, a seal that is refused leaves writable views as they are', () => {
    const region = keep(HostRegion.allocate(2 * 65536))
    const views = [region.view(0, 65536), region.view(65536)].map(view => new Uint8Array(view))
    const guarded = new GuardedMemory({ initial: 4 })
    const mapping = guarded.map(region, { access: 'shared', at: 0 })
    HostRegion.unshare(region.share({ access: 'readonly', enforce: true }))
    expectError(
      thrownBy(() => region.seal()),
      { code: 'ERR_HOSTMAP_REGION_BUSY' }
    )
    const inMemory = new Uint8Array(guarded.buffer)
    for (const [index, view] of views.entries()) {
      view[5] = 7
      expect(inMemory[index * 65536 + 5]).toBe(7)
    }
    mapping.unmap()
    expect(region.seal().sealed).toBe(true)
    expect(views.map(view => view[5])).toEqual([7, 7])
  })

  test('is all that the receiver has: no writable view, no shared mapping, no writable descriptor', async () => {
    const region = regionOf('read me')
    const received = keep(HostRegion.receive(region.share({ access: 'readonly' })))
    expect(received.writable).toBe(false)
    new Uint8Array(received.view())[0] = 0
    expect(await nextWarning()).toMatchObject({ code: 'HOSTMAP_STRAY_WRITE' })
    expect(textOf(region)).toBe('read me')
    const guarded = new GuardedMemory({ initial: 1 })
    expectError(
      thrownBy(() => guarded.map(received, { access: 'shared' })),
      { code: 'ERR_HOSTMAP_REGION_READONLY' }
    )
    expectError(
      thrownBy(() => received.share({ access: 'shared' })),
      { code: 'ERR_HOSTMAP_REGION_READONLY' }
    )
    expect(received.share().access).toBe('readonly')
    const fd = received.duplicateFd()
    expect(() => fs.writeSync(fd, 'x')).toThrow(/EBADF/)
    fs.closeSync(fd)
    expect(receiveIn(region.share({ access: 'readonly' })).writable).toBe(false)
    // The sharer goes on writing, and the receiver sees it.
    Buffer.from(region.view()).write('R')
    expect(textOf(received)).toBe('Read me')
  })

  test('with enforce, the kernel lets nobody write who does not yet', () => {
    const region = regionOf('enforced')
    const writer = Buffer.from(region.view())
    const token = region.share({ access: 'readonly', enforce: true })
    const duplicate = region.duplicateFd()
    expect(() => fs.writeSync(duplicate, 'x', 0)).toThrow(/EPERM/)
    fs.closeSync(duplicate)
    const received = keep(HostRegion.receive(token))
    writer.write('E')
    expect([textOf(received), region.writable, received.writable]).toEqual([
      'Enforced',
      false,
      false
    ])
    expect(receiveIn(region.share({ access: 'readonly', enforce: true })).writable).toBe(false)
  })

  test.each([
    [
      'enforce for a file',
      () => keep(HostRegion.open(__filename)).share({ enforce: true }),
      'ERR_HOSTMAP_REGION_READONLY'
    ],
    ['enforce for a writer', () => regionOf('x').share({ enforce: true }), 'ERR_INVALID_ARG_VALUE'],
    ['a wrong access', () => regionOf('x').share({ access: 'private' }), 'ERR_INVALID_ARG_VALUE'],
    [
      'an unknown option',
      () => regionOf('x').share({ acces: 'readonly' }),
      'ERR_INVALID_ARG_VALUE'
    ],
    [
      'shared for a sealed region',
      () => regionOf('x').seal().share({ access: 'shared' }),
      'ERR_HOSTMAP_REGION_READONLY'
    ]
  ])('%s is refused', (_, call, code) => expectError(thrownBy(call), { code }))

  test('of a region that was closed is refused', () => {
    const region = HostRegion.allocate(1)
    region.close()
    expectError(
      thrownBy(() => region.share()),
      { code: 'ERR_HOSTMAP_REGION_CLOSED' }
    )
  })
})

test('snapshots are shared as regions are', async () => {
  const guarded = new GuardedMemory({ initial: 2 })
  new Uint8Array(guarded.buffer).fill(5)
  const snapshot = guarded.snapshot({ name: 'five' })
  const worker = new TestWorker()
  const token = snapshot.share()
  expect(token).toMatchObject({ access: 'readonly', name: 'five' })
  snapshot.close()
  const seen = await worker.run(({ hostmap }, token) => {
    const memory = new hostmap.GuardedMemory({ initial: 2 })
    memory.restore(hostmap.Snapshot.receive(token))
    return new Set(new Uint8Array(memory.buffer))
  }, token)
  expect([...seen]).toEqual([5])
  await worker.end()
  expectError(
    thrownBy(() => Snapshot.receive(token)),
    { code: 'ERR_HOSTMAP_SHARE_USED' }
  )
  const region = regionOf('no snapshot').share()
  expectError(
    thrownBy(() => Snapshot.receive(region)),
    { code: 'ERR_INVALID_ARG_VALUE', says: 'HostRegion.receive' }
  )
  expect(HostRegion.unshare(region)).toBe(true)
})

test('a token of which no snapshot can be made for want of a descriptor can be received again', async () => {
  const result = await inChild(
    async ({ hostmap, failure, require }) => {
      const fs = require('node:fs')
      const guarded = new hostmap.GuardedMemory({ initial: 1 })
      new Uint8Array(guarded.buffer).fill(5)
      const snapshot = guarded.snapshot()
      const token = snapshot.share()
      // All but so many are taken.
      const codes = []
      for (let left = 0; ; left++) {
        const taken = []
        try {
          for (;;) taken.push(fs.openSync('/dev/null'))
        } catch {
          for (let i = 0; i < left; i++) fs.closeSync(taken.pop())
        }
        const failed = await failure(() => guarded.restore(hostmap.Snapshot.receive(token)))
        for (const fd of taken) fs.closeSync(fd)
        if (failed === null) break
        codes.push(failed.code)
      }
      return {
        codes: [...new Set(codes)],
        tries: codes.length,
        byte: new Uint8Array(guarded.buffer)[0]
      }
    },
    { ulimit: '-n 200' }
  )
  expect(result).toMatchObject({ codes: ['ERR_HOSTMAP_TOO_MANY_FILES'], byte: 5 })
  expect(result.tries).toBeGreaterThan(0)
})

describe('what is no token can not be cloned without a word:', () => {
  const canMark = threads.markAsUncloneable !== undefined
  const module = assemble('(module (memory (export "memory") 1))')
  const makers = {
    region: () => regionOf('x'),
    publication: () =>
      keep(regionOf('x').publish('x', { directory: directory.file(undefined, 'names') })),
    memory: () => new GuardedMemory({ initial: 1 }),
    mapping: () => new GuardedMemory({ initial: 1 }).map(regionOf('x')),
    window: () => new GuardedMemory({ initial: 1 }).window({ byteLength: 65536 }),
    source: () =>
      new GuardedMemory({ initial: 1 }).window({ byteLength: 65536 }).source(regionOf('x')),
    snapshot: () => new GuardedMemory({ initial: 1 }).snapshot(),
    pool: async () => keep(await InstancePool.create(await module)),
    instance: async () => keep(await InstancePool.create(await module)).acquire()
  }
  test.each(Object.entries(makers))('a %s', async (_, make) => {
    const object = await make()
    if (canMark) {
      expect(() => structuredClone(object)).toThrow(
        expect.objectContaining({ name: 'DataCloneError' })
      )
    } else {
      const says = 'share()'
      const empty = structuredClone(object)
      expectError(
        thrownBy(() => new GuardedMemory({ initial: 1 }).map(empty)),
        { code: 'ERR_INVALID_ARG_TYPE', says }
      )
      expectError(
        thrownBy(() => HostRegion.receive(empty)),
        { code: 'ERR_INVALID_ARG_TYPE', says }
      )
    }
  })

  test('the pages of a view are not taken away by a transfer', () => {
    const region = regionOf('view')
    const view = region.view()
    try {
      structuredClone(view, { transfer: [view] })
    } catch {
      // Newer releases of Node.js refuse, older ones copy.
    }
    expect(view.byteLength).toBe(4)
  })

  test('a token where a region is wanted is told from one', () => {
    const token = regionOf('x').share()
    expectError(
      thrownBy(() => new GuardedMemory({ initial: 1 }).map(token)),
      { code: 'ERR_INVALID_ARG_TYPE', says: 'HostRegion.receive(token)' }
    )
    expect(HostRegion.unshare(token)).toBe(true)
  })
})

test('at the end of the stack a call on a region is done as a whole, or not at all', async () => {
  const seen = await inChild(async ({ hostmap: { HostRegion }, countOpen }) => {
    /** Calls at every depth near the end of the stack, until it is done once. */
    function deep(call) {
      const down = depth => {
        try {
          return down(depth + 1)
        } catch (error) {
          if (!(error instanceof RangeError)) throw error
        }
        return call()
      }
      return down(0)
    }
    const wrong = []
    for (let i = 0; i < 20; i++) {
      const region = HostRegion.copyFrom(Buffer.from('deep'), { name: 'deep down' })
      const view = region.view()
      let token = null
      const share = () => (token ??= region.share())
      for (const step of [
        share,
        () => HostRegion.receive(token).close(),
        () => region.seal(),
        () => region.close()
      ]) {
        try {
          deep(step)
        } catch (error) {
          wrong.push(String(error))
        }
      }
      if (!region.closed || view.byteLength !== 0) wrong.push('not closed')
    }
    return { wrong, open: countOpen('deep down') }
  })
  expect(seen).toEqual({ wrong: [], open: 0 })
})

test('numbers of descriptors that are reused on purpose never give another region', async () => {
  const { received, refused, wrong } = await reuse(1000)
  expect({ wrong, all: received + refused }).toEqual({ wrong: 0, all: 2000 })
  expect(received).toBeGreaterThan(0)
  expect(refused).toBeGreaterThan(0)
})

test('at the limit of descriptors sharing and receiving fail, and can be done again', async () => {
  const seen = await inChild(
    async ({ hostmap, failure, require }) => {
      const fs = require('node:fs')
      const region = hostmap.HostRegion.copyFrom(Buffer.from('few'))
      const token = region.share()
      const held = []
      const full = () => {
        for (;;) held.push(fs.openSync('/dev/null'))
      }
      await failure(full)
      const failures = []
      for (let free = 0; free < 4; free++) {
        failures.push(await failure(() => hostmap.HostRegion.receive(region.share())))
        const late = await failure(() => hostmap.HostRegion.receive(token))
        if (late === null) break
        failures.push(late)
        fs.closeSync(held.pop())
      }
      for (const fd of held) fs.closeSync(fd)
      return {
        codes: [...new Set(failures.map(each => each?.code))],
        again: Boolean(region.share())
      }
    },
    { ulimit: '-n 64' }
  )
  expect(seen.again).toBe(true)
  expect(seen.codes).toContain('ERR_HOSTMAP_TOO_MANY_FILES')
})
