// Snapshot files that were altered, by the thousand: see mutations.js. In child processes, so that
// the end of one is a failure that is reported, with the mutation that it was.

import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const require = createRequire(import.meta.url)
const USAGE = `npm run test:snapshot-files -- [options]

  --count N      how many mutations; default: 10000
  --first N      which is the first; default: 0
  --seed N       what was printed, to repeat a run; with --only N, the one mutation of it that failed
  --node PATH    the Node.js to run them in; default: this one
  --help`
// More of a child's life is spent on mutations, and less on its start.
const BATCH = 1000

const { values: options } = parseArgs({
  options: {
    count: { type: 'string', default: '10000' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    first: { type: 'string', default: '0' },
    only: { type: 'string' },
    node: { type: 'string', default: process.execPath },
    help: { type: 'boolean', default: false },
    // In a child process.
    from: { type: 'string' }
  }
})

const number = name => {
  if (/^\d{1,15}$/.test(options[name])) return Number(options[name])
  throw new Error(`--${name} must be a whole number, not '${options[name]}'`)
}

if (options.help) console.log(USAGE)
else if (options.from !== undefined) await child()
else await parent()

async function child() {
  // Stray writes are meant here.
  process.removeAllListeners('warning')
  process.on('warning', () => {})
  const { check } = require('./mutations.js')
  try {
    const onStep = index => process.send({ index })
    process.send({
      outcomes: await check({
        seed: number('seed'),
        from: number('from'),
        count: number('count'),
        onStep
      })
    })
  } catch (error) {
    console.error(error)
    process.exitCode = 1
  }
  process.disconnect()
}

async function parent() {
  const seed = number('seed')
  const [first, end] =
    options.only === undefined
      ? [number('first'), number('first') + number('count')]
      : [number('only'), number('only') + 1]
  console.log(`seed ${seed}`)
  const table = {}
  for (let from = first; from < end; from += BATCH) {
    const count = Math.min(BATCH, end - from)
    const { code, signal, last, outcomes } = await run({ seed, from, count })
    if (code !== 0) {
      console.error(
        `the process ended ${signal ? `by ${signal}` : `with code ${code}`} at mutation ${last} (--seed ${seed} --only ${last})`
      )
      process.exitCode = 1
      return
    }
    for (const [kind, counts] of Object.entries(outcomes)) {
      table[kind] ??= {}
      for (const [outcome, times] of Object.entries(counts))
        table[kind][outcome] = (table[kind][outcome] ?? 0) + times
    }
  }
  for (const [kind, counts] of Object.entries(table)) {
    console.log(kind)
    for (const [outcome, times] of Object.entries(counts))
      console.log(`${String(times).padStart(9)}  ${outcome}`)
  }
  console.log(
    `${end - first} mutations: no abort, no error without a code, no access that was not granted`
  )
}

function run({ seed, from, count }) {
  const args = ['--max-old-space-size=256', fileURLToPath(import.meta.url)]
  args.push('--seed', String(seed), '--from', String(from), '--count', String(count))
  const env = { ...process.env, NODE_OPTIONS: '' }
  const running = spawn(options.node, args, { env, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  let last = from
  let outcomes = {}
  running.on('message', message => {
    last = message.index ?? last
    outcomes = message.outcomes ?? outcomes
  })
  return new Promise((resolve, reject) =>
    running
      .once('error', reject)
      .once('close', (code, signal) => resolve({ code, signal, last, outcomes }))
  )
}
