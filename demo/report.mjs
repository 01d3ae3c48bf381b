// The demo's output. Everything fits into 80 columns, with and without color.
import { inspect } from 'node:util'
import Table from 'cli-table3'
import { formatBytes, formatCount, formatDuration, formatFactor, formatValue } from './units.mjs'

/** Returns functions that color text for a terminal, or return it unchanged. */
export function makePaint(colors) {
  const paint = style => text => {
    const [on, off] = inspect.colors[style]
    return colors ? `\x1b[${on}m${text}\x1b[${off}m` : text
  }
  return {
    bold: paint('bold'),
    dim: paint('dim'),
    green: paint('green'),
    red: paint('red'),
    cyan: paint('cyan')
  }
}

/** Explains the ways, and what mapping is for. */
export const openingWords =
  "Copied in: the host reads the file and copies it into each module's memory. " +
  'Read in: the host reads the file directly into each memory. ' +
  "Mapped: each memory shows the file's own pages, without a copy.\n" +
  'Map large data that several modules, threads or runs share, that a module reads in part, ' +
  'or that must be available immediately.'

const COLUMNS = [
  ['modules can\nstart after', way => way.readyMs, formatDuration],
  ['first\nscan', way => way.firstScanMs, formatDuration],
  ['later\nscans', way => way.nextScanMs, formatDuration],
  ['\ntotal', way => way.totalMs, formatDuration],
  ['\nmemory', way => way.memoryWhenScanned.pss, formatBytes]
]

// Differences below this are noise.
const NOISE = 1.05

/**
 * Draws one block of rows per place where modules ran: the three ways, and how many times as much
 * the other two take.
 *
 * @param {{ title: string, copied: object, read: object, mapped: object }[]} places The results of
 *   measure().
 */
export function drawTable(places, paint) {
  const head = ['', ...COLUMNS.map(([title]) => title)]
  const table = new Table({
    head: head.map(paint.bold),
    colAligns: ['left', ...COLUMNS.map(() => 'right')],
    style: { head: [], border: [], compact: true }
  })
  for (const { title, copied, read, mapped } of places) {
    table.push([{ content: paint.bold(title), colSpan: head.length }])
    for (const [name, way] of Object.entries({ 'copied in': copied, 'read in': read, mapped })) {
      table.push([name, ...COLUMNS.map(([, value, format]) => format(value(way)))])
    }
    for (const [name, way] of Object.entries({ copied, read })) {
      const ratios = COLUMNS.map(([, value]) => value(way) / value(mapped))
      table.push([`${name} / mapped`, ...ratios.map(ratio => paintRatio(ratio, paint))])
    }
  }
  return table.toString()
}

function paintRatio(ratio, paint) {
  const text = formatFactor(ratio)
  return ratio >= NOISE ? paint.green(text) : ratio <= 1 / NOISE ? paint.red(text) : text
}

/** Prints the statistics in one or two lines. */
export function drawStatistics(report) {
  const { finite, nans, infinities, min, max, mean, deviation } = report
  const counts = [formatCount(finite, 'finite value')]
  if (nans > 0) counts.push(formatCount(nans, 'NaN'))
  if (infinities > 0) counts.push(`${infinities.toLocaleString('en')} infinite`)
  if (finite === 0) return counts.join(', ')
  const values = { minimum: min, mean, maximum: max, 'standard deviation': deviation }
  const named = Object.entries(values).map(([name, value]) => `${name} ${formatValue(value)}`)
  return wrap(`${counts.join(', ')}\n${named.join(', ')}`, 76)
}

/** Draws the bins as columns of block characters, with the edges below. */
export function drawHistogram({ finite, bins, low, high, below, above }, paint) {
  if (finite === 0) return 'No histogram: there are no finite values.'
  if (low === high) return `No histogram: every finite value is ${formatValue(low)}.`

  const rows = 10
  const tops = '▁▂▃▄▅▆▇█'
  const tallest = Math.max(...bins)
  // In eighths of a row. A bin with any value is visible.
  const heights = bins.map(count =>
    count === 0 ? 0 : Math.max(1, Math.round((count / tallest) * rows * 8))
  )
  const lines = []
  for (let row = rows - 1; row >= 0; row--) {
    const cells = heights.map(height => {
      const eighths = Math.min(8, height - row * 8)
      return eighths > 0 ? tops[eighths - 1] : ' '
    })
    lines.push(paint.cyan(cells.join('').trimEnd()))
  }

  const [left, middle, right] = [low, (low + high) / 2, high].map(formatValue)
  const width = bins.length
  const middleStart = Math.round((width - middle.length) / 2)
  lines.push('─'.repeat(width))
  lines.push(
    left.padEnd(middleStart) + middle + right.padStart(width - middleStart - middle.length)
  )
  const notes = [`${width} bins, the tallest with ${formatCount(tallest, 'value')}`]
  if (below > 0) notes.push(`${below.toLocaleString('en')} lower`)
  if (above > 0) notes.push(`${above.toLocaleString('en')} higher`)
  lines.push(paint.dim(notes.join('; ')))
  return lines.join('\n')
}

/** Says what mapping gained and lost, compared with reading directly. */
export function closingWords({ title, read, mapped }) {
  const both = (value, format) => `${format(value(mapped))} mapped, ${format(value(read))} read in`
  const words = [
    `${title}: ready after ${both(way => way.readyMs, formatDuration)};`,
    `memory at the end: ${both(way => way.memoryWhenScanned.pss, formatBytes)}.`
  ]
  const slower = [
    ['The first scan', read.firstScanMs, mapped.firstScanMs, ', because it loads the pages'],
    ['Later scans', read.nextScanMs, mapped.nextScanMs, ''],
    ['The total', read.totalMs, mapped.totalMs, '']
  ].filter(([, ms, mappedMs]) => mappedMs > ms * NOISE)
  for (const [what, ms, mappedMs, why] of slower) {
    const verb = what === 'Later scans' ? 'take' : 'takes'
    words.push(
      `${what} ${verb} longer over mapped pages${why}: ${formatDuration(mappedMs)} instead of ${formatDuration(ms)}.`
    )
  }
  if (slower.length === 0) words.push('No scan is slower.')
  return `${words.join(' ')} All results are bit-for-bit the same.`
}

export function indent(text) {
  return text.replace(/^(?=.)/gm, '  ')
}

/** Breaks text into lines of at most `width` characters, between words. */
export function wrap(text, width = 78) {
  const line = new RegExp(`(.{1,${width}})(?: +|$)\\n?`, 'gm')
  return text.replace(line, '$1\n').trimEnd()
}
