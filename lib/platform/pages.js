'use strict'

// The sizes of the host's pages. Those of Wasm are in v8.js.

const native = require('./binding.js')

const PAGE_BYTES = native.hostPageSize()

// The smallest size of huge pages, but for arm64 kernels with 16 or 64 KiB pages: there it is a
// size like any other.
const HUGE_PAGE_BYTES = 2 << 20

module.exports = { PAGE_BYTES, HUGE_PAGE_BYTES }
