'use strict'

// Blocks that a module's own malloc gives, to map or to open a window in. malloc and free are
// foreign code: a block is given back exactly once, and what malloc gave is not believed before it
// was checked.

const check = require('../support/arguments.js')
const { makeError } = require('../support/errors.js')
const { received } = require('../support/given.js')
const { PAGE_BYTES } = require('../platform/pages.js')
const { WASM_PAGE_BYTES, lengthOf, pageLimits } = require('../platform/v8.js')
const { PASS_A_FUNCTION } = require('./errors.js')

/**
 * Puts something of so many bytes into a block of the module's own, which is given back if that
 * fails. `put` takes the first page of the block, and the function that gives the block back.
 */
function putInBlock(linear, at, allocator, byteLength, put) {
  if (at !== undefined) {
    throw makeError(
      'ERR_INVALID_ARG_VALUE',
      'options.at and options.allocator are both given; give one of them'
    )
  }
  const { malloc, free } = check.allocator(allocator)
  // One page more than the pages themselves: the block may start anywhere in a page.
  const blockBytes = roundUp(byteLength) + PAGE_BYTES
  const is64 = linear.address === 'i64'
  const failed = why =>
    makeError('ERR_HOSTMAP_ALLOCATOR_FAILED', `options.allocator.malloc(${blockBytes}): ${why}`)
  // A 32-bit malloc would see its argument modulo 2^32, and give a block that is far too small.
  if (!is64 && blockBytes >= 2 ** 32)
    throw failed('more than a 32-bit module can be asked for; map less of the region')
  const given = malloc.call(allocator, is64 ? BigInt(blockBytes) : blockBytes)
  const gave = () => `it gave ${received(given)}, `
  // What can't be a block is not given back either.
  const start = addressOf(given, is64)
  if (start === undefined) throw failed(`${gave()}which is no address`)
  if (start === 0)
    throw failed(`${gave()}so the module has no block of this size; let its memory grow further`)
  // No memory of the kind reaches further.
  const most = (pageLimits()[linear.address] || Infinity) * WASM_PAGE_BYTES
  let release = start + blockBytes <= most ? () => free.call(allocator, given) : undefined
  try {
    // Only now, since malloc may have grown the memory.
    const memoryBytes = lengthOf(linear.current())
    if (start + blockBytes > memoryBytes) {
      // A shared memory may be larger than the last buffer that was seen; else it is no block of
      // the module's.
      const isStale = linear.memory === null && linear.shared
      if (!isStale) release = undefined
      const hint = isStale ? `, by the buffer that is known; ${PASS_A_FUNCTION}` : ''
      throw failed(`${gave()}and the memory ends before the block does, at ${memoryBytes}${hint}`)
    }
    return put(roundUp(start), release)
  } catch (error) {
    try {
      release?.()
    } catch (cause) {
      error.cause ??= cause
    }
    throw error
  }
}

const roundUp = bytes => Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES

/**
 * An address that a module's function gave, as a number. 32-bit ones above 2 GiB come as negative
 * numbers.
 */
function addressOf(given, is64) {
  if (typeof given !== 'number' && typeof given !== 'bigint') return undefined
  if (typeof given === 'number' && !Number.isInteger(given)) return undefined
  const [lowest, highest] = is64 ? [-(2n ** 63n), 2n ** 64n - 1n] : [-(2n ** 31n), 2n ** 32n - 1n]
  const address = BigInt(given)
  if (address < lowest || address > highest) return undefined
  return Number(BigInt.asUintN(is64 ? 64 : 32, address))
}

module.exports = { putInBlock }
