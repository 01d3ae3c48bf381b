// Writes BENCHMARKS.md: the tables of one run, the machine, and the command that repeats it.

import { writeFileSync } from 'node:fs'
import path from 'node:path'
import prettier from 'prettier'
import { formatBytes, formatPromise, tableForMarkdown } from './table.mjs'

const COMMAND = 'npm run bench -- --write'

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

function benchmarkSection({ title, measures, node, tables, plots = [], promises }) {
  return [
    `## ${title}, Node ${node.version}`,
    measures,
    ...tables.map(tableForMarkdown),
    ...plots.map(({ name, title }) => `![${title}](bench/plots/${name}.svg)`),
    'Bounds that the project set itself:',
    promises.map(promise => `- ${formatPromise(promise)}`).join('\n')
  ].join('\n\n')
}

/** Writes the file and returns its path. */
export async function writeMarkdown(root, run) {
  const text = [
    '# Benchmarks',
    `\`${COMMAND}\` measured and wrote all of this in one run. What each benchmark measures, and what it does not: [bench/README.md](bench/README.md).`,
    machineLines(run)
      .map(line => `- ${line}`)
      .join('\n'),
    ...run.benchmarks.map(benchmarkSection)
  ].join('\n\n')
  const file = path.join(root, 'BENCHMARKS.md')
  const config = await prettier.resolveConfig(file)
  writeFileSync(file, await prettier.format(text, { ...config, parser: 'markdown' }))
  return file
}
