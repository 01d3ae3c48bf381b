// What a clean database for each of 200 tests costs: a checkpoint of one PGlite instance, clone(),
// and a new instance. Of the latter two, which take seconds, it does fewer: PGLITE_OTHERS, 10 by
// default.

import Table from 'cli-table3'
import { measure, ways } from '../support/pg-resets.mjs'

const TESTS = 200
const MiB = 2 ** 20

export async function run() {
  const others = Number(process.env.PGLITE_OTHERS ?? 10)
  if (!Number.isInteger(others) || others < 1) {
    throw new Error(`PGLITE_OTHERS takes a count, not ${process.env.PGLITE_OTHERS}`)
  }
  const rows = []
  for (const way of ways) rows.push(await measure(way, rows.length === 0 ? TESTS : others))
  const [reset] = rows
  const table = new Table({
    head: [
      'A clean database by',
      'tests',
      'median',
      'p99',
      'PSS at the end',
      'times sooner',
      'contents'
    ]
  })
  for (const row of rows) {
    table.push([
      row.way,
      row.tests,
      `${row.median.toFixed(1)} ms`,
      `${row.p99.toFixed(1)} ms`,
      `${(row.pss / MiB).toFixed(0)} MiB`,
      row === reset ? '' : (row.median / reset.median).toFixed(0),
      row.contents.length === 1 ? 'the same after each' : 'DIFFER'
    ])
  }
  console.log(String(table))
  // A clone recovers from the log, which moves sequences on: it is the same as other clones.
  const fresh = rows.find(({ way }) => way === 'a new instance')
  const isSame = rows.every(({ contents }) => contents.length === 1)
  if (!isSame || reset.contents[0] !== fresh.contents[0]) {
    console.error('The contents are NOT the same')
    process.exitCode = 1
  }
}
