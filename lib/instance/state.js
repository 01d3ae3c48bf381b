'use strict'

// What an instance keeps besides its memory, where its exports show it: mutable globals and
// tables. A state is read, and put back into its own instance or into another one of the same
// module. All that may be refused is refused before anything is changed.

const { makeError } = require('../support/errors.js')
const { takes } = require('./globals-and-tables.js')
const { describe, translator } = require('./functions.js')
const { captureLive, checkLive, restoreLive, checkLengths, putBack } = require('./live-state.js')

// The live form of states, as long as both the state and its instance's memory live: by the memory,
// then by the state's key. So a state that is kept keeps no instance.
const lives = new WeakMap()

function liveOf({ strong, anchor, key }) {
  return strong ?? lives.get(anchor?.deref())?.get(key)
}

/**
 * The state, as it is now. `from` is whom it was taken from, `null` if that is gone or it came from
 * a file.
 *
 * @param takesGrown whether tables that have grown can be put back, whatever code knows of that
 */
function captureState(found, takesGrown = false) {
  const live = captureLive(found)
  const key = {}
  const parts = { ...describe(live), takesGrown, key, strong: undefined, anchor: undefined }
  if (found.memory === undefined) {
    // Globals alone, which nothing else may hold.
    parts.strong = live
  } else {
    if (!lives.has(found.memory)) lives.set(found.memory, new WeakMap())
    lives.get(found.memory).set(key, live)
    parts.anchor = new WeakRef(found.memory)
  }
  return makeState(parts)
}

const makeState = parts => ({
  ...parts,
  get from() {
    return liveOf(this)?.found ?? null
  }
})

/**
 * Puts a state back, into the instance that it was taken from or another one. Nothing is changed
 * where it throws `ERR_HOSTMAP_SNAPSHOT_MISMATCH` (the instance lacks something) or
 * `ERR_HOSTMAP_NOT_RESTORABLE` (a table has grown, or a function can't be found), but where a table
 * can't be grown.
 *
 * @param takesGrown see captureState
 */
function restoreState(found, state, takesGrown = false) {
  // The instance that it was taken from is gone.
  if (found === null) return
  const live = liveOf(state)
  if (live?.found === found) {
    checkLive(live, takesGrown || state.takesGrown)
    restoreLive(live)
  } else prepareRestore(found, state, takesGrown)()
}

/**
 * Throws what `restoreState` would for the instance that the state was taken of: to be called
 * before its memory is changed.
 */
function checkOwn(state, takesGrown = false) {
  const live = liveOf(state)
  if (live !== undefined) checkLive(live, takesGrown || state.takesGrown)
}

/** Checks all that `restoreState` checks, and gives the function that does the rest. */
function prepareRestore(found, state, takesGrown = false) {
  const globals = new Map(found.globals)
  const tables = new Map(found.tables)
  const { source, translate } = sourceFor(found, state)
  const toGlobals = source.globals.map(({ name, value }) => {
    const global = globals.get(name) ?? missing('mutable global', name)
    const next = translate(value)
    if (!takes(global, next)) throw mismatch(`its global "${name}" is of another type`)
    return { global, value: next }
  })
  const toTables = source.tables.map(({ name, entries }) => {
    const table = tables.get(name) ?? missing('table', name)
    return { name, table, entries: entries.map(translate) }
  })
  checkLengths(toTables, takesGrown || state.takesGrown)
  return () => {
    try {
      putBack(toGlobals, toTables)
    } catch (error) {
      throw mismatch(`V8 refused a value: ${error.message}`, error)
    }
  }
}

/**
 * The state's live form where these are the objects that it was taken from, and else the
 * descriptions to be translated.
 */
function sourceFor(found, state) {
  const live = liveOf(state)
  if (live !== undefined) {
    const taken = new Map([...live.found.globals, ...live.found.tables])
    const shown = new Map([...found.globals, ...found.tables])
    const wanted = new Set([...state.globals, ...state.tables].map(({ name }) => name))
    if ([...wanted].every(name => shown.has(name) && shown.get(name) === taken.get(name))) {
      const isWanted = ({ name }) => wanted.has(name)
      const source = {
        globals: live.globals.filter(isWanted),
        tables: live.tables.filter(isWanted)
      }
      return { source, translate: value => value }
    }
  }
  return { source: state, translate: translator(found, state) }
}

/**
 * A name of a global or table of the instance's that the state lacks; `undefined` if there is none.
 */
function missingIn(state, { globals, tables }) {
  const names = new Set(
    [...(state?.globals ?? []), ...(state?.tables ?? [])].map(({ name }) => name)
  )
  return [...globals, ...tables].find(([name]) => !names.has(name))?.[0]
}

function missing(kind, name) {
  throw mismatch(`it has no ${kind} "${name}"`)
}

const mismatch = (why, cause) =>
  makeError(
    'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
    `the snapshot is not one of this instance's module: ${why}`,
    cause === undefined ? undefined : { cause }
  )

/**
 * Throws if other instances can't be brought into this state. What the instance held when it was
 * new must be noted.
 */
function checkPortable(found, state) {
  const translate = translator(found, state)
  for (const { value } of state.globals) translate(value)
  for (const { entries } of state.tables) entries.forEach(translate)
}

/** A state that came from a file. */
const stateFrom = ({ globals, tables }) =>
  makeState({
    globals,
    tables,
    takesGrown: false,
    key: undefined,
    strong: undefined,
    anchor: undefined
  })

module.exports = {
  captureState,
  prepareRestore,
  restoreState,
  checkOwn,
  missingIn,
  checkPortable,
  stateFrom
}
