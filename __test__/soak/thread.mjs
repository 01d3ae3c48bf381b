// One thread of the soak: random rounds, each of which checks all that it reads and leaves nothing
// that it still needs.

import { ftruncateSync, openSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { getHeapStatistics } from 'node:v8'
import { parentPort, workerData } from 'node:worker_threads'
import { zeroCounts } from './counts.mjs'

const require = createRequire(import.meta.url)
const { HostRegion, GuardedMemory, limits } = require('../..')
const { noise } = require('../support/files.js')

const { number, seed, file, fd, memory, slotBytes, module, sharedModule } = workerData
const { pageSize: PAGE, faultGuard } = limits()
const WASM_PAGE = 65536

const bytes = noise(2 ** 20, 1)
const lostBytes = noise(256 * 1024, 2)
const half = lostBytes.length / 2
const dataset = HostRegion.fromFd(fd)
const lostFd = openSync(file, 'r+')
const lost = HostRegion.open(file)
const common = GuardedMemory.from(memory)

let counts = zeroCounts()
process.removeAllListeners('warning')
process.on('warning', ({ name }) => {
  if (name !== 'HostmapWarning') throw new Error(name)
  counts.warnings++
})

// mulberry32, so that a run can be repeated as well as threads can.
let state = seed >>> 0
function random(below) {
  state = (state + 0x6d2b79f5) >>> 0
  let z = Math.imul(state ^ (state >>> 15), state | 1)
  z ^= z + Math.imul(z ^ (z >>> 7), z | 61)
  return ((z ^ (z >>> 14)) >>> 0) % below
}
const pick = list => list[random(list.length)]
const pages = (from, count) => (from + random(count)) * PAGE

function check(holds, what) {
  if (!holds) throw new Error(`${what} (thread ${number}, round ${counts.rounds} of this part)`)
}

function checkEqual(found, expected, what) {
  check(found === expected, `${what}: ${found} instead of ${expected}`)
}

function checkBytes(array, start, expected, what) {
  check(Buffer.from(array.buffer, array.byteOffset + start, expected.length).equals(expected), what)
}

const isZero = (array, start, length) =>
  Buffer.alloc(length).equals(Buffer.from(array.buffer, start, length))

/** Whether it was a trap, which is counted. */
function traps(call) {
  try {
    call()
    return false
  } catch (error) {
    if (!(error instanceof WebAssembly.RuntimeError)) throw error
    counts.traps++
    return true
  }
}

// What holds in between rounds: memories, some of them grown, and views that were not let go of.
let pool = []
let views = []

function someMemory() {
  if (pool.length < 3 || random(20) === 0) {
    const shared = random(3) === 0
    const guarded = new GuardedMemory({ initial: 48, maximum: 160, shared })
    const { exports } = new WebAssembly.Instance(shared ? sharedModule : module, {
      env: { memory: guarded.memory }
    })
    pool.splice(random(pool.length + 1), pool.length < 3 ? 0 : 1, { guarded, exports })
    counts.memories++
  }
  return pick(pool)
}

// Writes to what can only be read, by every way that V8 can't make a trap of.
const JS_WRITES = [
  (array, at) => (array[at] = 255),
  (array, at) => array.set([255], at),
  (array, at) => array.fill(255, at, at + 1),
  (array, at) => new DataView(array.buffer).setUint8(at, 255),
  (array, at) => Atomics.store(array, at, 255)
]
const WASM_WRITES = [
  (_, at, exports) => exports.fill(at, 255, 1),
  (_, at, exports) => exports.copy(at, at + 4, 1),
  (_, at, exports) => exports.add(at & ~3, 1)
]
const WRITES = [...JS_WRITES, ...WASM_WRITES]

function checkStrayWrites(guarded, exports, mapping, source) {
  const array = new Uint8Array(guarded.buffer)
  const start = mapping.address
  const last = Math.ceil(mapping.byteLength / PAGE)
  const touched = new Set()
  const before = mapping.strayWrites
  for (let i = random(6); i >= 0; i--) {
    const page = random(last)
    const inPage = Math.min(4 + random(PAGE - 8), mapping.byteLength - page * PAGE - 8)
    if (inPage < 0) continue
    pick(WRITES)(array, start + page * PAGE + inPage, exports)
    touched.add(page)
  }
  // Now and then more than are changed one by one: then all of the mapping is copy-on-write.
  if (random(50) === 0) {
    for (let page = 0; page < last; page++) {
      array[start + page * PAGE] ^= 1
      touched.add(page)
    }
  }
  const counted = mapping.strayWrites - before
  if (before + touched.size <= 32) checkEqual(counted, touched.size, 'stray writes')
  else check(counted > 0 && counted <= Math.max(33, touched.size), `${counted} stray writes`)
  counts.strayWrites += counted
  // What was not written is the region's still.
  for (let page = 0; page < last; page++) {
    if (touched.has(page)) continue
    const rest = Math.min(PAGE, mapping.byteLength - page * PAGE)
    const from = mapping.byteOffset + page * PAGE
    checkBytes(
      array,
      start + page * PAGE,
      source.subarray(from, from + rest),
      'a page that was not written'
    )
  }
  if (exports !== undefined && faultGuard.traps && random(3) === 0) {
    GuardedMemory.from(guarded.memory)
    check(
      traps(() => exports.store(start + random(mapping.byteLength), 1)),
      'a store did not trap'
    )
    checkEqual(mapping.lastFault?.outcome, 'trap', 'the last fault')
  }
}

const ROUNDS = {
  readonly() {
    const { guarded, exports } = someMemory()
    const byteOffset = pages(0, 128)
    const byteLength = 1 + random(bytes.length - byteOffset)
    const at = random(3) ? pages(0, 16) : undefined
    if (at === undefined && guarded.byteLength > 100 * WASM_PAGE) return
    const mapping = guarded.map(dataset, { at, byteOffset, byteLength, populate: random(4) === 0 })
    checkBytes(
      new Uint8Array(guarded.buffer),
      mapping.address,
      bytes.subarray(byteOffset, byteOffset + byteLength),
      'mapped bytes'
    )
    if (random(4)) checkStrayWrites(guarded, exports, mapping, bytes)
    if (random(3) === 0 && guarded.byteLength < 150 * WASM_PAGE) {
      if (random(2)) guarded.grow(random(3))
      else exports.grow(random(3))
      counts.grown++
      if (random(2))
        checkStrayWrites(
          GuardedMemory.from(guarded.memory),
          exports,
          mapping,
          bytesNow(guarded, mapping)
        )
    }
    mapping.unmap()
    check(isZero(new Uint8Array(guarded.buffer), mapping.address, byteLength), 'zeros after unmap')
  },

  // Mapped and never unmapped: it goes with the memory.
  forgotten() {
    const { guarded, exports } = someMemory()
    try {
      const mapping = guarded.map(dataset, { at: pages(272, 400), byteLength: 64 * PAGE })
      checkStrayWrites(guarded, exports, mapping, bytes)
    } catch (error) {
      if (error.code !== 'ERR_HOSTMAP_OVERLAP') throw error
      counts.refused++
    }
  },

  written() {
    const { guarded } = someMemory()
    const region = HostRegion.copyFrom(bytes.subarray(0, 4 * PAGE))
    for (const access of ['private', 'shared']) {
      const mapping = guarded.map(region, { at: 0, access })
      const array = new Uint8Array(guarded.buffer)
      checkBytes(array, 0, bytes.subarray(0, 4 * PAGE), 'bytes to be written')
      array[PAGE] = ~bytes[PAGE]
      checkEqual(
        new Uint8Array(region.view())[PAGE],
        (access === 'private' ? bytes[PAGE] : ~bytes[PAGE]) & 255,
        access
      )
      checkEqual(mapping.strayWrites, 0, 'stray writes where writing is allowed')
      mapping.unmap()
    }
    if (random(2)) region.close()
  },

  lost() {
    const { guarded, exports } = someMemory()
    const access = pick(['readonly', 'private'])
    const mapping = guarded.map(lost, { at: 0, access })
    const array = new Uint8Array(guarded.buffer)
    ftruncateSync(lostFd, half)
    const missing = new Set()
    for (let i = random(8); i >= 0; i--) {
      const at = pages(half / PAGE, half / PAGE)
      if (faultGuard.traps && !missing.has(at) && random(3) === 0) {
        const before = mapping.faults
        check(
          traps(() => exports.load(at)),
          'a load of a lost page did not trap'
        )
        checkEqual(mapping.faults, before + 1, 'faults that trapped')
        counts.faults++
      } else {
        const before = mapping.faults
        checkEqual(random(2) ? array[at] : Atomics.load(array, at), 0, 'a lost byte')
        checkEqual(mapping.faults - before, missing.has(at) ? 0 : 1, 'faults')
        if (!missing.has(at)) counts.faults++
        missing.add(at)
      }
    }
    checkBytes(array, 0, lostBytes.subarray(0, half), 'what the file has')
    writeSync(lostFd, lostBytes, half, half, half)
    for (let at = half; at < lostBytes.length; at += PAGE) {
      if (missing.has(at)) check(isZero(array, at, PAGE), 'zeros stay')
      else checkBytes(array, at, lostBytes.subarray(at, at + PAGE), 'what the file has again')
    }
    mapping.unmap()
  },

  viewed() {
    const byteOffset = random(bytes.length - 1)
    const byteLength = 1 + random(bytes.length - byteOffset)
    const view = new Uint8Array(dataset.view(byteOffset, byteLength))
    checkBytes(view, 0, bytes.subarray(byteOffset, byteOffset + byteLength), 'viewed bytes')
    const before = dataset.strayWrites
    const at = random(byteLength)
    view[at] = ~view[at]
    checkEqual(view[at], ~bytes[byteOffset + at] & 255, 'a byte of a view')
    checkEqual(dataset.strayWrites, before + 1, 'stray writes to views')
    counts.strayWrites++
    counts.views++
    if (random(4) === 0) views.push(view)
  },

  // Slid to and fro, over regions of both kinds, and to nothing.
  window() {
    const { guarded, exports } = someMemory()
    const access = pick(['readonly', 'private'])
    const rest = pick(['trap', 'zeros'])
    const at = random(3) ? pages(0, 16) : undefined
    if (at === undefined && guarded.byteLength > 100 * WASM_PAGE) return
    const byteLength = (2 + random(30)) * PAGE
    const window = guarded.window({ byteLength, at, access, rest })
    const array = new Uint8Array(guarded.buffer)
    for (let i = random(12); i >= 0; i--) {
      const [region, source] = random(2) ? [dataset, bytes] : [lost, lostBytes]
      const byteOffset = random(source.length)
      const shown = window.slide(region, byteOffset, { access: random(3) ? access : 'readonly' })
      const expected = source.subarray(byteOffset, byteOffset + shown.byteLength)
      checkBytes(array, shown.address, expected, 'bytes of a window')
      if (random(3) === 0) {
        const writes = window.strayWrites
        const last = shown.address + shown.byteLength - 1
        pick(JS_WRITES)(array, last, exports)
        counts.strayWrites += window.strayWrites - writes
      }
      const end = window.address + Math.ceil(((byteOffset % PAGE) + shown.byteLength) / PAGE) * PAGE
      if (rest === 'trap' && end < window.address + byteLength && random(3) === 0) {
        const before = window.faults
        const isTrap = faultGuard.traps && random(2) === 0
        if (isTrap)
          check(
            traps(() => exports.load(end)),
            'a load past the end did not trap'
          )
        else checkEqual(array[end], 0, 'a byte past the end')
        checkEqual(window.faults, before + 1, 'faults past the end')
        counts.faults++
      }
      if (random(6) === 0) window.slide(null)
    }
    counts.windows++
    if (random(10)) window.unmap()
    // It goes with the memory.
    else pool = pool.filter(({ guarded: other }) => other !== guarded)
  },

  // Read through in chunks, and left in the middle in every way that there is.
  streamed() {
    const { guarded } = someMemory()
    const own = random(2) === 0
    const region = own ? HostRegion.open(file) : dataset
    const source = own ? lostBytes : bytes
    const window = guarded.window({
      byteLength: (2 + random(64)) * PAGE,
      at: pages(0, 16),
      access: 'private'
    })
    const overlap = pick([0, 0, 8, 100])
    const access = pick(['readonly', 'private'])
    const from = random(source.length)
    const stream = window.source(region, {
      byteOffset: from,
      overlap,
      access,
      leaveBehind: random(2) === 0
    })
    const array = new Uint8Array(guarded.buffer)
    const chunks = random(2) ? Infinity : random(10)
    for (let i = 0; i < chunks && stream.next() > 0; i++) {
      checkBytes(
        array,
        stream.pointer,
        source.subarray(stream.start, stream.position),
        'bytes of a chunk'
      )
      if (random(20) === 0) stream.seek(from + random(source.length - from))
    }
    if (chunks === Infinity) checkEqual(stream.position, source.length, 'where a source ended')
    counts.windows++
    if (own && random(2)) region.close()
    window.unmap()
  },

  lostView() {
    const region = HostRegion.open(file)
    const view = new Uint8Array(region.view())
    ftruncateSync(lostFd, half)
    const at = pages(half / PAGE, half / PAGE)
    checkEqual(view[at], 0, 'a lost byte of a view')
    checkEqual(region.faults, 1, 'faults of views')
    counts.faults++
    counts.views++
    writeSync(lostFd, lostBytes, half, half, half)
    if (random(2)) region.close()
  },

  closed() {
    const region = HostRegion.copyFrom(bytes.subarray(0, 1 + random(100_000)))
    const view = new Uint8Array(region.view())
    if (random(2)) region.seal()
    if (random(2)) view[0] ^= 255
    counts.views++
    if (random(2)) region.close()
  },

  // Taken, restored here and there, and forgotten as often as closed.
  snapshot() {
    const { guarded } = someMemory()
    if (guarded.layout().ranges.some(({ kind }) => kind === 'mapped')) return
    const exclusive = true
    const array = Buffer.from(guarded.buffer)
    if (random(2)) bytes.copy(array, pages(0, 100), 0, 20 * PAGE)
    const keepResidentBytes = pick([0, 4 * PAGE, undefined])
    const snapshot = guarded.snapshot({ exclusive, keepResidentBytes, hugePages: random(8) === 0 })
    const before = Buffer.from(array)
    const other = random(3) ? guarded : someMemory().guarded
    for (let i = random(6); i >= 0; i--) {
      try {
        other.restore(snapshot, { exclusive })
      } catch (error) {
        // Mappings that were forgotten are in the way.
        if (error.code !== 'ERR_HOSTMAP_OVERLAP') throw error
        counts.refused++
        break
      }
      checkBytes(new Uint8Array(other.buffer), 0, before, 'a restored memory')
      const now = Buffer.from(other.buffer)
      for (let page = random(40); page < now.length / PAGE; page += 1 + random(40))
        now[page * PAGE + 7] ^= 85
    }
    if (random(4) === 0) {
      guarded.reset({ exclusive })
      check(isZero(array, 0, array.length), 'zeros after a reset')
    }
    counts.snapshots++
    if (random(2)) snapshot.close()
  },

  async loaded() {
    if (random(10)) return
    const region = await HostRegion.load(file)
    checkBytes(new Uint8Array(region.view()), 0, lostBytes, 'loaded bytes')
    if (random(2)) region.close()
  },

  // In the memory of all threads: in the own slot, or in the one that all want.
  common() {
    const wanted = random(3) === 0
    const at = wanted ? 0 : number * slotBytes
    let mapping
    try {
      mapping = common.map(dataset, { at, access: pick(['readonly', 'readonly', 'private']) })
    } catch (error) {
      if (error.code !== 'ERR_HOSTMAP_OVERLAP' || !wanted) throw error
      counts.refused++
      return
    }
    const array = new Uint8Array(memory.buffer)
    checkBytes(array, at, bytes, 'bytes in the memory of all')
    // Any call of another thread protects it again, so a page may count twice.
    for (let i = random(5); i >= 0; i--) pick(JS_WRITES)(array, at + pages(0, 256) + 8)
    const { strayWrites } = mapping
    checkEqual(strayWrites > 0, mapping.access === 'readonly', 'whether stray writes were counted')
    counts.strayWrites += strayWrites
    mapping.unmap()
  },

  collected() {
    if (random(4)) return
    pool = pool.filter(() => random(2))
    views = views.filter(() => random(2))
    globalThis.gc()
  }
}

/** What a mapping shows now, at the offsets of its region. */
function bytesNow(guarded, { address, byteOffset, byteLength }) {
  return Buffer.concat([
    Buffer.alloc(byteOffset),
    Buffer.from(new Uint8Array(guarded.buffer, address, byteLength))
  ])
}

const turn = () => new Promise(resolve => setImmediate(resolve))
const kinds = Object.values(ROUNDS)
let resting = false

async function work() {
  while (!resting) {
    for (let i = 0; i < 10; i++) {
      await pick(kinds)()
      counts.rounds++
    }
    await turn()
  }
  pool = []
  views = []
  for (let i = 0; i < 4; i++) {
    globalThis.gc()
    await turn()
  }
  parentPort.postMessage({ counts, heap: getHeapStatistics().used_heap_size })
  counts = zeroCounts()
}

parentPort.on('message', message => {
  resting = message === 'rest'
  if (!resting) work()
})
work()
