'use strict'

// Whether a memory's addresses have 32 or 64 bits, which V8 does not tell. Where nothing proves it,
// the answer is undefined: a wrong one would make a guard look whole that is not.

const native = require('./binding.js')
const { classOfThrown, isOneOf, isTypeError } = require('./error-classes.js')
const {
  Uint8Array,
  bufferOf,
  growMemory,
  isShared,
  lengthOf,
  makeMemory,
  pageLimits
} = require('./v8.js')

// Taken now, like those of v8.js.
const { Module, Instance } = WebAssembly

const isCompileError = isOneOf(classOfThrown(() => new Module(new Uint8Array(1))))

/**
 * Whether a memory's addresses are numbers or BigInts; undefined where nothing tells. Asked by a
 * growth that no memory allows: V8 converts the argument first, and refuses a number for a 64-bit
 * memory with a TypeError.
 */
function addressTypeOf(memory) {
  try {
    growMemory(memory, 0xffffffff)
  } catch (error) {
    if (isTypeError(error)) return 'i64'
  }
  // Where modules alone can make 64-bit memories (V8 12), the JavaScript API takes numbers for all
  // of them.
  return pageLimits().i64 > 0 ? 'i32' : linkedType(memory)
}

// (module (import "" "" (memory i64 0))), and the same with (memory i64 0 262144 shared). Never one
// that imports a 32-bit memory: V8 11.3 aborts when it links that to a 64-bit one.
const IMPORT_I64 = [0, 97, 115, 109, 1, 0, 0, 0, 2, 6, 1, 0, 0, 2, 4, 0]
const IMPORT_SHARED_I64 = [0, 97, 115, 109, 1, 0, 0, 0, 2, 9, 1, 0, 0, 2, 7, 0, 128, 128, 16]

const compiled = new Map()

/** The module, compiled once, or null where this V8 has no such modules. */
function compileOnce(bytes) {
  if (!compiled.has(bytes)) {
    let module = null
    try {
      module = new Module(new Uint8Array(bytes))
    } catch (error) {
      // Else it was no memory for it, say: not known yet.
      if (!isCompileError(error)) return null
    }
    compiled.set(bytes, module)
  }
  return compiled.get(bytes)
}

/** Whether a module that imports a 64-bit memory links to this one. */
function linksAs64(memory) {
  const needsShared = isShared(bufferOf(memory))
  const module = compileOnce(needsShared ? IMPORT_SHARED_I64 : IMPORT_I64)
  if (module === null) return false
  try {
    new Instance(module, { '': { '': memory } })
    return true
  } catch {
    return false
  }
}

// Whether linking tells 64-bit memories from others. V8 11.3, with --experimental-wasm-memory64,
// links any memory to any import.
let linkingTells

/** The address type of a memory, by what modules can import it. */
function linkedType(memory) {
  if (!linksAs64(memory)) return 'i32'
  try {
    // Not an empty one: all of its reservation is inaccessible, and could pass for the guard of the
    // memory below.
    linkingTells ??= !linksAs64(makeMemory({ initial: 1, maximum: 1, address: 'i32' }))
  } catch {
    return undefined
  }
  return linkingTells ? 'i64' : undefined
}

/** Whether there may be 64-bit memories, if only by modules. */
const hasMemory64 = () => pageLimits().i64 > 0 || compileOnce(IMPORT_I64) !== null

// What V8 reserves from the base of a 64-bit memory on that has no maximum.
const REACH_BYTES_I64 = 2 ** 34

/**
 * The address type of a memory by its buffer, of which `array` is over the whole; undefined where
 * nothing tells. Only a 64-bit memory is larger than 4 GiB. A smaller one is none where something
 * accessible is within the reach of a 64-bit one, and that is so above nearly every 32-bit
 * memory: the next one, or the heap.
 */
function addressTypeOfBuffer(array) {
  if (lengthOf(array) > 2 ** 32) return 'i64'
  if (!hasMemory64()) return 'i32'
  return native.isGuarded(array, 0, REACH_BYTES_I64) ? undefined : 'i32'
}

module.exports = { addressTypeOf, addressTypeOfBuffer }
