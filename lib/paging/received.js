'use strict'

// A paged region that another process, or another thread, serves: its provider is asked there.

const fs = require('node:fs')
const { READS_SOCKETS } = require('../platform/engine.js')
const { callNative } = require('../support/errors.js')
const { Asking, endedError } = require('./asking.js')
const { NO_COUNTS } = require('./counts.js')
const { Lines } = require('./lines.js')
const { noPaging } = require('./paged.js')
const { Paging } = require('./paging.js')

class Owner {
  #name
  #lines
  #asking
  #counts = NO_COUNTS

  constructor(name, fd) {
    this.#name = name
    this.#lines = new Lines(
      fd,
      message => this.#hear(message),
      () => this.#end('the process that made it has ended, or closed it')
    )
    // Only what somebody waits for keeps the process.
    this.#lines.unref()
    this.#asking = new Asking(this.#lines)
  }

  /** As the owner told them last. */
  read() {
    return this.#counts
  }

  ask(message, options) {
    return this.#asking.ask(message, options)
  }

  post(message) {
    this.#asking.post(message)
  }

  // It comes there before what is asked after it.
  pin(_, first, last) {
    this.post({ type: 'pin', first, last })
  }

  unpin(_, first, last) {
    this.post({ type: 'unpin', first, last })
  }

  close() {
    this.#end('the region was closed')
    this.#lines.close()
  }

  #hear({ counts, ...message }) {
    this.#counts = counts ?? this.#counts
    if (message.type !== 'counts') this.#asking.hear(message)
  }

  #end(why) {
    this.#asking.end(endedError(this.#name, why))
  }
}

// The socket's events hold the connection, which must not outlive who asks by it.
const dropped = new FinalizationRegistry(owner => owner.close())

/** What serves a region that was received; null for one whose bytes are all here. */
function receivedPaging(owner, guardFaults) {
  const received = callNative(() => owner.receivedPaging())
  if (received === null) return null
  const { pager, callsFd, chunkBytes, isUserfaultfd } = received
  let service
  try {
    if (!READS_SOCKETS) throw noPaging()
    guardFaults()
    service = new Owner(owner.name, callsFd)
  } catch (error) {
    fs.closeSync(callsFd)
    owner.close()
    throw error
  }
  const paging = new Paging({
    owner,
    pager,
    service,
    counts: service,
    name: owner.name,
    byteLength: owner.byteLength,
    chunkBytes,
    // What is here may go at any moment, unless its owner knows that it is held.
    isAsked: true,
    isLimited: true,
    userfaultfd: isUserfaultfd
  })
  dropped.register(paging, service)
  return paging
}

module.exports = { receivedPaging }
