// Three programs over one dataset: select readings, add them up by meter, write a report. Once all
// in one heap, where they hand each other pointers, and once each in a memory of its own.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import Table from 'cli-table3'
import * as cli from '../support/cli.mjs'
import { expectedReport, RECORD_BYTES } from './readings.mjs'

const usage = `Usage: node examples/one-heap/index.mjs [--size MIB] [--pipelines COUNT] [--rounds COUNT]

Runs three programs in one heap, and in a memory each; compares what they say with arithmetic, and
prints what each way costs, and what a bug in one program reaches.

  --size MIB           size of the readings (default: 64)
  --pipelines COUNT    how many times the three programs are started (default: 200)
  --rounds COUNT       how many queries are timed (default: 21)`

async function main() {
  const { values } = cli.parseCommandLine(usage, {
    size: { type: 'string', default: '64' },
    pipelines: { type: 'string', default: '200' },
    rounds: { type: 'string', default: '21' }
  })
  const sizeMiB = cli.wholeNumber('--size', values.size, 1, 1024)
  // 47 bits of address space hold some 13,000 memories.
  const pipelines = cli.wholeNumber('--pipelines', values.pipelines, 1, 4000)
  const rounds = cli.wholeNumber('--rounds', values.rounds, 1, 10_000)
  const readings = (sizeMiB * cli.MiB) / RECORD_BYTES

  const one = await measure('oneHeap', readings, pipelines, rounds)
  const own = await measure('ownMemories', readings, pipelines, rounds)
  const expected = expectedReport(readings, 500, 10)
  assert.equal(one.text, expected, 'the report of one heap')
  assert.equal(own.text, expected, 'the report of own memories')
  assert.deepEqual([one.isReached, own.isReached], [true, false], 'what a stray write reaches')
  assert.ok(!one.writesDataset && !own.writesDataset, 'a program wrote to the dataset')

  const table = new Table({
    head: ['', 'one heap', 'a memory each'],
    colAligns: ['left', 'right', 'right'],
    style: { head: [], border: [] }
  })
  const row = (title, show) => table.push([title, show(one), show(own)])
  const yes = value => (value ? 'yes' : 'no')
  row('to start a program', ({ perProgram }) => cli.formatMilliseconds(perProgram.startMs))
  row('memory of a program (PSS)', ({ perProgram }) => bytes(perProgram.pssBytes))
  row('address space of a program', ({ perProgram }) => bytes(perProgram.addressBytes))
  row('a query', ({ queryMs }) => cli.formatMilliseconds(queryMs))
  row('copied for a query', ({ copiedBytes }) => bytes(copiedBytes))
  row("a stray write reaches another program's data", ({ isReached }) => yes(isReached))
  row('a stray write reaches the dataset', ({ writesDataset }) => yes(writesDataset))
  console.log(`${expected}\n${table}
${cli.formatCount(readings)} readings, ${cli.formatBytes(sizeMiB * cli.MiB)}; ${cli.formatCount(3 * pipelines)} programs. Both reports match arithmetic.`)
}

const bytes = count => cli.formatBytes(Math.max(0, Math.round(count)))

async function measure(...args) {
  const script = fileURLToPath(new URL('measure.mjs', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, [script, ...args.map(String)])
  return JSON.parse(stdout)
}

await cli.run(main)
