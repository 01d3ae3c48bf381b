'use strict'

// Blocks that a module's own malloc gives, to map or to open a window in, or to have room later.
// malloc and free are foreign code: a block is given back exactly once, and what malloc gave is not
// believed before it was checked.

const check = require('../support/arguments.js')
const { makeError } = require('../support/errors.js')
const { received } = require('../support/given.js')
const { wrongValue } = require('../support/wrong.js')
const { PAGE_BYTES } = require('../platform/pages.js')
const { WASM_PAGE_BYTES, lengthOf, pageLimits } = require('../platform/v8.js')

/**
 * Puts something of so many bytes into a block of the module's own, which is given back if that
 * fails. `put` takes the first page of the block, and the function that gives the block back.
 *
 * @param checked the allocator, as `check.allocator` gave it
 */
function putInBlock(linear, at, allocator, checked, byteLength, put) {
  if (at !== undefined) {
    throw makeError(
      'ERR_INVALID_ARG_VALUE',
      'options.at and options.allocator are both given; give one of them'
    )
  }
  const isEngines = checked.owner === 'engine'
  // One page more than the pages themselves: the block may start anywhere in a page. One that its
  // engine frees is freed by the address of the first page, so it must start there.
  const wanted = roundUp(byteLength) + (isEngines ? 0 : PAGE_BYTES)
  const block = take(linear, allocator, checked, wanted)
  try {
    mustBeInside(linear, block)
    if (isEngines && block.start % PAGE_BYTES !== 0) {
      throw block.failed(
        `it gave ${received(block.given)}, and with owner 'engine' the block must start at a page of ${PAGE_BYTES} bytes; ` +
          `give a malloc that aligns, as length => aligned_alloc(${PAGE_BYTES}, length) does`
      )
    }
    return put(roundUp(block.start), isEngines ? undefined : block.release)
  } catch (error) {
    giveBack(block, error)
    throw error
  }
}

/** Takes a block of the module's own and gives it back: the module has room for as much then. */
function reserveInModule(linear, allocator, byteLength) {
  const block = take(linear, allocator, check.allocator(allocator), byteLength)
  try {
    mustBeInside(linear, block)
  } catch (error) {
    giveBack(block, error)
    throw error
  }
  block.release()
}

/**
 * A block of so many bytes. Whether it is inside the memory is not checked yet: malloc may have
 * grown it.
 */
function take(linear, allocator, { malloc, free }, blockBytes) {
  const is64 = linear.address === 'i64'
  const failed = why =>
    makeError('ERR_HOSTMAP_ALLOCATOR_FAILED', `options.allocator.malloc(${blockBytes}): ${why}`)
  // A 32-bit malloc would see its argument modulo 2^32, and give a block that is far too small.
  if (!is64 && blockBytes >= 2 ** 32)
    throw failed('more than a 32-bit module can be asked for; map less of the region')
  const length = is64 ? BigInt(blockBytes) : blockBytes
  // Emscripten's builds with assertions abort a call that has an argument too many.
  const lengths = free.length > 1 ? [length] : []
  const given = malloc.call(allocator, length)
  const gave = `it gave ${received(given)}, `
  // What can't be a block is not given back either.
  const start = addressOf(given, is64)
  if (start === undefined) throw failed(`${gave}which is no address`)
  if (start === 0)
    throw failed(`${gave}so the module has no block of this size; let its memory grow further`)
  // No memory of the kind reaches further.
  const most = (pageLimits()[linear.address] || Infinity) * WASM_PAGE_BYTES
  const release =
    start + blockBytes <= most ? () => free.call(allocator, given, ...lengths) : undefined
  return { start, given, end: start + blockBytes, failed, release }
}

function mustBeInside(linear, block) {
  const memoryBytes = lengthOf(linear.currentTo(block.end))
  if (block.end <= memoryBytes) return
  // It is no block of the module's.
  block.release = undefined
  throw block.failed(
    `it gave ${received(block.given)}, and the memory ends before the block does, at ${memoryBytes}`
  )
}

function giveBack({ release }, error) {
  try {
    release?.()
  } catch (cause) {
    error.cause ??= cause
  }
}

/**
 * The access of what is mapped. In a block of the engine's, its allocator writes its lists into
 * blocks that it gets back: a store to a read-only page would trap in the middle of `free`, and one
 * to a shared page change the region.
 */
function accessFor(access, owner) {
  if (owner !== 'engine') return access === undefined ? 'readonly' : access
  if (access === undefined || access === 'private') return 'private'
  throw wrongValue(
    'options.access',
    "'private' where options.allocator.owner is 'engine'",
    access,
    'the engine writes to the block when it frees it'
  )
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

module.exports = { putInBlock, reserveInModule, accessFor }
