// Joins two regions in a module that reads each through its own window.

import { readFile } from 'node:fs/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'
import { GROUP_COUNT } from './tables.mjs'

const { customersToken, ordersToken, windowBytes, tableCustomers } = workerData

// The module exports its memory, and windows need that memory. So these imports use the sources
// only once they exist.
let customers, orders
const imports = {
  customers: importsOf(() => customers),
  orders: importsOf(() => orders)
}
const wasm = await readFile(new URL('join.wasm', import.meta.url))
const { instance } = await WebAssembly.instantiate(wasm, imports)
const { memory, _initialize, start, build, probe, result } = instance.exports
_initialize()

const guarded = GuardedMemory.from(memory)
const open = token => guarded.window({ byteLength: windowBytes }).source(HostRegion.receive(token))
customers = open(customersToken)
orders = open(ordersToken)

if (!start(tableCustomers))
  throw new Error('the module has no memory for this many customers at once')
let passes = 0
for (; build() > 0; passes++) {
  orders.rewind()
  probe()
}
parentPort.postMessage({ passes, groups: readGroups(result() >>> 0) })

/** Reports progress. When the module asks for more, it is done with what was shown. */
function importsOf(source) {
  return {
    next(keep) {
      const { position } = source()
      const shownBytes = source().imports.next(keep)
      parentPort.postMessage({ readBytes: source().position - position })
      return shownBytes
    },
    pointer: () => source().pointer
  }
}

/** Reads the module's groups: see join.c. */
function readGroups(address) {
  const words = new BigUint64Array(memory.buffer, address, GROUP_COUNT * 2)
  return Array.from({ length: GROUP_COUNT }, (_, country) => ({
    orders: Number(words[2 * country]),
    cents: Number(words[2 * country + 1])
  }))
}
