'use strict'

// What listeners are told of pools: see lib/observe/events.js. Nothing here changes a pool.

const { UNHEARD, begin, channels, note } = require('../observe/events.js')

const { pool: pools } = channels

/** Before a step. */
const beginStep = () => begin(pools)

/**
 * A step that was made, and heard.
 *
 * @param failure why an instance was discarded; null where its user did it
 */
function noteStep(pool, action, startTime, failure = null) {
  note(pools, startTime, { action, pool, failure })
}

module.exports = { UNHEARD, beginStep, noteStep }
