// DuckDB queries a database behind an HTTP server, of which only the blocks that it reads are
// fetched. The server counts what it serves; a drawing shows which chunks are here.
//
//   node engines/examples/duckdb-http.mjs [--size 2GiB] [--chunk 64KiB] [--url URL]
//
// The database is made on the first run, by DuckDB, in engines/data/, and served by a process of
// its own. DuckDB reads blocks of 256 KiB. A row is in as many blocks as it has columns, and which
// blocks those are is in blocks that describe the table.

import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import duckdb from '@duckdb/duckdb-wasm/blocking'
import { HostRegion } from 'wasm-hostmap'
import { mountFile, regionRuntime } from 'wasm-hostmap/duckdb'
import { parseBytes } from '../../demo/units.mjs'
import { formatBytes, formatMilliseconds } from '../../examples/support/cli.mjs'
import { drawChunks } from '../support/draw-chunks.mjs'
import { makeDuckdbFile, makeInstance, rowsOf } from '../support/duckdb.mjs'
import { serveFile } from '../support/file-server.mjs'

// The bar of opening it and asking for one row.
const MOST_FETCHED = 8 * 2 ** 20
const QUERIES = [
  ['one row, by its id', 'select * from x.t where id = 1234567'],
  ['one column of that row', 'select h from x.t where id = 1234567'],
  ['four rows', 'select * from x.t where id between 500000 and 500003 order by id'],
  ['how many rows', 'select count(*) as n from x.t']
]

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '2GiB' },
    chunk: { type: 'string', default: '64KiB' },
    url: { type: 'string' }
  }
})
const data = bytes => fileURLToPath(new URL(`../data/duckdb-${bytes}.duckdb`, import.meta.url))
const size = parseBytes(values.size)
const server =
  values.url === undefined ? await serveFile(makeDuckdbFile(data(size), size)) : undefined
const url = values.url ?? server.url

const db = await makeInstance(regionRuntime(duckdb.NODE_RUNTIME))
const connection = db.connect()
const region = await HostRegion.paged({
  provider: { url },
  chunkBytes: parseBytes(values.chunk),
  // The rest of a block. What follows a block may be another column.
  readAheadBytes: 2 ** 18,
  name: 'orders'
})
const told = (what, run) => {
  const before = region.paging.stats()
  const started = performance.now()
  const rows = run()
  const took = formatMilliseconds(performance.now() - started)
  const { fetchedBytes, touches, requests, lastError } = region.paging.stats()
  if (lastError !== null) throw new Error(lastError)
  const fetched = formatBytes(fetchedBytes - before.fetchedBytes)
  const counts = `${requests - before.requests} requests, ${touches - before.touches} touches`
  console.log(`${what}: ${took}, ${fetched} fetched in ${counts} of missing chunks`)
  console.log(drawChunks(region.paging.chunks()))
  return rows
}
console.log(`${formatBytes(region.byteLength)} behind ${url}`)
told('attached', () => {
  mountFile(db, 'orders.duckdb', region)
  connection.query("attach 'orders.duckdb' as x (read_only)")
})
for (const [index, [name, sql]] of QUERIES.entries()) {
  told(name, () => rowsOf(connection, sql))
  const { fetchedBytes } = region.paging.stats()
  if (index === 0 && fetchedBytes > MOST_FETCHED && server !== undefined) {
    throw new Error(`more than ${formatBytes(MOST_FETCHED)} were fetched`)
  }
}
console.log(`${formatBytes(region.paging.stats().fetchedBytes)} were fetched in all.`)
region.close()
if (server !== undefined) {
  const { bytes, requests } = await server.served()
  console.log(`The server has served ${formatBytes(bytes)} in ${requests} requests.`)
  await server.close()
}
