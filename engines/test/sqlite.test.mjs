// wasm-hostmap/sqlite: databases in regions, by the VFS and by sqlite3_deserialize. What SQLite
// answers in full is compared in sqlite-queries.test.mjs.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import sqlite3InitModule from '@sqlite.org/sqlite-wasm'
import { HostRegion } from 'wasm-hostmap'
import { deserialize, mountDatabase, openDatabase } from 'wasm-hostmap/sqlite'
import { NativeSqlite } from '../support/native-sqlite.mjs'

const directory = fs.mkdtempSync(join(tmpdir(), 'hostmap-sqlite-'))
const path = join(directory, 'notes.sqlite')
const ROWS = 5000
const COUNT = 'SELECT count(*), sum(length(text)) FROM note'
const SUM = ROWS * 200

let sqlite3
// SQLite prints each error to the console, too.
const { error: printError, warn: printWarning } = console

before(async () => {
  console.error = console.warn = () => {}
  sqlite3 = await sqlite3InitModule()
  const native = new NativeSqlite(path)
  await native.script(`CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT);
    WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ${ROWS})
    INSERT INTO note SELECT n, substr(printf('%0200d', n), -200) FROM number`)
  await native.close()
})
after(() => {
  Object.assign(console, { error: printError, warn: printWarning })
  fs.rmSync(directory, { recursive: true, force: true })
})

/** A region over the file, or over a copy of it that a test may change. */
const open = () => HostRegion.open(path)
function copy(name, change = () => {}) {
  const file = join(directory, name)
  fs.copyFileSync(path, file)
  change(file)
  return file
}
const resultCode = code => error => (error.resultCode & 0xff) === sqlite3.capi[code]
const openDescriptors = () => fs.readdirSync('/proc/self/fd').length

test('a database opens in one line, and outlives its region', () => {
  const region = open()
  const db = openDatabase(sqlite3, region)
  region.close()
  assert.deepEqual(db.selectArray(COUNT), [ROWS, SUM])
  db.close()
})

test('a read-only database refuses writes with SQLITE_READONLY', () => {
  const db = openDatabase(sqlite3, open())
  for (const sql of ['DELETE FROM note', 'CREATE TABLE t (a)', 'VACUUM', 'PRAGMA user_version = 3'])
    assert.throws(() => db.exec(sql), resultCode('SQLITE_READONLY'), sql)
  db.exec('CREATE TEMP TABLE t AS SELECT * FROM note')
  assert.equal(db.selectValue('SELECT count(*) FROM t'), ROWS)
  db.close()
})

test('updates of a private database stay in it: transactions, growth, VACUUM', () => {
  const file = fs.readFileSync(path)
  const [db, other] = [1, 2].map(() => openDatabase(sqlite3, open(), { access: 'private' }))
  db.exec('BEGIN; DELETE FROM note; ROLLBACK')
  assert.deepEqual(db.selectArray(COUNT), [ROWS, SUM])
  db.exec('SAVEPOINT one; UPDATE note SET text = NULL; ROLLBACK TO one; RELEASE one')
  assert.deepEqual(db.selectArray(COUNT), [ROWS, SUM])
  db.exec('UPDATE note SET text = text || text || text')
  assert.deepEqual(db.selectArray(COUNT), [ROWS, 3 * SUM])
  assert.ok(db.selectValue('PRAGMA page_count') * 4096 > 2 * file.length)
  for (const store of ['MEMORY', 'FILE']) {
    db.exec(`PRAGMA temp_store = ${store}; DELETE FROM note WHERE id % 2 = 0; VACUUM`)
    assert.equal(db.selectValue('PRAGMA integrity_check'), 'ok')
  }
  assert.deepEqual(db.selectArray(COUNT), [ROWS / 2, (3 * SUM) / 2])
  // It shrinks below the region, and grows again over what is no longer its own.
  db.exec('DELETE FROM note; VACUUM; CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(9000000))')
  assert.equal(db.selectValue('SELECT count(*) FROM t WHERE a = zeroblob(9000000)'), 1)
  assert.equal(db.selectValue('PRAGMA integrity_check'), 'ok')
  assert.deepEqual(other.selectArray(COUNT), [ROWS, SUM])
  db.close()
  other.close()
  assert.ok(fs.readFileSync(path).equals(file))
})

