'use strict'

// Runs what a pool does for itself outside of the async context of who called it: a unit is booted
// for all requests, and what is begun for that is none of the request's that asked for it.

const { AsyncResource } = require('node:async_hooks')

// Of the time when the package was loaded.
const root = new AsyncResource('wasm-hostmap.pool')

const outside = work => root.runInAsyncScope(work)

module.exports = { outside }
