'use strict'

// RequestScope: what is known of one request while it runs.

const { living, scope } = require('../capture/scope.js')

/** See Scope in lib/capture/scope.js. */
class RequestScope {
  parent = living(scope())
  /** The request of another unit in which this one runs, if any: what begins here is its, too. */
  outer = requestIn(this.parent)
  ended = false
  timeline
  calls
  /** How much had been missed when it began: see outstanding.js. */
  missed = 0
  /** How many reactions to promises have not run. */
  reactions = 0
  /** How many other things that call back once have not. */
  oneShots = 0
  /** What is looked at to see whether it may call back: `id`, `type`, `resource` of each. */
  watched = []
  /** With how many of those the list is cleaned. */
  most = 64

  constructor({ timeline, calls }) {
    this.timeline = timeline
    this.calls = calls
  }
}

/** The innermost request that is not over, from a scope outward. */
function requestIn(from) {
  let it = living(from)
  while (it !== undefined && !(it instanceof RequestScope)) it = living(it.parent)
  return it
}

module.exports = { RequestScope, requestIn }
