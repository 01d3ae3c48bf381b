'use strict'

// One inspection of several: what /proc tells of a process, and what its threads have said. Objects
// are better known than tables, and tables than shapes. What is in memory is counted at the end, by
// the map that was read here.

const { addResident } = require('../../lib/process/attribute.js')
const { residentOfAll } = require('../../lib/process/resident.js')

const RANK = ['shape', 'mappings', 'table', 'object']

/**
 * @param outside as outside.js gives it
 * @param answers checked, one of each thread
 * @param pages the PageMap of the process, or undefined
 */
function merged(outside, answers, pages) {
  const { processMap } = outside
  const all = new Merged()
  for (const answer of answers) all.add(answer)
  all.addOutside(outside)
  const { memories, regions, snapshots, pools } = all.done()
  addResident({ memories, regions, snapshots }, processMap, pages)
  const runsOf = it => pages?.runsOf(it) ?? null
  const [first] = answers
  return {
    ...outside,
    ...(first === undefined ? {} : { hostmap: first.hostmap, runtime: first.runtime }),
    threads: answers.flatMap(it => it.threads).sort((a, b) => a - b),
    memories,
    regions,
    snapshots,
    pools,
    resident: residentOfAll(processMap),
    processMap: processMap.map(it => ({ ...it, pages: runsOf(it) }))
  }
}

class Merged {
  #memories = new Map()
  #regions = []
  #regionIds = new Map()
  #snapshots = []
  #snapshotIds = new Map()
  #pools = []

  add({ memories, regions, snapshots, pools }) {
    const regionIds = regions.map(it => this.#region(it))
    const snapshotIds = snapshots.map(it => this.#snapshot(it))
    for (const memory of memories) this.#memory(memory, regionIds)
    for (const pool of pools) {
      const snapshotId = pool.snapshotId === null ? null : snapshotIds[pool.snapshotId]
      this.#pools.push({ ...pool, id: this.#pools.length, snapshotId })
    }
  }

  /** What nobody has said anything of. */
  addOutside({ memories, regions }) {
    const isSnapshot = ({ device, inode }) => this.#snapshotIds.has(`${device} ${inode}`)
    const said = new Set(this.#regions.map(it => it.inode))
    const ids = regions.map(it => {
      if (isSnapshot(it)) return null
      if (!said.has(it.inode)) return this.#region(it)
      return this.#regions.findIndex(other => other.inode === it.inode)
    })
    const known = [...this.#memories.values()]
    for (const memory of memories) {
      // Other memory may be right below one without a guard there, and looks like its first part.
      if (known.some(it => it.base !== memory.base && isWithin(it, memory))) continue
      // Pages of a snapshot are no mapping.
      const mappings = memory.mappings.filter(it => ids[it.regionId] !== null)
      this.#memory({ ...memory, mappings }, ids)
    }
  }

  done() {
    const memories = [...this.#memories.values()].sort((a, b) => a.base - b.base)
    return {
      memories: memories.map((it, id) => ({ ...it, id })),
      regions: this.#regions,
      snapshots: this.#snapshots,
      pools: this.#pools
    }
  }

  /** Threads that share a region have an object each. */
  #region(region) {
    const { device, inode, fileOffset, byteLength, name, holders } = region
    const key = `${device} ${inode} ${fileOffset} ${byteLength} ${name}`
    const known = this.#regionIds.get(key)
    if (known === undefined) {
      const id = this.#regions.length
      this.#regionIds.set(key, id)
      this.#regions.push({ ...region, id })
      return id
    }
    const same = this.#regions[known]
    if (same.holders !== null && holders !== null) {
      same.holders = {
        views: same.holders.views + holders.views,
        buffers: same.holders.buffers + holders.buffers,
        byteLength: same.holders.byteLength + holders.byteLength
      }
    }
    return known
  }

  #snapshot(snapshot) {
    const key = `${snapshot.device} ${snapshot.inode}`
    const known = this.#snapshotIds.get(key)
    if (known !== undefined) return known
    const id = this.#snapshots.length
    this.#snapshotIds.set(key, id)
    this.#snapshots.push({ ...snapshot, id })
    return id
  }

  #memory(memory, regionIds) {
    const mappings = memory.mappings.map(it => ({
      ...it,
      regionId: it.regionId === null ? null : regionIds[it.regionId]
    }))
    const found = { ...memory, mappings }
    const known = this.#memories.get(memory.base)
    if (known === undefined) this.#memories.set(memory.base, found)
    else this.#memories.set(memory.base, better(known, found))
  }
}

/** Whether a memory that is known begins among the bytes of one that was seen by its shape. */
const isWithin = ({ base }, seen) => base > seen.base && base < seen.base + seen.byteLength

function better(one, other) {
  const [more, less] =
    RANK.indexOf(other.knownBy) > RANK.indexOf(one.knownBy) ? [other, one] : [one, other]
  const theirs = new Map(less.mappings.map(it => [it.address, it]))
  // Of a shared memory each thread knows its own mappings best.
  const mappings = more.mappings.map(it => {
    const same = theirs.get(it.address)
    return !it.ofThisThread && same?.ofThisThread ? same : it
  })
  return {
    ...more,
    mappings,
    // The module may have grown it since it was last told of.
    byteLength: Math.max(more.byteLength, less.byteLength),
    address: more.address ?? less.address,
    reservation: more.reservation ?? less.reservation,
    guarded: more.guarded ?? less.guarded
  }
}

module.exports = { merged }
