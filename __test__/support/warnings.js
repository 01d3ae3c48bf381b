'use strict'

// The package's warnings in jest's own processes. None is printed. A test that brings one about
// takes it; one that nobody takes fails its test. jest loads this file before each suite.

const untaken = []
const waiting = []
let collected

const emitWarning = process.emitWarning
process.emitWarning = (text, options, ...rest) => {
  if (options?.type !== 'HostmapWarning') {
    return emitWarning.call(process, text, options, ...rest)
  }
  const warning = { code: options.code, message: text }
  const first = waiting.shift()
  if (collected) collected.push(warning)
  else if (first) first(warning)
  else untaken.push(warning)
}

/** The next warning: `{ code, message }`. It comes in a later turn of the event loop. */
const nextWarning = () =>
  untaken.length > 0
    ? Promise.resolve(untaken.shift())
    : new Promise(resolve => waiting.push(resolve))

/**
 * All warnings of this suite, from now on. For suites that can't say which test brings one about,
 * and look at the list in the end.
 */
const collectWarnings = () => (collected ??= [])

afterEach(() => {
  waiting.length = 0
  // A warning comes after its cause: a late one may be of the test before.
  const left = untaken.splice(0)
  if (left.length > 0) {
    throw new Error(`Nobody expected these warnings:\n${left.map(it => it.message).join('\n')}`)
  }
})

module.exports = { collectWarnings, nextWarning }
