'use strict'

// Every way in which a memory becomes a GuardedMemory. Most promises are checked on each of them.

const { GuardedMemory, HostRegion } = require('../..')
const procfs = require('./procfs')
const { probe, probeWithMemory, hasMemory64 } = require('./wasm')

const pages = (address, count) => (count === undefined || address === 'i32' ? count : BigInt(count))

function own({ address = 'i32', shared = false }) {
  return async (initial, maximum) => {
    const guarded = new GuardedMemory({
      initial: pages(address, initial),
      maximum: pages(address, maximum),
      shared,
      address
    })
    return { guarded, guest: await probe(guarded.memory, { address }) }
  }
}

function wrapped({ address = 'i32', shared = false, bufferOnly = false }) {
  return async (initial, maximum) => {
    const guest = await probeWithMemory({ address, shared, initial, maximum })
    const guarded = bufferOnly
      ? GuardedMemory.from(guest.memory.buffer, { address })
      : GuardedMemory.from(guest.memory)
    return { guarded, guest }
  }
}

/**
 * `make(initial, maximum)` gives a guarded memory of so many Wasm pages and a probe in it; `grows`
 * is whether the library can grow it.
 */
const kinds = [
  { kind: 'own', make: own({}), grows: true },
  { kind: 'wrapped', make: wrapped({}), grows: true },
  { kind: 'buffer-only', make: wrapped({ bufferOnly: true }), grows: false },
  { kind: 'shared', shared: true, make: own({ shared: true }), grows: true },
  {
    kind: 'shared buffer-only',
    shared: true,
    make: wrapped({ shared: true, bufferOnly: true }),
    grows: false
  },
  ...(hasMemory64
    ? [
        { kind: '64-bit', address: 'i64', make: own({ address: 'i64' }), grows: true },
        { kind: 'wrapped 64-bit', address: 'i64', make: wrapped({ address: 'i64' }), grows: true },
        {
          kind: '64-bit buffer-only',
          address: 'i64',
          make: wrapped({ address: 'i64', bufferOnly: true }),
          grows: false
        },
        {
          kind: '64-bit shared',
          address: 'i64',
          shared: true,
          make: own({ address: 'i64', shared: true }),
          grows: true
        }
      ]
    : [])
].map(kind => ({ address: 'i32', shared: false, ...kind }))

/**
 * Where in the process a memory starts, found by a page of our own that is put at `at` for a
 * moment.
 */
function baseOf(guarded, at = 0) {
  const beacon = HostRegion.allocate(1)
  const mapping = guarded.map(beacon, { at })
  const [{ start }] = procfs.mappingsOf(beacon)
  mapping.unmap()
  beacon.close()
  return start - at
}

/**
 * The process's mappings in a memory's reservation, from its start; adjacent ones of one kind as
 * one.
 */
function reservationMap(guarded, base) {
  const { ranges } = guarded.layout()
  const first = base + ranges[0].start
  const last = base + ranges.at(-1).end
  const found = []
  for (const mapping of procfs.processMap()) {
    const start = Math.max(mapping.start, first) - base
    const end = Math.min(mapping.end, last) - base
    if (start >= end) continue
    const { permissions, inode } = mapping
    const before = found.at(-1)
    if (
      before &&
      before.end === start &&
      before.permissions === permissions &&
      inode === 0 &&
      before.inode === 0
    ) {
      before.end = end
    } else found.push({ start, end, permissions, inode })
  }
  return found
}

module.exports = { kinds, baseOf, reservationMap }
