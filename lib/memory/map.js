'use strict'

// Maps a range of a region: at an offset, in free space, past the memory's end, or in a block of
// the module's own. map.js decides where; the native part maps, and checks what depends on the
// memory.

const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { callNative } = require('../support/errors.js')
const { outOfRange } = require('../support/wrong.js')
const { HUGE_PAGE_BYTES } = require('../platform/pages.js')
const {
  bytesOf,
  handleOf,
  isFile,
  isHuge,
  mustBeOpen,
  mustBeRegion,
  nameOf,
  restOfRegion
} = require('../region/host-region.js')
const { AT, counts } = require('../observe/counts.js')
const { UNHEARD } = require('../observe/events.js')
const { guardFaults } = require('../fault/guard.js')
const { entryAt } = require('./entry.js')
const { addEntry, notMade } = require('./entries.js')
const { makeMapping } = require('./mapping.js')
const { growForSpace, growIfRoom } = require('./growth.js')
const { putInBlock, accessFor } = require('./block.js')
const { beginMap, noteMapped } = require('./told.js')

const { MAPPED } = AT

// When pages are mapped that are in memory: src/memory/map.rs has the list. 0: as they are touched.
const AHEAD = 1
const ALL = 2

const LARGE_BYTES = 64 * 2 ** 20

/** As GuardedMemory.map, which gives the Mapping. */
function map(linear, region, options) {
  mustBeRegion(region)
  const asked = read.map(options)
  const { at, allocator } = asked
  const checked = check.optional(allocator, check.allocator)
  const request = readRequest(region, asked, checked?.owner)
  guardFaults()
  if (allocator !== undefined) return mapInBlock(linear, at, allocator, checked, request)
  return at === undefined
    ? mapPastEnd(linear, request)
    : mapAt(linear, check.wholeNumberOrBigInt(at, 'options.at'), request, undefined)
}

function prepareMapping(linear, start, request, release) {
  const entry = entryAt(linear, start, request, release, null)
  return addEntry(entry, makeMapping(entry))
}

function mapAt(linear, at, request, release) {
  const { region, byteOffset, byteLength, code, populate, strict } = request
  const array = linear.currentTo(at + byteLength)
  const regionHandle = handleOf(region)
  const startTime = beginMap()
  const entry = prepareMapping(linear, at, request, release)
  try {
    entry.id = native.mapAt(
      linear.table.handle,
      array,
      regionHandle,
      at,
      byteOffset,
      byteLength,
      code,
      populate,
      strict ? 1 : 0
    )
  } catch (error) {
    throw notMade(entry, error)
  }
  counts[MAPPED] += 1
  if (startTime !== UNHEARD) noteMapped(entry, startTime)
  return entry.object
}

function mapPastEnd(linear, request) {
  const { region, byteLength, hugePages } = request
  // Where its huge pages can be mapped as such: see src/region/thp.rs.
  if (byteLength >= HUGE_PAGE_BYTES && (hugePages ?? mayBeHuge(region, byteLength))) {
    const mapping = mapInFreeSpace(linear, request, true)
    if (mapping !== undefined) return mapping
    // Space that is there already is worth more, unless it is asked for by name.
    const free = hugePages === true ? undefined : mapInFreeSpace(linear, request, false)
    if (free !== undefined) return free
    if (growIfRoom(linear, growthForCongruent(linear, request))) {
      const grown = mapInFreeSpace(linear, request, true)
      if (grown !== undefined) return grown
    }
  }
  for (;;) {
    const mapping = mapInFreeSpace(linear, request, false)
    if (mapping !== undefined) return mapping
    growForSpace(linear, byteLength)
  }
}

// Whether a file has huge pages in the kernel's cache changes all the time. A large one is worth
// the up to 2 MiB that it takes.
function mayBeHuge(region, byteLength) {
  return isHuge(region) || (isFile(region) && byteLength >= LARGE_BYTES)
}

/** `congruent`: only where huge pages can be mapped as such. undefined: the memory must grow. */
function mapInFreeSpace(linear, request, congruent) {
  const { region, byteOffset, byteLength, code, populate, strict } = request
  const array = linear.current()
  const regionHandle = handleOf(region)
  const startTime = beginMap()
  const entry = prepareMapping(linear, 0, request, undefined)
  try {
    const found = native.mapInFreeSpace(
      linear.table.handle,
      array,
      regionHandle,
      byteOffset,
      byteLength,
      code,
      populate,
      strict,
      congruent
    )
    if (found !== null) {
      entry.start = found.start
      entry.id = found.id
      counts[MAPPED] += 1
      if (startTime !== UNHEARD) noteMapped(entry, startTime)
      return entry.object
    }
  } catch (error) {
    throw notMade(entry, error)
  }
  linear.entries.delete(entry)
  return undefined
}

/** By how much the memory must grow for a congruent place: at most 2 MiB more than the mapping. */
function growthForCongruent(linear, { region, byteOffset, byteLength }) {
  const array = linear.current()
  const growth = callNative(() =>
    native.growthForCongruent(linear.table.handle, array, handleOf(region), byteOffset, byteLength)
  )
  // 0: another thread gave a place back since.
  return growth || byteLength + 2 * HUGE_PAGE_BYTES
}

// Not in `map`: closures would show in what every mapping costs.
function mapInBlock(linear, at, allocator, checked, request) {
  return putInBlock(linear, at, allocator, checked, request.byteLength, (start, release) =>
    mapAt(linear, start, request, release)
  )
}

function readRequest(region, asked, owner) {
  const { byteOffset = 0, byteLength, populate: now, hugePages, strict = false } = asked
  check.wholeNumber(byteOffset, 'options.byteOffset')
  check.optional(now, check.boolean, 'options.populate')
  check.boolean(strict, 'options.strict')
  check.optional(hugePages, check.boolean, 'options.hugePages')
  const access = accessFor(asked.access, owner)
  const code = check.access(access, 'options.access')
  mustBeOpen(region)
  const regionBytes = bytesOf(region)
  if (byteOffset >= regionBytes) {
    throw outOfRange(
      'options.byteOffset',
      `below the ${regionBytes} bytes of region "${nameOf(region)}"`,
      byteOffset
    )
  }
  const rest = regionBytes - byteOffset
  const length =
    byteLength === undefined
      ? rest
      : check.wholeNumber(
          byteLength,
          'options.byteLength',
          1,
          rest,
          restOfRegion,
          region,
          byteOffset
        )
  return {
    region,
    byteOffset,
    byteLength: length,
    access,
    code,
    populate: now === undefined ? AHEAD : Number(now) * ALL,
    hugePages,
    strict,
    owner
  }
}

module.exports = { map, prepareMapping }
