'use strict'

// What this thread has: its memories with their mappings and windows, its regions, snapshots and
// pools; and of the memories of other threads what the process's mapping tables know. Nothing here
// asks the kernel what is in memory, and no function of the caller is called.

const { isProxy } = require('node:util').types
const native = require('../platform/binding.js')
const { callNative } = require('../support/errors.js')
const { ownOf } = require('../platform/intrinsics.js')
const { reservationOf } = require('../platform/reservation.js')
const v8 = require('../platform/v8.js')
const { deviceText } = require('../process/map.js')
const { regionRecord } = require('../process/region-record.js')
const { faultsFrom } = require('../fault/found.js')
const { handleOf, isClosed, nameOf, nativeOf } = require('../region/host-region.js')
const { isMapped, regionOf } = require('../memory/entry.js')
const { byBase } = require('../memory/registry.js')
const { isSnapshot, handleOfSnapshot } = require('../snapshot/snapshot.js')
const { seenPool } = require('../pool/instance-pool.js')
const { livingPools } = require('../pool/living.js')

// Characters of a message: it may have a whole response in it.
const MOST_MESSAGE = 1000

/** All of it, each kind in a list; `id` is its place there, by which the others name it. */
function seenObjects() {
  const regions = callNative(() => native.seenRegions()).map(seenRegion)
  const snapshots = callNative(() => native.seenSnapshots()).map(seenSnapshot)
  const finder = new RegionFinder(regions)
  const memories = seenMemories(finder)
  const pools = livingPools().map((pool, id) => poolSeen(pool, id, snapshots))
  const clean = ({ handle: _, ...rest }) => rest
  return { memories, regions: regions.map(clean), snapshots: snapshots.map(clean), pools }
}

function seenRegion(it, id) {
  const { handle, name, isMemfd, byteLength, fileOffset, writable, sealed, file } = it
  const { faults, strayWrites, unacknowledged, lastFault } = faultsFrom(it.faults, undefined, null)
  return {
    id,
    handle,
    name,
    state: 'open',
    backing: isMemfd ? 'memfd' : 'file',
    path: null,
    device: deviceText(file.device),
    inode: file.inode,
    fileOffset,
    byteLength,
    heldBytes: isMemfd ? file.heldBytes : null,
    writable,
    sealed,
    holders: { views: it.views, buffers: it.buffers, byteLength: it.viewedBytes },
    strayWrites,
    faults,
    unacknowledgedFaults: unacknowledged,
    lastFault,
    resident: null
  }
}

function seenSnapshot({ handle, name, byteLength, isOfFile, mappingCount, file }, id) {
  return {
    id,
    handle,
    name,
    backing: isOfFile ? 'file' : 'memfd',
    device: deviceText(file.device),
    inode: file.inode,
    byteLength,
    heldBytes: file.heldBytes,
    keptMappings: mappingCount,
    memories: [],
    resident: null
  }
}

/** Finds the region that a mapping shows, and adds what this thread has no object of. */
class RegionFinder {
  #regions
  #byHandle = new Map()
  #byFile = new Map()

