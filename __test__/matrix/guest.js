'use strict'

// A memory with a module over it that does the accesses, in one activation of Wasm with a read out
// of bounds.

const ground = require('./ground')
const { compileAccesses } = require('./wasm-accesses')

const { target, LENGTH, SOURCE, VALUE } = ground
const { RuntimeError } = WebAssembly

const isTrap = error => error instanceof RuntimeError && /out of bounds/.test(error.message)

/** What an access gave, so that it can be compared. */
function shown(value) {
  if (ArrayBuffer.isView(value)) return `${value.constructor.name} ${Array.from(value)}`
  return typeof value === 'bigint' ? `${value}n` : String(value)
}

class Guest {
  static #modules = new Map()

  /** Over a memory of this kind, which it fills where accesses expect something. */
  static async make(kind, memory) {
    if (!Guest.#modules.has(kind)) Guest.#modules.set(kind, await compileAccesses(kind))
    const guest = new Guest()
    guest.memory = memory
    guest.number = ground.MEMORIES[kind].address === 'i64' ? BigInt : Number
    const env = { memory, host: () => guest.host() }
    guest.exports = new WebAssembly.Instance(Guest.#modules.get(kind), { env }).exports
    new Uint8Array(memory.buffer).set(SOURCE, ground.SOURCE_AT)
    new Uint8Array(memory.buffer).set(SOURCE)
    return guest
  }

  #operands({ index, where }) {
    return [index, this.number(where), VALUE, this.number(LENGTH)]
  }

  /**
   * Does an access, and then reads out of bounds: both in one activation of Wasm, which calls
   * JavaScript where the access is JavaScript's. Gives what the access saw or threw, and whether
   * the read was caught as the trap that it is.
   */
  attempt(access, bytes) {
    const { exports } = this
    let seen
    let error
    try {
      if (access.side === 'wasm') exports.activate(...this.#operands(access))
      else {
        this.host = () => {
          seen = shown(access.run(bytes))
        }
        exports.viaHost()
      }
    } catch (caught) {
      error = caught
    }
    // A trap of the access itself ends the activation.
    if (exports.stage.value === 0) return { error, trapsAfter: this.outOfBoundsTraps() }
    return {
      seen: access.side === 'wasm' ? shown(exports.seen.value) : seen,
      trapsAfter: isTrap(error)
    }
  }

  /** For accesses whose work is done on another thread. */
  async attemptLater(access, bytes) {
    const outcome = await access.run(bytes).then(
      value => ({ seen: shown(value) }),
      error => ({ error })
    )
    return { ...outcome, trapsAfter: this.outOfBoundsTraps() }
  }

  /**
   * An access that traps, in a call out of Wasm through JavaScript: whether the caller can trap and
   * be caught then.
   */
  trapsRound(access) {
    let inner
    this.host = () => {
      try {
        this.exports.access(...this.#operands(access))
      } catch (error) {
        inner = error
      }
    }
    try {
      this.exports.viaHost()
    } catch (error) {
      return isTrap(inner) && this.exports.stage.value === 1 && isTrap(error)
    }
    return false
  }

  outOfBoundsTraps() {
    try {
      this.exports.outOfBounds()
    } catch (error) {
      return isTrap(error)
    }
    return false
  }

  /** Whether a plain store to the target traps. */
  storeTraps() {
    try {
      this.exports.store8(this.number(target))
    } catch (error) {
      return isTrap(error)
    }
    return false
  }
}

module.exports = { Guest, isTrap }
