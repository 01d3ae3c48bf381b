'use strict'

// The bytes of MEMFS files, all in one Wasm memory that nobody else has: a snapshot of it knows by
// the page which files were written, so that going back costs what was written and not what there
// is. The kernel sees every write, through any view.
//
// Nothing here knows Emscripten: files are views and lengths.

const { types } = require('node:util')

const { GuardedMemory } = require('../../index.js')
const { makeError } = require('./errors.js')

const WASM_PAGE_BYTES = 65_536
const PAGE_BYTES = 4096
const SMALL_ALIGNMENT = 16
const MAX_BYTES = 2 ** 32

/** Buffers of arenas: their files move to the next arena, where those of other memories stay. */
const arenas = new WeakSet()

/**
 * Copies files into an arena.
 *
 * @param files `{ contents, usedBytes }`: a one-byte typed array, and how much of it is the file;
 *   what follows is room to grow, and is zeros
 * @returns `{ views, restore }`: a view of the arena for each file, as long as its `contents`;
 *   `restore` brings all of them back to what they are now
 */
function makeArena(files) {
  const { offsets, byteLength } = layOut(files)
  if (byteLength === 0) return { views: files.map(({ contents }) => contents), restore() {} }
  const wasmPages = Math.ceil(byteLength / WASM_PAGE_BYTES)
  const snapshot = snapshotOf(files, offsets, wasmPages)
  // Not the memory that was filled: that one keeps its private pages beside those of the snapshot.
  const shown = new GuardedMemory({ initial: wasmPages, maximum: wasmPages })
  shown.restore(snapshot)
  arenas.add(shown.buffer)
  const views = files.map(({ contents }, i) => {
    const View = viewClass(contents)
    return new View(shown.buffer, offsets[i], contents.length)
  })
  return { views, restore: () => shown.restore(snapshot) }
}

/** Small files close together; others at a page, since what is written goes back by the page. */
function layOut(files) {
  let end = 0
  const offsets = files.map(({ contents }) => {
    const alignment = contents.length < PAGE_BYTES ? SMALL_ALIGNMENT : PAGE_BYTES
    const start = Math.ceil(end / alignment) * alignment
    end = start + contents.length
    return start
  })
  if (end > MAX_BYTES) {
    throw makeError(
      'ERR_HOSTMAP_MEMORY_FULL',
      `the files hold ${end} bytes, and a checkpoint of at most ${MAX_BYTES} bytes is possible: ` +
        'mount large files from regions or from the host, which a checkpoint does not copy'
    )
  }
  return { offsets, byteLength: end }
}

function snapshotOf(files, offsets, wasmPages) {
  const filled = new GuardedMemory({ initial: wasmPages, maximum: wasmPages })
  const bytes = new Uint8Array(filled.buffer)
  files.forEach(({ contents, usedBytes }, i) => {
    bytes.set(contents.subarray(0, usedBytes), offsets[i])
  })
  return filled.snapshot()
}

function viewClass(contents) {
  if (types.isInt8Array(contents)) return Int8Array
  return types.isUint8ClampedArray(contents) ? Uint8ClampedArray : Uint8Array
}

/**
 * Whether the bytes of a file are in a Wasm memory that is no arena: in the engine's own, say. They
 * go back with that memory, and can't be elsewhere: C has their address.
 */
function isInWasmMemory({ buffer }) {
  if (arenas.has(buffer) || buffer.byteLength === 0) return false
  if (buffer.byteLength % WASM_PAGE_BYTES !== 0) return false
  try {
    GuardedMemory.from(buffer)
    return true
  } catch (error) {
    if (error.code === 'ERR_HOSTMAP_NOT_WASM_MEMORY') return false
    return error.code === 'ERR_HOSTMAP_ADDRESS_UNKNOWN' ? true : rethrow(error)
  }
}

function rethrow(error) {
  throw error
}

module.exports = { makeArena, isInWasmMemory }
