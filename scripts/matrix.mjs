// Runs the jest suite on each Node.js that the package supports.
//
//   npm run test:matrix                            all of them
//   npm run test:matrix -- 22 24                   these
//   npm run test:matrix -- 26 __test__/20-memory   what does not look like a version goes to jest

import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import Table from 'cli-table3'
import { nodeOf, RELEASES } from './nodes.mjs'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const JEST = path.join(ROOT, 'node_modules', 'jest', 'bin', 'jest.js')

/** Runs the suite on one release and says how that went: a word, and the seconds it took. */
function run(major, jestArguments) {
  const release = RELEASES.get(major)
  const started = performance.now()
  let outcome
  try {
    const node = nodeOf(major)
    console.log(`\nNode.js ${release}`)
    const { status, signal } = spawnSync(node, [JEST, ...jestArguments], {
      cwd: ROOT,
      stdio: ['ignore', 'inherit', 'inherit']
    })
    outcome = status === 0 ? 'passed' : `failed (${signal ?? `exit code ${status}`})`
  } catch (error) {
    outcome = `failed (${error.message})`
  }
  return { release, outcome, seconds: ((performance.now() - started) / 1000).toFixed() }
}

const looksLikeVersion = argument => /^\d+$/.test(argument)
const argv = process.argv.slice(2)
const firstOther = argv.findIndex(argument => !looksLikeVersion(argument))
const majors = firstOther === -1 ? argv : argv.slice(0, firstOther)
const jestArguments = firstOther === -1 ? [] : argv.slice(firstOther)

const unknown = majors.filter(major => !RELEASES.has(major))
if (unknown.length > 0) {
  console.error(
    `No release of Node.js ${unknown.join(', ')} is known here, only of ${[...RELEASES.keys()].join(', ')}.`
  )
  process.exit(2)
}

const chosen = majors.length > 0 ? majors : [...RELEASES.keys()]
const results = chosen.map(major => run(major, jestArguments))

const table = new Table({
  head: ['Node.js', 'jest', 'seconds'],
  colAligns: ['left', 'left', 'right'],
  style: { head: [], border: [] }
})
for (const { release, outcome, seconds } of results) table.push([release, outcome, seconds])
console.log(`\n${table}`)
if (results.some(({ outcome }) => outcome !== 'passed')) process.exitCode = 1
