'use strict'

// Tries the package, as a program would use it: what the kernel says that it allows is one thing,
// and what works is another. Each part gives null, or the error that it ended with.

const fs = require('node:fs')
const path = require('node:path')

const PAGES_BYTES = 3 * 65536
// More than 2 MiB at any alignment, and little enough for a small machine.
const HUGE_BYTES = 4 * 2 ** 20

/** What a part ends with, or null. */
async function errorOf(part) {
  try {
    await part()
    return null
  } catch (error) {
    return error
  }
}

function expectByte(memory, pointer, expected) {
  const found = new Uint8Array(memory.buffer)[Number(pointer)]
  if (found !== expected)
    throw new Error(`the memory holds ${found} where the region has ${expected}`)
}

/** A region in a memory, a window that slides over it, and a memory that goes back. */
function mapAndRestore({ HostRegion, GuardedMemory }) {
  const region = HostRegion.copyFrom(new Uint8Array(PAGES_BYTES).fill(7))
  const guarded = new GuardedMemory({ initial: 1 })
  const mapping = guarded.map(region)
  expectByte(guarded.memory, mapping.pointer, 7)
  const window = guarded.window({ byteLength: 65536 })
  const shown = window.slide(region, 65536)
  expectByte(guarded.memory, shown.pointer, 7)
  window.unmap()
  mapping.unmap()
  const snapshot = guarded.snapshot()
  new Uint8Array(guarded.memory.buffer)[0] = 9
  guarded.restore(snapshot)
  expectByte(guarded.memory, 0, 0)
  snapshot.close()
  region.close()
}

/** How much of a region gets huge pages: `{ bytes, reason }`. */
function hugePages({ HostRegion }) {
  const region = HostRegion.copyFrom(new Uint8Array(HUGE_BYTES).fill(1), { hugePages: true })
  const { bytes, reason } = region.hugePages
  region.close()
  return { bytes, reason }
}

/**
 * Whether Snapshot.open takes files of a folder: null, or the error. The file is gone afterwards.
 */
async function snapshotFile({ GuardedMemory, Snapshot }, folder) {
  let own
  try {
    own = fs.mkdtempSync(path.join(folder, '.wasm-hostmap-doctor-'))
    const file = path.join(own, 'snapshot')
    const snapshot = new GuardedMemory({ initial: 1 }).snapshot()
    await snapshot.save(file)
    const opened = await Snapshot.open(file)
    opened.close()
    snapshot.close()
    return null
  } catch (error) {
    return error
  } finally {
    if (own !== undefined) fs.rmSync(own, { recursive: true, force: true })
  }
}

module.exports = { errorOf, mapAndRestore, hugePages, snapshotFile }
