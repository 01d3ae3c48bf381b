'use strict'

// Random patterns: memories are written in all the ways that there are, put back, and compared byte
// by byte with copies that JavaScript made. The copies know nothing of pages.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { GuardedMemory, HostRegion, limits } = require('../..')
const { native } = require('../support/native')
const { noise } = require('../support/files')
const { hasMemory64 } = require('../support/wasm')
const { ACCESSES, makeGuest, perform } = require('../model/accesses')
const { Random } = require('./random')

const PAGE = limits().pageSize
const WASM_PAGE = 65536
const MOST_PAGES = 5000
const PATTERNS_PER_WORLD = 25
/**
 * Random steps that change nothing count for none; if so many are needed for a pattern, they are
 * not what they were.
 */
const MOST_STEPS_PER_PATTERN = 3
const MOST = { memories: 3, snapshots: 3 }

const NAMES = Object.keys(ACCESSES).filter(name => ACCESSES[name].writes && name !== 'storeFar')
/** One store is enough for a page; these are the cheap ones. */
const STORES = NAMES.filter(name => !ACCESSES[name].long)
const LONG = NAMES.filter(name => ACCESSES[name].long)

// A copy takes time, so most memories are small.
const WASM_PAGES = [1, 1, 2, 3, 5, 5, 17, 17, 64, Math.ceil((MOST_PAGES * PAGE) / WASM_PAGE)]
const KINDS = [
  { address: 'i32', shared: false, own: true },
  { address: 'i32', shared: false, own: false },
  { address: 'i32', shared: true, own: true },
  ...(hasMemory64
    ? [
        { address: 'i64', shared: false, own: true },
        { address: 'i64', shared: true, own: false }
      ]
    : [])
]
const KEPT = [0, PAGE, undefined, undefined, 2 ** 40]

const bytes = noise(40 * PAGE - 100, 3)

let file
function sourceFile() {
  if (file === undefined) {
    const name = path.join(os.tmpdir(), `wasm-hostmap-patterns-${process.pid}`)
    fs.writeFileSync(name, bytes)
    file = { name, fd: fs.openSync(name, 'r') }
    process.on('exit', () => fs.rmSync(name, { force: true }))
  }
  return file
}

/**
 * What is in a memory: `shown` bytes from the start are the region's, the rest of a window is
 * zeros or inaccessible.
 */
const describe = mapping => ({
  mapping,
  isWindow: mapping.shownBytes !== undefined,
  address: mapping.address,
  byteLength: mapping.byteLength,
  access: mapping.access,
  region: mapping.region,
  byteOffset: mapping.byteOffset,
  shown: mapping.shownBytes ?? mapping.byteLength,
  rest: mapping.rest
})
const shownEndOf = ({ address, shown, byteOffset }) =>
  shown === 0 ? address : address + roundUp(shown + (byteOffset % PAGE))
/**
 * Any call may forget what was written to the rest of a window that is read-only: it is not looked
 * at.
 */
const withoutStrays = it => (it.isWindow && it.access === 'readonly' ? { ...it, rest: 'trap' } : it)
const roundUp = length => Math.ceil(length / PAGE) * PAGE

class Memory {
  static async make(kind, wasmPages) {
    const maximum = 2 * wasmPages + 20
    const memory = new Memory()
    if (kind.own) {
      const count = number => (kind.address === 'i64' ? BigInt(number) : number)
      const { address, shared } = kind
      memory.guarded = new GuardedMemory({
        initial: count(wasmPages),
        maximum: count(maximum),
        shared,
        address
      })
      memory.guest = await makeGuest(kind, memory.guarded.memory)
    } else {
      memory.guest = await makeGuest({ ...kind, initial: wasmPages, maximum })
      memory.guarded = GuardedMemory.from(memory.guest.memory)
    }
    memory.maximumBytes = maximum * WASM_PAGE
    return memory
  }

  get bytes() {
    return this.guest.bytes
  }
}

