// Checks the crates that we depend on against deny.toml, as does
// `cargo deny check licenses bans sources`, for machines that have no cargo-deny. Known
// vulnerabilities need cargo-deny and its database.
//
//   npm run check:licences

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { fileURLToPath } from 'node:url'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))

// For comparisons only: nothing but `npm run bench` builds it.
const LEFT_OUT = 'bench/wasmtime/Cargo.toml'
const MANIFESTS = execFileSync('git', ['ls-files', '*Cargo.toml'], { encoding: 'utf8' })
  .split('\n')
  .filter(name => name && name !== LEFT_OUT)

/** The texts of a list of deny.toml. Enough of TOML for our own file. */
function listOf(name) {
  const list = new RegExp(`^${name} = \\[([^\\]]*)\\]`, 'm').exec(
    fs.readFileSync('deny.toml', 'utf8')
  )
  if (!list) throw new Error(`deny.toml has no list "${name}"`)
  return [...list[1].matchAll(/"([^"]*)"/g)].map(match => match[1])
}

const ALLOWED = new Set(listOf('allow'))
const TARGETS = listOf('targets')

/** Whether an SPDX expression is satisfied by the licences that are allowed. */
function isAllowed(expression) {
  const tokens = expression.replaceAll('/', ' OR ').match(/[()]|[^\s()]+/g)
  const term = () => {
    if (tokens[0] === '(') {
      tokens.shift()
      const inner = any()
      tokens.shift()
      return inner
    }
    let licence = tokens.shift()
    if (tokens[0] === 'WITH') licence += ` ${tokens.shift()} ${tokens.shift()}`
    return ALLOWED.has(licence)
  }
  const all = () => {
    let result = term()
    while (tokens[0] === 'AND') result = (tokens.shift(), term()) && result
    return result
  }
  const any = () => {
    let result = all()
    while (tokens[0] === 'OR') result = (tokens.shift(), all()) || result
    return result
  }
  return any()
}

const problems = new Set()
const crates = new Set()

for (const manifest of MANIFESTS) {
  const options = ['--format-version', '1', '--locked', '--manifest-path', manifest]
  for (const target of TARGETS) options.push('--filter-platform', target)
  const text = execFileSync('cargo', ['metadata', ...options], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const { packages, resolve } = JSON.parse(text)
  const used = new Set(resolve.nodes.map(node => node.id))
  const versions = new Map()
  for (const { id, name, version, license, source } of packages) {
    if (!used.has(id)) continue
    crates.add(`${name} ${version}`)
    if (versions.has(name))
      problems.add(`${manifest}: two versions of ${name}, ${versions.get(name)} and ${version}`)
    versions.set(name, version)
    if (source === null) continue
    if (!license) problems.add(`${name} ${version} names no licence`)
    else if (!isAllowed(license))
      problems.add(`${name} ${version} is under ${license}, which deny.toml does not allow`)
    if (!source.startsWith('registry+'))
      problems.add(`${name} ${version} comes from ${source}, and not from the registry`)
  }
}

for (const problem of problems) console.log(problem)
console.log(`${crates.size} crates, ${problems.size} problems`)
if (problems.size > 0) process.exitCode = 1
