'use strict'

// observe(): what the package tells its listeners, as measures of node:perf_hooks. It is a listener
// like any other, so nothing is measured where nobody called it.

const { performance } = require('node:perf_hooks')
const { subscribe, unsubscribe } = require('node:diagnostics_channel')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { channels } = require('./events.js')

const { fault: _, ...TIMED } = channels

/** What may be shown of a message: no object that would be kept alive. */
const DETAILS = [
  'action',
  'address',
  'byteLength',
  'byteOffset',
  'by',
  'copiedPages',
  'grownBytes',
  'how',
  'kind',
  'snapshotName'
]

function observe(options) {
  const { performance: isMeasured = false } = read.observe(options)
  check.boolean(isMeasured, 'options.performance')
  const names = isMeasured ? Object.values(TIMED).map(({ name }) => name) : []
  for (const name of names) subscribe(name, measure)
  const stop = () => {
    for (const name of names) unsubscribe(name, measure)
  }
  return { stop, [Symbol.dispose]: stop }
}

// Goes to observers alone: Node.js would keep each entry for good.
function measure(message, name) {
  const { startTime: start, duration } = message
  performance.measure(name, { start, duration, detail: detailOf(message) })
  performance.clearMeasures(name)
}

function detailOf(message) {
  const detail = {}
  for (const key of DETAILS) if (key in message) detail[key] = message[key]
  return detail
}

module.exports = { observe }
