// DuckDB: a database over the region, mounted or mapped, beside one that was copied into the
// engine's memory, and beside the package's own reading of the disk.
//
// That one attaches its database for writing, and writes nothing: the package's runtime says of one
// that is attached read-only that it doesn't exist.

import fs from 'node:fs'
import path from 'node:path'
import duckdb from '@duckdb/duckdb-wasm/dist/duckdb-node-blocking.cjs'
import { HostRegion } from 'wasm-hostmap'
import { mapFile, mountFile, regionRuntime } from 'wasm-hostmap/duckdb'
import { answer, scan, warmUp } from '../support/duckdb-case.mjs'
import { makeDuckdbFile, makeInstance } from '../support/duckdb.mjs'

export const engine = {
  name: 'DuckDB',
  package: '@duckdb/duckdb-wasm',
  adapter: 'mountFile(db, name, region)',
  nodes: '>=20',
  limits: 'the blocking build; a database, CSV',
  section: 'duckdb'
}

export const dataset = async (directory, byteLength) =>
  makeDuckdbFile(path.join(directory, `duckdb-${byteLength}.duckdb`), byteLength)

const way = (runtime, give, access = '(read_only)') => ({
  prepare: async () => warmUp(await makeInstance(runtime)),
  open: async ({ db, connection }, file) => {
    const name = give(db, file) ?? 'x.duckdb'
    connection.query(`attach '${name}' as x ${access}`)
    return connection
  },
  answer: async connection => answer(connection),
  scan: async connection => scan(connection),
  close: async connection => connection.query('detach x')
})

const { NODE_RUNTIME } = duckdb
export const ways = {
  usual: way(NODE_RUNTIME, (db, file) => db.registerFileBuffer('x.duckdb', fs.readFileSync(file))),
  mounted: way(
    regionRuntime(NODE_RUNTIME),
    (db, file) => void mountFile(db, 'x.duckdb', HostRegion.open(file))
  ),
  mapped: way(NODE_RUNTIME, (db, file) => void mapFile(db, 'x.duckdb', HostRegion.open(file))),
  disk: way(NODE_RUNTIME, (_, file) => file, '')
}
