'use strict'

// Paged regions over HTTP servers, good ones and others: right bytes, or an error that says why.

const { spawn } = require('node:child_process')
const { once } = require('node:events')
const { HostRegion } = require('..')
const { expectError, thrownBy } = require('./support/errors')
const { CHUNK, bytesFrom, closeAll, keep, startRanges } = require('./support/paged')
const { nextWarning } = require('./support/warnings')

const BYTES = 500_000
const FAILED = 'ERR_HOSTMAP_PROVIDER_FAILED'
const CHANGED = 'ERR_HOSTMAP_SOURCE_CHANGED'
const LENGTH = 'ERR_HOSTMAP_SOURCE_LENGTH'

let server
beforeAll(async () => {
  server = await startRanges()
})
afterAll(() => server.stop())
afterEach(closeAll)

async function open(query, { options, ...provider } = {}) {
  const url = server.of({ bytes: BYTES, ...query })
  const spec = { url, retries: 2, stallMs: 500, ...provider }
  return keep(await HostRegion.paged({ provider: spec, chunkBytes: CHUNK, ...options }))
}

/** All of it, or an error; what came is right in any case. */
async function read(region) {
  const error = await thrownBy(async () => (await region.paging.ensure()).release())
  region.paging.chunks().forEach((state, chunk) => {
    if (state !== 2) return
    const length = Math.min(CHUNK, region.byteLength - chunk * CHUNK)
    const bytes = Buffer.from(region.view(chunk * CHUNK, length))
    expect(bytes.equals(bytesFrom(chunk * CHUNK, length))).toBe(true)
  })
  return error
}

const before = async () => (await server.served()).requests

test('the bytes are right, and ranges are all that is asked for', async () => {
  const region = await open({}, { options: { readAheadBytes: 0 } })
  expect(region.byteLength).toBe(BYTES)
  const { bytes: served } = await server.served()
  const bytes = new Uint8Array(region.view())
  expect(bytes[3 * CHUNK + 5]).toBe(bytesFrom(3 * CHUNK + 5, 1)[0])
  expect((await server.served()).bytes - served).toBe(CHUNK)
  expect(Buffer.from(bytes).equals(bytesFrom(0, BYTES))).toBe(true)
  expect((await server.served()).bytes - served).toBe(BYTES)
  expect(region.paging.stats()).toMatchObject({ fetchedBytes: BYTES, failures: 0, retries: 0 })
})

test('what is read ahead comes in few requests, which grow', async () => {
  const bytes = 200 * CHUNK + 1
  const region = await open({ bytes })
  const requests = await before()
  expect(Buffer.from(region.view()).equals(bytesFrom(0, bytes))).toBe(true)
  expect((await before()) - requests).toBeLessThan(40)
})

test('versions are told by a strong tag, else by a date, else refused', async () => {
  for (const mode of ['weak', 'dated']) {
    const region = await open({ mode, from: 0 })
    expect(await read(region)).toBe(null)
    const { log } = await server.served()
    expect(log.at(-1).ifRange).toMatch('Mar 2026')
  }
  const unversioned = { mode: 'unversioned', from: 0 }
  const error = await thrownBy(() => open(unversioned))
  expectError(error, { code: FAILED, says: ['ETag', 'immutable'] })
  expect(await read(await open(unversioned, { immutable: true }))).toBe(null)
})

