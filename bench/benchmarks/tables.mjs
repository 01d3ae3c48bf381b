// The cost of a restore where tables are large, by how many of their entries were written.

import assert from 'node:assert/strict'
import { InstancePool, capture, checkpoint } from '../../index.mjs'
import { QUICK } from '../lib/dataset.mjs'
import { SHORT, collectGarbage, summarize, timeOnce } from '../lib/measure.mjs'
import { assemble } from '../lib/module.mjs'

export const title = 'Tables'
export const measures =
  'The time of one restore, of a memory of 4 MiB in which one page was written, and a table of 20,000 functions: by a checkpoint of a captured engine, and by the release of a pool of a module. JavaScript has written to so many entries. Beside it, a checkpoint of an engine whose code can write to its table, so that each restore reads all of it. The stack has ten frames.'

export const cases = [{}]

const ENTRIES = 20_000
const WRITTEN = [0, 10, ENTRIES]
const RESTORES = QUICK ? 20 : 60
const MOST_NS = 30_000

const programWith = code => `(module
  (memory (export "memory") 64)
  (table $table (export "table") ${ENTRIES} funcref)
  (global $calls (mut i32) (i32.const 0))
  (func $one (export "one") (result i32) (i32.const 1))
  (func $two (export "two") (result i32) (i32.const 2))
  (elem (i32.const 0) ${'$one '.repeat(ENTRIES)})
  (func (export "store") (param i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (i32.store (i32.mul (local.get 0) (i32.const 4096)) (i32.const 7)))
  ${code})`
const WRITES = '(func (export "write") (table.set $table (i32.const 0) (ref.func $two)))'

/** Of each way: what runs a program of it, and restores it. */
const WAYS = {
  checkpoint: () => captured(programWith('')),
  pool: async () => {
    const pool = await InstancePool.create(await assemble('tables', programWith('')), { max: 1 })
    let leased
    return {
      exports: async () => (leased = await pool.acquire()).exports,
      restore: () => leased.release()
    }
  },
  read: () => captured(programWith(WRITES))
}

async function captured(text) {
  const bytes = await assemble('tables', text)
  const { value, unit } = await capture(() => WebAssembly.instantiate(bytes))
  const clean = checkpoint(unit)
  return { exports: () => value.instance.exports, restore: () => clean.restore() }
}

const deep = (frames, call) => (frames === 0 ? call() : deep(frames - 1, call))

async function timeRestores({ exports, restore }, written) {
  const samplesNs = []
  for (let round = -10; round < RESTORES; round++) {
    const { store, table, one, two } = await exports()
    assert.equal(table.get(ENTRIES - 1), one)
    store((round + 10) % 1000)
    for (let at = ENTRIES - written; at < ENTRIES; at++) table.set(at, two)
    const ns = deep(10, () => timeOnce(restore))
    if (round >= 0) samplesNs.push(ns)
  }
  return samplesNs
}

export async function measure(_, onProgress) {
  const found = new Map()
  const ways = Object.entries(WAYS)
  for (let turn = 0; turn < SHORT.turns; turn++) {
    for (let i = 0; i < ways.length; i++) {
      // They take turns at being first.
      const [way, make] = ways[(turn + i) % ways.length]
      const it = await make()
      for (const written of WRITTEN) {
        const key = `${written} ${way}`
        found.set(key, [...(found.get(key) ?? []), ...(await timeRestores(it, written))])
      }
    }
    await collectGarbage()
    onProgress((turn + 1) / SHORT.turns)
  }
  return Object.fromEntries(
    WRITTEN.map(written => [
      written,
      Object.fromEntries(
        Object.keys(WAYS).flatMap(way => {
          const samplesNs = found.get(`${written} ${way}`)
          return [
            [way, summarize(samplesNs)],
            [`${way}99`, percentile(samplesNs, 0.99)]
          ]
        })
      )
    ])
  )
}

function percentile(samplesNs, part) {
  const sorted = samplesNs.toSorted((a, b) => a - b)
  return { unit: 'ns', median: sorted[Math.floor((sorted.length - 1) * part)], samples: 1 }
}

export function report([cells]) {
  const labels = { checkpoint: 'checkpoint', pool: 'pool', read: 'all entries read' }
  const table = {
    id: 'tables',
    title: 'One restore, 20,000 entries',
    rowLabel: 'entries written',
    columns: Object.entries(labels).flatMap(([key, label]) => [
      { key, label },
      { key: `${key}99`, label: `${label}, 99th percentile` }
    ]),
    note: 'Single calls, with the clock.',
    rows: WRITTEN.map(written => ({
      label: written.toLocaleString('en-US'),
      parameters: { written },
      cells: cells[written]
    }))
  }
  const promises = ['checkpoint', 'pool'].map(way => ({
    text: `A restore by a ${way}, with 20,000 entries of which none was written`,
    value: cells[0][way].median,
    unit: 'ns',
    atMost: MOST_NS
  }))
  return { tables: [table], promises }
}
