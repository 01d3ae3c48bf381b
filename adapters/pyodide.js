'use strict'

// The JavaScript half of Pyodide: its files and streams, as of any Emscripten module, and what it
// keeps of its memory in JavaScript, where the next request would meet what is not there any more.
//
// Leans on `_module` and `_api` of what loadPyodide gives, and on what they have: see `known` below
// and adapters/support/pyodide-*.js. Tried with the version that docs/engines.md names.

const { emscriptenState } = require('./emscripten-state.js')
const { makeError, unsupportedEngine } = require('./support/errors.js')
const { putBack } = require('./support/fs-streams.js')
const { recordMap, rootsOf, trackerOf } = require('./support/pyodide-proxies.js')
const { recordStdio } = require('./support/pyodide-stdio.js')

const { apply, defineProperty, deleteProperty, getOwnPropertyDescriptor, ownKeys } = Reflect

/** What of `_module` is set while Python runs: the rest of it is there when it is ready. */
const VALUES = ['Py_EmscriptenSignalBuffer', 'syncify_error', 'stackStop', 'canvas']

function pyodideState(pyodide) {
  if (!isObject(pyodide)) {
    throw makeError(
      'ERR_INVALID_ARG_TYPE',
      `pyodide must be what loadPyodide gave, not ${pyodide === null ? null : typeof pyodide}`
    )
  }
  refuseFailed(pyodide, 'it')
  const { Module, API } = known(pyodide)
  const references = referencesOf(Module, pyodide.version)
  const files = emscriptenState(Module)
  return () => record({ pyodide, Module, API, references, files })
}

const isObject = value => typeof value === 'object' && value !== null
const isFunction = value => typeof value === 'function'

/** The inside of a Pyodide, if it is one that this file knows. */
function known(pyodide) {
  const { _module: Module, _api: API, version } = pyodide
  const missing =
    !isObject(Module) || !isObject(API)
      ? '_module and _api'
      : [
          ['_api.config', isObject(API.config)],
          ['_api.isPyProxy', isFunction(API.isPyProxy)],
          ['_api.packageManager', isObject(API.packageManager)],
          ['_module.finalizationRegistry', isFunction(Module.finalizationRegistry?.register)],
          ['_module.PyProxy_getAttrsQuiet', isFunction(Module.PyProxy_getAttrsQuiet)],
          ['_module._hiwire_new_deduplicate', isFunction(Module._hiwire_new_deduplicate)],
          ['_module._hiwire_decref', isFunction(Module._hiwire_decref)],
          ['loadedPackages', isObject(pyodide.loadedPackages)]
        ].find(([, isThere]) => !isThere)?.[0]
  if (missing !== undefined) throw unsupported(version, `has no ${missing}`)
  return { Module, API }
}

const unsupported = (version, missing) =>
  unsupportedEngine({
    engine: 'Pyodide',
    version,
    missing,
    instead: 'pass what loadPyodide gave, of a version that docs/engines.md names'
  })

/**
 * The Map by which Pyodide finds the reference that Python has of a JavaScript object already. Only
 * a global of the module leads to it, so it is caught when it is asked for our own object.
 */
function referencesOf(Module, version) {
  const probe = {}
  let found
  const { prototype } = Map
  const original = getOwnPropertyDescriptor(prototype, 'get')
  const { value: get } = original
  const isReplaced = defineProperty(prototype, 'get', {
    ...original,
    value(key) {
      if (key === probe) found = this
      return apply(get, this, [key])
    }
  })
  try {
    Module._hiwire_decref(Module._hiwire_new_deduplicate(probe))
  } finally {
    if (isReplaced) defineProperty(prototype, 'get', original)
  }
  if (found === undefined || found.has(probe)) {
    throw unsupported(
      version,
      isReplaced
        ? 'keeps its references of JavaScript objects where they can not be found'
        : 'can not be looked into while Map.prototype is frozen'
    )
  }
  return found
}

/** A Pyodide that has failed, or exited, replaces what it shows by getters that throw. */
function failureOf(pyodide) {
  const get = getOwnPropertyDescriptor(pyodide, 'runPython')?.get
  if (get === undefined) return undefined
  try {
    get()
    return undefined
  } catch (error) {
    return error
  }
}

function refuseFailed(pyodide, subject) {
  const cause = failureOf(pyodide)
  if (cause === undefined) return
  throw makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `${subject} can't go back, since its JavaScript remembers an end: ${cause.message} Make a new one`,
    { cause }
  )
}

function record({ pyodide, Module, API, references, files }) {
  refuseFailed(pyodide, 'it')
  // The files come first: they may refuse.
  const restoreFiles = files()
  const proxies = trackerOf(Module).record(rootsOf({ API, Module, pyodide }))
  const restoreStdio = recordStdio(pyodide)
  const restores = [
    recordMap(references),
    recordOwn(pyodide),
    recordOwn(API),
    recordOwn(API.packageManager),
    recordOwn(pyodide.loadedPackages),
    ...recordGlobals(API.config.jsglobals),
    recordValues(Module),
    ...recordLists(Module),
    recordUmask()
  ]
  return () => {
    refuseFailed(pyodide, 'Pyodide')
    proxies.check()
    proxies.restore()
    restoreStdio()
    restoreFiles()
    for (const restore of restores) restore()
  }
}

/** An object's own properties, in their order, but not what is in them. */
function recordOwn(object) {
  const keys = ownKeys(object)
  const descriptors = keys.map(key => getOwnPropertyDescriptor(object, key))
  return () => {
    const now = ownKeys(object)
    const isSame = now.length === keys.length && now.every((key, i) => key === keys[i])
    if (!isSame) for (const key of now) deleteProperty(object, key)
    keys.forEach((key, i) => {
      const { value, get } = getOwnPropertyDescriptor(object, key) ?? {}
      if (!isSame || value !== descriptors[i].value || get !== descriptors[i].get)
        defineProperty(object, key, descriptors[i])
    })
  }
}

/** What Python sees as `js`, if it is an object of the caller's own. */
const recordGlobals = jsglobals =>
  isObject(jsglobals) && jsglobals !== globalThis ? [recordOwn(jsglobals)] : []

function recordValues(Module) {
  const values = VALUES.map(key => [key, Module[key]])
  const boxes = [Module.validSuspender, Module.suspenderGlobal]
    .filter(isObject)
    .map(box => [box, box.value])
  return () => {
    for (const [key, value] of values) if (Module[key] !== value) Module[key] = value
    for (const [box, value] of boxes) box.value = value
  }
}

/** Shared libraries, names of hosts, and what useNodeSockFS changes. */
function recordLists({ LDSO, DNS, SOCKFS }) {
  const map = DNS?.address_map
  return [LDSO?.loadedLibsByName, LDSO?.loadedLibsByHandle, map, map?.addrs, map?.names, SOCKFS]
    .filter(isObject)
    .map(object => {
      const values = { ...object }
      return () => putBack(object, values)
    })
}

/** `os.umask` is the process's. */
function recordUmask() {
  const mask = process.umask()
  return () => {
    if (process.umask() === mask) return
    try {
      process.umask(mask)
    } catch {
      // A worker may not, and then neither may Python in it.
    }
  }
}

module.exports = { pyodideState }
