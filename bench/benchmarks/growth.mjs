// Growth by the host, compared with V8's own; growth by a gigabyte, and in steps above one; and
// what avoids both.

import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import * as hostmap from '../../index.mjs'
import { GiB, MiB, WASM_PAGE } from '../lib/dataset.mjs'
import { SHORT, Samples, collectGarbage, timeBatches, timeOnce } from '../lib/measure.mjs'
import { FIRST_MAP_ROWS, measureMap } from '../lib/first-map.mjs'
import { assemble } from '../lib/module.mjs'

const { GuardedMemory, HostRegion, instrumentGrowth } = hostmap

export const title = 'Growth'
export const measures =
  "One `memory.grow` by a Wasm page: V8's own, and the host's after `instrumentGrowth`: without options, with `onGrow`, and with a read-only mapping, which the host protects again each time. Then `map` of 1 GiB into memories that must grow for it, and into ones that were made with room; and a Rust module that allocates 64 MiB in steps of 64 KiB, above a gigabyte."

export const cases = [{ part: 'grow' }, { part: 'map' }, { part: 'steps' }]

const GROW_WAT =
  '(module (memory (export "memory") 2) (func (export "grow") (drop (memory.grow (i32.const 1)))))'
const WAYS = [
  { key: 'own', label: "V8's own" },
  { key: 'host', label: 'by the host', options: {} },
  { key: 'asked', label: 'by the host, onGrow asked', options: { onGrow: () => true } },
  { key: 'mapped', label: 'by the host, with a read-only mapping', options: {}, mapped: true }
]

export async function measure({ part }, onProgress) {
  if (part === 'map') return measureMap(hostmap, onProgress)
  if (part === 'steps') return measureSteps(onProgress)
  const bytes = await assemble('grow', GROW_WAT)
  const plain = new WebAssembly.Module(bytes)
  const region = HostRegion.allocate(WASM_PAGE).seal()
  const samples = new Samples()
  for (let turn = 0; turn < SHORT.turns; turn++) {
    for (let i = 0; i < WAYS.length; i++) {
      // They take turns at being first.
      const { key, options, mapped } = WAYS[(turn + i) % WAYS.length]
      const { exports } =
        options === undefined
          ? new WebAssembly.Instance(plain)
          : await instrumentGrowth(bytes, options).instantiate()
      if (mapped) GuardedMemory.from(exports.memory).map(region, { at: WASM_PAGE })
      samples.add(key, timeBatches(exports.grow))
    }
    await collectGarbage()
    onProgress((turn + 1) / SHORT.turns)
  }
  return WAYS.map(({ key }) => ({ time: samples.summary(key), times: samples.ratio(key, 'own') }))
}

const STEPS_TURNS = 5
const STEPS_BYTES = 64 * MiB
const BEFORE_BYTES = GiB
const STEPS_ROWS = [
  { key: 'grows', label: 'the allocator grows the memory each time' },
  { key: 'reserved', label: 'after `reserve` in its heap' },
  { key: 'reserve', label: 'for comparison: that `reserve`' }
]

/** A module with the allocator of Rust's standard library; `null` where it can't be compiled. */
function compileAllocator() {
  const source = fileURLToPath(new URL('../growth/allocate.rs', import.meta.url))
  const folder = fileURLToPath(new URL('../../target/bench-growth/', import.meta.url))
  const file = `${folder}allocate.wasm`
  const target = ['--target', 'wasm32-unknown-unknown', '--crate-type', 'cdylib', '--edition=2024']
  try {
    mkdirSync(folder, { recursive: true })
    execFileSync('rustc', [...target, '-O', source, '-o', file], { stdio: 'ignore' })
    return new WebAssembly.Module(readFileSync(file))
  } catch {
    return null
  }
}

async function measureSteps(onProgress) {
  const module = compileAllocator()
  if (module === null) return null
  const samples = new Samples()
  for (let turn = 0; turn < STEPS_TURNS; turn++) {
    for (const way of ['grows', 'reserved']) {
      const { memory, malloc, free } = new WebAssembly.Instance(module).exports
      malloc(BEFORE_BYTES)
      if (way === 'reserved') {
        const guarded = GuardedMemory.from(memory)
        const reserve = () => guarded.reserve(STEPS_BYTES + MiB, { allocator: { malloc, free } })
        samples.add('reserve', [timeOnce(reserve)])
      }
      const before = memory.buffer.byteLength
      const steps = () => {
        for (let i = 0; i < STEPS_BYTES / WASM_PAGE; i++) malloc(WASM_PAGE - 8)
      }
      samples.add(way, [timeOnce(steps)])
      const grown = memory.buffer.byteLength - before
      if (way === 'reserved' ? grown > 0 : grown < STEPS_BYTES - MiB)
        throw new Error(`${way}: the memory grew by ${grown} bytes`)
      await collectGarbage()
    }
    onProgress((turn + 1) / STEPS_TURNS)
  }
  return Object.fromEntries(STEPS_ROWS.map(({ key }) => [key, samples.summary(key)]))
}

export function report([found, mapped, steps]) {
  const table = {
    id: 'growth',
    title: 'One Wasm page more',
    rowLabel: 'growth',
    columns: [
      { key: 'time', label: 'time' },
      { key: 'times', label: "times V8's own" }
    ],
    note: 'Ratios are medians over turns.',
    rows: WAYS.map(({ key, label }, at) => ({ label, parameters: { way: key }, cells: found[at] }))
  }
  const rowsOf = (rows, cells) =>
    rows.map(({ key, label }) => ({
      label,
      parameters: { way: key },
      cells: { time: cells[key] }
    }))
  const mapTable = {
    id: 'growth-map',
    title: 'The first map of a gigabyte',
    rowLabel: 'call',
    columns: [{ key: 'time', label: 'time' }],
    note: 'Each in a memory of its own, in a process that has mapped before. A growth by a gigabyte lets V8 collect garbage.',
    rows: rowsOf(FIRST_MAP_ROWS, mapped)
  }
  const stepsTable = {
    id: 'growth-steps',
    title: 'Steps above a gigabyte',
    rowLabel: '1,024 blocks of 64 KiB by a Rust module',
    columns: [{ key: 'time', label: 'time' }],
    note: 'The module holds 1 GiB before. Needs rustc with the target wasm32-unknown-unknown.',
    rows: steps === null ? [] : rowsOf(STEPS_ROWS, steps)
  }
  const promises = FIRST_MAP_ROWS.filter(({ atMost }) => atMost).map(({ key, label, atMost }) => ({
    text: label,
    value: mapped[key].median,
    unit: 'ns',
    atMost
  }))
  return { tables: [table, mapTable, stepsTable], promises }
}
