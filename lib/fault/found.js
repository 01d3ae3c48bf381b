'use strict'

// What the faults of a mapping, a window or a region's views were, as users see them, and the error
// for those that nobody has acknowledged. Nothing here changes a count.

const native = require('../platform/binding.js')
const { ownOf } = require('../platform/intrinsics.js')
const { makeError } = require('../support/errors.js')

/**
 * Counts and the last fault, from what the native part gives: of a mapping that starts at `address`
 * of its memory, or with a null address of a region's views. `source` is the native region.
 */
function faultsFrom(found, source, address) {
  if (found === null) return { strayWrites: 0, faults: 0, unacknowledged: 0, lastFault: null }
  const { strayWrites, faults, unacknowledged } = found
  const last = ownOf(found, 'last')
  if (last === undefined) return { strayWrites, faults, unacknowledged, lastFault: null }
  const { regionOffset, mappingOffset, operation, cause, outcome, isShown } = last
  const lastFault = {
    address: address === null ? null : address + mappingOffset,
    byteOffset: regionOffset,
    operation,
    cause: causeOf(cause, isShown ? source : undefined, regionOffset),
    outcome
  }
  return { strayWrites, faults, unacknowledged, lastFault }
}

/**
 * The error for accesses that found no data, and that nobody has taken note of. `what` is where
 * they were, `whose` the object whose acknowledgeFaults() takes note.
 */
function faultedError(count, what, whose, lastFault) {
  const accesses = count === 1 ? 'An access to' : `${count} accesses to`
  // A stray write may have come after.
  const fault = lastFault === null || lastFault.cause === 'readonly' ? null : lastFault
  const last =
    fault === null
      ? ''
      : `, ${count === 1 ? '' : 'the last one '}at byte ${fault.byteOffset} of the region (${fault.cause})`
  return makeError(
    'ERR_HOSTMAP_FAULTED',
    `${accesses} ${what} found no data${last}: what was computed since may rest on zeros that are not in the region. ` +
      `Don't trust it, see to the cause, and call ${whose}.acknowledgeFaults() to go on`,
    { fault }
  )
}

// The kernel says only that it has no page. The file's size may say why.
function causeOf(cause, source, offset) {
  if (cause !== 'unavailable' || source === undefined) return cause
  if (source.keepsSize) return 'out-of-memory'
  const bytes = source.bytesInFile
  const page = native.hostPageSize()
  return typeof bytes === 'number' && offset >= Math.ceil(bytes / page) * page
    ? 'file-shrunk'
    : cause
}

module.exports = { faultsFrom, faultedError }
