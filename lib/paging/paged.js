'use strict'

// Making a region that is paged in: its worker opens the provider, the native part makes the
// region, and the worker serves it. Whatever fails, nothing is left.

const fs = require('node:fs')
const native = require('../platform/binding.js')
const { RUNTIME, READS_SOCKETS } = require('../platform/engine.js')
const { callNative, makeError } = require('../support/errors.js')
const { wrongValue } = require('../support/wrong.js')
const { Counts } = require('./counts.js')
const { mustFitCache, mustFitChunks } = require('./options.js')
const { Paging } = require('./paging.js')
const { Service } = require('./service.js')

const WHAT = 'The opening of the region'

/** Gives `{ owner, paging }`: the native part of the region, and what serves it. */
async function openPaged({ kind, spec, name, signal, ...given }) {
  if (!READS_SOCKETS) throw noPaging()
  const { concurrency, timeoutMs, cacheBytes, readAheadBytes, diskCache, userfaultfd } = given
  const shared = { counts: Counts.make(), flags: new SharedArrayBuffer(4) }
  const service = makeService(name, {
    kind,
    spec,
    concurrency,
    timeoutMs,
    // What has a key of the caller's need not tell which version it is.
    isIdentified: diskCache !== undefined && diskCache.key === undefined,
    shared
  })
  let made
  try {
    const opened = await service.ask(undefined, { signal, what: WHAT })
    const byteLength = lengthOf(given.byteLength, opened.byteLength)
    const chunkBytes = given.chunkBytes ?? opened.defaultChunkBytes
    mustFitChunks(byteLength, chunkBytes)
    mustFitCache(cacheBytes, chunkBytes)
    mustHaveKey(diskCache, opened)
    made = callNative(() =>
      native.pagedRegion(byteLength, name, chunkBytes, timeoutMs, userfaultfd)
    )
    const { owner, pager, socketFd, isUserfaultfd } = made
    const limits = { cacheBytes, readAheadBytes, diskCache }
    await service.ask(
      { type: 'serve', pager, socketFd, byteLength, chunkBytes, ...limits },
      { signal, what: WHAT }
    )
    const paging = new Paging({
      owner,
      pager,
      service,
      counts: new Counts(shared.counts),
      name,
      byteLength,
      chunkBytes,
      isLimited: cacheBytes !== undefined,
      userfaultfd: isUserfaultfd
    })
    return { owner, paging }
  } catch (error) {
    made?.owner.close()
    await service.terminate()
    // The worker closes it from when it has it on.
    const isTaken = Atomics.load(new Int32Array(shared.flags), 0) === 1
    if (made !== undefined && !isTaken) fs.closeSync(made.socketFd)
    throw error
  }
}

const noPaging = () =>
  makeError(
    'ERR_HOSTMAP_UNSUPPORTED_RUNTIME',
    `a worker thread hears of touches by a net.Socket over a descriptor, which ${RUNTIME} does not read; ` +
      'use HostRegion.from or HostRegion.load, which bring all of it first'
  )

function makeService(name, data) {
  try {
    return new Service(name, data)
  } catch (error) {
    if (error?.name !== 'DataCloneError') throw error
    const { data: given } = data.spec
    throw wrongValue('options.provider.data', 'what structuredClone takes', given, error.message)
  }
}

function lengthOf(asked, said) {
  if (said === undefined && asked === undefined) {
    throw makeError(
      'ERR_INVALID_ARG_VALUE',
      'options.byteLength must be given, since the provider does not say how many bytes it has'
    )
  }
  if (said === undefined || asked === undefined || said === asked) return asked ?? said
  throw makeError(
    'ERR_HOSTMAP_SOURCE_LENGTH',
    `the provider has ${said} bytes, and options.byteLength is ${asked}`
  )
}

function mustHaveKey(diskCache, { hasIdentity }) {
  if (diskCache === undefined || diskCache.key !== undefined || hasIdentity) return
  throw makeError(
    'ERR_INVALID_ARG_VALUE',
    "options.diskCache.key must be given, since the provider does not say which version of its bytes it has; a module's open may give a version"
  )
}

module.exports = { openPaged, noPaging }
