// checkpoint(pg): after whatever a test does to a PGlite instance, contents, session and what
// PGlite keeps in JavaScript are what they were.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { PGlite } from '@electric-sql/pglite'
import { citext } from '@electric-sql/pglite/contrib/citext'
import { hstore } from '@electric-sql/pglite/contrib/hstore'
import { pg_trgm } from '@electric-sql/pglite/contrib/pg_trgm'
import { live } from '@electric-sql/pglite/live'
import { checkpoint } from 'wasm-hostmap/pglite'
import { digestFS } from '../support/fs-digest.mjs'
import { difference, dump, everything } from '../support/pg-dump.mjs'
import { DAMAGES, SCHEMA, SESSION } from '../support/pg-scene.mjs'

const codeOf = code => error => error.code === code

// PGlite preloads several at once, and mostly fails for all but one: both cases are here.
const extensions = { hstore, citext, pg_trgm }
let pg, clean, expected, allExpected
const heard = []

before(async () => {
  pg = await PGlite.create({ extensions })
  await pg.exec(SCHEMA)
  await pg.exec(SESSION)
  await pg.listen('news', payload => heard.push(payload))
  clean = await checkpoint(pg)
  expected = await dump(pg)
  await clean.restore()
  allExpected = await everything(pg)
  await clean.restore()
})
after(() => pg.closed || pg.close())

const isAsBefore = async () => {
  assert.equal(difference(expected, await dump(pg)), undefined)
  await clean.restore()
}

/** The catalogs byte for byte, too, which takes as long again. (The slow tests always do that.) */
const isAllAsBefore = async () => {
  assert.equal(difference(allExpected, await everything(pg)), undefined)
  await clean.restore()
}

test('a restore of what is there changes nothing', async () => {
  for (let i = 0; i < 3; i++) {
    await clean.restore()
    await isAsBefore()
  }
})

describe('contents, catalogs and session are as before:', () => {
  for (const [name, damage] of Object.entries(DAMAGES)) {
    test(name, async () => {
      await damage(pg)
      await clean.restore()
      await isAsBefore()
    })
  }

  test('extensions, made in each round', async () => {
    for (let round = 0; round < 4; round++) {
      await pg.exec(
        Object.keys(extensions)
          .map(name => `create extension ${name};`)
          .join('')
      )
      const { rows } = await pg.query(
        `select 'a=>1'::hstore -> 'a' as a, 'X'::citext = 'x' as same, show_trgm('ab')::text as parts`
      )
      assert.deepEqual(rows, [{ a: '1', same: true, parts: '{"  a"," ab","ab "}' }])
      await clean.restore()
      await assert.rejects(pg.query(`select 'a=>1'::hstore`), /type "hstore" does not exist/)
      await clean.restore()
      await isAsBefore()
    }
  })

  test('libraries that SQL loads by itself, in each round', async () => {
    for (let round = 0; round < 4; round++) {
      const { rows } = await pg.query(
        `select greet('you') as hello, to_tsvector('english', 'running dogs')::text as words`
      )
      assert.deepEqual(rows, [{ hello: 'Hello, you', words: `'dog':2 'run':1` }])
      await pg.exec(`insert into person (name) values ('new ${round}')`)
      await clean.restore()
    }
    await isAsBefore()
  })

  test('growth of the memory', async () => {
    const { length } = pg.Module.HEAPU8
    for (let round = 0; round < 3; round++) {
      const { rows } = await pg.query(`select length(repeat('abc', 40000000)) as n`)
      assert.equal(rows[0].n, 120_000_000)
      await clean.restore()
      await isAsBefore()
    }
    assert.ok(pg.Module.HEAPU8.length > length)
  })

  test('the memory was overwritten at random', async () => {
    const { HEAPU8 } = pg.Module
    for (let at = 70_000; at < HEAPU8.length; at += 65_536) HEAPU8.fill(at % 251, at, at + 5000)
    await clean.restore()
    await isAllAsBefore()
  })

  test('all of them in a row, and files and descriptors with them', async () => {
    const files = digestFS(pg.Module.FS)
    const descriptors = fs.readdirSync('/proc/self/fd').length
    for (const damage of Object.values(DAMAGES)) await damage(pg).catch(() => {})
    await clean.restore()
    assert.equal(difference(files, digestFS(pg.Module.FS)), undefined)
    assert.equal(fs.readdirSync('/proc/self/fd').length, descriptors)
    await isAllAsBefore()
  })
})

