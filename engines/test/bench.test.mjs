// What measures the one table of all adapters: it finds memory where it is, and results that
// differ. On an engine of our own, so that what it has to find is known.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { compare, tableForMarkdown } from '../bench/lib/bars.mjs'
import { measureCase } from '../bench/lib/measure.mjs'
import * as sumCase from '../support/sum-case.mjs'

const MiB = 2 ** 20
const SIZE = 96 * MiB
const CASE = new URL('../support/sum-case.mjs', import.meta.url).href

let directory
let dataset
before(async () => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'wasm-hostmap-bench-'))
  dataset = await sumCase.dataset(directory, SIZE)
})
after(() => fs.rmSync(directory, { recursive: true }))

const measure = (fault, size = dataset) =>
  measureCase(fault ? `${CASE}?fault=${fault}` : CASE, { dataset: size, rounds: 2, scans: 2 })

test('a copy is memory of the process, a mapping is the dataset once it is read', async () => {
  const { byteLength, ways } = await measure()
  assert.equal(byteLength, SIZE)
  const [usual, mapped] = ways
  assert.deepEqual([usual.name, mapped.name], ['usual', 'mapped'])

  // The copy, and not the Buffer that it came from.
  assert.ok(usual.openPss - usual.enginePss > SIZE)
  assert.ok(usual.extraPss > SIZE)
  assert.equal(usual.scannedRead, 0)

  assert.ok(mapped.openPss - mapped.enginePss < SIZE / 4)
  assert.ok(mapped.answeredRead < SIZE / 2)
  assert.ok(mapped.scannedRead > SIZE * 0.9 && mapped.scannedRead <= SIZE)
  assert.ok(mapped.extraPss < 64 * MiB)

  const { misses } = compare(usual, mapped)
  assert.deepEqual(misses.includes('memory') || misses.includes('equal'), false)
  assert.ok(compare(usual, usual).misses.includes('memory'))
  assert.ok(compare(usual, usual).misses.includes('ready'))
})

test('results that differ are found, and the table says so', async () => {
  const result = await measure('differs')
  const [usual, mapped] = result.ways
  assert.equal(usual.isEqual, true)
  assert.equal(mapped.isEqual, false)
  assert.ok(compare(usual, mapped).misses.includes('equal'))
  const row = tableForMarkdown([{ title: 'sum', size: SIZE, result }])
    .split('\n')
    .at(-1)
  assert.match(row, /\| NO \| missed: .*equal \|$/)
})

test('a way that fails or dies says so', async () => {
  await assert.rejects(measure('throws'), { message: 'mapped: no such format' })
  await assert.rejects(measure('dies'), { message: 'mapped: the process ended with code 3' })
  const table = tableForMarkdown([{ title: 'sum', size: SIZE, error: 'no such format' }])
  assert.match(table, /\| sum \| failed: no such format \|/)
})

test('a scan that takes longer, or one file that is too late, misses its bar', () => {
  const usual = { readyMs: 500, scanMs: 100, extraPss: 0, isEqual: true, hasResults: true }
  const good = { ...usual, readyMs: 10, scanMs: 105, extraPss: 64 * MiB }
  assert.deepEqual(compare(usual, good), { readyRatio: 50, scanRatio: 1.05, misses: [] })
  assert.deepEqual(compare(usual, { ...good, readyMs: 11 }).misses, ['ready'])
  assert.deepEqual(compare(usual, { ...good, scanMs: 106 }).misses, ['scan'])
  assert.deepEqual(compare(usual, { ...good, extraPss: 64 * MiB + 1 }).misses, ['memory'])
  assert.deepEqual(compare(usual, { ...good, hasResults: false }).misses, ['equal'])
})