  constructor(regions) {
    this.#regions = regions
    for (const { handle, id, name, inode } of regions) {
      this.#byHandle.set(handle, id)
      // The first: two regions over one file are told apart by their objects only.
      const key = keyOf(name, inode)
      if (!this.#byFile.has(key)) this.#byFile.set(key, id)
    }
  }

  /** `region`: the object, where this thread has it. */
  idOf(region, name, inode) {
    if (region !== null && !isClosed(region)) return this.#byHandle.get(handleOf(region)) ?? null
    const key = keyOf(name, inode)
    const known = this.#byFile.get(key)
    if (known !== undefined) return known
    const id = this.#regions.length
    this.#byFile.set(key, id)
    const state = region === null ? 'elsewhere' : 'closed'
    this.#regions.push(regionRecord({ id, handle: undefined, name, state, inode }))
    return id
  }
}

const keyOf = (name, inode) => `${inode} ${name}`

function seenMemories(finder) {
  const mine = new Map()
  for (const [base, ref] of byBase) {
    const linear = ref.deref()
    if (linear !== undefined) mine.set(base, linear)
  }
  const tables = callNative(() => native.seenMemories())
  return tables.map((table, id) => {
    const linear = mine.get(table.base)
    const isMine = linear !== undefined && !linear.table.lost
    return isMine ? ownMemory(table, id, linear, finder) : otherMemory(table, id, finder)
  })
}

function ownMemory(table, id, linear, finder) {
  const { address, guarded, shared, memory, maximum } = linear
  const { base } = table
  const reservation = guarded ? reservationOf(address) : null
  const entries = new Map()
  for (const entry of linear.entries) if (isMapped(entry)) entries.set(entry.start, entry)
  return {
    id,
    base,
    // Of one that its module hides: without its function, which may be anybody's.
    byteLength: v8.sizeOf(linear.knownBuffer) || (memory === null ? table.knownBytes : 0),
    maximumByteLength: maximum === undefined ? null : maximum * v8.WASM_PAGE_BYTES,
    address,
    shared,
    guarded,
    reservation:
      reservation === null
        ? null
        : { start: base - reservation.belowBytes, end: base + reservation.aboveBytes },
    knownBy: 'object',
    hidden: memory === null,
    mappings: table.mappings.map(it => seenMapping(it, entries.get(it.start), finder)),
    resident: null
  }
}

/** Of another thread, or of a module that nobody looks at any more. */
function otherMemory(table, id, finder) {
  return {
    id,
    base: table.base,
    byteLength: table.knownBytes,
    maximumByteLength: null,
    address: null,
    shared: null,
    guarded: null,
    reservation: null,
    knownBy: table.isAttached ? 'table' : 'mappings',
    hidden: null,
    mappings: table.mappings.map(it => seenMapping(it, undefined, finder)),
    resident: null
  }
}

function seenMapping(it, entry, finder) {
  const { start, end, access, regionName, inode, byteOffset, strict } = it
  const shownBytes = ownOf(it, 'shownBytes')
  const isWindow = shownBytes !== undefined
  const region = entry === undefined ? null : regionOf(entry)
  const showsNothing = inode === '0'
  const source = region === null || isClosed(region) ? undefined : nativeOf(region)
  const found = faultsFrom(it.faults, source, start)
  return {
    kind: isWindow ? 'window' : it.isAdopted ? 'adopted' : 'mapping',
    address: start,
    byteLength: end - start,
    access,
    regionId: showsNothing
      ? null
      : finder.idOf(region, region === null ? regionName : nameOf(region), inode),
    byteOffset: showsNothing ? null : byteOffset,
    shownBytes: isWindow ? shownBytes : end - start,
    rest: isWindow ? (ownOf(it, 'tailTraps') ? 'trap' : 'zeros') : null,
    strict,
    ofThisThread: entry !== undefined,
    strayWrites: found.strayWrites,
    faults: found.faults,
    unacknowledgedFaults: found.unacknowledged,
    lastFault: found.lastFault,
    resident: null
  }
}

function poolSeen(pool, id, snapshots) {
  const { closed, snapshot, isOfFactory, stats } = seenPool(pool)
  const { lastFailure, ...counts } = stats
  const handle = isSnapshot(snapshot) ? handleOfSnapshot(snapshot) : undefined
  return {
    id,
    of: isOfFactory ? 'factory' : 'module',
    closed,
    snapshotId: snapshots.find(it => it.handle === handle)?.id ?? null,
    ...counts,
    lastFailure: lastFailure === null ? null : messageOf(lastFailure)
  }
}

/** Of an error that may be the caller's: no getter, Proxy or `toString` of theirs is called. */
function messageOf(error) {
  const message = isProxy(error) ? undefined : ownOf(error, 'message')
  return typeof message === 'string' ? message.slice(0, MOST_MESSAGE) : 'an error without a message'
}

module.exports = { seenObjects }
