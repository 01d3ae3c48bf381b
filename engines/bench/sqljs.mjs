// sql.js over a Buffer of a region. Its usual way is the one that its README shows for Node.js: the
// file is read into a Buffer, which MEMFS takes as the contents of a file.

import { readFileSync } from 'node:fs'
import initSqlJs from 'sql.js'
import { HostRegion } from 'wasm-hostmap'
import { answerQueries, messagesDatabase, scanQuery } from '../support/sqlite-data.mjs'

export const engine = {
  name: 'sql.js',
  package: 'sql.js',
  adapter: 'new SQL.Database(region.bytes())',
  nodes: '>=20',
  limits: 'over 4 GiB from Node.js 22 on',
  section: 'sqljs-7z-wasm-h5wasm-gdal3js-a-buffer'
}

export const dataset = messagesDatabase

const rows = (db, sql, bind) => db.exec(sql, bind).flatMap(({ values }) => values)

const way = bytesOf => ({
  async prepare() {
    const { Database } = await initSqlJs()
    // SQLite's own tables, and V8's code for it.
    const small = new Database()
    small.exec('CREATE TABLE warm (up); SELECT count(*) FROM warm')
    small.close()
    return { Database }
  },
  open: async ({ Database }, path) => new Database(bytesOf(path)),
  scan: db => rows(db, scanQuery),
  answer: db => answerQueries.map(({ sql, bind }) => rows(db, sql, bind)),
  close: db => db.close()
})

export const ways = {
  usual: way(path => readFileSync(path)),
  mapped: way(path => {
    const region = HostRegion.open(path)
    const bytes = region.bytes()
    region.close()
    return bytes
  })
}
