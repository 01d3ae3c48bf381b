'use strict'

// A block that starts at a host page, from an engine that exports malloc and free but no memalign,
// and that frees the block itself. What malloc gives is checked, never assumed.

const { limits } = require('../../index.js')

// What is put before the block, and the least that is asked for: larger than most gaps of a heap,
// which either would fall into.
const LEAD_PAGES = 64
// A heap may have many gaps that fit: DuckDB leaves more than 32 after a large query.
const MAX_OTHERS = 4096
const MAX_TRIES = 4
// Emscripten's dlmalloc rounds up to multiples of 8 what is asked for and 4 bytes of its own.
const OWN_BYTES = 8

/** An allocator of such blocks in an Emscripten module. */
function pageAllocator(mod) {
  const { pageSize } = limits()
  const take = byteLength => mod._malloc(byteLength) >>> 0
  const sizeOf = byteLength => Math.max(byteLength, LEAD_PAGES * pageSize)

  /** Takes blocks until one is at `address`; the others are freed. 0 if none is. */
  const takeAt = (address, byteLength, most) => {
    const others = []
    let block = 0
    while (others.length < most) {
      block = take(byteLength)
      if (block === address || block === 0) break
      others.push(block)
      block = 0
    }
    for (const other of others) mod._free(other)
    return block
  }

  /** Finds room for a lead and the block in one piece, then takes the one after the other. */
  const tryOnce = byteLength => {
    const room = take(byteLength + (LEAD_PAGES + 2) * pageSize)
    if (room === 0) return 0
    mod._free(room)
    const lead = (LEAD_PAGES + 1) * pageSize - (room % pageSize)
    const filler = takeAt(room, lead - OWN_BYTES, MAX_OTHERS)
    if (filler === 0) return 0
    const block = takeAt(room + lead, byteLength, MAX_OTHERS)
    mod._free(filler)
    return block
  }

  return {
    owner: 'engine',
    malloc(byteLength) {
      let block = 0
      for (let tries = 0; tries < MAX_TRIES && block === 0; tries += 1) {
        block = tryOnce(sizeOf(byteLength))
      }
      return block
    },
    free: address => mod._free(address)
  }
}

module.exports = { pageAllocator }
