'use strict'

// The ground on which each cell of the matrix plays: a memory with a region of four pages in it.
//
//   0        at            edge           target                        MINIMUM Wasm pages
//   | S  D   | page 0      | page 1       | page 2      | page 3        |
//              |<------------------ the region -------------------------->|
//   S: 64 bytes to write from, D: room to copy to. A file that shrinks keeps page 0 alone.

const { noise: makeNoise } = require('../support/files')
const { limits } = require('../..')

const pageBytes = limits().pageSize
const PAGES = 4
const regionBytes = PAGES * pageBytes

const at = 3 * 65536
const edge = at + pageBytes
// In the middle of a page, so that what is next to it can be told from what is in another page.
const target = at + 2 * pageBytes + 1024
const LENGTH = 64

const SOURCE_AT = 1024
const SCRATCH_AT = 2048

// In Wasm pages, and enough for host pages of 64 KiB. Addresses below MINIMUM can be constants in
// code.
const MINIMUM = 8
const MAXIMUM = 16

const MEMORIES = {
  i32: { address: 'i32', shared: false },
  shared: { address: 'i32', shared: true },
  i64: { address: 'i64', shared: false }
}

// A seed by which the numbers at the target, of every type, are neither so large nor so small that
// 49 more is no change.
const noise = makeNoise(regionBytes, 689)

/** What the file has when it has shrunk. */
const shrunk = Buffer.concat([noise.subarray(0, pageBytes), Buffer.alloc(regionBytes - pageBytes)])

/** 64 bytes that are nowhere else, and that are text too. */
const SOURCE = Buffer.from('0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_')

/** What is stored: no NaN as an f32 or f64, so that every bit stays. */
const VALUE = 0x3172_6354_4536_2718n

module.exports = {
  pageBytes,
  PAGES,
  regionBytes,
  at,
  edge,
  target,
  LENGTH,
  SOURCE_AT,
  SCRATCH_AT,
  MINIMUM,
  MAXIMUM,
  MEMORIES,
  noise,
  shrunk,
  SOURCE,
  VALUE
}
