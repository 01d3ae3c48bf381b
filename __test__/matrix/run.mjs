// Runs the fault matrix: every access, in every place, with each compiler, on each kind of thread
// and memory.
//
//   node __test__/matrix/run.mjs                    compares all cells with the table
//   node __test__/matrix/run.mjs --node PATH ...    on these Node.js instead of the current one
//   node __test__/matrix/run.mjs --only REGEX       only cells whose line matches: "access | place
//                                                   | tier | thread | memory"
//   node __test__/matrix/run.mjs --pairwise         only the cells that the jest test runs
//   node __test__/matrix/run.mjs --list             prints the outcome of each cell
//   node __test__/matrix/run.mjs --write            writes outcomes.json and docs/faults.md
//   node __test__/matrix/run.mjs --write-document   runs nothing: writes docs/faults.md
//   node __test__/matrix/run.mjs --check-document   runs nothing: is docs/faults.md up to date?
//
// Some things must hold in every cell. If one does not, the cell fails whatever the table says.

import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const require = createRequire(import.meta.url)

const { values: options } = parseArgs({
  options: {
    node: { type: 'string', multiple: true, default: [process.execPath] },
    only: { type: 'string', default: '' },
    pairwise: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    'write-document': { type: 'boolean', default: false },
    'check-document': { type: 'boolean', default: false },
    // How the command calls itself on another Node.js.
    here: { type: 'boolean', default: false }
  }
})

const lineOf = ({ access, place, tier, thread, memory }) =>
  [access, place, tier, thread, memory].join(' | ')

/** On the Node.js that is to be tested: which cells there are depends on it. */
async function runHere() {
  const { allCells, canRun, pairwiseCells } = require('./cells.js')
  const { runCells } = require('./parent.js')
  const only = new RegExp(options.only)
  const cells = (options.pairwise ? pairwiseCells() : allCells().filter(canRun)).filter(cell =>
    only.test(lineOf(cell))
  )
  const onProgress = done => {
    if (process.stderr.isTTY && done % 100 === 0)
      process.stderr.write(`\r${done} of ${cells.length} cells `)
  }
  const results = await runCells(process.execPath, cells, { onProgress })
  if (process.stderr.isTTY) process.stderr.write('\r')
  const node = process.versions.node.split('.')[0]
  return cells.map((cell, index) => ({ ...cell, node, ...results[index] }))
}

/** The cells of another Node.js, with what came of them. */
function runOn(node) {
  return new Promise((resolve, reject) => {
    const args = [fileURLToPath(import.meta.url), '--here', '--only', options.only]
    if (options.pairwise) args.push('--pairwise')
    const child = spawn(node, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const chunks = []
    child.stdout.on('data', chunk => chunks.push(chunk))
    child.on('error', reject)
    child.on('close', code => {
      if (code === 0) resolve(JSON.parse(Buffer.concat(chunks)))
      else reject(new Error(`${node} ended with code ${code}`))
    })
  })
}

/** Runs the matrix on each Node.js, says what differs from the table, and gives all cells. */
async function runAll(table) {
  const cells = []
  for (const node of options.node) {
    const started = performance.now()
    const came = await runOn(node)
    const wrong = came.filter(cell => !isAsItShould(cell, table))
    if (options.list) for (const cell of came) console.log(`${lineOf(cell)} | ${cell.outcome}`)
    for (const cell of wrong) {
      console.log(`Node.js ${cell.node} | ${lineOf(cell)}`)
      console.log(`    ${cell.outcome}; the table says ${table.outcomeOf(cell, cell.node)}`)
      for (const problem of cell.problems ?? []) console.log(`    ${problem}`)
    }
    const seconds = ((performance.now() - started) / 1000).toFixed(1)
    console.log(
      `Node.js ${came[0]?.node}: ${came.length} cells in ${seconds} s, ${wrong.length} not as they should be`
    )
    cells.push(...came)
  }
  return cells
}

const isAsItShould = (cell, table) =>
  !cell.problems && (options.write || table.outcomeOf(cell, cell.node) === cell.outcome)

const DOCUMENT = fileURLToPath(new URL('../../docs/faults.md', import.meta.url))

/** As `npm run format` would leave it. */
async function formatted(text, file) {
  const prettier = await import('prettier')
  return prettier.format(text, { ...(await prettier.resolveConfig(DOCUMENT)), filepath: file })
}

if (options.here) process.stdout.write(JSON.stringify(await runHere()))
else {
  const { Table, expand, FILE } = require('./table.js')
  const { documentOf } = require('./document.js')
  const before = Table.read()
  if (options['check-document']) {
    const expected = await formatted(documentOf(before), DOCUMENT)
    if (readFileSync(DOCUMENT, 'utf8') !== expected)
      throw new Error(`${DOCUMENT} is not what ${FILE} says: run with --write-document`)
  } else if (options['write-document']) {
    writeFileSync(DOCUMENT, await formatted(documentOf(before), DOCUMENT))
  } else {
    if (options.write && (options.only !== '' || options.pairwise))
      throw new Error('--write needs all cells')
    const cells = await runAll(before)
    if (options.write) {
      const ran = new Set(cells.map(({ node }) => node))
      const table = Table.of([...cells, ...expand(before).filter(({ node }) => !ran.has(node))])
      writeFileSync(FILE, await formatted(JSON.stringify(table), FILE))
      mkdirSync(path.dirname(DOCUMENT), { recursive: true })
      writeFileSync(DOCUMENT, await formatted(documentOf(table), DOCUMENT))
    }
    if (!cells.every(cell => isAsItShould(cell, before))) process.exitCode = 1
  }
}
