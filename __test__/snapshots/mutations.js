'use strict'

// Snapshot files that were altered: loaded, restored and written to. What they may do is nothing
// but to fail with an error that has a code, or to be a snapshot with at most the access that was
// granted, in time and memory like those of an intact one.

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { GuardedMemory, HostRegion, Snapshot, limits } = require('../..')
const format = require('../support/snapshot-format')
const { WASM_PAGE, assemble } = require('../support/wasm')
const { Random } = require('./random')

const PAGE = limits().pageSize
const ACCESS = ['readonly', 'private', 'shared']

// Of what an intact one takes; below so much, measurement is noise.
const MOST_TIMES = 100
const LEAST_MS = 20
const MOST_RSS_BYTES = 512 * 2 ** 20

const WAT = `(module
  (memory (export "memory") 2)
  (table (export "functions") 300 funcref)
  (table (export "things") 5 externref)
  (elem (i32.const 0) $one $two)
  (elem (i32.const 250) $two)
  (global (export "i32") (mut i32) (i32.const 1))
  (global (export "i64") (mut i64) (i64.const 1))
  (global (export "f64") (mut f64) (f64.const 1))
  (global (export "thing") (mut externref) (ref.null extern))
  (func $one (export "one") (result i32) (i32.const 1))
  (func $two (export "two") (result i32) (i32.const 2)))`

/** Snapshots of several shapes, each with what can be restored. */
async function shapes(dataset) {
  const plain = new GuardedMemory({ initial: 4 })
  for (const at of [0, 5 * PAGE, 3 * WASM_PAGE]) new Uint8Array(plain.buffer)[at] = 1

  const mapped = new GuardedMemory({ initial: 8 })
  mapped.map(dataset, { at: 0, access: 'readonly' })
  mapped.map(dataset, { at: WASM_PAGE, access: 'private' })
  mapped.map(dataset, { at: 2 * WASM_PAGE, access: 'shared' })
  mapped.map(dataset)
  for (const page of [0, 2, 3]) new Uint8Array(mapped.buffer)[WASM_PAGE + page * PAGE] ^= 255

  const windows = new GuardedMemory({ initial: 8 })
  windows.window({ at: 0, byteLength: 4 * PAGE, access: 'private' }).slide(dataset, PAGE + 10)
  windows.window({ at: WASM_PAGE, byteLength: 2 * PAGE, access: 'shared', rest: 'zeros' })
  windows.window({ at: 2 * WASM_PAGE, byteLength: 2 * PAGE })
  new Uint8Array(windows.buffer)[PAGE] ^= 255

  const sparse = new GuardedMemory({ initial: 1024 })
  for (let at = 0; at < sparse.byteLength; at += 3 * 2 ** 20) new Uint8Array(sparse.buffer)[at] = 1

  const module = await assemble(WAT)
  const { instance } = await WebAssembly.instantiate(module)
  const { exports } = instance
  exports.functions.set(7, exports.one)
  for (const [at, value] of [NaN, 'text', 2n ** 70n, true, undefined].entries())
    exports.things.set(at, value)
  exports.thing.value = -0
  return {
    plain: plain.snapshot(),
    mapped: mapped.snapshot(),
    windows: windows.snapshot(),
    sparse: sparse.snapshot(),
    state: Snapshot.of(instance, { module, accept: ['v128-globals'] })
  }
}

function contentsOf(snapshot) {
  const fd = snapshot.duplicateFd()
  try {
    return format.bytesOf(fd)
  } finally {
    fs.closeSync(fd)
  }
}

const NUMBERS = [
  0,
  1,
  2,
  3,
  15,
  16,
  127,
  128,
  255,
  4095,
  4096,
  65535,
  65536,
  2 ** 20,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53 - 1,
  -1,
  1.5
]
const VALUES = [
  null,
  true,
  false,
  '',
  'shared',
  'private',
  'readonly',
  'own',
  'null',
  'x'.repeat(100),
  [],
  {},
  [0],
  { number: 1 }
]

/** Changes one value of a description, somewhere. */
function changeOne(random, root) {
  const places = []
  const walk = owner => {
    for (const key of Object.keys(owner)) {
      places.push([owner, key])
      if (typeof owner[key] === 'object' && owner[key] !== null) walk(owner[key])
    }
  }
  walk(root)
  if (places.length === 0) return
  const [owner, key] = random.pick(places)
  switch (random.below(6)) {
    case 0:
      owner[key] = random.pick(VALUES)
      break
    case 1:
      if (Array.isArray(owner))
        owner.splice(Number(key), random.below(3), structuredClone(owner[key]))
      else delete owner[key]
      break
    case 2:
      if (!Array.isArray(owner)) owner[`${key}x`] = owner[key]
      break
    case 3: {
      // What is a value elsewhere.
      const [other, otherKey] = random.pick(places)
      owner[key] = structuredClone(other[otherKey])
      break
    }
    default:
      owner[key] =
        typeof owner[key] === 'number' && random.oneIn(2)
          ? owner[key] + random.pick([-1, 1, 4096])
          : random.pick(NUMBERS)
  }
}

