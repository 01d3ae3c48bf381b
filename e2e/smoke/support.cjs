'use strict'
// What the parts of the smoke script share: modules, files, memories, and what a fault must do.

const assert = require('node:assert')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const texts = require('./modules.json')

const KiB = 2 ** 10
const MiB = 2 ** 20

const bytesOf = name => Buffer.from(texts[name], 'base64')
const compiled = new Map()

/** A module of modules.json, compiled once. */
function moduleOf(name) {
  if (!compiled.has(name)) compiled.set(name, new WebAssembly.Module(bytesOf(name)))
  return compiled.get(name)
}

/** The 64-bit numbers 0, 1, 2, ... */
function numbers(byteLength) {
  const values = new BigUint64Array(byteLength / 8)
  for (let at = 0; at < values.length; at++) values[at] = BigInt(at)
  return Buffer.from(values.buffer)
}

/** What they add up to. */
const sumOf = byteLength => (BigInt(byteLength / 8) * BigInt(byteLength / 8 - 1)) / 2n

/** What a part is given: the package, and helpers that clean up when the part ends. */
class Ground {
  #folder = null
  constructor(hostmap, directory) {
    this.hostmap = hostmap
    this.directory = directory
    this.limits = hostmap.limits()
    this.hasGuard = this.limits.faultGuard.handler !== 'none'
    /** Whether a store of a module to a read-only page is a trap. */
    this.traps = this.limits.faultGuard.traps
    this.pageBytes = this.limits.pageSize
  }

  /** A path for a file that is gone afterwards. */
  path(name) {
    this.#folder ??= fs.mkdtempSync(
      path.join(process.env.SMOKE_DIR || os.tmpdir(), 'hostmap-smoke-')
    )
    return path.join(this.#folder, name)
  }

  file(name, bytes) {
    const file = this.path(name)
    fs.writeFileSync(file, bytes)
    return file
  }

  /** A memory, and an instance of a module that imports it. */
  memory(descriptor = { initial: 1 }, name = descriptor.address === 'i64' ? 'probe64' : 'probe') {
    const guarded = new this.hostmap.GuardedMemory(descriptor)
    const { exports } = new WebAssembly.Instance(moduleOf(name), {
      env: { memory: guarded.memory }
    })
    return { guarded, exports }
  }

  /** A region of so many numbers, mapped read-only. */
  mapped(
    byteLength = MiB,
    options = {},
    region = this.hostmap.HostRegion.copyFrom(numbers(byteLength))
  ) {
    const { guarded, exports } = this.memory()
    return { guarded, exports, region, mapping: guarded.map(region, options) }
  }

  clean() {
    if (this.#folder) fs.rmSync(this.#folder, { recursive: true, force: true })
    this.#folder = null
  }
}

/** What a trap says; it fails where the call returns. */
function trapOf(call) {
  try {
    call()
  } catch (error) {
    assert(error instanceof WebAssembly.RuntimeError, String(error))
    return error.message
  }
  assert.fail('no trap')
}

/** The code that a call fails with. */
function codeOf(call) {
  try {
    call()
  } catch (error) {
    return error.code
  }
  assert.fail('no error')
}

module.exports = {
  assert,
  bytesOf,
  codeOf,
  fs,
  KiB,
  MiB,
  Ground,
  moduleOf,
  numbers,
  path,
  sumOf,
  trapOf
}
