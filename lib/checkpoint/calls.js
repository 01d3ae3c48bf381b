'use strict'

// Whether WebAssembly is calling: below the function that asks, on this thread's stack.

const { makeError } = require('../support/errors.js')
const { lookAtCallers } = require('../platform/callers.js')

// Names of scripts of JavaScript. Most frames have one, and their text takes V8 some time.
const FILE = /^(\/|node:|file:)/
// The text of a frame of Wasm ends so. Its script's name need not say it: of a module that was
// compiled while it was streamed, and of all made of the same bytes since, that is the URL.
const WASM_FRAME = /:wasm-function\[\d+\]:0x[\da-f]+\)?$/

const isWasm = site =>
  !FILE.test(site.getScriptNameOrSourceURL?.() ?? '') && WASM_FRAME.test(String(site))

/** False, too, where the stack can't be asked. */
const isWasmCalling = () =>
  lookAtCallers(isWasmCalling, Infinity, sites => sites.some(isWasm)) ?? false

/** Refuses a state in which a call into the engine is not over. `calls`: see insideFrom. */
function checkCalls({ suspended }, when) {
  if (suspended > 0) {
    throw callPending(
      `${suspended === 1 ? 'a call' : `${suspended} calls`} into it ${suspended === 1 ? 'is' : 'are'} suspended, and would go on in another state; let them end before ${when}`
    )
  }
  if (isWasmCalling()) {
    throw callPending(
      `WebAssembly is running: it has called the function in which ${when}; do it after that call has returned`
    )
  }
}

const callPending = message => makeError('ERR_HOSTMAP_CALL_PENDING', message)

module.exports = { checkCalls }
