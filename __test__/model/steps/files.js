'use strict'

// What others do to files: by descriptors of the test's own.

const fs = require('node:fs')
const fc = require('fast-check')
const { noise } = require('../../support/files')
const { PAGE, same } = require('../world')
const {
  newSteps,
  MOST,
  MOST_BYTES,
  byteLength,
  rarely,
  pick,
  longLength,
  choose
} = require('./arguments')
const { fdOf } = require('../../support/procfs.js')

const { steps, step } = newSteps()

step(
  'make a file',
  3,
  { byteLength, seed: pick, empty: rarely },
  (world, { byteLength, seed, empty }) => {
    if (world.files.length >= MOST.files) return null
    const bytes = noise(empty ? 0 : byteLength, seed + 1)
    return { text: `make a file of ${bytes.length} bytes`, run: () => void world.newFile(bytes) }
  }
)

step('unlink a file', 1, { file: pick }, (world, { file: which }) => {
  const file = choose(world.files, which)
  if (!file?.linked) return null
  return { text: `unlink a file of ${file.backing.size} bytes`, run: () => file.unlink() }
})

step(
  'truncate a file',
  8,
  { file: pick, byteLength, where: fc.nat(3), page: pick },
  (world, args) => {
    const file = choose(world.files, args.file)
    if (!file) return null
    const { size } = file.backing
    const to = [args.byteLength, (args.page % (Math.ceil(size / PAGE) + 1)) * PAGE, 0, size][
      args.where
    ]
    return {
      text: `truncate a file of ${size} bytes to ${to}`,
      run: () => {
        fs.ftruncateSync(file.fd, to)
        file.backing.resize(to)
      }
    }
  }
)

step(
  'write a file',
  8,
  { file: pick, at: pick, byteLength: longLength, seed: pick },
  (world, args) => {
    const file = choose(world.files, args.file)
    if (!file) return null
    const at = args.at % (file.backing.size + 2 * PAGE)
    const length = Math.min(args.byteLength, MOST_BYTES + PAGE - at)
    if (length <= 0) return null
    const bytes = noise(length, args.seed + 1)
    return {
      text: `write ${length} bytes at ${at} of a file of ${file.backing.size}`,
      run: () => {
        same('bytes written', fs.writeSync(file.fd, bytes, 0, length, at), length)
        file.backing.write(at, bytes)
      }
    }
  }
)

step(
  'write a region by its descriptor',
  3,
  { region: pick, at: pick, seed: pick },
  (world, args) => {
    const region = choose(world.regions, args.region)
    if (!region?.real || region.closed || !region.opened || !region.backing.memfd) return null
    const { backing } = region
    const at = args.at % backing.size
    const bytes = noise(Math.min(100, backing.size - at), args.seed + 1)
    return {
      text: `write ${bytes.length} bytes at ${at} of ${region.name} by its descriptor`,
      run: () => {
        let code
        try {
          fs.writeSync(fdOf(region.real), bytes, 0, bytes.length, at)
        } catch (error) {
          code = error.code
        }
        same('code of the write', code, backing.sealed ? 'EPERM' : undefined)
        if (code === undefined) backing.write(at, bytes)
      }
    }
  }
)

module.exports = { steps }
