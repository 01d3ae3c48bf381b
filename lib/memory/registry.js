'use strict'

// Which LinearMemory there is for a WebAssembly.Memory, a buffer or a base address. Weak both ways:
// while V8 holds a memory, its object stays; the object alone holds the memory, so the two go
// together. Nothing here asks V8 or the kernel anything.

const native = require('../platform/binding.js')

const byMemory = new WeakMap()
const byBuffer = new WeakMap()
// For a memory that is met by another way than before. An entry counts only while its object lives,
// which holds its memory, so the base can't have come back for another one.
const byBase = new Map()
const forgetBase = new FinalizationRegistry(base => {
  if (byBase.get(base)?.deref() === undefined) byBase.delete(base)
})

/** Makes a memory findable. `array` is over the whole `buffer`. */
function register(linear, buffer, array) {
  if (linear.memory !== null) byMemory.set(linear.memory, linear)
  byBuffer.set(buffer, linear)
  const base = native.baseOf(array)
  byBase.set(base, new WeakRef(linear))
  forgetBase.register(linear, base)
}

function forgetBases(linear) {
  for (const [base, found] of byBase) if (found.deref() === linear) byBase.delete(base)
}

module.exports = { byMemory, byBuffer, byBase, register, forgetBases }
