'use strict'

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const OVERLAYFS = 0x794c7630

/**
 * Where files have leases, which opened snapshots need. Not on an overlay, as the root of most
 * containers is.
 */
const directoryWithLeases = () =>
  [os.tmpdir(), '/dev/shm'].find(
    folder => fs.existsSync(folder) && fs.statfsSync(folder).type !== OVERLAYFS
  ) ?? os.tmpdir()

/** A directory for one test file, removed when its tests are done. */
function temporaryDirectory({ parent = os.tmpdir() } = {}) {
  const directory = fs.mkdtempSync(path.join(parent, 'wasm-hostmap-test-'))
  afterAll(() => fs.rmSync(directory, { recursive: true }))

  let count = 0
  return {
    path: directory,
    /** The path of a file with these bytes; without them, a path where nothing is. */
    file(bytes, name = `${++count}.bin`) {
      const file = path.join(directory, name)
      if (bytes !== undefined) fs.writeFileSync(file, bytes)
      return file
    },
    /** A sparse file of this size, with some bytes at some offsets: `{ [offset]: bytes }`. */
    sparse(byteLength, islands = {}, name = `${++count}.sparse`) {
      const file = path.join(directory, name)
      const fd = fs.openSync(file, 'w')
      fs.ftruncateSync(fd, byteLength)
      for (const [offset, bytes] of Object.entries(islands))
        fs.writeSync(fd, bytes, 0, bytes.length, Number(offset))
      fs.closeSync(fd)
      return file
    }
  }
}

/**
 * Bytes without a period that a wrong offset could hide behind: the same for the same seed, on
 * every machine.
 */
function noise(byteLength, seed = 1) {
  const words = new Uint32Array(Math.ceil(byteLength / 4))
  let state = seed >>> 0 || 1
  for (let i = 0; i < words.length; i++) {
    // Marsaglia's xorshift32.
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = state
  }
  return Buffer.from(words.buffer, 0, byteLength)
}

module.exports = { temporaryDirectory, directoryWithLeases, noise }
