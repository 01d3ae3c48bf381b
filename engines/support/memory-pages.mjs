// What has changed in a memory, for the tests.

const PAGE = 4096

/** The bytes of an Emscripten module's memory, as it is now. */
export const memoryOf = module => Buffer.from(module.HEAPU8.buffer)

/** The pages in which a memory differs from what it was; what it has grown by was zeros. */
export function changedPages(now, then) {
  const pages = []
  const zeros = Buffer.alloc(PAGE)
  const isSame = Buffer.compare(now.subarray(0, then.length), then) === 0
  for (let at = isSame ? then.length : 0; at < now.length; at += PAGE) {
    const before = at < then.length ? then.subarray(at, at + PAGE) : zeros
    if (Buffer.compare(now.subarray(at, at + PAGE), before) !== 0) pages.push(at / PAGE)
  }
  return pages
}
