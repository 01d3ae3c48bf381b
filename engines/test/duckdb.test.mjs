// wasm-hostmap/duckdb with @duckdb/duckdb-wasm: results equal to the package's own way with copies.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import crypto from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import duckdb from '@duckdb/duckdb-wasm/dist/duckdb-node-blocking.cjs'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'
import { mapFile, mountFile, regionRuntime } from 'wasm-hostmap/duckdb'
import { RegionFile } from '../../adapters/support/region-file.js'
import { makeDuckdbFile, makeInstance, rowsOf } from '../support/duckdb.mjs'

const DATA = fileURLToPath(new URL('../data/duckdb', import.meta.url))
const DATABASE = path.join(DATA, '8.duckdb')
const CSV = path.join(DATA, '4.csv')
const QUERIES = [
  'select count(*), sum(id), sum(h), min(name), max(price) from x.t',
  'select * from x.t where id = 12345',
  'select name, count(*) as n from x.t group by name order by n desc, name limit 20',
  'select a.id, b.name from x.t a join x.t b on a.id = b.id + 7 where a.id < 50 order by a.id',
  'select * from x.t order by h limit 10'
]
const CSV_QUERY = name => `select count(*), sum(id), sum(price), min(name) from '${name}'`

const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'hostmap-duckdb-'))
const scratches = fs.mkdtempSync(path.join(os.tmpdir(), 'hostmap-duckdb-files-'))
const runtime = regionRuntime(duckdb.NODE_RUNTIME)
const digest = file => crypto.createHash('sha256').update(fs.readFileSync(file)).digest('hex')
const answers = connection => QUERIES.map(query => rowsOf(connection, query))
const hasCode = code => error => error.code === code

let usual
let digests
// An instance takes seconds to make: one for all tests that leave it as it was.
let db, connection
before(async () => {
  // Files that DuckDB makes by mistake would be here.
  process.chdir(directory)
  makeDuckdbFile(DATABASE, 8 * 2 ** 20)
  makeDuckdbFile(CSV, 4 * 2 ** 20)
  digests = [DATABASE, CSV].map(digest)
  const plain = await makeInstance(duckdb.NODE_RUNTIME)
  plain.registerFileBuffer('x.duckdb', fs.readFileSync(DATABASE))
  plain.registerFileBuffer('x.csv', fs.readFileSync(CSV))
  const copies = plain.connect()
  copies.query("attach 'x.duckdb' as x (read_only)")
  usual = { database: answers(copies), csv: rowsOf(copies, CSV_QUERY('x.csv')) }
  assert.ok(Number(usual.database[0][0]['count_star()']) > 100_000)
  db = await makeInstance(runtime)
  connection = db.connect()
})
after(() => {
  assert.deepEqual([DATABASE, CSV].map(digest), digests, 'the data sets are as they were')
  assert.deepEqual(fs.readdirSync(directory), [], 'DuckDB made no file')
  process.chdir('/')
  for (const each of [directory, scratches]) fs.rmSync(each, { recursive: true })
})

/** A file of these bytes that is not a data set. */
function scratch(bytes) {
  const file = path.join(fs.mkdtempSync(path.join(scratches, 'file-')), 'file')
  fs.writeFileSync(file, bytes)
  return file
}

