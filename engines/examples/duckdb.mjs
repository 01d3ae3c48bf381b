// A DuckDB database over a region, beside the usual way, where it is copied into the engine's
// memory.
//
//   node engines/examples/duckdb.mjs [--size 256MiB]
//
// The database is made on the first run, by DuckDB.

import fs from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import duckdb from '@duckdb/duckdb-wasm/blocking'
import { HostRegion } from 'wasm-hostmap'
import { mountFile, regionRuntime } from 'wasm-hostmap/duckdb'
import { parseBytes } from '../../demo/units.mjs'
import { compareWays } from '../support/compare-ways.mjs'
import { answer, scan, warmUp } from '../support/duckdb-case.mjs'
import { makeDuckdbFile, makeInstance } from '../support/duckdb.mjs'

const way = (runtime, give) => ({
  prepare: async () => warmUp(await makeInstance(runtime)),
  open: ({ db, connection }, file) => {
    give(db, file)
    connection.query("ATTACH 'orders.duckdb' AS x (READ_ONLY)")
    return connection
  },
  answer: connection => ({ rows: answer(connection), sums: scan(connection) })
})

const usual = way(duckdb.NODE_RUNTIME, (db, file) =>
  db.registerFileBuffer('orders.duckdb', fs.readFileSync(file))
)
const mounted = way(regionRuntime(duckdb.NODE_RUNTIME), (db, file) =>
  mountFile(db, 'orders.duckdb', HostRegion.open(file))
)

await compareWays(fileURLToPath(import.meta.url), { usual, mounted }, () => {
  const { values } = parseArgs({ options: { size: { type: 'string', default: '256MiB' } } })
  const size = parseBytes(values.size)
  if (!(size > 0)) throw new Error('--size takes a size such as 256MiB')
  const name = `../data/duckdb-${size}.duckdb`
  return makeDuckdbFile(fileURLToPath(new URL(name, import.meta.url)), size)
})
