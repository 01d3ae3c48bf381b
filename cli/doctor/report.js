'use strict'

// What doctor prints for people: a line for each finding, what it costs and how it is mended under
// those that are not good, and at the end all that is to be done, worst first.

const { VERDICTS } = require('./finding.js')
const { painter, wrap } = require('./terminal.js')

const COLORS = { good: 'green', slower: 'yellow', missing: 'red', unknown: 'gray' }
const VERDICT_COLUMNS = Math.max(...VERDICTS.map(verdict => verdict.length))
// Where the texts begin: a margin, the verdict, and a space.
const INDENT = 2 + VERDICT_COLUMNS + 2
// With fewer columns there is no room for a column of titles.
const NARROW_COLUMNS = 72
const TITLE_COLUMNS = 20

/** How a finding is mended, in words. */
function mendOf({ mend }) {
  if (mend === null) return null
  if (mend.command !== null) return mend.command
  return mend.advice ?? 'Nothing on this machine mends it.'
}

function lines(finding, columns, paint) {
  const { title, verdict, breaks, found, cost } = finding
  const color = breaks ? ['red', 'bold'] : COLORS[verdict]
  const head = `  ${paint(color, verdict.padEnd(VERDICT_COLUMNS))}  `
  const margin = ' '.repeat(INDENT)
  // In few columns a title is the beginning of its text, else it has a column of its own.
  const isNarrow = columns < NARROW_COLUMNS
  const begin = isNarrow ? `${title}: ` : title.padEnd(TITLE_COLUMNS)
  const column = isNarrow ? 0 : TITLE_COLUMNS
  const [first, ...rest] = wrap(found, columns - INDENT - column, begin.length - column)
  const texts = [
    `${head}${paint('bold', first === '' ? begin.trimEnd() : begin)}${first}`,
    ...rest.map(text => margin + ' '.repeat(column) + text)
  ]
  if (cost !== null) texts.push(...wrap(cost, columns - INDENT).map(it => margin + it))
  const mend = mendOf(finding)
  if (mend !== null) {
    const { command } = finding.mend
    // A command stays in one line, to be copied.
    const shown = command === null ? wrap(mend, columns - INDENT - 2) : [mend]
    texts.push(
      ...shown.map((it, index) => `${margin}${index === 0 ? '> ' : '  '}${paint('cyan', it)}`)
    )
  }
  return texts
}

/** How serious a finding is: the lower, the worse. */
const rank = ({ breaks, verdict }) => (breaks ? -1 : VERDICTS.indexOf(verdict))
const worstFirst = findings => findings.toSorted((a, b) => rank(a) - rank(b))

const VERSION = /^Use (?<what>Linux|Node\.js) (?<version>[\d.]+) or later\.$/

/** Of all advice to use a newer one of something, by what it is: the newest, which mends it all. */
function newestOf(findings) {
  const newest = new Map()
  for (const { mend } of findings) {
    const { what, version } = VERSION.exec(mend?.advice ?? '')?.groups ?? {}
    const known = newest.get(what)?.version ?? '0'
    if (what !== undefined && version.localeCompare(known, 'en', { numeric: true }) > 0)
      newest.set(what, { version, advice: mend.advice })
  }
  return newest
}

function summary({ works, counts, findings }, columns, paint) {
  const given = VERDICTS.filter(verdict => counts[verdict] > 0)
  const counted = given.map(verdict => paint(COLORS[verdict], `${counts[verdict]} ${verdict}`))
  const verdict = works ? 'wasm-hostmap works here.' : 'wasm-hostmap does not work as it should.'
  const painted = paint([works ? 'green' : 'red', 'bold'], verdict)
  const plainCounts = given.map(each => `${counts[each]} ${each}`).join(', ')
  const isShort = `${verdict} ${plainCounts}.`.length <= columns
  const texts = isShort
    ? [`${painted} ${counted.join(', ')}.`]
    : [painted, ...counted.map(each => `  ${each}`)]
  const mends = new Map()
  const newest = newestOf(findings)
  for (const finding of worstFirst(findings)) {
    const { command, advice } = finding.mend ?? {}
    const what = VERSION.exec(advice ?? '')?.groups.what
    const mend = command ?? newest.get(what)?.advice ?? advice
    if (mend === null || mend === undefined) continue
    if (!mends.has(mend)) mends.set(mend, { isCommand: command !== null, titles: [] })
    mends.get(mend).titles.push(finding.title)
  }
  if (mends.size > 0) texts.push('', 'What to do, worst first:')
  let number = 0
  for (const [mend, { isCommand, titles }] of mends) {
    number++
    const margin = `  ${number}. `
    const room = columns - margin.length
    const shown = isCommand ? [mend] : wrap(mend, room)
    texts.push(
      ...shown.map((it, index) =>
        index === 0
          ? `${margin}${paint('cyan', it)}`
          : ' '.repeat(margin.length) + paint('cyan', it)
      ),
      ...wrap(`for ${titles.join(', ')}`, room).map(
        it => ' '.repeat(margin.length) + paint('gray', it)
      )
    )
  }
  return texts
}

/** Findings that say the same, as all those without the native part, in one. */
function together(findings) {
  const alike = new Map()
  for (const finding of findings) {
    const key = keyOf(finding)
    alike.set(key, [...(alike.get(key) ?? []), finding])
  }
  return [...alike.values()].map(([first, ...more]) => {
    if (more.length === 0) return first
    const names = [first, ...more].map(({ title }) => title).join(', ')
    return { ...first, title: `${more.length + 1} checks`, found: `${first.found} (${names})` }
  })
}

const keyOf = ({ id, verdict, found }) => (verdict === 'unknown' ? found : id)

/** The whole text, for a terminal of so many columns. */
function textOf(report, { columns, colors }) {
  const paint = painter(colors)
  const groups = new Set(report.findings.map(({ group }) => group))
  const { package: version, runtime, platform, kernel, arch } = report
  const system = platform === 'linux' ? 'Linux' : platform
  const head = `wasm-hostmap ${version}, ${runtime}, ${system} ${kernel} ${arch}`
  const texts = [...wrap(head, columns)]
  for (const group of groups) {
    texts.push('', paint('bold', group))
    const findings = report.findings.filter(finding => finding.group === group)
    for (const finding of worstFirst(together(findings)))
      texts.push(...lines(finding, columns, paint))
  }
  texts.push('', ...summary(report, columns, paint))
  return `${texts.join('\n')}\n`
}

module.exports = { textOf }
