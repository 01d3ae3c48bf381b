'use strict'

// How much of a range of addresses, or of a file, is in memory: sums over the entries of a
// process's map. The kernel counts by entry; where a range has a part of one, its pages tell.

const NAMES = ['residentBytes', 'proportionalBytes', 'ownBytes', 'swappedBytes']

const nothing = () => ({
  residentBytes: 0,
  proportionalBytes: 0,
  ownBytes: 0,
  swappedBytes: 0
})

/**
 * Of `[start, end)`. null: the map does not tell.
 *
 * @param map the entries, by address
 * @param pages the PageMap of the process; undefined where there is none: then the part of an entry
 *   counts by its length
 */
function residentIn(map, start, end, pages) {
  const sum = nothing()
  for (let i = firstAfter(map, start); i < map.length && map[i].start < end; i++) {
    if (!addPart(sum, map[i], start, end, pages)) return null
  }
  return sum
}

/** Of `[offset, end)` of the file of these entries. */
function residentOfFile(entries, offset, end, pages) {
  const sum = nothing()
  for (const entry of entries) {
    const shift = entry.start - entry.fileOffset
    if (!addPart(sum, entry, shift + offset, shift + end, pages)) return null
  }
  return sum
}

const residentOfAll = map => residentIn(map, 0, Infinity, undefined)

/** Which entry is the first that ends after an address. */
function firstAfter(map, address) {
  let low = 0
  let high = map.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (map[middle].end <= address) low = middle + 1
    else high = middle
  }
  return low
}

function addPart(sum, entry, start, end, pages) {
  if (entry.residentBytes === null) return false
  const from = Math.max(start, entry.start)
  const to = Math.min(end, entry.end)
  if (from >= to) return true
  const share = from === entry.start && to === entry.end ? ALL : shareOf(entry, from, to, pages)
  for (const name of NAMES) sum[name] += Math.round(entry[name] * share[name])
  return true
}

const ALL = Object.freeze(Object.fromEntries(NAMES.map(name => [name, 1])))

/** Which share of each of its figures a part of an entry has. */
function shareOf(entry, from, to, pages) {
  const byLength = (to - from) / (entry.end - entry.start)
  const even = Object.fromEntries(NAMES.map(name => [name, byLength]))
  if (entry.residentBytes === 0 && entry.swappedBytes === 0) return even
  const runs = pages?.runsOf(entry) ?? null
  if (runs === null) return even
  const { pageBytes } = pages
  const first = (from - entry.start) / pageBytes
  const end = (to - entry.start) / pageBytes
  const all = { own: 0, shared: 0, swapped: 0 }
  const inside = { own: 0, shared: 0, swapped: 0 }
  for (const run of runs) {
    all[run.kind] += run.count
    const part = Math.min(run.from + run.count, end) - Math.max(run.from, first)
    if (part > 0) inside[run.kind] += part
  }
  const of = (some, total) => (total === 0 ? byLength : some / total)
  const present = of(inside.own + inside.shared, all.own + all.shared)
  return {
    residentBytes: present,
    proportionalBytes: present,
    ownBytes: of(inside.own, all.own),
    swappedBytes: of(inside.swapped, all.swapped)
  }
}

module.exports = { residentIn, residentOfFile, residentOfAll, firstAfter }
