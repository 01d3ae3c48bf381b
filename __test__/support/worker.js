'use strict'

// A worker that runs functions for a test, one after the other, and keeps what they put into
// `state`.

const { Worker, isMainThread, parentPort } = require('node:worker_threads')

class TestWorker {
  #worker = new Worker(__filename)
  #answers = []
  #exit

  constructor() {
    this.#exit = new Promise((resolve, reject) =>
      this.#worker.once('exit', resolve).once('error', reject)
    )
    this.#worker.on('message', ({ result, error }) => {
      const { resolve, reject } = this.#answers.shift()
      if (error) reject(Object.assign(new Error(error.message), error))
      else resolve(result)
    })
  }

  /**
   * Runs `body({ state, hostmap, probe, failure, ... }, args)` there. The function is sent as text.
   */
  run(body, args) {
    this.#worker.postMessage({ body: String(body), args })
    return new Promise((resolve, reject) => this.#answers.push({ resolve, reject }))
  }

  /** Ends the thread, and everything in it. */
  async end() {
    await this.#worker.terminate()
    await this.#exit
  }
}

function serve() {
  const state = {}
  const support = {
    state,
    require,
    hostmap: require('../..'),
    async failure(call) {
      try {
        await call()
        return null
      } catch ({ name, code, message }) {
        return { name, code, message }
      }
    },
    ...require('./procfs'),
    ...require('./watch-warnings'),
    ...require('./wasm')
  }
  parentPort.on('message', async ({ body, args }) => {
    try {
      parentPort.postMessage({ result: await (0, eval)(`(${body})`)(support, args) })
    } catch ({ name, code, message, stack }) {
      parentPort.postMessage({ error: { name, code, message, stack } })
    }
  })
}

if (isMainThread) module.exports = { TestWorker }
else serve()
