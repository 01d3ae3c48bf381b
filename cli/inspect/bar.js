'use strict'

// The bar of a memory, as cells: parts to scale, and stretches with nothing in them shortened, so
// that a guard of gigabytes leaves room for the rest. Pure: no colour, no terminal.

const { formatBytes } = require('../../lib/support/bytes.js')

// One for each kind of part.
const MARKS = { own: '.', reserved: '-', guard: 'x', mapped: '#' }
// What is shortened takes as much as its size in words, and a mark on each side.
const MARGIN = 4
// Idle stretches are shortened where the rest would have less than this share of the bar.
const LEAST_BUSY_SHARE = 1 / 16
// And only long ones are: of the memory.
const IDLE_SHARE = 1 / 8
// In so many steps a part is looked at first, and borders are found to a Wasm page.
const STEPS = 64
const GRAIN_BYTES = 65536

/**
 * The parts of a memory by address: `{ kind, start, end, mapping }`, in bytes from its base.
 */
function partsOf({ base, byteLength, maximumByteLength, reservation, mappings }) {
  const parts = []
  const add = (kind, start, end, mapping) => {
    if (start < end) parts.push({ kind, start, end, mapping })
  }
  let at = 0
  if (reservation !== null) add('guard', reservation.start - base, 0)
  for (const mapping of mappings) {
    add('own', at, mapping.address)
    add('mapped', Math.max(at, mapping.address), mapping.address + mapping.byteLength, mapping)
    at = Math.max(at, mapping.address + mapping.byteLength)
  }
  add('own', at, byteLength)
  if (reservation === null) return parts
  const end = reservation.end - base
  const most = Math.min(end, Math.max(byteLength, maximumByteLength ?? byteLength))
  add('reserved', byteLength, most)
  add('guard', Math.max(most, byteLength), end)
  return parts
}

/**
 * The cells of a bar of at most so many columns, and the scale.
 *
 * @param fillOf how much of `[start, end)` is in memory, from 0 to 1; null where it is not known
 * @returns `{ cells, cellBytes }`; a cell is `{ mark, part, start, end, fill, words }`. A shortened
 *   part is one cell with `words`; where there are more parts than columns, a cell has several, and
 *   `part` is the largest.
 */
function barOf(memory, columns, fillOf, pageBytes) {
  const whole = partsOf(memory)
  const cut = whole.flatMap(part => busyAndIdle(part, memory.byteLength, fillOf))
  const cellBytes = scaleFor(whole, columns, pageBytes)
  const busyBytes = cut.reduce((sum, it) => sum + (isEmpty(it) ? 0 : it.end - it.start), 0)
  const isClear = cellBytes !== null && busyBytes / cellBytes >= columns * LEAST_BUSY_SHARE
  if (isClear || busyBytes === 0) return drawn(whole, cellBytes, columns, fillOf)
  return drawn(cut, scaleFor(cut, columns, pageBytes), columns, fillOf)
}

function drawn(parts, cellBytes, columns, fillOf) {
  if (cellBytes === null) return { cells: crowded(parts, columns, fillOf), cellBytes }
  return { cells: parts.flatMap(part => cellsOf(part, cellBytes, fillOf)), cellBytes }
}

/** How many bytes a column is, a power of two, so that all fit. null: there are too many parts. */
function scaleFor(parts, columns, pageBytes) {
  const largest = parts.reduce((most, it) => Math.max(most, it.end - it.start), pageBytes)
  for (let cellBytes = pageBytes; cellBytes < 2 * largest; cellBytes *= 2) {
    const width = parts.reduce((sum, part) => sum + partWidth(part, cellBytes), 0)
    if (width <= columns) return cellBytes
  }
  return null
}

const isEmpty = ({ kind, idle }) => kind === 'guard' || kind === 'reserved' || idle === true

const wordsOf = ({ start, end }) => formatBytes(end - start)

