'use strict'

// What the package tells those who listen, by node:diagnostics_channel. A change is noted when it
// is made, and told when the call that made it has done all that it does: a listener may then call
// anything, map and unmap included, and finds nothing half done.
//
// Where nobody listens, an event costs the question whether somebody does. It is asked before the
// change: any call may fail where the stack ends, and after the change nothing may. If somebody
// does, there must be room then to note it.

const { channel } = require('node:diagnostics_channel')
const { performance } = require('node:perf_hooks')
const { roomOf, roomOnStack } = require('../support/stack.js')

// Taken now: fake timers would stop the clock.
const now = performance.now.bind(performance)

const named = name => channel(`wasm-hostmap:${name}`)

/** index.d.ts says what each of them carries. */
const channels = Object.freeze({
  fault: named('fault'),
  grow: named('grow'),
  map: named('map'),
  pool: named('pool'),
  region: named('region'),
  restore: named('restore'),
  slide: named('slide'),
  snapshot: named('snapshot'),
  unmap: named('unmap')
})

/** What was noted and not told yet: channels, and what each is to carry. */
const pending = []

// What is called first where the stack ends is compiled there, too.
const ROOM_TO_NOTE = roomOf(32 * 1024)
// A listener may write a line to a log, say.
const ROOM_FOR_LISTENERS = roomOf(64 * 1024)

const SETTLED = Promise.resolve()

/** In the place of a time, where nobody listens. */
const UNHEARD = -1

/** When a change begins, in milliseconds of performance.now(); UNHEARD if nobody listens. */
function begin(channel) {
  if (!channel.hasSubscribers) return UNHEARD
  roomOnStack(ROOM_TO_NOTE)
  return now()
}

/** A change that was made. `startTime`: what `begin` gave, which is not UNHEARD. */
function note(channel, startTime, message) {
  message.startTime = startTime
  message.duration = now() - startTime
  pending.push({ channel, message })
}

/**
 * Tells all that was noted. Called when a change is complete, and only if there is anything in
 * `pending`. What a listener throws, Node.js makes an uncaught exception of the next tick. That the
 * stack has no room for it is not its mistake, so then it is told soon.
 */
function tell() {
  try {
    while (pending.length > 0) {
      roomOnStack(ROOM_FOR_LISTENERS)
      const { channel, message } = pending.shift()
      channel.publish(message)
    }
  } catch {
    // The change is made, and the call must not fail for this.
    try {
      SETTLED.then(tell)
    } catch {
      // Then the next change tells of this one, too.
    }
  }
}

module.exports = { UNHEARD, begin, channels, note, pending, tell }
