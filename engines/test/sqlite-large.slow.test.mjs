// The hundred questions of sqlite-queries.test.mjs to a database of 4.6 GiB, whose tables and
// indexes are before and behind 4.5 GiB of blobs. It is made in engines/data/ and removed again.

import assert from 'node:assert/strict'
import { constants } from 'node:buffer'
import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import sqlite3InitModule from '@sqlite.org/sqlite-wasm'
import initSqlJs from 'sql.js'
import { HostRegion } from 'wasm-hostmap'
import { openDatabase } from 'wasm-hostmap/sqlite'
import { NativeSqlite } from '../support/native-sqlite.mjs'
import { answersOfNative } from '../support/queries.mjs'
import { checkAnswers, sqliteWasm, sqljs, updateNative } from '../support/shop-engines.mjs'
import { makeShop } from '../support/shop.mjs'

const SIZE = 4.6 * 2 ** 30
const FILLER = 4.6 * 2 ** 30
const fitsBuffer = SIZE <= constants.MAX_LENGTH
const data = fileURLToPath(new URL('../data/', import.meta.url))
mkdirSync(data, { recursive: true })
const directory = mkdtempSync(join(data, 'large-'))
const path = join(directory, 'shop.sqlite')

// What the engines answered after the updates, until the native SQLite has made them, too. It makes
// them in the file itself, last of all: no copy of it is needed.
const updated = {}
let changed

before(async () => {
  await makeShop(path, FILLER)
  changed = statSync(path).mtimeMs
})
after(() => rmSync(directory, { recursive: true, force: true }))

async function native(fts) {
  const sqlite = new NativeSqlite(path)
  try {
    return await answersOfNative(sqlite, fts)
  } finally {
    await sqlite.close()
  }
}

test('the database has 4.6 GiB', () => assert.ok(statSync(path).size >= SIZE))

test('sqlite-wasm answers as the native SQLite does', async () => {
  const expected = await native('fts5')
  const sqlite3 = await sqlite3InitModule()
  const region = HostRegion.open(path)
  const db = openDatabase(sqlite3, region)
  checkAnswers(sqliteWasm.answers(db), expected)
  db.close()

  const own = openDatabase(sqlite3, region, { access: 'private' })
  sqliteWasm.update(own)
  updated.fts5 = sqliteWasm.answers(own)
  own.close()
  region.close()
})

test('sql.js answers as the native SQLite does', { skip: !fitsBuffer }, async () => {
  const expected = await native('fts4')
  const SQL = await initSqlJs()
  const region = HostRegion.open(path)
  const db = new SQL.Database(region.bytes())
  region.close()
  checkAnswers(sqljs.answers(db), expected)
  sqljs.update(db)
  updated.fts4 = sqljs.answers(db)
  db.close()
})

test('without a Buffer of that size, the error says so', { skip: fitsBuffer }, () => {
  const region = HostRegion.open(path)
  assert.throws(() => region.bytes(), { code: 'ERR_OUT_OF_RANGE', message: /largest buffer/ })
  region.close()
})

test('both answer alike after 10,000 updates, which the file has none of', async () => {
  assert.equal(statSync(path).mtimeMs, changed)
  const sqlite = new NativeSqlite(path)
  await updateNative(sqlite)
  const kinds = fitsBuffer ? ['fts5', 'fts4'] : ['fts5']
  for (const kind of kinds) checkAnswers(updated[kind], await answersOfNative(sqlite, kind))
  await sqlite.close()
})
