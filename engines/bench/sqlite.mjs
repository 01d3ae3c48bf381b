// @sqlite.org/sqlite-wasm: the file read into SQLite's memory for sqlite3_deserialize, which is the
// way of its documentation, beside the VFS and a mapping of wasm-hostmap/sqlite.

import { readFileSync } from 'node:fs'
import sqlite3InitModule from '@sqlite.org/sqlite-wasm'
import { HostRegion } from 'wasm-hostmap'
import { deserialize, openDatabase } from 'wasm-hostmap/sqlite'
import { answerQueries, messagesDatabase, scanQuery } from '../support/sqlite-data.mjs'

export const engine = {
  name: 'SQLite',
  package: '@sqlite.org/sqlite-wasm',
  adapter: 'openDatabase(sqlite3, region)',
  limits: 'none: any size, and updates that stay private',
  nodes: '>=20',
  section: 'sqlite'
}

export const dataset = messagesDatabase

/** Opens a tiny database, so that V8 has compiled what is to be measured. */
async function prepare() {
  const sqlite3 = await sqlite3InitModule()
  const tiny = new sqlite3.oo1.DB()
  tiny.exec('CREATE TABLE t (a)')
  const image = sqlite3.capi.sqlite3_js_db_export(tiny)
  tiny.close()
  const region = HostRegion.copyFrom(image)
  const opened = [
    copyIn(sqlite3, image),
    openDatabase(sqlite3, region),
    deserialized(sqlite3, region)
  ]
  for (const db of opened) {
    readSchema(db)
    db.close()
  }
  region.close()
  return sqlite3
}

/** With SQLITE_DESERIALIZE_FREEONCLOSE, SQLite frees the copy. */
function copyIn({ capi, oo1, wasm }, bytes) {
  const address = wasm.allocFromTypedArray(bytes)
  const db = new oo1.DB()
  const flags = capi.SQLITE_DESERIALIZE_READONLY | capi.SQLITE_DESERIALIZE_FREEONCLOSE
  const size = bytes.length
  db.checkRc(capi.sqlite3_deserialize(db.pointer, 'main', address, size, size, flags))
  return db
}

function deserialized(sqlite3, region) {
  const db = new sqlite3.oo1.DB()
  deserialize(sqlite3, db, region)
  return db
}

/** As each first query does. */
const readSchema = db => db.selectValue('SELECT count(*) FROM sqlite_schema')

/** Makes a way of a function that opens the database. */
const way = open => ({
  prepare,
  async open(sqlite3, path) {
    const db = open(sqlite3, path)
    readSchema(db)
    return db
  },
  scan: async db => db.selectArrays(scanQuery),
  answer: async db => answerQueries.map(({ sql, bind }) => db.selectArrays(sql, bind)),
  close: async db => db.close()
})

export const ways = {
  usual: way((sqlite3, path) => {
    // SQLite's JavaScript does not take a Buffer.
    const { buffer, byteOffset, length } = readFileSync(path)
    return copyIn(sqlite3, new Uint8Array(buffer, byteOffset, length))
  }),
  mapped: way((sqlite3, path) => openDatabase(sqlite3, HostRegion.open(path))),
  deserialized: way((sqlite3, path) => deserialized(sqlite3, HostRegion.open(path)))
}
