'use strict'

// Errors that may be anybody's: what a function of the user's threw, say. No getter or Proxy of
// theirs is called.

const { types } = require('node:util')

const { getOwnPropertyDescriptor } = Object

/** Its own property of that name, if that is a value; undefined of what is no error. */
const ownOf = (error, key) =>
  types.isNativeError(error) ? getOwnPropertyDescriptor(error, key)?.value : undefined

/** V8 makes messages as properties of the error's own. */
function messageOf(error) {
  const message = ownOf(error, 'message')
  return typeof message === 'string' ? message : ''
}

module.exports = { ownOf, messageOf }
