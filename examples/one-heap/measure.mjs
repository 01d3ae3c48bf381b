// Runs one way in a process of its own, for index.mjs, and prints what it measured as JSON:
//
//   node measure.mjs WAY READINGS PIPELINES ROUNDS

import { readFileSync } from 'node:fs'
import { makeReadings } from './readings.mjs'
import { ways } from './ways.mjs'

const LEAST_WATT_HOURS = 500
const ROWS = 10
const PROGRAMS_PER_PIPELINE = 3

const field = (file, name) =>
  1024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(file, 'utf8'))[1])
const pssBytes = () => field('/proc/self/smaps_rollup', 'Pss')
const addressBytes = () => field('/proc/self/status', 'VmSize')

const [name, readings, pipelines, rounds] = process.argv.slice(2)
const region = makeReadings(Number(readings))
const way = ways[name](region)
const warm = way.start()
const { text, copiedBytes } = warm.query(LEAST_WATT_HOURS, ROWS)

const before = { pss: pssBytes(), address: addressBytes(), time: performance.now() }
const started = Array.from({ length: Number(pipelines) }, () => way.start())
const startMs = performance.now() - before.time
const programs = PROGRAMS_PER_PIPELINE * started.length
const perProgram = {
  startMs: startMs / programs,
  pssBytes: (pssBytes() - before.pss) / programs,
  addressBytes: (addressBytes() - before.address) / programs
}

const times = Array.from({ length: Number(rounds) }, () => {
  const begin = performance.now()
  const said = warm.query(LEAST_WATT_HOURS, ROWS).text
  const milliseconds = performance.now() - begin
  if (said !== text) throw new Error(`another report:\n${said}`)
  return milliseconds
})

console.log(
  JSON.stringify({
    text,
    copiedBytes,
    perProgram,
    queryMs: times.toSorted((a, b) => a - b)[times.length >> 1],
    isReached: way.isReached(warm),
    writesDataset: way.writesDataset(started.at(-1))
  })
)