test('connections to one private image see commits and lock as those to a file do', () => {
  const mounted = mountDatabase(sqlite3, open(), { access: 'private' })
  const [a, b] = [mounted.open(), mounted.open()]
  assert.equal(mounted.connections, 2)
  a.exec('BEGIN IMMEDIATE; UPDATE note SET text = NULL WHERE id = 1')
  assert.equal(b.selectValue('SELECT length(text) FROM note WHERE id = 1'), 200)
  assert.throws(() => b.exec('DELETE FROM note'), resultCode('SQLITE_BUSY'))
  b.exec('BEGIN; SELECT * FROM note LIMIT 1')
  assert.throws(() => a.exec('COMMIT'), resultCode('SQLITE_BUSY'))
  b.exec('COMMIT')
  a.exec('COMMIT')
  assert.equal(b.selectValue('SELECT length(text) FROM note WHERE id = 1'), null)
  b.exec('DELETE FROM note WHERE id > 10')
  assert.deepEqual(a.selectArray('SELECT count(*) FROM note'), [10])
  mounted.close()
  assert.throws(() => mounted.open(), { code: 'ERR_HOSTMAP_UNMOUNTED' })
  assert.throws(() => new sqlite3.oo1.DB(mounted.uri), resultCode('SQLITE_CANTOPEN'))
  a.close()
  assert.equal(b.selectValue('SELECT count(*) FROM note'), 10)
  b.close()
  assert.equal(mounted.connections, 0)
})

test('readers of a region see nothing of what others write privately over it', () => {
  const region = open()
  const reader = openDatabase(sqlite3, region)
  const writer = openDatabase(sqlite3, region, { access: 'private' })
  const image = new sqlite3.oo1.DB()
  deserialize(sqlite3, image, region)
  assert.equal(reader.selectValue('SELECT count(*) FROM note'), ROWS)
  writer.exec('DELETE FROM note WHERE id > 7; VACUUM')
  assert.equal(writer.selectValue('SELECT count(*) FROM note'), 7)
  for (const db of [reader, image]) assert.deepEqual(db.selectArray(COUNT), [ROWS, SUM])
  for (const db of [reader, writer, image]) db.close()
  region.close()
})

test('a database opens at any size of its file, past 4 GiB too', () => {
  for (const size of [2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 32 + 1]) {
    const file = copy('sparse.sqlite', where => fs.truncateSync(where, size))
    for (const access of ['readonly', 'private']) {
      const region = HostRegion.open(file)
      const db = openDatabase(sqlite3, region, { access })
      region.close()
      assert.deepEqual(db.selectArray(COUNT), [ROWS, SUM])
      if (access === 'private') {
        db.exec('UPDATE note SET text = text || text')
        assert.deepEqual(db.selectArray(COUNT), [ROWS, 2 * SUM])
      }
      db.close()
    }
    fs.rmSync(file)
  }
})

test('a mounted database can be attached, and commits over both are one', () => {
  const [first, second] = [1, 2].map(() => mountDatabase(sqlite3, open(), { access: 'private' }))
  const db = first.open()
  db.exec(`ATTACH '${second.uri}' AS other`)
  db.exec('BEGIN; DELETE FROM main.note WHERE id = 1; DELETE FROM other.note WHERE id < 3; COMMIT')
  assert.equal(db.selectValue('SELECT count(*) FROM main.note'), ROWS - 1)
  assert.equal(db.selectValue('SELECT count(*) FROM other.note'), ROWS - 2)
  db.close()
  const named = new sqlite3.oo1.DB(second.uri)
  assert.equal(named.selectValue('SELECT count(*) FROM note'), ROWS - 2)
  named.close()
  first.close()
  second.close()
})

test('hundreds of connections open, and give all back when they close', () => {
  const before = openDescriptors()
  const region = open()
  const mounted = mountDatabase(sqlite3, region)
  const dbs = Array.from({ length: 300 }, () => mounted.open())
  assert.equal(dbs.at(-1).selectValue('SELECT count(*) FROM note'), ROWS)
  dbs.forEach(db => db.close())
  mounted.close()
  region.close()
  assert.equal(openDescriptors(), before)
})

test('memory that grows in the middle of a query changes nothing', () => {
  const db = openDatabase(sqlite3, open())
  const statement = db.prepare('SELECT id, text FROM note ORDER BY id')
  const grown = []
  for (let id = 1; statement.step(); id++) {
    assert.equal(statement.getString(1), String(id).padStart(200, '0'))
    if (id % 1000 === 0) grown.push(sqlite3.wasm.alloc(40 * 2 ** 20))
  }
  statement.finalize()
  grown.forEach(sqlite3.wasm.dealloc)
  db.close()
})

