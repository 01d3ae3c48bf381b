'use strict'

// Tests that repeat what goes wrong at random, or take long, do it a few times in `npm test`. The
// slow tests run them with all rounds: 09-rounds.slow.test.js.

const isThorough = process.env.HOSTMAP_TEST_ROUNDS === 'all'

/** How many rounds: `few` in `npm test`, and `all` in the slow tests. */
const rounds = (few, all) => (isThorough ? all : few)

module.exports = { rounds, isThorough }
