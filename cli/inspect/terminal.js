'use strict'

// An inspection as a drawing for a terminal. Each memory is a bar, with a letter for each region
// and a row that says how much of it is in memory; nothing depends on colour.

const { formatBytes } = require('../../lib/support/bytes.js')
const { residentIn } = require('../../lib/process/resident.js')
const { printable } = require('./printable.js')
const { barOf } = require('./bar.js')
const { shares } = require('./shares.js')

const LEAST_COLUMNS = 40
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwyz'
const LEVELS = { unicode: ' ▁▂▃▄▅▆▇█', ascii: ' .:-=+*#@' }
const COLOURS = [34, 32, 35, 36, 33]
const MOST_LINES = 40

/**
 * @param style `{ columns, colour, unicode, all }`: `all` leaves nothing out
 * @param pages the PageMap of the process, where it is at hand
 */
function drawing(inspection, style, pages = undefined) {
  const drawn = new Drawing(inspection, style, pages)
  return drawn.lines().join('\n')
}

class Drawing {
  #it
  #style
  #width
  #pages

  constructor(inspection, style, pages) {
    this.#it = inspection
    this.#style = style
    this.#width = Math.max(LEAST_COLUMNS, style.columns)
    this.#pages = pages ?? pagesIn(inspection)
  }

