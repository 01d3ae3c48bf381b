// npm run bench [-- NAME...] [--node PATH...] [--base DIR] [--json FILE] [--write | --figures |
// --page]: see bench/README.md.

import { execFileSync, fork } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { SingleBar } from 'cli-progress'
import { QUICK } from './lib/dataset.mjs'
import { describeMachine } from './lib/machine.mjs'
import { NEEDED, figuresOf } from './lib/figures.mjs'
import { writeResults } from './lib/markdown.mjs'
import { buildNative } from './lib/native.mjs'
import { keepFigures, writePage } from './lib/page.mjs'
import { writePlot } from './lib/plot.mjs'
import { formatBytes, formatPromise, holds, tableForTerminal } from './lib/table.mjs'

const NAMES = [
  'hand-off',
  'scan',
  'random',
  'memories',
  'faults',
  'slide',
  'threads',
  'alternatives',
  'stream',
  'snapshot',
  'opened',
  'restore',
  'tables',
  'growth',
  'placement',
  'adopt',
  'nodes'
]
// These run only if they are named: `against` needs another build, `from` 12 GiB of memory.
const NAMED = [
  'against',
  'events',
  'first-touch',
  'from',
  'paging',
  'process-map',
  'scale',
  'speed'
]
const root = fileURLToPath(new URL('..', import.meta.url))
const childProgram = fileURLToPath(new URL('lib/child.mjs', import.meta.url))
const moduleOf = name => new URL(`benchmarks/${name}.mjs`, import.meta.url).href

const USAGE = `npm run bench -- [NAME...] [options]

  NAME          ${NAMES.join(', ')} (default: all);
                or ${NAMED.join(', ')}, which run only if named
  --node PATH   the Node.js to measure; can be repeated (default: this one)
  --base DIR    another build of the package, for \`against\` and \`speed\`
  --json FILE   where the figures go (default: target/bench.json)
  --figures     runs what BENCHMARKS.md shows, in ten minutes on a quiet machine, and writes it,
                bench/plots, docs/images/at-a-glance.svg and bench/results/figures.json
  --write       runs all benchmarks and writes bench/results too
  --page        measures nothing: writes BENCHMARKS.md and its pictures from figures.json
  --help        shows this text`

function readArguments() {
  const options = {
    node: { type: 'string', multiple: true, default: [process.execPath] },
    base: { type: 'string' },
    json: { type: 'string', default: path.join(root, 'target', 'bench.json') },
    write: { type: 'boolean', default: false },
    figures: { type: 'boolean', default: false },
    page: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false }
  }
  const { values, positionals } = parseArgs({ options, allowPositionals: true })
  const unknown = positionals.find(name => ![...NAMES, ...NAMED].includes(name))
  if (unknown !== undefined)
    throw new Error(
      `There is no benchmark '${unknown}'. There are: ${[...NAMES, ...NAMED].join(', ')}`
    )
  const writes = values.write || values.figures
  if (writes && positionals.length > 0)
    throw new Error('--write and --figures choose the benchmarks: pass no names')
  if (writes && QUICK) throw new Error('HOSTMAP_BENCH_QUICK is set: its figures mean nothing')
  const chosen = values.figures && !values.write ? NEEDED : NAMES
  return { ...values, names: positionals.length > 0 ? positionals : chosen }
}

function describeNode(execPath) {
  const { node, v8 } = JSON.parse(
    execFileSync(execPath, ['-p', 'JSON.stringify(process.versions)'], { encoding: 'utf8' })
  )
  return { execPath, version: node, v8 }
}

/** Runs one case in its own process and returns what it measured. */
function runCase(execPath, name, caseOf, onProgress) {
  return new Promise((resolve, reject) => {
    const args = [moduleOf(name), JSON.stringify(caseOf)]
    const env = { ...process.env, ...caseOf.env }
    const child = fork(childProgram, args, {
      execPath: caseOf.execPath ?? execPath,
      execArgv: ['--expose-gc'],
      env
    })
    let result
    child.on('message', message => {
      if ('progress' in message) onProgress(message.progress)
      else result = message.result
    })
    child.on('error', reject)
    child.on('exit', (exitCode, signal) => {
      if (exitCode === 0 && result !== undefined) resolve(result)
      else
        reject(
          new Error(
            `${name} ${JSON.stringify(caseOf)} ended with ${signal ?? `exit code ${exitCode}`}`
          )
        )
    })
  })
}

