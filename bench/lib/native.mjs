// Builds and runs bench/native: the bare system calls, with no JavaScript and none of our code
// round them.

import { cargoProgram } from './cargo.mjs'
import { SHORT } from './measure.mjs'

/** See `cargoProgram`. */
export const { build: buildNative, isThere: hasNative, run: runNative } = cargoProgram('native')

/**
 * Nanoseconds per round of `mmap(MAP_FIXED)` of a memfd and of zeros over it again: one turn, in a
 * process of its own, timed as `timeBatches` does. `calls` is `bare`, those two calls, or
 * `advised`, with the calls of `madvise` that wasm-hostmap makes too.
 */
export function timeSystemCalls({ calls, access, byteLength }, plan = SHORT) {
  const { warmupBatches, batchesPerTurn, roundsPerBatch } = plan
  return runNative(calls, access, byteLength, warmupBatches, batchesPerTurn, roundsPerBatch)
    .nsPerRound
}