// Not the mvp build: in 1.32.0 each of its errors becomes "_setThrew is not defined".
describe('the eh build', () => {
  test('a mounted database answers as a copied one, also once its region is closed', () => {
    const region = HostRegion.open(DATABASE)
    const file = mountFile(db, 'x.duckdb', region)
    region.close()
    connection.query("attach 'x.duckdb' as x (read_only)")
    assert.deepEqual(answers(connection), usual.database)
    connection.query('detach x')
    file.unmount()
    assert.equal(file.mounted, false)
    file.unmount()
  })

  test('a database that is mapped into the memory answers as a copied one', () => {
    const guarded = GuardedMemory.from(() => db.mod.HEAPU8.buffer)
    const file = mapFile(db, 'x.duckdb', HostRegion.open(DATABASE))
    assert.equal(guarded.mappings.length, 1)
    connection.query("attach 'x.duckdb' as x (read_only)")
    const before = db.mod.HEAPU8.length
    // Makes the memory grow while the file is read.
    connection.query('create table copy as select a.* from x.t a, range(4) order by h')
    assert.ok(db.mod.HEAPU8.length > before)
    connection.query('drop table copy')
    assert.deepEqual(answers(connection), usual.database)
    assert.throws(() => file.unmount(), hasCode('ERR_HOSTMAP_FILE_IN_USE'))
    assert.equal(file.mounted, true)
    assert.deepEqual(answers(connection), usual.database)
    connection.query('detach x')
    file.unmount()
    assert.equal(file.mounted, false)
    assert.equal(guarded.mappings.length, 0)
  })

  test('mapped files come and go without a trace', () => {
    const guarded = GuardedMemory.from(() => db.mod.HEAPU8.buffer)
    const region = HostRegion.open(DATABASE)
    let size
    for (let round = 0; round < 12; round += 1) {
      const file = mapFile(db, 'x.duckdb', region)
      connection.query("attach 'x.duckdb' as x (read_only)")
      assert.deepEqual(rowsOf(connection, QUERIES[0]), usual.database[0])
      connection.query('detach x')
      if (round % 2) db.dropFile('x.duckdb')
      file.unmount()
      assert.equal(guarded.mappings.length, 0)
      if (round === 3) size = db.mod.HEAPU8.length
    }
    assert.equal(db.mod.HEAPU8.length, size)
  })

  test('a mapped file that grows leaves its block to the engine', () => {
    const guarded = GuardedMemory.from(() => db.mod.HEAPU8.buffer)
    const file = mapFile(db, 'x.duckdb', HostRegion.open(DATABASE))
    connection.query("attach 'x.duckdb' as x")
    connection.query('create table x.u as select i, hash(i) as h from range(1000000) t(i)')
    connection.query('checkpoint x')
    connection.query('create table kept as select i, hash(i) as h from range(1000000) t(i)')
    const sums = ['x.u', 'kept'].map(name => `select count(*), sum(h) from ${name}`)
    const [written, kept] = sums.map(sum => rowsOf(connection, sum))
    assert.deepEqual(written, kept)
    assert.deepEqual(answers(connection), usual.database)
    connection.query('detach x')
    file.unmount()
    assert.equal(guarded.mappings.length, 0)
    assert.deepEqual(rowsOf(connection, sums[1]), kept)
    connection.query('drop table kept')
  })

  test('a CSV file answers as a copied one, mounted and mapped', () => {
    for (const give of [mountFile, mapFile]) {
      const file = give(db, 'x.csv', HostRegion.open(CSV))
      assert.deepEqual(rowsOf(connection, CSV_QUERY('x.csv')), usual.csv)
      const names = rowsOf(connection, "select file from glob('*.csv')")
      assert.deepEqual(names, [{ file: 'x.csv' }])
      file.unmount()
    }
    assert.throws(() => connection.query(CSV_QUERY('x.csv')), /x\.csv/)
  })

  test('a region that is mounted for reading only is not written to', () => {
    const file = mountFile(db, 'x.duckdb', HostRegion.open(DATABASE))
    const csv = mountFile(db, 'x.csv', HostRegion.open(CSV))
    const refused = /mounted for reading only/
    assert.throws(() => connection.query("attach 'x.duckdb' as x"), refused)
    assert.throws(() => connection.query("copy (select 1) to 'x.csv'"), refused)
    connection.query("attach 'x.duckdb' as x (read_only)")
    assert.throws(() => connection.query('delete from x.t'), /read-only/)
    assert.deepEqual(rowsOf(connection, QUERIES[0]), usual.database[0])
    connection.query('detach x')
    file.unmount()
    csv.unmount()
  })

  test('what is written to a private file is there until it is unmounted, and nowhere else', () => {
    const region = HostRegion.open(DATABASE)
    const file = mountFile(db, 'p.duckdb', region, { access: 'private' })
    const other = mountFile(db, 'x.duckdb', region)
    connection.query("attach 'p.duckdb' as p")
    connection.query("attach 'x.duckdb' as x (read_only)")
    connection.query('update p.t set h = 1 where id < 1000')
    connection.query('delete from p.t where id % 3 = 0')
    // Past where the file ended.
    connection.query('create table p.u as select i, hash(i) as h from range(1000000) t(i)')
    const written = () => [
      rowsOf(connection, 'select count(*), sum(h), min(name) from p.t'),
      rowsOf(connection, 'select count(*), sum(h) from p.u')
    ]
    const expected = [
      rowsOf(
        connection,
        `select count(*), sum(case when id < 1000 then 1 else h end) as "sum(h)", min(name)
           from x.t where id % 3 <> 0`
      ),
      rowsOf(connection, 'select count(*), sum(hash(i)) as "sum(h)" from range(1000000) t(i)')
    ]
    assert.deepEqual(written(), expected)
    // Without a checkpoint the log beside the database has it.
    connection.query('insert into p.u values (-1, 5)')
    connection.query('checkpoint p')
    connection.query('delete from p.u where i = -1')
    connection.query('detach p')
    assert.throws(() => connection.query('select * from p.t'), /p/)
    connection.query("attach 'p.duckdb' as p")
    assert.deepEqual(written(), expected)
    assert.deepEqual(answers(connection), usual.database, 'the other file is unchanged')
    connection.query('detach p')
    connection.query('detach x')
    file.unmount()
    other.unmount()
    const again = mountFile(db, 'x.duckdb', region, { access: 'private' })
    connection.query("attach 'x.duckdb' as x")
    assert.deepEqual(answers(connection), usual.database)
    connection.query('detach x')
    again.unmount()
  })

  test('a private database takes commits after it was attached again, log or no log', () => {
    const file = mountFile(db, 'p.duckdb', HostRegion.open(DATABASE), { access: 'private' })
    const attach = () => connection.query("attach 'p.duckdb' as p")
    const count = () => Number(rowsOf(connection, 'select count(*) as n from p.t')[0].n)
    attach()
    const all = count()
    // By default DETACH does a checkpoint, and the log stays behind.
    for (const [round, setting] of ['enable', 'enable', 'disable', 'disable'].entries()) {
      connection.query(`pragma ${setting}_checkpoint_on_shutdown`)
      connection.query(`delete from p.t where id = ${2 * round}`)
      connection.query(`delete from p.t where id = ${2 * round + 1}`)
      assert.throws(() => file.unmount(), hasCode('ERR_HOSTMAP_FILE_IN_USE'))
      connection.query('detach p')
      attach()
      assert.equal(count(), all - 2 * (round + 1))
    }
    connection.query('checkpoint p')
    connection.query('detach p')
    attach()
    assert.equal(count(), all - 8)
    connection.query('pragma enable_checkpoint_on_shutdown')
    connection.query('detach p')
    file.unmount()
  })

  test('what is no database, or of an odd size, is refused in words of DuckDB', () => {
    for (const size of [1, 4095, 4096, 4097, 12_288, 300_000]) {
      const region = HostRegion.copyFrom(Buffer.alloc(size, '7,8\n'))
      for (const give of [mountFile, mapFile]) {
        const file = give(db, 'odd', region)
        const attach = () => connection.query("attach 'odd' as odd (read_only)")
        assert.throws(attach, /not a valid DuckDB database file/)
        const [row] = rowsOf(connection, "select count(*) as n from read_csv('odd', header=false)")
        assert.equal(Number(row.n), Math.ceil(size / 4))
        file.unmount()
      }
      region.close()
    }
    assert.throws(() => HostRegion.open(scratch('')), hasCode('ERR_HOSTMAP_EMPTY_FILE'))
  })

  test('a database whose end is missing fails where it is read', () => {
    const bytes = fs.readFileSync(DATABASE)
    for (const size of [2 ** 20, Math.floor(bytes.length / 2) + 777]) {
      const file = mountFile(db, 'x.duckdb', HostRegion.copyFrom(bytes.subarray(0, size)))
      const read = () => {
        connection.query("attach 'x.duckdb' as x (read_only)")
        connection.query(QUERIES[0])
      }
      assert.throws(read, /checksum|x\.duckdb: \d+ bytes from \d+ on are past its end/)
      connection.query('detach database if exists x')
      file.unmount()
    }
  })
})

