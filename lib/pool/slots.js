'use strict'

// A slot of a pool of a module: one instance, what it was like in the pool's state, and how it gets
// back there. A slot that can't get back is the pool's to throw away.

const { makeError } = require('../support/errors.js')
const { lengthOf } = require('../platform/v8.js')
const { captureLive, checkLive, restoreLive } = require('../instance/live-state.js')
const { BY_CALLER } = require('../snapshot/restore.js')
const { restoreSnapshot } = require('../snapshot/snapshot.js')
const { NO_ENTRIES, checkRestored, entriesOf, rewindSourcesIn } = require('./memories.js')

/**
 * @typedef Slot what lib/pool/pooled-instance.js shows of each slot, whatever its pool is of
 * @property value what the factory gave; undefined in a pool of a module
 * @property instance the WebAssembly.Instance
 * @property {() => object[]} instances all instances of the slot
 * @property exports what users see of it
 * @property memory its GuardedMemory
 * @property request what runs in it now: see lib/request/; undefined in a pool of a module
 * @property leased the PooledInstance that it is lent to; null if it is idle
 *
 * And in a pool of a module:
 * @property linear the LinearMemory behind `memory`
 * @property found what can change besides the memory (lib/instance/reachable.js)
 * @property state how that was when the snapshot was taken, by this instance's own functions
 * @property byteLength the memory's size then
 * @property entries the memory's mappings and windows then, by their entries
 */
const slotOf = (instance, exports, memory, linear, found) => ({
  value: undefined,
  instance,
  instances: () => [instance],
  exports,
  memory,
  request: undefined,
  leased: null,
  linear,
  found,
  state: undefined,
  byteLength: 0,
  entries: NO_ENTRIES
})

// Code that releases an instance of a shared memory promises that no other thread is in it.
const RESTORE = Object.freeze({ exclusive: true, globals: BY_CALLER })

/** Notes what a restore will compare with. The slot is in the pool's state. */
function noteSlot(slot, { hasMappings }) {
  slot.state = captureLive(slot.found)
  slot.byteLength = slot.linear.byteLength
  slot.entries = hasMappings ? entriesOf(slot.linear) : NO_ENTRIES
  rewindSourcesIn(slot.entries)
}

function restoreSlot(slot, snapshot, { keepsGrown, takesGrownTables }) {
  const { linear } = slot
  if (!keepsGrown && bytesIn(linear) > slot.byteLength) throw hasGrown(slot)
  checkLive(slot.state, takesGrownTables)
  restoreSnapshot(linear, snapshot, RESTORE)
  restoreLive(slot.state)
  checkRestored(linear, slot.entries)
}

/** The memory's size, without a look at its buffer where that is as it was. */
function bytesIn(linear) {
  // A growth detaches the buffer, but for that of a shared memory.
  const bytes = linear.shared ? 0 : lengthOf(linear.array)
  return bytes > 0 ? bytes : linear.byteLength
}

// No memory can shrink.
function checkSize({ byteLength }, wanted) {
  if (byteLength <= wanted) return
  throw makeError(
    'ERR_HOSTMAP_SNAPSHOT_MISMATCH',
    `the memory of a new instance has ${byteLength} bytes, and in the pool's state it has ${wanted}; let options.imports give one of that size, and bind not grow it, or name 'grown-memory' in options.accept`
  )
}

const hasGrown = ({ linear, byteLength }) =>
  makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `the memory has grown from ${byteLength} to ${linear.byteLength} bytes, and memories can't shrink. Where programs may see that, name 'grown-memory' in options.accept; or let init allocate and free as much as they need`
  )

module.exports = { slotOf, noteSlot, restoreSlot, checkSize }
