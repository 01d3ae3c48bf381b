'use strict'

// The provider of the model's paged regions. Its bytes are a function of the offset; chunks fail as
// often as the model says, in memory that both have.

/** The bytes of a part. No page looks like another one, and none has only zeros. */
function bytesAt(first, length) {
  const bytes = Buffer.alloc(length)
  for (let i = 0; i < length; i++) {
    const at = first + i
    bytes[i] = 1 + (((at ^ (at >>> 8)) * 31 + (at >>> 12) * 7) % 255)
  }
  return bytes
}

module.exports = ({ byteLength, chunkBytes, failing, calls }) => ({
  byteLength,
  read(byteOffset, target) {
    const chunk = byteOffset / chunkBytes
    Atomics.add(calls, 0, 1)
    if (Atomics.load(failing, chunk) > 0) {
      Atomics.sub(failing, chunk, 1)
      throw new Error(`chunk ${chunk} fails`)
    }
    target.set(bytesAt(byteOffset, target.length))
    return target.length
  }
})

module.exports.bytesAt = bytesAt
