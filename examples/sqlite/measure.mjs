// Opens a database in one way and sends the measurements to the parent. Runs in its own process, so
// that no memory or compiled code is left over from another way.

import { readFileSync } from 'node:fs'
import sqlite3InitModule from '@sqlite.org/sqlite-wasm'
import { openCopied, openMapped, openRead } from './open.mjs'
import { queries } from './queries.mjs'

const ways = { copied: openCopied, read: openRead, mapped: openMapped }

/** How much memory this process has, in bytes. Shared pages are divided among their processes. */
function residentMemory() {
  const rollup = readFileSync('/proc/self/smaps_rollup', 'latin1')
  const bytes = field => Number(rollup.match(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm'))[1]) * 1024
  return { proportional: bytes('Pss'), anonymous: bytes('Pss_Anon') }
}

/** Opens a tiny database, so that V8 compiles the functions before they are measured. */
function rehearse({ capi, oo1, wasm }) {
  const tiny = new oo1.DB()
  tiny.exec('CREATE TABLE t (a)')
  const image = capi.sqlite3_js_db_export(tiny)
  tiny.close()

  const address = wasm.allocFromTypedArray(image)
  const db = new oo1.DB()
  db.checkRc(capi.sqlite3_deserialize(db.pointer, 'main', address, image.length, image.length, 0))
  db.selectValue('SELECT count(*) FROM sqlite_schema')
  db.close()
  wasm.dealloc(address)
}

async function measure(way, path) {
  const sqlite3 = await sqlite3InitModule()
  rehearse(sqlite3)
  gc() // collects garbage from startup, which is not part of the measurement
  const begin = performance.now()
  const { db, close } = ways[way](sqlite3, path)
  // Reads the schema, as each first query does.
  const tables = db.selectValue('SELECT count(*) FROM sqlite_schema')
  const ready = performance.now()
  const memoryWhenReady = residentMemory()

  const results = [['tables and indexes', tables]]
  const queryTimes = []
  for (const { name, sql, bind } of queries) {
    const queryBegin = performance.now()
    results.push([name, db.selectArrays(sql, bind)])
    queryTimes.push(performance.now() - queryBegin)
  }
  const memoryAfterQueries = residentMemory()
  const refusal = sqlite3.capi.sqlite3_exec(
    db,
    'UPDATE message SET subject = upper(subject)',
    0,
    0,
    0
  )
  results.push(['an UPDATE', sqlite3.capi.sqlite3_js_rc_str(refusal)])
  close()

  return {
    startTime: begin,
    readyTime: ready - begin,
    queryTimes,
    memoryWhenReady,
    memoryAfterQueries,
    results
  }
}

const [way, path] = process.argv.slice(2)
try {
  process.send(await measure(way, path))
} catch (error) {
  process.send({ error: error.message })
} finally {
  process.disconnect()
}
