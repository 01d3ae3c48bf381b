'use strict'

// Layout: what is where in a memory's reservation, and its drawing. It is data of one moment, and
// holds nothing of the memory but the regions.

const { inspect } = require('node:util')
const native = require('../platform/binding.js')
const { formatBytes } = require('../support/bytes.js')
const { makeError, callNative } = require('../support/errors.js')
const { ownOf } = require('../platform/intrinsics.js')
const { reservationOf } = require('../platform/reservation.js')
const { WASM_PAGE_BYTES, lengthOf, pageLimits } = require('../platform/v8.js')
const { nameOf } = require('../region/host-region.js')
const { regionOf } = require('../memory/entry.js')
const { live } = require('../memory/faults.js')

const MAKE = Symbol('make')
const BAR_COLUMNS = 72

// One for each kind, in the bar and before each line.
const MARKS = { linear: '.', mapped: '#', adopted: '@', reserved: '-', guard: 'x' }

class Layout {
  #ranges

  constructor(make, ranges) {
    if (make !== MAKE) {
      throw makeError(
        'ERR_ILLEGAL_CONSTRUCTOR',
        'Layout has no public constructor: use GuardedMemory.layout'
      )
    }
    this.#ranges = Object.freeze(ranges.map(range => Object.freeze(range)))
  }

  get ranges() {
    return this.#ranges
  }

  [Symbol.iterator]() {
    return this.#ranges[Symbol.iterator]()
  }

  toString() {
    const lines = this.#ranges.map(line)
    return [`|${bar(this.#ranges)}|`, ...lines].join('\n')
  }

  [inspect.custom]() {
    if (!(#ranges in this)) return 'Layout {}'
    return this.toString()
  }
}

// The bar is not to scale: a guard of gigabytes would leave no room for the rest. Each range has a
// column, and the others go by the logarithm of its size.
function bar(ranges) {
  // Where there are more ranges than columns, those in the middle are left out.
  const most = BAR_COLUMNS / 2
  const shown =
    ranges.length <= BAR_COLUMNS ? ranges : [...ranges.slice(0, most), ...ranges.slice(-most)]
  const weights = shown.map(({ start, end }) => Math.log2((end - start) / 1024 + 1))
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  const spare = BAR_COLUMNS - shown.length
  return shown
    .map(({ kind }, i) => MARKS[kind].repeat(1 + Math.floor((weights[i] / total) * spare)))
    .join('')
}

function line({ kind, start, end, access, region, byteOffset, windowBytes }) {
  const isOurs = kind === 'mapped' || kind === 'adopted'
  const what = isOurs ? access : access === 'none' ? 'inaccessible' : 'read-write'
  const from =
    kind !== 'mapped'
      ? ''
      : windowBytes === 0
        ? '  an empty window'
        : region === null
          ? '  by another thread'
          : `  ${printable(nameOf(region))} from ${hex(byteOffset)}`
  const head = `${MARKS[kind]} ${kind.padEnd(8)} ${hex(start).padStart(12)} - ${hex(end).padStart(12)} ${formatBytes(end - start).padStart(9)}`
  const shows = windowBytes > 0 ? `, a window that shows ${formatBytes(windowBytes)}` : ''
  return `${head}  ${what}${from}${shows}`
}

// A file's name may hold anything.
const printable = name => name.replace(/[\p{Cc}\p{Cf}]/gu, '?')

const hex = bytes => (bytes < 0 ? `-0x${(-bytes).toString(16)}` : `0x${bytes.toString(16)}`)

/** As GuardedMemory.layout. */
function layoutOf(linear) {
  const array = linear.currentTo(Infinity)
  callNative(() => native.sync(linear.table.handle, array))
  const mine = live(linear)
  const entries = callNative(() => native.entries(linear.table.handle))
  const reservation = callNative(() => reservationOf(linear.address))
  const maximum = linear.maximum ?? (pageLimits()[linear.address] || Infinity)
  return makeLayout({
    byteLength: lengthOf(array),
    maximumBytes: maximum * WASM_PAGE_BYTES,
    // Without guards the reservation depends on the memory's maximum, and nothing is known of it.
    belowBytes: (linear.guarded && reservation?.belowBytes) || 0,
    aboveBytes: (linear.guarded && reservation?.aboveBytes) || lengthOf(array),
    mappings: entries.map(it => {
      const { start, end, access, byteOffset } = it
      const entry = mine.get(start)
      const region = entry === undefined ? null : regionOf(entry)
      const windowBytes = ownOf(it, 'shownBytes')
      const kind = entry?.request.adopted === undefined ? 'mapped' : 'adopted'
      return { kind, start, end, access, region, byteOffset, windowBytes }
    })
  })
}

/** The ranges of a reservation, from what is mapped and where it ends. */
function makeLayout({ byteLength, maximumBytes, belowBytes, aboveBytes, mappings }) {
  const ranges = []
  const add = (
    kind,
    start,
    end,
    access,
    region = null,
    byteOffset = 0,
    windowBytes = undefined
  ) => {
    if (start < end) ranges.push({ kind, start, end, access, region, byteOffset, windowBytes })
  }
  add('guard', -belowBytes, 0, 'none')
  let at = 0
  for (const { kind, start, end, access, region, byteOffset, windowBytes } of mappings) {
    add('linear', at, start, 'readwrite')
    add(kind, start, end, access, region, byteOffset, windowBytes)
    at = end
  }
  add('linear', at, byteLength, 'readwrite')
  const mayGrowTo = Math.max(byteLength, Math.min(maximumBytes, aboveBytes))
  add('reserved', byteLength, mayGrowTo, 'none')
  add('guard', mayGrowTo, aboveBytes, 'none')
  return new Layout(MAKE, ranges)
}

module.exports = { Layout, layoutOf }
