// What the benchmark and the example ask DuckDB, whichever way it came to its database.

import fs from 'node:fs'
import { fileURLToPath } from 'node:url'
import { makeDuckdbFile, rowsOf } from './duckdb.mjs'

const SMALL = fileURLToPath(new URL('../data/duckdb-small.duckdb', import.meta.url))

const SCAN =
  'select count(*) as n, sum(id) as ids, sum(h) as hashes, max(price) as price, min(name) as name from x.t'
const ANSWERS = [
  'select * from x.t where id = 1234',
  'select * from x.t where id between 500000 and 500003 order by id',
  'select count(*) as n from x.t'
]

export const scan = connection => rowsOf(connection, SCAN)
export const answer = connection => ANSWERS.map(sql => rowsOf(connection, sql))

/** The engine is loaded, and the code of its queries is warm: a small database, asked often. */
export function warmUp(db) {
  db.registerFileBuffer('small', fs.readFileSync(makeDuckdbFile(SMALL, 4 * 2 ** 20)))
  const connection = db.connect()
  connection.query("attach 'small' as x (read_only)")
  for (let round = 0; round < 5; round += 1) {
    scan(connection)
    answer(connection)
  }
  connection.query('detach x')
  db.dropFile('small')
  return { db, connection }
}
