'use strict'

// What a process's memory is taken by, each byte counted once: by the proportional share of each
// entry of its map. The page has the same kinds.

const { residentIn, firstAfter } = require('../../lib/process/resident.js')

/**
 * The kind of each entry of the map, by what is known of memories, regions and snapshots. An entry
 * in a memory is the region's or snapshot's that it shows, and else the memory's own.
 */
function kindsOf({ memories, regions, snapshots, processMap }) {
  const keyOf = ({ device, inode }) => `${device} ${inode}`
  const ofRegions = new Set(regions.map(keyOf))
  const ofSnapshots = new Set(snapshots.map(keyOf))
  const inMemory = new Set()
  for (const { base, byteLength, reservation } of memories) {
    const { start, end } = reservation ?? { start: base, end: base + byteLength }
    for (let i = firstAfter(processMap, start); processMap[i]?.start < end; i++) {
      inMemory.add(processMap[i])
    }
  }
  return processMap.map(entry => {
    const key = keyOf(entry)
    if (entry.inode !== '0' && ofSnapshots.has(key)) return 'snapshot'
    if (entry.inode !== '0' && ofRegions.has(key)) return 'region'
    if (inMemory.has(entry)) return 'memory'
    if (entry.path === '[stack]') return 'stack'
    if (entry.inode !== '0' && entry.path !== '/dev/zero') return 'file'
    return 'anonymous'
  })
}

const LABELS = [
  ['memory', 'own pages of memories'],
  ['region', 'regions'],
  ['snapshot', 'snapshots'],
  ['anonymous', 'heaps of JavaScript and C'],
  ['file', 'the program and its libraries'],
  ['stack', 'the stack']
]

function shares(inspection) {
  const { processMap } = inspection
  const kinds = kindsOf(inspection)
  const sums = new Map(LABELS.map(([kind]) => [kind, 0]))
  processMap.forEach((entry, i) => {
    const found = residentIn([entry], entry.start, entry.end, undefined)
    if (found !== null) sums.set(kinds[i], sums.get(kinds[i]) + found.proportionalBytes)
  })
  return LABELS.map(([kind, label]) => ({ kind, label, bytes: sums.get(kind) }))
}

module.exports = { kindsOf, shares }
