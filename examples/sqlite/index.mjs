// Opens a database of several hundred MiB in SQLite's Wasm module, copied into linear memory and
// mapped, and compares time, memory and results.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { finished } from 'node:stream/promises'
import { isDeepStrictEqual } from 'node:util'
import Table from 'cli-table3'
import * as cli from '../support/cli.mjs'
import { dataset } from '../support/dataset.mjs'
import { startProgress } from '../support/progress.mjs'
import { makeDatabase } from './database.mjs'
import { queries } from './queries.mjs'

const usage = `Usage: node examples/sqlite/index.mjs [--size MIB] [--rounds N]

Makes a database on the first run, and opens it in each way.

  --size MIB    size of the database (default: 700)
  --rounds N    how often to open it (default: 5)`

const ways = ['copied', 'read', 'mapped']

async function main() {
  const { values } = cli.parseCommandLine(usage, {
    size: { type: 'string', default: '700' },
    rounds: { type: 'string', default: '5' }
  })
  // Making the database takes twice its size of SQLite's linear memory, which has at most 2 GiB.
  const sizeMiB = cli.wholeNumber('--size', values.size, 1, 700)
  const rounds = cli.wholeNumber('--rounds', values.rounds, 1, 100)
  const path = await dataset(`messages-${sizeMiB}.sqlite`, (file, onProgress) =>
    makeDatabase(file, sizeMiB * cli.MiB, onProgress)
  )
  const byteLength = await readThrough(path)

  const progress = startProgress('measuring')
  const runs = { copied: [], read: [], mapped: [] }
  for (let round = 0; round < rounds; round++) {
    for (const [i, way] of ways.entries()) {
      runs[way].push(await measure(way, path))
      progress.update((round * ways.length + i + 1) / (rounds * ways.length))
    }
  }
  progress.stop()

  report(runs, byteLength)
  if (!checkResults(runs)) process.exitCode = 1
}

/** Reads the file into the page cache, so that no way waits for the disk. */
async function readThrough(path) {
  const stream = createReadStream(path, { highWaterMark: cli.MiB })
  await finished(stream.resume())
  return stream.bytesRead
}

/** Opens the database in a fresh process. */
async function measure(way, path) {
  const child = fork(new URL('measure.mjs', import.meta.url), [way, path], {
    execArgv: ['--expose-gc', '--no-warnings']
  })
  let result
  child.on('message', message => (result = message))
  const [exitCode, signal] = await once(child, 'exit')
  if (result === undefined)
    throw new Error(`the process that measured '${way}' ended with ${signal ?? exitCode}`)
  if (result.error !== undefined) throw new cli.UsageError(`'${way}' failed: ${result.error}`)
  return result
}

function report(runs, byteLength) {
  const table = new Table({
    head: [`a database of ${cli.formatBytes(byteLength)}`, ...ways],
    colAligns: ['left', 'right', 'right', 'right'],
    style: { head: [], border: [] }
  })
  const row = (name, format, summary, value) =>
    table.push([name, ...ways.map(way => format(summary(runs[way].map(value))))])

  row('ready for the first query after', cli.formatMilliseconds, best, run => run.readyTime)
  row('  median', cli.formatMilliseconds, median, run => run.readyTime)
  row('memory when ready (PSS)', cli.formatBytes, median, run => run.memoryWhenReady.proportional)
  row(
    'memory after all queries (PSS)',
    cli.formatBytes,
    median,
    run => run.memoryAfterQueries.proportional
  )
  row('  of it not page cache', cli.formatBytes, median, run => run.memoryAfterQueries.anonymous)
  for (const [i, { name }] of queries.entries())
    row(name, cli.formatMilliseconds, best, run => run.queryTimes[i])
  row('before: Node and SQLite started in', cli.formatMilliseconds, best, run => run.startTime)

  const timesSooner = (way, summary) => {
    const readyTime = of => summary(runs[of].map(run => run.readyTime))
    return Math.round(readyTime(way) / readyTime('mapped')).toLocaleString('en')
  }
  console.log(`${table}
copied: the file into a Buffer, the Buffer into linear memory. read: the file directly into linear memory.
Each time is the best of ${runs.mapped.length}, each in a new process, with the file in the page cache.

Mapped, the database is ready ${timesSooner('copied', best)} times sooner than copied (medians: ${timesSooner('copied', median)})
and ${timesSooner('read', best)} times sooner than read (medians: ${timesSooner('read', median)}).`)
}

/** Other work on the machine and V8's garbage collector slow down only some of the runs. */
function best(times) {
  return Math.min(...times)
}

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Prints whether every query had the same result in every run, or which ones did not. */
function checkResults(runs) {
  const expected = runs.copied[0].results
  const differing = ways.flatMap(way =>
    runs[way].flatMap(run =>
      expected
        .filter((result, i) => !isDeepStrictEqual(run.results[i], result))
        .map(([name]) => `${name}: '${way}' and 'copied' have different results`)
    )
  )
  if (differing.length > 0) {
    for (const line of new Set(differing)) console.error(line)
    return false
  }
  const [, refusal] = expected.at(-1)
  console.log(`All results are equal. An UPDATE failed with ${refusal}.`)
  return true
}

await cli.run(main)
