'use strict'

// Warnings of a process or thread of a test's own. To show that something warns of nothing, cause
// another warning afterwards, wait for that one, and look at what came before.

/** `{ seen, until }`: the warnings so far, and a promise for when there are so many of them. */
function watchWarnings() {
  const seen = []
  let wake = () => {}
  process.on('warning', ({ name, code, message }) => {
    seen.push({ name, code, message })
    wake()
  })
  const until = async count => {
    while (seen.length < count) await new Promise(resolve => (wake = resolve))
    // What was reported together comes in the same turn.
    await new Promise(resolve => setImmediate(resolve))
    return seen
  }
  return { seen, until }
}

module.exports = { watchWarnings }
