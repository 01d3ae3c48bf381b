'use strict'

// The factors of the matrix, the cells that they span, and a choice of cells that has every pair of
// them.

const { createHash } = require('node:crypto')
const { wasmAccesses } = require('./wasm-accesses')
const { jsAccesses } = require('./js-accesses')
const { hasMemory64 } = require('../support/wasm')

const accesses = [...wasmAccesses, ...jsAccesses]
const accessNamed = new Map(accesses.map(access => [access.name, access]))
if (accessNamed.size !== accesses.length) throw new Error('Two accesses have one name.')

const MAPPINGS = ['readonly', 'private', 'shared']
const PAST_A_WINDOW = 'past a window'
const VIEWS = ['view, sealed', 'view, then sealed', 'view, read-only file', 'view, writable file']

/**
 * What is accessed, and what came before: nothing; the file under it has shrunk; the module has
 * grown its memory. A memfd can't shrink and a view can't grow. Or, past what a window shows, what
 * its rest is: nothing, zeros that can be read, zeros that can be written.
 */
const PLACES = [
  ...MAPPINGS.flatMap(target => ['present', 'shrunk', 'grown'].map(state => `${target}: ${state}`)),
  ...['trap', 'zeros', 'private zeros'].map(rest => `${PAST_A_WINDOW}: ${rest}`),
  'view, sealed: present',
  'view, then sealed: present',
  ...VIEWS.slice(2).flatMap(target => ['present', 'shrunk'].map(state => `${target}: ${state}`))
]

const parsePlace = place => {
  const [target, state] = place.split(': ')
  return { target, state, isView: VIEWS.includes(target), isRest: target === PAST_A_WINDOW }
}

const FACTORS = {
  access: [...accessNamed.keys()],
  place: PLACES,
  // V8's compilers, of Wasm and of JavaScript: those that are fast to compile, and those that
  // optimize; and V8 as it comes, but without its trap handler, which only matters to Wasm.
  tier: ['liftoff', 'turbofan', 'trapless'],
  thread: ['main', 'worker'],
  // A view is in no memory.
  memory: ['i32', 'shared', 'i64', 'none']
}

/** The cells of one access: one value for each factor that is left. */
function cellsOf({ name, side, memories = FACTORS.memory }) {
  const cells = []
  for (const place of PLACES) {
    const { isView } = parsePlace(place)
    if (isView && side === 'wasm') continue
    for (const memory of memories) {
      if ((memory === 'none') !== isView) continue
      for (const tier of FACTORS.tier) {
        if (tier === 'trapless' && side !== 'wasm') continue
        for (const thread of FACTORS.thread)
          cells.push({ access: name, place, tier, thread, memory })
      }
    }
  }
  return cells
}

/** Of all Node.js versions. */
const allCells = () => accesses.flatMap(cellsOf)

/** Whether this Node.js has what a cell needs. */
const canRun = ({ access, memory }) =>
  accessNamed.get(access).exists && (memory !== 'i64' || hasMemory64)

const NAMES = Object.keys(FACTORS)

function pairsOf(cell) {
  const pairs = []
  for (let i = 0; i < NAMES.length; i++)
    for (let j = i + 1; j < NAMES.length; j++)
      pairs.push(`${i} ${cell[NAMES[i]]} ${j} ${cell[NAMES[j]]}`)
  return pairs
}

/** The same for the same cell always, and else as if by chance. */
const lotOf = cell => createHash('sha1').update(Object.values(cell).join()).digest('latin1')

/**
 * Cells such that each pair of values, of any two factors, that is in some cell is in one of these.
 * Greedy, access by access: the cell with most pairs that are new comes next, and lots are cast
 * where there are several, so that the choice does not favour a few combinations of the other
 * factors. The same on each run.
 */
function pairwiseCells() {
  const covered = new Set()
  const chosen = []
  for (const access of accesses) {
    const left = cellsOf(access)
      .filter(canRun)
      .map(cell => ({ cell, pairs: pairsOf(cell), lot: lotOf(cell) }))
      .sort((a, b) => (a.lot < b.lot ? -1 : 1))
    for (;;) {
      let best
      let most = 0
      for (const candidate of left) {
        const news = candidate.pairs.reduce((count, pair) => count + !covered.has(pair), 0)
        if (news > most) [best, most] = [candidate, news]
      }
      if (best === undefined) break
      for (const pair of best.pairs) covered.add(pair)
      chosen.push(best.cell)
    }
  }
  return chosen
}

/**
 * Whether a mapping is what a window shows after some slides. Every other one is: nothing may
 * depend on it.
 */
const isByWindow = cell => lotOf(cell).charCodeAt(1) % 2 === 0

module.exports = {
  accesses,
  accessNamed,
  FACTORS,
  PLACES,
  parsePlace,
  allCells,
  canRun,
  isByWindow,
  pairwiseCells,
  pairsOf
}
