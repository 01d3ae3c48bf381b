'use strict'

// The entry of the worker thread that serves a region. It depends on no other thread of the
// process: the one that has the region may stand still in a touch that waits for this one.
//
//   open       the provider is opened: tells its length, or why it can't be
//   serve      the region is there: its pager, and the socket by which touches are told
//   want, drop, used      what ensure and prefetch ask for
//
// It ends when the socket does: the region is closed, or nobody can touch it any more.

const { workerData } = require('node:worker_threads')
const { PROGRESS_INTERVAL_MS } = require('../platform/task.js')
const { Counts } = require('./counts.js')
const { dataOf } = require('./failure.js')
const { readNumbers } = require('./numbers.js')
const { Pager } = require('./pager.js')
const { Receivers } = require('./receivers.js')
const { Serving } = require('./serving.js')

// Each loads what the others don't need.
const PROVIDERS = {
  http: () => require('./providers/http.js'),
  frames: () => require('./providers/frames.js'),
  module: () => require('./providers/module.js')
}

// In place of a chunk: somebody has received the region.
const RECEIVED = 2n ** 64n - 1n
// What a provider has to end in.
const CLOSE_MS = 1000

const { kind, spec, concurrency, timeoutMs, isIdentified, shared, port } = workerData
// A provider's module finds nothing here that it could take for its own.
delete workerData.port
const counts = new Counts(shared.counts)
const flags = new Int32Array(shared.flags)
let provider
let serving
let receivers

const told = { retry: () => counts.add('retries') }

async function openProvider() {
  // Ended with the thread: who gives up waiting ends that.
  const { signal } = new AbortController()
  try {
    const given = { concurrency, timeoutMs, isIdentified, signal, told }
    provider = await PROVIDERS[kind]().open(spec, given)
    const { byteLength, defaultChunkBytes } = provider
    const hasIdentity = provider.identity !== undefined
    port.postMessage({ type: 'opened', byteLength, defaultChunkBytes, hasIdentity })
  } catch (error) {
    port.postMessage({ type: 'failed', error: dataOf(error) })
  }
}

function serve({ pager, socketFd, byteLength, chunkBytes, diskCache, ...limits }) {
  // From here on the descriptor is closed with this thread, which may be ended anywhere. It is said
  // first: a second close could be of what somebody else has opened meanwhile.
  Atomics.store(flags, 0, 1)
  let socket
  try {
    socket = readNumbers(socketFd, hear, end)
  } catch (error) {
    Atomics.store(flags, 0, 0)
    throw error
  }
  try {
    const served = new Pager(pager)
    served.serve()
    const key = diskCache?.key ?? provider.identity
    const disk =
      diskCache &&
      require('./disk-cache.js').DiskCache.open(diskCache.path, {
        key,
        byteLength,
        chunkBytes,
        counts
      })
    serving = new Serving({
      pager: served,
      byteLength,
      chunkBytes,
      provider,
      disk,
      counts,
      concurrency,
      timeoutMs,
      ...limits
    })
    const chunkCount = Math.ceil(byteLength / chunkBytes)
    receivers = new Receivers({ pager: served, serving, counts, chunkCount })
    port.postMessage({ type: 'serving' })
  } catch (error) {
    socket.destroy()
    port.postMessage({ type: 'failed', error: dataOf(error) })
  }
}

function hear(number) {
  if (number === RECEIVED) receivers?.take()
  else serving?.touch(Number(number))
}

function want({ id, first, last, kind: wanted, isTold }) {
  let toldMs = performance.now()
  const progress = missing => {
    const nowMs = performance.now()
    if (nowMs - toldMs < PROGRESS_INTERVAL_MS) return
    toldMs = nowMs
    port.postMessage({ type: 'progress', id, missing })
  }
  serving.want(id, {
    first,
    last,
    kind: wanted,
    progress: isTold ? progress : undefined,
    done: error => port.postMessage({ type: 'done', id, error: error && dataOf(error) })
  })
}

/** The end: what is under way is given up, and a provider that does not end is not waited for. */
function end() {
  setTimeout(() => process.exit(), CLOSE_MS)
  const closed = serving === undefined ? provider?.close() : serving.close()
  Promise.resolve(closed).then(
    () => process.exit(),
    () => process.exit()
  )
}

const CALLS = {
  serve,
  want,
  drop: ({ id }) => serving.drop(id),
  used: ({ first, last }) => serving.used(first, last)
}

port.on('message', message => CALLS[message.type](message))
openProvider()
