'use strict'

// Sizes as people read them: the only function of the repository that writes them. The benchmarks,
// the demo and the examples use it, too.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB']

/** 65536 -> '64 KiB', 1610612736 -> '1.5 GiB': three digits, but whole numbers in full. */
function formatBytes(bytes) {
  let unit = 0
  while (bytes >= 1024 && unit < UNITS.length - 1) {
    bytes /= 1024
    unit++
  }
  return `${Number.isInteger(bytes) ? bytes : Number(bytes.toPrecision(3))} ${UNITS[unit]}`
}

module.exports = { formatBytes }
