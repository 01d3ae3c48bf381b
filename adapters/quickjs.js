'use strict'

// The JavaScript half of QuickJS, as quickjs-wasi and quickjs-emscripten have it: handles that are
// cached when they are first asked for, functions of the host by their names or numbers, what is to
// be disposed of at the end, handlers, and which handles are alive.
//
// Leans on fields of their classes, which TypeScript calls private: of quickjs-wasi `hostCallbacks`
// and `_ownedHandles`; of quickjs-emscripten `callbacks` and `hostRefs`, and that `module` and
// `ffi` are Emscripten's module and its functions, which have nothing to be brought back.

const { makeError, unsupportedEngine } = require('./support/errors.js')
const { recordFields } = require('./support/fields.js')

const isObject = value => typeof value === 'object' && value !== null

/**
 * Of each package: whether a value is the object that leads to all others, and what is no state of
 * the engine's.
 */
const PACKAGES = [
  {
    isRoot: ({ hostCallbacks, _ownedHandles }) =>
      hostCallbacks instanceof Map && _ownedHandles instanceof Set,
    isPassed: () => false,
    leavesOf: () => []
  },
  {
    // A context, a runtime, or the module that makes them.
    isRoot: value => isObject(callbacksOf(value)) && isObject(callbacksOf(value).module),
    isPassed: key => key === 'module' || key === 'ffi',
    // Functions and objects of the host, by their numbers: a HostRefMap.
    leavesOf: ({ groups, freelist }) =>
      groups instanceof Map && Array.isArray(freelist) ? groups.values() : []
  }
]

const callbacksOf = ({ runtime, callbacks }) =>
  (isObject(runtime) ? runtime : { callbacks }).callbacks

function quickjsState(vm, ...held) {
  if (!isObject(vm)) {
    throw makeError(
      'ERR_INVALID_ARG_TYPE',
      `vm must be a QuickJS, or a context, runtime or module of quickjs-emscripten, not ${vm === null ? null : typeof vm}`
    )
  }
  const known = PACKAGES.find(({ isRoot }) => isRoot(vm))
  if (known === undefined) {
    throw unsupportedEngine({
      engine: 'this QuickJS',
      missing: 'has not the fields of quickjs-wasi 3 or quickjs-emscripten 0.32',
      instead:
        'pass what QuickJS.create(), newContext(), newRuntime() or newQuickJSWASMModule() gave'
    })
  }
  return () => recordFields([vm, ...held], known.isPassed, known.leavesOf)
}

module.exports = { quickjsState }