  lines() {
    const { memories, regions, snapshots, pools } = this.#it
    return [
      ...this.#head(),
      ...(memories.length === 0 ? ['', 'No WebAssembly memory was found.'] : []),
      ...memories.flatMap(it => ['', ...this.#memory(it)]),
      ...this.#section('regions', regions, it => this.#region(it)),
      ...this.#section('snapshots', snapshots, it => this.#snapshot(it)),
      ...this.#section('pools', pools, it => this.#pool(it)),
      ...this.#legend()
    ]
  }

  #head() {
    const { pid, runtime, takenAt, resident, threads, processMap } = this.#it
    const first = `Process ${pid}, ${printable(runtime)}, at ${takenAt.replace('T', ' ').slice(0, 19)} UTC`
    const lines = [first]
    if (resident !== null) {
      lines.push(
        `${formatBytes(resident.residentBytes)} in memory, ${formatBytes(resident.proportionalBytes)} of it this process's share` +
          (resident.swappedBytes > 0 ? `, ${formatBytes(resident.swappedBytes)} swapped out` : '')
      )
    }
    if (processMap !== null) lines.push(...this.#shares())
    lines.push(
      threads.length === 0
        ? 'Seen from outside: no thread has called allowInspect().'
        : `With what thread ${threads.join(' and ')} said (0 is the main thread).`
    )
    return lines
  }

  #shares() {
    const found = shares(this.#it).filter(({ bytes }) => bytes > 0)
    const total = found.reduce((sum, { bytes }) => sum + bytes, 0)
    const wide = this.#width - 46
    if (wide < 8) return []
    return found.map(({ label, bytes }) => {
      const filled = this.#bar((bytes / total) * wide)
      return `  ${label.padEnd(30)} ${formatBytes(bytes).padStart(9)}  ${filled}`.trimEnd()
    })
  }

  #bar(cells) {
    const whole = Math.floor(cells)
    const levels = this.#levels()
    const rest = levels[Math.round((cells - whole) * (levels.length - 1))]
    return (
      (this.#style.unicode ? '█' : '#').repeat(whole) +
      (this.#style.unicode ? part(cells - whole) : rest)
    )
  }

  #levels() {
    return this.#style.unicode ? LEVELS.unicode : LEVELS.ascii
  }

  #memory(memory) {
    const { id, base, byteLength, maximumByteLength, reservation, resident, knownBy } = memory
    const kind = { i32: '32-bit', i64: '64-bit' }[memory.address] ?? 'of 32 or 64 bits'
    const facts = [
      kind,
      ...(memory.shared ? ['shared'] : []),
      maximumByteLength === null
        ? formatBytes(byteLength)
        : `${formatBytes(byteLength)} of at most ${formatBytes(maximumByteLength)}`,
      ...(reservation === null
        ? memory.guarded === false
          ? ['no guards']
          : []
        : [`${formatBytes(reservation.end - reservation.start)} reserved`]),
      ...(resident === null ? [] : [inMemory(resident)])
    ]
    return [
      this.#bold(`memory ${id} at ${hex(base)}`) + (KNOWN_BY[knownBy] ?? ''),
      `  ${facts.join(', ')}`,
      ...this.#bars(memory),
      ...this.#shorten(memory.mappings.map(it => this.#mapping(memory, it)))
    ]
  }

  #bars(memory) {
    const { processMap, pageBytes } = this.#it
    const { base } = memory
    const fillOf = (start, end) => {
      if (processMap === null) return null
      const found = residentIn(processMap, base + start, base + end, this.#pages)
      return found === null ? null : Math.min(1, found.residentBytes / (end - start))
    }
    const { cells, cellBytes } = barOf(memory, this.#width - 16, fillOf, pageBytes)
    if (cells.length === 0) return []
    const isKnown = cells.some(({ fill }) => fill !== null && fill > 0)
    const rows = [`  map       |${cells.map(it => this.#cell(it)).join('')}|`]
    if (processMap !== null) {
      const levels = cells.map(it => this.#level(it)).join('')
      rows.push(`  in memory |${isKnown ? levels : ' '.repeat(levels.length)}|`)
    }
    rows.push(
      cellBytes === null
        ? '             not to scale: more parts than columns'
        : `             one column is ${formatBytes(cellBytes)}`
    )
    return rows
  }

  #cell({ mark, part, words }) {
    if (words !== null) {
      const side = part.kind === 'mapped' ? this.#letter(part.mapping.regionId) : mark
      return this.#dim(`${side} ${words} ${side}`)
    }
    if (part.kind !== 'mapped') return this.#dim(mark)
    return this.#coloured(this.#letter(part.mapping.regionId), part.mapping.regionId)
  }

  #level({ fill, words }) {
    if (words !== null) return ' '.repeat(words.length + 4)
    const levels = this.#levels()
    if (fill === null) return '?'
    // Something is never nothing, and not quite all is not all.
    return levels[fill === 0 ? 0 : Math.max(1, Math.floor(fill * (levels.length - 1)))]
  }

  #mapping(memory, mapping) {
    const { kind, address, access, regionId, byteOffset, shownBytes, byteLength } = mapping
    const region = this.#it.regions[regionId]
    const shows =
      kind === 'adopted'
        ? 'an adopted buffer'
        : region === undefined
          ? 'shows nothing'
          : `${printable(region.name)} from ${hex(byteOffset)}`
    const isWindow = kind === 'window'
    const what = isWindow
      ? `window, ${region === undefined ? '' : `${formatBytes(shownBytes)} of `}${shows}`
      : shows
    const notes = [
      ...(mapping.strict ? ['strict'] : []),
      ...(mapping.faults > 0 ? [counted(mapping.faults, 'fault')] : []),
      ...(mapping.strayWrites > 0 ? [counted(mapping.strayWrites, 'stray write')] : []),
      ...(mapping.resident === null ? [] : [inMemory(mapping.resident)])
    ]
    return (
      `  ${this.#coloured(this.#letter(regionId), regionId)} ${hex(address).padStart(12)} ` +
      `${formatBytes(byteLength).padStart(9)} ${access.padEnd(8)} ${what}; ${notes.join(', ')}`
    )
  }

