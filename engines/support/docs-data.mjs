// The files that the code in docs/engines.md and docs/pools.md opens, small and with real
// contents. A file is made if the code names it.

import fs from 'node:fs'
import path from 'node:path'

const ORDERS = 1000
const customerOf = id => `customer ${id % 10}`
const centsOf = id => (id * 7919) % 10_000
const ids = Array.from({ length: ORDERS }, (_, index) => index + 1)

const MAKERS = {
  /** SQLite: a table `orders`. */
  'orders.db': async file => {
    const { default: initSqlJs } = await import('sql.js')
    const SQL = await initSqlJs()
    const db = new SQL.Database()
    db.run('CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, cents INTEGER)')
    for (const id of ids) db.run('INSERT INTO orders VALUES (?, ?, ?)', row(id))
    fs.writeFileSync(file, db.export())
    db.close()
  },
  'orders.arrow': async file => {
    const { tableFromArrays, tableToIPC } = await import('apache-arrow')
    const table = tableFromArrays({
      id: Int32Array.from(ids),
      customer: ids.map(customerOf),
      cents: Int32Array.from(ids, centsOf)
    })
    fs.writeFileSync(file, tableToIPC(table, 'file'))
  },
  /** DuckDB: a table `orders`. */
  'orders.duckdb': async file => {
    const { makeDuckdbWith } = await import('./duckdb.mjs')
    const values = ids.map(id => `(${id}, '${customerOf(id)}', ${centsOf(id)})`)
    makeDuckdbWith(file, [
      'create table made.orders (id integer, customer varchar, cents integer)',
      `insert into made.orders values ${values.join(', ')}`
    ])
  },
  'orders.csv': async file => {
    const lines = ids.map(id => row(id).join(','))
    fs.writeFileSync(file, ['id,customer,cents', ...lines, ''].join('\n'))
  },
  'orders.7z': async file => {
    const { default: SevenZip } = await import('7z-wasm')
    const { FS, callMain } = await SevenZip({ print: () => {} })
    FS.writeFile('orders.csv', ids.map(id => row(id).join(',')).join('\n'))
    callMain(['a', 'orders.7z', 'orders.csv'])
    fs.writeFileSync(file, FS.readFile('orders.7z'))
  },
  'orders.h5': async file => {
    const { default: h5wasm } = await import('h5wasm/node')
    await h5wasm.ready
    const made = new h5wasm.File(file, 'w')
    made.create_dataset({ name: 'cents', data: Int32Array.from(ids, centsOf) })
    made.close()
  },
  'orders.parquet': async file => {
    const { tableFromArrays, tableToIPC } = await import('apache-arrow')
    const { Table, initSync, writeParquet } = await import('parquet-wasm/esm')
    const wasm = new URL('parquet_wasm_bg.wasm', import.meta.resolve('parquet-wasm/esm'))
    initSync({ module: fs.readFileSync(wasm) })
    const table = tableFromArrays({
      id: Int32Array.from(ids),
      cents: Int32Array.from(ids, centsOf)
    })
    fs.writeFileSync(file, writeParquet(Table.fromIPCStream(tableToIPC(table, 'stream'))))
  },
  'model.ort': async file => {
    const { writeOrt } = await import('./onnx-models.mjs')
    writeOrt(file, { size: 64, layers: 2, seed: 1 })
  },
  /** Any bytes. */
  'orders.bin': async file => fs.writeFileSync(file, Int32Array.from({ length: 2 ** 18 }, centsOf)),
  /** A function `note` that calls the imported one, and a memory. */
  'note.wasm': async file => fs.writeFileSync(file, Buffer.from(NOTE, 'hex')),
  /** Functions `build_dictionary`, of squares, and `look_up`, and a memory. */
  'engine.wasm': async file => fs.writeFileSync(file, Buffer.from(ENGINE, 'hex')),
  /** The program of engines/fixtures/wasi, with its catalog. */
  'catalog.wasm': async file => {
    fs.copyFileSync(new URL('../fixtures/wasi/catalog.wasm', import.meta.url), file)
    const lines = Array.from({ length: 100 }, (_, id) => `chair ${id};${centsOf(id)}`)
    fs.writeFileSync(path.join(path.dirname(file), 'catalog.csv'), lines.join('\n'))
  },
  /** What Emscripten makes of a program in C, which loads its own .wasm. */
  'program.mjs': async file => {
    const build = new URL('../fixtures/emscripten/6.0.5/', import.meta.url)
    fs.copyFileSync(new URL('esm.mjs', build), file)
    fs.copyFileSync(new URL('esm.wasm', build), path.join(path.dirname(file), 'esm.wasm'))
  }
}

const NOTE =
  '0061736d0100000001050160017f00020c0103656e76046e6f7465000003020100050301' +
  '0001071102066d656d6f72790200046e6f746500010a08010600200010000b'

const ENGINE =
  '0061736d01000000010b026000017f60027f7f017f03030200010503010001072703066d656d6f72' +
  '790200106275696c645f64696374696f6e6172790000076c6f6f6b5f757000010a35022501017f03' +
  '402000410274200020006c360200200041016a2100200041e807490d000b41000b0d002000200141' +
  '02746a2802000b'

const row = id => [id, customerOf(id), centsOf(id)]

/** The names of files in a folder of data: what looks like one, but no module. */
const namesIn = code =>
  [
    ...code.matchAll(
      /['"`](?:\.\/)?([\w-]+\.(?:mjs|db|arrow|csv|7z|h5|bin|gguf|ort|onnx|tif|duckdb|parquet|wasm))['"`]/g
    )
  ].map(([, name]) => name)

/** Makes the files that some code names, in a folder. */
export async function makeFilesFor(code, folder) {
  for (const name of new Set(namesIn(code))) {
    const make = MAKERS[name]
    if (make === undefined)
      throw new Error(`a page names ${name}, which docs-data.mjs can not make`)
    await make(path.join(folder, name))
  }
}
