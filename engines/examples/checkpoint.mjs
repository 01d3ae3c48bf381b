// A clean engine for each test: one that is brought back to a checkpoint, beside a new one each
// time. The engines are as npm has them, and make their instances themselves.
//
//   node engines/examples/checkpoint.mjs [--tests 20] [--engine NAME]
//
// Each way runs in a process of its own. Every test leaves tables, files or errors behind, and then
// the engine says what it was at the start.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual, parseArgs } from 'node:util'
import Table from 'cli-table3'
import { capture, checkpoint } from 'wasm-hostmap'
import { pssBytes } from '../../bench/lib/machine.mjs'
import { formatBytes, formatMilliseconds } from '../../examples/support/cli.mjs'
import { ENGINES } from '../support/captured-engines.mjs'

const MiB = 2 ** 20
// New engines take seconds: so many show it.
const MOST_NEW = 3

const WAYS = {
  async 'a new one'({ make, plant }) {
    return {
      async clean() {
        const engine = await make()
        return [engine, await plant(engine)]
      }
    }
  },
  async 'a checkpoint'({ make, plant, state, options }) {
    // The lines that this is about.
    const { value: engine } = await capture(make)
    const planted = await plant(engine)
    const clean = checkpoint(engine, { ...options, state: state?.(engine) })
    return {
      clean() {
        clean.restore()
        return [engine, planted]
      }
    }
  }
}

async function child(way, name, tests) {
  const { use, digest } = ENGINES[name]
  const started = performance.now()
  const { clean } = await WAYS[way](ENGINES[name])
  const firstMs = performance.now() - started
  const times = []
  const seen = []
  for (let test = 1; test <= tests; test++) {
    const began = performance.now()
    const [engine, planted] = await clean()
    times.push(performance.now() - began)
    seen.push(await digest(engine, planted))
    await use(engine, planted, test)
  }
  times.sort((a, b) => a - b)
  const median = times[times.length >> 1]
  const result = { firstMs, median, worst: times.at(-1), pss: pssBytes(), seen }
  process.send(result, () => process.exit())
}

async function measure(way, name, tests) {
  const running = fork(fileURLToPath(import.meta.url), ['--child', way, name, String(tests)])
  let result
  running.on('message', message => (result = message))
  const [code, signal] = await once(running, 'exit')
  if (result === undefined) throw new Error(`${name}, ${way}: it ended with ${signal ?? code}`)
  return result
}

async function main() {
  const { values } = parseArgs({
    options: { tests: { type: 'string', default: '20' }, engine: { type: 'string' } }
  })
  const tests = Number(values.tests)
  if (!Number.isInteger(tests) || tests < 1) throw new Error('--tests takes a count')
  // Of the others there is no new one to compare with.
  const all = Object.keys(ENGINES).filter(name => !ENGINES[name].isSingle)
  const names = values.engine === undefined ? all : [values.engine]
  if (!names.every(name => all.includes(name)))
    throw new Error(`--engine is one of ${all.join(', ')}`)

  const table = new Table({
    head: ['', 'new, each', 'checkpoint', 'restore, median', 'worst', 'sooner', 'PSS new', 'PSS'],
    colAligns: ['left', ...Array.from({ length: 7 }, () => 'right')],
    style: { head: [], border: [] }
  })
  let areEqual = true
  for (const name of names) {
    const fresh = await measure('a new one', name, Math.min(tests, MOST_NEW))
    const kept = await measure('a checkpoint', name, tests)
    const [first] = fresh.seen
    areEqual &&= [...fresh.seen, ...kept.seen].every(seen => isDeepStrictEqual(seen, first))
    const mib = bytes => formatBytes(Math.round(bytes / MiB) * MiB)
    table.push([
      name,
      formatMilliseconds(fresh.median),
      formatMilliseconds(kept.firstMs),
      formatMilliseconds(kept.median),
      formatMilliseconds(kept.worst),
      `${Math.round(fresh.median / kept.median)} times`,
      mib(fresh.pss),
      mib(kept.pss)
    ])
  }
  console.log(table.toString())
  console.log(
    areEqual ? 'Each says the same at the start of every test.' : 'They do NOT say the same.'
  )
  if (!areEqual) process.exitCode = 1
}

const [, , flag, way, name, tests] = process.argv
if (flag === '--child') await child(way, name, Number(tests))
else await main()
