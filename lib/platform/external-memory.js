'use strict'

// Tells V8 of memory that its heap does not show. `process.memoryUsage().external` and V8's garbage
// collector count ArrayBuffers, and no other memory (napi_adjust_external_memory does not show
// there). So a buffer of zeros, which is never handed out, is as large as what is to be counted.

const { constants } = require('node:buffer')
const native = require('./binding.js')

class ExternalMemory {
  #buffer = undefined

  /** Counts so many bytes from now on. Where no buffer can be had they are not counted. */
  set(byteLength) {
    const bytes = Math.min(byteLength, constants.MAX_LENGTH)
    if (bytes === (this.#buffer?.byteLength ?? 0)) return
    this.drop()
    try {
      if (bytes > 0) this.#buffer = native.placeholder(bytes)
    } catch {
      // No address space for it.
    }
  }

  drop() {
    if (this.#buffer !== undefined) native.detach(this.#buffer)
    this.#buffer = undefined
  }
}

module.exports = { ExternalMemory }
