// Measures one program of engines/support/programs.mjs: out of a pool, and booted anew. And the
// table of all that were measured.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import Table from 'cli-table3'
import { formatBytes, formatQuantity } from '../../../bench/lib/table.mjs'

const CHILD = fileURLToPath(new URL('program-child.mjs', import.meta.url))
const MiB = 2 ** 20

const COPIES = 6

export const HEAD = [
  'program',
  'first boot',
  'boot again',
  'clean request',
  'p99',
  'first boot / request',
  'boot again / request',
  'restore alone',
  'p99',
  'PSS, 1 anew',
  '1 of a pool',
  `${COPIES} anew`,
  `${COPIES} of a pool`,
  'as a fresh boot'
]

/** Runs one measurement in a process of its own. */
async function measure(...args) {
  const child = fork(CHILD, args.map(String), {
    execArgv: ['--expose-gc', '--no-warnings'],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc']
  })
  let said = ''
  child.stderr.on('data', text => (said += text))
  let message
  child.on('message', it => (message = it))
  const [code, signal] = await once(child, 'exit')
  if (message?.result !== undefined) return message.result
  const why = message?.error ?? `it ended with ${signal ?? code}: ${said.slice(-500)}`
  throw new Error(`${args.join(' ')}: ${why}`)
}

const percentile = (values, part) =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))]

/**
 * Both sides end with the same request. The first boot is in a new process, whose V8 has compiled
 * nothing yet. A boot again is in a process that has booted the program before: V8 finds the
 * module's code where it was.
 *
 * @param options.copies how many the last figures of memory are of
 */
export async function measureProgram(name, { boots, requests, copies = COPIES }) {
  const anew = await measure('anew', name, boots)
  const firsts = [anew.first]
  while (firsts.length < boots) firsts.push((await measure('anew', name, 0)).first)
  const pool = await measure('pool', name, requests)
  const memory = {}
  for (const way of ['anew', 'pool']) {
    memory[`${way}One`] = await measure('memory', way, name, 1)
    memory[`${way}Many`] =
      copies === 1 ? memory[`${way}One`] : await measure('memory', way, name, copies)
  }
  const firstMs = percentile(firsts, 0.5)
  const againMs = percentile(anew.times, 0.5)
  const requestMs = percentile(pool.times, 0.5)
  return {
    firstMs,
    againMs,
    requestMs,
    requestWorstMs: percentile(pool.times, 0.99),
    firstRatio: firstMs / requestMs,
    ratio: againMs / requestMs,
    restoreMs: percentile(pool.restores, 0.5),
    restoreWorstMs: percentile(pool.restores, 0.99),
    pss: Object.fromEntries(Object.entries(memory).map(([key, { pss }]) => [key, pss])),
    discarded: pool.discarded,
    failure: pool.failure,
    isSame: isDeepStrictEqual(anew.digest, pool.digest)
  }
}

const time = milliseconds => formatQuantity(milliseconds * 1e6, 'ns')
const bytes = value => formatBytes(Math.round(value / MiB) * MiB)

export function rowOf({ name, version, bar }, result) {
  const title = version === undefined ? name : `${name} ${version}`
  if (result.error !== undefined) return [title, `failed: ${result.error}`]
  const isLate = bar !== undefined && result.ratio < bar
  return [
    title,
    time(result.firstMs),
    time(result.againMs),
    time(result.requestMs),
    time(result.requestWorstMs),
    formatQuantity(result.firstRatio, 'ratio'),
    `${formatQuantity(result.ratio, 'ratio')}${isLate ? `, missed ${bar} x` : ''}`,
    time(result.restoreMs),
    time(result.restoreWorstMs),
    bytes(result.pss.anewOne),
    bytes(result.pss.poolOne),
    bytes(result.pss.anewMany),
    bytes(result.pss.poolMany),
    result.isSame && result.discarded === 0 ? 'yes' : 'NO'
  ]
}

/** For a terminal: of each program, itself and its result. */
export function tableOf(measured) {
  const table = new Table({
    head: HEAD,
    colAligns: HEAD.map((_, index) => (index === 0 ? 'left' : 'right')),
    style: { head: [], border: [], compact: true }
  })
  table.push(...measured.map(([program, result]) => rowOf(program, result)))
  return table.toString()
}
