'use strict'

// Several copies of this package in one process: other installs, bundles, realms such as jest's,
// workers. All share one native part (lib/platform/binding.js). Those of one realm share their classes too,
// so that objects of one may be given to the other. Each realm has classes of its own, whose errors
// are of that realm.

const path = require('node:path')
const native = require('./binding.js')

// On the native part's exports, of which a thread has one set: what each realm has, by its global
// object.
native.faces ??= new WeakMap()
// And whose a class is, by its prototype.
native.classes ??= new WeakMap()

/** The public face in this realm: what an earlier copy made, or what `make` does. */
function faceOfRealm(make) {
  let face = native.faces.get(globalThis)
  if (face === undefined) {
    face = make()
    for (const [name, value] of Object.entries(face)) {
      if (value.prototype !== undefined) {
        native.classes.set(value.prototype, {
          name,
          path: path.join(__dirname, '..', '..'),
          global: globalThis
        })
      }
    }
    native.faces.set(globalThis, face)
  }
  return face
}

// What to give in place of an object of another realm.
const INSTEAD = new Map([
  ['GuardedMemory', '; pass its `memory`'],
  ['HostRegion', '; map it with the GuardedMemory of that copy']
])

/** Words for an object of this package, but of another realm's copy; '' for all else. */
function whoseObject(value) {
  try {
    if (typeof value !== 'object' || value === null) return ''
    const found = native.classes.get(Object.getPrototypeOf(value))
    if (found === undefined || found.global === globalThis) return ''
    return ` [made in another realm, by the copy of wasm-hostmap in ${found.path}${INSTEAD.get(found.name) ?? ''}]`
  } catch {
    // A Proxy that throws.
    return ''
  }
}

module.exports = { faceOfRealm, whoseObject }
