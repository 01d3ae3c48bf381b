'use strict'

// Brings a memory back to a snapshot, or to zeros. All that may be refused is refused before the
// memory is changed. The native part does it in one call; entries for mappings that it makes are
// there before, since nothing may fail afterwards.

const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError, fromNative, callNative } = require('../support/errors.js')
const { roomOnStack } = require('../support/stack.js')
const { WASM_PAGE_BYTES, lengthOf } = require('../platform/v8.js')
const { AT, counts } = require('../observe/counts.js')
const { UNHEARD, begin, channels, note } = require('../observe/events.js')
const { guardFaults } = require('../fault/guard.js')
const { isMapped } = require('../memory/entry.js')
const { grow } = require('../memory/growth.js')
const { prepareMapping } = require('../memory/map.js')
const { prepareWindow } = require('../window/open.js')
const { reachable } = require('../instance/reachable.js')
const { checkOwn, prepareRestore, restoreState } = require('../instance/state.js')
const { noteShowing } = require('./opened.js')
const { DEFAULT_KEEP_RESIDENT_BYTES, mustBeAlone } = require('./options.js')

/** In the place of `globals`: the caller puts them back. */
const BY_CALLER = Object.freeze({ __proto__: null })

const NOTHING = Object.freeze([])

const { restore: restores } = channels
const { COPIED_PAGES, RESTORED, RESET } = AT

/**
 * Brings a memory back to a snapshot, of which `inside` is what snapshot.js shows.
 *
 * @param exclusive as the option of that name
 * @param globals the exports whose globals go back, too; undefined where they go back only if the
 *   snapshot was taken of this memory; BY_CALLER
 */
function restore(linear, inside, exclusive, globals) {
  mustBeAlone(linear, 'a restore', exclusive)
  const { handle, state, origin, kept, isOfFile } = inside
  if (isOfFile) showFile(linear, inside)
  const putBack =
    globals === undefined || globals === BY_CALLER ? undefined : prepareGlobals(globals, state)
  const isOwn = globals === undefined && state !== null && origin?.deref() === linear
  if (isOwn) checkOwn(state)
  const array = fitted(linear, inside)
  const prepared = kept.length > 0 ? prepareAll(linear, kept) : NOTHING
  // For noteRestored, which must not fail.
  if (kept.length > 0) roomOnStack()
  const startTime = begin(restores)
  const copiedBefore = counts[COPIED_PAGES]
  let made
  try {
    made = native.restore(linear.table.handle, array, handle)
  } catch (error) {
    notRestored(linear, prepared)
    throw fromNative(error)
  }
  if (kept.length > 0) noteRestored(linear, kept, prepared, made ?? NOTHING)
  if (putBack !== undefined) putBack()
  else if (isOwn) restoreState(state.from, state)
  counts[RESTORED] += 1
  if (startTime !== UNHEARD)
    noteRestore(linear, inside.name, lengthOf(array), copiedBefore, startTime)
}

/** `name`: of the snapshot; null for a reset. */
function noteRestore(linear, name, byteLength, copiedBefore, startTime) {
  note(restores, startTime, {
    memory: linear.face ?? null,
    snapshotName: name,
    byteLength,
    copiedPages: counts[COPIED_PAGES] - copiedBefore
  })
}

// Only a memory's own thread may put other pages under it, and a shared one has many.
function showFile(linear, { name }) {
  if (linear.shared) {
    throw makeError(
      'ERR_HOSTMAP_SHARED_MEMORY',
      `snapshot "${name}" was opened, and the memory is shared: should another process write the file, no thread could put a copy in its place; use Snapshot.load`
    )
  }
  guardFaults()
  noteShowing(linear)
}

/** Brings a memory back to zeros, without mappings: as GuardedMemory.reset. */
function reset(linear, options) {
  const { exclusive, keepResidentBytes = DEFAULT_KEEP_RESIDENT_BYTES } = read.reset(options)
  mustBeAlone(linear, 'a reset', exclusive)
  check.wholeNumber(keepResidentBytes, 'options.keepResidentBytes')
  const array = linear.current()
  const startTime = begin(restores)
  const copiedBefore = counts[COPIED_PAGES]
  callNative(() => native.reset(linear.table.handle, array, keepResidentBytes))
  counts[RESET] += 1
  if (startTime !== UNHEARD) noteRestore(linear, null, lengthOf(array), copiedBefore, startTime)
}

/**
 * Refuses a snapshot of another type of memory. Grows the memory to the snapshot's size, and gives
 * the array over it.
 */
function fitted(linear, { name, address, byteLength }) {
  if (address !== linear.address) {
    throw makeError(
      'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
      `snapshot "${name}" is of a memory with address type '${address}', and this one has '${linear.address}'`
    )
  }
  const array = linear.current()
  const missing = byteLength - lengthOf(array)
  if (missing <= 0) return array
  grow(linear, missing / WASM_PAGE_BYTES)
  return linear.current()
}

/**
 * The entry of each kept mapping and window, in order: that which is there, or one for the restore
 * to make. Unlike afterwards, this may still fail.
 */
function prepareAll(linear, kept) {
  guardFaults()
  const there = new Map()
  linear.entries.forEach(entry => {
    if (isMapped(entry)) there.set(entry.start, entry)
  })
  return kept.map(it => there.get(it.address) ?? prepareKept(linear, it))
}

/** `made`: those that the restore has made, by their place in `kept`. */
function noteRestored(linear, kept, prepared, made) {
  for (let i = 0; i < made.length; i++) {
    const { index, id } = made[i]
    // Another thread had unmapped what this one knew of.
    if (prepared[index].id !== 0) prepared[index] = prepareKept(linear, kept[index])
    prepared[index].id = id
  }
  for (let i = 0; i < prepared.length; i++) {
    const { id, window } = prepared[i]
    // It was there already, and is another thread's.
    if (id === 0) linear.entries.delete(prepared[i])
    if (window === null) continue
    const { region, byteOffset, byteLength } = kept[i]
    window.region = region
    window.byteOffset = byteOffset
    window.shownBytes = byteLength
  }
}

/** Takes back what was prepared, and keeps what is there. */
function notRestored(linear, prepared) {
  for (let i = 0; i < prepared.length; i++)
    if (prepared[i].id === 0) linear.entries.delete(prepared[i])
}

function prepareKept(linear, kept) {
  const { address, windowAccess, region, byteOffset, byteLength, strict } = kept
  if (windowAccess === undefined) {
    const access = check.ACCESS[kept.access]
    return prepareMapping(linear, address, { region, byteOffset, byteLength, access, strict })
  }
  const entry = prepareWindow(linear, address, {
    byteLength: kept.placeBytes,
    access: check.ACCESS[windowAccess],
    code: windowAccess,
    trap: kept.tailTraps,
    strict
  })
  Object.assign(entry.window, { region, byteOffset, shownBytes: byteLength })
  return entry
}

function prepareGlobals(globals, state) {
  check.exportsOf(globals, 'options.globals')
  if (state === null) {
    throw makeError(
      'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
      'options.globals is given, and the snapshot has no globals; take it with the option `globals`'
    )
  }
  return prepareRestore(reachable(globals), { ...state, tables: [] })
}

module.exports = { BY_CALLER, restore, reset }