async function runBenchmark(node, name) {
  const benchmark = await import(moduleOf(name))
  const missing = benchmark.prepare?.() ?? null
  const bar = new SingleBar({
    format: `${name}, Node ${node.version} [{bar}] {percentage} % {duration_formatted}`,
    clearOnComplete: true
  })
  const startMs = performance.now()
  bar.start(benchmark.cases.length, 0)
  try {
    const results = []
    const caseSeconds = []
    for (const caseOf of benchmark.cases) {
      const onProgress = fraction => bar.update(results.length + fraction)
      const caseStartMs = performance.now()
      results.push(await runCase(node.execPath, name, caseOf, onProgress))
      caseSeconds.push((performance.now() - caseStartMs) / 1000)
      bar.update(results.length)
    }
    const { title, measures } = benchmark
    const { tables, promises, plots = [] } = benchmark.report(results)
    const seconds = (performance.now() - startMs) / 1000
    return {
      name,
      title,
      measures,
      node,
      seconds,
      caseSeconds,
      missing,
      tables,
      plots,
      promises: promises.map(each => ({ ...each, holds: holds(each) }))
    }
  } finally {
    bar.stop()
  }
}

function printMachine({ machine, native }) {
  const { cpu, cores, memoryBytes, kernel, arch } = machine
  console.log(
    `${cpu}, ${cores} cores${machine.virtualMachine ? ', a virtual machine' : ''}, ${formatBytes(memoryBytes)}`
  )
  console.log(`Linux ${kernel} ${arch}, load ${machine.loadAverage.toFixed(2)}`)
  console.log(
    `huge pages: ${machine.transparentHugePages}, for shared memory: ${machine.shmemHugePages}`
  )
  if (machine.loadAverage > cores / 2)
    console.log('The machine is busy, so these figures will be worse than usual')
  if (native) console.log(`Without the bare system calls: ${native}`)
}

function printBenchmark({ title, measures, node, seconds, missing, tables, promises }) {
  console.log(
    `\n${title}, Node ${node.version} (V8 ${node.v8}), ${seconds.toFixed(0)} s\n${measures}\n`
  )
  if (missing) console.log(`${missing}\n`)
  for (const table of tables) console.log(tableForTerminal(table))
  for (const promise of promises) console.log(formatPromise(promise))
}

/** Prints how long each benchmark took, and each of its cases if there are several. */
function printSeconds({ benchmarks }) {
  const whole = seconds => `${seconds.toFixed(0)} s`
  console.log('\nSeconds:')
  for (const { name, node, seconds, caseSeconds } of benchmarks) {
    const cases =
      caseSeconds.length > 1 ? ` (${caseSeconds.map(each => each.toFixed(0)).join(', ')})` : ''
    console.log(`  ${name}, Node ${node.version}: ${whole(seconds)}${cases}`)
  }
  console.log(`  all: ${whole(benchmarks.reduce((sum, { seconds }) => sum + seconds, 0))}`)
}

async function main() {
  const { help, names, node: execPaths, base, json, write, figures, page } = readArguments()
  if (help) return console.log(USAGE)
  if (page) return printWritten(await writePage(root))
  // For the measuring processes.
  if (base !== undefined) process.env.HOSTMAP_BENCH_BASE = path.resolve(base)

  const nodes = execPaths.map(describeNode)
  const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'))
  const run = {
    package: version,
    date: new Date().toISOString(),
    machine: describeMachine(),
    native: buildNative(),
    benchmarks: []
  }
  printMachine(run)
  for (const node of nodes) {
    for (const name of names) {
      const benchmark = await runBenchmark(node, name)
      printBenchmark(benchmark)
      run.benchmarks.push(benchmark)
    }
  }
  printSeconds(run)

  mkdirSync(path.dirname(path.resolve(json)), { recursive: true })
  writeFileSync(json, `${JSON.stringify(run, null, 2)}\n`)
  console.log(`\nFigures: ${path.relative('.', json)}`)
  if (!write && !figures) return
  if (write) {
    printWritten(await writeResults(root, run))
    for (const plot of run.benchmarks.flatMap(({ plots }) => plots)) writePlot(root, plot)
  }
  printWritten([keepFigures(root, figuresOf(root, run)), ...(await writePage(root))])
}

function printWritten(names) {
  for (const name of names) console.log(`Wrote ${name}`)
}

try {
  await main()
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
}
