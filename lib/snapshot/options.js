'use strict'

// Options that captures, restores and loads have in common, each checked here and nowhere else.

const check = require('../support/arguments.js')
const { makeError } = require('../support/errors.js')
const { secretKey } = require('./keys.js')
const { digestOf } = require('./digests.js')

const DEFAULT_KEEP_RESIDENT_BYTES = 512 * 1024

/** Refuses to work on a shared memory whose caller does not promise to be alone in it. */
function mustBeAlone(linear, what, exclusive) {
  if (exclusive !== undefined) check.boolean(exclusive, 'options.exclusive')
  if (linear.shared && exclusive !== true) {
    throw makeError(
      'ERR_HOSTMAP_SHARED_MEMORY',
      `the memory is shared, and ${what} must have it alone; pass exclusive: true to promise that no other thread is in it until the call returns`
    )
  }
}

function loadOptions(given) {
  const {
    module,
    regions,
    key,
    signal,
    keepResidentBytes = DEFAULT_KEEP_RESIDENT_BYTES,
    hugePages = true
  } = given
  check.optional(regions, check.callback, 'options.regions')
  check.optional(signal, check.abortSignal, 'options.signal')
  check.wholeNumber(keepResidentBytes, 'options.keepResidentBytes')
  check.boolean(hugePages, 'options.hugePages')
  return {
    moduleDigest: module === undefined ? undefined : digestOf(module),
    regions,
    key: check.optional(key, secretKey, 'options.key'),
    signal,
    keepResidentBytes,
    hugePages
  }
}

function openOptions({ verify = false, ...given }) {
  check.boolean(verify, 'options.verify')
  return { ...loadOptions(given), verify }
}

module.exports = { DEFAULT_KEEP_RESIDENT_BYTES, mustBeAlone, loadOptions, openOptions }
