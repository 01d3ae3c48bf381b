'use strict'

// What of memories, mappings, regions and snapshots is in memory, and which memories show which
// snapshot, by the process's map. Fills that in where an inspection has it open.

const { isAccessible, memfdName } = require('./map.js')
const { firstAfter, residentIn, residentOfFile } = require('./resident.js')

/** `pages`: as in resident.js. */
function addResident(objects, map, pages) {
  const { memories, regions, snapshots } = objects
  const files = filesOf(map)
  for (const memory of memories) {
    const { base } = memory
    if (memory.knownBy !== 'object') memory.byteLength = accessibleFrom(map, memory)
    memory.resident = residentIn(map, base, base + memory.byteLength, pages)
    for (const part of memory.mappings) {
      const start = base + part.address
      part.resident = residentIn(map, start, start + part.byteLength, pages)
    }
  }
  for (const seen of regions) {
    const entries = entriesOf(files, seen)
    // What this thread has no object of is known by what the map shows.
    seen.device ??= entries[0]?.device ?? null
    if (entries.length > 0) {
      const [first] = entries
      const isMemfd = memfdName(first) !== undefined
      seen.backing ??= isMemfd ? 'memfd' : 'file'
      seen.path = isMemfd ? null : first.path
    }
    const from = seen.fileOffset ?? 0
    const end = seen.byteLength === null ? Infinity : from + seen.byteLength
    seen.resident = residentOfFile(entries, from, roundUp(end, pages), pages)
  }
  for (const snapshot of snapshots) {
    const entries = entriesOf(files, snapshot)
    snapshot.resident = residentOfFile(entries, 0, Infinity, pages)
    snapshot.memories = memories.filter(it => shows(it, entries)).map(it => it.id)
  }
}

const roundUp = (bytes, pages) =>
  pages === undefined ? bytes : Math.ceil(bytes / pages.pageBytes) * pages.pageBytes

function filesOf(map) {
  const files = new Map()
  for (const entry of map) {
    if (entry.inode === '0') continue
    const same = files.get(entry.inode)
    if (same === undefined) files.set(entry.inode, [entry])
    else same.push(entry)
  }
  return files
}

/**
 * The entries that show a file. Some file systems give the map another device than `fstat`: there
 * the name tells.
 */
function entriesOf(files, { inode, device, name }) {
  const same = files.get(inode) ?? []
  const ofDevice = same.filter(it => device === null || it.device === device)
  return ofDevice.length > 0
    ? ofDevice
    : same.filter(it => (memfdName(it) ?? it.path).split('/').at(-1) === name)
}

const shows = ({ base, byteLength }, entries) =>
  entries.some(it => it.start < base + byteLength && it.end > base)

/**
 * How large a memory is whose object another thread has: it may have grown since anything was done
 * with it. Up to a guard, all is the memory's.
 */
function accessibleFrom(map, { base, byteLength }) {
  let at = base
  for (let i = firstAfter(map, base); i < map.length; i++) {
    const entry = map[i]
    if (entry.start > at) break
    // A window's end may be inaccessible, but is a file's.
    if (!isAccessible(entry) && entry.inode === '0') return Math.max(byteLength, at - base)
    at = entry.end
  }
  return byteLength
}

module.exports = { addResident }
