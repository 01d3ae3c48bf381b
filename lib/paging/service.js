'use strict'

// The worker as the region's thread sees it: what it is asked, and what it answers. Nothing here
// holds a region, since the worker's events hold this.

const path = require('node:path')
const { Worker } = require('node:worker_threads')
const { abortError, makeError } = require('../support/errors.js')
const { errorOf, providerFailed, textOf } = require('./failure.js')

const FILE = path.join(__dirname, 'worker.js')

/** By whom messages are, of which a provider may post some of its own. */
const FROM = 'wasm-hostmap'

class Service {
  #worker
  #name
  #isServing = false
  #ended
  // What waits for an answer, by number; `open` is the opening, one step after the other.
  #asked = new Map()
  #last = 0

  constructor(name, workerData) {
    this.#name = name
    this.#worker = new Worker(FILE, { workerData, name: `wasm-hostmap: ${name}` })
    // Only what somebody waits for keeps the process.
    this.#worker.unref()
    this.#worker.on('message', message => this.#hear(message))
    this.#worker.on('error', error => this.#end(textOf(error)))
    this.#worker.on('exit', () => this.#end('it has ended'))
  }

  get isEnded() {
    return this.#ended !== undefined
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
      this.#worker.ref()
      signal?.addEventListener('abort', abort, { __proto__: null, once: true })
      if (message !== undefined) this.post({ ...message, id })
    })
  }

  post(message) {
    if (this.#ended === undefined) this.#worker.postMessage(message)
  }

  /** Resolves when the thread is gone. */
  async terminate() {
    await this.#worker.terminate()
  }

  /** Who waits is told that the region is closed; the thread ends by itself. */
  close() {
    this.#end('the region was closed')
  }

  #hear(message) {
    // What a provider posts by itself is nobody's.
    if (message?.from !== FROM) return
    const { type, id = 0, error, missing, ...said } = message
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
    this.#settle(id)
    this.#isServing ||= type === 'serving'
    if (error === undefined) asked.resolve(said)
    else asked.reject(errorOf(error))
  }

  #settle(id) {
    const asked = this.#asked.get(id)
    if (asked === undefined) return
    this.#asked.delete(id)
    asked.stop()
    if (this.#asked.size === 0) this.#worker.unref()
  }

  #end(why) {
    this.#ended ??= this.#isServing
      ? makeError(
          'ERR_HOSTMAP_PAGING_ENDED',
          `region "${this.#name}" is served no more: ${why}; chunks that are here stay, others are missing`
        )
      : providerFailed(`the provider's worker can't go on: ${why}`)
    for (const [id, { reject }] of [...this.#asked]) {
      this.#settle(id)
      reject(this.#ended)
    }
  }
}

module.exports = { Service, FROM }
