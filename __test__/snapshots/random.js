'use strict'

/** Random numbers that a seed repeats: mulberry32, with what patterns choose by. */
class Random {
  #state

  constructor(seed) {
    this.#state = seed >>> 0
  }

  word() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let z = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61)
    return (z ^ (z >>> 14)) >>> 0
  }

  below(end) {
    return this.word() % end
  }

  /** 1 to `most`, small ones as often as large ones. */
  sizeUpTo(most) {
    return Math.max(1, Math.min(most, Math.round(most ** (this.word() / 2 ** 32))))
  }

  oneIn(times) {
    return this.below(times) === 0
  }

  pick(list) {
    return list[this.below(list.length)]
  }

  long() {
    return (BigInt(this.word()) << 32n) | BigInt(this.word())
  }
}

module.exports = { Random }
