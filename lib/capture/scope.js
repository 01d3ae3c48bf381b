'use strict'

// Whose code runs: the async context tells what a capture or a request has begun from all else. A
// scope is one of those: see CaptureContext, and RequestScope in lib/request/.

const { AsyncLocalStorage } = require('node:async_hooks')

// Its own methods, as they are now, whatever scripts make of its class later.
const { getStore, run: runIn, disable } = AsyncLocalStorage.prototype
const storage = Object.assign(new AsyncLocalStorage(), { getStore, run: runIn, disable })

// How many scopes follow contexts.
let following = 0

/**
 * @typedef Scope
 * @property parent the scope in which this one began; undefined if there was none
 * @property ended whether it is over, though what began in it may still call back
 * @property timeline the Timeline of its unit
 * @property calls how many calls into its unit are suspended, in `suspended`
 */

/** The scope of the code that runs now; undefined if it has none. */
const scope = () => storage.getStore() ?? undefined

/** The innermost scope that is not over, from one outward. */
function living(from) {
  let it = from
  while (it !== undefined && it.ended) it = it.parent
  return it
}

function run(inner, fn) {
  return storage.run(inner, fn)
}

/** Calls a function in no scope: what it begins is none of a capture's or request's. */
const outside = fn => storage.run(undefined, fn)

/**
 * Contexts are followed from now on. On Node.js 20 and 22 that costs, so they are not where nobody
 * needs it, and what began before is of no scope.
 */
function follow() {
  // Any run of another store than the one that is there switches it on.
  if (following === 0) storage.run(null, () => {})
  following += 1
}

/** To be called as often, in the end. */
function unfollow() {
  following -= 1
  if (following === 0) storage.disable()
}

module.exports = { scope, living, run, outside, follow, unfollow }
