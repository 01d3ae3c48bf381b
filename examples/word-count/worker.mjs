// Counts the words of one part of a region, in a module with its own window.

import { readFile } from 'node:fs/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'

const { token, windowBytes, part } = workerData

// The module exports its memory, and a window needs that memory. So these imports use the source
// only once it exists.
let source
const text = {
  next(keep) {
    // The module has counted what was shown until now.
    parentPort.postMessage({ doneBytes: source.position - part.byteOffset })
    return source.next(keep)
  },
  pointer: () => source.pointer
}
const wasm = await readFile(new URL('words.wasm', import.meta.url))
const { instance } = await WebAssembly.instantiate(wasm, { text })
const { memory, _initialize, count_words, table_slots, table_capacity } = instance.exports

const region = HostRegion.receive(token)
source = GuardedMemory.from(memory).window({ byteLength: windowBytes }).source(region, part)
_initialize()
if (!count_words()) throw new Error('the module has no more memory for its table of words')
parentPort.postMessage({ words: [...readTable()] })

/** Reads the module's table, slot by slot: see words.c. */
function* readTable() {
  const slots = new DataView(memory.buffer, table_slots() >>> 0, (table_capacity() >>> 0) * 24)
  for (let slot = 0; slot < slots.byteLength; slot += 24) {
    const address = slots.getUint32(slot, true)
    const length = slots.getUint32(slot + 4, true)
    const count = Number(slots.getBigUint64(slot + 8, true))
    if (address !== 0) yield [Buffer.from(memory.buffer, address, length).toString('latin1'), count]
  }
}