describe('what PGlite keeps in JavaScript:', () => {
  test('parsers of types that are gone', async () => {
    const parsers = { ...pg.parsers }
    await pg.exec(`create type pair as (a int, b int); create table pairs (all_of pair[])`)
    await pg.refreshArrayTypes()
    pg.parsers[23] = () => 'not a number'
    assert.notDeepEqual(Object.keys(pg.parsers), Object.keys(parsers))
    await clean.restore()
    assert.deepEqual(pg.parsers, parsers)
    assert.deepEqual((await pg.query('select 1 as one')).rows, [{ one: 1 }])
    await clean.restore()
  })

  test('who listens', async () => {
    const strangers = []
    const stranger = payload => strangers.push(payload)
    for (let round = 0; round < 3; round++) {
      heard.length = 0
      await pg.listen('news', stranger)
      await pg.listen('"Other"', stranger)
      pg.onNotification((channel, payload) => strangers.push(`${channel}: ${payload}`))
      await pg.exec(`notify news, 'a'; notify "Other", 'b'`)
      assert.deepEqual(heard, ['a'])
      assert.deepEqual(strangers.sort(), ['Other: b', 'a', 'b', 'news: a'])
      strangers.length = 0
      heard.length = 0
      await clean.restore()
      await pg.exec(`notify news, 'c'; notify "Other", 'd'`)
      assert.deepEqual(heard, ['c'])
      assert.deepEqual(strangers, [])
      await clean.restore()
    }
  })

  test('who has stopped to listen', async () => {
    const inner = []
    const listener = payload => inner.push(payload)
    const everyone = channel => inner.push(channel)
    const stop = await pg.listen('mine', listener)
    const off = pg.onNotification(everyone)
    const listening = await checkpoint(pg)
    for (let round = 0; round < 3; round++) {
      await stop()
      off()
      await pg.exec(`notify mine, '1'`)
      assert.deepEqual(inner, [])
      await listening.restore()
      await pg.exec(`notify mine, '2'`)
      assert.deepEqual(inner, ['2', 'mine'])
      inner.length = 0
      await listening.restore()
    }
    await clean.restore()
    await pg.exec(`listen mine; notify mine, '3'`)
    assert.deepEqual(inner, [])
    listening.close()
    await clean.restore()
  })

  test('a blob that was written half-way', async () => {
    // The rows come, then the error: PGlite keeps what was written for the next query.
    await assert.rejects(
      pg.query(`copy (select 10 / (3 - i) from generate_series(1, 5) i) to '/dev/blob'`)
    )
    await clean.restore()
    const { blob } = await pg.query(`copy (select 'whole') to '/dev/blob'`)
    assert.equal(await blob.text(), 'whole\n')
    await clean.restore()
  })

  test('an answer that nobody read to its end', async () => {
    const onNotice = () => {
      throw new Error('the test fails here')
    }
    for (let round = 0; round < 3; round++) {
      await pg
        .exec(`do $$ begin raise notice 'one'; raise notice 'two'; end $$`, { onNotice })
        .catch(() => {})
      await clean.restore()
      const notices = []
      const [{ rows }] = await pg.exec('select 5 as five', {
        onNotice: ({ message }) => notices.push(message)
      })
      assert.deepEqual([rows, notices], [[{ five: 5 }], []])
      await clean.restore()
      await isAsBefore()
    }
  })

  test('a stream of raw data whose reader threw', async () => {
    const query = Buffer.from('Q\0\0\0\0select generate_series(1, 5000)\0')
    query.writeUInt32BE(query.length - 1, 1)
    const onRawData = () => {
      throw new Error('the reader fails')
    }
    await pg.execProtocolRawStream(query, { onRawData }).catch(() => {})
    await clean.restore()
    await isAsBefore()
  })
})

