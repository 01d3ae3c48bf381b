'use strict'

// Who reads one chunk after another, and how much of what follows is wanted before it is touched.
// Nothing here knows chunks' bytes or waits for anything.
//
// Chunks that are here are touched without a word. So of each part that is read ahead the first
// chunk is fetched like the others, and held back: its touch tells that the reader is there, and
// costs no request. The next part is asked for then, while the reader goes through this one:
//
//   here already        held back     read ahead               wanted at the touch of M
//   ──────────────────▷ M ─────────────────────────────────▷   M' ──────────────────────────▷

// Readers of one region at a time whose places are remembered: threads, cursors, columns.
const MOST_READERS = 8
const FIRST_WINDOW = 2

class ReadAhead {
  #most
  #chunkCount
  // `from` is where what was asked for last begins for a reader, `next` what follows it, to be held
  // back, and `end` the end of all that was asked for. The one that moved last is the last.
  #readers = []

  /** `most`: chunks read ahead of one reader at a time; 0 for none. */
  constructor(most, chunkCount) {
    this.#most = most
    this.#chunkCount = chunkCount
  }

  /**
   * Chunks that were missing were touched, or asked for. Gives the part to read ahead now, `{
   * first, last }`, or undefined. `first` is to be held back: see `isHeld`.
   */
  touched(first, last = first) {
    if (this.#most === 0) return undefined
    const index = this.#readers.findIndex(({ from, end }) => first >= from && first <= end)
    if (index < 0) {
      if (this.#readers.length === MOST_READERS) this.#readers.shift()
      this.#readers.push({ from: first, next: last + 1, end: last + 1, window: 0 })
      return undefined
    }
    const [reader] = this.#readers.splice(index, 1)
    this.#readers.push(reader)
    // It waits for what was asked for already, and is under way.
    if (last < reader.next) return undefined
    reader.window = Math.min(this.#most, Math.max(FIRST_WINDOW, reader.window * 2))
    reader.from = reader.next
    reader.next = Math.max(reader.end, last + 1)
    reader.end = Math.min(this.#chunkCount, reader.next + reader.window)
    return reader.next < reader.end ? { first: reader.next, last: reader.end - 1 } : undefined
  }

  /** Whether a chunk is not to be shown before it is touched. */
  isHeld(chunk) {
    return this.#readers.some(({ next, end }) => next === chunk && next < end)
  }
}

module.exports = { ReadAhead }
