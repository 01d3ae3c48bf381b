'use strict'

// Objects of this package that another copy of it made, in another realm. Only the native part is
// shared by all realms of a thread, so platform/copies.js hands its list of classes over here. No
// more than words for messages: a foreign object is never used.

// What to give in place of an object of another realm.
const INSTEAD = new Map([
  ['GuardedMemory', '; pass its `memory`'],
  ['HostRegion', '; map it with the GuardedMemory of that copy']
])

// By their prototypes: { name, path, global }.
let classes = new WeakMap()

function useClasses(all) {
  classes = all
}

/** Words for an object of this package, but of another realm's copy; '' for all else. */
function whoseObject(value) {
  try {
    if (typeof value !== 'object' || value === null) return ''
    const found = classes.get(Object.getPrototypeOf(value))
    if (found === undefined || found.global === globalThis) return ''
    return ` [made in another realm, by the copy of wasm-hostmap in ${found.path}${INSTEAD.get(found.name) ?? ''}]`
  } catch {
    // A Proxy that throws.
    return ''
  }
}

module.exports = { useClasses, whoseObject }
