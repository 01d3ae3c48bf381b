// Engines as their own JavaScript makes them, unmodified, and what a test or an example does with
// them between two checkpoints. A module tells of itself only what it exports; what is restored
// beside the memory differs from engine to engine.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import path from 'node:path'
import { emscriptenState } from 'wasm-hostmap/emscripten-state'

const require = createRequire(import.meta.url)
const quiet = { print() {}, printErr() {} }

/** What a call throws, as text. */
function failing(call) {
  try {
    call()
  } catch (error) {
    return String(error.message ?? error)
  }
  throw new Error('It did not fail')
}

// SQL that leaves much behind: pages of B-trees, a schema, indices, and errors that unwind.
const PLANTED = 'create table t(a integer, b text); insert into t values (1, 1), (2, 2)'
const growing = round => [
  `insert into t select a + ${round}, 'row' || a from t`,
  `create table other${round} as select * from t`,
  'create index by_b on t(b)',
  'update t set b = b || b',
  'delete from t where a = 1'
]

/**
 * Of each engine: `make`; `plant`, what it is like at the checkpoint; `use`, what it does then;
 * `digest`, what it says of itself; options of the checkpoint; and `isSingle` where a thread has
 * one engine only, that of the package.
 */
export const ENGINES = {
  '@sqlite.org/sqlite-wasm': {
    isSingle: true,
    make: async () => (await import('@sqlite.org/sqlite-wasm')).default(quiet),
    plant(sqlite3) {
      const db = new sqlite3.oo1.DB(':memory:')
      db.exec(PLANTED)
      return db
    },
    use(sqlite3, db, round) {
      for (const sql of growing(round)) db.exec(sql)
      assert.match(
        failing(() => db.exec('selec')),
        /syntax error/
      )
    },
    digest: (sqlite3, db) => [
      db.selectArrays('select * from t order by a'),
      db.selectValues('select name from sqlite_schema'),
      db.selectValue('pragma integrity_check')
    ]
  },

  // Throws C++ exceptions by JavaScript's, and adds hundreds of functions to its table.
  '@duckdb/duckdb-wasm': {
    async make() {
      const duckdb = require('@duckdb/duckdb-wasm/dist/duckdb-node-blocking.cjs')
      const dist = path.dirname(require.resolve('@duckdb/duckdb-wasm/dist/duckdb-eh.wasm'))
      const bundle = name => ({ mainModule: path.join(dist, `duckdb-${name}.wasm`) })
      const bundles = { mvp: bundle('mvp'), eh: bundle('eh') }
      const db = await duckdb.createDuckDB(bundles, new duckdb.VoidLogger(), duckdb.NODE_RUNTIME)
      return db.instantiate()
    },
    plant(db) {
      const connection = db.connect()
      connection.query(PLANTED)
      return connection
    },
    use(db, connection, round) {
      for (const sql of growing(round)) connection.query(sql)
      assert.match(
        failing(() => connection.query('selec')),
        /syntax error/
      )
    },
    digest: (db, connection) => [
      String(connection.query('select * from t order by a')),
      String(connection.query('show tables'))
    ]
  },

  // Its exit() is an exception of JavaScript, which leaves the stack pointer where it was.
  '7z-wasm': {
    make: () => require('7z-wasm')(quiet),
    state: ({ FS }) => [emscriptenState({ FS })],
    plant({ FS }) {
      FS.writeFile('/in.txt', 'text '.repeat(5000))
    },
    use(sevenZip, planted, round) {
      sevenZip.FS.writeFile(`/more${round}.txt`, 'more')
      sevenZip.callMain(['a', `/out${round}.7z`, '/in.txt', `/more${round}.txt`])
      assert.ok(sevenZip.FS.stat(`/out${round}.7z`).size > 100)
    },
    digest: ({ FS }) => [FS.readdir('/'), FS.readFile('/in.txt', { encoding: 'utf8' })]
  },

  h5wasm: {
    isSingle: true,
    make: async () => {
      const h5wasm = await import('h5wasm')
      return { File: h5wasm.File, Module: await h5wasm.ready }
    },
    state: ({ Module }) => [emscriptenState(Module)],
    plant({ File }) {
      const file = new File('planted.h5', 'w')
      file.create_dataset({ name: 'numbers', data: [1, 2, 3] })
      file.close()
    },
    use({ File }, planted, round) {
      const file = new File('planted.h5', 'a')
      file.create_dataset({ name: `more${round}`, data: new Float64Array(10_000).fill(round) })
      file.close()
    },
    digest({ File }) {
      const file = new File('planted.h5', 'r')
      const seen = [file.keys(), [...file.get('numbers').value]]
      file.close()
      return JSON.stringify(seen)
    }
  },

  // Rust, with wasm-bindgen: a table of references beside that of functions.
  'parquet-wasm': {
    isSingle: true,
    async make() {
      const parquet = await import('parquet-wasm/esm')
      const file = require.resolve('parquet-wasm/esm/parquet_wasm_bg.wasm')
      await parquet.default({ module_or_path: await readFile(file) })
      return parquet
    },
    plant: async () => {
      const { tableFromArrays, tableToIPC } = await import('apache-arrow')
      return tableToIPC(tableFromArrays({ a: Int32Array.from({ length: 5000 }, (_, i) => i) }))
    },
    use(parquet, ipc) {
      const bytes = parquet.writeParquet(parquet.Table.fromIPCStream(ipc))
      assert.ok(bytes.length > 1000)
      assert.ok(failing(() => parquet.readParquet(bytes.subarray(0, 50))))
      // What JavaScript still holds of it is nothing after a restore, and must not be freed then.
      return bytes
    },
    digest: (parquet, ipc) => {
      const written = parquet.writeParquet(parquet.Table.fromIPCStream(ipc))
      return Buffer.from(written).toString('base64')
    }
  },

  // Shared memory: with one thread, nobody else is in it.
  'onnxruntime-web': {
    isSingle: true,
    async make() {
      const ort = require('onnxruntime-web')
      ort.env.wasm.numThreads = 1
      const create = model => ort.InferenceSession.create(model).catch(error => error.message)
      await create(new Uint8Array(10))
      return create
    },
    options: { exclusive: true },
    plant() {},
    use: create => create(new Uint8Array(2 ** 20)),
    digest: create => create(new Uint8Array(10))
  }
}
