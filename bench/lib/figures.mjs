// The figures of BENCHMARKS.md: which of a run's tables they are from, and what they are compared
// with. A figure is picked by the title of its table, the label of its row and the label of its
// column, as they are printed. What is picked goes to bench/results/figures.json, and from there to
// the page and its plots: see page.mjs.

import { readFileSync } from 'node:fs'
import path from 'node:path'

/** The benchmarks that the page needs. */
export const NEEDED = ['hand-off', 'scan', 'random', 'memories', 'stream', 'opened', 'restore']

const OURS = true

/**
 * Each figure: `title`, the `command` that prints its table, `less` (whether less is better), a
 * `note`, and its `bars`: what is compared, as [label, table, row, column, whether it is ours].
 */
const FROM_RUN = [
  {
    id: 'hand-off',
    title: '1 GiB to a module that is new to it',
    less: true,
    command: 'npm run bench -- hand-off',
    note: 'Until the data is in the memory, and its place is free again. Nothing is read yet: each page of a mapping that is read later costs a page fault, which the next figure but one includes. Bare system calls for the same take {bare}.',
    values: { bare: ['Handing over a dataset, by size', '1 GiB', 'bare mmap calls'] },
    bars: [
      ['mapped', 'Handing over a dataset, by size', '1 GiB', 'map + unmap', OURS],
      ['copied into used pages', 'Handing over a dataset, by size', '1 GiB', 'copy, warm memory'],
      ['copied into a new memory', 'Handing over a dataset, by size', '1 GiB', 'copy, fresh memory']
    ]
  },
  {
    id: 'memory',
    title: 'Memory that 1 GiB takes in many modules',
    less: true,
    command: 'npm run bench -- memories',
    note: 'PSS of the whole process, in which all modules have read the data. Copied, each further module takes 1 GiB more. Page tables, which PSS leaves out, take {tables} for the 10,000.',
    values: { tables: ['Memories with one dataset of 1 GiB', '10,000', 'page tables'] },
    bars: [
      ['mapped, 1 module', 'Memories with one dataset of 1 GiB', '1', 'PSS mapped', OURS],
      ['mapped, 1,000 modules', 'Memories with one dataset of 1 GiB', '1,000', 'PSS mapped', OURS],
      [
        'mapped, 10,000 modules',
        'Memories with one dataset of 1 GiB',
        '10,000',
        'PSS mapped',
        OURS
      ],
      ['copied, 1 module', 'Memories with one dataset of 1 GiB', '1', 'PSS copied']
    ]
  },
  {
    id: 'first-use',
    title: 'From 1 GiB in the host to its sum in a module',
    less: true,
    command: 'npm run bench -- scan',
    note: 'Hand-off and one scan with SIMD, page faults included. Every later scan takes the same in all of them: {plain} in plain memory, {mapped} through a mapping, {native} in a native program and {wasmtime} in wasmtime.',
    values: {
      plain: ['Warm scan, by page size', 'SIMD, 1 GiB', 'plain memory'],
      mapped: ['Warm scan, by page size', 'SIMD, 1 GiB', 'mapped, 4 KiB pages'],
      native: ['The same, beside a native program and wasmtime', 'SIMD, 1 GiB', 'native, 4 KiB'],
      wasmtime: ['The same, beside a native program and wasmtime', 'SIMD, 1 GiB', 'wasmtime, 4 KiB']
    },
    bars: [
      [
        'mapped, 2 MiB pages',
        'The first use of 1 GiB, step by step',
        'mapped, 2 MiB pages',
        'until the sum is known',
        OURS
      ],
      [
        'mapped, 4 KiB pages',
        'The first use of 1 GiB, step by step',
        'mapped, 4 KiB pages',
        'until the sum is known',
        OURS
      ],
      [
        'copied into used pages',
        'The first use of 1 GiB, step by step',
        'copied, warm memory',
        'until the sum is known'
      ],
      [
        'copied into a new memory',
        'The first use of 1 GiB, step by step',
        'copied, fresh memory',
        'until the sum is known'
      ]
    ]
  },
  {
    id: 'random',
    title: 'One read of 8 bytes, somewhere in 3.75 GiB',
    less: true,
    command: 'npm run bench -- random',
    note: 'Reads that do not wait for each other. Memory of V8 has the pages that the system gives it; `hugePages` gives a region pages of 2 MiB, which the processor finds sooner.',
    bars: [
      [
        'mapped, 2 MiB pages',
        '8 bytes at random places',
        '32-bit memory, 3.75 GiB, independent reads',
        'mapped, 2 MiB pages',
        OURS
      ],
      [
        'mapped, 4 KiB pages',
        '8 bytes at random places',
        '32-bit memory, 3.75 GiB, independent reads',
        'mapped, 4 KiB pages',
        OURS
      ],
      [
        'plain memory',
        '8 bytes at random places',
        '32-bit memory, 3.75 GiB, independent reads',
        'plain memory'
      ],
      [
        'native, 2 MiB pages',
        '8 bytes at random places',
        '32-bit memory, 3.75 GiB, independent reads',
        'native, 2 MiB pages'
      ]
    ]
  },
  {
    id: 'windows',
    title: 'A pass over a file of 4 GiB',
    less: false,
    command: 'npm run bench -- stream',
    note: 'A module sums a file in the page cache, each way with its best size of a chunk. From a disk that has to be read the disk sets the pace: {cold}, and `dd` {dd}.',
    values: {
      cold: ['2 GiB not in the page cache', 'cold', 'window'],
      dd: ['2 GiB not in the page cache', 'cold', 'dd bs=1M']
    },
    bars: [
      ['a window', 'Each with its best chunk', 'SIMD sum', 'window', OURS],
      ['fs.readSync into the memory', 'Each with its best chunk', 'SIMD sum', 'fs.readSync'],
      ['a native program', 'Each with its best chunk', 'SIMD sum', 'native']
    ]
  },
  {
    id: 'restore',
    title: 'A heap of 64 MiB, clean again',
    less: true,
    command: 'npm run bench -- restore',
    note: 'Each round writes to 100 pages, spread evenly, and makes the heap what it was. wasmtime makes an instance in a slot of its pooling allocator. With nothing written, a restore takes {nothing}.',
    values: {
      nothing: [
        '64 MiB, and nothing written since the last restore',
        'nothing was touched',
        'restore'
      ]
    },
    bars: [
      ['restore', '64 MiB, and N pages written, spread evenly', '100', 'restore', OURS],
      ['wasmtime, pooling', '64 MiB, and N pages written, spread evenly', '100', 'wasmtime'],
      [
        'TypedArray.set of the heap',
        '64 MiB, and N pages written, spread evenly',
        '100',
        'TypedArray.set'
      ],
      ['a new Instance', '64 MiB, and N pages written, spread evenly', '100', 'new Instance']
    ]
  },
  {
    id: 'pool',
    title: 'Requests a second, each in a clean instance',
    less: false,
    command: 'npm run bench -- restore',
    note: 'One after another; a request writes to 20 pages of a heap of 64 MiB that comes from a data segment.',
    bars: [
      [
        'a pool of one',
        '100,000 requests, one after another',
        '64 MiB, a pool of one',
        'requests a second',
        OURS
      ],
      [
        'a new instance each',
        '100,000 requests, one after another',
        '64 MiB, an instance each',
        'requests a second'
      ]
    ]
  },
  {
    id: 'opened',
    title: 'A saved heap of 512 MiB, until it is in a memory',
    less: true,
    command: 'npm run bench -- opened',
    note: 'The file is in the page cache. Processes that open it share its pages: six take {open}, and six that load it {load}.',
    values: {
      open: ['A saved heap of 512 MiB', 'Snapshot.open', '6 processes take'],
      load: ['A saved heap of 512 MiB', 'Snapshot.load', '6 processes take']
    },
    bars: [
      [
        'Snapshot.open',
        'A saved heap of 512 MiB',
        'Snapshot.open',
        'until it is restored once',
        OURS
      ],
      ['Snapshot.load', 'A saved heap of 512 MiB', 'Snapshot.load', 'until it is restored once']
    ]
  }
]

