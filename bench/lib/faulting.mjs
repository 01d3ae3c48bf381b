// What benchmarks of faults share.

import { WASM_PAGE } from './dataset.mjs'

/** Makes the access, which must trap. */
export function trap(access, address) {
  try {
    access(address)
  } catch {
    return
  }
  throw new Error('the access did not trap')
}

/**
 * With a build of the package, makes this many mappings of a page, not adjacent: each is a VMA, and
 * so is each gap. They live as long as the result.
 */
export function mapOthers(count, region, { GuardedMemory, limits }) {
  const { pageSize } = limits()
  const guarded = new GuardedMemory({ initial: Math.ceil((2 * count * pageSize) / WASM_PAGE) })
  for (let i = 0; i < count; i++) {
    guarded.map(region, { at: 2 * i * pageSize, byteLength: pageSize })
  }
  return guarded
}
