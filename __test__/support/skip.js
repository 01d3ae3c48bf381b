'use strict'

// Tests that not every system can run. A skipped one says why in its name.

/**
 * `{ test, describe }` that run where `condition` holds. Elsewhere they skip, with the reason in
 * the name: "maps above 4 GiB (skipped: needs 64-bit memories)".
 *
 * @param reason what the test needs, as in "needs 64-bit memories"
 */
function skipUnless(reason, condition) {
  if (condition) return { test, describe }
  const named = name => `${name} (skipped: ${reason})`
  const skipped = original => {
    const skip = (name, ...rest) => original.skip(named(name), ...rest)
    skip.each =
      (...table) =>
      (name, ...rest) =>
        original.skip.each(...table)(named(name), ...rest)
    return skip
  }
  return { test: skipped(test), describe: skipped(describe) }
}

module.exports = { skipUnless }
