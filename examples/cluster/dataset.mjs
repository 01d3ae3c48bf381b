// The dataset: numbers of 64 bits. The upper half of each is the version; so an answer from a
// mixture of two versions is the sum of neither.

import { HostRegion } from 'wasm-hostmap'

export const NAME = 'cluster dataset'
const PATTERN = 2 ** 16

/** Makes a version of the dataset, and seals it: nobody can change what is published. */
export async function makeDataset(version, sizeBytes) {
  const words = new Uint32Array(2 * PATTERN)
  for (let i = 0; i < PATTERN; i++) words.set([i, version], 2 * i)
  const parts = function* () {
    for (let left = sizeBytes; left > 0; left -= words.byteLength) {
      yield words.subarray(0, Math.min(words.length, left / 4))
    }
  }
  // Other work goes on in between.
  const options = { byteLength: sizeBytes, name: `dataset-${version}` }
  return (await HostRegion.from(parts(), options)).seal()
}

/** What the module must answer. */
export function sumOf(version, from, count) {
  let low = 0
  for (let i = from; i < from + count; i++) low += i % PATTERN
  return BigInt.asUintN(64, BigInt(version) * BigInt(count) * 2n ** 32n + BigInt(low))
}
