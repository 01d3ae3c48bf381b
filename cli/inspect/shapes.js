'use strict'

// Recognises WebAssembly memories in the map of another process by their shape: V8 reserves 8 GiB
// or more from a memory's first byte on, of which only the memory itself is accessible. Nothing is
// asked of the process.
//
// ```text
//   inaccessible | accessible: the memory | inaccessible, to 8 GiB past its first byte at least
// ```
//
// What can't be recognised: a memory of no bytes, and one without guards.

const GIB = 2 ** 30
const REACH_BYTES = 8 * GIB
const LARGEST_32_BIT_BYTES = 4 * GIB
const BELOW_BYTES = 2 * GIB
const WASM_PAGE_BYTES = 65536
// From the first byte of a memory on, 32 or 64 bits; with what is below the next one.
const RESERVED_BYTES = [8, 10, 16, 18].map(gib => gib * GIB)

// Of V8's own: no file's, and nothing may be done there. A window's end is a file's.
const isReserved = ({ access, inode, path }) =>
  access.startsWith('---') && inode === '0' && path === ''

/** The memories, by address: `{ base, byteLength, address, reservation, entries }`. */
function memoriesIn(map) {
  const found = []
  for (let i = 0; i < map.length;) {
    const end = stretchEnd(map, i, isReserved(map[i]))
    const next = map[end]
    const isHead = !isReserved(map[i]) && next !== undefined && isReserved(next)
    if (isHead && next.start === map[end - 1].end) {
      const guard = map[stretchEnd(map, end, true) - 1]
      const memory = memoryOf(map.slice(i, end), guard.end)
      if (memory !== undefined) found.push(memory)
    }
    i = end
  }
  return withReservations(found)
}

/** Where a stretch of entries that touch, and are all reserved or none of them, ends. */
function stretchEnd(map, from, reserved) {
  let at = from + 1
  while (at < map.length && map[at].start === map[at - 1].end && isReserved(map[at]) === reserved)
    at++
  return at
}

function memoryOf(entries, guardEnd) {
  // What is below a memory without a guard there may touch it. A memory begins as far below the end
  // as V8 reserves, or else at a Wasm page.
  const exact = entries.findLastIndex(({ start }) => RESERVED_BYTES.includes(guardEnd - start))
  const first = exact >= 0 ? exact : entries.findIndex(({ start }) => start % WASM_PAGE_BYTES === 0)
  if (first < 0) return undefined
  const own = entries.slice(first)
  const base = own[0].start
  const byteLength = own.at(-1).end - base
  if (guardEnd - base < REACH_BYTES || byteLength % WASM_PAGE_BYTES !== 0) return undefined
  // Code is never in a memory.
  if (own.some(({ access }) => access[2] === 'x')) return undefined
  return { base, byteLength, entries: own, guardEnd }
}

/**
 * Reservations side by side are one to the kernel. Those of Node.js 20 and 22 begin 2 GiB below
 * their memory: if there is room for that below each, it is taken to be so.
 */
function withReservations(memories) {
  const hasRoom = ({ base, below }) => base - below >= BELOW_BYTES
  const places = memories.map(({ base, guardEnd }, i) => {
    const last = memories[i - 1]
    const touches = last !== undefined && last.guardEnd === base
    return { base, guardEnd, below: touches ? last.base + REACH_BYTES : base }
  })
  const belowBytes = places.length > 1 && places.slice(1).every(hasRoom) ? BELOW_BYTES : 0
  return memories.map(({ base, byteLength, entries, guardEnd }, i) => {
    const next = memories[i + 1]
    const end = next !== undefined && next.base === guardEnd ? guardEnd - belowBytes : guardEnd
    const isLarge = byteLength > LARGEST_32_BIT_BYTES
    // As much as that may also be several, of which all but the first have no bytes.
    const isUnclear = end - base >= 2 * REACH_BYTES
    return {
      base,
      byteLength,
      entries,
      address: isLarge ? 'i64' : isUnclear ? null : 'i32',
      reservation: {
        start: base - belowBytes,
        end: isLarge || isUnclear ? end : Math.min(end, base + REACH_BYTES)
      }
    }
  })
}

module.exports = { memoriesIn }
