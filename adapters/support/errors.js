'use strict'

// The errors of the adapters. The package's own are made in lib/, which adapters may not use.

const CLASSES = new Map([
  ['ERR_INVALID_ARG_TYPE', TypeError],
  ['ERR_INVALID_ARG_VALUE', TypeError],
  ['ERR_OUT_OF_RANGE', RangeError]
])

/** An error with a stable code; its class follows from the code. `extra` holds a `cause`, say. */
function makeError(code, message, extra) {
  const Class = CLASSES.get(code) ?? Error
  return Object.assign(new Class(message), { code }, extra)
}

/**
 * The error for an engine without a hook that an adapter needs: `missing` says which, as in `has no
 * vfs.installVfs`, and `instead` what to do. `version` is undefined where the engine tells none.
 */
function unsupportedEngine({ engine, version, missing, instead }, extra) {
  const which = version === undefined ? engine : `${engine} ${version}`
  return makeError('ERR_HOSTMAP_ENGINE_UNSUPPORTED', `${which} ${missing}: ${instead}`, extra)
}

module.exports = { makeError, unsupportedEngine }
