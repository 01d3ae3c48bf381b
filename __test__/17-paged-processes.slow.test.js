'use strict'

// Paged regions in other processes: what they touch, the owner's provider brings.

const { fork } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { Worker } = require('node:worker_threads')
const { HostRegion } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { temporaryDirectory } = require('./support/files')
const {
  CHUNK,
  bytesFrom,
  closeAll,
  optionsOf,
  paged,
  sharedCounts,
  until,
  ways
} = require('./support/paged')

const directory = temporaryDirectory()
const CHUNKS = 40
const byteLength = CHUNKS * CHUNK + 123
const children = []

afterEach(async () => {
  closeAll()
  await Promise.all(children.splice(0).map(child => child.end()))
})

/** Another process, which runs functions: see share/paged.js. */
function start() {
  const child = fork(path.join(__dirname, 'share/paged.js'), { serialization: 'advanced' })
  const exited = new Promise(resolve => child.once('exit', resolve))
  const next = () =>
    new Promise((resolve, reject) => {
      const ended = () => reject(new Error('the process has ended'))
      child.once('exit', ended)
      child.once('message', message => {
        child.removeListener('exit', ended)
        if (message.code === undefined && message.message === undefined) resolve(message.value)
        else reject(Object.assign(new Error(message.message), { code: message.code }))
      })
    })
  const made = {
    exited,
    /** What `body` returns there. It sees `kept`, which stays, and `args`. */
    run(body, args) {
      const answer = next()
      child.send({ body: String(body), args })
      return answer
    },
    kill(signal) {
      child.kill(signal)
      return exited
    },
    end() {
      child.kill('SIGKILL')
      return exited
    }
  }
  children.push(made)
  return made
}

const receive = ({ HostRegion, kept, args: [token, userfaultfd] }) => {
  kept.region = HostRegion.receive(token, { userfaultfd })
  kept.bytes = new Uint8Array(kept.region.view())
  return kept.region.paging.userfaultfd
}
const readAt = ({ kept, args }) => args.map(at => kept.bytes[at])
const stats = ({ kept }) => ({ ...kept.region.paging.stats(), faults: kept.region.faults })

async function received(region, userfaultfd) {
  const child = start()
  await child.run(receive, [region.share(), userfaultfd])
  return child
}

const firstOf = chunk => bytesFrom(chunk * CHUNK, 1)[0]

let all
beforeAll(async () => {
  const kinds = await ways()
  // A receiver has userfaultfd only where its owner does.
  all = kinds.flatMap(owner => kinds.map(other => ({ owner, other })))
  all = all.filter(({ owner, other }) => owner || !other)
})

/** Runs a test with and without userfaultfd on both sides. */
const inAllWays = (name, body) =>
  test(name, async () => {
    for (const way of all) {
      await body(way)
      closeAll()
      await Promise.all(children.splice(0).map(child => child.end()))
    }
  })

inAllWays('what another process touches comes, once for all', async ({ owner, other }) => {
  const counts = sharedCounts()
  const options = { userfaultfd: owner, readAheadBytes: 0 }
  const region = await paged({ byteLength, counts }, options)
  expect(region.share()).toMatchObject({ paged: true, access: 'readonly', byteLength })
  const child = start()
  const isUserfaultfd = await child.run(receive, [region.share({ access: 'readonly' }), other])
  expect(isUserfaultfd).toBe(owner && other)
  expect(await child.run(readAt, [5 * CHUNK, 9 * CHUNK])).toEqual([firstOf(5), firstOf(9)])
  expect(counts[0]).toBe(2)
  expect(Buffer.from(region.view(5 * CHUNK, 100))).toEqual(bytesFrom(5 * CHUNK, 100))
  expect(region.paging.stats()).toMatchObject({ touches: 0, presentChunks: 2 })
  expect(await child.run(stats)).toMatchObject({ touches: 2, presentChunks: 2, faults: 0 })
  const isRight = await child.run(
    ({ kept, args }) => Buffer.from(kept.bytes.buffer).equals(args),
    bytesFrom(0, byteLength)
  )
  expect(isRight).toBe(true)
  expect(counts[0]).toBe(CHUNKS + 1)
  expect(region.faults).toBe(0)
})