test('what is no database is refused by SQLite itself, in any size', () => {
  const before = openDescriptors()
  for (const size of [1, 99, 100, 511, 4095, 4096, 4097, 70_001]) {
    const region = HostRegion.copyFrom(Buffer.alloc(size, 'no database '))
    for (const access of ['readonly', 'private'])
      assert.throws(() => openDatabase(sqlite3, region, { access }), resultCode('SQLITE_NOTADB'))
    region.close()
  }
  assert.equal(openDescriptors(), before)
})

test('a database that is cut off answers, or is refused, as by the native SQLite', async () => {
  const whole = fs.readFileSync(path)
  for (const size of [4096, 8191, whole.length >> 1, whole.length - 4096, whole.length - 1]) {
    const file = copy('cut.sqlite', where => fs.truncateSync(where, size))
    const native = new NativeSqlite(file)
    const expected = await native.all(COUNT).catch(error => error.message)
    await native.close()
    for (const access of ['readonly', 'private']) {
      const region = HostRegion.open(file)
      const ask = () => {
        const db = openDatabase(sqlite3, region, { access })
        try {
          return db.selectArrays(COUNT)
        } finally {
          db.close()
        }
      }
      if (typeof expected === 'string')
        assert.throws(ask, ({ message }) => expected.endsWith(message.split(': ').at(-1)), expected)
      else assert.deepEqual(ask(), expected)
      region.close()
    }
  }
})

test('a file that becomes shorter under SQLite is an I/O error, and never a wrong answer', () => {
  // To the border of a page, and into the middle of one, where the kernel shows zeros.
  const sizes = [0, 4096, 400_000 - (400_000 % 4096), 400_000 - (400_000 % 4096) + 100]
  for (const access of ['readonly', 'private']) {
    for (const size of sizes) {
      const file = copy('shrinking.sqlite')
      const region = HostRegion.open(file)
      const db = openDatabase(sqlite3, region, { access })
      fs.truncateSync(file, size)
      assert.throws(() => db.selectArray(COUNT), resultCode('SQLITE_IOERR'), `${access} ${size}`)
      // The process lives, and other databases answer.
      db.close()
      region.close()
    }
  }
  const db = openDatabase(sqlite3, open())
  assert.deepEqual(db.selectArray(COUNT), [ROWS, SUM])
  db.close()
})

test('a region that is closed with its views is an I/O error', () => {
  const region = open()
  const db = openDatabase(sqlite3, region)
  region.close({ views: 'detach' })
  assert.throws(() => db.selectArray(COUNT), resultCode('SQLITE_IOERR'))
  db.close()
  assert.throws(() => openDatabase(sqlite3, region), { code: 'ERR_HOSTMAP_REGION_CLOSED' })
})

test('a region that is sealed under SQLite stays open, and private updates go on', () => {
  const region = HostRegion.copyFrom(fs.readFileSync(path))
  const db = openDatabase(sqlite3, region, { access: 'private' })
  region.seal()
  db.exec('UPDATE note SET text = NULL WHERE id = 1')
  assert.equal(db.selectValue('SELECT text FROM note WHERE id = 1'), null)
  db.close()
})

test('a WAL or a journal beside the file is refused, and a WAL mode without one opens', async () => {
  const file = copy('wal.sqlite')
  const native = new NativeSqlite(file)
  await native.all('PRAGMA journal_mode = WAL')
  await native.all('DELETE FROM note WHERE id = 1')
  for (const openIt of [
    region => openDatabase(sqlite3, region),
    region => mountDatabase(sqlite3, region)
  ])
    assert.throws(() => openIt(HostRegion.open(file)), {
      code: 'ERR_HOSTMAP_SQLITE_JOURNAL',
      message: /-wal has \d+ bytes/
    })
  assert.throws(() => deserialize(sqlite3, new sqlite3.oo1.DB(), HostRegion.open(file)), {
    code: 'ERR_HOSTMAP_SQLITE_JOURNAL'
  })
  await native.all('PRAGMA wal_checkpoint(TRUNCATE)')
  await native.close()
  assert.equal(fs.readFileSync(file)[18], 2)

  const readonly = openDatabase(sqlite3, HostRegion.open(file))
  assert.equal(readonly.selectValue('SELECT count(*) FROM note'), ROWS - 1)
  readonly.close()
  const db = openDatabase(sqlite3, HostRegion.open(file), { access: 'private' })
  db.exec('DELETE FROM note WHERE id = 2')
  assert.equal(db.selectValue('SELECT count(*) FROM note'), ROWS - 2)
  assert.equal(db.selectValue('PRAGMA journal_mode'), 'delete')
  db.close()
  const image = new sqlite3.oo1.DB()
  deserialize(sqlite3, image, HostRegion.open(file))
  assert.equal(image.selectValue('SELECT count(*) FROM note'), ROWS - 1)
  image.close()
  assert.equal(fs.readFileSync(file)[18], 2)

  fs.writeFileSync(`${file}-journal`, Buffer.from('d9d505f920a163d7ffffffff', 'hex'))
  assert.throws(() => openDatabase(sqlite3, HostRegion.open(file)), {
    code: 'ERR_HOSTMAP_SQLITE_JOURNAL',
    message: /-journal belongs/
  })
})

