'use strict'

// One PGlite instance that goes back to its state in milliseconds: memory, files, open streams, and
// what PGlite itself keeps in JavaScript.
//
// Leans on these of @electric-sql/pglite (tried with 0.5.17): `Module` with its FS, `HEAPU8`,
// `stackSave` and `stackRestore`; `_runExclusiveTransaction` and `_runExclusiveQuery`, which
// `close` waits for as well; `execProtocol`; `parsers` and `serializers`; `listen` and its kin,
// which take a transaction; `_cleanupBlob` and `_getWrittenBlob`. Everything else of PGlite is
// begun anew by each query (what is sent and received, the query's results), or never changes.

// Jest may replace the global ones, and a limit must not depend on that.
const { clearTimeout, setTimeout } = require('node:timers')

const { GuardedMemory } = require('../index.js')
const { emscriptenState } = require('./emscripten-state.js')
const { makeError, unsupportedEngine } = require('./support/errors.js')
const { putBack } = require('./support/fs-streams.js')
const { preloadLibraries } = require('./support/pglite-libraries.js')
const { Listeners } = require('./support/pglite-listeners.js')

const DATA_DIRECTORY = '/pglite/data'
const DEFAULT_TIMEOUT_MS = 30_000
const MAX_TIMEOUT_MS = 2 ** 31 - 1

/** The message Sync of Postgres's protocol, which is answered by one message, ReadyForQuery. */
const SYNC = Uint8Array.of(0x53, 0, 0, 0, 4)
/** How often a parser that holds a part of a message gets another. */
const ALIGNMENTS = 100

const METHODS = [
  '_runExclusiveTransaction',
  '_runExclusiveQuery',
  '_checkReady',
  '_cleanupBlob',
  '_getWrittenBlob',
  'execProtocol',
  'isInTransaction',
  'query',
  'listen',
  'unlisten',
  'onNotification',
  'offNotification'
]

async function checkpoint(pg, options) {
  mustBePglite(pg)
  const timeout = timeoutOf(options)
  try {
    await pg._checkReady()
  } catch (cause) {
    throw closedError(cause)
  }
  mustBeKnown(pg)
  await preloadLibraries(pg)
  return exclusively(pg, timeout, async () => new Checkpoint(pg))
}

class Checkpoint {
  #pg
  #Module
  #guarded
  #snapshot
  #restoreState
  #stack
  #listeners
  #listening
  #parsers
  #serializers
  #stream
  #closed = false

  constructor(pg) {
    const { Module } = pg
    this.#pg = pg
    this.#Module = Module
    this.#guarded = GuardedMemory.from(Module.wasmMemory ?? (() => Module.HEAPU8.buffer))
    this.#stack = Module.stackSave()
    this.#parsers = { ...pg.parsers }
    this.#serializers = { ...pg.serializers }
    this.#stream = pg.externalCommandStreamFd
    this.#snapshot = this.#guarded.snapshot()
    try {
      this.#restoreState = emscriptenState(Module)()
    } catch (error) {
      this.#snapshot.close()
      throw error
    }
    this.#listeners = Listeners.of(pg)
    this.#listening = this.#listeners.take()
  }

  async restore(options) {
    const timeout = timeoutOf(options)
    this.#mustBeUsable()
    let listening
    try {
      // As PGlite's queries do, so that all get their locks in the order in which they were begun.
      await this.#pg._checkReady()
    } catch (cause) {
      throw closedError(cause)
    }
    await exclusively(this.#pg, timeout, async () => {
      this.#mustBeUsable()
      await this.#restore()
      listening = this.#listeners.restore(this.#listening)
    })
    // A `listen` under way has PGlite's lock for it, and waits for the one that is free by now.
    await listening
  }

  async #restore() {
    const pg = this.#pg
    this.#restoreEngine()
    putBack(pg.parsers, this.#parsers)
    putBack(pg.serializers, this.#serializers)
    pg.externalCommandStreamFd = this.#stream
    await pg._cleanupBlob()
    await pg._getWrittenBlob()
    await alignParser(pg)
    this.#restoreEngine()
  }

  #restoreEngine() {
    this.#guarded.restore(this.#snapshot)
    this.#Module.stackRestore(this.#stack)
    this.#restoreState()
  }

  #mustBeUsable() {
    if (this.#closed) {
      throw makeError(
        'ERR_HOSTMAP_SNAPSHOT_CLOSED',
        'this checkpoint is closed: take another one with checkpoint(pg)'
      )
    }
    if (this.#pg.Module !== this.#Module) throw closedError()
  }

  close() {
    if (this.#closed) return
    this.#closed = true
    this.#snapshot.close()
    this.#listeners.drop(this.#listening)
    this.#restoreState = undefined
  }

  [Symbol.dispose]() {
    this.close()
  }
}

