'use strict'

// Errors as a pool sees them: which a collection may mend, which say that the stack has ended, and
// those that it throws itself. An error may be the user's, so none of its getters is called.

const { types } = require('node:util')
const check = require('../support/arguments.js')
const { makeError } = require('../support/errors.js')
const { received } = require('../support/given.js')
const { isStackEnd: saysStackEnd } = require('../support/stack.js')
const { messageOf, ownOf } = require('../support/thrown.js')
const { isRangeError } = require('../platform/error-classes.js')

// What a collection may mend. src/diagnose.rs finds these causes, src/error/ gives their codes.
const NO_ROOM = new Set([
  'ERR_HOSTMAP_ADDRESS_SPACE',
  'ERR_HOSTMAP_RLIMIT_AS',
  'ERR_HOSTMAP_RLIMIT_DATA',
  'ERR_HOSTMAP_OVERCOMMIT',
  'ERR_HOSTMAP_MAP_COUNT',
  'ERR_HOSTMAP_MEMORY_REFUSED'
])

/** The end of the stack may come in any call where the caller is deep down. */
const isStackEnd = error => saysStackEnd(error) || saysStackEnd(ownOf(error, 'cause'))

/** Whether it may be mended by a collection of garbage, or by another turn of the event loop. */
const mayPass = error => NO_ROOM.has(ownOf(error, 'code')) || isStackEnd(error)

/** V8's words for a memory that it gets no address space for. */
const saysNoSpace = error => /allocate/.test(messageOf(error)) && isRangeError(error)

/**
 * What a pool keeps of what was thrown: an error, since anything may be thrown. Until its stack is
 * read, V8 holds the functions of that stack, and so a unit that is let go.
 */
function asFailure(thrown) {
  const failure =
    types.isNativeError(thrown) || messageIn(thrown)
      ? thrown
      : new Error(`what was thrown is no error: ${received(thrown)}`, { cause: thrown })
  for (let it = failure, i = 0; types.isNativeError(it) && i < MOST_CAUSES; i++) {
    readStack(it)
    it = ownOf(it, 'cause')
  }
  return failure
}

const MOST_CAUSES = 10

function readStack(error) {
  try {
    void error.stack
  } catch {
    // A script's own way to make stacks.
  }
}

function messageIn(thrown) {
  try {
    return check.isObject(thrown) && typeof thrown.message === 'string'
  } catch {
    // A getter or Proxy of the user's.
    return false
  }
}

/** Whether a call into a unit was on the stack, or suspended. */
const isCallPending = error => ownOf(error, 'code') === 'ERR_HOSTMAP_CALL_PENDING'

/** @param left see lib/request/ */
function requestPending({ kinds }) {
  const what = Object.entries(kinds)
    .map(([kind, count]) => `${count} ${kind}`)
    .join(', ')
  return makeError(
    'ERR_HOSTMAP_REQUEST_PENDING',
    `a request has left what is not over (${what}), and would go on in the state of another one; let the request await or cancel what it begins, or let options.pending say what is harmless`
  )
}

const unitTooLarge = (bytes, most) =>
  makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `the memories of the unit have ${bytes} bytes, which is more than options.maxMemoryBytes allows (${most}), and memories can't shrink; let init allocate and free as much as requests need, or allow more`
  )

const callsItself = () =>
  makeError(
    'ERR_HOSTMAP_CALL_PENDING',
    'make or init has asked for a unit of the pool that waits for what they make; let them use that, or another pool'
  )

const takenTwice = kind =>
  makeError(
    'ERR_HOSTMAP_UNSUITABLE_MODULE',
    `make gave a unit with a ${kind} that another unit of the pool has; let it make a new one in each call`
  )

const unsuitable = why =>
  makeError('ERR_HOSTMAP_UNSUITABLE_MODULE', `the module can't have a pool: ${why}`)

const poolClosed = () => makeError('ERR_HOSTMAP_POOL_CLOSED', 'the pool was closed; make a new one')

module.exports = {
  isStackEnd,
  mayPass,
  saysNoSpace,
  asFailure,
  isCallPending,
  requestPending,
  unitTooLarge,
  callsItself,
  takenTwice,
  unsuitable,
  poolClosed
}
