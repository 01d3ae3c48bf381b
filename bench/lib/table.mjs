// A benchmark's report, as plain data for JSON, and how to print it.
//
// A table has `title`, `note`, `rowLabel`, `columns` and `rows`. A column is a figure, `{ key,
// label }`, or the quotient of two figures' medians, `{ label, ratio: [key, key] }`. A row has a
// `label`, the `parameters` that it was measured with, and `cells`: a figure for each key, as
// `summarize` and the others of measure.mjs make them.
//
// A promise is a bound that the project set itself, `{ text, value, unit, atMost }` or `atLeast`.

import Table from 'cli-table3'
import { formatBytes } from '../../lib/support/bytes.js'

export { formatBytes }

const UNITS = {
  ns: [
    [1e9, 's'],
    [1e6, 'ms'],
    [1e3, 'us'],
    [1, 'ns']
  ],
  bytes: [
    [2 ** 40, 'TiB'],
    [2 ** 30, 'GiB'],
    [2 ** 20, 'MiB'],
    [2 ** 10, 'KiB'],
    [1, 'B']
  ],
  // Bytes per second.
  rate: [
    [1e9, 'GB/s'],
    [1e6, 'MB/s']
  ],
  perSecond: [
    [1e6, 'M/s'],
    [1e3, 'k/s'],
    [1, '/s']
  ]
}

const threeDigits = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 3 })

const unitFor = (value, unit) => UNITS[unit].find(([size]) => value >= size) ?? UNITS[unit].at(-1)

export function formatQuantity(value, unit) {
  if (unit === 'ratio') return `${threeDigits.format(value)} x`
  if (unit === 'share') return `${threeDigits.format(value * 100)} %`
  if (unit === 'bytes') return formatBytes(value)
  if (unit === 'count') return value.toLocaleString('en-US')
  const [divisor, name] = unitFor(value, unit)
  return `${threeDigits.format(value / divisor)} ${name}`
}

function formatFigure(figure) {
  if (!figure) return ''
  if (figure.unit === 'none') return '-'
  const median = formatQuantity(figure.median, figure.unit)
  if (figure.samples === 1) return median
  // The spread uses the median's unit.
  const [divisor] = unitFor(figure.median, figure.unit)
  const [p10, p90] = [figure.p10, figure.p90].map(value => threeDigits.format(value / divisor))
  return `${median} (${p10} to ${p90})`
}

/** The ratio of two figures of a row, or NaN if one was not measured. */
export function ratioOf(row, [numerator, denominator]) {
  return row.cells[numerator]?.median / row.cells[denominator]?.median
}

function formatCell(row, column) {
  if (!column.ratio) return formatFigure(row.cells[column.key])
  const ratio = ratioOf(row, column.ratio)
  return Number.isNaN(ratio) ? '-' : formatQuantity(ratio, 'ratio')
}

const headings = table => [table.rowLabel, ...table.columns.map(column => column.label)]
const lines = table =>
  table.rows.map(row => [row.label, ...table.columns.map(column => formatCell(row, column))])

/** The table's note, and why cells are empty. */
function notes(table) {
  const missing = new Map()
  for (const { label, cells } of table.rows) {
    for (const { key } of table.columns) {
      const { unit, reason } = cells[key] ?? {}
      if (unit === 'none') missing.set(reason, (missing.get(reason) ?? new Set()).add(label))
    }
  }
  const reasons = [...missing].map(
    ([reason, labels]) => `Not measured (${[...labels].join(', ')}): ${reason}.`
  )
  return [table.note, ...reasons].join(' ')
}

export function tableForTerminal(table) {
  const colAligns = headings(table).map((_, index) => (index === 0 ? 'left' : 'right'))
  const drawing = new Table({
    head: headings(table),
    colAligns,
    style: { head: [], border: [], compact: true }
  })
  drawing.push(...lines(table))
  return `${table.title}\n${drawing}\n${notes(table)}\n`
}

export function tableForMarkdown(table) {
  const line = cells => `| ${cells.join(' | ')} |`
  const rule = headings(table).map((_, index) => (index === 0 ? ':--' : '--:'))
  return [
    `### ${table.title}`,
    '',
    ...[headings(table), rule, ...lines(table)].map(line),
    '',
    notes(table),
    ''
  ].join('\n')
}

/** Whether a promise holds, or `null` if it was not measured. */
export function holds({ value, atMost = Infinity, atLeast = -Infinity }) {
  return Number.isFinite(value) ? value <= atMost && value >= atLeast : null
}

export function formatPromise(promise) {
  const { text, value, unit, atMost, atLeast } = promise
  const verdict = { true: 'holds', false: 'DOES NOT HOLD', null: 'not measured' }[holds(promise)]
  const bound =
    atMost === undefined
      ? `at least ${formatQuantity(atLeast, unit)}`
      : `at most ${formatQuantity(atMost, unit)}`
  return `${verdict}: ${text}: ${bound}${Number.isFinite(value) ? `, measured ${formatQuantity(value, unit)}` : ''}`
}
