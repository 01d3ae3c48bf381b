'use strict'

// The end of the stack, which comes as a RangeError in whatever call finds no more room.

const { types } = require('node:util')

/**
 * Throws that RangeError here where there is no room for so many nested calls, so that what must be
 * done as a whole does not end in the middle. A frame of this function is about as large as those
 * of the library.
 */
function roomOnStack(frames = ENOUGH) {
  return frames === 0 ? 0 : roomOnStack(frames - 1) + 1
}

// Several times as many as any call of the library nests, V8's and Node's own included.
const ENOUGH = 64

/**
 * Whether that is what was thrown. Where V8 was compiling a regular expression, it is a SyntaxError
 * that ends so.
 */
const isStackEnd = error =>
  types.isNativeError(error) && String(error.message).endsWith('Maximum call stack size exceeded')

module.exports = { isStackEnd, roomOnStack }
