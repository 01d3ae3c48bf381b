// The three ways to get a file's bytes into a module's memory. Each has these steps:
//
//   open         in the host, once. Only its result is passed to the modules
//   toHandle     makes what is posted to a worker
//   fromHandle   in the worker, makes the data of it
//   place        for each module, in its thread: returns a memory with the bytes at `pointer`
import { openSync, readSync, closeSync } from 'node:fs'
import { inspect } from 'node:util'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'
import { WASM_PAGE_BYTES } from './program.mjs'

// Small enough for several steps a second, large enough to cost nothing.
const stepBytes = 64 * 1024 * 1024

/** Reads the file into the host's memory, and copies it into each module's. */
const copied = {
  open(path, byteLength, onProgress) {
    // Threads share it: posting it to a worker does not copy it.
    const buffer = new SharedArrayBuffer(byteLength)
    const fd = openSync(path, 'r')
    for (let done = 0; done < byteLength;) {
      const wanted = Math.min(stepBytes, byteLength - done)
      const bytesRead = readSync(fd, new Uint8Array(buffer, done, wanted))
      if (bytesRead === 0) throw new Error(`${path} became shorter while it was read`)
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

/** Reads the file directly into each module's memory: the best way without mapping. */
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
      if (bytesRead === 0) throw new Error(`${path} became shorter while it was read`)
      done += bytesRead
      onProgress('reading', bytesRead)
    }
    closeSync(fd)
    return { memory, pointer }
  }
}

/** Maps the file's own pages into each module's memory. */
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
      // Kept as long as the module is used.
      mapping,
      draw: colors => inspect(guarded.layout(), { colors })
    }
  }
}

export const ways = { copied, read, mapped }
