'use strict'

// Paged regions for tests: with and without userfaultfd, over a module or a server.

const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')
const { HostRegion } = require('../..')
const { startRanges, bytesFrom } = require('./ranges')

const MODULE = path.join(__dirname, 'paged-provider.js')
const CHUNK = 65_536

const made = []
const keep = region => (made.push(region), region)

/** The options of a region whose provider does as `data` says: see paged-provider.js. */
const optionsOf = (data, options) => ({
  provider: { module: MODULE, data },
  chunkBytes: CHUNK,
  ...options
})

/** Such a region, closed after the test. */
const paged = async (data, options) => keep(await HostRegion.paged(optionsOf(data, options)))

/** An Int32Array over shared memory, for a provider's counts. */
const sharedCounts = () => new Int32Array(new SharedArrayBuffer(64))

/** Waits for what comes by itself soon. */
async function until(condition) {
  for (;;) {
    const found = await condition()
    if (found) return found
    await sleep(5)
  }
}

/** Whether a userfaultfd can be had here: then both ways are tested. */
async function ways() {
  const region = await HostRegion.paged(optionsOf({ byteLength: 1 }))
  const { userfaultfd } = region.paging
  region.close()
  return userfaultfd ? [true, false] : [false]
}

function closeAll() {
  made.splice(0).forEach(region => region.close())
}

module.exports = {
  CHUNK,
  MODULE,
  bytesFrom,
  closeAll,
  keep,
  optionsOf,
  paged,
  sharedCounts,
  startRanges,
  until,
  ways
}
