'use strict'

// The public API against a model of it in plain JavaScript: random steps, and after each one all
// contents, errors, counts and the process's own map are compared. The long run: `node --expose-gc
// __test__/model/run.mjs --steps 1000000`.

const { execFile, spawnSync } = require('node:child_process')
const path = require('node:path')
const { skipUnless } = require('./support/skip')

const RUN = path.join(__dirname, 'model/run.mjs')
const hasCargo = spawnSync('cargo', ['--version']).status === 0

/**
 * Runs it in another process, with a seed of its own for each run; gives how often each step was
 * done.
 */
function run(...options) {
  return new Promise((resolve, reject) => {
    const args = ['--expose-gc', RUN, '--steps', '6000', '--seconds', '18', ...options]
    const env = { ...process.env, NODE_OPTIONS: '' }
    execFile(process.execPath, args, { env, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      // Both hold the seed, and what replays a failure.
      if (error) return reject(new Error(`${stdout.slice(0, 1000)}\n${stderr.slice(-20_000)}`))
      const lines = Array.from(stdout.matchAll(/^ *(\d+) {2}(.+)$/gm))
      resolve(Object.fromEntries(lines.map(([, count, name]) => [name, Number(count)])))
    })
  })
}

// A failure is made shorter for a minute before it is reported.
const TIMEOUT_MS = 180_000

/** Steps that would be missed if the others left no room for them. */
const STEPS = [
  'copyFrom: done',
  'open: done',
  'share and receive: done',
  'view: done',
  'bytes: done',
  'write: done',
  'make a region of a source: done',
  'publish: done',
  'publish: refused',
  'find: done',
  'find: refused',
  'seal: done',
  'close: done',
  'truncate a file',
  'make a memory: done',
  'grow: done',
  'grow by the module',
  'map at: done',
  'map past the end: done',
  'map in a block: done',
  'map in the worker',
  'unmap: done',
  'adopt at: done',
  'adopt past the end: done',
  'release: done',
  'open a window at: done',
  'open a window past the end: done',
  'slide: done',
  'slide to nothing: done',
  'make a source: done',
  'next: done',
  'wasm load: trapped',
  'wasm store: done',
  'wasm store: trapped',
  'wasm bulk: replaced pages',
  'wasm atomic: done',
  'script: replaced pages',
  'check faults: done',
  'check faults: refused',
  'acknowledge faults: done',
  'faults of one: done',
  'collect'
]

test(
  'the library and the model agree after every step',
  async () => {
    const counts = await run()
    const steps = Object.values(counts).reduce((sum, count) => sum + count, 0)
    // On a machine that is busy there may have been time for few.
    if (steps > 3000) expect(STEPS.filter(name => !(counts[name] > 0))).toEqual([])
    expect(steps).toBeGreaterThan(0)
  },
  TIMEOUT_MS
)

// Takes a build of its own: nothing of it can be had without Rust, which a user of a tarball needs
// not have.
skipUnless('needs Cargo', hasCargo).test(
  'they agree when system calls fail: a call that throws has changed nothing',
  async () => {
    require('./model/inject.cjs').build()
    const counts = await run('--inject')
    expect(Object.keys(counts).some(name => / fails: thrown$/.test(name))).toBe(true)
    expect(Object.keys(counts).some(name => / fails: passed over$/.test(name))).toBe(true)
  },
  600_000
)
