// DuckDB instances of the blocking build, and databases and CSV files of any size, made by DuckDB
// itself, the same rows each time.

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import duckdb from '@duckdb/duckdb-wasm/dist/duckdb-node-blocking.cjs'

const require = createRequire(import.meta.url)
export const DIST = path.dirname(
  require.resolve('@duckdb/duckdb-wasm/dist/duckdb-node-blocking.cjs')
)

/** An instance of a build (`eh` or `mvp`), open and empty. */
export async function makeInstance(runtime = duckdb.NODE_RUNTIME, build = 'eh', config = {}) {
  const bundle = { mainModule: path.join(DIST, `duckdb-${build}.wasm`), mainWorker: '' }
  const bundles = { mvp: bundle, ...(build === 'eh' && { eh: bundle }) }
  const db = await duckdb.createDuckDB(bundles, new duckdb.VoidLogger(), runtime)
  await db.instantiate()
  db.open({ path: ':memory:', ...config })
  return db
}

/** The rows of a query as JSON, numbers of 64 bits as text. */
export function rowsOf(connection, sql) {
  const rows = connection.query(sql).toArray()
  return JSON.parse(
    JSON.stringify(rows, (_, value) => (typeof value === 'bigint' ? `${value}` : value))
  )
}

// What the package's own runtime does for files that it may create; asked whether a file is there,
// it makes one.
const CREATES = 8 | 16
const onDisk = {
  ...duckdb.NODE_RUNTIME,
  openFile(mod, fileId, flags) {
    const info = duckdb.NODE_RUNTIME.resolveFileInfo(mod, fileId)
    if (!(flags & CREATES) && !fs.existsSync(info.dataUrl)) return 0
    return duckdb.NODE_RUNTIME.openFile(mod, fileId, flags)
  }
}

// A row takes about 24 bytes in a database: numbers that can't be packed well, and a short text.
const BATCH_ROWS = 2_000_000
const SELECT = (first, count) =>
  `select i as id, hash(i) as h, (hash(i * 7) % 1000000) / 7.0 as price,
     chr(65 + (i % 26)::int) || (hash(i * 3) % 10000)::varchar as name
   from range(${first}, ${first + count}) t(i)`

/** Makes, in this process, what `makeDuckdbFile` says. */
async function make(file, byteLength) {
  // DuckDB's own buffer of pages loses what it has not written when the database is detached.
  const db = await makeInstance(onDisk, 'eh', { useDirectIO: true })
  const connection = db.connect()
  const part = `${file}.part`
  if (file.endsWith('.csv')) {
    const rows = Math.round(byteLength / 55)
    connection.query(
      `copy (${SELECT(0, rows)}) to '${part}' (format csv, header, use_tmp_file false)`
    )
  } else {
    connection.query(`attach '${part}' as made`)
    connection.query(`create table made.t as ${SELECT(0, 1)}`)
    let rows = 1
    const grow = () => {
      const left = byteLength - fs.statSync(part).size
      return Math.min(BATCH_ROWS, Math.max(50_000, Math.ceil(left / 24)))
    }
    while (fs.statSync(part).size < byteLength) {
      const count = grow()
      connection.query(`insert into made.t ${SELECT(rows, count)}`)
      connection.query('checkpoint made')
      rows += count
    }
    connection.query('detach made')
  }
  connection.close()
  fs.rmSync(`${part}.wal`, { force: true })
  fs.renameSync(part, file)
}

/** Makes a `.duckdb` or `.csv` file of about `byteLength` bytes, if it isn't there. */
export function makeDuckdbFile(file, byteLength) {
  if (fs.existsSync(file)) return file
  fs.mkdirSync(path.dirname(file), { recursive: true })
  fs.rmSync(`${file}.part`, { force: true })
  // A process of its own: the package keeps one runtime for all instances of a thread.
  const self = fileURLToPath(import.meta.url)
  const { status } = spawnSync(process.execPath, [self, file, String(byteLength)], {
    stdio: ['ignore', 'inherit', 'inherit']
  })
  if (status !== 0) throw new Error(`can't make ${file}`)
  return file
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await make(path.resolve(process.argv[2]), Number(process.argv[3]))
}
