'use strict'

// A process that receives a token, given as JSON by argument or by IPC, and tells what it got.

const { HostRegion } = require('../..')

function receive(token) {
  try {
    const region = HostRegion.receive(token)
    const bytes = Buffer.from(region.view())
    const told = { text: bytes.toString(), writable: region.writable, sealed: region.sealed }
    if (region.writable) bytes.write('W')
    region.close()
    return told
  } catch ({ code, message }) {
    return { code, message }
  }
}

/** Of one token, or of each of several. */
const receiveAll = tokens => (Array.isArray(tokens) ? tokens.map(receive) : receive(tokens))

if (process.argv[2] !== undefined) {
  console.log(JSON.stringify(receiveAll(JSON.parse(process.argv[2]))))
} else process.on('message', token => process.send(receive(token)))
