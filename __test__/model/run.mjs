// The long run of the model test:
//
//   node --expose-gc __test__/model/run.mjs [--steps 1000000] [--seed N] [--inject]
//
// Prints its seed, how often each step ran, and the steps per second. It runs in a child process,
// so that it can report the end of the process as a failure. For a failure it prints the options
// --path and --replay, which repeat it.
//
//   --steps N      how many steps (default: 100,000)
//   --seconds N    how long, instead
//   --inject       makes the library's system calls fail now and then: see inject.cjs
//   --isolate      runs each sequence in a new process, so that one that ends it can be shortened

import { spawn } from 'node:child_process'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const require = createRequire(import.meta.url)

// The descriptor by which the child process tells its parent where it is.
const PROGRESS = 3

const { values: options } = parseArgs({
  options: {
    steps: { type: 'string' },
    seconds: { type: 'string' },
    seed: { type: 'string' },
    path: { type: 'string' },
    replay: { type: 'string' },
    inject: { type: 'boolean', default: false },
    isolate: { type: 'boolean', default: false },
    // In the child process, and in those of --isolate.
    child: { type: 'boolean', default: false },
    serve: { type: 'boolean', default: false }
  }
})

if (options.serve) require('./runner').serve()
else if (options.child) await child()
else await parent()

function checkOptions(seed) {
  const { path, replay, inject, isolate, steps, seconds } = options
  return {
    seed,
    path,
    replayPath: replay,
    inject,
    isolate,
    steps: steps !== undefined ? Number(steps) : seconds === undefined ? 100_000 : Infinity,
    milliseconds: seconds === undefined ? Infinity : 1000 * Number(seconds)
  }
}

/** Does the work, and tells its parent which run it is at. */
async function child() {
  const { check } = require('./check')
  const start = process.cpuUsage()
  // At once, not when the event loop turns.
  const onRun = run => fs.writeSync(PROGRESS, `${JSON.stringify(run)}\n`)
  try {
    const { steps, counts, milliseconds } = await check({
      ...checkOptions(Number(options.seed)),
      onRun
    })
    const { user, system } = process.cpuUsage(start)
    console.log(table(counts))
    const perSecond = (steps / milliseconds) * 1000
    const perCpuSecond = (steps / (user + system)) * 1e6
    console.log(
      `${steps} steps without a difference, ${perSecond.toFixed(0)} a second (${perCpuSecond.toFixed(0)} a second of processor time)`
    )
  } catch (error) {
    console.error(error.message)
    process.exitCode = 1
  }
  // The worker may be still there.
  process.exit()
}

function table(counts) {
  const rows = Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1))
  return rows.map(([name, count]) => `${String(count).padStart(9)}  ${name}`).join('\n')
}

async function parent() {
  const seed = Number(options.seed ?? Date.now() % 2 ** 31)
  const env = { ...process.env }
  if (options.inject) env.WASM_HOSTMAP_BINARY_PATH ??= require('./inject.cjs').build()
  console.log(`seed ${seed}`)
  const args = process.argv
    .slice(2)
    .filter((arg, i, all) => arg !== '--seed' && all[i - 1] !== '--seed')
  const flags = ['--expose-gc', '--no-warnings', ...process.execArgv]
  const file = fileURLToPath(import.meta.url)
  const running = spawn(
    process.execPath,
    [...flags, file, '--child', '--seed', String(seed), ...args],
    {
      env,
      stdio: ['ignore', 'inherit', 'inherit', 'pipe']
    }
  )
  let progress = ''
  running.stdio[PROGRESS].on('data', text => (progress = `${progress}${text}`.slice(-1000)))
  const { code, signal } = await new Promise(resolve =>
    running.once('close', (code, signal) => resolve({ code, signal }))
  )
  if (signal !== null) {
    const last = JSON.parse(progress.trimEnd().split('\n').at(-1))
    const inject = options.inject ? '--inject ' : ''
    console.error(`The process was ended by ${signal} in this run:`)
    console.error(
      `node --expose-gc __test__/model/run.mjs ${inject}--isolate --seed ${last.seed} --path ${last.path}`
    )
  }
  process.exitCode = signal === null ? code : 1
}
