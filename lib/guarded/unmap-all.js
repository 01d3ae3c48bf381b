'use strict'

// Unmaps all that this thread has in a memory. Each mapping and window does it by itself; one that
// fails keeps no other from being unmapped.

const { live } = require('../memory/faults.js')

/** As GuardedMemory[Symbol.dispose]. */
function unmapAll(linear) {
  let failed = false
  let first
  // The last made comes first, as a stack of `using` declarations would do it.
  for (const { object } of [...live(linear).values()].sort((a, b) => b.id - a.id)) {
    try {
      object.unmap()
    } catch (error) {
      if (!failed) first = error
      failed = true
    }
  }
  if (failed) throw first
}

module.exports = { unmapAll }
