'use strict'

// Errors for memories that can't be used as they were given: hidden, moved, or no memories at all.
// Words only.

const { makeError } = require('../support/errors.js')

const THE_FUNCTION = 'the function that was passed to GuardedMemory.from'
const PASS_A_FUNCTION =
  'pass GuardedMemory.from a function that gives the buffer as it is now, such as () => Module.HEAPU8.buffer'

const unknownAddress = () =>
  makeError(
    'ERR_HOSTMAP_ADDRESS_UNKNOWN',
    "nothing tells whether the memory's addresses have 32 or 64 bits; pass options.address, 'i32' or 'i64', as its module declares it"
  )

const moved = what =>
  makeError(
    'ERR_HOSTMAP_MEMORY_MOVED',
    `V8 has moved the memory to another place when it grew, and its mappings are lost: their bytes are copies now; ${what}`
  )

const notWasmMemory = why =>
  makeError('ERR_HOSTMAP_NOT_WASM_MEMORY', `memory is not a WebAssembly memory's buffer: ${why}`)

const unguarded = () =>
  makeError(
    'ERR_HOSTMAP_MEMORY_UNGUARDED',
    'Bun made this memory without guards, as a block of its heap that moves when it grows, so nothing can be mapped into it; ' +
      'it has guards for 8 memories with 32-bit addresses at a time: let others go first, or start Bun with BUN_JSC_maxNumWasmFastMemories=1000 in the environment'
  )

const hidden = why => makeError('ERR_HOSTMAP_MEMORY_HIDDEN', `the module hides its memory: ${why}`)

module.exports = {
  THE_FUNCTION,
  PASS_A_FUNCTION,
  unknownAddress,
  moved,
  notWasmMemory,
  unguarded,
  hidden
}
