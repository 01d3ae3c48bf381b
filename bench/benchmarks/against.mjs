// The cost of the most frequent calls, compared with another build of the package in the same
// process.

import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { QUICK } from '../lib/dataset.mjs'
import { OPERATIONS, cleanUp } from '../lib/hot-calls.mjs'
import { Samples, collectGarbage } from '../lib/measure.mjs'
import { majorHere } from '../lib/nodes.mjs'

const require = createRequire(import.meta.url)

export const title = 'Against another build'
export const measures =
  'The most frequent calls in this build and in the one that `--base` names. Both take turns of some dozen calls in the same process, on one processor.'

// Each turn has new objects, because a memory's place in the tree of VMAs changes the time by up to
// half. Its blocks follow each other, one per build, in random order.
const TURNS = QUICK ? 3 : 100
const BLOCKS = QUICK ? 4 : 5
const BLOCKS_BEFORE = 2
// V8 optimizes the calls after some tenths of a second.
const CALLS_BEFORE = QUICK ? 500 : 20_000
const MOST = 1.05

export const cases = Object.entries(OPERATIONS).flatMap(([name, { is32 = false }]) =>
  ['i32', 'i64'].filter(address => !is32 || address === 'i32').map(address => ({ name, address }))
)

/** Returns why it can't be measured, or null. */
export function prepare() {
  if (process.env.HOSTMAP_BENCH_BASE === undefined) throw new Error('`against` needs --base DIR')
  return needsTaskset()
}

export function needsTaskset() {
  try {
    execFileSync('taskset', ['--version'])
  } catch {
    return '`taskset` is missing (util-linux), so the turns may run on several processors.'
  }
}

// Only the measuring thread. V8's other threads may run anywhere.
const pin = () =>
  execFileSync('taskset', [
    '--cpu-list',
    '--pid',
    String(os.availableParallelism() - 1),
    String(process.pid)
  ])

/**
 * A build of the package with its own native part. The package itself refuses two builds in one
 * process, so its loader is passed by.
 */
function load(root) {
  // Where it is, and where it was before lib/ had folders.
  const folder = ['lib/platform', 'lib'].find(it => existsSync(path.join(root, it, 'binding.js')))
  const { binaryPath, target } = require(path.join(root, folder, 'platform.js'))
  // Next to package.json, where a build is put.
  const binary = binaryPath?.() ?? require(path.join(root, folder, 'place.js')).builtFile(target())
  const loader = path.join(root, folder, 'binding.js')
  require.cache[loader] = { id: loader, loaded: true, exports: require(binary) }
  return require(path.join(root, 'index.js'))
}

export const measure = (caseOf, onProgress) =>
  compare(caseOf, path.resolve(process.env.HOSTMAP_BENCH_BASE), onProgress)

/** Compares a build in a folder with this one. */
export async function compare({ name, address }, base, onProgress) {
  if (address === 'i64' && Number(majorHere) < 24) return null
  const builds = {
    base: load(base),
    here: load(fileURLToPath(new URL('../..', import.meta.url)))
  }
  const { make, calls = 64 } = OPERATIONS[name]
  const samples = new Samples()
  try {
    pin()
  } catch {
    // If it is missing, `prepare` has said so.
  }
  for (let turn = -1; turn < TURNS; turn++) {
    const rounds = new Map()
    for (const build of shuffled(Object.keys(builds)))
      rounds.set(build, await make(builds[build], address))
    const times = { base: [], here: [] }
    // The first turn only warms up V8.
    const blocks = turn < 0 ? Math.ceil(CALLS_BEFORE / calls) : BLOCKS
    for (let block = -BLOCKS_BEFORE; block < blocks; block++) {
      for (const build of shuffled(Object.keys(builds))) {
        const ns = await timeBlock(rounds.get(build), calls)
        if (block >= 0) times[build].push(ns)
      }
    }
    for (const { close } of rounds.values()) await close?.()
    if (turn >= 0) for (const build of Object.keys(builds)) samples.add(build, times[build])
    rounds.clear()
    await collectGarbage()
    onProgress((turn + 2) / (TURNS + 1))
  }
  cleanUp()
  return {
    base: samples.summary('base'),
    here: samples.summary('here'),
    ...samples.ratioWithin('here', 'base')
  }
}

async function timeBlock({ round, isAsync = false }, calls) {
  const startNs = process.hrtime.bigint()
  if (isAsync) for (let i = 0; i < calls; i++) await round()
  else for (let i = 0; i < calls; i++) round()
  return Number(process.hrtime.bigint() - startNs) / calls
}

const shuffled = ([first, second]) => (Math.random() < 0.5 ? [first, second] : [second, first])

export const report = results =>
  reportOf({ cases, results, id: 'against', title: 'Ratio to the other build', most: MOST })

/** A table of ratios, and promises that none is above `most`. */
export function reportOf({ cases, results, id, title, most, other = 'the other build' }) {
  const rows = cases
    .map(({ name, address }, index) => ({
      label: address === 'i64' ? `${name}, 64-bit` : name,
      parameters: { operation: name, address },
      cells: results[index]
    }))
    .filter(({ cells }) => cells !== null)
  const table = {
    id,
    title,
    rowLabel: 'operation',
    columns: [
      { key: 'base', label: other },
      { key: 'here', label: 'this build' },
      { key: 'ratio', label: 'this : other' },
      { key: 'lower', label: 'from' },
      { key: 'upper', label: 'to' }
    ],
    note: `Medians, with the 10th and 90th percentile of ${TURNS * BLOCKS} blocks of some dozen calls. This : other is the median of the quotients of ${TURNS} turns, each with its own memories and regions. From and to bound it with a confidence of 95 %, without assumptions about the distribution of the quotients. Windows have 1 MiB and show parts of 64 MiB, the heap has 64 MiB.`,
    rows
  }
  const promises = rows.map(({ label, cells }) => ({
    text: `${label}, of the time of ${other}`,
    value: cells.ratio.median,
    unit: 'ratio',
    atMost: most
  }))
  return { tables: [table], promises }
}
