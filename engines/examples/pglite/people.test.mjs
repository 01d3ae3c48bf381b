// PGlite in a test suite: one instance for all tests, and each test begins with the same database.
//
//   node --test engines/examples/pglite/
//
// In place of `beforeEach(async () => { pg = await PGlite.create(); await pg.exec(schema) })`,
// which takes seconds a test, or of undoing by hand what a test did.

import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { PGlite } from '@electric-sql/pglite'
import { checkpoint } from 'wasm-hostmap/pglite'

const schema = `
  create table people (id serial primary key, name text not null unique);
  insert into people (name) values ('Ada'), ('Grace');
`

let pg, clean
before(async () => {
  pg = await PGlite.create()
  await pg.exec(schema)
  clean = await checkpoint(pg)
})
afterEach(() => clean.restore())
after(() => pg.close())

const names = async () =>
  (await pg.query('select name from people order by id')).rows.map(({ name }) => name)

test('adds a person', async () => {
  const { rows } = await pg.query(`insert into people (name) values ('Edsger') returning id`)
  assert.deepEqual(rows, [{ id: 3 }])
  assert.deepEqual(await names(), ['Ada', 'Grace', 'Edsger'])
})

test('numbers begin anew, as the sequence does', async () => {
  const { rows } = await pg.query(`insert into people (name) values ('Barbara') returning id`)
  assert.deepEqual(rows, [{ id: 3 }])
})

test('refuses a name twice, and leaves its transaction open', async () => {
  await pg.exec('begin')
  await assert.rejects(pg.query(`insert into people (name) values ('Ada')`), /unique constraint/)
  assert.ok(pg.isInTransaction())
})

test('may drop everything', async () => {
  await pg.exec('drop schema public cascade')
  await assert.rejects(names(), /does not exist/)
})

test('sees nothing of the tests before it', async () => {
  assert.ok(!pg.isInTransaction())
  assert.deepEqual(await names(), ['Ada', 'Grace'])
})
