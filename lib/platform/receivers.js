'use strict'

// Methods and getters that are called on something else than an object of their class: `const { map
// } = guarded` does it. V8 says then that it can't read a private member; here it is an error with
// a code that says what to do.

const { inspect } = require('node:util')
const { makeError } = require('../support/errors.js')
const { getOwnPropertyDescriptor } = require('./intrinsics.js')

// A getter of each class that reads a private field and does nothing else.
const PROBES = {
  HostRegion: 'name',
  Publication: 'name',
  GuardedMemory: 'address',
  Mapping: 'address',
  AdoptedBuffer: 'byteLength',
  Window: 'address',
  WindowSource: 'position',
  Snapshot: 'closed',
  InstancePool: 'closed',
  PooledInstance: 'released',
  InstrumentedModule: 'importModule',
  CapturedUnit: 'memoryCount',
  Checkpoint: 'closed',
  Layout: 'ranges'
}

// What is called so often that its receiver is looked at only when the call has failed. Each of
// them touches a private field before it does anything.
const OFTEN = new Set(['map', 'unmap', 'slide', 'next', 'restore', 'reset', 'view', 'release'])
// What gives promises, and rejects.
const PROMISING = new Set([
  'InstancePool.acquire',
  'InstancePool.run',
  'InstrumentedModule.instantiate',
  'Mapping.prefetch',
  'Snapshot.save',
  'Snapshot.instantiate'
])

/** Makes the classes of the public face say so. */
function checkReceivers(face) {
  for (const [name, probe] of Object.entries(PROBES)) {
    const { prototype } = face[name]
    const read = getOwnPropertyDescriptor(prototype, probe).get
    const isOwn = value => {
      try {
        read.call(value)
        return true
      } catch (error) {
        // An object that is closed may refuse, with a code; and the stack may be at its end.
        return !(error instanceof TypeError) || error.code !== undefined
      }
    }
    for (const key of Reflect.ownKeys(prototype)) {
      const property = getOwnPropertyDescriptor(prototype, key)
      // The one function that may be called with anything, by what prints a prototype.
      if (key === 'constructor' || key === inspect.custom) continue
      const kind = property.get === undefined ? 'value' : 'get'
      const checked = withReceiver(property[kind], isOwn, name, key, kind === 'get')
      Object.defineProperty(prototype, key, { ...property, [kind]: checked })
    }
  }
}

function withReceiver(method, isOwn, className, key, isGetter) {
  const name = typeof key === 'symbol' ? `[${key.description}]` : key
  const refused = given =>
    makeError(
      'ERR_INVALID_THIS',
      `${className}.prototype.${name} was called on ${describe(given)} and not on a ${className}: call it as a method, ` +
        `as in object.${name}, or bind it`
    )
  const before = function (...args) {
    if (isOwn(this)) return method.apply(this, args)
    if (PROMISING.has(`${className}.${String(key)}`)) return Promise.reject(refused(this))
    throw refused(this)
  }
  const said = (given, error) => (isOwn(given) ? error : refused(given))
  const make = MOST_OFTEN[`${className}.${name}`] ?? after
  const checked = isGetter || OFTEN.has(key) ? make(method, said) : before
  for (const property of ['name', 'length']) {
    Object.defineProperty(checked, property, { value: method[property], configurable: true })
  }
  return checked
}

const after = (method, said) =>
  function (a, b, c, d) {
    try {
      return method.call(this, a, b, c, d)
    } catch (error) {
      throw said(this, error)
    }
  }

// The same for each of these by itself: V8 optimizes a function by what its text has called so far,
// and what all methods share has called them all. That is a hundredth of a slide's time.
const MOST_OFTEN = {
  'GuardedMemory.map': (method, said) =>
    function (region, options) {
      try {
        return method.call(this, region, options)
      } catch (error) {
        throw said(this, error)
      }
    },
  'Mapping.unmap': (method, said) =>
    function () {
      try {
        return method.call(this)
      } catch (error) {
        throw said(this, error)
      }
    },
  'Window.slide': (method, said) =>
    function (region, byteOffset, options) {
      try {
        return method.call(this, region, byteOffset, options)
      } catch (error) {
        throw said(this, error)
      }
    },
  'WindowSource.next': (method, said) =>
    function (keep) {
      try {
        return method.call(this, keep)
      } catch (error) {
        throw said(this, error)
      }
    },
  'GuardedMemory.restore': (method, said) =>
    function (snapshot, options) {
      try {
        return method.call(this, snapshot, options)
      } catch (error) {
        throw said(this, error)
      }
    },
  'PooledInstance.release': (method, said) =>
    function () {
      try {
        return method.call(this)
      } catch (error) {
        throw said(this, error)
      }
    }
}

function describe(value) {
  if (value === null || typeof value !== 'object')
    return typeof value === 'function' ? 'a function' : String(value)
  return 'another object'
}

module.exports = { checkReceivers }