  #region(region) {
    const { id, name, backing, byteLength, state, holders, resident, heldBytes, path } = region
    const facts = [
      backing ?? 'of another thread',
      ...(byteLength === null ? [] : [formatBytes(byteLength)]),
      ...(state === 'open' || state === 'unknown' ? [] : [STATES[state]]),
      ...(region.sealed ? ['sealed'] : region.writable ? ['writable'] : []),
      ...(heldBytes === null ? [] : [`holds ${formatBytes(heldBytes)}`]),
      ...(holders === null || holders.views + holders.buffers === 0
        ? []
        : [`${counted(holders.views, 'view')} and ${counted(holders.buffers, 'Buffer')}`]),
      ...(region.faults > 0 ? [`${counted(region.faults, 'fault')} of views`] : []),
      ...(resident === null ? [] : [inMemory(resident)])
    ]
    const where = path === null ? '' : ` (${printable(path)})`
    return `  ${this.#coloured(this.#letter(id), id)} ${this.#bold(printable(name))}: ${facts.join(', ')}${where}`
  }

  #snapshot({ id, name, byteLength, heldBytes, memories, resident, backing }) {
    const shown =
      memories.length === 0 ? 'shown by no memory' : `shown by memory ${memories.join(', ')}`
    const facts = [
      `of ${formatBytes(byteLength)}`,
      `holds ${formatBytes(heldBytes)}${backing === 'file' ? ' of its disk' : ''}`,
      shown,
      ...(resident === null ? [] : [inMemory(resident)])
    ]
    return `  ${id} ${this.#bold(printable(name))}: ${facts.join(', ')}`
  }

  #pool(pool) {
    const { id, of, size, max, idle, busy, waiting, created, discarded, restored } = pool
    const facts = [
      `${size} of at most ${max ?? 'any number of'}`,
      `${busy} busy, ${idle} idle, ${waiting} waiting`,
      `${created} created, ${discarded} discarded`,
      `${restored} restores of ${pool.restoreMicroseconds.mean.toFixed(1)} us`,
      ...(pool.snapshotId === null ? [] : [`snapshot ${pool.snapshotId}`]),
      ...(pool.closed ? ['closed'] : []),
      ...(pool.lastFailure === null ? [] : [`last failure: ${printable(pool.lastFailure)}`])
    ]
    return `  ${id} of a ${of}: ${facts.join(', ')}`
  }

  #section(title, items, draw) {
    if (items.length === 0) return []
    return ['', title, ...this.#shorten(items.map(draw))]
  }

  #shorten(lines) {
    if (this.#style.all || lines.length <= MOST_LINES) return lines
    const left = lines.length - MOST_LINES
    return [...lines.slice(0, MOST_LINES), `  and ${left} more, which --all shows`]
  }

  #legend() {
    if (this.#it.memories.length === 0) return []
    return [
      '',
      "map: a letter is a region, . the memory's own, - what it may grow by, x a guard; a size",
      'in the bar stands for a stretch that is too long to be drawn and has nothing in memory.',
      "share: each page divided by how many mappings show it. own: written, and no file's any more."
    ]
  }

  #letter(regionId) {
    return regionId === null ? '#' : (LETTERS[regionId] ?? '#')
  }

  #coloured(text, regionId) {
    return regionId === null ? text : this.#paint(text, COLOURS[regionId % COLOURS.length])
  }

  #dim(text) {
    return this.#paint(text, 2)
  }

  #bold(text) {
    return this.#paint(text, 1)
  }

  #paint(text, code) {
    return this.#style.colour ? `\u001b[${code}m${text}\u001b[0m` : text
  }
}

const KNOWN_BY = {
  table: ', of another thread',
  mappings: ', which no object stands for any more',
  shape: ', by its shape'
}

const STATES = { closed: 'closed', elsewhere: 'of another thread' }

const part = share => ' ▏▎▍▌▋▊▉█'[Math.round(share * 8)]

function inMemory({ residentBytes, proportionalBytes, ownBytes, swappedBytes }) {
  if (residentBytes === 0 && swappedBytes === 0) return 'nothing in memory'
  const more = [
    ...(proportionalBytes === residentBytes ? [] : [`share ${formatBytes(proportionalBytes)}`]),
    ...(ownBytes === 0 || ownBytes === residentBytes ? [] : [`own ${formatBytes(ownBytes)}`]),
    ...(swappedBytes === 0 ? [] : [`${formatBytes(swappedBytes)} swapped out`])
  ]
  return `${formatBytes(residentBytes)} in memory${more.length === 0 ? '' : ` (${more.join(', ')})`}`
}

/** The pages that an inspection brought along, as a PageMap gives them. */
function pagesIn({ processMap, pageBytes }) {
  const has = processMap?.some(({ pages }) => pages !== undefined)
  return has ? { pageBytes, runsOf: ({ pages }) => pages ?? null } : undefined
}

const counted = (count, what) => `${count} ${what}${count === 1 ? '' : 's'}`

const hex = bytes => `0x${bytes.toString(16)}`

module.exports = { drawing }
