// Builds and runs bench/native: the bare system calls, without JavaScript and without this library.

import { cargoProgram } from './cargo.mjs'
import { SHORT } from './measure.mjs'

/** See `cargoProgram`. */
export const { build: buildNative, isThere: hasNative, run: runNative } = cargoProgram('native')

/**
 * Nanoseconds per round of `mmap(MAP_FIXED)` of a memfd, and of zeros over it again: one turn, in a
 * new process, timed as in `timeBatches`. `calls` is `bare` for these two calls, or `advised` to
 * add the `madvise` calls of wasm-hostmap.
 */
export function timeSystemCalls({ calls, access, byteLength }, plan = SHORT) {
  const { warmupBatches, batchesPerTurn, roundsPerBatch } = plan
  return runNative(calls, access, byteLength, warmupBatches, batchesPerTurn, roundsPerBatch)
    .nsPerRound
}
