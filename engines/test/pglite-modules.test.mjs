// Facts about PGlite's modules on which wasm-hostmap/pglite rests: it brings back the memory, the
// stack pointer and the files, and no other globals and no tables. Where a newer version fails
// here, look at what it keeps, before its version goes into docs/engines.md.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { PGlite } from '@electric-sql/pglite'
import { exposeState } from 'wasm-hostmap'
import { checkpoint } from 'wasm-hostmap/pglite'
import { dump } from '../support/pg-dump.mjs'
import { engineBytes, hiddenState, libraries } from '../support/pg-modules.mjs'
import { DAMAGES, SCHEMA, SESSION } from '../support/pg-scene.mjs'

/** tempRet0, which is read right after it was set, and the ends of the stack, set once. */
const [RESULT, ...ENDS] = ['hostmap:global:3', 'hostmap:global:4', 'hostmap:global:5']

test('the engine hides only three mutable globals', () => {
  assert.deepEqual(hiddenState(engineBytes()), { globals: [3, 4, 5], tables: [], marks: [] })
})

/** How many globals libraries have of their own: set by the start function, when one is loaded. */
const SET_AT_START = { bloom: 11, pg_trgm: 1, pgcrypto: 2, plpgsql: 21 }

test('shared libraries have no table of their own, and few have globals', () => {
  const counts = {}
  const all = libraries()
  for (const name of ['/pglite/lib/postgresql/dict_snowball.so', 'hstore.tar.gz'])
    assert.ok(
      all.some(([where]) => where.startsWith(name)),
      name
    )
  for (const [where, bytes] of all) {
    const { globals, tables, marks } = hiddenState(bytes)
    assert.deepEqual([tables, marks], [[], []], where)
    if (globals.length > 0) counts[where.replace(/.*\/(.+)\.so$/, '$1')] = globals.length
  }
  assert.deepEqual(counts, SET_AT_START)
})

describe('an engine whose globals are shown:', () => {
  const engines = []
  const { instantiate } = WebAssembly
  let pg, clean, expected

  before(async () => {
    WebAssembly.instantiate = async (module, imports) => {
      const made = await instantiate.call(WebAssembly, module, imports)
      const { exports } = made.instance ?? made
      if (RESULT in exports) engines.push(exports)
      return made
    }
    try {
      pg = await PGlite.create({
        pgliteWasmModule: new WebAssembly.Module(exposeState(engineBytes()))
      })
    } finally {
      WebAssembly.instantiate = instantiate
    }
    await pg.exec(SCHEMA)
    await pg.exec(SESSION)
    clean = await checkpoint(pg)
    expected = await dump(pg)
    await clean.restore()
  })
  after(() => pg.close())

  /** The engine of this instance: create() makes one more, which fills the database. */
  const own = () =>
    engines.find(exports => exports['hostmap:memory'].buffer === pg.Module.HEAPU8.buffer)

  test('nothing but memory, files and the stack pointer matters to a restore', async () => {
    const engine = own()
    const table = engine.__indirect_function_table
    const ends = () => ENDS.map(name => engine[name].value)
    const functions = () => Array.from({ length: table.length }, (_, i) => table.get(i))
    const [endsThen, functionsThen, stack] = [ends(), functions(), pg.Module.stackSave()]
    assert.ok(endsThen.every(end => end !== 0))
    const seen = new Set()
    for (const [i, damage] of Object.values(DAMAGES).entries()) {
      engine[RESULT].value = 0x1234_5678 + i
      await damage(pg)
      seen.add(engine[RESULT].value === 0x1234_5678 + i)
      engine[RESULT].value = -1 - i
      await clean.restore()
      assert.deepEqual([ends(), pg.Module.stackSave()], [endsThen, stack])
    }
    // SQL's errors are longjmps, which set it.
    assert.ok(seen.has(false))
    assert.equal(await dump(pg), expected)
    // dlsym adds functions that it is asked for first: once, since the glue remembers them.
    const functionsNow = functions()
    assert.ok(functionsThen.every((entry, i) => entry === functionsNow[i]))
    await clean.restore()
    for (const name of ['text search and conversion', 'error in a function']) {
      await DAMAGES[name](pg)
      await clean.restore()
    }
    assert.equal(table.length, functionsNow.length)
  })
})
