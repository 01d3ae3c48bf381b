'use strict'

// Sizes as people write them.

const UNITS = new Map([
  ['', 1],
  ['k', 2 ** 10],
  ['m', 2 ** 20],
  ['g', 2 ** 30]
])

/** Bytes, or NaN: `65536`, `64K`, `64KiB`. */
function parseSize(text) {
  const found = /^(?<number>\d{1,12})\s*(?:(?<unit>[kmg])(?:ib)?)?$/i.exec(text)?.groups
  return found === undefined
    ? NaN
    : Number(found.number) * UNITS.get((found.unit ?? '').toLowerCase())
}

function sizeInWords(bytes) {
  let unit = 'B'
  let value = bytes
  for (const larger of ['KiB', 'MiB', 'GiB', 'TiB']) {
    if (value < 1024) break
    value /= 1024
    unit = larger
  }
  return `${unit === 'B' ? value : value.toFixed(1)} ${unit}`
}

module.exports = { parseSize, sizeInWords }
