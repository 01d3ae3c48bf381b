'use strict'

// Messages between processes: each a line of JSON, through a stream.

const net = require('node:net')

// A message has a few numbers, or an error's text.
const MOST_LINE = 64 * 1024

/** `hear` gets each message, `closed` is called at the end, or when what comes is no message. */
class Lines {
  #socket
  #rest = ''

  constructor(fd, hear, closed) {
    this.#socket = new net.Socket({ fd, readable: true, writable: true })
    this.#socket.setEncoding('utf8')
    this.#socket.on('data', text => this.#take(text, hear))
    this.#socket.on('error', () => {})
    this.#socket.once('close', closed)
  }

  /** Bytes that the other side has not read. */
  get waiting() {
    return this.#socket.writableLength
  }

  post(message) {
    if (!this.#socket.destroyed) this.#socket.write(`${JSON.stringify(message)}\n`)
  }

  ref() {
    this.#socket.ref()
  }

  unref() {
    this.#socket.unref()
  }

  close() {
    this.#socket.destroy()
  }

  #take(text, hear) {
    const lines = `${this.#rest}${text}`.split('\n')
    this.#rest = lines.pop()
    try {
      if (this.#rest.length > MOST_LINE) throw new Error('too long')
      for (const line of lines) if (!this.#socket.destroyed) hear(JSON.parse(line))
    } catch {
      this.close()
    }
  }
}

module.exports = { Lines }
