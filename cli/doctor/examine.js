'use strict'

// Runs the checks over the facts, and puts what they find into the form that `--json` prints:
// docs/doctor.md has it, and programs rely on it.

const { unknown } = require('./finding.js')

/** Raised when a field changes its meaning or goes; not for a field or check more. */
const SCHEMA_VERSION = 1

const GROUPS = [
  require('./checks/package.js'),
  require('./checks/node.js'),
  require('./checks/process.js'),
  require('./checks/memory.js'),
  require('./checks/kernel.js'),
  require('./checks/files.js')
]

/** What a check finds. One that fails itself says so, and the others go on. */
function findingOf(check, facts) {
  try {
    return check(facts)
  } catch (error) {
    return unknown(`the check itself failed: ${error.message}`)
  }
}

// JSON has no infinity: no limit is null there.
const finite = values =>
  Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, value === Infinity ? null : value])
  )

function examine(facts) {
  const findings = GROUPS.flatMap(({ group, checks }) =>
    checks.map(([id, title, check]) => {
      const found = findingOf(check, facts)
      return { id, group, title, ...found, values: finite(found.values) }
    })
  )
  const counts = { good: 0, slower: 0, missing: 0, unknown: 0 }
  for (const { verdict } of findings) counts[verdict]++
  const works = !findings.some(({ breaks }) => breaks)
  return {
    schemaVersion: SCHEMA_VERSION,
    package: facts.version,
    runtime: facts.runtime,
    node: process.versions.node,
    v8: process.versions.v8,
    platform: process.platform,
    arch: process.arch,
    libc: facts.libc.kind,
    kernel: facts.release,
    works,
    counts,
    findings
  }
}

module.exports = { examine }