// By what the server does: the error at opening, where its first answer is so already; the one for
// its later answers; and the one where only two of those are so, with two tries again.
const NEVER = null
describe.each([
  ['ignores ranges', 'whole', FAILED, FAILED, FAILED, 'ignores ranges'],
  ['has another version, whole', 'changed-200', FAILED, CHANGED, CHANGED, 'changed'],
  ['has another version, in parts', 'changed-206', NEVER, CHANGED, CHANGED, 'changed'],
  ['has another date', 'redated', NEVER, CHANGED, CHANGED, 'changed'],
  ['tells no version any more', 'unversioned', FAILED, CHANGED, CHANGED, 'changed'],
  ['has more bytes by now', 'longer', FAILED, CHANGED, CHANGED, 'changed'],
  ['has no such part any more', 'empty', LENGTH, CHANGED, CHANGED, 'shorter'],
  ['sends another part', 'elsewhere', FAILED, FAILED, FAILED, 'were asked for'],
  ['sends less of a part', 'less-range', FAILED, FAILED, FAILED, ''],
  ['does not say which part', 'no-range', FAILED, FAILED, FAILED, 'no Content-Range'],
  ['does not say of how many', 'star-range', FAILED, FAILED, FAILED, 'Content-Range'],
  ['says a part that is none', 'mad-range', FAILED, FAILED, FAILED, 'Content-Range'],
  ['packs what it sends', 'packed', FAILED, FAILED, FAILED, 'gzip'],
  ['sends too much', 'too-much', FAILED, FAILED, FAILED, 'more bytes'],
  ['sends too little', 'too-little', FAILED, FAILED, NEVER, 'too early'],
  ['has it no more', 'missing', FAILED, FAILED, FAILED, '404'],
  ['wants to be left alone', '429', FAILED, FAILED, NEVER, '429'],
  ['fails', '503', FAILED, FAILED, NEVER, '503'],
  ['does not answer', 'stall-head', FAILED, FAILED, NEVER, 'not answered within 500 ms'],
  ['stops in the middle', 'stall-body', FAILED, FAILED, NEVER, 'nothing for 500 ms'],
  ['closes the connection', 'reset', FAILED, FAILED, NEVER, "can't be read"],
  ['closes it in the middle', 'half', FAILED, FAILED, NEVER, 'broken off'],
  ['talks nonsense', 'garbage', FAILED, FAILED, NEVER, "can't be read"],
  ['changes the protocol', 'other-protocol', FAILED, FAILED, NEVER, 'has closed the connection'],
  ['leads in circles', 'endless', FAILED, FAILED, NEVER, 'more than 5 times'],
  ['leads to a file', 'to-file', FAILED, FAILED, FAILED, 'file:'],
  ['leads nowhere', 'to-nothing', FAILED, FAILED, FAILED, 'no address']
])('a server that %s', (_, mode, atOpen, later, twice, says) => {
  const expectEnd = (error, code) => {
    if (code === NEVER) expect(error).toBe(null)
    else expectError(error, { code, says })
  }

  test('when it is opened', async () => {
    const opened = await thrownBy(() => open({ mode, from: 0 }))
    // Some say nothing wrong about a part of one byte, and are found out by the next request.
    if (opened !== null || atOpen === NEVER || mode === 'longer') {
      if (opened !== null) expectError(opened, { code: atOpen })
      return
    }
    throw new Error('it was opened')
  })

  test('later', async () => {
    const region = await open({ mode, from: 1 })
    expectEnd(await read(region), later)
    const { failures, lastError } = region.paging.stats()
    expect(failures > 0).toBe(later !== NEVER)
    if (later !== NEVER) expect(lastError).toMatch(says)
  })

  test('twice, and then no more', async () => {
    const region = await open({ mode, from: 1, times: 2 })
    expectEnd(await read(region), twice)
    // What was not served is asked for again.
    for (let i = 0; i < 3 && (await read(region)) !== null; i++);
    expect(await read(region)).toBe(null)
    expect(Buffer.from(region.view()).equals(bytesFrom(0, BYTES))).toBe(true)
  })
})

test.each(['no-end', 'no-last-piece'])('all bytes without an end are enough: %s', async mode => {
  const region = await open({ mode, from: 0 }, { retries: 0 })
  expect(await read(region)).toBe(null)
  expect(region.paging.stats()).toMatchObject({ failures: 0, retries: 0, lastError: null })
})

