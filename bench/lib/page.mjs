// Writes what people read: BENCHMARKS.md, its plots, and the picture of the README. All of it is
// made from bench/results/figures.json, without measuring anything. A run of the benchmarks keeps
// its figures there, and `npm run pack:all -- --write` the sizes of the packages.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import prettier from 'prettier'
import { drawBars, drawGlance } from './bars.mjs'
import { formatBytes, formatQuantity } from './table.mjs'

const JSON_FILE = 'bench/results/figures.json'

export const formatFigure = ({ median, unit }) => formatQuantity(median, unit)

function spread({ p10, p90, unit, samples }) {
  if (samples === 1 || p10 === undefined) return ''
  return `${formatQuantity(p10, unit)} to ${formatQuantity(p90, unit)}`
}

function machineLine({ machine, node, package: version, date }) {
  const { cpu, cores, memoryBytes, kernel, arch, virtualMachine } = machine
  return (
    `Measured with wasm-hostmap ${version} on ${date.slice(0, 10)}: ${cpu}, ${cores} cores` +
    `${virtualMachine ? ' of a virtual machine' : ''}, ${formatBytes(memoryBytes)}, Linux ${kernel} ${arch}, ` +
    `Node.js ${node}; transparent huge pages \`${machine.transparentHugePages}\`, load ${machine.loadAverage.toFixed(2)} at the start.`
  )
}

// What no machine can say of others.
const NOTES = `Figures are medians of this machine; the tables have the 10th and 90th percentile where there are
several samples. On another machine, expect other numbers, for these reasons:

- **Copies** go at the speed of the memory. Into a new memory, most of the time is the kernel's, for
  page faults and zeroing.
- **Mappings and restores** are system calls, and **first scans** are page faults: both cost more in a
  virtual machine than on its host, and depend on the mitigations of the processor.
- **Older kernels** lack calls that make some of it cheap. [Platforms](docs/platforms.md) has a row
  for each kernel that was tried, with what its fallbacks cost.
- **Files that are not in the page cache** come at the speed of the disk, in every way.`

function section(figure) {
  const { id, title, command, note, bars, values } = figure
  const words = note.replace(/\{(\w+)\}/g, (_, name) => formatFigure(values[name]))
  const rows = bars.map(({ label, ours, figure: found }) => [
    ours ? `**${label}**` : label,
    formatFigure(found),
    spread(found)
  ])
  const hasSpread = rows.some(([, , range]) => range !== '')
  const line = cells => `| ${(hasSpread ? cells : cells.slice(0, 2)).join(' | ')} |`
  return [
    `## ${title}`,
    `![${title}: ${bars.map(bar => `${bar.label} ${formatFigure(bar.figure)}`).join(', ')}](bench/plots/${id}-bars.svg)`,
    [
      line(['way', 'median', '10th to 90th percentile']),
      line([':--', '--:', '--:']),
      ...rows.map(line)
    ].join('\n'),
    words,
    `\`${command}\``
  ].join('\n\n')
}

/** The packages of a release, and what a machine takes of them: the main one and that for it. */
function sizesSection(sizes) {
  const { version, packages } = sizes
  const kib = bytes => `${Math.round(bytes / 1024).toLocaleString('en')} KiB`
  return [
    '## What an install takes',
    [
      '| package | to download | on the disk |',
      '| :-- | --: | --: |',
      ...packages.map(
        ({ name, packedBytes, unpackedBytes }) =>
          `| \`${name}\` | ${kib(packedBytes)} | ${kib(unpackedBytes)} |`
      )
    ].join('\n'),
    `Of version ${version}. A machine takes two of them: the last one, and the one for its processor and C library. There are no others: the package has no dependencies.`,
    '`npm run pack:all`'
  ].join('\n\n')
}

/** Writes the page and its pictures, and gives their paths. */
export async function writePage(root) {
  const found = kept(root)
  const written = []
  const write = (name, text) => {
    const file = path.join(root, name)
    mkdirSync(path.dirname(file), { recursive: true })
    writeFileSync(file, text)
    written.push(name)
  }
  const text = [
    '# Benchmarks',
    'What users ask for first, each with what it is compared with, and the command that prints it in a clone. Bars are to scale; those of wasm-hostmap are blue.',
    machineLine(found),
    NOTES,
    ...found.figures.map(section),
    found.sizes && sizesSection(found.sizes),
    '## More',
    '- [All tables](bench/results/README.md): every size, access and peer, and the bars that the project set itself\n- [How it is measured](bench/README.md), and what each benchmark leaves out\n- [What each call costs](docs/performance.md)\n- `npm run bench -- --figures` measures this page again, `npm run bench -- --page` writes it from the same figures'
  ].filter(part => part !== undefined)
  const config = await prettier.resolveConfig(path.join(root, 'BENCHMARKS.md'))
  write(
    'BENCHMARKS.md',
    await prettier.format(text.join('\n\n'), { ...config, parser: 'markdown' })
  )
  for (const figure of found.figures) {
    write(`bench/plots/${figure.id}-bars.svg`, drawBars(figure))
  }
  write('docs/images/at-a-glance.svg', drawGlance(found.figures))
  return written
}

function keep(root, figures) {
  const file = path.join(root, JSON_FILE)
  mkdirSync(path.dirname(file), { recursive: true })
  writeFileSync(file, `${JSON.stringify(figures, null, 2)}\n`)
  return JSON_FILE
}

const kept = root => JSON.parse(readFileSync(path.join(root, JSON_FILE), 'utf8'))

/** Keeps the figures of a run, next to the sizes of the packages. */
export const keepFigures = (root, figures) => keep(root, { ...figures, sizes: kept(root).sizes })

/** Keeps the sizes of a release's packages. */
export function keepSizes(root, packages) {
  const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'))
  return keep(root, { ...kept(root), sizes: { version, packages } })
}
