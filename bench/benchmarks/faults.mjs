// What the fault guard costs: nothing where nothing faults, and so much for each fault that it sees
// to.

import assert from 'node:assert/strict'
import * as hostmap from '../../index.mjs'
import { compileAccesses } from '../lib/accesses.mjs'
import { GiB, KiB, MiB, WASM_PAGE, fillWithNoise, hostArray } from '../lib/dataset.mjs'
import { mapOthers, trap } from '../lib/faulting.mjs'
import {
  SHORT,
  Samples,
  collectGarbage,
  ratio,
  summarize,
  timeBatches,
  timeOnce
} from '../lib/measure.mjs'
import { FAULT_ROWS, STRAY_PAGES, measureFaults } from '../lib/own-faults.mjs'
import { compileSum } from '../lib/sum.mjs'
import { formatBytes, formatQuantity, ratioOf } from '../lib/table.mjs'

const { GuardedMemory, HostRegion, limits } = hostmap

export const title = 'The fault guard'
export const measures =
  "What the handler for SIGSEGV and SIGBUS costs. The first table has operations without faults of this library: the same program runs in processes with the guard and with `WASM_HOSTMAP_FAULT_GUARD=off`, in turns. The second has this library's faults, from the access to its end, including the kernel's part and the JavaScript exception."

// Processes with the guard, and as many without. Only neighbors are compared, because a machine's
// speed drifts.
const PAIRS = 8
const MOST_OTHERS = 10_000
// What else is in a process whose faults are measured.
const SURROUNDINGS = [
  { key: 'few', label: 'beside 1 mapping', others: 1 },
  { key: 'hundred', label: 'beside 100', others: 100 },
  { key: 'most', label: 'beside 10,000', others: MOST_OTHERS },
  { key: 'functions', label: 'beside 10,000 functions', others: 1, functions: 10_000 }
]

// Each mapping that faults emits a warning; here there are thousands.
const environment = guard => ({
  NODE_NO_WARNINGS: '1',
  WASM_HOSTMAP_FAULT_GUARD: guard ? 'on' : 'off'
})

const COST_CASES = Array.from({ length: PAIRS }, (_, pair) =>
  // Each goes first in half of the pairs.
  (pair % 2 === 0 ? [true, false] : [false, true]).map(guard => ({
    part: 'cost',
    guard,
    env: environment(guard)
  }))
).flat()
const FAULT_CASES = SURROUNDINGS.map(({ others, functions = 0 }) => ({
  part: 'faults',
  others,
  functions,
  env: environment(true)
}))
const WIDE_CASE = { part: 'wide', env: environment(true) }

export const cases = [...COST_CASES, ...FAULT_CASES, WIDE_CASE]

export async function measure({ part, guard, others, functions }, onProgress) {
  if (part === 'cost') return measureCost(guard)
  if (part === 'faults') return measureFaults(hostmap, others, functions, onProgress)
  return measureWide(onProgress)
}

// What should be the same with and without the guard.

const SCAN_BYTES = 64 * MiB
const SCAN_SIZES = [256 * KiB, SCAN_BYTES]
const SCAN_TURNS = 20
const TRAP_TURNS = 20

const COST_ROWS = [
  ...SCAN_SIZES.flatMap(byteLength => {
    const size = formatBytes(byteLength)
    return [
      {
        key: `${byteLength} read mapped`,
        label: `read ${size}, mapped readonly`,
        noise: `${byteLength} read plain`
      },
      { key: `${byteLength} read plain`, label: `read ${size}, plain memory: the noise` },
      {
        key: `${byteLength} write mapped`,
        label: `write ${size}, mapped private`,
        noise: `${byteLength} write plain`
      },
      { key: `${byteLength} write plain`, label: `write ${size}, plain memory: the noise` }
    ].map(row => ({ ...row, fastest: true }))
  }),
  ...['', ` ${MOST_OTHERS}`].flatMap(suffix => {
    const beside = suffix === '' ? '' : ', beside 10,000 mappings'
    return [
      { key: `load${suffix}`, label: `V8's own trap, a load past the end${beside}`, trap: true },
      { key: `store${suffix}`, label: `V8's own trap, a store past the end${beside}`, trap: true }
    ]
  }),
  { key: 'map', label: `map + unmap ${formatBytes(SCAN_BYTES)}` },
  {
    key: `map ${MOST_OTHERS}`,
    label: `the same beside ${MOST_OTHERS.toLocaleString('en-US')} mappings`
  }
]