describe('what is checked', () => {
  test('arguments', () => {
    const region = HostRegion.copyFrom(Buffer.from('a,b\n1,2\n'))
    const type = hasCode('ERR_INVALID_ARG_TYPE')
    const value = hasCode('ERR_INVALID_ARG_VALUE')
    for (const give of [mountFile, mapFile]) {
      assert.throws(() => give(undefined, 'x', region), type)
      assert.throws(() => give({}, 'x', region), type)
      assert.throws(() => give(db, 7, region), type)
      assert.throws(() => give(db, 'x', Buffer.alloc(4)), type)
      for (const name of ['', 'a\0b', 'x.tmp', 'x.wal']) {
        assert.throws(() => give(db, name, region), value)
      }
    }
    assert.throws(() => mountFile(db, 'x', region, 'private'), type)
    assert.throws(() => mountFile(db, 'x', region, { access: 'shared' }), value)
    assert.throws(() => mountFile(db, 'x', region, { acces: 'private' }), value)
    const file = mountFile(db, 'x', region)
    assert.throws(() => mountFile(db, 'x', region), value)
    assert.throws(() => mapFile(db, 'x', region), value)
    file[Symbol.dispose]()
    region.close()
    assert.throws(() => mountFile(db, 'x', region), hasCode('ERR_HOSTMAP_REGION_CLOSED'))
    assert.throws(() => mapFile(db, 'x', region), hasCode('ERR_HOSTMAP_REGION_CLOSED'))
    assert.throws(() => regionRuntime({}), hasCode('ERR_HOSTMAP_ENGINE_UNSUPPORTED'))
  })

  test('a name can be dropped through the package, and given again', () => {
    const file = mountFile(db, 'x.csv', HostRegion.copyFrom(Buffer.from('a\n1\n')))
    db.dropFile('x.csv')
    assert.equal(file.mounted, false)
    const again = mountFile(db, 'x.csv', HostRegion.copyFrom(Buffer.from('a\n2\n')))
    file.unmount()
    assert.equal(again.mounted, true)
    assert.deepEqual(rowsOf(connection, "from 'x.csv'"), [{ a: '2' }])
    again.unmount()
  })

  test('the log of a database on disk is not read for a region of the same name', () => {
    const file = scratch(fs.readFileSync(DATABASE))
    fs.writeFileSync(`${file}.wal`, 'no log of DuckDB')
    for (const access of ['readonly', 'private']) {
      const mounted = mountFile(db, file, HostRegion.open(DATABASE), { access })
      connection.query(`attach '${file}' as x ${access === 'readonly' ? '(read_only)' : ''}`)
      assert.deepEqual(answers(connection), usual.database)
      connection.query('detach x')
      mounted.unmount()
    }
    assert.equal(fs.readFileSync(`${file}.wal`, 'utf8'), 'no log of DuckDB')
  })

  test('a region that does not fit into the memory leaves the engine as it was', () => {
    const file = scratch('')
    fs.truncateSync(file, 4 * 2 ** 30 + 1)
    const region = HostRegion.open(file)
    assert.throws(() => mapFile(db, 'big', region), hasCode('ERR_HOSTMAP_ALLOCATOR_FAILED'))
    assert.deepEqual(rowsOf(connection, 'select 42 as n'), [{ n: 42 }])
  })

  test('a file of more than 4 GiB is a file', () => {
    const file = scratch(fs.readFileSync(DATABASE))
    fs.truncateSync(file, 4 * 2 ** 30 + 1)
    const mounted = mountFile(db, 'x.duckdb', HostRegion.open(file))
    connection.query("attach 'x.duckdb' as x (read_only)")
    assert.deepEqual(answers(connection), usual.database)
    connection.query('detach x')
    mounted.unmount()
  })

  test('an instance that took the runtime away is named, and two have names of their own', async () => {
    const region = HostRegion.copyFrom(Buffer.from('a\n1\n'))
    const plain = await makeInstance(duckdb.NODE_RUNTIME)
    for (const instance of [db, plain]) {
      const mount = () => mountFile(instance, 'x.csv', region)
      assert.throws(mount, hasCode('ERR_HOSTMAP_ENGINE_UNSUPPORTED'))
    }
    const mapped = mapFile(plain, 'x.csv', region)
    assert.deepEqual(rowsOf(plain.connect(), "from 'x.csv'"), [{ a: '1' }])
    mapped.unmount()

    const other = await makeInstance(runtime)
    const one = mountFile(db, 'x.csv', region)
    const two = mountFile(other, 'x.csv', HostRegion.copyFrom(Buffer.from('a\n2\n')))
    assert.deepEqual(rowsOf(connection, "from 'x.csv'"), [{ a: '1' }])
    assert.deepEqual(rowsOf(other.connect(), "from 'x.csv'"), [{ a: '2' }])
    one.unmount()
    two.unmount()
  })

  test('files on disk are still up to the runtime that was passed', () => {
    const [row] = rowsOf(connection, `select count(*) as n from '${CSV}'`)
    assert.equal(row.n, usual.csv[0]['count_star()'])
  })
})

