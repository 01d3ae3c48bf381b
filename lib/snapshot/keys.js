'use strict'

// Keys by which saved snapshots are authenticated. No message says a word of a key, and what is
// authenticated is a snapshot's own sealed pages: another process may change a file at any time.

const { createHmac, createSecretKey, timingSafeEqual } = require('node:crypto')
const { types } = require('node:util')
const check = require('../support/arguments.js')
const { makeError } = require('../support/errors.js')
const { wrongType, wrongValue } = require('../support/wrong.js')
const { bytes: checkBytes } = require('../platform/bytes.js')
const { Uint8Array } = require('../platform/intrinsics.js')
const { runTask } = require('../platform/task.js')

const MIN_KEY_BYTES = 16

/** A copy of it, since the caller may wipe or change the bytes before all is read. */
function secretKey(value, name) {
  if (check.isObject(value) && types.isKeyObject(value)) {
    if (value.type !== 'secret') throw wrongValue(name, 'a secret key', value)
    if (value.symmetricKeySize < MIN_KEY_BYTES) throw shortKey(name)
    return value
  }
  if (typeof value === 'string') {
    throw wrongType(
      name,
      'bytes or a secret KeyObject (Buffer.from(text, encoding) makes bytes)',
      '...'
    )
  }
  // Not a word of what it is: errors end in logs.
  if (!ArrayBuffer.isView(value) && !types.isAnyArrayBuffer(value)) {
    throw wrongType(name, 'an ArrayBuffer, a view of one, or a secret KeyObject', value)
  }
  if (value.byteLength < MIN_KEY_BYTES) throw shortKey(name)
  return createSecretKey(new Uint8Array(checkBytes(value, name)))
}

const shortKey = name =>
  makeError(
    'ERR_INVALID_ARG_VALUE',
    `${name} must have at least ${MIN_KEY_BYTES} bytes, and better 32 random ones`
  )

/**
 * The authentication code of a snapshot: of its own sealed pages, and not of a file that another
 * process may change meanwhile.
 */
async function macOf(held, key, what, signal) {
  const hmac = createHmac('sha256', key)
  let from = 0
  while (from !== undefined && from !== null) {
    const at = from
    const part = await runTask(task => held.part(task, at), what, signal)
    hmac.update(part.bytes)
    from = part.next
  }
  return hmac.digest()
}

/** Refuses what was not saved with this key, before anybody hears of what it says. */
async function authenticate(owner, key, what, signal, path) {
  const refuse = why =>
    makeError('ERR_HOSTMAP_SNAPSHOT_INVALID', `can't load a snapshot from ${path}: ${why}`)
  const held = owner.hold()
  try {
    const expected = owner.mac() ?? null
    if (expected === null) throw refuse('options.key is given, and it was saved without a key')
    if (!timingSafeEqual(await macOf(held, key, what, signal), expected)) {
      throw refuse('it was not saved with options.key, or it was altered since')
    }
  } catch (error) {
    owner.close()
    throw error
  } finally {
    held.release()
  }
}

module.exports = { secretKey, macOf, authenticate }
