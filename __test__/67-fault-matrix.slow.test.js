'use strict'

// The fault matrix: who accesses a mapping or view, how, where and when, and the outcome. Here
// a choice of its cells that has each pair of factors; all of them by `node
// __test__/matrix/run.mjs`.

const { execFileSync } = require('node:child_process')
const path = require('node:path')
const { accesses, allCells, canRun, pairwiseCells, pairsOf, FACTORS } = require('./matrix/cells')
const { runCells } = require('./matrix/parent')
const { Table } = require('./matrix/table')
const { strangeIn } = require('./matrix/document')

const node = process.versions.node.split('.')[0]
const table = Table.read()
const cells = pairwiseCells()

test('the choice has every pair of access, place, compiler, thread and memory', () => {
  const chosen = new Set(cells.flatMap(pairsOf))
  const missing = allCells().filter(
    cell => canRun(cell) && pairsOf(cell).some(pair => !chosen.has(pair))
  )
  expect(missing).toEqual([])
})

describe('each access comes to what the table says', () => {
  let results
  beforeAll(async () => {
    results = await runCells(process.execPath, cells)
  }, 300_000)

  for (const tier of FACTORS.tier)
    for (const thread of FACTORS.thread) {
      test(`${tier}, ${thread}`, () => {
        const wrong = []
        cells.forEach((cell, i) => {
          if (cell.tier !== tier || cell.thread !== thread) return
          const { outcome, problems = [] } = results[i]
          const expected = table.outcomeOf(cell, node)
          if (outcome !== expected || problems.length > 0)
            wrong.push({ ...cell, outcome, expected, problems })
        })
        expect(wrong).toEqual([])
      })
    }
})

test('the table knows every access, and none that ends the process', () => {
  const known = new Set(table.accesses)
  expect(accesses.filter(({ name }) => !known.has(name))).toEqual([])
  expect(strangeIn(table)).toEqual([])
})

test('docs/faults.md says what the table says', () => {
  execFileSync(process.execPath, [path.join(__dirname, 'matrix/run.mjs'), '--check-document'], {
    stdio: 'pipe'
  })
})

test('a death is seen as one and put down to its own cell: without the guard, the same access ends its process', async () => {
  const cell = { place: 'readonly: present', tier: 'liftoff', thread: 'main', memory: 'i32' }
  const these = ['Uint8Array[i]', 'Uint8Array[i] = x', 'TextDecoder utf-8'].map(access => ({
    ...cell,
    access
  }))
  const off = await runCells(process.execPath, these, { env: { WASM_HOSTMAP_FAULT_GUARD: 'off' } })
  expect(off).toEqual([{ outcome: 'data' }, { outcome: 'dies:SIGSEGV' }, { outcome: 'data' }])
})