test('a worker has an engine of its own over the same region', async () => {
  const source = `
    import { parentPort, workerData } from 'node:worker_threads'
    import duckdb from '@duckdb/duckdb-wasm/dist/duckdb-node-blocking.cjs'
    import { HostRegion } from 'wasm-hostmap'
    import { mountFile, regionRuntime } from 'wasm-hostmap/duckdb'
    import { makeInstance, rowsOf } from '${new URL('../support/duckdb.mjs', import.meta.url)}'
    const db = await makeInstance(regionRuntime(duckdb.NODE_RUNTIME))
    mountFile(db, 'x.duckdb', HostRegion.receive(workerData.token))
    const connection = db.connect()
    connection.query("attach 'x.duckdb' as x (read_only)")
    parentPort.postMessage(workerData.queries.map(query => rowsOf(connection, query)))`
  const file = fileURLToPath(new URL(`../.worker-${process.pid}.mjs`, import.meta.url))
  fs.writeFileSync(file, source)
  try {
    const region = await HostRegion.load(DATABASE)
    const workerData = { token: region.share({ access: 'readonly' }), queries: QUERIES }
    const worker = new Worker(file, { workerData })
    const rows = await new Promise((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    })
    assert.deepEqual(rows, usual.database)
  } finally {
    fs.rmSync(file)
  }
})

