// A hash join of two files in one module: customers come through one window, orders through
// another, and only the hash table uses the module's memory.

import assert from 'node:assert/strict'
import { closeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import Table from 'cli-table3'
import { HostRegion } from 'wasm-hostmap'
import * as cli from '../support/cli.mjs'
import { openOnce } from '../support/dataset.mjs'
import { startProgress } from '../support/progress.mjs'
import {
  calculateGroups,
  joinInJavaScript,
  makeCustomers,
  makeOrders,
  tablesOf
} from './tables.mjs'

const MOST_TO_CHECK = 2 ** 23

const usage = `Usage: node examples/hash-join/index.mjs [--size MIB] [--table CUSTOMERS] [--window KIB] [--check]

Makes orders and customers, joins them, and prints the orders and turnover of each country.
Compares the result with arithmetic, and removes the files.

  --size MIB           size of the orders (default: 5120)
  --table CUSTOMERS    room in the hash table (default: 4194304). If there are more
                       customers, the orders are read again for the next ones
  --window KIB         size of each of the two windows (default: 65536)
  --check              also joins them in plain JavaScript`

async function main() {
  const { values } = cli.parseCommandLine(usage, {
    size: { type: 'string', default: '5120' },
    table: { type: 'string', default: String(2 ** 22) },
    window: { type: 'string', default: '65536' },
    check: { type: 'boolean', default: false }
  })
  const sizeMiB = cli.wholeNumber('--size', values.size, 1, 2 ** 18)
  const tableCustomers = cli.wholeNumber('--table', values.table, 1, 2 ** 26)
  const windowBytes = cli.wholeNumber('--window', values.window, 64, 2 ** 20) * 1024
  const tables = tablesOf(sizeMiB * cli.MiB)
  if (values.check && tables.customers > MOST_TO_CHECK) {
    throw new cli.UsageError(
      `--check needs a Map of all ${cli.formatCount(tables.customers)} customers, which is too large: use a smaller --size`
    )
  }

  const customers = await openOnce(
    `customers-${sizeMiB}.bin`,
    makeCustomers(tables),
    HostRegion.open
  )
  const orders = await openOnce(`orders-${sizeMiB}.bin`, makeOrders(tables), HostRegion.open)
  try {
    const begin = performance.now()
    const { passes, groups } = await joinInWorker(customers, orders, tables, {
      windowBytes,
      tableCustomers
    })
    const seconds = (performance.now() - begin) / 1000
    const peakBytes = process.resourceUsage().maxRSS * 1024

    assert.equal(passes, Math.ceil(tables.customers / tableCustomers))
    assert.deepEqual(groups, calculateGroups(tables), 'the groups differ from arithmetic')
    printGroups(groups, tables)
    console.log(`
${cli.formatCount(tables.orders)} orders, ${cli.formatBytes(orders.byteLength)}, and ${cli.formatCount(tables.customers)} customers, ${cli.formatBytes(customers.byteLength)}, in ${seconds.toFixed(1)} s through 2 windows of ${cli.formatBytes(windowBytes)}.
Passes over the orders: ${passes}. ${((passes * tables.orders) / seconds / 1e6).toFixed(1)} million orders/s. Peak resident memory: ${cli.formatBytes(peakBytes)}.
The groups match arithmetic.`)
    if (values.check) {
      checkInJavaScript(customers, orders, tables, groups)
      console.log('The groups match plain JavaScript.')
    }
  } finally {
    customers.close()
    orders.close()
  }
}

/** Runs in a worker, so that this thread can draw the progress bar and handle Ctrl-C. */
async function joinInWorker(customers, orders, tables, { windowBytes, tableCustomers }) {
  const progress = startProgress(`joining ${orders.name} and ${customers.name}`)
  const passes = Math.ceil(tables.customers / tableCustomers)
  const totalBytes = customers.byteLength + passes * orders.byteLength
  const workerData = {
    customersToken: customers.share({ access: 'readonly' }),
    ordersToken: orders.share({ access: 'readonly' }),
    windowBytes,
    tableCustomers
  }
  const worker = new Worker(new URL('worker.mjs', import.meta.url), { workerData })
  let doneBytes = 0
  try {
    return await new Promise((resolve, reject) => {
      worker.on('error', reject)
      worker.on('message', message => {
        if (message.groups) return resolve(message)
        doneBytes += message.readBytes
        progress.update(doneBytes / totalBytes)
      })
    })
  } finally {
    progress.stop()
  }
}

function printGroups(groups, tables) {
  const table = new Table({
    head: ['country', 'orders', 'cents'],
    colAligns: ['right', 'right', 'right'],
    style: { head: [], border: [] }
  })
  const found = groups
    .map((group, country) => ({ country, ...group }))
    .filter(({ orders }) => orders > 0)
  const total = (list, field) => list.reduce((sum, group) => sum + group[field], 0)
  const row = (name, orders, cents) =>
    table.push([name, cli.formatCount(orders), cents === undefined ? '' : cli.formatCount(cents)])
  const others = found.slice(5)
  for (const { country, orders, cents } of found.slice(0, 5)) row(country, orders, cents)
  row(`${others.length} others`, total(others, 'orders'), total(others, 'cents'))
  row('no customer', tables.orders - total(found, 'orders'))
  console.log(`${table}`)
}

function checkInJavaScript(customers, orders, tables, groups) {
  const progress = startProgress('joining them in plain JavaScript')
  const fds = [customers.duplicateFd(), orders.duplicateFd()]
  try {
    const expected = joinInJavaScript(...fds, tables, progress.update)
    assert.deepEqual(groups, expected, 'plain JavaScript came to other groups')
  } finally {
    fds.forEach(closeSync)
    progress.stop()
  }
}

await cli.run(main)
