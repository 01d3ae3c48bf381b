'use strict'

// What steps are made up of.

const fc = require('fast-check')
const { PAGE } = require('../world')

// What fits in a memory of a few Wasm pages several times, and has more pages than lose their
// protection one by one.
const MOST_BYTES = 75 * PAGE
const MOST = {
  regions: 6,
  views: 6,
  files: 3,
  memories: 3,
  publications: 5,
  paged: 1,
  shown: 6,
  holds: 4,
  mappings: 10,
  wasmPages: 24
}

const pick = fc.nat(0xffff)
const flag = fc.boolean()
/** Mostly null. */
const sometimes = (arbitrary, oneIn) =>
  fc.oneof({ weight: oneIn - 1, arbitrary: fc.constant(null) }, { weight: 1, arbitrary })
const rarely = fc.nat(9).map(n => n === 9)
const byteLength = fc.oneof(
  fc.constantFrom(1, PAGE - 1, PAGE, PAGE + 1, 16 * PAGE, 16 * PAGE + 1, MOST_BYTES),
  fc.integer({ min: 1, max: 3 * PAGE }),
  fc.integer({ min: 1, max: 3 * PAGE }),
  fc.integer({ min: 1, max: MOST_BYTES })
)
/** What a caller may give in the place of a whole number. */
const wrong = fc.constantFrom(-1, 0.5, NaN, Infinity, 2 ** 53, '1', null, true)
/** Undefined, a number that `sane` makes of it, or a wrong one. */
const number = fc.oneof(
  { weight: 10, arbitrary: fc.constant(undefined) },
  { weight: 20, arbitrary: pick.map(sane => ({ sane })) },
  { weight: 1, arbitrary: pick.map(odd => ({ odd })) },
  { weight: 1, arbitrary: wrong.map(wrong => ({ wrong })) }
)
/** Where in a memory: near something, or anywhere. */
const place = fc.record({
  anchor: fc.constantFrom(
    'mapping',
    'end of mapping',
    'end of file',
    'end of memory',
    'anywhere',
    'mapping',
    'end of what is shown'
  ),
  which: pick,
  page: pick,
  delta: fc.oneof(
    fc.integer({ min: -20, max: 20 }),
    fc.integer({ min: 0, max: 2 * PAGE }),
    fc.constant(0)
  )
})
const longLength = fc.oneof(fc.nat(100), fc.nat(3 * PAGE), fc.nat(40 * PAGE))
const value = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })

const choose = (list, which) => (list.length === 0 ? undefined : list[which % list.length])

/** A number of the caller's, from an argument as above: `odd` is any below twice `limit`. */
function numberFrom(argument, limit, sane) {
  if (argument === undefined) return undefined
  if ('wrong' in argument) return argument.wrong
  return 'odd' in argument ? argument.odd % (2 * limit + 2) : sane(argument.sane)
}

/** What is wrong with a number, if something is. */
function numberCodes(value, min, max, multipleOf = 1) {
  if (typeof value !== 'number') return ['ERR_INVALID_ARG_TYPE']
  if (!Number.isInteger(value) || value < min || value > max || value % multipleOf !== 0) {
    return ['ERR_OUT_OF_RANGE']
  }
  return []
}

const part = { offset: number, length: number }

/**
 * A part of a file, as `open`, `load` and `fromFd` take it: the options, and what is wrong with
 * them.
 */
function partOf(size, args, multipleOf) {
  const byteOffset = numberFrom(
    args.offset,
    size,
    sane => Math.floor((sane % size) / multipleOf) * multipleOf || 0
  )
  const codes = []
  if (byteOffset !== undefined) codes.push(...numberCodes(byteOffset, 0, size - 1, multipleOf))
  const start = codes.length > 0 || byteOffset === undefined ? 0 : byteOffset
  const rest = size - start
  const byteLength = numberFrom(args.length, rest, sane => 1 + (sane % rest) || 1)
  if (byteLength !== undefined) codes.push(...numberCodes(byteLength, 1, rest))
  if (size === 0) codes.push('ERR_HOSTMAP_EMPTY_FILE')
  return { byteOffset, byteLength, codes, start, length: byteLength ?? rest }
}

const showPart = ({ byteOffset, byteLength }) =>
  `byteOffset ${byteOffset}, byteLength ${byteLength}`

/**
 * A list of steps, and what adds to it: a name, how often it is to be chosen, its arguments, and
 * its plan.
 */
function newSteps() {
  const steps = []
  const step = (name, weight, args, plan) => steps.push({ name, weight, args, plan })
  return { steps, step }
}

module.exports = {
  newSteps,
  MOST,
  MOST_BYTES,
  pick,
  flag,
  sometimes,
  rarely,
  byteLength,
  wrong,
  number,
  part,
  place,
  longLength,
  value,
  choose,
  numberFrom,
  numberCodes,
  partOf,
  showPart
}
