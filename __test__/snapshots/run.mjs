// The long run of the snapshot patterns: memories are written in all the ways that there are, put
// back, and compared byte by byte. It runs in a child process, so that the end of that is a failure
// that is reported.

import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const require = createRequire(import.meta.url)

const USAGE = `npm run test:snapshots -- [options]

  --patterns N      how many that change something; default: 10000
  --node PATH       the Node.js to run them in; default: this one
  --seed N          what was printed, to repeat a run; with --only N, the one world of it that failed
  --without-scan    as on a kernel that can't tell which pages were written; takes a build that can be told to
  --help`

const { values: options } = parseArgs({
  options: {
    patterns: { type: 'string', default: '10000' },
    seed: { type: 'string' },
    only: { type: 'string' },
    node: { type: 'string', default: process.execPath },
    'without-scan': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
    // In the child process.
    child: { type: 'boolean', default: false }
  }
})

if (options.help) console.log(USAGE)
else if (options.child) await child(readNumbers())
else await parent(readNumbers())

function readNumbers() {
  const { patterns, seed = String(Date.now() % 2 ** 31), only } = options
  const number = (name, text, least) => {
    if (/^\d{1,15}$/.test(text) && Number(text) >= least) return Number(text)
    throw new Error(`--${name} must be a whole number from ${least} on, not '${text}'`)
  }
  return {
    patterns: number('patterns', patterns, 1),
    seed: number('seed', seed, 0),
    only: only === undefined ? undefined : number('only', only, 0)
  }
}

async function child(numbers) {
  // Stray writes are meant here.
  process.removeAllListeners('warning')
  process.on('warning', () => {})
  const { check } = require('./patterns.js')
  let told = 0
  const onWorld = done => {
    if (done - told < 1000) return
    told = done
    console.log(`${String(done).padStart(9)} patterns`)
  }
  try {
    const done = await check({ ...numbers, fails: options['without-scan'], onWorld })
    const { heapUsed, rss } = process.memoryUsage()
    const MiB = bytes => `${Math.round(bytes / 2 ** 20)} MiB`
    console.log(
      `${done} patterns restored without a difference, Node.js ${process.version} (heap ${MiB(heapUsed)}, RSS ${MiB(rss)})`
    )
  } catch (error) {
    console.error(error.message)
    process.exitCode = 1
  }
}

async function parent({ patterns, seed, only }) {
  const env = { ...process.env, NODE_OPTIONS: '' }
  if (options['without-scan'])
    env.WASM_HOSTMAP_BINARY_PATH ??= require('../model/inject.cjs').build()
  console.log(`seed ${seed}`)
  const args = [fileURLToPath(import.meta.url), '--child', '--seed', String(seed)]
  args.push('--patterns', String(patterns))
  if (only !== undefined) args.push('--only', String(only))
  if (options['without-scan']) args.push('--without-scan')
  const running = spawn(options.node, args, { env, stdio: 'inherit' })
  const [code, signal] = await new Promise(resolve =>
    running
      .once('close', (...ended) => resolve(ended))
      .once('error', error => {
        console.error(`Can't run ${options.node}: ${error.message}`)
        resolve([1, null])
      })
  )
  if (signal !== null) console.error(`The process was ended by ${signal}`)
  process.exitCode = signal === null ? code : 1
}