/** Bytes, altered at random. */
function scramble(random, bytes, from = 0) {
  for (let left = random.sizeUpTo(8); left > 0 && bytes.length > from; left--) {
    bytes[from + random.below(bytes.length - from)] = random.oneIn(3)
      ? random.pick([0, 1, 0x7f, 0x80, 0xff])
      : random.word()
  }
  return bytes
}

const KINDS = {
  'fields of the metadata': (random, { bytes, description }) => {
    const changed = structuredClone(description)
    for (let left = random.oneIn(3) ? random.sizeUpTo(4) : 1; left > 0; left--)
      changeOne(random, changed.metadata)
    return format.forge(bytes, changed.metadata, changed.state)
  },
  'what mappings may do': (random, { bytes, description }) => {
    const { metadata, state } = structuredClone(description)
    if (random.oneIn(2)) metadata.written = { gaps: [], lengths: [] }
    for (const mapping of metadata.mappings) {
      if (random.oneIn(2)) mapping.access = random.pick(ACCESS)
      if (mapping.window !== null && random.oneIn(2)) mapping.window.access = random.pick(ACCESS)
      if (mapping.window === null && random.oneIn(4))
        mapping.window = { access: random.pick(ACCESS), tail_traps: random.oneIn(2) }
      else if (random.oneIn(4)) mapping.window = null
      if (random.oneIn(8)) mapping.address += random.pick([-1, 1]) * PAGE
      if (random.oneIn(8)) mapping.from_free = !mapping.from_free
    }
    return format.forge(bytes, metadata, state)
  },
  'a larger memory': (random, { bytes, description }) => {
    const { dataOffset, byteLength, tailAt } = format.partsOf(bytes)
    const more = WASM_PAGE * random.sizeUpTo(256)
    const larger = Buffer.concat([
      bytes.subarray(0, tailAt),
      Buffer.alloc(more),
      bytes.subarray(tailAt)
    ])
    larger.writeBigUInt64LE(BigInt(byteLength + more), 64 + 16)
    larger.writeBigUInt64LE(BigInt(dataOffset + byteLength + more), 64 + 24 + 8)
    const metadata = structuredClone(description.metadata)
    metadata.pieces.gaps.push(random.below(64))
    metadata.pieces.lengths.push(random.sizeUpTo(more / 4096))
    return format.forge(larger, metadata, description.state)
  },
  'fields of globals and tables': (random, { bytes, description }) => {
    const changed = structuredClone(description)
    changed.state ??= { values: ['null'], globals: [{ name: 'g', value: 0 }], tables: [] }
    for (let left = random.oneIn(3) ? random.sizeUpTo(4) : 1; left > 0; left--)
      changeOne(random, changed.state)
    return format.forge(bytes, changed.metadata, changed.state)
  },
  'bytes of the metadata': (random, { bytes, description }) =>
    format.forge(bytes, scramble(random, format.encode(description.metadata)), description.state),
  'bytes of the header': (random, { bytes }) => {
    const changed = Buffer.from(bytes)
    scramble(random, changed.subarray(0, random.pick([16, 64, 256])))
    return changed
  },
  'numbers of the header': (random, { bytes }) => {
    const changed = Buffer.from(bytes)
    const at = 64 + 24 * random.below(4) + 8 * random.below(3)
    const value = random.oneIn(2)
      ? changed.readBigUInt64LE(at) + BigInt(random.pick([-65536, -1, 1, 65536]))
      : random.long()
    changed.writeBigUInt64LE(BigInt.asUintN(64, value), at)
    return changed
  },
  'bytes anywhere': (random, { bytes }) => scramble(random, Buffer.from(bytes), 65536),
  'its end': (random, { bytes }) =>
    random.oneIn(2)
      ? Buffer.from(bytes.subarray(0, random.below(bytes.length) + 1))
      : Buffer.concat([bytes, Buffer.alloc(random.sizeUpTo(70000))])
}

