// The benchmarks' datasets.

export const KiB = 2 ** 10
export const MiB = 2 ** 20
export const GiB = 2 ** 30
export const WASM_PAGE = 64 * KiB

/**
 * HOSTMAP_BENCH_QUICK=1: small datasets and few turns, to check that a benchmark works. Its figures
 * mean nothing.
 */
export const QUICK = process.env.HOSTMAP_BENCH_QUICK === '1'

/**
 * Fills an array with pseudo-random bytes: repeats 16 MiB of them, because generating a gigabyte
 * takes long.
 */
export function fillWithNoise(array) {
  const words = new Uint32Array(
    array.buffer,
    array.byteOffset,
    Math.min(array.byteLength, 16 * MiB) / 4
  )
  let state = 0x9e3779b9
  for (let i = 0; i < words.length; i++) {
    // xorshift32
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = state
  }
  for (let filled = words.byteLength; filled < array.byteLength; filled *= 2)
    array.copyWithin(filled, 0, filled)
  return array
}

/** An ordinary array with data, every page of it in memory. */
export const hostArray = byteLength => fillWithNoise(new Uint8Array(byteLength))
