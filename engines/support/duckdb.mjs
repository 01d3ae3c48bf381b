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

/** Makes, in this process, what `makeDuckdbFile` and `makeDuckdbWith` say. */
async function make(file, { byteLength, statements }) {
  // DuckDB's own buffer of pages loses what it has not written when the database is detached.
  const db = await makeInstance(onDisk, 'eh', { useDirectIO: true })
  const connection = db.connect()
  const part = `${file}.part`
  if (file.endsWith('.csv')) {
    const rows = Math.round(byteLength / 55)
    const options = 'format csv, header, use_tmp_file false'
    connection.query(`copy (${SELECT(0, rows)}) to '${part}' (${options})`)
  } else {
    connection.query(`attach '${part}' as made`)
    if (statements) for (const statement of statements) connection.query(statement)
    else fill(connection, part, byteLength)
    connection.query('checkpoint made')
    connection.query('detach made')
  }
  connection.close()
  fs.rmSync(`${part}.wal`, { force: true })
  fs.renameSync(part, file)
}

/** Inserts rows until the database is as large as that. */
function fill(connection, file, byteLength) {
  connection.query(`create table made.t as ${SELECT(0, 1)}`)
  for (let rows = 1, size = 0; size < byteLength; size = fs.statSync(file).size) {
    const count = Math.min(BATCH_ROWS, Math.max(50_000, Math.ceil((byteLength - size) / 24)))
    connection.query(`insert into made.t ${SELECT(rows, count)}`)
    connection.query('checkpoint made')
    rows += count
  }
}

function makeInChild(file, what) {
  fs.mkdirSync(path.dirname(file), { recursive: true })
  fs.rmSync(`${file}.part`, { force: true })
  // A process of its own: the package keeps one runtime for all instances of a thread.
  const { status } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), file], {
    input: JSON.stringify(what),
    stdio: ['pipe', 'inherit', 'inherit']
  })
  if (status !== 0) throw new Error(`can't make ${file}`)
}

/** Makes a `.duckdb` or `.csv` file of about `byteLength` bytes, if it isn't there. */
export function makeDuckdbFile(file, byteLength) {
  if (!fs.existsSync(file)) makeInChild(file, { byteLength })
  return file
}

/** Makes a `.duckdb` file by statements; the database is called `made` in them. */
export const makeDuckdbWith = (file, statements) => makeInChild(file, { statements })

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await make(path.resolve(process.argv[2]), JSON.parse(fs.readFileSync(0, 'utf8')))
}
