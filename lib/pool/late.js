'use strict'

// A unit whose release takes its time: options.after may wait for long, even for another unit of
// the same pool. Those who wait for one do so for a moment, and are served otherwise then.

const { clearTimeout, setTimeout } = require('node:timers')
const { outside } = require('./outside.js')

/** For how long those who wait do so for a unit that was released, if another one may be booted. */
const SOON_MS = 100

/**
 * Gives a promise of when it is over.
 *
 * @param settled a promise that never rejects
 * @param onLate is called if it is not over soon
 * @param onOver is called with what the promise gave, and whether `onLate` was called
 */
function follow(settled, onLate, onOver) {
  let isLate = false
  let timer
  const over = settled.then(it => {
    clearTimeout(timer)
    onOver(it, isLate)
  })
  const giveUp = () => {
    isLate = true
    onLate()
  }
  try {
    timer = outside(() => setTimeout(giveUp, SOON_MS))
  } catch {
    // The stack has ended: then they wait for as long as it takes.
  }
  return over
}

module.exports = { follow }
