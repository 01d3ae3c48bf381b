// SQLite queries a database behind an HTTP server, of which only the pages that it touches are
// fetched. The server counts what it serves; a drawing shows which chunks are here.
//
//   node engines/examples/sqlite-http.mjs [--size 2GiB] [--chunk 128KiB] [--url URL]
//
// The database is made on the first run, in engines/data/, and served by a process of its own:
// threads of this one stand still while they wait for it.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, createReadStream, fstatSync, openSync } from 'node:fs'
import http from 'node:http'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import sqlite3InitModule from '@sqlite.org/sqlite-wasm'
import { HostRegion } from 'wasm-hostmap'
import { openDatabase } from 'wasm-hostmap/sqlite'
import { parseBytes } from '../../demo/units.mjs'
import { formatBytes, formatMilliseconds } from '../../examples/support/cli.mjs'
import { answerQueries, messagesDatabase } from '../support/sqlite-data.mjs'

const DATA = fileURLToPath(new URL('../data/', import.meta.url))
const [COLUMNS, ROWS] = [72, 6]
// The point query's bar.
const MOST_FETCHED = 8 * 2 ** 20

/** Serves one file by ranges, and says how many bytes it has served when it is asked. */
function serve(path) {
  const fd = openSync(path)
  const { size, mtimeMs } = fstatSync(fd)
  const served = { requests: 0, bytes: 0 }
  const server = http.createServer((request, response) => {
    const asked = /^bytes=(?<first>\d+)-(?<last>\d+)$/.exec(request.headers.range ?? '')?.groups
    if (asked === undefined) return response.writeHead(400).end()
    const start = Number(asked.first)
    const end = Math.min(Number(asked.last), size - 1)
    served.requests++
    served.bytes += end - start + 1
    response.writeHead(206, {
      etag: `"${size}-${mtimeMs}"`,
      'content-range': `bytes ${start}-${end}/${size}`,
      'content-length': end - start + 1
    })
    createReadStream('', { fd, autoClose: false, start, end }).pipe(response)
  })
  server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }))
  process.on('message', () => process.send(served))
  process.on('disconnect', () => {
    closeSync(fd)
    process.exit()
  })
}

/** A line of blocks for each part of the region: the fuller, the more of its chunks are here. */
function draw(chunks) {
  const cells = COLUMNS * ROWS
  const lines = []
  for (let row = 0; row < ROWS; row++) {
    let line = ''
    for (let column = 0; column < COLUMNS; column++) {
      const cell = row * COLUMNS + column
      const from = Math.floor((cell * chunks.length) / cells)
      const to = Math.max(from + 1, Math.floor(((cell + 1) * chunks.length) / cells))
      const here = chunks.subarray(from, to).filter(state => state === 2).length
      // Even one chunk of many shows.
      line += here === 0 ? '·' : '▁▂▃▄▅▆▇█'[Math.floor((7 * here) / (to - from))]
    }
    lines.push(`  │${line}│`)
  }
  return lines.join('\n')
}

async function main() {
  const { values } = parseArgs({
    options: {
      size: { type: 'string', default: '2GiB' },
      chunk: { type: 'string', default: '128KiB' },
      url: { type: 'string' }
    }
  })
  const path = values.url ?? (await messagesDatabase(DATA, parseBytes(values.size)))
  const server =
    values.url === undefined ? fork(fileURLToPath(import.meta.url), ['serve', path]) : undefined
  const [said] = server === undefined ? [{}] : await once(server, 'message')
  const url = values.url ?? `http://127.0.0.1:${said.port}/messages.sqlite`

  const sqlite3 = await sqlite3InitModule()
  const begun = performance.now()
  const chunkBytes = parseBytes(values.chunk)
  const region = await HostRegion.paged({ provider: { url }, chunkBytes, name: 'messages' })
  const db = openDatabase(sqlite3, region)
  const told = (what, sinceMs) => {
    const { fetchedBytes, touches, requests, lastError } = region.paging.stats()
    if (lastError !== null) throw new Error(lastError)
    const took = formatMilliseconds(performance.now() - sinceMs)
    const fetched = `${formatBytes(fetchedBytes)} in ${requests} requests`
    console.log(`${what}: ${took}; so far ${fetched}, ${touches} touches of missing chunks`)
    console.log(draw(region.paging.chunks()))
    return fetchedBytes
  }
  console.log(`${formatBytes(region.byteLength)} behind ${url}`)
  told('opened', begun)
  for (const { name, sql, bind } of answerQueries) {
    const started = performance.now()
    const rows = db.selectArrays(sql, bind)
    const fetched = told(`${name} (${rows.length} rows)`, started)
    if (fetched > MOST_FETCHED && values.url === undefined) {
      throw new Error(`more than ${formatBytes(MOST_FETCHED)} were fetched`)
    }
  }
  const again = performance.now()
  for (const { sql, bind } of answerQueries) db.selectArrays(sql, bind)
  console.log(
    `all of them again, of what is here: ${formatMilliseconds(performance.now() - again)}`
  )
  db.close()
  region.close()
  if (server === undefined) return
  server.send('tell')
  const [{ bytes, requests }] = await once(server, 'message')
  console.log(`The server has served ${formatBytes(bytes)} in ${requests} requests.`)
  server.disconnect()
}

if (process.argv[2] === 'serve') serve(process.argv[3])
else await main()
