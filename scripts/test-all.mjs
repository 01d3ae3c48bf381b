// Runs every test that there is, one step after another, and prints a table with times.
//
//   npm run test:all                                 all steps
//   npm run test:all -- --list                       their names, commands and time limits
//   npm run test:all -- --only churn --only model    these
//
// Takes hours on two cores. A step that fails or takes too long does not stop those after it. What
// a step prints goes to target/test-all/NAME.log; the end of it is shown if the step fails.

import { spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import Table from 'cli-table3'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const LOGS = path.join(ROOT, 'target/test-all')
const TAIL_LINES = 60
const PLAIN = { head: [], border: [] }

// Slow suites that have a step of their own. The step "slow" has the rest.
const OWN = {
  injected: ['85', '86'],
  churn: ['33'],
  pressure: ['43', '70'],
  guest: ['37'],
  faults: ['67'],
  model: ['75']
}

const jest = (...args) => ['npx', 'jest', ...args]
const suites = numbers => jest(...numbers.map(number => `__test__/${number}-`))
const script = (name, ...args) => ['npm', 'run', '--silent', `test:${name}`, '--', ...args]
const cargo = (...args) => ['cargo', 'test', '--locked', ...args]

const here = process.versions.node.split('.')[0]
const others = ['20', '22', '24', '26'].filter(major => major !== here)

/** Each step: its name, what it tests, its time limit in minutes, and its command. */
const STEPS = [
  ['quick', 'the quick suites, on this Node.js', 10, ['npm', 'test']],
  ['types', 'the types, as users compile them', 5, script('types')],
  ['monitoring', 'docs/monitoring.md, with its libraries', 5, script('monitoring')],
  ['core', 'the core, without Node.js', 20, cargo('--no-default-features')],
  ['slow', 'the other slow suites', 40, otherSlow()],
  ['injected', 'suites with injected failures', 30, suites(OWN.injected)],
  [
    'injected-core',
    'the core, with injected failures',
    30,
    cargo('--no-default-features', '--features', 'inject')
  ],
  ['churn', '250,000 mappings that come and go', 20, suites(OWN.churn)],
  ['pressure', 'snapshots and memories where there is little room', 20, suites(OWN.pressure)],
  ['guest', 'the guest kit, in C and Rust', 10, suites(OWN.guest)],
  ['guest-crate', 'the guest crate, on the host', 5, cargo('--manifest-path', 'guest/Cargo.toml')],
  ['faults', 'every access that may fault, in every state', 20, suites(OWN.faults)],
  ['model', 'random steps against a model', 20, suites(OWN.model)],
  ['snapshots', 'restores of random patterns', 30, script('snapshots', '--patterns', '1000')],
  ['snapshot-files', 'altered snapshot files', 20, script('snapshot-files', '--count', '2000')],
  ['engines', 'the adapters, with the engines', 30, script('engines', '--slow')],
  ['runtimes', 'under Deno and Bun', 10, script('runtimes')],
  ['bundlers', 'bundled, and as a single executable', 20, script('bundlers')],
  ['modules', 'random modules, and changed ones', 20, script('modules', '--count', '1000')],
  [
    'stream',
    'windows over files larger than memory',
    20,
    script('stream', '--full', '4', '--over', '64', '--window', '0.25', '--directory', 'target')
  ],
  ['soak', 'everything on all cores; nothing may grow', 10, script('soak', '--minutes', '2')],
  ...others.flatMap(major => [
    [`node-${major}`, `all suites on Node.js ${major}`, 60, script('matrix', major)],
    [
      `engines-${major}`,
      `the adapters, on Node.js ${major}`,
      30,
      script('engines', '--slow', '--node', major)
    ]
  ])
].map(([name, what, minutes, command]) => ({ name, what, minutes, command }))

function otherSlow() {
  const own = Object.values(OWN).flat().join('|')
  return jest('[.]slow[.]test[.]js$', '--testPathIgnorePatterns', `/(${own})-[^/]*$`)
}

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    list: { type: 'boolean', default: false }
  }
})

const known = new Set(STEPS.map(({ name }) => name))
for (const name of options.only ?? []) {
  if (known.has(name)) continue
  console.error(`no step is called ${name}; there are ${[...known].join(', ')}`)
  process.exit(1)
}
const chosen = STEPS.filter(({ name }) => options.only?.includes(name) ?? true)

if (options.list) {
  const table = new Table({ head: ['step', 'tests', 'minutes at most', 'command'], style: PLAIN })
  for (const { name, what, minutes, command } of chosen) {
    table.push([name, what, minutes, command.join(' ')])
  }
  console.log(table.toString())
  process.exit(0)
}

/** Runs a step in a process group of its own, which ends with it. Gives how it went. */
function run({ name, minutes, command: [file, ...args] }) {
  const log = openSync(path.join(LOGS, `${name}.log`), 'w')
  const child = spawn(file, args, { cwd: ROOT, stdio: ['ignore', log, log], detached: true })
  closeSync(log)
  return new Promise(resolve => {
    let outcome
    const end = () => {
      try {
        process.kill(-child.pid, 'SIGKILL')
      } catch {
        // Nobody is left in it.
      }
    }
    const timer = setTimeout(() => {
      outcome = `took more than ${minutes} minutes`
      end()
    }, minutes * 60_000)
    child.once('error', error => {
      clearTimeout(timer)
      resolve(`failed: ${error.message}`)
    })
    child.once('exit', (code, signal) => {
      clearTimeout(timer)
      end()
      resolve(outcome ?? (code === 0 ? 'passed' : `failed: ${signal ?? `code ${code}`}`))
    })
  })
}

const tailOf = name =>
  readFileSync(path.join(LOGS, `${name}.log`), 'utf8')
    .split('\n')
    .slice(-TAIL_LINES)
    .join('\n')

if (!existsSync(path.join(ROOT, 'node_modules'))) throw new Error('run npm ci first')
mkdirSync(LOGS, { recursive: true })

const table = new Table({
  head: ['step', 'tests', 'outcome', 'seconds'],
  colAligns: ['left', 'left', 'left', 'right'],
  style: PLAIN
})
let failed = 0
for (const step of chosen) {
  console.log(`==> ${step.name}: ${step.command.join(' ')}`)
  const started = performance.now()
  const outcome = await run(step)
  const seconds = Math.round((performance.now() - started) / 1000)
  if (outcome !== 'passed') {
    failed++
    console.log(tailOf(step.name))
  }
  console.log(`<== ${step.name} ${outcome} after ${seconds} s`)
  table.push([step.name, step.what, outcome, seconds])
}
console.log(table.toString())
if (failed > 0) process.exitCode = 1
