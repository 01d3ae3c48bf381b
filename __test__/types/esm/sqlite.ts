// The types of wasm-hostmap/sqlite: connections are of the class that the caller's module has.

import { HostRegion, type Mapping } from 'wasm-hostmap'
import { deserialize, mountDatabase, openDatabase } from 'wasm-hostmap/sqlite'

declare class DB {
  constructor(options?: string | object)
  selectValue(sql: string): unknown
  close(): void
}
declare const sqlite3: { capi: object; wasm: object; oo1: { DB: typeof DB } }
declare const region: HostRegion

const db = openDatabase(sqlite3, region, { access: 'private' })
db.selectValue('SELECT 1') satisfies unknown
// @ts-expect-error: DB has no such method
db.noSuchMethod()
// @ts-expect-error: a database can't be written through
openDatabase(sqlite3, region, { access: 'shared' })

const mounted = mountDatabase(sqlite3, region)
mounted.open().close()
mounted.uri satisfies string
// @ts-expect-error: no property can be set
mounted.filename = 'other'

deserialize(sqlite3, new DB(), region, { schema: 'main' }) satisfies Mapping