/** What a run's tables have at a row and a column. */
function pick(run, [title, row, column]) {
  const tables = run.benchmarks.flatMap(benchmark => benchmark.tables)
  const table = tables.find(each => each.title === title)
  const { key } = table?.columns.find(each => each.label === column) ?? {}
  const figure = table?.rows.find(each => each.label === row)?.cells[key]
  if (figure?.median === undefined) throw new Error(`no figure in "${title}": ${row}, ${column}`)
  return figure
}

function fromRun(run) {
  const titles = new Set(run.benchmarks.flatMap(({ tables }) => tables.map(({ title }) => title)))
  // What was not run is left out.
  const measured = FROM_RUN.filter(({ bars }) => bars.every(([, title]) => titles.has(title)))
  return measured.map(({ bars, values = {}, ...figure }) => ({
    ...figure,
    bars: bars.map(([label, title, row, column, ours = false]) => ({
      label,
      ours,
      figure: pick(run, [title, row, column])
    })),
    values: Object.fromEntries(
      Object.entries(values).map(([name, place]) => [name, pick(run, place)])
    )
  }))
}

const UNITS = { s: 1e9, ms: 1e6, us: 1e3 }

/** A time as engines/bench prints it. */
function timeOf(text) {
  const [, number, unit] = /^([\d.,]+) (s|ms|us)\b/.exec(text) ?? []
  if (number === undefined) throw new Error(`"${text}" is no time`)
  return { unit: 'ns', median: Number(number.replaceAll(',', '')) * UNITS[unit], samples: 1 }
}

