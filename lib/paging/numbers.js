'use strict'

// Numbers that signal handlers send: 8 bytes each, in pieces of any length.

const net = require('node:net')

const NUMBER_BYTES = 8
const NUMBERS_AT_ONCE = 512

/** `take` gets each number, a BigInt. */
function readNumbers(fd, take, closed) {
  let rest = Buffer.alloc(0)
  const read = (count, buffer) => {
    const bytes =
      rest.length === 0
        ? buffer.subarray(0, count)
        : Buffer.concat([rest, buffer.subarray(0, count)])
    let at = 0
    for (; at + NUMBER_BYTES <= bytes.length; at += NUMBER_BYTES) take(bytes.readBigUInt64LE(at))
    // Of what is read into next.
    rest = Buffer.from(bytes.subarray(at))
    return true
  }
  const socket = new net.Socket({
    fd,
    readable: true,
    writable: false,
    onread: { buffer: Buffer.alloc(NUMBERS_AT_ONCE * NUMBER_BYTES), callback: read }
  })
  socket.on('error', () => {})
  socket.once('close', closed)
  socket.resume()
  return socket
}

module.exports = { readNumbers }
