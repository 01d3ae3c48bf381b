'use strict'

// Requests: what a piece of work with a unit has begun, and what of that may still call back. What
// is called back after a restore would find a memory in which nothing that it knows is there.

// Taken now: a request, or a test with a clock of its own, may put another one in its place.
const { setImmediate } = require('node:timers')
const { begin: replace, end: putBack } = require('../capture/replacements.js')
const { follow, unfollow, outstanding } = require('./outstanding.js')
const { RequestScope } = require('./scope.js')
const { roomOf, roomOnStack } = require('../support/stack.js')
const { outside, run } = require('../capture/scope.js')

// V8 compiles a function only where the stack has 40 KiB left (Node.js 20 to 26), and what begins
// and ends a request is compiled when the first one does.
const ROOM_TO_COMPILE = roomOf(44 * 1024)
let isCompiled = false
const makeRoom = () => roomOnStack(isCompiled ? undefined : ROOM_TO_COMPILE)

/**
 * Begins a request of a unit. What the request's code begins, and what that begins, is noted.
 *
 * - `run(fn)`: calls a function of the request, and gives what it gives
 * - `pending()`: undefined if nothing can call back any more; else `count`, and how many there are
 *   of each kind, in `kinds`: Node's names of async resources, PROMISE for functions that wait for
 *   a promise, SUSPENDED_CALL for calls into the unit's instances, STACK_OVERFLOW for what began at
 *   the end of the stack, where nothing can be noted
 * - `end()`: nothing more is noted or pending; to be called in the end, once or more often. Where
 *   the stack ends it throws, and has done nothing.
 *
 * @param inside of the unit: see insideFrom in lib/capture/unit.js
 */
function beginRequest(inside) {
  makeRoom()
  const scope = new RequestScope(inside)
  replace()
  try {
    follow(scope)
  } catch (error) {
    putBack()
    throw error
  }
  return {
    run: fn => run(scope, fn),
    pending: () => (scope.ended ? undefined : outstanding(scope)),
    end() {
      if (scope.ended) return
      makeRoom()
      scope.ended = true
      unfollow(scope)
      putBack()
      isCompiled = true
    }
  }
}

/**
 * Waits for one turn of the event loop, whole: what was closed is told so at a turn's end, after
 * setImmediate's functions are called. Throws where the stack ends, and never rejects: the wait
 * begins where the stack has room.
 */
const turn = () => outside(() => SETTLED.then(immediate).then(immediate))

const SETTLED = Promise.resolve()
const immediate = () => new Promise(resolve => setImmediate(resolve))

module.exports = { beginRequest, outside, turn }
