'use strict'

// A process that has a paged region, or receives one, and does what it is told: each message is the
// text of an async function, called with `{ HostRegion, region, keep, message }`. It answers with
// what that returns, or throws.

const hostmap = require('../..')

const kept = {}

process.on('message', async ({ body, args }) => {
  try {
    const value = await (0, eval)(`(${body})`)({ ...hostmap, kept, require, args })
    process.send({ value })
  } catch ({ code, message }) {
    process.send({ code, message })
  }
})
