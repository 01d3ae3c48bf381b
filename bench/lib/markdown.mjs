// Writes bench/results: the tables of one run, a page for each benchmark, and the bars that the
// project set itself. BENCHMARKS.md is page.mjs's.

import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import prettier from 'prettier'
import { formatBytes, formatPromise, tableForMarkdown } from './table.mjs'

const FOLDER = 'bench/results'

function machineLines({ date, package: version, machine }) {
  const { cpu, cores, memoryBytes, arch, kernel } = machine
  const mitigations = Object.entries(machine.mitigations ?? {}).map(
    ([name, state]) => `${name}: ${state}`
  )
  return [
    `wasm-hostmap ${version}, ${date.slice(0, 10)}`,
    `${cpu}, ${cores} cores${machine.virtualMachine ? ', a virtual machine' : ''}, ${formatBytes(memoryBytes)}`,
    `Linux ${kernel}, ${arch}; load average at the start ${machine.loadAverage.toFixed(2)}; frequency governor: ${machine.frequencyGovernor ?? 'not shown'}`,
    `Transparent huge pages: ${machine.transparentHugePages}; for shared memory: ${machine.shmemHugePages}`,
    `vm.overcommit_memory ${machine.overcommitMemory}, vm.max_map_count ${machine.maxMapCount}`,
    `Mitigations of the CPU: ${mitigations.join('; ') || 'not shown'}`
  ]
}

const list = lines => lines.map(line => `- ${line}`).join('\n')

const pageOf = ({ title, measures, node, tables, plots = [] }) =>
  [
    `# ${title}, Node ${node.version}`,
    measures,
    ...tables.map(table => tableForMarkdown(table).replace(/^### /, '## ')),
    ...plots.map(({ name, title: what }) => `![${what}](../plots/${name}.svg)`)
  ].join('\n\n')

function barsPage(benchmarks) {
  const sections = benchmarks
    .filter(({ promises }) => promises.length > 0)
    .flatMap(({ title, promises }) => [`## ${title}`, list(promises.map(formatPromise))])
  return [
    '# Bars',
    'Bounds that the project set itself, for its developers: what a change must not make worse, and what is still to be done. A bar is no promise to users, and a benchmark no test.',
    ...sections
  ].join('\n\n')
}

const readme = run =>
  [
    '# All tables',
    '`npm run bench -- --write` measured and wrote all of this in one run. What each benchmark measures, and what it does not: [bench/README.md](../README.md). The short version: [BENCHMARKS.md](../../BENCHMARKS.md).',
    list(machineLines(run)),
    list([
      ...run.benchmarks.map(({ name, title }) => `[${title}](${name}.md)`),
      '[The bars that the project set itself](bars.md)'
    ])
  ].join('\n\n')

/** Writes the pages, and gives their paths. */
export async function writeResults(root, run) {
  const folder = path.join(root, FOLDER)
  mkdirSync(folder, { recursive: true })
  for (const name of readdirSync(folder)) {
    if (name.endsWith('.md')) rmSync(path.join(folder, name))
  }
  const pages = {
    README: readme(run),
    bars: barsPage(run.benchmarks),
    ...Object.fromEntries(run.benchmarks.map(benchmark => [benchmark.name, pageOf(benchmark)]))
  }
  const config = await prettier.resolveConfig(path.join(folder, 'README.md'))
  return Promise.all(
    Object.entries(pages).map(async ([name, text]) => {
      const file = path.join(FOLDER, `${name}.md`)
      const formatted = await prettier.format(text, { ...config, parser: 'markdown' })
      writeFileSync(path.join(root, file), formatted)
      return file
    })
  )
}
