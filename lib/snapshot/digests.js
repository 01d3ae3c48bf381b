'use strict'

// Which module an instance or a snapshot is of: the SHA-256 of the module's bytes, where they are
// known. A digest that is not known refuses nothing.

const { createHash } = require('node:crypto')
const { makeError } = require('../support/errors.js')
const { instead } = require('../support/given.js')
const { bytes: checkBytes } = require('../platform/bytes.js')

// Of the modules of instances, by their exports.
const digests = new WeakMap()

/** Remembers of which module an instance is. */
function noteDigest(instance, digest) {
  if (digest !== null) digests.set(instance.exports, digest)
}

/** That of an instance's module; null where it is not known. */
const digestOfInstance = ({ exports }) => digests.get(exports) ?? null

function digestOf(module, name = 'options.module') {
  return `sha256-${createHash('sha256')
    .update(checkBytes(module, name, instead.module))
    .digest('hex')}`
}

/**
 * Refuses a module that is not the one a snapshot was taken of, if the snapshot says which that
 * was.
 */
function checkDigest(expected, bytes, name) {
  if (expected !== null) checkSame(expected, digestOf(bytes, name), name)
}

function checkSame(expected, given, name) {
  if (expected === null || given === null || given === expected) return
  throw makeError(
    'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
    `the snapshot is one of another module: of ${expected}, and ${name} is ${given}; both must be of the same bytes, exposed or not`
  )
}

module.exports = { noteDigest, digestOfInstance, digestOf, checkDigest, checkSame }