/** What is altered in one step, and the outcome. */
async function check({ seed, from, count, onStep = () => {} }) {
  const dataset = HostRegion.copyFrom(Buffer.alloc(4 * PAGE, 7), { name: 'dataset' })
  const view = Buffer.from(dataset.view())
  const intact = Buffer.from(view)
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'wasm-hostmap-mutations-'))
  const file = path.join(directory, 'altered.snapshot')
  const outcomes = {}
  const note = (kind, outcome) => {
    outcomes[kind] ??= {}
    outcomes[kind][outcome] = (outcomes[kind][outcome] ?? 0) + 1
  }
  try {
    const originals = []
    for (const [name, snapshot] of Object.entries(await shapes(dataset))) {
      const bytes = contentsOf(snapshot)
      const { tailAt, metadataBytes, stateBytes } = format.partsOf(bytes)
      const tail = bytes.subarray(tailAt)
      const description = {
        metadata: format.decode(tail.subarray(0, metadataBytes)),
        state: stateBytes === 0 ? undefined : format.decode(tail.subarray(metadataBytes))
      }
      await snapshot.save(file)
      const saved = fs.readFileSync(file)
      const original = { name, bytes, description, saved, ms: 0 }
      for (let round = 0; round < 3; round++) {
        original.ms = Math.max(
          original.ms,
          await timed(() => use(dataset, view, original.bytes, 'shared'))
        )
        view.set(intact)
      }
      originals.push(original)
    }
    // A child that has warmed up.
    const before = process.memoryUsage.rss()
    for (let index = from; index < from + count; index++) {
      const random = new Random(seed + Math.imul(index, 2654435761))
      const original = random.pick(originals)
      const kind = random.pick(Object.keys(KINDS))
      const where = `mutation ${index} of seed ${seed} (${original.name}, ${kind})`
      const granted = random.pick([undefined, ...ACCESS])
      onStep(index)
      let outcome
      let ms
      if (random.oneIn(4)) {
        // As a file, whose checksum tells. Opened, only what it says of itself is checked.
        fs.writeFileSync(file, KINDS[kind](random, { ...original, bytes: original.saved }))
        const regions = regionsOf(dataset, granted)
        const way = random.pick([
          () => Snapshot.load(file, { regions }),
          () => Snapshot.open(file, { regions, verify: true }),
          async () => useSnapshot(await Snapshot.open(file, { regions }), granted)
        ])
        ms = await timed(async () => (outcome = await outcomeOf(way)))
      } else {
        const bytes = KINDS[kind](random, original)
        ms = await timed(
          async () => (outcome = await outcomeOf(() => use(dataset, view, bytes, granted)))
        )
      }
      if (outcome instanceof Error)
        throw new Error(`${where}: ${outcome.stack}`, { cause: outcome })
      if (granted !== 'shared' && !view.equals(intact))
        throw new Error(`${where}: the dataset was written`)
      view.set(intact)
      const most = MOST_TIMES * Math.max(original.ms, LEAST_MS)
      if (ms > most) throw new Error(`${where}: took ${ms} ms; an intact one takes ${original.ms}`)
      const grown = process.memoryUsage.rss() - before
      if (grown > MOST_RSS_BYTES)
        throw new Error(`${where}: the process has grown by ${grown} bytes`)
      note(kind, outcome)
    }
  } finally {
    fs.rmSync(directory, { recursive: true })
  }
  return outcomes
}

/** Processor time, which other processes don't stretch. */
async function timed(call) {
  const before = process.cpuUsage()
  await call()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000
}

async function outcomeOf(call) {
  try {
    const made = await call()
    made?.close()
    return 'taken'
  } catch (error) {
    return typeof error?.code === 'string' && error.code.startsWith('ERR_') ? error.code : error
  }
}

const regionsOf = (dataset, access) => mapping => {
  const region = mapping.regionName === null ? undefined : dataset
  return access === undefined && region !== undefined
    ? region
    : { region, access: access ?? 'private' }
}

/** All that can be done with a snapshot of these bytes. */
async function use(dataset, view, bytes, granted) {
  const sealed = HostRegion.copyFrom(bytes).seal()
  const fd = sealed.duplicateFd()
  let snapshot
  try {
    snapshot = Snapshot.fromFd(fd, { regions: regionsOf(dataset, granted) })
  } finally {
    fs.closeSync(fd)
    sealed.close()
  }
  useSnapshot(snapshot, granted)
}

/** Restores it, writes to the memory, and closes it. */
function useSnapshot(snapshot, granted) {
  const most = ACCESS.indexOf(granted ?? 'private')
  const check = (where, { access, region, regionName }) => {
    // An empty window, for which nobody is asked, has pages of its own alone.
    const least = (region ?? regionName ?? null) === null ? ACCESS.indexOf('private') : 0
    if (ACCESS.indexOf(access) > Math.max(most, least))
      throw new Error(`${where} has access '${access}', and '${granted}' was granted`)
  }
  try {
    snapshot.mappings.forEach(it => check('a mapping of the snapshot', it))
    const memory = new GuardedMemory({ initial: 1, maximum: 2048 })
    memory.restore(snapshot)
    memory.mappings.forEach(it => check('a mapping', it))
    const contents = new Uint8Array(memory.buffer)
    // A store to each page, as a module could do it.
    for (const { address } of memory.mappings) contents[address] ^= 255
    for (let at = 0; at < contents.length; at += 64 * PAGE) contents[at] ^= 255
    memory.restore(snapshot)
    for (const mapping of memory.mappings) mapping.unmap()
  } finally {
    snapshot.close()
  }
}

module.exports = { check }
