'use strict'

// ModuleSlots: where a pool of a module gets its slots from, and how they get back. All instances
// share one snapshot. unit-slots.js is the same for a pool of a factory; lending.js knows
// neither.

const { noteFirstContents } = require('../instance/functions.js')
const { captureState, checkPortable } = require('../instance/state.js')
const { checkDigest, noteDigest } = require('../snapshot/digests.js')
const { Snapshot, insideOf } = require('../snapshot/snapshot.js')
const { checkStrict } = require('../memory/faults.js')
const { InstanceMaker } = require('./instances.js')
const { letMemoryGo } = require('./memories.js')
const { checkSize, noteSlot, restoreSlot } = require('./slots.js')
const { prepareModule } = require('./suitable.js')

// What the pool was made with was checked then, by the module.
const ACCEPTED = Object.freeze(['v128-globals', 'hidden-tables', 'dropped-segments', 'gc-objects'])
const RESTORE_TO = Object.freeze({ exclusive: true, accept: ACCEPTED })
const RESTORE_GROWN_TO = Object.freeze({ exclusive: true, accept: [...ACCEPTED, 'grown-tables'] })

class ModuleSlots {
  /** Slots are there when `make` returns, and restored when `restore` does. */
  isLater = false
  // Makes the instances: see instances.js.
  #maker
  #bytes
  #asked
  // Whether memories may stay larger, and tables whose size code may have learnt; and whether
  // memories have mappings or windows.
  #rules
  #snapshot
  #ownsSnapshot
  // Of the bytes that the pool was made of; null where they are not known.
  #digest = null

  constructor(prepared, asked) {
    this.#maker = new InstanceMaker(prepared, asked)
    this.#bytes = prepared.bytes
    this.#asked = asked
    this.#rules = {
      keepsGrown: asked.accept.includes('grown-memory'),
      takesGrownTables: asked.accept.includes('grown-tables'),
      hasMappings: false
    }
    this.#ownsSnapshot = asked.snapshot === undefined
  }

  static async of(module, asked) {
    return new ModuleSlots(await prepareModule(module, asked), asked)
  }

  get snapshot() {
    return this.#snapshot
  }

  /** The slot of which the pool's state is taken; undefined where that is given. */
  async first() {
    const { init, snapshot } = this.#asked
    if (snapshot !== undefined) {
      if (this.#bytes !== undefined) {
        checkDigest(insideOf(snapshot).moduleDigest, this.#bytes, 'module')
      }
      this.#snapshot = snapshot
      this.#look()
      return undefined
    }
    const first = this.#maker.make()
    const { found } = first
    noteFirstContents(found)
    if (init !== undefined) await init(first.instance, first.memory)
    this.#takeSnapshot(first.instance)
    this.#look()
    noteDigest(first.instance, this.#digest)
    noteSlot(first, this.#rules)
    checkPortable(found, captureState(found))
    return first
  }

  make() {
    const slot = this.#maker.make()
    if (!this.#rules.keepsGrown) checkSize(slot.linear, insideOf(this.#snapshot).byteLength)
    noteDigest(slot.instance, this.#digest)
    const { takesGrownTables } = this.#rules
    this.#snapshot.restoreTo(slot.instance, takesGrownTables ? RESTORE_GROWN_TO : RESTORE_TO)
    noteSlot(slot, this.#rules)
    return slot
  }

  restore(slot) {
    restoreSlot(slot, this.#snapshot, this.#rules)
  }

  /** Throws where something strict has faults that nobody acknowledged. */
  checkLent({ linear }) {
    checkStrict(linear)
  }

  /** One that may still be running keeps its memory. */
  letGo({ linear }, isRunning) {
    if (!isRunning) letMemoryGo(linear)
  }

  close() {
    // What it gave to instances is nobody's business any more.
    this.#maker.forget()
    if (this.#ownsSnapshot) this.#snapshot?.close()
  }

  #look() {
    const { kept, moduleDigest } = insideOf(this.#snapshot)
    this.#rules.hasMappings = kept.length > 0
    if (this.#bytes !== undefined) this.#digest = moduleDigest
  }

  #takeSnapshot(instance) {
    const { keepResidentBytes } = this.#asked
    // Whatever can't be restored was accepted.
    this.#snapshot = Snapshot.of(instance, {
      keepResidentBytes,
      module: this.#bytes,
      exclusive: true,
      accept: ACCEPTED
    })
  }
}

module.exports = { ModuleSlots }