inAllWays('a module in another process reads it by mappings and windows', async way => {
  const region = await paged({ byteLength }, { userfaultfd: way.owner })
  const child = await received(region, way.other)
  const seen = await child.run(async ({ GuardedMemory, kept }) => {
    const guarded = new GuardedMemory({ initial: 1, maximum: 200 })
    const readonly = guarded.map(kept.region)
    const own = guarded.map(kept.region, { access: 'private' })
    const window = guarded.window({ byteLength: 4 * 65_536 })
    const { pointer } = window.slide(kept.region, { byteOffset: 30 * 65_536, byteLength: 65_536 })
    const memory = new Uint8Array(guarded.memory.buffer)
    memory[own.pointer + 7 * 65_536] = 1
    return [
      memory[readonly.pointer + 3 * 65_536],
      memory[own.pointer + 7 * 65_536],
      memory[readonly.pointer + 7 * 65_536],
      memory[Number(pointer)],
      readonly.faults + own.faults
    ]
  })
  expect(seen).toEqual([firstOf(3), 1, firstOf(7), firstOf(30), 0])
})

inAllWays('ensure, prefetch, streams and system calls work there', async ({ owner, other }) => {
  const region = await paged({ byteLength }, { userfaultfd: owner, readAheadBytes: 0 })
  const child = await received(region, other)
  const file = directory.file()
  const done = await child.run(async ({ kept, require, args }) => {
    const fs = require('node:fs')
    const { paging } = kept.region
    const part = { byteOffset: 10 * 65_536 - 5, byteLength: 100_000 }
    const hold = await paging.ensure(part)
    const fd = fs.openSync(args, 'w+')
    const written = fs.writeSync(fd, kept.bytes.subarray(part.byteOffset, part.byteOffset + 1e5))
    hold.release()
    const progress = []
    const onProgress = (...told) => progress.push(told)
    await paging.prefetch({ byteOffset: 20 * 65_536, byteLength: 3 * 65_536, onProgress })
    let streamed = 0
    for await (const bytes of kept.region.createReadStream()) streamed += bytes.length
    const { requests, fetchedBytes } = paging.stats()
    const chunks = paging.chunks()
    return { written, last: progress.at(-1), streamed, requests, fetchedBytes, chunks }
  }, file)
  expect(done).toMatchObject({ written: 1e5, streamed: byteLength, fetchedBytes: byteLength })
  expect(done.last).toEqual([3 * CHUNK, 3 * CHUNK])
  expect(done.chunks.every(state => state === 2)).toBe(true)
  const out = fs.readFileSync(file)
  expect(out.equals(bytesFrom(10 * CHUNK - 5, 1e5))).toBe(true)
})

inAllWays('four processes that touch one missing chunk are one request', async way => {
  const counts = sharedCounts()
  const data = { byteLength, counts, delayMs: 200 }
  const region = await paged(data, { userfaultfd: way.owner, readAheadBytes: 0 })
  const children = await Promise.all([1, 2, 3, 4].map(() => received(region, way.other)))
  const read = await Promise.all(children.map(child => child.run(readAt, [8 * CHUNK])))
  expect(read.flat()).toEqual(Array(4).fill(firstOf(8)))
  expect(counts[0]).toBe(1)
})

inAllWays('with a limit, chunks go and come again, or stay', async ({ owner, other }) => {
  const cacheBytes = 16 * CHUNK
  const options = { userfaultfd: owner, readAheadBytes: 0, cacheBytes }
  const region = await paged({ byteLength }, options)
  const child = await received(region, other)
  const ensured = await child.run(async ({ kept }) => {
    kept.hold = await kept.region.paging.ensure({ byteLength: 2 * 65_536 })
    return kept.hold.byteLength
  })
  expect(ensured).toBe(2 * CHUNK)
  const everySecond = Array.from({ length: CHUNKS }, (_, chunk) => chunk * CHUNK)
  for (let round = 0; round < 2; round++) {
    const read = await child.run(readAt, everySecond)
    expect(read).toEqual(everySecond.map(at => firstOf(at / CHUNK)))
  }
  const mayGo = owner && other
  const { evictions, presentChunks } = region.paging.stats()
  expect(evictions > 0).toBe(mayGo)
  if (mayGo) expect(presentChunks).toBeLessThanOrEqual(16)
  else expect(presentChunks).toBe(CHUNKS)
  expect([...region.paging.chunks({ byteLength: 2 * CHUNK })]).toEqual([2, 2])
  // What a process that has ended held or showed may go.
  await child.kill('SIGKILL')
  await until(() => region.paging.stats().presentChunks < 16)
  expect(region.paging.stats().evictions).toBeGreaterThan(0)
})

