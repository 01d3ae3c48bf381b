'use strict'

// Timeline: which moments of a unit led to its state of now. A checkpoint marks, a restore returns.
// Registrations of finalizers say in which epoch they were made; those made in an epoch that a
// restore has left are of a state that is gone.

class Timeline {
  #now = new Epoch(undefined)
  /** How often it went back. */
  returns = 0

  /** The epoch of what is done now. */
  enter() {
    this.#now.isUsed = true
    return this.#now
  }

  /** What `returnTo` takes, to come back to this moment. */
  mark() {
    // An epoch in which nothing happened is none.
    const now = this.#now
    const mark = now.isUsed || now.parent === undefined ? now : now.parent
    this.#now = new Epoch(mark)
    return mark
  }

  returnTo(mark) {
    this.returns += 1
    this.#now = new Epoch(mark)
  }

  /** Leaves all states that the unit ever had: it is thrown away. */
  leave() {
    this.returnTo(new Epoch(undefined))
  }

  /** Whether the state of now has what was done in an epoch. */
  has(epoch) {
    let it = this.#now
    while (it.depth > epoch.depth) it = it.parent
    return it === epoch
  }
}

class Epoch {
  isUsed = false

  constructor(parent) {
    this.parent = parent
    this.depth = parent === undefined ? 0 : parent.depth + 1
  }
}

module.exports = { Timeline }
