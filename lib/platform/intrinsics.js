'use strict'

// The functions of V8 by which the native part learns where a memory is and how large it is. A
// script may have changed them before this package was loaded: a polyfill, a tool that watches, a
// test's mock. They are compared with those of a realm in which no script ever ran, and that
// realm's are taken where they differ. What is changed later comes too late.

const native = require('./binding.js')

// Strict, and with nothing that a script outside could have changed. Functions of another realm
// work on all objects; V8 inlines none of them, so they are for when ours are not to be had.
const PRISTINE = `(() => {
  'use strict'
  const { call, bind, toString } = Function.prototype
  const uncurry = bind.bind(call)
  const { getOwnPropertyDescriptor, getPrototypeOf } = Reflect
  return { call, bind, textOf: uncurry(toString), getOwnPropertyDescriptor, getPrototypeOf, globals: globalThis }
})()`

function makePristine() {
  try {
    return require('node:vm').runInNewContext(PRISTINE)
  } catch {
    // A runtime without realms: then there is nothing to compare with.
    return (0, eval)(PRISTINE)
  }
}

// One for a thread.
native.pristine ??= makePristine()
const { textOf, getOwnPropertyDescriptor, getPrototypeOf, globals } = native.pristine

/**
 * Ours, if it is the function of V8's that theirs is, and theirs else. The text of those can't be
 * forged.
 */
const genuine = (ours, theirs) =>
  typeof ours === 'function' && textOf(ours) === textOf(theirs) ? ours : theirs

const bind = genuine(Function.prototype.bind, native.pristine.bind)
const call = genuine(Function.prototype.call, native.pristine.call)

/** A method or getter as a function that takes its receiver first. */
const uncurry = native.pristine.call.call(bind, bind, call)

/** A property of both, as a function; undefined where V8 has none. */
function find(ours, theirs, kind, ...path) {
  const name = path.pop()
  const at = object => {
    for (const key of path) object = key === PROTOTYPE_OF ? getPrototypeOf(object) : object?.[key]
    return object === undefined ? undefined : getOwnPropertyDescriptor(object, name)?.[kind]
  }
  const pristine = at(theirs)
  if (pristine === undefined) return undefined
  let own
  try {
    own = at(ours)
  } catch {
    // A getter in the place of a constructor.
  }
  return uncurry(genuine(own, pristine))
}

const PROTOTYPE_OF = Symbol('prototype of')
const getter = (...path) => find(globalThis, globals, 'get', ...path)
const setter = (...path) => find(globalThis, globals, 'set', ...path)
const method = (...path) => find(globalThis, globals, 'value', ...path)

/** An object's own property, whatever scripts have added to the prototype of all objects. */
const ownOf = (object, key) => getOwnPropertyDescriptor(object, key)?.value

module.exports = {
  globals,
  getOwnPropertyDescriptor,
  ownOf,
  /** A getter, setter or method by the names that lead to it, as a function of its receiver. */
  getter,
  setter,
  method,
  /** The buffer of a WebAssembly.Memory of any realm; a TypeError for all else. */
  getBuffer: getter('WebAssembly', 'Memory', 'prototype', 'buffer'),
  growMemory: method('WebAssembly', 'Memory', 'prototype', 'grow'),
  /** How many elements a typed array has. */
  lengthOf: getter('Uint8Array', 'prototype', PROTOTYPE_OF, 'length'),
  /** A TypeError for an array whose buffer is detached, or has shrunk to where it is not. */
  valuesOf: method('Uint8Array', 'prototype', PROTOTYPE_OF, 'values'),
  /** The buffer of a view, and where in it the view is: whatever its class says. */
  arrayParts: {
    buffer: getter('Uint8Array', 'prototype', PROTOTYPE_OF, 'buffer'),
    byteOffset: getter('Uint8Array', 'prototype', PROTOTYPE_OF, 'byteOffset'),
    byteLength: getter('Uint8Array', 'prototype', PROTOTYPE_OF, 'byteLength')
  },
  dataViewParts: {
    buffer: getter('DataView', 'prototype', 'buffer'),
    byteOffset: getter('DataView', 'prototype', 'byteOffset'),
    byteLength: getter('DataView', 'prototype', 'byteLength')
  },
  /** The size of a buffer of either kind. A TypeError for what is of the other kind. */
  byteLengthOf: getter('ArrayBuffer', 'prototype', 'byteLength'),
  sharedByteLengthOf: getter('SharedArrayBuffer', 'prototype', 'byteLength'),
  /** Node 20 has `resizable`, and no `growable` without a flag: undefined then. */
  isResizableBuffer: getter('ArrayBuffer', 'prototype', 'resizable'),
  isGrowableBuffer: getter('SharedArrayBuffer', 'prototype', 'growable'),
  weakGet: method('WeakMap', 'prototype', 'get'),
  Uint8Array: genuine(getOwnPropertyDescriptor(globalThis, 'Uint8Array')?.value, globals.Uint8Array)
}
