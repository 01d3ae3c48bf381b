'use strict'

// Blocks of a module's allocator that regions are mapped over. Some are the adapter's to free;
// others are C's, which frees them at munmap() without a word. A mapping over one of those is stale
// from then on, and is found out when the allocator gives out its range again: every block for a
// mapping comes from here, so that no mapping is made over a stale one.

const {
  EMSCRIPTEN_PAGE,
  allocatorOf,
  guardedMemoryOf,
  mustHaveAllocator
} = require('./emscripten-module.js')

/** By GuardedMemory: mappings over blocks that C frees. */
const C_OWNED = new WeakMap()

function cOwnedIn(guarded) {
  if (!C_OWNED.has(guarded)) C_OWNED.set(guarded, new Set())
  return C_OWNED.get(guarded)
}

const toAddress = pointer => (typeof pointer === 'bigint' ? Number(pointer) : pointer >>> 0)

/**
 * Unmaps what C has freed meanwhile: its allocator has just given out [start, start + byteLength).
 * What was written to a stale mapping stays, and what was not is of no meaning to anybody.
 */
function dropStale(guarded, start, byteLength) {
  const mappings = cOwnedIn(guarded)
  for (const mapping of mappings) {
    if (mapping.unmapped) mappings.delete(mapping)
    else if (mapping.address < start + byteLength && start < mapping.address + mapping.byteLength) {
      mapping.unmap()
      mappings.delete(mapping)
    }
  }
}

/** The allocator for a mapping that the adapter unmaps; `room` bytes are left behind it. */
function ownBlocks(module, room = 0) {
  const { malloc, free } = mustHaveAllocator(module)
  const guarded = guardedMemoryOf(module)
  return {
    malloc(byteLength) {
      const asked = Number(byteLength) + room
      const pointer = malloc(asked)
      if (toAddress(pointer) !== 0) dropStale(guarded, toAddress(pointer), asked)
      return pointer
    },
    free
  }
}

/**
 * Maps a region over a block that C frees; undefined if the module does not show how to make one.
 */
function mapInCBlock(module, region, blockBytes, options) {
  const { aligned, own } = allocatorOf(module)
  const guarded = guardedMemoryOf(module)
  if (aligned === undefined) return undefined
  const byteLength = Math.ceil(blockBytes / EMSCRIPTEN_PAGE) * EMSCRIPTEN_PAGE
  const allocator = {
    malloc() {
      const pointer = aligned(byteLength)
      if (toAddress(pointer) !== 0) dropStale(guarded, toAddress(pointer), byteLength)
      return pointer
    },
    free: pointer => own?.free(pointer),
    owner: 'engine'
  }
  const mapping = guarded.map(region, { ...options, access: 'private', allocator })
  cOwnedIn(guarded).add(mapping)
  return mapping
}

module.exports = { mapInCBlock, ownBlocks }
