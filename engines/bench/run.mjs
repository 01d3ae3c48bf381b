// One table of all adapters, from one run: how soon an engine can answer, what it then uses, and
// how long a pass over all the data takes, beside the engine's usual way.
//
//   npm run bench:engines                        all cases, with 1 GiB
//   npm run bench:engines -- sqljs arrow         these
//   npm run bench:engines -- --size 256MiB       with less; the bars are set for 1 GiB
//   npm run bench:engines -- --write             all cases, and the table goes to docs/engines.md
//   npm run bench:engines -- programs --write    this case, whose table goes to docs/pools.md
//
// A case is a file beside this one. It exports
//
//   engine    { name, package or version, adapter, nodes, limits, section }: which one, the one
//             line of code, the versions of Node.js such as '>=20', and for docs/engines.md what
//             limits it has and the anchor of its section
//   size      the size of its dataset in place of 1 GiB, if need be
//   dataset   (directory, byteLength) => path: makes the file once
//   ways      { usual, mapped, ... }, each with
//             prepare()          => context   the engine is loaded and warm; not timed
//             open(context, path) => handle   timed: from the path to an engine that can answer
//             answer(handle)     => JSON      a few small queries
//             scan(handle)       => JSON      touches all the data; timed
//             close(handle)
//
// or, where there is nothing to open and scan, `run({ write })`, which prints a table of its own.
//
// Results have to be equal in all ways: the exit code is 1 if they are not.

import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { SingleBar } from 'cli-progress'
import prettier from 'prettier'
import { describeMachine } from '../../bench/lib/machine.mjs'
import { formatBytes } from '../../bench/lib/table.mjs'
import { parseBytes } from '../../demo/units.mjs'
import {
  BARS,
  compare,
  overviewForMarkdown,
  tableForMarkdown,
  tableForTerminal
} from './lib/bars.mjs'
import { measureCase } from './lib/measure.mjs'

const HERE = path.dirname(fileURLToPath(import.meta.url))
const BENCH = path.join(HERE, '..')
const DOCUMENT = path.join(BENCH, '../docs/engines.md')
const DATA = path.join(BENCH, 'data')
// Where docs/engines.md has the tables.
const FIGURES = ['<!-- Figures, by `npm run bench:engines -- --write` -->', '<!-- /Figures -->']
const OVERVIEW = ['<!-- Engines, by `npm run bench:engines -- --write` -->', '<!-- /Engines -->']

// Cases that write into a document of their own.
const OWN_DOCUMENT = new Set(['programs'])

class UsageError extends Error {}

function readArguments() {
  const { values, positionals } = parseArgs({
    options: {
      size: { type: 'string' },
      rounds: { type: 'string', default: '3' },
      scans: { type: 'string', default: '5' },
      write: { type: 'boolean', default: false }
    },
    allowPositionals: true
  })
  const known = fs
    .readdirSync(HERE)
    .filter(file => file.endsWith('.mjs') && file !== 'run.mjs')
    .map(file => file.slice(0, -'.mjs'.length))
    .sort()
  const unknown = positionals.filter(name => !known.includes(name))
  if (unknown.length > 0)
    throw new UsageError(`there is no case ${unknown.join(', ')}, but ${known.join(', ')}`)
  const isOwn = positionals.length > 0 && positionals.every(name => OWN_DOCUMENT.has(name))
  if (values.write && !isOwn && (positionals.length > 0 || values.size !== undefined))
    throw new UsageError('--write takes all cases at their full size: pass no names and no --size')
  const size = parseBytes(values.size ?? '1GiB')
  if (!(size >= 1)) throw new UsageError(`--size takes a size such as 256MiB, not ${values.size}`)
  const [rounds, scans] = ['rounds', 'scans'].map(option => {
    const count = Number(values[option])
    if (!Number.isInteger(count) || count < 1)
      throw new UsageError(`--${option} takes a count, not ${values[option]}`)
    return count
  })
  return {
    names: positionals.length > 0 ? positionals : known,
    size,
    hasSize: values.size !== undefined,
    rounds,
    scans,
    write: values.write
  }
}