test('a file that is truncated under a query fails the query, and not the process', () => {
  const file = scratch(fs.readFileSync(DATABASE))
  const source = `
    import fs from 'node:fs'
    import duckdb from '@duckdb/duckdb-wasm/dist/duckdb-node-blocking.cjs'
    import { HostRegion } from 'wasm-hostmap'
    import { mapFile, mountFile, regionRuntime } from 'wasm-hostmap/duckdb'
    import { makeInstance, rowsOf } from './support/duckdb.mjs'
    const db = await makeInstance(regionRuntime(duckdb.NODE_RUNTIME))
    const connection = db.connect()
    const mounted = mountFile(db, 'x.duckdb', HostRegion.open(process.env.FILE))
    mapFile(db, 'y.duckdb', HostRegion.open(process.env.FILE))
    connection.query("attach 'x.duckdb' as x (read_only)")
    connection.query("attach 'y.duckdb' as y (read_only)")
    fs.truncateSync(process.env.FILE, 65536)
    const words = []
    for (const name of ['x', 'x', 'y']) {
      try {
        connection.query('select sum(h), min(name) from ' + name + '.t')
        words.push('an answer')
      } catch (error) {
        words.push(error.message)
      }
    }
    words.push(String(rowsOf(connection, 'select 42 as n')[0].n))
    console.log(JSON.stringify(words))`
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', source],
    {
      cwd: fileURLToPath(new URL('..', import.meta.url)),
      env: { ...process.env, FILE: file },
      encoding: 'utf8'
    }
  )
  assert.deepEqual({ status, signal }, { status: 0, signal: null }, stderr)
  const [first, second, mapped, alive] = JSON.parse(stdout.trim().split('\n').at(-1))
  assert.match(first, /x\.duckdb: /)
  assert.match(second, /x\.duckdb: /)
  // DuckDB's own checksums tell of zeros in a mapped file.
  assert.match(mapped, /checksum|Corrupt/i)
  assert.equal(alive, '42')
})

