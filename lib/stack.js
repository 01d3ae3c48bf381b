'use strict'

// The end of the stack, which comes as a RangeError in whatever call finds no more room.

/**
 * Throws that RangeError here where there is no room for so many nested calls, so that what must be done as a whole does not
 * end in the middle. A frame of this function is about as large as those of the library.
 */
function roomOnStack(frames = ENOUGH) {
  return frames === 0 ? 0 : roomOnStack(frames - 1) + 1
}

// Several times as many as any call of the library nests, V8's and Node's own included.
const ENOUGH = 64

module.exports = { roomOnStack }
