'use strict'

// Addresses of bytes that a caller holds as a view: of the memory itself, or of the region that is
// mapped there. A view's own class is never asked: it may say anything.

const { types } = require('node:util')
const { makeError } = require('../support/errors.js')
const { instead, received } = require('../support/given.js')
const { wrongType, wrongValue } = require('../support/wrong.js')
const { arrayParts, dataViewParts } = require('../platform/intrinsics.js')
const v8 = require('../platform/v8.js')
const { nameOf, nativeOf } = require('../region/host-region.js')
const { placeOfView } = require('../region/views.js')
const { isDetached } = require('./buffer.js')
const { moved } = require('./errors.js')
const { byBuffer } = require('./registry.js')
const { isAt } = require('./table.js')

/** As Mapping.pointerOf. */
function pointerTo(entry, view) {
  const { linear, table, start, ended, request } = entry
  const { buffer, byteOffset, byteLength } = partsOf(view)
  if (ended) {
    throw makeError(
      'ERR_HOSTMAP_MAPPING_UNMAPPED',
      `the mapping of region "${nameOf(request.region)}" at ${start} was unmapped, so it has no addresses`
    )
  }
  // Finds out where the memory is by now.
  linear.current()
  if (table.lost) throw moved('map again')
  if (isDetached(buffer)) {
    throw wrongValue(
      'view',
      'a view of a buffer that is there',
      view,
      'its buffer is detached: the memory has grown, or the region was closed; make the view anew'
    )
  }
  const inMapping = offsetIn(entry, buffer, byteOffset)
  if (inMapping === undefined) {
    throw wrongValue(
      'view',
      `a view of the memory, or one that view() or bytes() of region "${nameOf(request.region)}" gave`,
      view
    )
  }
  const { from, of, first } = inMapping
  if (from < 0 || from + byteLength > request.byteLength) {
    const end = first + request.byteLength
    throw makeError(
      'ERR_OUT_OF_RANGE',
      `view must be inside the mapping, [${first}, ${end}) of the ${of}; ` +
        `received ${received(view)} over [${first + from}, ${first + from + byteLength})`
    )
  }
  const address = start + from
  return linear.address === 'i64' ? BigInt(address) : address
}

/** How far into the mapping a byte of a buffer is; of what, and where the mapping begins in it. */
function offsetIn({ linear, table, start, request }, buffer, byteOffset) {
  if (isOfMemory(linear, table, buffer)) {
    return { from: byteOffset - start, of: 'memory', first: start }
  }
  const place = placeOfView(buffer)
  if (place === undefined || place.native.deref() !== nativeOf(request.region)) return undefined
  const first = request.byteOffset
  return { from: place.byteOffset + byteOffset - first, of: 'region', first }
}

// A shared memory has a buffer for each time that somebody asked after a growth.
const isOfMemory = (linear, table, buffer) =>
  byBuffer.get(buffer) === linear ||
  (linear.shared && v8.isShared(buffer) && isAt(table, v8.arrayOver(buffer)))

function partsOf(view) {
  if (!ArrayBuffer.isView(view)) {
    throw wrongType('view', 'a typed array, a Buffer or a DataView', view, instead.view(view))
  }
  const { buffer, byteOffset, byteLength } = types.isDataView(view) ? dataViewParts : arrayParts
  try {
    return {
      buffer: buffer(view),
      byteOffset: byteOffset(view),
      byteLength: byteLength(view)
    }
  } catch {
    // A DataView of a detached buffer can't be asked.
    return { buffer: buffer(view), byteOffset: 0, byteLength: 0 }
  }
}

module.exports = { pointerTo }