test('what is beside the file and no journal does not matter', async () => {
  const long = copy('n'.repeat(252))
  const beside = copy('folders.sqlite')
  fs.mkdirSync(`${beside}-wal`)
  fs.mkdirSync(`${beside}-journal`)
  for (const file of [long, beside]) {
    const db = openDatabase(sqlite3, HostRegion.open(file))
    assert.equal(db.selectValue('SELECT count(*) FROM note'), ROWS)
    db.close()
  }
})

test('deserialize maps the region, and gives the block back when the connection closes', () => {
  const region = open()
  let closed = 0
  for (let round = 0; round < 20; round++) {
    const db = new sqlite3.oo1.DB()
    db.onclose = { after: () => closed++ }
    const mapping = deserialize(sqlite3, db, region)
    assert.deepEqual(db.selectArray(COUNT), [ROWS, SUM])
    assert.throws(() => db.exec('DELETE FROM note'), resultCode('SQLITE_READONLY'))
    db.close()
    assert.equal(mapping.unmapped, true)
  }
  assert.equal(closed, 20)

  const db = new sqlite3.oo1.DB()
  deserialize(sqlite3, db, region, { access: 'private' })
  db.exec('UPDATE note SET text = upper(text)')
  assert.throws(() => db.exec('UPDATE note SET text = text || text'), resultCode('SQLITE_FULL'))
  db.close()
  region.close()
})

test('deserialize refuses what does not fit into SQLite’s memory, and unmaps nothing it needs', () => {
  const file = copy('large.sqlite', where => fs.truncateSync(where, 2 ** 32 + 4096))
  const db = new sqlite3.oo1.DB()
  assert.throws(
    () => deserialize(sqlite3, db, HostRegion.open(file)),
    error => /^ERR_/.test(error.code)
  )
  assert.equal(db.selectValue('SELECT 1'), 1)
  db.close()
})

test('wrong arguments are refused before anything is done', () => {
  const region = open()
  const code = 'ERR_INVALID_ARG_TYPE'
  for (const wrong of [undefined, null, 7, {}, { capi: {} }]) {
    assert.throws(() => openDatabase(wrong, region), { code })
    assert.throws(() => openDatabase(sqlite3, wrong), { code })
  }
  assert.throws(() => openDatabase(sqlite3, region, 'private'), { code })
  assert.throws(() => openDatabase(sqlite3, region, { mode: 'r' }), {
    code: 'ERR_INVALID_ARG_VALUE'
  })
  for (const access of ['shared', 1n, Symbol('private'), null])
    assert.throws(() => openDatabase(sqlite3, region, { access }), {
      code: 'ERR_INVALID_ARG_VALUE'
    })
  assert.throws(() => deserialize(sqlite3, {}, region), { code })
  const without = { ...sqlite3, vfs: {} }
  assert.throws(() => openDatabase(without, region), {
    code: 'ERR_HOSTMAP_ENGINE_UNSUPPORTED',
    message: /SQLite 3\.\d+\.\d+ has no vfs\.installVfs.*use a version/
  })
  region.close()
})

test('the example has equal results in all its ways', () => {
  const example = fileURLToPath(new URL('../examples/sqlite.mjs', import.meta.url))
  const said = execFileSync(process.execPath, [example, '--size', '2MiB', '--rounds', '1'])
  assert.match(said.toString(), /All results are equal\. A DELETE failed with SQLITE_READONLY\./)
})
