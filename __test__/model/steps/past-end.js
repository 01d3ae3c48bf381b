'use strict'

// Places that the library finds: in the free space of a memory, or in what it grows by for them.

const { WASM_PAGE } = require('../model')
const { PAGE, Difference } = require('../world')
const { memoryCodes, mayGrow } = require('./memories')

/**
 * What so many bytes past the end of a memory are to do: the codes with which they are refused, and
 * what `placed` and `failed` make of the model. null: not to be tried.
 */
function pastEnd(memory, bytes, requestCodes) {
  const { model, hidden, byFunction, guarded } = memory
  const before = model.wasmPages
  const needed = Math.ceil(bytes / WASM_PAGE)
  const grows = model.longestFree() < bytes
  const codes = [...requestCodes, ...memoryCodes(memory)]
  if (grows && requestCodes.length === 0) {
    if (hidden || byFunction) codes.push('ERR_HOSTMAP_MEMORY_HIDDEN')
    else if (before + needed > model.maximum) codes.push('ERR_HOSTMAP_MEMORY_FULL')
    else if (!mayGrow(model, needed)) return null
  }
  const growNow = () => {
    model.grow(needed)
    model.addFree(before * WASM_PAGE, model.byteLength)
    model.loseProtection()
  }
  return {
    codes,
    placed(start) {
      if (grows) growNow()
      if (start % PAGE !== 0 || !model.isFree(start, start + bytes)) {
        throw new Difference(`${start} is not free for ${bytes} bytes in ${memory.name}`)
      }
    },
    /** The growth can't be undone: it is the next one's. */
    failed() {
      if (grows && codes.length === 0 && guarded.byteLength !== model.byteLength) growNow()
    }
  }
}

module.exports = { pastEnd }
