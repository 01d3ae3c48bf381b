// SQLite queries a database behind an HTTP server, of which only the pages that it touches are
// fetched. The server counts what it serves; a drawing shows which chunks are here.
//
//   node engines/examples/sqlite-http.mjs [--size 2GiB] [--chunk 128KiB] [--url URL]
//
// The database is made on the first run, in engines/data/, and served by a process of its own.

import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import sqlite3InitModule from '@sqlite.org/sqlite-wasm'
import { HostRegion } from 'wasm-hostmap'
import { openDatabase } from 'wasm-hostmap/sqlite'
import { parseBytes } from '../../demo/units.mjs'
import { formatBytes, formatMilliseconds } from '../../examples/support/cli.mjs'
import { drawChunks } from '../support/draw-chunks.mjs'
import { serveFile } from '../support/file-server.mjs'
import { answerQueries, messagesDatabase } from '../support/sqlite-data.mjs'

const DATA = fileURLToPath(new URL('../data/', import.meta.url))
// The point query's bar.
const MOST_FETCHED = 8 * 2 ** 20

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '2GiB' },
    chunk: { type: 'string', default: '128KiB' },
    url: { type: 'string' }
  }
})
const server =
  values.url === undefined
    ? await serveFile(await messagesDatabase(DATA, parseBytes(values.size)))
    : undefined
const url = values.url ?? server.url

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
  console.log(drawChunks(region.paging.chunks()))
  return fetchedBytes
}
console.log(`${formatBytes(region.byteLength)} behind ${url}`)
told('opened', begun)
for (const { name, sql, bind } of answerQueries) {
  const started = performance.now()
  const rows = db.selectArrays(sql, bind)
  const fetched = told(`${name} (${rows.length} rows)`, started)
  if (fetched > MOST_FETCHED && server !== undefined) {
    throw new Error(`more than ${formatBytes(MOST_FETCHED)} were fetched`)
  }
}
const again = performance.now()
for (const { sql, bind } of answerQueries) db.selectArrays(sql, bind)
console.log(`all of them again, of what is here: ${formatMilliseconds(performance.now() - again)}`)
db.close()
region.close()
if (server !== undefined) {
  const { bytes, requests } = await server.served()
  console.log(`The server has served ${formatBytes(bytes)} in ${requests} requests.`)
  await server.close()
}