/** The rows of a table of a document, by their headings, from the line that has the first. */
function tableOf(text, firstHeading) {
  const lines = text.split('\n')
  const start = lines.findIndex(line => line.startsWith(`| ${firstHeading} `))
  const cells = line =>
    line
      .split('|')
      .slice(1, -1)
      .map(cell => cell.trim())
  const headings = cells(lines[start])
  const end = lines.findIndex((line, index) => index > start && !line.startsWith('|'))
  return lines
    .slice(start + 2, end)
    .map(line => Object.fromEntries(cells(line).map((cell, index) => [headings[index], cell])))
}

/** What engines/bench has written into the documents. */
function fromDocuments(root) {
  const read = name => readFileSync(path.join(root, 'docs', name), 'utf8')
  const programs = tableOf(read('pools.md'), 'program')
  const engines = tableOf(read('engines.md'), 'engine')
  return [
    {
      id: 'boots',
      title: 'A program, clean for the next request',
      less: true,
      command: 'npm run bench:engines -- programs',
      note: 'Boot again: in a process that has compiled the program before. A request includes what the pool does to bring the program back. More: [pools](docs/pools.md).',
      bars: programs.flatMap(row => [
        { label: `${row.program}, of a pool`, ours: true, figure: timeOf(row['clean request']) },
        { label: `${row.program}, booted`, ours: false, figure: timeOf(row['boot again']) }
      ]),
      values: {}
    },
    {
      id: 'engines',
      title: '1 GiB, until an engine has answered',
      less: true,
      command: 'npm run bench:engines',
      note: "One line gives the engine a region in the place of a copy: [engines](docs/engines.md) has the lines, and each engine's limits.",
      bars: engines.flatMap(row => {
        const name = row.engine.replace(/\[([^\]]*)\]\([^)]*\)/, '$1')
        const [usual, mapped] = row.ready.replace(/^[^:]*: /, '').split(' → ')
        return [
          { label: `${name}, a region`, ours: true, figure: timeOf(mapped) },
          { label: `${name}, as usual`, ours: false, figure: timeOf(usual) }
        ]
      }),
      values: {}
    }
  ]
}

const ORDER = [
  'hand-off',
  'memory',
  'first-use',
  'random',
  'windows',
  'restore',
  'pool',
  'boots',
  'engines',
  'opened'
]

/** What bench/results/figures.json has: where and when it was measured, and each figure. */
export function figuresOf(root, run) {
  const { package: version, date, machine, benchmarks } = run
  const figures = [...fromRun(run), ...fromDocuments(root)]
  return {
    package: version,
    date,
    node: benchmarks[0].node.version,
    machine,
    figures: ORDER.flatMap(id => figures.filter(figure => figure.id === id))
  }
}
