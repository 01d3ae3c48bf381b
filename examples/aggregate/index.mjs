// Group by, sum and count over a log that is far larger than memory. Each worker gets a part of it
// and a module that reads that part through a window.

import assert from 'node:assert/strict'
import { closeSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import Table from 'cli-table3'
import { HostRegion } from 'wasm-hostmap'
import * as cli from '../support/cli.mjs'
import { openOnce } from '../support/dataset.mjs'
import { startProgress } from '../support/progress.mjs'
import { calculateGroups, groupInJavaScript, makeLog, RECORD_BYTES } from './readings.mjs'

const usage = `Usage: node examples/aggregate/index.mjs [--size MIB] [--workers N] [--window KIB] [--check]

Makes a sparse log of meter readings, reads all of it, and prints the readings and watt-hours
of each district. Compares the result with arithmetic, and removes the log.

  --size MIB      size of the log; an eighth of it has data (default: 20480)
  --workers N     worker threads (default: one per processor)
  --window KIB    window of each worker (default: 65536)
  --check         also reads the log in plain JavaScript`

async function main() {
  const { values } = cli.parseCommandLine(usage, {
    size: { type: 'string', default: '20480' },
    workers: { type: 'string', default: String(availableParallelism()) },
    window: { type: 'string', default: '65536' },
    check: { type: 'boolean', default: false }
  })
  const sizeMiB = cli.wholeNumber('--size', values.size, 1, 2 ** 20)
  const workers = cli.wholeNumber('--workers', values.workers, 1, 256)
  const windowBytes = cli.wholeNumber('--window', values.window, 64, 2 ** 21) * 1024

  const slots = Math.floor((sizeMiB * cli.MiB) / RECORD_BYTES)
  const region = await openOnce(`readings-${sizeMiB}.bin`, makeLog(slots), HostRegion.open)
  try {
    const begin = performance.now()
    // No reading straddles two parts.
    const parts = region.split(workers, { align: RECORD_BYTES })
    const groups = await groupInWorkers(region, parts, windowBytes)
    const seconds = (performance.now() - begin) / 1000
    const peakBytes = process.resourceUsage().maxRSS * 1024

    assert.deepEqual(groups, calculateGroups(slots), 'the groups differ from arithmetic')
    printGroups(groups)
    console.log(`
${cli.formatCount(slots)} slots, ${cli.formatBytes(region.byteLength)}, in ${seconds.toFixed(1)} s. ${parts.length} windows of ${cli.formatBytes(windowBytes)}.
${(slots / seconds / 1e6).toFixed(1)} million slots/s, ${(region.byteLength / seconds / 1e9).toFixed(2)} GB/s. Peak resident memory: ${cli.formatBytes(peakBytes)}.
The groups match arithmetic.`)
    if (values.check) {
      checkInJavaScript(region, slots, groups)
      console.log('The groups match plain JavaScript.')
    }
  } finally {
    region.close()
  }
}

async function groupInWorkers(region, parts, windowBytes) {
  const progress = startProgress(`reading ${region.name}`)
  const done = parts.map(() => 0)
  const workers = parts.map(part => {
    const workerData = { token: region.share({ access: 'readonly' }), windowBytes, part }
    return new Worker(new URL('worker.mjs', import.meta.url), { workerData })
  })
  const groupsOf = (worker, i) =>
    new Promise((resolve, reject) => {
      worker.on('error', reject)
      worker.on('message', ({ doneBytes, groups }) => {
        if (groups) return resolve(groups)
        done[i] = doneBytes
        progress.update(done.reduce((sum, bytes) => sum + bytes) / region.byteLength)
      })
    })
  try {
    const partial = await Promise.all(workers.map(groupsOf))
    return partial.reduce((groups, others) =>
      groups.map(({ count, wattHours }, i) => ({
        count: count + others[i].count,
        wattHours: wattHours + others[i].wattHours
      }))
    )
  } finally {
    progress.stop()
    // If one failed, stop the others.
    await Promise.all(workers.map(worker => worker.terminate()))
  }
}

function printGroups(groups) {
  const table = new Table({
    head: ['district', 'readings', 'watt-hours'],
    colAligns: ['right', 'right', 'right'],
    style: { head: [], border: [] }
  })
  const found = groups
    .map((group, district) => ({ district, ...group }))
    .filter(({ count }) => count > 0n)
  const districts = found.filter(({ district }) => district !== 0)
  const row = (name, { count, wattHours }) =>
    table.push([name, cli.formatCount(count), cli.formatCount(wattHours)])
  for (const group of districts.slice(0, 5)) row(group.district, group)
  if (districts.length > 5) row(`${districts.length - 5} others`, total(districts.slice(5)))
  row('empty slots', groups[0])
  console.log(`${table}`)
}

function total(groups) {
  const sum = field => groups.reduce((sum, group) => sum + group[field], 0n)
  return { count: sum('count'), wattHours: sum('wattHours') }
}

function checkInJavaScript(region, slots, groups) {
  const progress = startProgress('reading it in plain JavaScript')
  const fd = region.duplicateFd()
  try {
    const expected = groupInJavaScript(fd, slots, progress.update)
    assert.deepEqual(groups, expected, 'the groups differ from plain JavaScript')
  } finally {
    closeSync(fd)
    progress.stop()
  }
}

await cli.run(main)
