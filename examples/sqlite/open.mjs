// Three ways to open a database file in SQLite's Wasm module. In all of them, the file's bytes end
// up in linear memory, and sqlite3_deserialize gets their address.

import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'

/** No copy: maps the file's pages over a block from the module's malloc. */
export function openMapped(sqlite3, path) {
  const { malloc, free } = sqlite3.wasm.exports
  const region = HostRegion.open(path)
  try {
    const mapping = GuardedMemory.from(sqlite3.wasm.memory).map(region, {
      allocator: { malloc, free }
    })
    return openImage(sqlite3, mapping.pointer, mapping.byteLength, () => mapping.unmap())
  } finally {
    region.close() // the mapping stays
  }
}

/**
 * Two copies, as in SQLite's documentation: the file into a JavaScript buffer, the buffer into
 * linear memory.
 */
export function openCopied(sqlite3, path) {
  const { wasm } = sqlite3
  const { buffer, byteOffset, byteLength } = readFileSync(path)
  const address = wasm.allocFromTypedArray(new Uint8Array(buffer, byteOffset, byteLength))
  return openImage(sqlite3, address, byteLength, () => wasm.dealloc(address))
}

/** One copy, the minimum without a mapping: reads the file directly into linear memory. */
export function openRead(sqlite3, path) {
  const { wasm } = sqlite3
  const fd = openSync(path)
  try {
    const byteLength = fstatSync(fd).size
    const address = wasm.alloc(byteLength)
    const block = wasm.heap8u().subarray(address, address + byteLength)
    for (let done = 0; done < byteLength;) {
      const read = readSync(fd, block, done, byteLength - done, done)
      if (read === 0) throw new Error(`${path} became shorter while it was read`)
      done += read
    }
    return openImage(sqlite3, address, byteLength, () => wasm.dealloc(address))
  } finally {
    closeSync(fd)
  }
}

/**
 * With SQLITE_DESERIALIZE_READONLY, SQLite never writes to the image. Even if it did, the file
 * would not change: a store to a read-only mapping traps or, after the module has grown its memory,
 * goes to a private copy of the page.
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