inAllWays(
  'a chunk that fails there fails as here, and comes when it is touched anew',
  async way => {
    const data = { byteLength, mode: 'throws', from: 1 }
    const region = await paged(data, { userfaultfd: way.owner, readAheadBytes: 0 })
    const child = await received(region, way.other)
    expect(await child.run(readAt, [0, 3 * CHUNK])).toEqual([firstOf(0), 0])
    expect(await child.run(stats)).toMatchObject({ failedTouches: 1, faults: 1 })
    const ensure = ({ kept }) =>
      kept.region.paging.ensure({ byteOffset: 4 * 65_536, byteLength: 1 })
    const error = await thrownBy(() => child.run(ensure))
    expectError(error, { code: 'ERR_HOSTMAP_PROVIDER_FAILED', says: /the disk is on fire/ })
    expect(await child.run(stats)).toMatchObject({ lastError: expect.stringContaining('on fire') })
  }
)

inAllWays('when the owner closes it, what is here stays, and the rest fails', async way => {
  const region = await paged(
    { byteLength, mode: 'never', from: 1 },
    { userfaultfd: way.owner, readAheadBytes: 0 }
  )
  const child = await received(region, way.other)
  expect(await child.run(readAt, [0])).toEqual([firstOf(0)])
  const asked = child.run(async ({ kept }) => {
    try {
      await kept.region.paging.ensure({ byteOffset: 5 * 65_536, byteLength: 1 })
      return 'it came'
    } catch ({ code }) {
      return code
    }
  })
  await until(() => region.paging.stats().requests === 2)
  region.close()
  expect(await asked).toBe('ERR_HOSTMAP_PAGING_ENDED')
  expect(await child.run(readAt, [1, 9 * CHUNK])).toEqual([bytesFrom(1, 1)[0], 0])
  expect(await child.run(stats)).toMatchObject({ failedTouches: 1 })
})

inAllWays('when the owner is killed, those who wait fail', async ({ owner, other }) => {
  const parent = start()
  const options = optionsOf({ byteLength, mode: 'never', from: 1 }, { userfaultfd: owner })
  const token = await parent.run(async ({ HostRegion, kept, args }) => {
    kept.region = await HostRegion.paged(args)
    kept.bytes = new Uint8Array(kept.region.view())
    return kept.region.share()
  }, options)
  const child = start()
  await child.run(receive, [token, other])
  expect(await child.run(readAt, [0])).toEqual([firstOf(0)])
  const waits = child.run(readAt, [0, 7 * CHUNK])
  const isAsked = ({ kept }) => kept.region.paging.chunks()[7] === 1
  await until(() => parent.run(isAsked))
  await parent.kill('SIGKILL')
  expect(await waits).toEqual([firstOf(0), 0])
  expect(await child.run(readAt, [1, 20 * CHUNK])).toEqual([bytesFrom(1, 1)[0], 0])
  const late = await thrownBy(() => child.run(({ kept }) => kept.region.paging.ensure()))
  expectError(late, { code: 'ERR_HOSTMAP_PAGING_ENDED' })
  const stale = await thrownBy(() => child.run(receive, [token, other]))
  expect(stale.code).toMatch(/^ERR_HOSTMAP_SHARE_(CLOSED|USED)$/)
})

inAllWays('a receiver that is killed while it waits leaves nothing behind', async way => {
  const counts = sharedCounts()
  const data = { byteLength, counts, delayMs: 300 }
  const region = await paged(data, { userfaultfd: way.owner, readAheadBytes: 0 })
  const child = await received(region, way.other)
  child.run(readAt, [6 * CHUNK]).catch(() => {})
  await until(() => region.paging.chunks()[6] === 1)
  await child.kill('SIGKILL')
  expect(new Uint8Array(region.view(6 * CHUNK, 1))[0]).toBe(firstOf(6))
  expect(counts[0]).toBe(1)
  const other = await received(region, way.other)
  expect(await other.run(readAt, [6 * CHUNK, 7 * CHUNK])).toEqual([firstOf(6), firstOf(7)])
})