describe('when a restore is possible:', () => {
  test('it waits for queries and transactions that were begun', async () => {
    const done = []
    const transaction = pg.transaction(async tx => {
      await tx.exec('delete from event')
      await new Promise(resolve => setTimeout(resolve, 50))
      await tx.exec('drop table event cascade')
      done.push('transaction')
    })
    const query = pg.query('delete from person').then(() => done.push('query'))
    await clean.restore()
    done.push('restore')
    assert.deepEqual(done, ['transaction', 'query', 'restore'])
    await Promise.all([transaction, query])
    await isAsBefore()
  })

  test('queries that come after it see the restored database', async () => {
    await pg.exec('drop table person cascade')
    const restored = clean.restore()
    const { rows } = await pg.query('select count(*)::int as n from person')
    assert.deepEqual(rows, [{ n: 200 }])
    await restored
    await clean.restore()
  })

  test('it gives up a transaction that does not end, and succeeds once that has ended', async () => {
    let end
    const transaction = pg.transaction(async tx => {
      await tx.exec('drop table event cascade')
      await assert.rejects(clean.restore({ timeout: 50 }), codeOf('ERR_HOSTMAP_ENGINE_BUSY'))
      await new Promise(resolve => (end = resolve))
    })
    while (end === undefined) await new Promise(setImmediate)
    await assert.rejects(clean.restore({ timeout: 0 }), codeOf('ERR_HOSTMAP_ENGINE_BUSY'))
    end()
    await transaction
    assert.equal((await pg.query(`select to_regclass('event') as name`)).rows[0].name, null)
    await clean.restore()
    await isAsBefore()
  })

  test('several at once', async () => {
    await pg.exec('drop table person cascade')
    await Promise.all([clean.restore(), pg.query('select 1'), clean.restore(), clean.restore()])
    await isAsBefore()
  })

  test('after one that failed in the middle', async () => {
    await pg.exec('drop table person cascade')
    const { node } = pg.Module.FS.lookupPath('/pglite/data/base')
    const { mode } = node
    const set = () => {
      throw new Error('not now')
    }
    node.mode = 0
    Object.defineProperty(node, 'mode', {
      get: () => 0o40000,
      set,
      configurable: true,
      enumerable: true
    })
    await assert.rejects(clean.restore(), /not now/)
    Object.defineProperty(node, 'mode', { value: mode, writable: true })
    await clean.restore()
    await isAllAsBefore()
  })

  test('of any of several checkpoints', async () => {
    await pg.exec('create table other as select 1 as one')
    const second = await checkpoint(pg)
    const with2 = await everything(pg)
    for (const [which, text] of [
      [second, with2],
      [clean, allExpected],
      [second, with2]
    ]) {
      await which.restore()
      assert.equal(difference(text, await everything(pg)), undefined)
      await pg.exec('drop table if exists other; create table other2 (a int)')
    }
    second.close()
    await assert.rejects(second.restore(), codeOf('ERR_HOSTMAP_SNAPSHOT_CLOSED'))
    await clean.restore()
    await isAsBefore()
  })

  test('options and instances are checked', async () => {
    for (const value of [undefined, null, 3, 'pg'])
      await assert.rejects(checkpoint(value), codeOf('ERR_INVALID_ARG_TYPE'))
    await assert.rejects(checkpoint({}), codeOf('ERR_HOSTMAP_ENGINE_UNSUPPORTED'))
    await assert.rejects(clean.restore({ timeout: '1' }), codeOf('ERR_INVALID_ARG_TYPE'))
    for (const timeout of [-1, NaN, 2 ** 31])
      await assert.rejects(clean.restore({ timeout }), codeOf('ERR_OUT_OF_RANGE'))
    await assert.rejects(clean.restore({ timeOut: 1 }), codeOf('ERR_INVALID_ARG_VALUE'))
    await assert.rejects(clean.restore(1), codeOf('ERR_INVALID_ARG_TYPE'))
  })
})

test('a checkpoint that is refused leaves no descriptor', async t => {
  const other = await PGlite.create()
  t.after(() => other.close())
  other.Module.FS.writeFile('/wide', new Float64Array(4), { canOwn: true })
  const count = () => fs.readdirSync('/proc/self/fd').length
  await assert.rejects(checkpoint(other), codeOf('ERR_HOSTMAP_NOT_RESTORABLE'))
  const before = count()
  for (let i = 0; i < 3; i++)
    await assert.rejects(checkpoint(other), codeOf('ERR_HOSTMAP_NOT_RESTORABLE'))
  assert.equal(count(), before)
})

test('live queries are told of changes, if their tables had one before the checkpoint', async t => {
  const other = await PGlite.create({ extensions: { live } })
  t.after(() => other.close())
  await other.exec('create table t (a int)')
  const { unsubscribe } = await other.live.query('select * from t')
  await unsubscribe()
  const fresh = await checkpoint(other)
  for (let round = 0; round < 3; round++) {
    let told
    const changed = new Promise(resolve => (told = resolve))
    const query = await other.live.query('select * from t', [], ({ rows }) => {
      if (rows.length > 0) told(rows)
    })
    assert.deepEqual(query.initialResults.rows, [])
    await other.exec('insert into t values (1)')
    assert.deepEqual(await changed, [{ a: 1 }])
    await query.unsubscribe()
    await fresh.restore()
  }
  fresh.close()
})

// The last one: it closes the instance.
test('an instance has its own functions again, once its checkpoints are closed', async () => {
  const second = await checkpoint(pg)
  assert.notEqual(pg.listen, PGlite.prototype.listen)
  clean.close()
  second.close()
  second.close()
  for (const name of ['listen', 'unlisten', 'onNotification', 'offNotification'])
    assert.equal(pg[name], PGlite.prototype[name])
  const third = await checkpoint(pg)
  await pg.close()
  await assert.rejects(third.restore(), codeOf('ERR_HOSTMAP_NOT_RESTORABLE'))
  await assert.rejects(checkpoint(pg), codeOf('ERR_HOSTMAP_NOT_RESTORABLE'))
  third.close()
})
