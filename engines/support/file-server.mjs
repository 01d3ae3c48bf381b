// A file behind an HTTP server of ranges, in a process of its own: threads of this one stand still
// while they wait for chunks. It counts what it serves.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, createReadStream, fstatSync, openSync } from 'node:fs'
import http from 'node:http'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'

const PROGRAM = fileURLToPath(import.meta.url)

/** Starts the server. `served()` tells how many requests and bytes it has answered so far. */
export async function serveFile(path) {
  const server = fork(PROGRAM, [path])
  const [{ port }] = await once(server, 'message')
  return {
    url: `http://127.0.0.1:${port}/${encodeURIComponent(basename(path))}`,
    async served() {
      server.send('tell')
      const [served] = await once(server, 'message')
      return served
    },
    async close() {
      server.disconnect()
      await once(server, 'exit')
    }
  }
}

function serve(path) {
  const fd = openSync(path)
  const { size, mtimeMs } = fstatSync(fd)
  const served = { requests: 0, bytes: 0 }
  const server = http.createServer((request, response) => {
    const asked = /^bytes=(?<first>\d+)-(?<last>\d+)$/.exec(request.headers.range ?? '')?.groups
    const start = Number(asked?.first ?? 0)
    const end = Math.min(Number(asked?.last ?? size - 1), size - 1)
    served.requests++
    served.bytes += end - start + 1
    response.writeHead(asked === undefined ? 200 : 206, {
      etag: `"${size}-${mtimeMs}"`,
      'content-length': end - start + 1,
      ...(asked && { 'content-range': `bytes ${start}-${end}/${size}` })
    })
    const highWaterMark = 2 ** 20
    createReadStream('', { fd, autoClose: false, start, end, highWaterMark }).pipe(response)
  })
  server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }))
  process.on('message', () => process.send(served))
  process.on('disconnect', () => {
    closeSync(fd)
    process.exit()
  })
}

if (process.argv[1] === PROGRAM) serve(process.argv[2])
