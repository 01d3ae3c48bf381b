'use strict'

// `stream_ops.mmap` of Emscripten's file systems: its arguments, which differ between versions, and
// the copy that the original makes.
//
//   up to 1.39.16          mmap(stream, buffer, offset, length, position, prot, flags)
//   1.39.17 to 3.1.10      mmap(stream, address, length, position, prot, flags)
//   from 3.1.11 on         mmap(stream, length, position, prot, flags)
//
// It gives { ptr, allocated }; C frees a block that was allocated, at munmap().

const { MAP_PRIVATE } = require('./memfs.js')

/** Linux's, as musl defines it. */
const PROT_READ = 1

/** What C asks for; undefined for an address, which Emscripten can't place a mapping at. */
function mmapArguments(given) {
  const [length, position, prot, flags] = given.slice(-4)
  if (given.length === 5 && given[0] !== 0) return undefined
  // Versions before 3.1.42 pass 32 bits of it, which come as a signed number.
  return { length, position: position < 0 ? position + 2 ** 32 : position, prot, flags }
}

/**
 * A function that maps these bytes as the original does: a copy of them in a block of C's own. The
 * original sees a stream of a file that holds them.
 */
function copyingMmap(original, node) {
  const { mmap } = original
  return (bytes, length) => {
    const stream = { node: { mode: node.mode, contents: bytes, usedBytes: bytes.length } }
    // MAP_PRIVATE: always a copy.
    const asked = [length, 0, PROT_READ, MAP_PRIVATE]
    return mmap.length === 6 ? mmap(stream, 0, ...asked) : mmap(stream, ...asked)
  }
}

module.exports = { mmapArguments, copyingMmap }
