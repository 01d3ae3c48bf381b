'use strict'

// Errors as a pool sees them: which a collection may mend, which say that the stack has ended, and
// those that it throws itself. An error may be the user's, so none of its getters is called.

const { types } = require('node:util')
const { makeError } = require('../support/errors.js')

const { getOwnPropertyDescriptor } = Object

// What a collection may mend. src/diagnose.rs finds these causes, src/error/ gives their codes.
const NO_ROOM = new Set([
  'ERR_HOSTMAP_ADDRESS_SPACE',
  'ERR_HOSTMAP_RLIMIT_AS',
  'ERR_HOSTMAP_OVERCOMMIT',
  'ERR_HOSTMAP_MAP_COUNT',
  'ERR_HOSTMAP_MEMORY_REFUSED'
])

// Of an error that may be the user's: no getter or Proxy of theirs is called.
const ownOf = (error, key) =>
  types.isNativeError(error) ? getOwnPropertyDescriptor(error, key)?.value : undefined
const messageOf = error => {
  const message = ownOf(error, 'message')
  return typeof message === 'string' ? message : ''
}

// V8's words for the end of the stack, which may come in any call where the caller is deep down.
// (Of a regular expression it makes a SyntaxError then, which ends in the same words.)
const saysStackEnd = error => messageOf(error).endsWith('Maximum call stack size exceeded')
const isStackEnd = error => saysStackEnd(error) || saysStackEnd(ownOf(error, 'cause'))

/** Whether it may be mended by a collection of garbage, or by another turn of the event loop. */
const mayPass = error => NO_ROOM.has(ownOf(error, 'code')) || isStackEnd(error)

/** V8's words for a memory that it gets no address space for. */
const saysNoSpace = error => /allocate/.test(messageOf(error)) && error.name === 'RangeError'

const unsuitable = why =>
  makeError('ERR_HOSTMAP_UNSUITABLE_MODULE', `the module can't have a pool: ${why}`)

const poolClosed = () => makeError('ERR_HOSTMAP_POOL_CLOSED', 'the pool was closed; make a new one')

module.exports = { isStackEnd, mayPass, saysNoSpace, unsuitable, poolClosed }