test('a file of any size is read, written and cut at every border', () => {
  const file = scratch('')
  const size = 4 * 2 ** 30 + 1
  fs.truncateSync(file, size)
  const marks = [0, 4095, 2 ** 30 - 2, 2 ** 31 - 2, 2 ** 32 - 6]
  const fd = fs.openSync(file, 'r+')
  for (const mark of marks) fs.writeSync(fd, 'hostmap', mark)
  fs.closeSync(fd)
  const at = (position, length = 7) => {
    const target = Buffer.alloc(length)
    return target.subarray(0, regionFile.read(target, position)).toString('latin1')
  }
  const regionFile = new RegionFile(HostRegion.open(file), 'private')
  for (const mark of marks) assert.equal(at(mark), 'hostmap')
  assert.equal(at(size), '')
  assert.equal(at(size + 5), '')
  const position = size - 3
  regionFile.write(Buffer.from('written past'), position)
  assert.equal(regionFile.byteLength, position + 12)
  assert.equal(at(position, 12), 'written past')
  regionFile.write(Buffer.from('far'), size + 5 * 2 ** 20)
  assert.equal(at(size + 5 * 2 ** 20 - 2, 5), '\0\0far')
  regionFile.truncate(size + 2)
  regionFile.truncate(size + 9)
  assert.equal(at(position, 12), 'written'.slice(0, 5) + '\0'.repeat(7))
  regionFile.truncate(2 ** 31)
  regionFile.truncate(2 ** 31 + 10)
  assert.equal(at(2 ** 31 - 2, 12), 'ho' + '\0'.repeat(10))
  const readonly = new RegionFile(HostRegion.open(file), 'readonly')
  assert.throws(() => readonly.write(Buffer.alloc(1), 0), hasCode('ERR_HOSTMAP_REGION_READONLY'))
  assert.throws(() => readonly.truncate(0), hasCode('ERR_HOSTMAP_REGION_READONLY'))
  const target = Buffer.alloc(7)
  new RegionFile(HostRegion.open(file), 'readonly').read(target, 2 ** 31 - 2)
  assert.equal(target.toString(), 'hostmap', 'the file is as it was')
  fs.rmSync(file)
})

test('the example has equal results', () => {
  const example = fileURLToPath(new URL('../examples/duckdb.mjs', import.meta.url))
  const arguments_ = [example, '--size', '8MiB']
  const { status, stdout, stderr } = spawnSync(process.execPath, arguments_, { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  assert.match(stdout, /All answers are equal/)
})
