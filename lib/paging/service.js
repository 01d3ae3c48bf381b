'use strict'

// The worker as the region's thread sees it: what it is asked, and what it answers. Nothing here
// holds a region, since the worker's events hold this.

const fs = require('node:fs')
const path = require('node:path')
const { MessageChannel, Worker } = require('node:worker_threads')
const native = require('../platform/binding.js')
const { PACKAGE_ROOT } = require('../platform/place.js')
const { callNative, makeError } = require('../support/errors.js')
const { Asking, endedError } = require('./asking.js')
const { providerFailed, textOf } = require('./failure.js')

// A bundle has no folder of this file's own.
const FILE = path.join(PACKAGE_ROOT, 'lib/paging/worker.js')

// The thread gives its provider a second to end in; one that never comes back is ended then.
const MOST_END_MS = 3000

class Service {
  #worker
  #port
  #name
  #isServing = false
  #asking

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
    const worker = this.#worker
    this.#asking = new Asking({
      post: message => port1.postMessage(message),
      ref: () => worker.ref(),
      unref: () => worker.unref()
    })
    port1.on('message', message => {
      this.#isServing ||= message.type === 'serving'
      this.#asking.hear(message)
    })
    // Only what somebody waits for keeps the process.
    port1.unref()
    worker.unref()
    worker.on('error', error => this.#end(textOf(error)))
    worker.on('exit', () => this.#end('it has ended'))
  }

  ask(message, options) {
    return this.#asking.ask(message, options)
  }

  post(message) {
    this.#asking.post(message)
  }

  /** Chunks that are not to be evicted, and the opposite. */
  pin(pager, first, last) {
    callNative(() => native.pagerPin(pager, first, last))
  }

  unpin(pager, first, last) {
    callNative(() => native.pagerUnpin(pager, first, last))
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

  #end(why) {
    const error = this.#isServing
      ? endedError(this.#name, why)
      : providerFailed(`the provider's worker can't go on: ${why}`)
    this.#port.close()
    this.#asking.end(error)
  }
}

/** A bundle has the code of the package in a file of its own. */
const notBeside = () =>
  makeError(
    'ERR_HOSTMAP_LOAD_FAILED',
    `the worker thread of paged regions needs ${FILE}, which is not there: leave wasm-hostmap out of the bundle (external), see docs/bundlers.md`
  )

module.exports = { Service }
