// Three ways to open a database file in SQLite's Wasm module. All end the same: the file's image
// is in the module's linear memory, and sqlite3_deserialize is told where.

import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'

/** No copy: the file's own pages are mapped over a block of the module's malloc. */
export function openMapped(sqlite3, path) {
  const { malloc, free } = sqlite3.wasm.exports
  const region = HostRegion.open(path)
  try {
    const mapping = GuardedMemory.from(sqlite3.wasm.memory).map(region, {
      allocator: { malloc, free }
    })
    return openImage(sqlite3, mapping.pointer, mapping.byteLength, () => mapping.unmap())
  } finally {
    region.close() // The mapping stays.
  }
}

/**
 * Two copies, as SQLite's documentation shows it: the file into a JavaScript buffer, the buffer
 * into linear memory.
 */
export function openCopied(sqlite3, path) {
  const { wasm } = sqlite3
  const { buffer, byteOffset, byteLength } = readFileSync(path)
  const address = wasm.allocFromTypedArray(new Uint8Array(buffer, byteOffset, byteLength))
  return openImage(sqlite3, address, byteLength, () => wasm.dealloc(address))
}

/**
 * One copy, the least that can be had without a mapping: the file is read straight into linear
 * memory.
 */
export function openRead(sqlite3, path) {
  const { wasm } = sqlite3
  const fd = openSync(path)
  try {
    const byteLength = fstatSync(fd).size
    const address = wasm.alloc(byteLength)
    const block = wasm.heap8u().subarray(address, address + byteLength)
    for (let done = 0; done < byteLength;) {
      const read = readSync(fd, block, done, byteLength - done, done)
      if (read === 0) throw new Error(`${path} got shorter while it was read`)
      done += read
    }
    return openImage(sqlite3, address, byteLength, () => wasm.dealloc(address))
  } finally {
    closeSync(fd)
  }
}

/**
 * SQLite never writes to an image that is SQLITE_DESERIALIZE_READONLY. If it did, the file would
 * not change either: a store into a read-only mapping traps, or lands on a private copy of the page
 * once the module has grown its memory.
 */
function openImage(sqlite3, address, byteLength, release) {
  const { capi, oo1 } = sqlite3
  const db = new oo1.DB()
  const flags = capi.SQLITE_DESERIALIZE_READONLY
  db.checkRc(capi.sqlite3_deserialize(db.pointer, 'main', address, byteLength, byteLength, flags))
  return {
    db,
    close() {
      db.close()
      release()
    }
  }
}
