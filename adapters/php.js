'use strict'

// The JavaScript half of a PHP of @php-wasm/universal (WordPress Playground), beside the memory,
// the globals and the tables that a checkpoint or a pool brings back.
//
// Leans on these (tried with 3.1.56): the property of a PHP whose symbol is described as
// `__private__dont__use`, which is the Emscripten module with its `FS`, and its hooks `onAbort`,
// `onExit` and `onMessage`; `runStream`; `semaphore.running`. What else PHP's class keeps is
// private, and is the caller's: listeners, handlers, mounts.

const { emscriptenState } = require('./emscripten-state.js')
const { makeError, unsupportedEngine } = require('./support/errors.js')
const { putBack } = require('./support/fs-streams.js')

const ENGINE = 'this version of @php-wasm/universal'
const RUNTIME = '__private__dont__use'

/** Modules that preparePhp has started. */
const prepared = new WeakSet()

async function preparePhp(php) {
  const module = startedModule(php)
  mustBeIdle(php, 'it is prepared')
  const end = watchEnd(module)
  if (end.reason !== undefined) throw gone(end.reason)
  const { onMessage } = module
  // A call that is suspended, which nobody else is to hear of.
  module.onMessage = async () => ''
  try {
    const response = await php.runStream({ code: FIRST_REQUEST })
    const text = await response.stdoutText
    const status = await response.exitCode
    await response.finished
    if (status !== 0) throw notPrepared(status, text)
  } finally {
    module.onMessage = onMessage
  }
  prepared.add(module)
}

/**
 * The first request starts PHP's modules. With Asyncify the first call that is suspended takes the
 * block of C's heap in which glue keeps such calls for good: taken after a checkpoint, the block
 * would be free again in the memory that comes back, and the glue still write to it.
 */
const FIRST_REQUEST = "<?php post_message_to_js('');"

const notPrepared = (status, text) =>
  makeError(
    'ERR_HOSTMAP_ENGINE_NOT_READY',
    `PHP's first request, which calls post_message_to_js, ended with status ${status}: ${text}`
  )

function phpState(php) {
  const module = startedModule(php)
  if (!prepared.has(module)) {
    throw makeError(
      'ERR_HOSTMAP_ENGINE_NOT_READY',
      'PHP has not been prepared, and what its first request starts would be lost with each ' +
        'restore, though its JavaScript remembers it: await preparePhp(php) first'
    )
  }
  const restoreFiles = emscriptenState(module)
  return () => record(php, module, restoreFiles)
}

function record(php, module, keepFiles) {
  mustBeIdle(php, 'its state is kept')
  const end = ends.get(module)
  if (end.reason !== undefined) throw gone(end.reason)
  const own = { ...php }
  const hooks = Object.fromEntries(HOOKS.map(name => [name, module[name]]))
  const restoreFiles = keepFiles()
  return () => {
    if (php[symbolOf(php)] !== module) throw gone('it was ended by exit(), or got another runtime')
    if (end.reason !== undefined) throw gone(end.reason)
    mustBeIdle(php, 'it is restored')
    restoreFiles()
    putBack(php, own)
    Object.assign(module, hooks)
  }
}

/** What each request sets. They hold the streams of the response, and so the response. */
const HOOKS = ['onHeaders', 'onStdout', 'onStderr', 'onMessage', 'lastAsyncifyStackSource']

/**
 * By module: why it has ended. Its glue remembers that in variables that nothing leads to, and from
 * then on leaves calls out.
 */
const ends = new WeakMap()

function watchEnd(module) {
  const known = ends.get(module)
  if (known !== undefined) return known
  const end = { reason: undefined }
  const { onAbort, onExit } = module
  module.onAbort = what => {
    end.reason ??= `it was aborted (${what})`
    return onAbort?.(what)
  }
  module.onExit = status => {
    end.reason ??= `it has exited with status ${status}`
    return onExit?.(status)
  }
  ends.set(module, end)
  return end
}

const gone = why =>
  makeError('ERR_HOSTMAP_NOT_RESTORABLE', `PHP is not to be brought back: ${why}; make a new one`)

function mustBeIdle(php, when) {
  if (php.semaphore.running === 0) return
  throw makeError(
    'ERR_HOSTMAP_CALL_PENDING',
    `a request of PHP's is not over, and would go on in another state; await \`finished\` of its ` +
      `response before ${when}`
  )
}

const isObject = value => typeof value === 'object' && value !== null

const symbolOf = php =>
  Object.getOwnPropertySymbols(php).find(({ description }) => description === RUNTIME)

/** The Emscripten module of a PHP with a runtime. */
function startedModule(php) {
  if (!isObject(php)) {
    throw makeError(
      'ERR_INVALID_ARG_TYPE',
      `php must be a PHP of @php-wasm/universal, not ${php === null ? null : typeof php}`
    )
  }
  if (typeof php.then === 'function') {
    throw makeError('ERR_INVALID_ARG_TYPE', 'php must be a PHP, not a promise of one: await it')
  }
  const module = php[symbolOf(php)]
  if (isObject(module) && isObject(module.FS)) {
    mustBeKnown(php, module)
    return module
  }
  if (typeof php.runStream === 'function' && typeof php.initializeRuntime === 'function') {
    throw makeError(
      'ERR_HOSTMAP_ENGINE_NOT_READY',
      'PHP has no runtime: pass what loadPHPRuntime gives to new PHP(), and do not call exit()'
    )
  }
  throw makeError('ERR_INVALID_ARG_TYPE', 'php must be a PHP of @php-wasm/universal')
}

function mustBeKnown(php, module) {
  const missing = [
    [typeof php.runStream === 'function', 'PHP.runStream'],
    [typeof php.semaphore?.running === 'number', 'PHP.semaphore.running'],
    [typeof module.onAbort === 'function', 'onAbort in its runtime']
  ].find(([isThere]) => !isThere)
  if (missing === undefined) return
  throw unsupportedEngine({
    engine: ENGINE,
    missing: `has no ${missing[1]}`,
    instead: 'use one that docs/pools.md names'
  })
}

/**
 * PHP races each request with a promise of its errors, which stays pending where there are none. By
 * itself a promise does nothing: what would settle it counts, too.
 */
const phpPending = ({ kinds }) => Object.keys(kinds).every(kind => kind === 'PROMISE')

module.exports = { phpPending, phpState, preparePhp }
