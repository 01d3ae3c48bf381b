'use strict'

// Room for later, by one growth and not by many: for mappings in free space, or for the module's
// own allocator. Nothing is mapped here.

const native = require('../platform/binding.js')
const check = require('../support/arguments.js')
const { callNative } = require('../support/errors.js')
const { growForSpace } = require('./growth.js')
const { reserveInModule } = require('./block.js')

/** As GuardedMemory.reserve. */
function reserve(linear, byteLength, { allocator }) {
  check.wholeNumber(byteLength, 'byteLength', 1)
  if (allocator !== undefined) return reserveInModule(linear, allocator, byteLength)
  while (!hasRoom(linear, byteLength)) growForSpace(linear, byteLength)
}

function hasRoom(linear, byteLength) {
  const array = linear.current()
  return callNative(() => native.hasFreeSpace(linear.table.handle, array, byteLength))
}

module.exports = { reserve }
