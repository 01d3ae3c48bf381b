'use strict'

// Which kind of error V8 threw, by its class: a script may have changed what names and messages
// say, the classes that V8 makes errors of it can't.

const { types } = require('node:util')
const { globals } = require('./intrinsics.js')

const { getPrototypeOf } = Object

function classOfThrown(call) {
  try {
    call()
  } catch (error) {
    return getPrototypeOf(error)
  }
  return undefined
}

/** Of this realm, or of the one whose functions are called where ours were changed. */
const isOneOf = (...classes) => {
  return error => types.isNativeError(error) && classes.includes(getPrototypeOf(error))
}

module.exports = {
  classOfThrown,
  isOneOf,
  isRangeError: isOneOf(
    classOfThrown(() => 2n ** -1n),
    globals.RangeError.prototype
  ),
  isTypeError: isOneOf(
    classOfThrown(() => null.none),
    globals.TypeError.prototype
  )
}
