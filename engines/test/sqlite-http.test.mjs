// SQLite over a paged region whose bytes are behind an HTTP server: what is fetched, and that
// answers are those of the mapped file.

import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import sqlite3InitModule from '@sqlite.org/sqlite-wasm'
import { HostRegion } from 'wasm-hostmap'
import { openDatabase } from 'wasm-hostmap/sqlite'
import { serveFile } from '../support/file-server.mjs'
import { answerQueries, messagesDatabase, scanQuery } from '../support/sqlite-data.mjs'

const BYTES = 16 * 2 ** 20
const CHUNK_BYTES = 2 ** 16
const DATA = fileURLToPath(new URL('../data/', import.meta.url))

let path, server, sqlite3
const expected = []
before(async () => {
  path = await messagesDatabase(DATA, BYTES)
  server = await serveFile(path)
  sqlite3 = await sqlite3InitModule()
  const db = openDatabase(sqlite3, HostRegion.open(path))
  for (const { sql, bind } of answerQueries) expected.push(db.selectArrays(sql, bind))
  expected.push(db.selectArrays(scanQuery))
  db.close()
})
after(() => server.close())

const paged = options =>
  HostRegion.paged({ provider: { url: server.url }, chunkBytes: CHUNK_BYTES, ...options })

for (const userfaultfd of [undefined, false]) {
  const by = userfaultfd === false ? 'by mappings' : 'by userfaultfd where it is allowed'

  test(`a point query fetches a small part, ${by}`, async () => {
    const before = await server.served()
    const region = await paged({ userfaultfd })
    const db = openDatabase(sqlite3, region)
    const [{ sql, bind }] = answerQueries
    assert.deepEqual(db.selectArrays(sql, bind), expected[0])
    const { fetchedBytes, failedTouches, lastError } = region.paging.stats()
    const { bytes } = await server.served()
    assert.equal(lastError, null)
    assert.equal(failedTouches, 0)
    assert.ok(fetchedBytes >= CHUNK_BYTES && fetchedBytes <= BYTES / 16, `${fetchedBytes} fetched`)
    // The server counts what opening has asked for, too.
    const served = bytes - before.bytes
    assert.ok(served >= fetchedBytes && served <= BYTES / 16, `${served} bytes were served`)
    db.close()
    region.close()
  })

  test(`all of it is right with a cache of an eighth, ${by}`, async () => {
    const region = await paged({ userfaultfd, cacheBytes: BYTES / 8 })
    const db = openDatabase(sqlite3, region)
    const answers = answerQueries.map(({ sql, bind }) => db.selectArrays(sql, bind))
    answers.push(db.selectArrays(scanQuery))
    assert.deepEqual(answers, expected)
    const { evictions, failedTouches, fetchedBytes } = region.paging.stats()
    assert.ok(evictions > 0)
    assert.equal(failedTouches, 0)
    assert.ok(fetchedBytes >= statSync(path).size / 2)
    db.close()
    region.close()
  })
}
