'use strict'

// The worker as the region's thread sees it: what it is asked, and what it answers. Nothing here
// holds a region, since the worker's events hold this.

const fs = require('node:fs')
const path = require('node:path')
const { MessageChannel, Worker } = require('node:worker_threads')
const { PACKAGE_ROOT } = require('../platform/place.js')
const { abortError, makeError } = require('../support/errors.js')
const { errorOf, providerFailed, textOf } = require('./failure.js')

// A bundle has no folder of this file's own.
const FILE = path.join(PACKAGE_ROOT, 'lib/paging/worker.js')

// The thread gives its provider a second to end in; one that never comes back is ended then.
const MOST_END_MS = 3000

class Service {
  #worker
  #port
  #name
  #isServing = false
  #ended
  // What waits for an answer, by number; `open` is the opening, one step after the other.
  #asked = new Map()
  #last = 0

  constructor(name, workerData) {
    if (!fs.existsSync(FILE)) throw notBeside()
    this.#name = name
    // Not the worker's own port: a provider's module, or what it loads, may use or close that.
    const { port1, port2: port } = new MessageChannel()
    this.#port = port1
    try {
      this.#worker = new Worker(FILE, {
        workerData: { ...workerData, port },
        transferList: [port],
        name: `wasm-hostmap: ${name}`
      })
    } catch (error) {
      port1.close()
      throw error
    }
    port1.on('message', message => this.#hear(message))
    // Only what somebody waits for keeps the process.
    port1.unref()
    this.#worker.unref()
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
    if (this.#ended === undefined) this.#port.postMessage(message)
  }

  /** Resolves when the thread is gone. */
  async terminate() {
    await this.#worker.terminate()
  }

  /** Who waits is told that the region is closed; the thread ends by itself, if it can. */
  close() {
    this.#end('the region was closed')
    const timer = setTimeout(() => this.#worker.terminate(), MOST_END_MS).unref()
    this.#worker.once('exit', () => clearTimeout(timer))
  }

  #hear({ type, id = 0, error, missing, ...said }) {
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
    this.#port.close()
    for (const [id, { reject }] of [...this.#asked]) {
      this.#settle(id)
      reject(this.#ended)
    }
  }
}

/** A bundle has the code of the package in a file of its own. */
const notBeside = () =>
  makeError(
    'ERR_HOSTMAP_LOAD_FAILED',
    `the worker thread of paged regions needs ${FILE}, which is not there: leave wasm-hostmap out of the bundle (external), see docs/bundlers.md`
  )

module.exports = { Service }
