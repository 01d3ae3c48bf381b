// SQLite's own Wasm module opens a database in four ways, two without a copy: by a VFS over a
// region, and mapped for sqlite3_deserialize. Times, memory and results are compared.
//
//   node engines/examples/sqlite.mjs [--size 512MiB] [--rounds 3]
//
// The database is made on the first run, in engines/data/.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, createReadStream, fstatSync, openSync, readFileSync, readSync } from 'node:fs'
import { finished } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual, parseArgs } from 'node:util'
import sqlite3InitModule from '@sqlite.org/sqlite-wasm'
import Table from 'cli-table3'
import { HostRegion } from 'wasm-hostmap'
import { deserialize, openDatabase } from 'wasm-hostmap/sqlite'
import { pssBytes } from '../../bench/lib/machine.mjs'
import { parseBytes } from '../../demo/units.mjs'
import { formatBytes, formatMilliseconds } from '../../examples/support/cli.mjs'
import { answerQueries, messagesDatabase, scanQuery } from '../support/sqlite-data.mjs'

const DATA = fileURLToPath(new URL('../data/', import.meta.url))

const WAYS = {
  /** Two copies, as in SQLite's documentation: into a Buffer, and from there into its memory. */
  copied(sqlite3, path) {
    // SQLite's JavaScript does not take a Buffer.
    const { buffer, byteOffset, length } = readFileSync(path)
    const bytes = new Uint8Array(buffer, byteOffset, length)
    return openImage(sqlite3, sqlite3.wasm.allocFromTypedArray(bytes), length)
  },

  /** One copy, the least without a mapping: the file is read into SQLite's memory. */
  read(sqlite3, path) {
    const { wasm } = sqlite3
    const fd = openSync(path)
    try {
      const { size } = fstatSync(fd)
      const address = wasm.alloc(size)
      for (let done = 0; done < size;) {
        const count = readSync(fd, wasm.heap8u(), address + done, size - done, done)
        if (count === 0) throw new Error(`${path} became shorter while it was read`)
        done += count
      }
      return openImage(sqlite3, address, size)
    } finally {
      closeSync(fd)
    }
  },

  /** No copy: the file's pages are mapped into SQLite's memory. */
  deserialized(sqlite3, path) {
    const region = HostRegion.open(path)
    const db = new sqlite3.oo1.DB()
    deserialize(sqlite3, db, region)
    region.close()
    return db
  },

  /** No copy, and nothing of SQLite's memory: SQLite reads the pages that it needs. */
  vfs(sqlite3, path) {
    const region = HostRegion.open(path)
    const db = openDatabase(sqlite3, region)
    region.close()
    return db
  }
}

const QUERIES = [
  ...answerQueries,
  {
    name: 'messages by country, whole index',
    sql: `SELECT country, count(*), max(sent_at) FROM message
          JOIN author ON author.id = author_id GROUP BY country ORDER BY country`
  },
  { name: 'all messages, whole table', sql: scanQuery },
  {
    name: 'search in all texts, whole table',
    sql: `SELECT count(*), sum(length(body)) FROM message WHERE body LIKE '%golian%'`
  }
]

/** SQLite frees the copy when the connection is closed. */
function openImage({ capi, oo1 }, address, size) {
  const db = new oo1.DB()
  const flags = capi.SQLITE_DESERIALIZE_READONLY | capi.SQLITE_DESERIALIZE_FREEONCLOSE
  db.checkRc(capi.sqlite3_deserialize(db.pointer, 'main', address, size, size, flags))
  return db
}

/** Opens the database in one way, in a process of its own, and sends what that took. */
async function child(way, path, warm) {
  const sqlite3 = await sqlite3InitModule()
  // A tiny one first, so that V8 has compiled what is measured.
  const tiny = WAYS[way](sqlite3, warm)
  for (const { sql, bind } of QUERIES) tiny.selectArrays(sql, bind)
  tiny.close()

  const started = performance.now()
  const db = WAYS[way](sqlite3, path)
  db.selectValue('SELECT count(*) FROM sqlite_schema')
  const readyTime = performance.now() - started
  const readyMemory = pssBytes()
  const times = []
  const results = QUERIES.map(({ sql, bind }) => {
    const begin = performance.now()
    const rows = db.selectArrays(sql, bind)
    times.push(performance.now() - begin)
    return rows
  })
  results.push(sqlite3.capi.sqlite3_js_rc_str(refusalOf(sqlite3, db)))
  const memory = pssBytes()
  db.close()
  process.send({ readyTime, readyMemory, times, memory, results }, () => process.exit())
}

const refusalOf = ({ capi }, db) => capi.sqlite3_exec(db, 'DELETE FROM message', 0, 0, 0)

async function measure(way, path, warm) {
  const started = fork(fileURLToPath(import.meta.url), [way, path, warm])
  let result
  started.on('message', message => (result = message))
  const [code, signal] = await once(started, 'exit')
  if (result === undefined) throw new Error(`${way}: the process ended with ${signal ?? code}`)
  return result
}

const median = numbers => numbers.sort((a, b) => a - b)[numbers.length >> 1]

function report(runs, size) {
  const names = Object.keys(WAYS)
  const table = new Table({
    head: [`a database of ${formatBytes(size)}`, ...names],
    colAligns: ['left', ...names.map(() => 'right')],
    style: { head: [], border: [] }
  })
  const row = (title, format, value) =>
    table.push([title, ...names.map(way => format(median(runs[way].map(value))))])
  row('ready for the first query after', formatMilliseconds, run => run.readyTime)
  row('memory when ready (PSS)', formatBytes, run => run.readyMemory)
  QUERIES.forEach(({ name }, i) => row(name, formatMilliseconds, run => run.times[i]))
  row('memory after all queries (PSS)', formatBytes, run => run.memory)
  console.log(`${table}
Medians of ${runs.vfs.length} processes for each way; the file is in the page cache.`)
}

async function main() {
  const { values } = parseArgs({
    options: {
      size: { type: 'string', default: '512MiB' },
      rounds: { type: 'string', default: '3' }
    }
  })
  const path = await messagesDatabase(DATA, parseBytes(values.size))
  const warm = await messagesDatabase(DATA, 2 ** 20)
  const reading = createReadStream(path, { highWaterMark: 2 ** 20 })
  await finished(reading.resume())

  const runs = Object.fromEntries(Object.keys(WAYS).map(way => [way, []]))
  for (let round = 0; round < Number(values.rounds); round++)
    for (const way of Object.keys(WAYS)) runs[way].push(await measure(way, path, warm))
  report(runs, reading.bytesRead)

  const all = Object.values(runs).flat()
  const differing = all.filter(({ results }) => !isDeepStrictEqual(results, all[0].results))
  if (differing.length > 0) throw new Error('the ways have different results')
  console.log(`All results are equal. A DELETE failed with ${all[0].results.at(-1)}.`)
}

if (process.send === undefined) await main()
else await child(...process.argv.slice(2))