function partWidth(part, cellBytes) {
  const toScale = Math.max(1, Math.round((part.end - part.start) / cellBytes))
  return isEmpty(part) ? Math.min(toScale, wordsOf(part).length + MARGIN) : toScale
}

/** Cuts a long part with nothing in memory, at its ends or in its middle, out of the others. */
function busyAndIdle(part, memoryBytes, fillOf) {
  if (part.kind !== 'own' && part.kind !== 'mapped') return [part]
  const bytes = part.end - part.start
  if (bytes < memoryBytes * IDLE_SHARE) return [part]
  const border = i => part.start + Math.floor((bytes / STEPS / GRAIN_BYTES) * i) * GRAIN_BYTES
  const cuts = []
  for (let i = 0; i < STEPS; i++) {
    const start = border(i)
    const end = i === STEPS - 1 ? part.end : border(i + 1)
    if (start >= end) continue
    const idle = fillOf(start, end) === 0
    const last = cuts.at(-1)
    if (last?.idle === idle) {
      last.end = end
      continue
    }
    // To the grain, where what is in memory begins or ends.
    const step = (bytes / STEPS) * 2
    const from = last === undefined ? start : edge(last, start, end, step, fillOf)
    if (last !== undefined) last.end = from
    if (from < end) cuts.push({ ...part, start: from, end, idle })
  }
  const isLong = it => it.idle && it.end - it.start >= memoryBytes * IDLE_SHARE
  // Short pauses stay part of what is round them.
  const joined = []
  for (const cut of cuts) {
    const last = joined.at(-1)
    if (last !== undefined && !isLong(cut) && !isLong(last)) {
      last.end = cut.end
      last.idle = false
    } else joined.push({ ...cut, idle: isLong(cut) })
  }
  return joined
}

/** Where an idle stretch after or before a busy one begins or ends, somewhere round a border. */
function edge(last, border, end, step, fillOf) {
  // The side that is busy is looked at: from its far end, half after half.
  let idleAt = border
  let busyAt = last.idle ? end : Math.max(last.start, border - step)
  while (Math.abs(idleAt - busyAt) > GRAIN_BYTES) {
    const middle = Math.round((idleAt + busyAt) / 2 / GRAIN_BYTES) * GRAIN_BYTES
    if (middle === idleAt || middle === busyAt) break
    const isIdle = fillOf(Math.min(idleAt, middle), Math.max(idleAt, middle)) === 0
    if (isIdle) idleAt = middle
    else busyAt = middle
  }
  return idleAt
}

const markOf = ({ kind }) => MARKS[kind]

function cellsOf(part, cellBytes, fillOf) {
  const width = partWidth(part, cellBytes)
  const bytes = part.end - part.start
  const mark = markOf(part)
  if (isEmpty(part) && Math.round(bytes / cellBytes) > width) {
    return [{ mark, part, start: part.start, end: part.end, fill: 0, words: wordsOf(part) }]
  }
  return Array.from({ length: width }, (_, i) => {
    const start = part.start + (bytes / width) * i
    const end = part.start + (bytes / width) * (i + 1)
    return { mark, part, start, end, fill: fillOf(start, end), words: null }
  })
}

/** As many parts as columns, or more: each cell has some, and none is to scale. */
function crowded(parts, columns, fillOf) {
  const inMiddle = parts.filter(it => it.kind !== 'guard' && it.kind !== 'reserved')
  const each = Math.ceil(inMiddle.length / Math.max(1, columns))
  const cells = []
  for (let i = 0; i < inMiddle.length; i += each) {
    const some = inMiddle.slice(i, i + each)
    const part = some.reduce((a, b) => (b.end - b.start > a.end - a.start ? b : a))
    const { start } = some[0]
    const { end } = some.at(-1)
    cells.push({ mark: markOf(part), part, start, end, fill: fillOf(start, end), words: null })
  }
  return cells
}

module.exports = { partsOf, barOf }