class World {
  #random
  #memories = []
  #snapshots = []
  #regions = []
  #fails
  #kind

  constructor(random, { fails }) {
    this.#random = random
    this.#fails = fails
  }

  static async make(random, options) {
    const world = new World(random, options)
    world.#kind = random.pick(KINDS)
    world.#regions = [
      HostRegion.copyFrom(bytes, { name: 'constant' }),
      // Whole pages: what is written past a region's end, in its last page, no view shows.
      HostRegion.copyFrom(bytes.subarray(0, 10 * PAGE), { name: 'written' }),
      HostRegion.open(sourceFile().name)
    ]
    const memory = await world.#addMemory()
    for (let i = random.below(4); i > 0; i--) world.#write(memory)
    for (let i = random.below(4); i > 0; i--) world.#map(memory)
    if (random.oneIn(2)) world.#write(memory)
    world.#takeSnapshot(memory)
    return world
  }

  /** Writes, and puts back. Gives whether there was anything to put back. */
  async pattern() {
    const random = this.#random
    const memory = random.pick(this.#memories)
    for (let i = random.sizeUpTo(4); i > 0; i--) this.#disturb(memory)
    const kept = random.pick(this.#snapshots)
    let hasChanged = this.#restore(memory, kept)
    if (random.oneIn(6)) hasChanged = this.#resetMemory(memory) || hasChanged
    if (random.oneIn(4)) {
      const other = random.pick(this.#memories)
      hasChanged = this.#restore(other, random.pick(this.#snapshots)) || hasChanged
    }
    if (random.oneIn(8)) this.#takeSnapshot(memory)
    if (this.#memories.length < MOST.memories && random.oneIn(12)) await this.#addMemory()
    return hasChanged
  }

  end() {
    for (const { snapshot } of this.#snapshots) snapshot.close()
    for (const region of this.#regions) region.close()
  }

  async #addMemory() {
    const memory = await Memory.make(this.#kind, this.#random.pick(WASM_PAGES))
    this.#memories.push(memory)
    return memory
  }

  #map({ guarded }) {
    const random = this.#random
    const [constant, written, file] = this.#regions
    const access = random.pick(['readonly', 'private', 'shared'])
    const region = access === 'shared' ? written : random.pick([constant, file])
    const pages = Math.floor(guarded.byteLength / PAGE)
    const at = random.oneIn(3) ? undefined : random.below(pages) * PAGE
    const isWindow = random.oneIn(2)
    const byteOffset = isWindow ? random.below(region.byteLength) : random.below(9) * PAGE
    try {
      if (isWindow) {
        const size = random.sizeUpTo(20) * PAGE
        const rest = random.pick(['trap', 'zeros'])
        const window = guarded.window({ at, byteLength: size, access, rest })
        if (!random.oneIn(5)) window.slide(region, byteOffset)
      } else {
        const byteLength = random.oneIn(2)
          ? undefined
          : 1 + random.below(region.byteLength - byteOffset)
        guarded.map(region, { at, byteOffset, byteLength, access })
      }
    } catch (error) {
      if (
        !['ERR_HOSTMAP_OVERLAP', 'ERR_OUT_OF_RANGE', 'ERR_HOSTMAP_MEMORY_FULL'].includes(error.code)
      )
        throw error
    }
  }

  #disturb(memory) {
    const random = this.#random
    const { guarded, guest } = memory
    const windows = guarded.mappings.filter(({ shownBytes }) => shownBytes !== undefined)
    const room = Math.floor((memory.maximumBytes - guarded.byteLength) / WASM_PAGE)
    const ways = [
      () => this.#write(memory),
      () => this.#write(memory),
      () => this.#write(memory),
      () => room > 0 && random.oneIn(6) && guest.grow(1 + random.below(Math.min(room, 3))),
      () => room > 0 && random.oneIn(6) && guarded.grow(1 + random.below(Math.min(room, 3))),
      () => {
        const window = windows.length > 0 ? random.pick(windows) : undefined
        if (window === undefined) return
        const [constant, written, file] = this.#regions
        // What a private window shows of a region that changes is nobody's to foretell.
        const others = window.access === 'shared' ? [written, file] : [constant, file]
        // To the same place, too: pages that were written are gone then.
        const stays = window.region !== null && random.oneIn(3)
        const region = stays ? window.region : random.pick(others)
        const byteOffset = stays ? window.byteOffset : random.below(region.byteLength)
        const byteLength = stays ? window.shownBytes : undefined
        const access = region === file && window.access === 'shared' ? 'readonly' : window.access
        if (random.oneIn(4)) window.slide(null)
        else window.slide(region, byteOffset, { access, byteLength })
      },
      () => {
        if (guarded.mappings.length > 0 && random.oneIn(3)) random.pick(guarded.mappings).unmap()
      },
      () => random.oneIn(4) && this.#map(memory)
    ]
    random.pick(ways)()
  }

  /** Writes pages: one after the other, each so many, or anywhere. */
  #write(memory) {
    const random = this.#random
    const pages = memory.guarded.byteLength / PAGE
    const count = random.sizeUpTo(Math.min(pages, MOST_PAGES))
    const first = random.below(pages)
    const stride = random.pick([1, 1, 2, 3, 0])
    const cheap = random.pick(['jsElement', 'store8', 'store64', 'storeV128', 'atomicAdd32'])
    if (random.oneIn(5)) this.#writeLong(memory, random.pick(LONG), count * PAGE)
    else if (random.oneIn(8)) this.#readFile(memory)
    else {
      for (let i = 0; i < count; i++) {
        const page = stride === 0 ? random.below(pages) : (first + i * stride) % pages
        // At its borders more often than anywhere else: then two pages are written.
        const at = page * PAGE + random.pick([0, PAGE - 1, PAGE - 3, PAGE - 8, random.below(PAGE)])
        this.#store(memory, count > 100 ? cheap : random.pick(STORES), at)
      }
    }
  }

  #store(memory, name, at) {
    const { align, script, size } = ACCESSES[name]
    if (align) at -= at % align
    const length = 1 + this.#random.below(64)
    if (script && at + (size ?? length) > memory.guarded.byteLength) return
    const access = { name, at, value: this.#random.long(), length, old: 0n }
    // A store to what is read-only, or past the end, traps: so is it meant.
    if (this.#mayTouch(memory, at, 5000)) perform(memory.guest, access)
  }

  #writeLong(memory, name, most) {
    const random = this.#random
    const { byteLength } = memory.guarded
    const length = Math.min(byteLength, random.sizeUpTo(Math.max(most, 2)))
    const at = random.below(byteLength - length + 1)
    const from = random.below(byteLength - length + 1)
    if (!this.#mayTouch(memory, at, length) || !this.#mayTouch(memory, from, length)) return
    perform(memory.guest, { name, at, from, length, value: random.long() })
  }

  /** A write by the kernel; into what is read-only it fails. */
  #readFile({ guarded, guest }) {
    const random = this.#random
    const length = Math.min(bytes.length, random.sizeUpTo(guarded.byteLength))
    const at = random.below(guarded.byteLength - length + 1)
    try {
      fs.readSync(sourceFile().fd, guest.bytes, at, length, 0)
    } catch (error) {
      if (error.code !== 'EFAULT') throw error
    }
  }

  /** Not where a window is inaccessible: it would be opened. */
  #mayTouch({ guarded }, at, length) {
    return guarded.mappings.every(mapping => {
      const hiddenFrom = mapping.rest === 'trap' ? shownEndOf(describe(mapping)) : Infinity
      return at + length <= hiddenFrom || at >= mapping.address + mapping.byteLength
    })
  }

  #takeSnapshot(memory) {
    const { guarded } = memory
    const { shared } = this.#kind
    const random = this.#random
    const snapshot = guarded.snapshot({
      exclusive: shared,
      keepResidentBytes: random.pick(KEPT),
      hugePages: random.oneIn(3)
    })
    const kept = { snapshot, mappings: guarded.mappings.map(describe), bytes: this.#read(memory) }
    assert.equal(snapshot.byteLength, guarded.byteLength)
    if (this.#snapshots.length < MOST.snapshots) this.#snapshots.push(kept)
    else {
      const index = random.below(MOST.snapshots)
      this.#snapshots[index].snapshot.close()
      this.#snapshots[index] = kept
    }
  }

  /** A copy of the memory, with zeros where it is inaccessible. */
  #read({ guarded, bytes }) {
    const copy = Buffer.alloc(guarded.byteLength)
    this.#forReadable(guarded.mappings.map(describe), copy.length, (start, end) =>
      bytes.copy(copy, start, start, end)
    )
    return copy
  }

  #forReadable(mappings, byteLength, see) {
    let at = 0
    for (const { address, byteLength, shown, rest, byteOffset } of mappings) {
      if (rest !== 'trap') continue
      see(at, shownEndOf({ address, shown, byteOffset }))
      at = address + byteLength
    }
    see(at, byteLength)
  }

  /** Gives whether a byte has changed by it. */
  #restore(memory, kept) {
    const { guarded } = memory
    const random = this.#random
    let before
    // In the way: a mapping that the snapshot has not, or not there. Nothing may have changed then.
    for (;;) {
      const standing = guarded.mappings
      before = this.#read(memory)
      const code = this.#tryRestore(memory, kept)
      if (code === undefined) break
      assert.equal(guarded.mappings.length, standing.length, `${code} and mappings came or went`)
      // It may have grown by then.
      const expected = Buffer.concat([before], guarded.byteLength)
      this.#compare(memory, expected, standing.map(describe).map(withoutStrays), code)
      if (code === 'ERR_HOSTMAP_MEMORY_FULL') {
        assert(memory.maximumBytes < kept.snapshot.byteLength, 'it has room')
        return false
      }
      assert.equal(code, 'ERR_HOSTMAP_OVERLAP')
      const others = standing.filter(mapping => !isKept(mapping, kept.mappings))
      assert(others.length > 0, 'nothing is in the way')
      random.pick(others).unmap()
    }
    const { snapshot, mappings } = kept
    for (const it of mappings) {
      const now = guarded.mappings.find(({ address }) => address === it.address)
      assert(now !== undefined, `no mapping at ${it.address}`)
      const { byteLength, access, region, byteOffset, shown, rest } = describe(now)
      assert.deepEqual(
        [byteLength, access, region?.name ?? null, byteOffset, shown, rest],
        [it.byteLength, it.access, it.region?.name ?? null, it.byteOffset, it.shown, it.rest]
      )
    }
    assert.equal(guarded.mappings.length, mappings.length)
    assert(guarded.byteLength >= snapshot.byteLength)
    const expected = Buffer.alloc(guarded.byteLength)
    kept.bytes.copy(expected)
    for (const it of mappings) overlay(expected, it)
    this.#compare(memory, expected, mappings, 'restored')
    return !before.equals(expected.subarray(0, before.length))
  }

  #tryRestore({ guarded }, { snapshot }) {
    this.#failNext()
    try {
      guarded.restore(snapshot, this.#kind.shared ? { exclusive: true } : undefined)
      return undefined
    } catch (error) {
      if (!error.code?.startsWith('ERR_HOSTMAP_')) throw error
      return error.code
    } finally {
      if (this.#fails) native.forgetFailures()
    }
  }

  #resetMemory(memory) {
    const { guarded } = memory
    const before = this.#read(memory)
    this.#failNext()
    guarded.reset({ exclusive: this.#kind.shared, keepResidentBytes: this.#random.pick(KEPT) })
    if (this.#fails) native.forgetFailures()
    const expected = Buffer.alloc(guarded.byteLength)
    const mappings = guarded.mappings.map(describe)
    for (const it of mappings) overlay(expected, { ...it, all: true })
    this.#compare(memory, expected, mappings, 'reset')
    return !before.equals(expected)
  }

  /**
   * As on a kernel that can't tell which pages were written: each way to find out fails at once.
   */
  #failNext() {
    if (!this.#fails) return
    for (let i = 0; i < 40; i++) native.injectFailure('ioctl_pagemap', 0, os.constants.errno.ENOTTY)
  }

  #compare(memory, expected, mappings, what) {
    const { bytes } = memory
    assert.equal(bytes.length, expected.length, what)
    this.#forReadable(mappings, expected.length, (start, end) => {
      if (bytes.compare(expected, start, end, start, end) === 0) return
      let at = start
      while (bytes[at] === expected[at]) at++
      assert.fail(
        `${what}: byte ${at} (page ${Math.floor(at / PAGE)}) is ${bytes[at]}, not ${expected[at]}`
      )
    })
  }
}

