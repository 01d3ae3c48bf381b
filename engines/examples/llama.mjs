// Language models in wllama: several instances over one mapped model, beside its usual way, where
// each has a copy.
//
//   node engines/examples/llama.mjs [--size 256MiB] [--instances 2]
//
// Needs Node.js 24 or later: wllama 3 is a 64-bit module. The model has random weights and is made
// on the first run. What wllama needs of a browser: ../support/wllama.mjs.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import Table from 'cli-table3'
import { pssBytes } from '../../bench/lib/machine.mjs'
import { parseBytes } from '../../demo/units.mjs'
import { formatBytes, formatMilliseconds } from '../../examples/support/cli.mjs'
import { makeModel } from '../support/gguf.mjs'
import { MODEL_FOLDER, openMapped, openUsual } from '../support/wllama.mjs'

const MiB = 2 ** 20
const WAYS = { usual: openUsual, mapped: openMapped }

/** What one way takes, in a process of its own: this file again, with the way's name. */
async function measure(way, model, count) {
  const child = fork(fileURLToPath(import.meta.url), [way, model, String(count)])
  let result
  child.on('message', message => (result = message))
  const [code, signal] = await once(child, 'exit')
  if (result === undefined) throw new Error(`${way}: the process ended with ${signal ?? code}`)
  return result
}

async function child(way, model, count) {
  const rows = []
  const instances = []
  for (let i = 0; i < count; i++) {
    const started = performance.now()
    const wllama = await WAYS[way](model)
    const readyMs = performance.now() - started
    const { choices } = await wllama.createCompletion({
      prompt: 'It was',
      max_tokens: 16,
      temperature: 0
    })
    instances.push(wllama)
    rows.push({ readyMs, pss: pssBytes(), text: choices[0].text })
  }
  process.send(rows, () => process.exit())
}

async function main() {
  if (Number(process.versions.node.split('.')[0]) < 24)
    throw new Error(`wllama 3 is a 64-bit module: Node.js 24 or later, not ${process.version}`)
  const { values } = parseArgs({
    options: {
      size: { type: 'string', default: '256MiB' },
      instances: { type: 'string', default: '2' }
    }
  })
  const count = Number(values.instances)
  if (!(parseBytes(values.size) > 0 && Number.isInteger(count) && count > 0))
    throw new Error('--size takes a size such as 256MiB, --instances a count')
  const model = makeModel(MODEL_FOLDER, parseBytes(values.size))
  const runs = {}
  for (const way of Object.keys(WAYS)) runs[way] = await measure(way, model, count)

  const names = Object.keys(runs)
  const table = new Table({
    head: ['', ...names],
    colAligns: ['left', ...names.map(() => 'right')],
    style: { head: [], border: [] }
  })
  for (let i = 0; i < count; i++) {
    const of = show => names.map(name => show(runs[name][i]))
    table.push([`instance ${i + 1}, ready after`, ...of(row => formatMilliseconds(row.readyMs))])
    table.push(['PSS then', ...of(row => formatBytes(Math.round(row.pss / MiB) * MiB))])
  }
  table.push(['says', ...names.map(name => runs[name][0].text)])
  console.log(table.toString())
  const texts = names.flatMap(name => runs[name].map(({ text }) => text))
  const areEqual = texts.every(text => text === texts[0] && text.length > 0)
  console.log(areEqual ? 'All say the same.' : 'They do NOT say the same.')
  if (!areEqual) process.exitCode = 1
}

const [, , way, model, count] = process.argv
if (Object.hasOwn(WAYS, way ?? '')) await child(way, model, Number(count))
else await main()
