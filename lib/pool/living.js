'use strict'

// The pools of this thread that somebody may hold, for who looks at them. A pool is made so seldom,
// and costs so much more, that the list costs nothing; it keeps no pool alive.

let pools = []
// How many there are when those that are gone are next looked for.
let sweepAt = 16

function noteLiving(pool) {
  if (pools.length >= sweepAt) {
    pools = pools.filter(it => it.deref() !== undefined)
    sweepAt = Math.max(16, pools.length * 2)
  }
  pools.push(new WeakRef(pool))
}

/** In the order in which they were made. */
const livingPools = () => pools.map(it => it.deref()).filter(it => it !== undefined)

module.exports = { noteLiving, livingPools }
