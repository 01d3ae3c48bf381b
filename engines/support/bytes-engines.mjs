// Engines that read a file's bytes through JavaScript, so that a Buffer over a region is all that
// they need. Each is shown here by the same few functions: `load` gives the engine, `make` the
// bytes of a file for it, `open` a handle over bytes, `answer` a small question, `scan` one about
// all of it, `close` its end. sql.js writes its image, too: `update`, `grow` and `image`.

import { createRequire } from 'node:module'
import { dirname, relative } from 'node:path'
import { makeTable, tableFromIPC, tableToIPC } from 'apache-arrow'
import SevenZip from '7z-wasm'
import initSqlJs from 'sql.js'

const require = createRequire(import.meta.url)

/** The same each time; `index` may be any whole number below 2^53. */
const mixed = index => Math.imul(index ^ (index >>> 15), 2654435761) >>> 0

const BYTES = 16 * 2 ** 20

const pattern = byteLength => {
  const words = Uint32Array.from({ length: byteLength / 4 }, (_, index) => mixed(index))
  return Buffer.from(words.buffer)
}

const rows = result => result.map(({ columns, values }) => ({ columns, values }))

const sqljs = {
  load: () => initSqlJs(),
  make({ Database }) {
    const db = new Database()
    db.exec(`
      CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price REAL, body BLOB);
      WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 16000)
      INSERT INTO item
      SELECT n, printf('item %d', n * 7919 % 16000), n * 0.37, zeroblob(900) FROM number;
      CREATE INDEX item_name ON item (name);`)
    const bytes = Buffer.from(db.export())
    db.close()
    return bytes
  },
  open: ({ Database }, bytes) => new Database(bytes),
  answer: db => rows(db.exec("SELECT id, price FROM item WHERE name = 'item 471'")),
  scan: db => rows(db.exec('SELECT count(*), sum(price), sum(length(body)) FROM item')),
  update(db) {
    // What is written takes the room of what was there: the file stays as long as it is.
    db.run('UPDATE item SET price = -price WHERE id % 100 = 0')
    return rows(db.exec('SELECT price FROM item WHERE id % 1000 = 0'))
  },
  /** More than there is room for: the file gets longer. */
  grow(db) {
    db.run("INSERT INTO item SELECT id + 100000, 'new', 1, zeroblob(900) FROM item WHERE id < 500")
    return rows(db.exec('SELECT count(*), max(id) FROM item'))
  },
  image: db => Buffer.from(db.export()),
  close: db => db.close()
}

const arrow = {
  load: () => ({}),
  make() {
    const numbers = Float64Array.from({ length: BYTES / 8 }, (_, index) => mixed(index) / 2 ** 16)
    return Buffer.from(tableToIPC(makeTable({ number: numbers }), 'file'))
  },
  open: (_, bytes) => tableFromIPC(bytes),
  answer: table => [table.numRows, String(table.schema), table.get(471)?.number ?? null],
  scan(table) {
    let sum = 0
    for (const { values } of table.getChild('number').data) for (const value of values) sum += value
    return sum
  },
  close() {}
}

// Files of MEMFS, whose contents are the Buffer: `writeFile` takes a `slice` of it, which in a
// Buffer is a view.

const FILE = '/mapped'
// Any other path is one of the host to gdal3.js.
const GDAL_FILE = '/input/mapped'

const mount = ({ FS }, bytes, file = FILE) => {
  FS.writeFile(file, bytes)
  return FS.lookupPath(file).node.contents?.buffer
}

const sevenZip = {
  async load() {
    const lines = []
    const say = line => lines.push(line)
    const module = await SevenZip({ print: say, printErr: say, quit() {} })
    const run = (...args) => {
      lines.length = 0
      // An archive that is refused would be a failure of this process.
      const { exitCode } = process
      try {
        module.callMain(args)
      } finally {
        process.exitCode = exitCode
      }
      // Progress goes over the line that it is on.
      return lines
        .join('\n')
        .split('\n')
        .filter(line => !line.includes('\b'))
    }
    return { FS: module.FS, run }
  },
  make({ FS, run }) {
    FS.writeFile('/data.bin', pattern(BYTES))
    run('a', '-mx0', '-mtm-', '-mtc-', '-mta-', '/made.7z', '/data.bin')
    const bytes = Buffer.from(FS.readFile('/made.7z'))
    FS.unlink('/made.7z')
    FS.unlink('/data.bin')
    return bytes
  },
  open: (engine, bytes) => ({ ...engine, contents: mount(engine, bytes) }),
  answer: ({ run }) => run('l', '-t7z', FILE),
  scan: ({ run }) => run('t', '-t7z', FILE),
  close: ({ FS }) => FS.unlink(FILE)
}

const h5wasm = {
  async load() {
    const h5 = await import('h5wasm')
    const { FS } = await h5.ready
    return { h5, FS }
  },
  make({ h5, FS }) {
    const length = BYTES / 4
    const data = Float32Array.from({ length }, (_, index) => mixed(index) / 2 ** 16)
    const file = new h5.File('/made.h5', 'w')
    file.create_dataset({ name: 'values', data, shape: [512, length / 512] })
    file.create_attribute('unit', 'metre')
    file.close()
    const bytes = Buffer.from(FS.readFile('/made.h5'))
    FS.unlink('/made.h5')
    return bytes
  },
  open({ h5, FS }, bytes) {
    const contents = mount({ FS }, bytes)
    const file = new h5.File(FILE, 'r')
    // The library says it, and the class has none to give.
    if (file.file_id < 0n) throw new Error(`h5wasm can't open the file: ${h5.h5_error?.() ?? ''}`)
    return { FS, contents, file }
  },
  answer: ({ file }) => [
    file.keys(),
    file.attrs.unit.value,
    file.get('values').shape,
    Array.from(
      file.get('values').slice([
        [471, 472],
        [5, 9]
      ])
    )
  ],
  scan({ file }) {
    let sum = 0
    for (const value of file.get('values').value) sum += value
    return sum
  },
  close({ FS, file }) {
    file.close()
    FS.unlink(FILE)
  }
}

const gdal = {
  async load() {
    // It puts `./` before it.
    const path = relative('.', dirname(require.resolve('gdal3.js')))
    const Gdal = await require('gdal3.js/node.js')({ path, useWorker: false })
    return { Gdal, FS: Gdal.Module.FS }
  },
  make() {
    const side = Math.sqrt(BYTES)
    return Buffer.concat([Buffer.from(`P5\n${side} ${side}\n255\n`), pattern(BYTES)])
  },
  async open(engine, bytes) {
    const contents = mount(engine, bytes, GDAL_FILE)
    // It rejects with a list that may say nothing.
    const { datasets } = await engine.Gdal.open(GDAL_FILE).catch(errors => {
      throw new Error(`gdal3.js can't open the file: ${JSON.stringify(errors)}`)
    })
    return { ...engine, contents, dataset: datasets[0] }
  },
  async answer({ Gdal, dataset }) {
    const { size, driverShortName } = await Gdal.gdalinfo(dataset)
    return { size, driverShortName }
  },
  async scan({ Gdal, dataset }) {
    const { bands } = await Gdal.gdalinfo(dataset, ['-checksum'])
    return bands.map(({ checksum }) => checksum)
  },
  async close({ Gdal, FS, dataset }) {
    await Gdal.close(dataset)
    FS.unlink(GDAL_FILE)
  }
}

export const engines = {
  'sql.js': sqljs,
  'apache-arrow': arrow,
  '7z-wasm': sevenZip,
  h5wasm,
  'gdal3.js': gdal
}