inAllWays('a receiver that sends nonsense loses only what it asks by', async way => {
  const region = await paged({ byteLength }, { userfaultfd: way.owner, readAheadBytes: 0 })
  const child = start()
  expect(Buffer.from(region.view(2 * CHUNK, 9))).toEqual(bytesFrom(2 * CHUNK, 9))
  const sent = ({ HostRegion, kept, args: [token, userfaultfd], require }) => {
    const fs = require('node:fs')
    const links = () =>
      fs.readdirSync('/proc/self/fd').map(fd => {
        try {
          return [fd, fs.readlinkSync(`/proc/self/fd/${fd}`)]
        } catch {
          return [fd, '']
        }
      })
    const before = links().map(String)
    kept.region = HostRegion.receive(token, { userfaultfd })
    kept.bytes = new Uint8Array(kept.region.view())
    const ours = links().filter(link => link[1].startsWith('socket:'))
    const sockets = ours.filter(link => !before.includes(String(link))).map(([fd]) => Number(fd))
    const sweep = 2n ** 63n
    const numbers = [40n, 41n, 2n ** 53n, 2n ** 62n, sweep + 2n, sweep + 41n, 2n ** 64n - 1n]
    const said = Buffer.from('\n{"type":"pin","first":-1,"last":2e9}\nnull\n{}\n'.padEnd(64))
    const bytes = Buffer.concat([
      Buffer.from(new BigUint64Array([...numbers, ...Array(3000).fill(3n)]).buffer),
      said
    ])
    for (const fd of sockets) {
      // Of one that is closed for it, the rest is refused.
      try {
        for (let at = 0; at < bytes.length; at += 1001) {
          fs.writeSync(fd, bytes.subarray(at, at + 1001))
        }
      } catch (error) {
        if (error.code !== 'EPIPE' && error.code !== 'ECONNRESET') throw error
      }
    }
    return sockets.length
  }
  expect(await child.run(sent, [region.share(), way.other])).toBe(2)
  const ensured = await thrownBy(() => child.run(({ kept }) => kept.region.paging.ensure()))
  expectError(ensured, { code: 'ERR_HOSTMAP_PAGING_ENDED' })
  expect(await child.run(readAt, [2 * CHUNK, 7 * CHUNK])).toEqual([firstOf(2), firstOf(7)])
  const other = await received(region, way.other)
  expect(await other.run(readAt, [2 * CHUNK, 9 * CHUNK])).toEqual([firstOf(2), firstOf(9)])
  expect(
    await other.run(({ kept }) => kept.region.paging.ensure({ byteLength: 1 }).then(String))
  ).toBe('[object Object]')
  expect(Buffer.from(region.view()).equals(bytesFrom(0, byteLength))).toBe(true)
})

test('what a receiver holds stays where its questions are too many', async () => {
  const region = await paged({ byteLength }, { readAheadBytes: 0, cacheBytes: 16 * CHUNK })
  const child = await received(region)
  const code = await child.run(async ({ kept }) => {
    const { paging } = kept.region
    kept.holds = [await paging.ensure({ byteLength: 1 })]
    try {
      while (kept.holds.length < 20_000) {
        const some = Array.from({ length: 500 }, () => paging.ensure({ byteLength: 1 }))
        kept.holds.push(...(await Promise.all(some)))
      }
    } catch (error) {
      return error.code
    }
  })
  expect(code).toBe('ERR_HOSTMAP_PAGING_ENDED')
  const everyOther = Array.from({ length: CHUNKS - 1 }, (_, chunk) => (chunk + 1) * CHUNK)
  await child.run(readAt, everyOther)
  expect(region.paging.chunks({ byteLength: 1 })[0]).toBe(2)
  await child.kill('SIGKILL')
  // It is held no more.
  await until(() => {
    const seen = everyOther.map(at => new Uint8Array(region.view(at, 1))[0])
    expect(seen).toEqual(everyOther.map(at => firstOf(at / CHUNK)))
    return region.paging.chunks({ byteLength: 1 })[0] === 0
  })
})

test('a receiver may ask for much at a time', async () => {
  const PAGE = 4096
  const bytes = 3000 * PAGE
  const region = await paged({ byteLength: bytes, delayMs: 1 }, { chunkBytes: PAGE })
  const child = await received(region)
  const states = await child.run(async ({ kept }) => {
    const { paging } = kept.region
    const ended = new AbortController()
    const given = paging.prefetch({ signal: ended.signal }).catch(({ code }) => code)
    const whole = [paging.prefetch(), paging.prefetch(), paging.ensure()]
    const small = Array.from({ length: 2500 }, (_, page) =>
      paging.ensure({ byteOffset: page * 4096, byteLength: 1 })
    )
    ended.abort()
    await Promise.all([...whole, ...small])
    return [await given, paging.chunks().every(state => state === 2)]
  })
  expect(states).toEqual(['ABORT_ERR', true])
})

