'use strict'

// Runs random steps and compares the model with the real things after each.

const fc = require('fast-check')
const { anyStep } = require('./steps')
const { LocalRunner, RemoteRunner } = require('./runner')
const { expectNothingLeft } = require('./world')

const STEPS_PER_RUN = 500
const RUNS_PER_CHECK = 20
/** How long a failure is made shorter. */
const SHRINK_MS = 60_000

// Looking at a layout protects read-only mappings again, so not every run looks after each step.
const setups = fc.record({ layoutEvery: fc.constantFrom(1, 1, 4, 0), onDisk: fc.boolean() })

async function run(runner, steps) {
  let failed = true
  try {
    await fc.asyncModelRun(() => ({ model: runner, real: runner }), steps)
    failed = false
  } finally {
    await runner.end({ failed })
  }
}

/**
 * Checks until so many steps were done, or for so long. Throws what the first run that fails threw,
 * with the fewest steps that fail, and how to replay them.
 *
 * @param options.isolate whether each run has its own process, so that one that ends is a failure
 *   like others
 * @param options.onRun called before each run, with what replays it
 */
async function check(options) {
  const { seed, path, replayPath, inject = false, isolate = false } = options
  const {
    steps = Infinity,
    milliseconds = Infinity,
    shrinkFor = SHRINK_MS,
    onRun = () => {}
  } = options
  const start = performance.now()
  const isDone = () => done >= steps || performance.now() - start > milliseconds
  const counts = {}
  let done = 0
  const runnerFor = setup => (isolate ? new RemoteRunner(setup) : new LocalRunner(setup, counts))

  for (let i = 0; i === 0 || (path === undefined && !isDone()); i++) {
    const now = { seed: seed + i, inject }
    let runs = 0
    let failedAt
    const property = fc.asyncProperty(
      setups,
      fc.commands([anyStep({ inject })], { maxCommands: STEPS_PER_RUN, size: 'max', replayPath }),
      async (setup, commands) => {
        // What passes now is not made shorter any more.
        if (failedAt === undefined ? isDone() : performance.now() - failedAt > shrinkFor) return
        if (failedAt === undefined) onRun({ ...now, path: path ?? String(runs++) })
        // Looked at more closely, a failure shows earlier.
        const runner = runnerFor({ ...setup, injects: inject, closely: failedAt !== undefined })
        try {
          await run(runner, commands)
        } catch (error) {
          failedAt ??= performance.now()
          throw error
        }
        done += runner.steps
      }
    )
    const numRuns = path === undefined ? RUNS_PER_CHECK : 1
    const result = await fc.check(property, { seed: now.seed, path, numRuns })
    if (!result.failed) {
      if (path === undefined && !isolate) await expectNothingLeft()
      continue
    }
    // Once more, so that its steps are shown as they are in this run.
    const [setup, commands] = result.counterexample
    await run(runnerFor({ ...setup, injects: inject, closely: true }), commands).catch(() => {})
    throw failureOf(result, { ...now, isolate })
  }
  return { steps: done, counts, milliseconds: performance.now() - start }
}

function failureOf(result, { seed, inject, isolate }) {
  const { counterexample, counterexamplePath, errorInstance, numShrinks } = result
  const [setup, commands] = counterexample
  const [, steps, replayPath] = /^([^]*?)(?: \/\*replayPath="(.*)"\*\/)?$/.exec(String(commands))
  const replay = [
    'node --expose-gc __test__/model/run.mjs',
    inject ? '--inject' : '',
    isolate ? '--isolate' : '',
    `--seed ${seed} --path ${counterexamplePath}`,
    replayPath === undefined ? '' : `--replay '${replayPath}'`
  ]
  return new Error(
    `${errorInstance?.stack ?? errorInstance}

After ${numShrinks} times of leaving out or making smaller, in a world of ${JSON.stringify(setup)}:${steps}
Replay it, or make it still shorter: ${replay.filter(Boolean).join(' ')}`
  )
}

module.exports = { check }
