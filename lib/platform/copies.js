'use strict'

// Several copies of this package in one process: other installs, bundles, realms such as jest's,
// workers. All share one native part (lib/platform/binding.js). Those of one realm share their
// classes too, so that objects of one may be given to the other. Each realm has classes of its own,
// whose errors are of that realm.

const native = require('./binding.js')
const { PACKAGE_ROOT } = require('./place.js')
const { useClasses } = require('../support/foreign.js')

// On the native part's exports, of which a thread has one set: what each realm has, by its global
// object.
native.faces ??= new WeakMap()
// And whose a class is, by its prototype.
native.classes ??= new WeakMap()
useClasses(native.classes)

/** The public face in this realm: what an earlier copy made, or what `make` does. */
function faceOfRealm(make) {
  let face = native.faces.get(globalThis)
  if (face === undefined) {
    face = make()
    for (const [name, value] of Object.entries(face)) {
      if (value.prototype !== undefined) {
        native.classes.set(value.prototype, {
          name,
          path: PACKAGE_ROOT,
          global: globalThis
        })
      }
    }
    native.faces.set(globalThis, face)
  }
  return face
}

module.exports = { faceOfRealm }
