'use strict'

// The native part's mapping table of a memory. All calls name it by its handle, a number, which is
// good as long as its owner is held.

const native = require('../platform/binding.js')
const { callNative } = require('../support/errors.js')

/** The table of the memory that this array is over, with all mappings of all threads. */
function attach(array) {
  const owner = new native.NativeMemory(array)
  return { owner, handle: owner.handle, lost: false }
}

/** Whether the buffer of this array, of any kind, is that of the memory with this table. */
function isAt(table, array) {
  try {
    return callNative(() => native.isAt(table.handle, array))
  } catch (error) {
    if (error.code === 'ERR_HOSTMAP_NOT_WASM_MEMORY') return false
    throw error
  }
}

module.exports = { attach, isAt }
