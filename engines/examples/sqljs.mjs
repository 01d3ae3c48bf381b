// A database in sql.js over a Buffer of a region, beside the usual way, which reads the file first.
//
//   node engines/examples/sqljs.mjs [--size 256MiB]
//
// Each way runs in a process of its own, opens the database, asks a few questions, reads all of it,
// and changes some rows. The change stays in the engine: the file is as it was, and two engines
// over one region see nothing of each other's.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual, parseArgs } from 'node:util'
import Table from 'cli-table3'
import initSqlJs from 'sql.js'
import { HostRegion } from 'wasm-hostmap'
import { pssBytes } from '../../bench/lib/machine.mjs'
import { parseBytes } from '../../demo/units.mjs'
import { formatBytes, formatMilliseconds } from '../../examples/support/cli.mjs'
import { answerQueries, messagesDatabase, scanQuery } from '../support/sqlite-data.mjs'

const DATA = fileURLToPath(new URL('../data', import.meta.url))
const MiB = 2 ** 20

const WAYS = {
  usual: ({ Database }, path) => new Database(readFileSync(path)),
  // The one line.
  mapped: ({ Database }, path) => new Database(HostRegion.open(path).bytes())
}

const STEPS = {
  'a few questions': db => answerQueries.map(({ sql, bind }) => db.exec(sql, bind)),
  'all messages read': db => db.exec(scanQuery),
  'a thousand rows changed': db => {
    db.run('UPDATE message SET sent_at = sent_at + 1 WHERE id < 1000')
    return db.exec('SELECT sum(sent_at) FROM message WHERE id < 2000')
  }
}

async function child(way, path) {
  const SQL = await initSqlJs()
  const rows = []
  const results = []
  let db
  const step = (name, work) => {
    const started = performance.now()
    const result = work()
    rows.push({ name, milliseconds: performance.now() - started, pss: pssBytes() })
    return result
  }
  rows.push({ name: 'sql.js alone', milliseconds: null, pss: pssBytes() })
  step('ready', () => (db = WAYS[way](SQL, path)))
  for (const [name, work] of Object.entries(STEPS)) results.push(step(name, () => work(db)))
  // Another engine, over the same file, sees the rows as they were.
  const other = WAYS[way](SQL, path)
  results.push(other.exec('SELECT sum(sent_at) FROM message WHERE id < 2000'))
  process.send({ rows, results }, () => process.exit())
}

/** What one way takes, in a process of its own: this file again, with the way's name. */
async function measure(way, path) {
  const started = fork(fileURLToPath(import.meta.url), [way, path])
  let result
  started.on('message', message => (result = message))
  const [code, signal] = await once(started, 'exit')
  if (result === undefined) throw new Error(`${way}: the process ended with ${signal ?? code}`)
  return result
}

async function main() {
  const { values } = parseArgs({ options: { size: { type: 'string', default: '256MiB' } } })
  const size = parseBytes(values.size)
  if (!(size > 0)) throw new Error(`--size takes a size such as 256MiB, not ${values.size}`)
  const path = await messagesDatabase(DATA, size)
  // What the first one reads is in the page cache for the other: both begin with that.
  readFileSync(path)
  const names = Object.keys(WAYS)
  const runs = {}
  for (const way of names) runs[way] = await measure(way, path)

  const table = new Table({
    head: ['', ...names.flatMap(name => [name, 'PSS then'])],
    colAligns: ['left', ...names.flatMap(() => ['right', 'right'])],
    style: { head: [], border: [] }
  })
  runs.usual.rows.forEach(({ name }, i) => {
    const cells = names.flatMap(way => {
      const { milliseconds, pss } = runs[way].rows[i]
      const time = milliseconds === null ? '' : formatMilliseconds(milliseconds)
      return [time, formatBytes(Math.round(pss / MiB) * MiB)]
    })
    table.push([name, ...cells])
  })
  console.log(table.toString())
  const areEqual = isDeepStrictEqual(runs.mapped.results, runs.usual.results)
  console.log(areEqual ? 'All results are the same.' : 'The results are NOT the same.')
  if (!areEqual) process.exitCode = 1
}

const [, , way, path] = process.argv
if (Object.hasOwn(WAYS, way ?? '')) await child(way, path)
else await main()
