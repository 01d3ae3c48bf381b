'use strict'

// Questions to the thread that serves a region, in this process or another, and its answers.
// Nothing here holds a region, since the events of what it asks by hold this.

const { abortError, makeError } = require('../support/errors.js')
const { errorOf } = require('./failure.js')

class Asking {
  #channel
  #ended
  // What waits for an answer, by number; 0 is the opening, one step after the other.
  #asked = new Map()
  #last = 0

  /** `channel`: `post` sends a message, `ref` and `unref` say whether the process waits for it. */
  constructor(channel) {
    this.#channel = channel
  }

  /** `what` is being done, for the error when the signal ends it. */
  ask(message, { signal, what, onMissing } = {}) {
    if (signal?.aborted) return Promise.reject(abortError(signal, what))
    if (this.#ended !== undefined) return Promise.reject(this.#ended)
    return new Promise((resolve, reject) => {
      const id = message?.type === 'want' ? ++this.#last : 0
      const abort = () => {
        this.#settle(id)
        if (id !== 0) this.post({ type: 'drop', id })
        reject(abortError(signal, what))
      }
      const stop = () => signal?.removeEventListener('abort', abort)
      this.#asked.set(id, { resolve, reject, stop, onMissing })
      this.#channel.ref()
      signal?.addEventListener('abort', abort, { __proto__: null, once: true })
      if (message !== undefined) this.post({ ...message, id })
    })
  }

  post(message) {
    if (this.#ended === undefined) this.#channel.post(message)
  }

  hear({ type, id = 0, error, missing, ...said }) {
    const asked = this.#asked.get(id)
    // It was given up.
    if (asked === undefined) return
    if (type === 'progress') {
      try {
        asked.onMissing(missing)
      } catch (thrown) {
        this.#settle(id)
        this.post({ type: 'drop', id })
        asked.reject(thrown)
      }
      return
    }
    // Made first: what is no error throws, and who waits is told when the connection ends for it.
    const failed = error === undefined ? undefined : errorOf(error)
    this.#settle(id)
    if (failed === undefined) asked.resolve(said)
    else asked.reject(failed)
  }

  /** Who waits, and who asks from now on, gets the error. */
  end(error) {
    this.#ended ??= error
    for (const [id, { reject }] of [...this.#asked]) {
      this.#settle(id)
      reject(this.#ended)
    }
  }

  #settle(id) {
    const asked = this.#asked.get(id)
    if (asked === undefined) return
    this.#asked.delete(id)
    asked.stop()
    if (this.#asked.size === 0) this.#channel.unref()
  }
}

/** The error of a region that is served no more. */
function endedError(name, why) {
  return makeError(
    'ERR_HOSTMAP_PAGING_ENDED',
    `region "${name}" is served no more: ${why}; chunks that are here stay, others are missing`
  )
}

module.exports = { Asking, endedError }
