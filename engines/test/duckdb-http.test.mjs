// DuckDB over a paged region whose bytes are behind an HTTP server: what is fetched, and that
// answers are those of the mapped file.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import duckdb from '@duckdb/duckdb-wasm/dist/duckdb-node-blocking.cjs'
import { HostRegion } from 'wasm-hostmap'
import { mountFile, regionRuntime } from 'wasm-hostmap/duckdb'
import { makeDuckdbFile, makeInstance, rowsOf } from '../support/duckdb.mjs'
import { serveFile } from '../support/file-server.mjs'

const BYTES = 16 * 2 ** 20
const FILE = fileURLToPath(new URL(`../data/duckdb/${BYTES}.duckdb`, import.meta.url))
// What the example has: DuckDB's blocks are four of these.
const CHUNK_BYTES = 2 ** 16
const BLOCK_BYTES = 2 ** 18
const POINT = 'select * from x.t where id = 123456'
const WHOLE = 'select count(*), sum(id), sum(h), min(name), max(price) from x.t'

let server, db, connection, region, file
const expected = {}
const attach = from => {
  region = from
  file = mountFile(db, 'x.duckdb', region)
  connection.query("attach 'x.duckdb' as x (read_only)")
}
const detach = () => {
  connection.query('detach x')
  file.unmount()
  region.close()
}

before(async () => {
  server = await serveFile(makeDuckdbFile(FILE, BYTES))
  db = await makeInstance(regionRuntime(duckdb.NODE_RUNTIME))
  connection = db.connect()
  attach(HostRegion.open(FILE))
  for (const sql of [POINT, WHOLE]) expected[sql] = rowsOf(connection, sql)
  assert.equal(expected[POINT].length, 1)
  detach()
})
after(() => server.close())

const paged = options =>
  HostRegion.paged({
    provider: { url: server.url },
    chunkBytes: CHUNK_BYTES,
    readAheadBytes: BLOCK_BYTES,
    ...options
  })

test('a point query fetches a part', async () => {
  attach(await paged())
  assert.deepEqual(rowsOf(connection, POINT), expected[POINT])
  const { fetchedBytes, failedTouches, lastError } = region.paging.stats()
  assert.equal(lastError, null)
  assert.equal(failedTouches, 0)
  // Headers, a block or two of metadata, a block or two for each of four columns.
  assert.ok(fetchedBytes >= BLOCK_BYTES && fetchedBytes < BYTES / 3, `${fetchedBytes} fetched`)
  detach()
})

for (const userfaultfd of [undefined, false]) {
  const by = userfaultfd === false ? 'by mappings' : 'by userfaultfd where it is allowed'

  test(`all of it is right with a cache of an eighth, ${by}`, async () => {
    attach(await paged({ userfaultfd, cacheBytes: BYTES / 8 }))
    for (const sql of [WHOLE, POINT]) assert.deepEqual(rowsOf(connection, sql), expected[sql])
    const { evictions, failedTouches } = region.paging.stats()
    assert.ok(evictions > 0)
    assert.equal(failedTouches, 0)
    detach()
  })
}
