'use strict'

// A provider's module that needs a thread of libuv's pool for each chunk, or only time.

const { createHash } = require('node:crypto')
const dns = require('node:dns/promises')
const fs = require('node:fs/promises')
const { setTimeout: sleep } = require('node:timers/promises')
const { promisify } = require('node:util')
const zlib = require('node:zlib')

const NEEDS = {
  fs: () => fs.readFile(__filename),
  dns: () => dns.lookup('localhost'),
  zlib: () => promisify(zlib.deflate)(createHash('sha256').digest()),
  time: () => sleep(2500)
}

module.exports = ({ byteLength, needs }) => ({
  byteLength,
  async read(byteOffset, target) {
    // Till all who touch do.
    await sleep(500)
    await NEEDS[needs]()
    return target.fill(7).length
  }
})
