// A server for untrusted scripts: each one runs in a JavaScript interpreter that is as clean as if
// no other script had ever run. Compares several ways to get such an interpreter.

import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import Table from 'cli-table3'
import * as cli from '../support/cli.mjs'
import { startProgress } from '../support/progress.mjs'

const usage = `Usage: node examples/sandbox/index.mjs [--seconds N] [--workers N]

Serves requests in several ways: with a new interpreter for each one, with an interpreter whose
memory is copied back after each one, and with a pool. Checks every answer.

  --seconds N    time for each way (default: 5)
  --workers N    worker threads (default: 2)`

const ways = {
  fresh: 'a new instance for each',
  copied: 'memory copied back',
  pool: 'InstancePool',
  unrestored: 'nothing restored'
}

async function main() {
  const { values } = cli.parseCommandLine(usage, {
    seconds: { type: 'string', default: '5' },
    workers: { type: 'string', default: '2' }
  })
  const seconds = cli.wholeNumber('--seconds', values.seconds, 1, 3600)
  const workers = cli.wholeNumber('--workers', values.workers, 1, 64)

  const results = {}
  const progress = startProgress('serving requests')
  try {
    for (const way of Object.keys(ways)) {
      results[way] = await serveInProcess(way, workers, seconds)
      progress.update(Object.keys(results).length / Object.keys(ways).length)
    }
  } finally {
    progress.stop()
  }
  const { unrestored, ...restored } = results
  printTable(restored)

  for (const [way, { wrong }] of Object.entries(restored)) {
    assert.deepEqual(
      wrong.slice(0, 3),
      [],
      `${ways[way]}: an answer was wrong, or a request saw what another one left`
    )
  }
  const sighting = unrestored.wrong.find(({ text }) => text.startsWith('{"seen":["'))
  assert(sighting, 'the checks did not notice that nothing was restored')
  const checked = Object.values(restored).reduce((sum, { checked }) => sum + checked, 0)
  console.log(`
Workers: ${workers}. In each thousand requests, four of the first 40 recurse or loop forever, use up all memory, or throw.
All ${cli.formatCount(checked)} answers were right, and no request saw what another one left.
Without restoring, ${unrestored.wrong.length} of ${unrestored.checked} answers were wrong. One was ${sighting.text.slice(0, 50)}...`)
}

/** Runs each way in its own process, so that they don't affect each other. */
async function serveInProcess(way, workers, seconds) {
  const server = fork(new URL('server.mjs', import.meta.url), [way, workers, seconds], {
    execArgv: ['--expose-gc']
  })
  const ended = once(server, 'exit')
  const [result] = await Promise.race([once(server, 'message'), ended])
  if (result?.error) throw new Error(`${ways[way]}: ${result.error}`)
  if (typeof result !== 'object') throw new Error(`${ways[way]}: the process ended with ${result}`)
  await ended
  return result
}

function printTable(results) {
  const columns = {
    requests: ({ requests }) => cli.formatCount(requests),
    'requests/s': ({ perSecond }) => cli.formatCount(Math.round(perSecond)),
    p50: ({ milliseconds }) => cli.formatMilliseconds(milliseconds.p50),
    p99: ({ milliseconds }) => cli.formatMilliseconds(milliseconds.p99),
    'cleaning, p50': ({ milliseconds }) => cli.formatMilliseconds(milliseconds.cleaning),
    'resident, peak': ({ peakBytes }) => cli.formatBytes(peakBytes),
    'an instance more': ({ instanceBytes }) => cli.formatBytes(Math.round(instanceBytes))
  }
  const table = new Table({
    head: ['', ...Object.keys(columns)],
    colAligns: ['left', ...Object.keys(columns).map(() => 'right')],
    style: { head: [], border: [] }
  })
  for (const [way, result] of Object.entries(results)) {
    table.push([ways[way], ...Object.values(columns).map(format => format(result))])
  }
  console.log(`${table}`)
}

await cli.run(main)
