// How many instructions and system calls each hot call takes, compared with `figures.json`. Neither
// depends on how busy the machine is, so a change of some percent shows.
//
//   npm run bench:instructions              # fails where a call takes 3 % more than the file says
//   npm run bench:instructions -- --write   # and write the file
//
// Instructions in user mode, as callgrind counts them, on one thread and without V8's optimizing
// compiler, which would start at another moment in each run: more than what optimized code takes.
// System calls as strace sees them on the main thread. Then the core alone, optimized: core.mjs.
// Both depend on the release of Node.js, the C library and the kernel, so the file has them for one
// of each.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import Table from 'cli-table3'
import { OPERATIONS } from '../lib/hot-calls.mjs'
import { CORE_CASES, EXACT_REGISTERS, buildCore, countCore, moduleFile } from './core.mjs'

const { values: options } = parseArgs({ options: { write: { type: 'boolean', default: false } } })

const FIGURES = fileURLToPath(new URL('figures.json', import.meta.url))
const CALLS = fileURLToPath(new URL('calls.mjs', import.meta.url))
const MOST = 1.03
const ROUNDS = 100
const SAMPLES = 5
const NAMES = Object.keys(OPERATIONS)

const folder = mkdtempSync(path.join(os.tmpdir(), 'hostmap-count-'))
const { glibcVersionRuntime: glibc } = process.report.getReport().header
const kernel = os.release().split('.', 2).join('.')
const place = `Node.js ${process.version}, ${process.arch}, glibc ${glibc ?? 'none'}, Linux ${kernel}`

const node = [
  process.execPath,
  // One thread, and the same decisions in each run.
  ...['--predictable', '--single-threaded', '--no-opt', '--hash-seed=1', '--random-seed=1'],
  '--expose-gc',
  CALLS
]

function run(command, args) {
  const options = {
    encoding: 'utf8',
    stdio: 'pipe',
    env: { ...process.env, NODE_NO_WARNINGS: '1' }
  }
  const { status, error, stderr } = spawnSync(command, args, options)
  if (status === 0) return
  console.error(stderr.slice(-2000))
  throw new Error(`${command} failed`, { cause: error })
}

/** Of each operation, the samples that `read` finds between two marks. */
function perOperation(between, names) {
  if (between.length !== 2 * SAMPLES * names.length - 1)
    throw new Error(`${between.length} parts between marks, for ${names.length} operations`)
  return new Map(
    names.map((name, index) => [
      name,
      Array.from({ length: SAMPLES }, (_, sample) => between[2 * (index * SAMPLES + sample)])
    ])
  )
}

function countInstructions() {
  const file = path.join(folder, 'callgrind')
  run('valgrind', [
    '--tool=callgrind',
    ...EXACT_REGISTERS,
    '--dump-before=uv_os_getpriority',
    `--callgrind-out-file=${file}`,
    ...node,
    ...[ROUNDS, SAMPLES].map(String)
  ])
  // One file up to each mark; the one without a number is what follows the last.
  const dumps = readdirSync(folder)
    .filter(name => /^callgrind\.\d+$/.test(name))
    .sort((first, second) => Number(first.split('.')[1]) - Number(second.split('.')[1]))
  const parts = dumps.map(name =>
    Number(/^totals: (\d+)/m.exec(readFileSync(path.join(folder, name), 'utf8'))[1])
  )
  // The rounds in which V8 collects garbage or compiles are those with the most.
  const least = samples => Math.round(Math.min(...samples) / ROUNDS)
  return mapValues(perOperation(parts.slice(1), NAMES), least)
}

function countSystemCalls() {
  const file = path.join(folder, 'strace')
  run('strace', ['-o', file, '-qq', ...node, ...[ROUNDS, SAMPLES].map(String)])
  const parts = [[]]
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const name = /^(\w+)\(/.exec(line)?.[1]
    if (name === 'getpriority') parts.push([])
    else if (name !== undefined) parts.at(-1).push(name)
  }
  return mapValues(perOperation(parts.slice(1, -1), NAMES), samples => {
    const least = samples.reduce((first, second) => (second.length < first.length ? second : first))
    const counts = {}
    for (const name of least) counts[name] = (counts[name] ?? 0) + 1
    const perCall = Object.entries(counts).map(([name, count]) => [name, count / ROUNDS])
    // What happens once in many rounds is no part of the call.
    return Object.fromEntries(perCall.filter(([, count]) => count >= 0.5).sort())
  })
}

/** No system calls: those that the core makes are in the others. */
async function countOfCore() {
  const program = buildCore()
  const module = await moduleFile()
  return CORE_CASES.map(name => [
    `core: ${name}`,
    { instructions: countCore(program, name, module), systemCalls: {} }
  ])
}

const mapValues = (entries, change) =>
  new Map([...entries].map(([key, value]) => [key, change(value)]))

const total = calls => Object.values(calls).reduce((sum, count) => sum + count, 0)
const inWords = calls => Object.entries(calls).map(([name, count]) => `${name} ${round(count)}`)
const round = count => Number(count.toFixed(2))

function compare(before, now) {
  const rows = [...now].map(([name, { instructions, systemCalls }]) => {
    const known = before?.[name]
    const ratio = known?.instructions > 0 ? instructions / known.instructions : 0
    const more = known === undefined ? 0 : total(systemCalls) - total(known.systemCalls)
    return { name, instructions, systemCalls, ratio, more }
  })
  const table = new Table({
    head: ['call', 'instructions', 'ratio', 'system calls'],
    style: { head: [], border: [] },
    wordWrap: true,
    colWidths: [40, 14, 8, 60]
  })
  for (const { name, instructions, systemCalls, ratio } of rows)
    table.push([
      name,
      instructions.toLocaleString('en'),
      ratio > 0 ? ratio.toFixed(3) : '',
      inWords(systemCalls).join(', ')
    ])
  console.log(`${place}; each call ${ROUNDS} times, the least of ${SAMPLES} samples`)
  console.log(String(table))
  return rows.filter(({ ratio, more }) => ratio > MOST || more > 0.05)
}

try {
  const instructions = countInstructions()
  const systemCalls = countSystemCalls()
  const now = new Map([
    ...NAMES.map(name => [
      name,
      { instructions: instructions.get(name), systemCalls: rounded(systemCalls.get(name)) }
    ]),
    ...(await countOfCore())
  ])
  const stored = JSON.parse(readFileSync(FIGURES, 'utf8'))
  const worse = compare(stored[place], now)
  if (options.write) {
    // For one place: those of another release would be compared with nothing.
    writeFileSync(FIGURES, `${JSON.stringify({ [place]: Object.fromEntries(now) }, null, 2)}\n`)
  } else if (stored[place] === undefined) {
    console.log(`figures.json has ${Object.keys(stored)}: nothing to compare with.`)
  } else {
    for (const { name, ratio, more } of worse)
      console.error(
        `"${name}" takes ${ratio.toFixed(3)} of the instructions, ${round(more)} more system calls`
      )
    if (worse.length > 0) {
      console.error(
        `More than ${MOST}. If that is what it costs: npm run bench:instructions -- --write, and say why.`
      )
      process.exitCode = 1
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}

function rounded(calls) {
  return Object.fromEntries(Object.entries(calls).map(([name, count]) => [name, round(count)]))
}
