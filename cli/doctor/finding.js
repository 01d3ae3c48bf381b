'use strict'

// What a check finds, and the words that several checks need.
//
// good     nothing is lost here
// slower   everything works, and something takes longer or more, as `cost` says
// missing  something does not work, as `cost` says; `breaks` if that is the package as a whole, or
//          a promise that programs rely on for their lives
// unknown  it could not be found out

const VERDICTS = ['missing', 'slower', 'unknown', 'good']

const good = (found, values = {}) => ({
  verdict: 'good',
  breaks: false,
  found,
  cost: null,
  mend: null,
  values
})

/** `mend`: `{ command }`, `{ advice }`, or both; none where nothing on this machine mends it. */
function problem(verdict, found, cost, mend, { breaks = false, values = {} } = {}) {
  const { command = null, advice = null } = mend ?? {}
  return { verdict, breaks, found, cost, mend: { command, advice }, values }
}

const slower = (found, cost, mend, more) => problem('slower', found, cost, mend, more)
const missing = (found, cost, mend, more) => problem('missing', found, cost, mend, more)
const breaking = (found, cost, mend, more) =>
  problem('missing', found, cost, mend, { ...more, breaks: true })

const unknown = (found, values = {}) => ({
  verdict: 'unknown',
  breaks: false,
  found,
  cost: null,
  mend: null,
  values
})

/** What takes the native part, or `limits()`, where that can't be had. */
function notAsked({ loadError, limitsError }) {
  if (loadError !== null) return unknown('not asked: the native part has to load first')
  return unknown(limitsError === null ? 'not known' : `not known: ${limitsError.code}`)
}

const HIDDEN = "not known: /proc can't be read here"

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB']

/** A size in words, such as `9.5 GiB`. */
function size(bytes) {
  if (bytes === Infinity) return 'unlimited'
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024
    unit++
  }
  const digits = value < 10 && unit > 0 ? 1 : 0
  return `${Number(value.toFixed(digits))} ${UNITS[unit]}`
}

const count = number => number.toLocaleString('en')

/** The first line of what an error says, after its code if it has one. */
function errorInWords(error) {
  const [line] = String(error?.message ?? error).split('\n', 1)
  return error?.code ? `${error.code}: ${line}` : line
}

module.exports = {
  VERDICTS,
  HIDDEN,
  notAsked,
  good,
  slower,
  missing,
  breaking,
  unknown,
  size,
  count,
  errorInWords
}