test('a server that trickles is no progress', async () => {
  const region = await open({ mode: 'trickle' }, { retries: 0, stallMs: 400 })
  expectError(await read(region), { code: FAILED, says: 'longer than 4000 ms' })
})

test('redirects are followed and remembered, and keep what is secret', async () => {
  const headers = { Authorization: 'Bearer secret' }
  const own = await open({ mode: 'redirect', from: 0 }, { headers })
  expect(await read(own)).toBe(null)
  const { log: first } = await server.served()
  expect(first.at(-1)).toMatchObject({ authorization: 'Bearer secret' })
  const other = await open({ mode: 'other-host', from: 0 }, { headers })
  const { log, requests } = await server.served()
  expect(log.slice(-2)).toMatchObject([
    { authorization: 'Bearer secret' },
    { host: `localhost:${server.port}` }
  ])
  expect(log.at(-1).authorization).toBe(undefined)
  expect(await read(other)).toBe(null)
  // None of them was redirected again.
  expect((await server.served()).requests - requests).toBe(other.paging.stats().requests)
})

test('a password in the address is sent, and shown to nobody', async () => {
  const url = server.of({ bytes: BYTES, mode: 'missing' }).replace('//', '//me:top%20secret@')
  const region = keep(await HostRegion.paged({ provider: { url, retries: 0 } }))
  const error = await read(region)
  const { log } = await server.served()
  const authorization = `Basic ${Buffer.from('me:top secret').toString('base64')}`
  expect(log.at(-1)).toMatchObject({ authorization })
  expect(error.message).not.toMatch(/secret|bytes=/)
})

test('Retry-After is waited for', async () => {
  const region = await open({ mode: '429', times: 1, after: 1 })
  const begun = performance.now()
  expect(await read(region)).toBe(null)
  expect(performance.now() - begun).toBeGreaterThan(900)
  expect(region.paging.stats().retries).toBe(1)
})

test('a server that is not there, or ends, is an error, and one that comes back serves', async () => {
  const own = await startRanges()
  const url = own.of({ bytes: BYTES })
  const provider = { url, retries: 1, stallMs: 300 }
  const region = keep(await HostRegion.paged({ provider, chunkBytes: CHUNK }))
  await own.stop()
  expectError(await read(region), { code: FAILED, says: "can't be read" })
  expectError(await thrownBy(() => HostRegion.paged({ provider })), { code: FAILED })
  expect(new Uint8Array(region.view())[CHUNK]).toBe(0)
  expect(region.faults).toBe(1)
  expect(await nextWarning()).toMatchObject({ code: 'HOSTMAP_MISSING_PAGE' })
  const nowhere = { url: 'http://no-such-host.invalid/x', retries: 0 }
  expectError(await thrownBy(() => HostRegion.paged({ provider: nowhere })), { code: FAILED })
})

test('a server in the thread that touches it: an error, and no end in waiting', async () => {
  // In a process of its own, whose main thread has the server.
  const script = `
    const http = require('node:http')
    const { HostRegion } = require(${JSON.stringify(require.resolve('..'))})
    const server = http.createServer((request, response) => {
      const [first, last] = request.headers.range.match(/\\d+/g).map(Number)
      response.writeHead(206, { etag: '"1"', 'content-range': 'bytes ' + first + '-' + last + '/1048576' })
      response.end(Buffer.alloc(last - first + 1, 7))
    }).listen(0, async () => {
      const url = 'http://127.0.0.1:' + server.address().port
      const region = await HostRegion.paged({ provider: { url, retries: 0, stallMs: 200 } })
      const bytes = new Uint8Array(region.view())
      const seen = bytes[5]
      const hold = await region.paging.ensure()
      console.log(JSON.stringify([seen, region.faults, new Uint8Array(region.view())[500000]]))
      process.exit()
    })`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  child.stdout.on('data', data => (said += data))
  await once(child, 'close')
  expect(JSON.parse(said)).toEqual([0, 1, 7])
})
