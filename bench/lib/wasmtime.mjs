// Builds and runs bench/wasmtime: another engine's in-place reset, and its linear memories that the
// host makes.

import { cargoProgram } from './cargo.mjs'
import { MiB } from './dataset.mjs'

const program = cargoProgram('wasmtime')

let outcome

/** Builds the program once. Returns null, or the reason why that failed. */
export function buildWasmtime() {
  if (outcome === undefined) {
    if (!program.wasBuilt())
      console.log('building wasmtime, which takes some minutes the first time')
    outcome = program.build()
  }
  return outcome
}

/** See `cargoProgram`. */
export const hasWasmtime = program.isThere

/**
 * Nanoseconds per instance that is made, stores to pages and is dropped: one turn in a process of
 * its own, with a list for each plan. That is one of `timeBatches`, with the pages to `store` to,
 * and those that an instance has to `read` before: `first`, `pages` and `stride`. The module is a
 * file.
 */
export function timeWasmtime(module, keepResidentBytes, plans) {
  const places = ({ first, pages, stride }) => [first, pages, stride]
  const args = plans.flatMap(({ read, store, warmupBatches, batchesPerTurn, roundsPerBatch }) => [
    ...places(read),
    ...places(store),
    ...[warmupBatches, batchesPerTurn, roundsPerBatch]
  ])
  return program.run('reset', module, keepResidentBytes, ...args).nsPerRound
}

/** What stands before the dataset in the memory of the module that `scanWasmtime` is given. */
export const WASMTIME_BEFORE_BYTES = 2 * MiB

/**
 * What functions of a module with a memory of its own take to read a dataset: a file of so many
 * bytes, which is mapped into that memory. The module is a file too. For each of them `ns`, of so
 * many rounds, every page being read before; `first`, of the round before those, in which the first
 * of the functions brings the pages in; and the `sum` that it gave.
 */
export function scanWasmtime(module, dataset, byteLength, rounds, functions) {
  return program.run('scan', module, dataset, byteLength, rounds, ...functions)
}
