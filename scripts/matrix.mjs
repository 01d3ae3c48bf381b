// Runs the jest suite on each Node.js that the package supports.
//
//   npm run test:matrix                            all of them
//   npm run test:matrix -- 22 24                   these
//   npm run test:matrix -- 26 __test__/20-memory   what does not look like a version goes to jest
//
// The Node.js binaries come from npm's `node` package and stay in .matrix/.

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import Table from 'cli-table3'

// The one place for these versions.
const RELEASES = new Map([
  ['20', '20.20.2'],
  ['22', '22.23.3'],
  ['24', '24.21.0'],
  ['26', '26.10.0']
])

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const JEST = path.join(ROOT, 'node_modules', 'jest', 'bin', 'jest.js')

const versionOf = node => execFileSync(node, ['--version'], { encoding: 'utf8' }).trim().slice(1)

/** The path of a Node.js of this release, which is installed if need be. */
function nodeOf(major, release) {
  if (process.versions.node === release) return process.execPath
  const directory = path.join(ROOT, '.matrix', major)
  const node = path.join(directory, 'node_modules', 'node', 'bin', 'node')
  if (!existsSync(node) || versionOf(node) !== release) {
    console.log(`Installing Node.js ${release} into .matrix/${major}`)
    mkdirSync(directory, { recursive: true })
    writeFileSync(path.join(directory, 'package.json'), '{ "private": true }\n')
    // --prefix and not the working directory: npm may be running us, and its environment names the
    // package's own directory.
    const options = [
      '--no-audit',
      '--no-fund',
      '--no-save',
      '--no-package-lock',
      '--prefix',
      directory
    ]
    execFileSync('npm', ['install', ...options, `node@${release}`], {
      cwd: directory,
      stdio: ['ignore', 'inherit', 'inherit']
    })
    if (versionOf(node) !== release)
      throw new Error(`${node} is Node.js ${versionOf(node)}, not ${release}`)
  }
  return node
}

/** Runs the suite on one release and says how that went: a word, and the seconds it took. */
function run(major, release, jestArguments) {
  const started = performance.now()
  let outcome
  try {
    const node = nodeOf(major, release)
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
const results = chosen.map(major => run(major, RELEASES.get(major), jestArguments))

const table = new Table({
  head: ['Node.js', 'jest', 'seconds'],
  colAligns: ['left', 'left', 'right'],
  style: { head: [], border: [] }
})
for (const { release, outcome, seconds } of results) table.push([release, outcome, seconds])
console.log(`\n${table}`)
if (results.some(({ outcome }) => outcome !== 'passed')) process.exitCode = 1