const versionOf = name =>
  JSON.parse(fs.readFileSync(path.join(BENCH, 'node_modules', name, 'package.json'), 'utf8'))
    .version

const runsHere = nodes =>
  Number(process.versions.node.split('.')[0]) >= Number(/^>=(\d+)$/.exec(nodes)[1])

async function runCase(name, { size, hasSize, rounds, scans }) {
  const url = new URL(`${name}.mjs`, import.meta.url).href
  const module = await import(url)
  const { engine } = module
  const version = engine.version ?? versionOf(engine.package)
  const title = `${engine.name} ${version}: ${engine.adapter}`
  const byteLength = hasSize || module.size === undefined ? size : parseBytes(module.size)
  const one = { name, title, engine, version, size: byteLength }
  if (!runsHere(engine.nodes)) return { ...one, skipped: `needs Node.js ${engine.nodes}` }

  const bar = new SingleBar({
    format: `${name} [{bar}] {duration_formatted}`,
    clearOnComplete: true
  })
  bar.start(1, 0)
  try {
    const dataset = await module.dataset(DATA, byteLength)
    const onProgress = fraction => bar.update(fraction)
    const result = await measureCase(url, { dataset, rounds, scans, onProgress })
    return { ...one, size: result.byteLength, result }
  } catch (error) {
    return { ...one, error: error.message }
  } finally {
    bar.stop()
  }
}

/** Where and when: a list in Markdown. */
function circumstances({ rounds, scans }) {
  const { cpu, cores, memoryBytes, kernel, arch, virtualMachine } = describeMachine()
  return [
    `${new Date().toISOString().slice(0, 10)}, Node.js ${process.versions.node}, Linux ${kernel} ${arch}`,
    `${cpu}, ${cores} cores${virtualMachine ? ', a virtual machine' : ''}, ${formatBytes(memoryBytes)}`,
    `Times to be ready: medians of ${rounds} processes for each way, in turns; scans: a first one, then the median of ${scans}, in turns. The dataset is in the page cache.`,
    BARS
  ].map(line => `- ${line}`)
}

/** The text with a new body between two marks. */
function replaceBetween(text, [begin, end], body) {
  const [from, to] = [text.indexOf(begin), text.indexOf(end)]
  if (from === -1 || to < from) throw new Error(`${DOCUMENT} has no ${begin} ... ${end}`)
  return `${text.slice(0, from)}${begin}\n\n${body}\n\n${text.slice(to)}`
}

async function writeDocument(cases, lines) {
  let text = fs.readFileSync(DOCUMENT, 'utf8')
  text = replaceBetween(text, OVERVIEW, overviewForMarkdown(cases))
  text = replaceBetween(text, FIGURES, `${tableForMarkdown(cases)}\n\n${lines.join('\n')}`)
  const config = await prettier.resolveConfig(DOCUMENT)
  fs.writeFileSync(DOCUMENT, await prettier.format(text, { ...config, parser: 'markdown' }))
}

async function main() {
  const options = readArguments()
  fs.mkdirSync(DATA, { recursive: true })
  const cases = []
  for (const name of options.names) {
    const { run } = await import(new URL(`${name}.mjs`, import.meta.url).href)
    if (run !== undefined) {
      await run({ write: options.write })
      continue
    }
    const one = await runCase(name, options)
    cases.push(one)
    if (process.stdout.isTTY !== true)
      console.error(`${name}: ${one.error ?? one.skipped ?? 'measured'}`)
  }
  if (cases.length === 0) return
  const lines = circumstances(options)
  console.log(tableForTerminal(cases))
  console.log(lines.join('\n'))
  if (options.write) await writeDocument(cases, lines)

  const isWrong = ({ result }) =>
    result.ways.some(way => compare(result.ways[0], way).misses.includes('equal'))
  const failed = cases.filter(each => each.error !== undefined || (each.result && isWrong(each)))
  if (failed.length > 0) process.exitCode = 1
}

try {
  await main()
} catch (error) {
  if (!(error instanceof UsageError) && error.code !== 'ERR_PARSE_ARGS_UNKNOWN_OPTION') throw error
  console.error(error.message)
  process.exitCode = 2
}