/**
 * Sees to it that PGlite reads answers from their first byte. A query that failed half-way (its
 * `onNotice` threw, say) leaves a part of its answer in PGlite's parser. An answer to Sync must be
 * one message; where it is not, further ones, and an error, which makes PGlite take another parser,
 * get the part out. The engine is restored before this, so it answers, and after it.
 */
async function alignParser(pg) {
  const quiet = { syncToFs: false, throwOnError: false }
  for (let i = 0; i < ALIGNMENTS; i++) {
    try {
      const { messages } = await pg.execProtocol(SYNC, { ...quiet, throwOnError: i > 0 })
      if (messages.length === 1 && messages[0].name === 'readyForQuery') return
    } catch {
      // What was left over was, or looked like, an error: PGlite has a new parser.
    }
  }
  throw makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    'PGlite holds a part of an answer that a query left behind, and does not read on: make a new ' +
      'instance'
  )
}

function closedError(cause) {
  const reason = cause === undefined ? 'PGlite is closed' : cause.message
  return makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `there is no database to bring back (${reason}): make a new instance`,
    { cause }
  )
}

/** Runs a function while PGlite runs no query and no transaction, as PGlite's `close` does. */
function exclusively(pg, timeout, run) {
  return new Promise((resolve, reject) => {
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      reject(
        makeError(
          'ERR_HOSTMAP_ENGINE_BUSY',
          `PGlite was busy for ${timeout} ms: await its queries, end its transactions, and don't ` +
            'await this inside of a transaction'
        )
      )
    }, timeout)
    const turn = async () => {
      if (isLate) return
      clearTimeout(timer)
      resolve(await run())
    }
    pg._runExclusiveTransaction(() => pg._runExclusiveQuery(turn)).catch(error => {
      clearTimeout(timer)
      reject(error)
    })
  })
}

function mustBePglite(pg) {
  if (typeof pg !== 'object' || pg === null) {
    throw makeError(
      'ERR_INVALID_ARG_TYPE',
      `pg must be a PGlite instance, not ${pg === null ? null : typeof pg}`
    )
  }
  const method = METHODS.find(name => typeof pg[name] !== 'function')
  if (method !== undefined) {
    throw unsupportedEngine({
      engine: 'this PGlite',
      missing: `has no ${method}`,
      instead: 'pass an instance of PGlite (not PGliteWorker), of the version in docs/engines.md'
    })
  }
}

function mustBeKnown({ Module }) {
  const hooks = ['stackSave', 'stackRestore', 'HEAPU8', 'FS']
  const missing = hooks.find(name => Module[name] === undefined)
  if (missing !== undefined) {
    throw unsupportedEngine({
      engine: 'this PGlite',
      missing: `does not show Module.${missing}`,
      instead: 'use a version that docs/engines.md names'
    })
  }
  const { node } = Module.FS.lookupPath(DATA_DIRECTORY)
  if (node.mount !== Module.FS.root.mount) {
    throw unsupportedEngine({
      engine: 'this PGlite',
      missing: 'keeps its database outside of the memory, where a restore does not reach',
      instead: 'create it without a data directory (memory://)'
    })
  }
}

function timeoutOf(options) {
  if (options === undefined) return DEFAULT_TIMEOUT_MS
  if (typeof options !== 'object' || options === null) {
    throw makeError('ERR_INVALID_ARG_TYPE', 'options must be an object')
  }
  const unknown = Object.keys(options).find(name => name !== 'timeout')
  if (unknown !== undefined) {
    throw makeError('ERR_INVALID_ARG_VALUE', `there is no option ${unknown}, but timeout`)
  }
  const { timeout = DEFAULT_TIMEOUT_MS } = options
  if (typeof timeout !== 'number') {
    throw makeError('ERR_INVALID_ARG_TYPE', `timeout must be a number of ms, not ${typeof timeout}`)
  }
  if (!(timeout >= 0 && timeout <= MAX_TIMEOUT_MS)) {
    throw makeError(
      'ERR_OUT_OF_RANGE',
      `timeout must be from 0 to ${MAX_TIMEOUT_MS} ms, not ${timeout}`
    )
  }
  return timeout
}

module.exports = { checkpoint }
