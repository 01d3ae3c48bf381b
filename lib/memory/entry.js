'use strict'

// A mapping or window as the native part's table has it: what Mapping and Window have in common.
//
// What a native call changes is written here by plain assignments: any call may fail where the
// stack ends, even one that looks as if it could not, and then a mapping would be there that nobody
// knows.

const native = require('../platform/binding.js')
const { callNative } = require('../support/errors.js')
const { isStackEnd } = require('../support/stack.js')
const { nativeOf, nameOf } = require('../region/host-region.js')
const { faultsFrom, faultedError } = require('../fault/found.js')

/**
 * @typedef Entry
 * @property linear the LinearMemory
 * @property table the mapping table that it is in
 * @property start its offset in the memory
 * @property id 0 until it is there
 * @property ended whether it was unmapped
 * @property faults its faults, once it is unmapped or lost
 * @property release gives an allocator's block back; undefined where there is none, or once it did
 * @property object the Mapping or Window
 * @property request what was asked for: of a mapping { region, byteOffset, byteLength, access,
 *   strict, owner: who frees an allocator's block }, of a window { byteLength, access, trap, strict
 *   }, of an adopted buffer what a mapping has, without a region, and { adopted: see adopt.js }
 * @property window of a window: what it shows, { region, byteOffset, shownBytes }, how often its
 *   sources had to start again (`rewinds`), and what reads ahead for it (`stream`); null for a
 *   mapping
 */
const entryAt = (linear, start, request, release, window) => ({
  linear,
  table: linear.table,
  start,
  id: 0,
  ended: false,
  faults: null,
  release,
  object: null,
  request,
  window
})

/** Whether it is in the table, by this thread's doing. */
const isMapped = entry => entry.id !== 0 && !entry.ended

/** What it is, in messages and for those who look. */
const kindOf = ({ window, request }) =>
  window !== null ? 'window' : request.adopted === undefined ? 'mapping' : 'adopted'

const regionOf = ({ window, request }) => (window === null ? request.region : window.region)

/** The address, as its module has it. */
const pointerOf = ({ linear, start }) => (linear.address === 'i64' ? BigInt(start) : start)

function faultsOf(entry) {
  const { table, start, id, ended, faults } = entry
  const found =
    ended || table.lost ? faults : callNative(() => native.faultsOf(table.handle, start, id))
  const region = regionOf(entry)
  return faultsFrom(found, region === null ? undefined : nativeOf(region), start)
}

/** Throws where it has faults that nobody has acknowledged. */
function checkFaultsOf(entry) {
  const { unacknowledged, lastFault } = faultsOf(entry)
  if (unacknowledged === 0) return
  const { start, request, window } = entry
  const range = `[${start}, ${start + request.byteLength})`
  const [what, whose] =
    window === null
      ? [`the mapping of region "${nameOf(request.region)}" at ${range}`, 'mapping']
      : [`the window at ${range}`, 'window']
  throw faultedError(unacknowledged, what, whose, lastFault)
}

/** Takes note of its faults, and gives how many they were. */
function acknowledgeFaultsOf(entry) {
  const { unacknowledged } = faultsOf(entry)
  const { table, start, id, ended, faults } = entry
  if (!ended && !table.lost)
    return callNative(() => native.acknowledgeFaults(table.handle, start, id))
  if (unacknowledged > 0) faults.unacknowledged = 0
  return unacknowledged
}

/**
 * Gives an allocator's block back, once: also where the module's own `free` fails. But where the
 * stack ends it was not called at all, in all likelihood, and the next `unmap` calls it.
 */
function releaseBlock(entry) {
  const give = entry.release
  if (give === undefined) return
  entry.release = undefined
  try {
    give()
  } catch (error) {
    entry.release = give
    if (!isStackEnd(error)) entry.release = undefined
    throw error
  }
}

module.exports = {
  entryAt,
  isMapped,
  kindOf,
  regionOf,
  pointerOf,
  faultsOf,
  checkFaultsOf,
  acknowledgeFaultsOf,
  releaseBlock
}
