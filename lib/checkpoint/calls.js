'use strict'

// Whether WebAssembly is calling: below the function that asks, on this thread's stack. What V8
// tells of that is the stack of an error.

const { getOwnPropertyDescriptor } = require('../platform/intrinsics.js')

// As they are now; a script may replace what makes the text of stacks, so that is put back.
const { captureStackTrace } = Error
const { defineProperty } = Reflect

const FORMAT = 'prepareStackTrace'
const LIMIT = 'stackTraceLimit'

// Names of scripts of JavaScript. Most frames have one, and their text takes V8 some time.
const FILE = /^(\/|node:|file:)/
// The text of a frame of Wasm ends so. Its script's name need not say it: of a module that was
// compiled while it was streamed, and of all made of the same bytes since, that is the URL.
const WASM_FRAME = /:wasm-function\[\d+\]:0x[\da-f]+\)?$/

const isWasm = site =>
  !FILE.test(site.getScriptNameOrSourceURL?.() ?? '') && WASM_FRAME.test(String(site))

/** False, too, where a script has made it impossible to ask: where Error is frozen. */
function isWasmCalling() {
  const format = getOwnPropertyDescriptor(Error, FORMAT)
  const limit = getOwnPropertyDescriptor(Error, LIMIT)
  let found = false
  const look = (error, sites) => {
    found = sites.some(isWasm)
    return ''
  }
  try {
    if (!set(FORMAT, look) || !set(LIMIT, Infinity)) return false
    const asked = {}
    captureStackTrace(asked, isWasmCalling)
    // Only now does V8 call what formats it.
    void asked.stack
    return found
  } finally {
    putBack(FORMAT, format)
    putBack(LIMIT, limit)
  }
}

const set = (name, value) =>
  defineProperty(Error, name, { value, writable: true, enumerable: true, configurable: true })

function putBack(name, descriptor) {
  if (descriptor === undefined) delete Error[name]
  else defineProperty(Error, name, descriptor)
}

module.exports = { isWasmCalling }