/** Whether it may stand where it does when a snapshot with these mappings is restored. */
function isKept(mapping, mappings) {
  const it = describe(mapping)
  return mappings.some(
    kept =>
      kept.address === it.address &&
      roundUp(kept.byteLength) === roundUp(it.byteLength) &&
      kept.isWindow === it.isWindow &&
      (it.isWindow
        ? kept.rest === it.rest
        : kept.region === it.region &&
          kept.byteOffset === it.byteOffset &&
          kept.access === it.access)
  )
}

/**
 * What a mapping shows that is not the memory's to keep: its region, as it is now, unless that was
 * private; and zeros in the rest of a window.
 */
function overlay(
  expected,
  { address, access, region, byteOffset, shown, byteLength, isWindow, all = false }
) {
  const skew = byteOffset % PAGE
  const shownEnd = shownEndOf({ address, shown, byteOffset })
  if (isWindow) expected.fill(0, shownEnd, address + byteLength)
  if (shown === 0 || (access === 'private' && !all)) return
  const from = byteOffset - skew
  const length = Math.min(shownEnd - address, region.byteLength - from)
  expected.fill(0, address, shownEnd)
  Buffer.from(region.view(from, length)).copy(expected, address)
}

/** That a restore meets the failures that it is to meet. */
function checkFailures() {
  const guarded = new GuardedMemory({ initial: 1 })
  const snapshot = guarded.snapshot()
  guarded.restore(snapshot)
  new Uint8Array(guarded.buffer)[0] = 1
  native.injectFailure('ioctl_pagemap', 0, os.constants.errno.ENOTTY)
  guarded.restore(snapshot)
  assert.equal(native.forgetFailures(), false, 'the failure did not go off')
  snapshot.close()
}

/**
 * Runs patterns until so many have changed something that was put back. Throws at the first that
 * fails, with what repeats it.
 *
 * @param options.only the number of the one world to run
 * @param options.fails whether the kernel can't tell which pages were written; takes a build that
 *   can be told to
 */
async function check({ patterns, seed, only, fails = false, onWorld = () => {} }) {
  if (fails) checkFailures()
  let done = 0
  let steps = 0
  for (let number = only ?? 0; only === undefined ? done < patterns : number === only; number++) {
    const world = await World.make(new Random(seed + number), { fails })
    try {
      for (
        let i = 0;
        i < PATTERNS_PER_WORLD && (only !== undefined || done < patterns);
        i++, steps++
      ) {
        if (await world.pattern()) done++
      }
    } catch (error) {
      throw new Error(`${error.stack}\nRepeat it with --seed ${seed} --only ${number}`, {
        cause: error
      })
    }
    world.end()
    onWorld(done)
    assert(
      done * MOST_STEPS_PER_PATTERN >= steps - 10 * PATTERNS_PER_WORLD,
      'most steps change nothing'
    )
  }
  return done
}

module.exports = { check }
