// A hundred questions to a small database, answered as the native SQLite answers them: by
// sqlite-wasm through the VFS and by sql.js over a Buffer, before and after 10,000 updates.
// sqlite-large.slow.test.mjs asks the same of 4.6 GiB.

import assert from 'node:assert/strict'
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import sqlite3InitModule from '@sqlite.org/sqlite-wasm'
import initSqlJs from 'sql.js'
import { HostRegion } from 'wasm-hostmap'
import { openDatabase } from 'wasm-hostmap/sqlite'
import { NativeSqlite } from '../support/native-sqlite.mjs'
import { answersOfNative, queries } from '../support/queries.mjs'
import { checkAnswers, sqliteWasm, sqljs, updateNative } from '../support/shop-engines.mjs'
import { makeShop } from '../support/shop.mjs'

const directory = mkdtempSync(join(tmpdir(), 'hostmap-shop-'))
const path = join(directory, 'shop.sqlite')
const expected = {}
const expectedAfter = {}

before(async () => {
  await makeShop(path)
  const updated = join(directory, 'updated.sqlite')
  copyFileSync(path, updated)
  for (const [file, answers] of [
    [path, expected],
    [updated, expectedAfter]
  ]) {
    const native = new NativeSqlite(file)
    if (file === updated) await updateNative(native)
    answers.fts5 = await answersOfNative(native, 'fts5')
    answers.fts4 = await answersOfNative(native, 'fts4')
    await native.close()
  }
})
after(() => rmSync(directory, { recursive: true, force: true }))

test('there are a hundred, and hardly one has an empty answer', () => {
  assert.equal(queries.length, 100)
  for (const answers of Object.values(expected))
    assert.ok(answers.filter(rows => rows.length === 0).length <= 4)
  const changed = expected.fts5.filter(
    (rows, i) => JSON.stringify(rows) !== JSON.stringify(expectedAfter.fts5[i])
  )
  assert.ok(changed.length > 50, `the updates change ${changed.length} answers`)
})

test('sqlite-wasm answers through the VFS as the native SQLite does', async () => {
  const sqlite3 = await sqlite3InitModule()
  const db = openDatabase(sqlite3, HostRegion.open(path))
  checkAnswers(sqliteWasm.answers(db), expected.fts5)
  db.close()
})

test('and on a copy-on-write image after 10,000 updates, which the file has none of', async () => {
  const file = readFileSync(path)
  const sqlite3 = await sqlite3InitModule()
  const db = openDatabase(sqlite3, HostRegion.open(path), { access: 'private' })
  sqliteWasm.update(db)
  checkAnswers(sqliteWasm.answers(db), expectedAfter.fts5)
  assert.equal(db.selectValue('PRAGMA integrity_check'), 'ok')
  db.close()
  assert.ok(readFileSync(path).equals(file))
})

test('sql.js answers over a Buffer as the native SQLite does, before and after the updates', async () => {
  const file = readFileSync(path)
  const SQL = await initSqlJs()
  const db = new SQL.Database(HostRegion.open(path).bytes())
  checkAnswers(sqljs.answers(db), expected.fts4)
  sqljs.update(db)
  checkAnswers(sqljs.answers(db), expectedAfter.fts4)
  db.close()
  assert.ok(readFileSync(path).equals(file))
})
