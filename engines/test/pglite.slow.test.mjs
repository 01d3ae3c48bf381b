// What takes PGlite long: the catalogs byte for byte after each damage, by the adapter and by
// capture; a database on the host; and a suite of 200 tests on one instance, against new instances
// and clones.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { PGlite } from '@electric-sql/pglite'
import { capture, checkpoint as checkpointOf } from 'wasm-hostmap'
import { emscriptenState } from 'wasm-hostmap/emscripten-state'
import { checkpoint } from 'wasm-hostmap/pglite'
import { difference, everything } from '../support/pg-dump.mjs'
import { measure } from '../support/pg-resets.mjs'
import { DAMAGES, SCHEMA, SESSION } from '../support/pg-scene.mjs'

const codeOf = code => error => error.code === code

/** The libraries that the damages need. */
const LIBRARIES = `
  load 'plpgsql'; load '$libdir/dict_snowball'; load '$libdir/utf8_and_iso8859_1'`

const WAYS = {
  // First, since PGlite keeps the module that it has compiled. Captured are only the libraries that
  // are loaded in the factory.
  'capture and checkpoint(unit)': async () => {
    const { value: pg, unit } = await capture(async () => {
      const made = await PGlite.create()
      await made.exec(LIBRARIES)
      return made
    })
    return { pg, take: () => checkpointOf(unit, { state: [emscriptenState(pg.Module)] }) }
  },
  'checkpoint(pg) of the adapter': async () => {
    const pg = await PGlite.create()
    return { pg, take: () => checkpoint(pg) }
  }
}

for (const [way, make] of Object.entries(WAYS)) {
  test(`${way}: after each damage even the places of rows in the catalogs are the same`, async () => {
    const { pg, take } = await make()
    await pg.exec(SCHEMA)
    await pg.exec(SESSION)
    const clean = await take()
    const expected = await everything(pg)
    await clean.restore()
    for (let round = 0; round < 2; round++) {
      for (const [name, damage] of Object.entries(DAMAGES)) {
        await damage(pg)
        await clean.restore()
        assert.equal(difference(expected, await everything(pg)), undefined, name)
        await clean.restore()
      }
    }
    clean.close()
    await pg.close()
  })
}

test('a library that is loaded after a capture: the checkpoint is refused, as is a restore', async () => {
  const { value: pg, unit } = await capture(() => PGlite.create())
  const options = { state: [emscriptenState(pg.Module)] }
  const clean = checkpointOf(unit, options)
  await pg.exec('do $$ begin perform 1; end $$')
  assert.throws(() => clean.restore(), codeOf('ERR_HOSTMAP_NOT_RESTORABLE'))
  assert.throws(() => checkpointOf(unit, options), codeOf('ERR_HOSTMAP_NOT_RESTORABLE'))
  assert.deepEqual((await pg.query('select 1 as one')).rows, [{ one: 1 }])
  clean.close()
  await pg.close()
})

test('a database on the host is refused', async t => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hostmap-pglite-'))
  t.after(() => fs.rmSync(folder, { recursive: true }))
  const onHost = await PGlite.create(folder)
  await assert.rejects(checkpoint(onHost), codeOf('ERR_HOSTMAP_ENGINE_UNSUPPORTED'))
  await onHost.exec('create table t (a int)')
  await onHost.close()
  await assert.rejects(checkpoint(onHost), codeOf('ERR_HOSTMAP_NOT_RESTORABLE'))
})

test('200 resets: each at least 100 times sooner than an instance or a clone', async () => {
  const reset = await measure('checkpoint(pg)', 200)
  const fresh = await measure('a new instance', 5)
  const clone = await measure('pg.clone()', 5)
  assert.deepEqual(reset.contents, fresh.contents)
  assert.equal(reset.contents.length, 1)
  // A clone recovers from the log, which moves sequences on: it is the same as other clones.
  assert.equal(clone.contents.length, 1)
  assert.ok(fresh.median >= 100 * reset.median, `${fresh.median} ms and ${reset.median} ms`)
  assert.ok(clone.median >= 100 * reset.median, `${clone.median} ms and ${reset.median} ms`)
})
