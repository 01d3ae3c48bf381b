'use strict'

// Finds the LinearMemory for what a caller has: a WebAssembly.Memory, its buffer, or a function
// that gives the buffer. There is one for each memory, however it is met. A buffer alone proves
// nothing: it must have a memory's guards around it.

const { types } = require('node:util')
const native = require('../platform/binding.js')
const { callNative } = require('../support/errors.js')
const { wrongMemory } = require('../support/wrong.js')
const v8 = require('../platform/v8.js')
const { addressTypeOf, addressTypeOfBuffer } = require('../platform/address-type.js')
const { hasTrapHandler, proveGuard } = require('../platform/reservation.js')
const { isView } = require('../region/views.js')
const { notWasmMemory, unknownAddress } = require('./errors.js')
const { bufferFrom, isDetached } = require('./buffer.js')
const { byMemory, byBuffer, byBase } = require('./registry.js')
const { LinearMemory } = require('./linear-memory.js')
const { isAt } = require('./table.js')

const { lengthOf } = v8

/** `address`: its address type, where the caller has said it. */
function findLinear(memory, address) {
  if (v8.isMemory(memory)) return fromMemory(memory, address)
  if (types.isAnyArrayBuffer(memory)) return fromBuffer(memory, address)
  if (typeof memory !== 'function') throw wrongMemory(memory)
  const linear = fromBuffer(bufferFrom(memory, wrongMemory), address)
  linear.find = memory
  return linear
}

/** The same, if the memory is known already. */
function knownLinear(memory) {
  const known = byMemory.get(memory)
  if (known !== undefined || byBase.size === 0) return known
  // By its buffer perhaps.
  const other = livingAt(new v8.Uint8Array(v8.bufferOf(memory)))
  return other === undefined ? undefined : fromMemory(memory)
}

function fromMemory(memory, asked) {
  const known = byMemory.get(memory)
  if (known !== undefined) return known.sync()
  const buffer = v8.bufferOf(memory)
  const array = v8.arrayOver(buffer)
  const other = livingAt(array)
  if (other !== undefined && other.memory === null) {
    // Until now only its buffer was known.
    other.memory = memory
    other.sync()
    byMemory.set(memory, other)
    return other
  }
  const address = addressTypeOf(memory) ?? asked
  if (address === undefined) throw unknownAddress()
  return new LinearMemory({ memory, buffer, address })
}

function fromBuffer(buffer, asked) {
  const known = byBuffer.get(buffer)
  if (known !== undefined && known.knownBuffer === buffer && v8.sizeOf(buffer) > 0)
    return known.sync()
  refuseBuffer(buffer)
  const array = v8.arrayOver(buffer)
  const other = livingAt(array)
  if (other !== undefined) {
    // The same memory, met by its buffer, or by its buffer after a growth.
    // An older buffer of a shared memory is shorter, and still there.
    if (other.memory === null && !(other.shared && lengthOf(array) < lengthOf(other.array)))
      other.refresh(buffer)
    other.sync()
    byBuffer.set(buffer, other)
    return other
  }
  if (!callNative(hasTrapHandler)) {
    throw notWasmMemory(
      'V8 runs without its trap handler, so no guard proves what the buffer is; pass the WebAssembly.Memory itself'
    )
  }
  const address = asked ?? callNative(() => addressTypeOfBuffer(array))
  const guard = callNative(() =>
    native.mayBeLinear(array) ? proveGuard(array, address ?? 'i32') : null
  )
  if (guard === null) {
    throw notWasmMemory(
      address === 'i64' && v8.pageLimits().i64 === 0
        ? `64-bit memories have no guards in Node.js ${process.version}; pass the WebAssembly.Memory itself`
        : 'there is no reservation with guards around it, by the process map'
    )
  }
  if (address === undefined) throw unknownAddress()
  return new LinearMemory({ memory: null, buffer, address, guard })
}

/** Throws for a buffer that can't be a memory's as it is now. */
function refuseBuffer(buffer) {
  if (isDetached(buffer))
    throw notWasmMemory('it is detached: the memory has grown; pass its new buffer')
  if (isView(buffer)) throw notWasmMemory('it is a view, or the bytes, of a HostRegion')
  if (v8.isResizable(buffer))
    throw notWasmMemory('it can be resized; pass the WebAssembly.Memory itself')
}

/** The one of the memory that is where this array is, if there is one. */
function livingAt(array) {
  const found = byBase.get(callNative(() => native.baseOf(array)))?.deref()
  // V8 may have moved that one since, and given its base to another.
  if (found === undefined || (!found.shared && lengthOf(array) < found.seenBytes)) return undefined
  if (found.memory !== null) found.current()
  return isAt(found.table, array) ? found : undefined
}

module.exports = { findLinear, knownLinear }
