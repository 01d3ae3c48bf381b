'use strict'

// What an instance shows of its state, found once for each instance.

const check = require('../support/arguments.js')
const { makeError } = require('../support/errors.js')
const { wrongInstance } = require('../support/wrong.js')
const { reachable } = require('../instance/reachable.js')

// What each instance shows, by its exports, once found out.
const known = new WeakMap()

function foundIn(instance) {
  const exports = check.isObject(instance) ? instance.exports : undefined
  if (!check.isObject(exports)) {
    throw wrongInstance(instance)
  }
  let found = known.get(exports)
  if (found === undefined) {
    found = reachable(exports)
    if (found.memory === undefined) {
      throw makeError(
        'ERR_HOSTMAP_UNSUITABLE_MODULE',
        'the instance exports no memory; compile what exposeState makes of its module, or take a snapshot of its memory alone'
      )
    }
    known.set(exports, found)
  }
  return found
}

/** Notes what an instance shows whose exports were replaced since by some of them. */
function noteFound({ exports }, found) {
  known.set(exports, found)
}

module.exports = { foundIn, noteFound }
