'use strict'

// The table of outcomes that is checked in: outcomes.json. Accesses that fare alike in every cell
// stand together, and an outcome is split by a factor only where that factor matters:
//
//   { "accesses": ["i32.store", ...],
//     "outcomes": { "readonly: present": { "tier": { "liftoff": "trap", "turbofan": ... } },
//     "readonly: grown": "private page" } }

const fs = require('node:fs')
const path = require('node:path')
const { FACTORS, PLACES, allCells } = require('./cells')

const FILE = path.join(__dirname, 'outcomes.json')

// What an outcome may be split by, what is easiest to explain first.
const SPLITS = ['tier', 'memory', 'node', 'thread']

/**
 * The outcomes of cells, `[{ tier, thread, memory, node, outcome }, ...]`, as a tree with as few
 * leaves as can be.
 */
function treeOf(cells, splits = SPLITS) {
  const [{ outcome }] = cells
  if (cells.every(cell => cell.outcome === outcome)) return { tree: outcome, leaves: 1 }
  let best
  for (const split of splits) {
    const branches = new Map()
    for (const cell of cells) {
      if (!branches.has(cell[split])) branches.set(cell[split], [])
      branches.get(cell[split]).push(cell)
    }
    if (branches.size === 1) continue
    const rest = splits.filter(other => other !== split)
    // Values with the same branch stand together.
    const values = new Map()
    let leaves = 0
    for (const [value, branch] of [...branches].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const below = treeOf(branch, rest)
      const key = JSON.stringify(below.tree)
      if (!values.has(key)) {
        values.set(key, { names: [], tree: below.tree })
        leaves += below.leaves
      }
      values.get(key).names.push(value)
    }
    if (values.size === 1 || (best !== undefined && best.leaves <= leaves)) continue
    const tree = {
      [split]: Object.fromEntries(
        [...values.values()].map(({ names, tree }) => [names.join(', '), tree])
      )
    }
    best = { tree, leaves }
  }
  if (best === undefined) throw new Error(`Cells that are alike differ: ${JSON.stringify(cells)}`)
  return best
}

/** What a tree says of one cell; undefined where it says nothing. */
function inTree(tree, cell) {
  while (typeof tree === 'object') {
    const [[split, branches]] = Object.entries(tree)
    tree = Object.entries(branches).find(([names]) => names.split(', ').includes(cell[split]))?.[1]
  }
  return tree
}

class Table {
  /** The majors of Node.js that were run. */
  nodes
  rows
  #byAccess = new Map()

  constructor({ nodes, rows }) {
    this.nodes = nodes
    this.rows = rows
    for (const { accesses, outcomes } of rows)
      for (const access of accesses) this.#byAccess.set(access, outcomes)
  }

  static read() {
    return new Table(
      fs.existsSync(FILE) ? JSON.parse(fs.readFileSync(FILE, 'utf8')) : { nodes: [], rows: [] }
    )
  }

  /** From cells with `node` and `outcome`. */
  static of(cells) {
    // In one order, whatever was run.
    const byAccess = new Map(FACTORS.access.map(access => [access, new Map()]))
    for (const cell of cells) {
      if (!byAccess.has(cell.access)) byAccess.set(cell.access, new Map())
      const places = byAccess.get(cell.access)
      if (!places.has(cell.place)) places.set(cell.place, [])
      places.get(cell.place).push(cell)
    }
    const rows = new Map()
    for (const [access, places] of byAccess) {
      if (places.size === 0) continue
      const outcomes = {}
      for (const place of PLACES)
        if (places.has(place)) outcomes[place] = treeOf(places.get(place)).tree
      const key = JSON.stringify(outcomes)
      if (!rows.has(key)) rows.set(key, { accesses: [], outcomes })
      rows.get(key).accesses.push(access)
    }
    return new Table({
      nodes: [...new Set(cells.map(({ node }) => node))].sort(),
      rows: [...rows.values()]
    })
  }

  /**
   * What should come of a cell on this major of Node.js, or on the newest one that was run and is
   * not newer.
   */
  outcomeOf(cell, node) {
    const known = this.nodes.filter(other => Number(other) <= Number(node)).at(-1) ?? this.nodes[0]
    return inTree(this.treeOf(cell.access, cell.place), { ...cell, node: known })
  }

  treeOf(access, place) {
    return this.#byAccess.get(access)?.[place]
  }

  get accesses() {
    return [...this.#byAccess.keys()]
  }

  toJSON() {
    return { nodes: this.nodes, rows: this.rows }
  }
}

/**
 * The cells that a table speaks of. Some of them don't exist on their Node.js; what is said of them
 * is what is said of the same cells elsewhere.
 */
function expand(table) {
  return table.nodes.flatMap(node =>
    allCells()
      .map(cell => ({ ...cell, node, outcome: table.outcomeOf(cell, node) }))
      .filter(({ outcome }) => outcome !== undefined)
  )
}

module.exports = { Table, expand, FILE }
