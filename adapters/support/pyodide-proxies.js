'use strict'

// The proxies of Python objects that Pyodide has given to JavaScript. Each holds a pointer, and
// keeps the proxies of attributes that it was asked for, made when they were first asked for. After
// a restore the pointers of what was made since lead to whatever is there then, so those proxies
// are destroyed: without a call into the memory, since what they counted is undone already.
//
// Leans on `Module.finalizationRegistry`, with which Pyodide registers each proxy under its shared
// part (`ptr`, `cache`, `destroyed_msg`, `promise`), and which it looks up each time.

const { makeError } = require('./errors.js')

const GONE =
  'This proxy is of a request that is over: the memory has gone back to a state in which its ' +
  'object does not exist. Take what you need of it before the request ends, say by toJs().'

// How many proxies may be known before those that were collected are looked for.
const FIRST_SWEEP = 1024

const trackers = new WeakMap()

/** The tracker of a Pyodide, which sees all proxies from its first call on. */
function trackerOf(Module) {
  const known = trackers.get(Module)
  if (known !== undefined) return known
  const tracker = makeTracker(Module.finalizationRegistry)
  Module.finalizationRegistry = tracker.registry
  trackers.set(Module, tracker)
  return tracker
}

function makeTracker(registry) {
  const tokens = new WeakSet()
  let known = []
  let sweepAt = FIRST_SWEEP
  // Whether something was destroyed of which only the caller may know a pointer.
  let isLost = false

  const add = shared => {
    tokens.add(shared)
    if (known.length >= sweepAt) {
      known = known.filter(({ shared }) => shared.deref() !== undefined)
      sweepAt = Math.max(FIRST_SWEEP, 2 * known.length)
    }
    known.push({ shared: new WeakRef(shared), pointer: shared.ptr, promise: shared.promise })
  }

  return {
    registry: {
      register(target, held, token) {
        registry.register(target, held, token)
        if (isShared(token)) add(token)
        // Iterators, and functions that can be called once.
        else if (token !== undefined) tokens.add(token)
      },
      unregister(token) {
        if (!tokens.has(token)) isLost = true
        return registry.unregister(token)
      }
    },

    /** @param roots proxies of Pyodide's own, as their shared parts */
    record(roots) {
      for (const shared of roots) if (!tokens.has(shared)) add(shared)
      known = known.filter(({ shared }) => shared.deref()?.ptr)
      const kept = new Set(known)
      const caches = new Map()
      for (const { shared } of kept) {
        const { cache } = shared.deref()
        if (isObject(cache)) caches.set(cache, recordCache(cache))
      }
      return {
        check() {
          if (isLost) throw LOST()
        },
        restore() {
          for (const it of known) if (!kept.has(it)) destroy(it.shared.deref())
          for (const it of kept) revive(it)
          for (const restoreCache of caches.values()) restoreCache()
          known = [...kept]
        }
      }
    }
  }
}

const isObject = value => typeof value === 'object' && value !== null

const isShared = token => isObject(token) && 'destroyed_msg' in token && 'cache' in token

function destroy(shared) {
  if (shared === undefined) return
  shared.ptr = 0
  shared.promise = undefined
  shared.destroyed_msg = GONE
}

function revive({ shared: weak, pointer, promise }) {
  const shared = weak.deref()
  if (shared === undefined) return
  if (shared.promise !== promise) shared.promise = promise
  if (shared.ptr === pointer) return
  shared.ptr = pointer
  shared.destroyed_msg = undefined
}

/** Proxies of attributes: of what is kept here, the proxies are known, too. */
function recordCache(cache) {
  const { refcnt, leaked } = cache
  const maps = Object.values(cache)
    .filter(value => value instanceof Map)
    .map(recordMap)
  return () => {
    cache.refcnt = refcnt
    if (cache.leaked !== leaked) cache.leaked = leaked
    for (const restoreMap of maps) restoreMap()
  }
}

/** What a Map has, and in which order. */
function recordMap(map) {
  const entries = [...map]
  return () => {
    if (hasEntries(map, entries)) return
    map.clear()
    for (const [key, value] of entries) map.set(key, value)
  }
}

function hasEntries(map, entries) {
  if (map.size !== entries.length) return false
  let i = 0
  for (const [key, value] of map) {
    const entry = entries[i++]
    if (key !== entry[0] || value !== entry[1]) return false
  }
  return true
}

const LOST = () =>
  makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    'a proxy that was made before the checkpoint was destroyed since, or a function of ' +
      'create_once_callable called: what JavaScript holds of it would not work any more; make a ' +
      'copy() of a proxy to destroy'
  )

/**
 * The proxies that Pyodide's own JavaScript keeps, and those that these keep of their attributes,
 * as their shared parts.
 */
function rootsOf({ API, Module, pyodide }) {
  const found = new Set()
  const add = value => {
    if (!API.isPyProxy(value)) return
    const { shared } = Module.PyProxy_getAttrsQuiet(value)
    if (!isShared(shared) || found.has(shared)) return
    found.add(shared)
    for (const map of Object.values(shared.cache ?? {})) {
      if (map instanceof Map) for (const inside of map.values()) add(inside)
    }
  }
  for (const owner of [API, pyodide]) {
    for (const { value } of Object.values(Object.getOwnPropertyDescriptors(owner))) add(value)
  }
  return found
}

module.exports = { trackerOf, rootsOf, recordMap }
