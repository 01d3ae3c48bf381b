'use strict'

// The end of the stack, which comes as a RangeError in whatever call finds no more room.

const { messageOf } = require('./thrown.js')

// Taken now, like those of v8.js.
const { apply } = Reflect

const nothing = () => {}

/** What `roomOnStack` takes for so much room. */
const roomOf = bytes => new Array(bytes / WORD_BYTES).fill(0)

// Each argument of a call takes one.
const WORD_BYTES = 8

// Several times as much as any call of the library takes, V8's and Node's own included.
const ENOUGH = roomOf(8 * 1024)

/**
 * Throws that RangeError here where the stack has less room, so that what must be done as a whole
 * does not end in the middle. The room is taken by arguments, since frames have another size as
 * soon as V8 has optimized their function. Costs 0.1 us for each KiB.
 */
function roomOnStack(room = ENOUGH) {
  apply(nothing, undefined, room)
}

/**
 * Whether that is what was thrown. Where V8 was compiling a regular expression, it is a SyntaxError
 * that ends so.
 */
const isStackEnd = error => messageOf(error).endsWith('Maximum call stack size exceeded')

module.exports = { isStackEnd, roomOf, roomOnStack }