async function measureCost(guard) {
  const sumOver = await compileSum()
  const accessesOf = await compileAccesses()
  const samples = new Samples()
  const source = hostArray(SCAN_BYTES)
  const region = HostRegion.copyFrom(source)
  scanTurns(samples, sumOver, accessesOf, source, region)
  assert.equal(limits().faultGuard.handler, guard ? 'first' : 'none')

  trapAndMapTurns(samples, '', accessesOf, region)
  const others = mapOthers(MOST_OTHERS, region, hostmap)
  trapAndMapTurns(samples, ` ${MOST_OTHERS}`, accessesOf, region)
  assert.equal(new Uint8Array(others.buffer)[0], source[0])
  // One figure per process.
  return Object.fromEntries(
    COST_ROWS.map(({ key, fastest }) => {
      const { min, median } = samples.summary(key)
      return [key, fastest ? min : median]
    })
  )
}

/** Reads and writes pages that were touched before, mapped and plain, in one memory. */
function scanTurns(samples, sumOver, accessesOf, source, region) {
  const ways = ['read mapped', 'read plain', 'write mapped', 'write plain']
  const guarded = new GuardedMemory({ initial: 1 + (ways.length * SCAN_BYTES) / WASM_PAGE })
  const addresses = ways.map((_, index) => WASM_PAGE + index * SCAN_BYTES)
  guarded.map(region, { at: addresses[0], access: 'readonly' })
  new Uint8Array(guarded.buffer).set(source, addresses[1])
  guarded.map(region, { at: addresses[2], access: 'private' })
  const sum = sumOver(guarded.memory)
  const { write } = accessesOf(guarded.memory)
  const run = [sum, sum, write, write]
  // Loads or copies every page.
  assert.equal(sum(addresses[0], SCAN_BYTES), sum(addresses[1], SCAN_BYTES))
  for (const address of addresses.slice(2)) write(address, SCAN_BYTES)

  for (const byteLength of SCAN_SIZES) {
    const repeats = (32 * MiB) / Math.min(byteLength, 32 * MiB)
    for (let turn = -2; turn < SCAN_TURNS; turn++) {
      for (const [index, way] of ways.entries()) {
        const elapsedNs = timeOnce(() => {
          for (let repeat = 0; repeat < repeats; repeat++) run[index](addresses[index], byteLength)
        })
        if (turn >= 0) samples.add(`${byteLength} ${way}`, [elapsedNs / repeats])
      }
    }
  }
}

function trapAndMapTurns(samples, suffix, accessesOf, region) {
  const plan = { ...SHORT, batchesPerTurn: 10 }
  for (let turn = 0; turn < TRAP_TURNS; turn++) {
    const guarded = new GuardedMemory({ initial: 1 + SCAN_BYTES / WASM_PAGE })
    const { load, store } = accessesOf(guarded.memory)
    const round = () => guarded.map(region, { at: WASM_PAGE }).unmap()
    samples.add(`map${suffix}`, timeBatches(round, plan))
    const mapping = guarded.map(region, { at: WASM_PAGE })
    for (const [name, access] of Object.entries({ load, store })) {
      const trapped = () => trap(access, guarded.byteLength)
      samples.add(`${name}${suffix}`, timeBatches(trapped, plan))
    }
    mapping.unmap()
  }
}

// When there are too many pages to change them one by one.

const WIDE_SIZES = [MiB, 64 * MiB, GiB]
const wideTurnsOf = byteLength => (byteLength < GiB ? 10 : 3)