test('a token is for one receiver, and not to be altered or kept', async () => {
  const region = await paged({ byteLength })
  const token = region.share()
  const { paged: _, ...plain } = token
  const fails = (call, code) => expectError(thrownBy(call), { code })
  fails(() => HostRegion.receive(plain), 'ERR_HOSTMAP_SHARE_INVALID')
  fails(() => HostRegion.receive({ ...token, paged: 1 }), 'ERR_HOSTMAP_SHARE_INVALID')
  const longer = { ...token, byteLength: byteLength + 1 }
  fails(() => HostRegion.receive(longer), 'ERR_HOSTMAP_SHARE_INVALID')
  const plainRegion = HostRegion.allocate(100)
  const other = plainRegion.share()
  fails(() => HostRegion.receive({ ...other, paged: true }), 'ERR_HOSTMAP_SHARE_INVALID')
  HostRegion.unshare(other)
  plainRegion.close()
  const received = HostRegion.receive(token)
  fails(() => HostRegion.receive(token), 'ERR_HOSTMAP_SHARE_USED')
  expect(Buffer.from(received.view(CHUNK, 9))).toEqual(bytesFrom(CHUNK, 9))
  fails(() => received.share(), 'ERR_HOSTMAP_REGION_PAGED')
  fails(() => received.duplicateFd(), 'ERR_HOSTMAP_REGION_PAGED')
  fails(() => received.write(Buffer.from('x')), 'ERR_HOSTMAP_REGION_PAGED')
  received.close()
  const ended = region.share()
  expect(HostRegion.unshare(ended)).toBe(true)
  fails(() => HostRegion.receive(ended), 'ERR_HOSTMAP_SHARE_CLOSED')
  fails(() => region.share({ access: 'readonly', enforce: true }), 'ERR_HOSTMAP_REGION_PAGED')
  fails(() => region.share({ access: 'shared' }), 'ERR_HOSTMAP_REGION_READONLY')
  const late = region.share()
  region.close()
  fails(() => HostRegion.receive(late), 'ERR_HOSTMAP_SHARE_CLOSED')
  HostRegion.unshare(late)
  fails(() => HostRegion.receive(token, { userfaultfd: 1 }), 'ERR_INVALID_ARG_TYPE')
})

test('other processes find it by its name, as long as its owner has it', async () => {
  const folder = directory.file()
  const region = await paged({ byteLength })
  const publication = region.publish('numbers', { directory: folder })
  const find = ({ HostRegion, kept, args }) => {
    kept.region = HostRegion.find('numbers', { directory: args })
    kept.bytes = new Uint8Array(kept.region.view())
    return kept.region.byteLength
  }
  const children = [start(), start()]
  for (const child of children) {
    expect(await child.run(find, folder)).toBe(byteLength)
    expect(await child.run(readAt, [11 * CHUNK])).toEqual([firstOf(11)])
  }
  const versions = HostRegion.watch('numbers', { directory: folder })
  const { value: version } = await versions.next()
  expect(Buffer.from(version.view(5, 9))).toEqual(bytesFrom(5, 9))
  version.close()
  await versions.return()
  publication.close()
  const error = await thrownBy(() => children[0].run(find, folder))
  expectError(error, { code: 'ERR_HOSTMAP_NAME_NOT_FOUND' })
  // Those who have it keep it.
  expect(await children[1].run(readAt, [12 * CHUNK])).toEqual([firstOf(12)])
})

test('a worker thread receives it, and touches what its owner has not', async () => {
  const region = await paged({ byteLength })
  const body = `
    const { parentPort, workerData } = require('node:worker_threads')
    const { HostRegion } = require(${JSON.stringify(path.join(__dirname, '..'))})
    const region = HostRegion.receive(workerData)
    const bytes = new Uint8Array(region.view())
    region.paging.ensure({ byteLength: 10 }).then(hold => {
      parentPort.postMessage([bytes[0], bytes[30 * ${CHUNK}], region.paging.stats().touches])
      hold.release()
      region.close()
    })`
  const worker = new Worker(body, { eval: true, workerData: region.share() })
  const exited = new Promise(resolve => worker.once('exit', resolve))
  const told = await new Promise((resolve, reject) => {
    worker.once('message', resolve).once('error', reject)
    exited.then(code => reject(new Error(`the worker has ended with ${code}`)))
  })
  expect(told.slice(0, 2)).toEqual([firstOf(0), firstOf(30)])
  expect(await exited).toBe(0)
})

test('a process that has only received one ends by itself', async () => {
  const region = await paged({ byteLength })
  const child = await received(region)
  expect(await child.run(readAt, [0])).toEqual([firstOf(0)])
  // Once this is answered: a process that can't answer would end by that.
  await child.run(() => {
    setImmediate(() => process.disconnect())
  })
  expect(await child.exited).toBe(0)
})
