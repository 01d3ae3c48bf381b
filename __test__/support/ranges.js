'use strict'

// An HTTP server in a process of its own, since threads of the test's stand still in touches. It
// serves bytes by ranges, counts what it serves, and misbehaves as the address of a file says:
//
//   /name?bytes=1000000&mode=reset&from=1&times=2
//
// `from`: which of this address's requests is the first to go wrong; `times`: how many do.

const http = require('node:http')
const { fork } = require('node:child_process')
const { once } = require('node:events')

/** A byte of a file of any length. */
const byteAt = at =>
  ((at >>> 12) * 31 + (at >>> 20) * 17 + at * 7 + Math.floor(at / 2 ** 32)) & 0xff

/** Those from `first` on. A run of 4 KiB differs from others by an addition only. */
function bytesFrom(first, length) {
  const bytes = Buffer.allocUnsafe(length)
  for (let i = 0; i < length;) {
    const end = Math.min(length, i + 4096 - ((first + i) % 4096))
    let value = byteAt(first + i)
    for (; i < end; i++, value += 7) bytes[i] = value
  }
  return bytes
}

const seen = new Map()
const served = { requests: 0, bytes: 0, log: [] }
const DATE = 'Mon, 02 Mar 2026 10:00:00 GMT'

function answer(request, response) {
  const url = new URL(request.url, 'http://localhost')
  const query = Object.fromEntries(url.searchParams)
  const total = Number(query.bytes ?? 1_000_000)
  const count = seen.get(request.url) ?? 0
  seen.set(request.url, count + 1)
  const from = Number(query.from ?? 1)
  const isWrong = count >= from && count < from + Number(query.times ?? Infinity)
  const mode = isWrong ? query.mode : 'right'
  const { range = '', authorization, 'if-range': ifRange, host } = request.headers
  served.requests++
  if (served.log.length < 1000)
    served.log.push({ url: request.url, range, authorization, ifRange, host })
  const asked = /^bytes=(\d+)-(\d+)$/.exec(range)
  const first = Number(asked?.[1] ?? 0)
  const last = Math.min(Number(asked?.[2] ?? total - 1), total - 1)
  const length = last - first + 1
  const send = (extra = {}, { status = 206, bytes = () => bytesFrom(first, length) } = {}) => {
    const headers = {
      etag: '"one"',
      'content-range': `bytes ${first}-${last}/${total}`,
      'content-length': length,
      ...extra
    }
    for (const name of Object.keys(headers)) if (headers[name] === undefined) delete headers[name]
    response.writeHead(status, headers)
    const body = bytes()
    served.bytes += body.length
    response.end(body)
  }
  const redirect = location => {
    response.writeHead(302, { location })
    response.end()
  }
  const plain = { 'content-length': undefined }
  const modes = {
    right: () => send(),
    weak: () => send({ etag: 'W/"one"', 'last-modified': DATE }),
    dated: () => send({ etag: undefined, 'last-modified': DATE }),
    redated: () => send({ etag: undefined, 'last-modified': 'Tue, 03 Mar 2026 10:00:00 GMT' }),
    unversioned: () => send({ etag: undefined }),
    whole: () =>
      send(
        { 'content-range': undefined, 'content-length': total },
        { status: 200, bytes: () => bytesFrom(0, total) }
      ),
    'changed-200': () =>
      send(
        { etag: '"two"', 'content-range': undefined, 'content-length': undefined },
        { status: 200 }
      ),
    'changed-206': () => send({ etag: '"two"' }),
    'no-etag-later': () => send({ etag: undefined }),
    longer: () => send({ 'content-range': `bytes ${first}-${last}/${total + 1}` }),
    elsewhere: () => send({ 'content-range': `bytes ${first + 1}-${last + 1}/${total}` }),
    'less-range': () =>
      send(
        { 'content-range': `bytes ${first}-${last - 1}/${total}`, 'content-length': length - 1 },
        { bytes: () => bytesFrom(first, length - 1) }
      ),
    'no-range': () => send({ 'content-range': undefined }),
    'star-range': () => send({ 'content-range': `bytes ${first}-${last}/*` }),
    'mad-range': () => send({ 'content-range': 'bytes 0-99999999999999999999999/7' }),
    packed: () => send({ 'content-encoding': 'gzip' }),
    'too-much': () => send(plain, { bytes: () => bytesFrom(first, length + 1) }),
    'too-little': () => send(plain, { bytes: () => bytesFrom(first, length - 1) }),
    missing: () => {
      response.writeHead(404)
      response.end('x'.repeat(200_000))
    },
    429: () => {
      response.writeHead(429, { 'retry-after': query.after ?? '0' })
      response.end()
    },
    503: () => {
      response.writeHead(503)
      response.end()
    },
    'stall-head': () => {},
    'stall-body': () => {
      response.writeHead(206, { etag: '"one"', 'content-range': `bytes ${first}-${last}/${total}` })
      response.write(bytesFrom(first, Math.floor(length / 2)))
    },
    trickle: () => {
      response.writeHead(206, { etag: '"one"', 'content-range': `bytes ${first}-${last}/${total}` })
      let at = first
      const timer = setInterval(() => response.write(bytesFrom(at++, 1)), 20)
      response.on('close', () => clearInterval(timer))
    },
    reset: () => request.socket.destroy(),
    // All of the bytes, and then nothing, or the end of the connection: no last piece.
    'no-end': () => {
      response.writeHead(206, { etag: '"one"', 'content-range': `bytes ${first}-${last}/${total}` })
      response.write(bytesFrom(first, length))
    },
    'no-last-piece': () => {
      response.writeHead(206, { etag: '"one"', 'content-range': `bytes ${first}-${last}/${total}` })
      response.write(bytesFrom(first, length), () => setImmediate(() => request.socket.end()))
    },
    'other-protocol': () =>
      request.socket.write('HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nx'),
    half: () => {
      response.writeHead(206, {
        etag: '"one"',
        'content-range': `bytes ${first}-${last}/${total}`,
        'content-length': length
      })
      response.write(bytesFrom(first, Math.floor(length / 2)), () => request.socket.destroy())
    },
    garbage: () => request.socket.end('\u0000\u0001not HTTP at all\r\n\r\n'),
    redirect: () => redirect(`${url.pathname}?bytes=${total}`),
    endless: () => redirect(request.url),
    'other-host': () =>
      redirect(`http://localhost:${request.socket.localPort}${url.pathname}?bytes=${total}`),
    'to-file': () => redirect('file:///etc/passwd'),
    'to-nothing': () => redirect('http://['),
    expired: () => {
      response.writeHead(403)
      response.end()
    },
    empty: () => {
      response.writeHead(416, { 'content-range': 'bytes */0' })
      response.end()
    },
    slow: () => setTimeout(send, Number(query.ms ?? 20))
  }
  modes[mode ?? 'right']()
}

/** Starts it. `of(query, path)` gives an address, `served()` what it has served so far. */
async function startRanges() {
  const child = fork(__filename, ['serve'], { execArgv: [] })
  const [port] = await once(child, 'message')
  return {
    port,
    pid: child.pid,
    of: (query = {}, name = `file-${Math.random()}`) =>
      `http://127.0.0.1:${port}/${name}?${new URLSearchParams(query)}`,
    async served() {
      child.send('tell')
      const [told] = await once(child, 'message')
      return told
    },
    async stop() {
      child.kill()
      await once(child, 'exit')
    }
  }
}

if (process.argv[2] === 'serve') {
  const server = http.createServer({ keepAliveTimeout: 60_000 }, answer)
  server.listen(0, () => process.send(server.address().port))
  process.on('message', () => process.send(served))
  process.on('disconnect', () => process.exit())
}

module.exports = { startRanges, byteAt, bytesFrom }
