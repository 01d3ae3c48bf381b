// The three ways by which a file's bytes reach a module. Each has the same three steps:
//
//   open      once in the host. Only what it gives is handed to the modules handle
//   what is posted to a worker, and what the worker makes of it place     once for each module, in
//   the thread where it runs: a memory with the bytes at `pointer`
import { openSync, readSync, closeSync } from 'node:fs'
import { inspect } from 'node:util'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'
import { WASM_PAGE_BYTES } from './program.mjs'

// Small enough for several steps a second, large enough to cost nothing.
const stepBytes = 64 * 1024 * 1024

/** The file is read into the host's memory, and each module gets a copy in its own. */
const copied = {
  open(path, byteLength, onProgress) {
    // Threads can share it: what is posted to a worker is a reference, not another copy.
    const buffer = new SharedArrayBuffer(byteLength)
    const fd = openSync(path, 'r')
    for (let done = 0; done < byteLength;) {
      const wanted = Math.min(stepBytes, byteLength - done)
      const bytesRead = readSync(fd, new Uint8Array(buffer, done, wanted))
      if (bytesRead === 0) throw new Error(`${path} got shorter while it was read`)
      done += bytesRead
      onProgress('reading', bytesRead)
    }
    closeSync(fd)
    return buffer
  },

  toHandle: buffer => buffer,
  fromHandle: buffer => buffer,

  place(buffer, onProgress) {
    const pointer = WASM_PAGE_BYTES
    const memory = new WebAssembly.Memory({
      initial: 1 + Math.ceil(buffer.byteLength / WASM_PAGE_BYTES)
    })
    const target = new Uint8Array(memory.buffer)
    for (let done = 0; done < buffer.byteLength; done += stepBytes) {
      const part = new Uint8Array(buffer, done, Math.min(stepBytes, buffer.byteLength - done))
      target.set(part, pointer + done)
      onProgress('copying', part.byteLength)
    }
    return { memory, pointer }
  }
}

/**
 * Each module's memory is filled from the file, with no copy in between: the best that can be done
 * without mapping.
 */
const read = {
  open: (path, byteLength) => ({ path, byteLength }),

  toHandle: file => file,
  fromHandle: file => file,

  place({ path, byteLength }, onProgress) {
    const pointer = WASM_PAGE_BYTES
    const memory = new WebAssembly.Memory({ initial: 1 + Math.ceil(byteLength / WASM_PAGE_BYTES) })
    const target = new Uint8Array(memory.buffer, pointer, byteLength)
    const fd = openSync(path, 'r')
    for (let done = 0; done < byteLength;) {
      const bytesRead = readSync(fd, target, done, Math.min(stepBytes, byteLength - done), done)
      if (bytesRead === 0) throw new Error(`${path} got shorter while it was read`)
      done += bytesRead
      onProgress('reading', bytesRead)
    }
    closeSync(fd)
    return { memory, pointer }
  }
}

/** The file's own pages are mapped into each module's memory. */
const mapped = {
  open: (path, byteLength) => HostRegion.open(path, { byteLength }),

  toHandle: region => region.share({ access: 'readonly' }),
  fromHandle: token => HostRegion.receive(token),

  place(region) {
    const guarded = new GuardedMemory({ initial: 1 })
    const mapping = guarded.map(region)
    return {
      memory: guarded.memory,
      pointer: mapping.pointer,
      // Kept for as long as the module is used, as `mapping` and `region` are.
      mapping,
      draw: colors => inspect(guarded.layout(), { colors })
    }
  }
}

export const ways = { copied, read, mapped }