async function measureWide(onProgress) {
  const { pageSize } = limits()
  const region = HostRegion.allocate(WIDE_SIZES.at(-1))
  fillWithNoise(new Uint8Array(region.view()))
  const samples = new Samples()
  for (const [index, byteLength] of WIDE_SIZES.entries()) {
    const guarded = new GuardedMemory({ initial: 1 + byteLength / WASM_PAGE })
    const bytes = new Uint8Array(guarded.buffer, WASM_PAGE, byteLength)
    const write = at => () => (bytes[at] = 1)
    const add = (name, operation) => samples.add(`${byteLength} ${name}`, [timeOnce(operation)])
    for (let turn = 0; turn < wideTurnsOf(byteLength); turn++) {
      const mapping = mapTouched(guarded, region, bytes, 'readonly')
      for (let page = 0; page < STRAY_PAGES; page++) bytes[2 * page * pageSize] = 1
      // Away from pages that already have VMAs of their own.
      add('one more', write(byteLength - 1))
      add('protect', () => GuardedMemory.from(guarded.memory))
      add('again', write(byteLength / 2))
      assert.equal(mapping.strayWrites, STRAY_PAGES + 2)
      mapping.unmap()
      for (const access of ['readonly', 'private']) {
        const each = mapTouched(guarded, region, bytes, access)
        const elapsedNs = timeOnce(() => {
          for (let at = 0; at < byteLength; at += pageSize) bytes[at] = 1
        })
        samples.add(`${byteLength} ${access}`, [elapsedNs / (byteLength / pageSize)])
        each.unmap()
      }
      // The reports arrive now.
      await collectGarbage()
    }
    onProgress((index + 1) / WIDE_SIZES.length)
  }
  return WIDE_SIZES.map(byteLength =>
    Object.fromEntries(
      WIDE_COLUMNS.map(({ key }) => [key, samples.summary(`${byteLength} ${key}`)])
    )
  )
}

const WIDE_COLUMNS = [
  { key: 'one more', label: `stray write to page ${STRAY_PAGES + 1}` },
  { key: 'protect', label: 'the next call, which protects again' },
  { key: 'again', label: 'a stray write after that' },
  { key: 'readonly', label: 'a byte to every page, for each' },
  { key: 'private', label: 'the same, mapped private' }
]

/** Makes a mapping and reads all of its pages. */
function mapTouched(guarded, region, bytes, access) {
  const mapping = guarded.map(region, { at: WASM_PAGE, byteLength: bytes.byteLength, access })
  const { pageSize } = limits()
  let sum = 0
  for (let at = 0; at < bytes.byteLength; at += pageSize) sum += bytes[at]
  assert.notEqual(sum, 0)
  return mapping
}

const MOST_DIFFERENCE = 0.02
const MOST_RECOVERY_NS = 20_000

