// What the demo prints: everything fits into 80 columns, with and without colour.
import { inspect } from 'node:util'
import Table from 'cli-table3'
import { formatBytes, formatCount, formatDuration, formatFactor, formatValue } from './units.mjs'

/** Gives functions that paint text for a terminal, or leave it as it is. */
export function makePaint(colors) {
  const paint = style => text => {
    const [on, off] = inspect.colors[style]
    return colors ? `\x1b[${on}m${text}\x1b[${off}m` : text
  }
  return { bold: paint('bold'), dim: paint('dim'), green: paint('green'), cyan: paint('cyan') }
}

/**
 * One block of rows for each place where modules ran: the two ways, and how many times as much copying takes.
 *
 * @param {{ title: string, copied: object, mapped: object }[]} places The results of measure() for both ways.
 */
export function drawTable(places, paint) {
  const head = [
    '',
    'modules can\nstart after',
    'memory\nthen, PSS',
    'all scan\ntheirs in',
    'memory\nthen, PSS',
    '\nRSS'
  ]
  const table = new Table({
    head: head.map(paint.bold),
    colAligns: ['left', ...head.slice(1).map(() => 'right')],
    style: { head: [], border: [], compact: true }
  })
  for (const { title, copied, mapped } of places) {
    table.push([{ content: paint.bold(title), colSpan: 6 }])
    for (const [name, way] of Object.entries({ 'copied in': copied, mapped })) {
      table.push([
        name,
        formatDuration(way.readyMs),
        formatBytes(way.memoryWhenReady.pss),
        formatDuration(way.scanMs),
        formatBytes(way.memoryWhenScanned.pss),
        formatBytes(way.memoryWhenScanned.rss)
      ])
    }
    const ratios = [
      copied.readyMs / mapped.readyMs,
      copied.memoryWhenReady.pss / mapped.memoryWhenReady.pss,
      copied.scanMs / mapped.scanMs,
      copied.memoryWhenScanned.pss / mapped.memoryWhenScanned.pss,
      copied.memoryWhenScanned.rss / mapped.memoryWhenScanned.rss
    ]
    table.push(['ratio', ...ratios.map(formatFactor)].map(paint.green))
  }
  return table.toString()
}

/** The statistics in a line or two. */
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

/** The bins as columns of block characters, with the edges below. */
export function drawHistogram({ finite, bins, low, high, below, above }, paint) {
  if (finite === 0) return 'no finite value, so no histogram'
  if (low === high) return `every finite value is ${formatValue(low)}, so no histogram`

  const rows = 10
  const tops = '▁▂▃▄▅▆▇█'
  const tallest = Math.max(...bins)
  // In eighths of a row. A bin that has any value at all is seen.
  const heights = bins.map(count => (count === 0 ? 0 : Math.max(1, Math.round((count / tallest) * rows * 8))))
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
  lines.push(left.padEnd(middleStart) + middle + right.padStart(width - middleStart - middle.length))
  const notes = [`${width} bins, the tallest with ${formatCount(tallest, 'value')}`]
  if (below > 0) notes.push(`${below.toLocaleString('en')} lower`)
  if (above > 0) notes.push(`${above.toLocaleString('en')} higher`)
  lines.push(paint.dim(notes.join('; ')))
  return lines.join('\n')
}

/** What was gained, in plain words. */
export function closingWords({ modules, copied, mapped }) {
  const [sooner, later] = [mapped, copied].map(way => formatDuration(way.readyMs))
  const [less, more] = [mapped, copied].map(way => formatBytes(way.memoryWhenScanned.pss))
  return (
    `With the file mapped, ${formatCount(modules, 'module')} could start after ${sooner} instead of ${later}, ` +
    `and the process held ${less} in the end instead of ${more}. The results are the same, bit for bit.`
  )
}

export function indent(text) {
  return text.replace(/^(?=.)/gm, '  ')
}

/** Breaks text into lines of at most `width` characters, between words. */
export function wrap(text, width = 78) {
  const line = new RegExp(`(.{1,${width}})(?: +|$)\\n?`, 'gm')
  return text.replace(line, '$1\n').trimEnd()
}
