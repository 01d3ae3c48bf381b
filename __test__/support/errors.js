'use strict'

const { isDeepStrictEqual } = require('node:util')
const procfs = require('./procfs')

/** Node's own codes for wrong arguments, and the class each comes with. */
const ARGUMENT_CODES = {
  ERR_INVALID_ARG_TYPE: ['TypeError'],
  ERR_INVALID_ARG_VALUE: ['TypeError', 'RangeError'],
  ERR_OUT_OF_RANGE: ['RangeError'],
  ERR_INVALID_FILE_URL_HOST: ['TypeError'],
  ERR_INVALID_FILE_URL_PATH: ['TypeError'],
  ERR_ILLEGAL_CONSTRUCTOR: ['TypeError'],
  ABORT_ERR: ['AbortError']
}

/** A message without the separators that Node puts into large numbers. */
const plain = message => message.replace(/(?<=\d)_(?=\d{3})/g, '')

/**
 * Checks an error: its code, the class that goes with it, and that the message says these things.
 *
 * @param expected.code a code, or several that are as good
 */
function expectError(error, { code, says = [], errno, syscall }) {
  const codes = [code].flat()
  if (!error || !codes.includes(error.code)) {
    throw Object.assign(
      new Error(`Expected an error with code ${codes.join(' or ')}, got ${describe(error)}`),
      {
        cause: error
      }
    )
  }
  expect(ARGUMENT_CODES[error.code] ?? ['Error']).toContain(error.name)
  for (const part of [says].flat()) expect(plain(error.message)).toMatch(part)
  // A sentence for people, not a code or a word.
  expect(error.message.split(/\s+/).length).toBeGreaterThan(3)
  if (errno !== undefined) expect(error.errno).toBe(errno)
  if (syscall !== undefined) expect(error.syscall).toMatch(syscall)
}

const describe = error => (error ? `${error.name} ${error.code}: ${error.message}` : 'no error')

/** What a call throws, or what its promise is rejected with; `null` where it does neither. */
function thrownBy(call) {
  let result
  try {
    result = call()
  } catch (error) {
    return error
  }
  if (typeof result?.then !== 'function') return null
  return result.then(
    () => null,
    error => error
  )
}

/** What a failed call could leave behind: descriptors, and mappings of files and memfds. */
function possessions() {
  return { files: procfs.openFiles(), mappings: procfs.linesOfFiles() }
}

/**
 * Checks that nothing was mapped or opened since. What other tests have left may be gone by now: it
 * was collected.
 */
function expectNothingNew(before) {
  const after = possessions()
  const newFiles = Object.entries(after.files).filter(([fd, file]) => before.files[fd] !== file)
  const newMappings = after.mappings.filter(mapping => !before.mappings.includes(mapping))
  expect({ newFiles, newMappings }).toEqual({ newFiles: [], newMappings: [] })
}

/** Runs a call that must fail, and checks the error and that nothing was mapped, opened or lost. */
async function expectFailure(call, expected) {
  for (let tries = 1; ; tries++) {
    const before = possessions()
    let error = thrownBy(call)
    // Without an await in between where the call is synchronous, so that nothing else can run.
    if (typeof error?.then === 'function') error = await error
    const after = possessions()
    expectError(error, expected)
    // What other tests have left may have been collected meanwhile. What the call itself leaves or
    // loses, it does each time.
    if (isDeepStrictEqual(after, before)) return
    if (tries === 10) expect(after).toEqual(before)
  }
}

module.exports = { expectError, expectFailure, expectNothingNew, possessions, thrownBy }
