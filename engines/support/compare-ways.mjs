// Runs an example's ways, each in a process of its own, and prints time and memory side by side.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { isDeepStrictEqual } from 'node:util'
import Table from 'cli-table3'
import { pssBytes } from '../../bench/lib/machine.mjs'
import { formatBytes, formatMilliseconds } from '../../examples/support/cli.mjs'

const MiB = 2 ** 20

async function child({ prepare, open, answer }, file) {
  const context = await prepare()
  const enginePss = pssBytes()
  const started = performance.now()
  const handle = await open(context, file)
  const readyMs = performance.now() - started
  const pss = pssBytes()
  const asked = performance.now()
  const result = await answer(handle)
  const answerMs = performance.now() - asked
  process.send({ enginePss, readyMs, pss, answerMs, result }, () => process.exit())
}

async function measure(script, name, file) {
  const process = fork(script, [name, file])
  let result
  process.on('message', message => (result = message))
  const [code, signal] = await once(process, 'exit')
  if (result === undefined) throw new Error(`${name}: the process ended with ${signal ?? code}`)
  return result
}

/**
 * For the main module of an example. `ways` have `prepare`, `open` and `answer` by name, the usual
 * one first; `makeFile` gives the path of the data.
 */
export async function compareWays(script, ways, makeFile) {
  const [, , name, file] = process.argv
  if (Object.hasOwn(ways, name ?? '')) return child(ways[name], file)
  const made = await makeFile()
  const results = []
  for (const way of Object.keys(ways)) results.push(await measure(script, way, made))
  const table = new Table({
    head: ['', ...Object.keys(ways)],
    colAligns: ['left', ...results.map(() => 'right')],
    style: { head: [], border: [] }
  })
  const row = (title, show) => table.push([title, ...results.map(show)])
  const bytes = value => formatBytes(Math.round(value / MiB) * MiB)
  row('ready after', ({ readyMs }) => formatMilliseconds(readyMs))
  row('PSS: the engine', ({ enginePss }) => bytes(enginePss))
  row('PSS: ready', ({ pss }) => bytes(pss))
  row('answers after', ({ answerMs }) => formatMilliseconds(answerMs))
  console.log(table.toString())
  const areEqual = results.every(({ result }) => isDeepStrictEqual(result, results[0].result))
  console.log(areEqual ? 'All answers are equal.' : 'The answers are NOT equal.')
  if (!areEqual) process.exitCode = 1
}
