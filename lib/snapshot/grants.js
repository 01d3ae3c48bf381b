'use strict'

// The mappings that a saved snapshot has, and what the caller grants for them. A file can say what
// it likes: so nothing but the caller's own word lets a module write to a region.

const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError } = require('../support/errors.js')
const { wrongValue } = require('../support/wrong.js')
const { bytesOf, isRegion, mustBeOpen, nameOf } = require('../region/host-region.js')
const { wrongThing } = require('../region/share.js')

/** A kept mapping as users see it. */
function publicMapping({
  address,
  placeBytes,
  access,
  windowAccess,
  regionName,
  byteOffset,
  byteLength
}) {
  const isWindow = windowAccess !== undefined
  return Object.freeze({
    kind: isWindow ? 'window' : 'mapping',
    address,
    byteLength: isWindow ? placeBytes : byteLength,
    access: check.ACCESS[windowAccess ?? access],
    regionName: regionName ?? null,
    byteOffset
  })
}

/**
 * The region of a saved mapping, and the most that a module may do with it. A file can say what it
 * likes: so nothing but the caller's own word lets a module write to a region.
 */
function grantFor(mapping, regions) {
  const { address, byteOffset, byteLength } = mapping
  const isEmpty = mapping.regionName === undefined
  const wantsShared = check.writesThrough(mapping.windowAccess ?? mapping.access)
  if (isEmpty && !wantsShared) return { region: null, access: check.MOST_UNGRANTED_ACCESS }
  const name = isEmpty ? 'an empty window' : `${kindOf(mapping)} of region "${mapping.regionName}"`
  if (regions === undefined) {
    throw makeError(
      'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
      isEmpty
        ? `the snapshot has ${name} with access 'shared' at ${address}, which options.regions must grant`
        : `the snapshot has ${name}, which it does not contain; give it by options.regions`
    )
  }
  const given = regions(publicMapping(mapping))
  const { region, access } = isRegion(given) ? { region: given } : readGrant(given)
  if (!isEmpty && !isRegion(region))
    throw wrongThing('what options.regions gave', GRANT, region ?? given)
  if (isEmpty && region !== undefined && region !== null) {
    throw wrongValue(
      'what options.regions gave for an empty window',
      'an access without a region',
      region
    )
  }
  if (access === undefined && wantsShared) {
    throw makeError(
      'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
      `the snapshot has ${name} with access 'shared' at ${address}, by which the module could write to the region; if you want that, let options.regions return { region, access: 'shared' }, and else name a lesser access`
    )
  }
  const granted =
    access === undefined
      ? check.MOST_UNGRANTED_ACCESS
      : check.access(access, 'access of what options.regions gave')
  if (isEmpty) return { region: null, access: granted }
  mustBeOpen(region)
  if (bytesOf(region) - byteOffset < byteLength) {
    throw makeError(
      'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
      `the mapping at ${address} shows ${byteLength} bytes from ${byteOffset} on, and region "${nameOf(region)}" has ${bytesOf(region)} bytes`
    )
  }
  return { region, access: granted }
}

const GRANT = 'a HostRegion, or { region, access }'
const kindOf = ({ windowAccess }) => (windowAccess === undefined ? 'a mapping' : 'a window')

function readGrant(given) {
  if (!check.isObject(given)) throw wrongThing('what options.regions gave', GRANT, given)
  return read.grant(given, 'what options.regions gave')
}

module.exports = { publicMapping, grantFor }
