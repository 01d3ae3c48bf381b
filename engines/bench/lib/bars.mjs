// The bounds that the project set itself for adapters, and the one table of a run.

import Table from 'cli-table3'
import { formatBytes, formatQuantity } from '../../../bench/lib/table.mjs'

const MiB = 2 ** 20
const LEAST_READY_RATIO = 50
const MOST_EXTRA_BYTES = 64 * MiB
const MOST_SCAN_RATIO = 1.05

export const BARS = `Bars, for 1 GiB: ready at least ${LEAST_READY_RATIO} times sooner; memory after \
the queries at most the engine's own, what was read of the dataset, and ${formatBytes(MOST_EXTRA_BYTES)}; \
a scan at most ${MOST_SCAN_RATIO} times the usual one; all results equal.`

/** How a way does beside the usual one: figures, and the names of the bars that it misses. */
export function compare(usual, way) {
  const readyRatio = usual.readyMs / way.readyMs
  const scanRatio = way.scanMs / usual.scanMs
  const misses = [
    [readyRatio >= LEAST_READY_RATIO, 'ready'],
    [way.extraPss <= MOST_EXTRA_BYTES, 'memory'],
    [scanRatio <= MOST_SCAN_RATIO, 'scan'],
    [way.isEqual && way.hasResults, 'equal']
  ]
    .filter(([holds]) => !holds)
    .map(([, name]) => name)
  return { readyRatio, scanRatio, misses }
}

const HEAD = [
  'engine',
  'way',
  'ready',
  'sooner',
  'PSS: engine',
  'opened',
  'queried',
  'of it read',
  'scanned',
  'first scan',
  'next scans',
  'of usual',
  'equal',
  'bars'
]

const time = milliseconds => formatQuantity(milliseconds * 1e6, 'ns')
const bytes = value => formatBytes(Math.round(value / MiB) * MiB)
const ratio = value => formatQuantity(value, 'ratio')

/** The rows of one case: a row a way, or why there are none. */
function rowsOf({ title, size, result, error, skipped }) {
  const why = error === undefined ? skipped : `failed: ${error}`
  if (why !== undefined) return [[title, why, ...HEAD.slice(2).map(() => '')]]
  const [usual] = result.ways
  return result.ways.map((way, index) => {
    const { readyRatio, scanRatio, misses } = compare(usual, way)
    const bars = misses.length === 0 ? 'hold' : `missed: ${misses.join(', ')}`
    return [
      index === 0 ? title : '',
      index === 0 ? `${way.name}, ${formatBytes(size)}` : way.name,
      time(way.readyMs),
      index === 0 ? '' : ratio(readyRatio),
      bytes(way.enginePss),
      bytes(way.openPss),
      bytes(way.answeredPss),
      bytes(way.answeredRead),
      bytes(way.scannedPss),
      time(way.firstScanMs),
      time(way.scanMs),
      index === 0 ? '' : ratio(scanRatio),
      index === 0 ? '' : way.isEqual ? 'yes' : 'NO',
      index === 0 ? '' : bars
    ]
  })
}

const OVERVIEW_HEAD = ['engine', 'in one line', 'ready', 'memory then', 'limits', 'Node.js']

/** The table that says what there is: a row an engine, its mapped way beside the usual one. */
export function overviewForMarkdown(cases) {
  const rows = cases.map(({ engine, version, size, result, error }) => {
    const { name, adapter, limits = '', nodes, section } = engine
    const title = `${section ? `[${name}](#${section})` : name} ${version}`
    const before = result?.ways[0]
    const after = result?.ways[1]
    const change = show => (result ? `${show(before)} → ${show(after)}` : (error ?? ''))
    const ready = `${formatBytes(size)}: ${change(way => time(way.readyMs))}`
    return [title, `\`${adapter}\``, ready, change(way => bytes(way.answeredPss)), limits, nodes]
  })
  return markdown([OVERVIEW_HEAD, OVERVIEW_HEAD.map(() => ':--'), ...rows])
}

const markdown = lines => lines.map(cells => `| ${cells.join(' | ')} |`).join('\n')

const alignOf = index => (index < 2 || index > 11 ? 'left' : 'right')

export function tableForTerminal(cases) {
  const table = new Table({
    head: HEAD,
    colAligns: HEAD.map((_, index) => alignOf(index)),
    style: { head: [], border: [], compact: true }
  })
  table.push(...cases.flatMap(rowsOf))
  return table.toString()
}

export function tableForMarkdown(cases) {
  const rule = HEAD.map((_, index) => (alignOf(index) === 'left' ? ':--' : '--:'))
  return markdown([HEAD, rule, ...cases.flatMap(rowsOf)])
}
