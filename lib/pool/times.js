'use strict'

// How long restores took. `add` allocates nothing and calls nothing: it is part of a release, which
// may be at the end of the stack.

class RestoreTimes {
  #count = 0
  #last = 0
  #sum = 0
  #max = 0

  add(milliseconds) {
    this.#count += 1
    this.#last = milliseconds
    this.#sum += milliseconds
    if (milliseconds > this.#max) this.#max = milliseconds
  }

  /** As InstancePool.stats has them. */
  asStats() {
    const mean = this.#count === 0 ? 0 : this.#sum / this.#count
    return {
      restored: this.#count,
      restoreMicroseconds: {
        last: 1000 * this.#last,
        mean: 1000 * mean,
        max: 1000 * this.#max
      }
    }
  }
}

module.exports = { RestoreTimes }