export function report(results) {
  const costs = results.slice(0, COST_CASES.length)
  const costOf = (guard, key) =>
    costs.filter((_, index) => COST_CASES[index].guard === guard).map(medians => medians[key])
  const costTable = {
    id: 'faults-none',
    title: 'Without faults of this library',
    rowLabel: 'operation',
    columns: [
      { key: 'on', label: 'with the guard' },
      { key: 'off', label: 'without' },
      { key: 'ratio', label: 'with : without' },
      { key: 'lowest', label: 'lowest pair' },
      { key: 'highest', label: 'highest pair' }
    ],
    note: `Medians of ${PAIRS} processes each, with the 10th and 90th percentile of them. A process counts with its fastest scan, because other work only makes scans slower, and with the median of everything else. With : without is the median over pairs of processes that ran one after another. The guard can't affect plain memory, so those rows show the noise between two processes. All pages were read or written before.`,
    rows: COST_ROWS.map(({ key, label, noise = null, trap = false }) => {
      const [on, off] = [true, false].map(guard => costOf(guard, key))
      const ratios = on.map((ns, pair) => ns / off[pair]).sort((a, b) => a - b)
      const middle = (ratios[(ratios.length - 1) >> 1] + ratios[ratios.length >> 1]) / 2
      return {
        label,
        parameters: { operation: key, pairs: PAIRS, noise, trap },
        cells: {
          on: summarize(on),
          off: summarize(off),
          ratio: ratio(middle),
          lowest: ratio(ratios[0]),
          highest: ratio(ratios.at(-1))
        }
      }
    })
  }

  const bySurroundings = results.slice(COST_CASES.length, -1)
  const faultTable = {
    id: 'faults-ours',
    title: 'Faults of this library',
    rowLabel: 'access',
    columns: SURROUNDINGS.map(({ key, label }) => ({ key, label })),
    note: `A write to each second page of a \`readonly\` mapping, ${STRAY_PAGES} pages, in a process with this many other mappings, or with a Wasm module of this many compiled functions: V8 searches them one by one to find out whether it can trap an access, and is not asked again about an instruction that it has declined until it collects garbage. A trap is a RuntimeError, which the program catches. What happens within a millisecond after a report is told with the next. In a \`private\` mapping, a write to a page costs a page fault and a copy of the page, without the guard.`,
    rows: FAULT_ROWS.map(({ key, label, stray }) => ({
      label,
      parameters: { access: key, stray: stray === true },
      cells: Object.fromEntries(
        SURROUNDINGS.map((surrounding, index) => [surrounding.key, bySurroundings[index][key]])
      )
    }))
  }

  const wide = results.at(-1)
  const wideTable = {
    id: 'faults-wide',
    title: `More than ${STRAY_PAGES} pages of a mapping`,
    rowLabel: 'mapping',
    columns: [...WIDE_COLUMNS, { label: 'every : private', ratio: ['readonly', 'private'] }],
    note: `All pages were read before. After the first ${STRAY_PAGES}, a stray write unprotects a block of pages around it, and blocks grow. A write to a page copies it, in both kinds of mappings.`,
    rows: WIDE_SIZES.map((byteLength, index) => ({
      label: formatBytes(byteLength),
      parameters: { byteLength },
      cells: wide[index]
    }))
  }

  /**
   * No verdict if plain memory, which the guard can't affect, differs by more than the bound.
   */
  const equalPromise = ({ label, parameters, cells: { ratio, lowest, highest } }) => {
    const noise = costTable.rows.find(each => each.parameters.operation === parameters.noise).cells
      .ratio
    const [from, to, plain] = [lowest, highest, noise].map(({ median }) =>
      formatQuantity(median, 'ratio')
    )
    return {
      text: `${label}: with the guard, of the time without (pairs: ${from} to ${to}; plain memory: ${plain})`,
      value: Math.abs(noise.median - 1) > MOST_DIFFERENCE ? NaN : ratio.median,
      unit: 'ratio',
      atMost: 1 + MOST_DIFFERENCE
    }
  }

  const largest = wideTable.rows.at(-1)
  const promises = [
    ...costTable.rows.filter(({ parameters }) => parameters.noise).map(equalPromise),
    ...costTable.rows
      .filter(({ parameters }) => parameters.trap)
      .map(({ label, cells: { ratio } }) => ({
        text: `${label}: with the guard, of the time without`,
        value: ratio.median,
        unit: 'ratio',
        atMost: 1.05
      })),
    {
      text: `a stray write beside ${MOST_OTHERS.toLocaleString('en-US')} mappings, of the time beside one`,
      value: ratioOf(faultTable.rows[0], ['most', 'few']),
      unit: 'ratio',
      atMost: 1.25
    },
    ...faultTable.rows
      .filter(({ parameters }) => parameters.stray)
      .map(({ label, cells }) => ({
        text: `a stray write, ${label}, in the slowest of these processes`,
        value: Math.max(...Object.values(cells).map(({ median }) => median)),
        unit: 'ns',
        atMost: MOST_RECOVERY_NS
      })),
    {
      text: `a stray write, page ${STRAY_PAGES + 1} of a mapping of ${largest.label}`,
      value: largest.cells['one more'].median,
      unit: 'ns',
      atMost: MOST_RECOVERY_NS
    },
    {
      text: `a byte to every page of ${largest.label} mapped readonly, of the time mapped private`,
      value: ratioOf(largest, ['readonly', 'private']),
      unit: 'ratio',
      atMost: 1.25
    }
  ]
  return { tables: [costTable, faultTable, wideTable], promises }
}
