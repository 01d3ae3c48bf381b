'use strict'

// Takes a snapshot of a memory: the native part copies its pages, and what only JavaScript knows
// (globals, tables, which regions are mapped) is written beside them before all is sealed.

const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const { makeError, callNative } = require('../support/errors.js')
const { handleOf, isClosed, nameOf } = require('../region/host-region.js')
const { regionOf } = require('../memory/entry.js')
const { live } = require('../memory/faults.js')
const { encodeState } = require('../instance/encoding.js')
const { reachable } = require('../instance/reachable.js')
const { captureState } = require('../instance/state.js')
const { digestOf } = require('./digests.js')
const { DEFAULT_KEEP_RESIDENT_BYTES, mustBeAlone } = require('./options.js')

/**
 * The native snapshot of a memory, and the parts that a Snapshot is made of.
 *
 * @param captured the globals and tables, where it is of an instance
 */
function capture(linear, options, captured) {
  const {
    globals,
    module,
    exclusive,
    keepResidentBytes = DEFAULT_KEEP_RESIDENT_BYTES,
    hugePages = true,
    sharePages = true,
    name = 'snapshot'
  } = options
  mustBeAlone(linear, 'a snapshot', exclusive)
  check.regionName(name, 'options.name')
  check.wholeNumber(keepResidentBytes, 'options.keepResidentBytes')
  check.boolean(hugePages, 'options.hugePages')
  check.boolean(sharePages, 'options.sharePages')
  const moduleDigest = module === undefined ? null : digestOf(module)
  const kept = captured ?? (globals === undefined ? null : captureGlobals(globals, linear))
  // Only now: all above may run the caller's code, which may map or grow.
  const array = linear.current()
  const { handle } = linear.table
  const shown = shownIn(linear)
  const forNative = ({ region, ...it }) => ({
    ...it,
    region: region === null ? undefined : handleOf(region)
  })
  const owner = callNative(() =>
    native.NativeSnapshot.capture(
      handle,
      array,
      { name, keepResidentBytes, hugePages, sharePages },
      shown.map(forNative)
    )
  )
  try {
    const parts = complete(owner, { shown, kept, moduleDigest, address: linear.address })
    return { owner, parts: { ...parts, origin: linear } }
  } catch (error) {
    owner.close()
    throw error
  }
}

/** What the mappings and windows show that this thread made. Others' are not kept. */
function shownIn(linear) {
  const mine = live(linear)
  const shown = []
  for (const { start } of callNative(() => native.entries(linear.table.handle))) {
    const entry = mine.get(start)
    // The native part refuses adopted buffers.
    if (entry !== undefined && entry.request.adopted === undefined) shown.push(whatShows(entry))
  }
  return shown
}

function whatShows(entry) {
  const { start, request, window } = entry
  const region = regionOf(entry)
  if (region !== null && isClosed(region)) {
    throw makeError(
      'ERR_HOSTMAP_REGION_CLOSED',
      `region "${nameOf(region)}" was closed, and the memory has a mapping of it, which no other memory could be given; unmap it, or close the region after the snapshot`
    )
  }
  const { byteOffset } = window ?? request
  const byteLength = window === null ? request.byteLength : window.shownBytes
  return { address: start, region, byteOffset, byteLength, strict: request.strict === true }
}

/** Writes what only JavaScript knows into a snapshot, and seals it. */
function complete(owner, { shown, kept, moduleDigest, address }) {
  const regions = new Map(shown.map(it => [it.address, it.region]))
  const { encoded, refusal } = encode(kept)
  const about = {
    address,
    moduleDigest: moduleDigest ?? undefined,
    unsaveable: refusal ?? undefined
  }
  const unsaveable = callNative(() =>
    owner.finish(about, encoded?.values ?? null, encoded?.globals ?? null, encoded?.tables ?? null)
  )
  // The native part has found each of them in `shown`.
  const mappings = callNative(() => owner.mappings()).map(it => ({
    ...it,
    region: regions.get(it.address)
  }))
  return { address, moduleDigest, kept: mappings, state: kept, unsaveable }
}

function captureGlobals(globals, linear) {
  check.exportsOf(globals, 'options.globals')
  const found = reachable(globals)
  // The state lives as long as the memory that it belongs to. One that its module hides can be held
  // by its object only.
  const memory = found.memory ?? linear.memory ?? linear
  return captureState({ ...found, tables: [], memory })
}

function encode(kept) {
  if (kept === null) return { encoded: null, refusal: null }
  try {
    return { encoded: encodeState(kept), refusal: null }
  } catch (error) {
    // Anything else (no stack left, say) is no property of the state.
    if (error.code !== 'ERR_HOSTMAP_NOT_RESTORABLE') throw error
    return { encoded: null, refusal: error.message }
  }
}

module.exports = { capture }
