'use strict'

// The other end of child.js.

const assert = require('node:assert/strict')

const support = {
  assert,
  hostmap: require('../..'),
  /** What `--expose-gc` gives, till nothing more is found and the finalizers have run. */
  async collect(rounds = 4) {
    for (let i = 0; i < rounds; i++) {
      globalThis.gc()
      await new Promise(resolve => setImmediate(resolve))
    }
  },
  /** What an error says of itself; `null` where nothing was thrown. */
  async failure(call) {
    try {
      await call()
      return null
    } catch (error) {
      const { name, code, errno, syscall, message } = error
      return { name, code, errno, syscall, message }
    }
  },
  ...require('./procfs'),
  ...require('./watch-warnings'),
  ...require('./wasm')
}

const [text, args] = process.argv.slice(2)
const body = (0, eval)(`(${text})`)

Promise.resolve(body({ ...support, require, args: JSON.parse(args) })).then(
  result => process.stdout.write(`\n${JSON.stringify(result ?? null)}\n`),
  error => {
    console.error(error)
    // Workers and timers of a body that failed would keep the process, and the test waits for its
    // end.
    process.exit(1)
  }
)
