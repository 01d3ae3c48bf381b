'use strict'

// Reads an inspection that another process or a file has given. It may say anything: what is not as
// inspect() gives it is refused, so that drawing need not look twice. Names stay as they are, and
// may hold anything: what draws them has to replace it.

const MOST_ITEMS = 200_000
const MOST_TEXT = 100_000

class WrongInspection extends Error {}

const text = value => typeof value === 'string' && value.length <= MOST_TEXT
const count = value => Number.isSafeInteger(value) && value >= 0
const address = value => Number.isSafeInteger(value)
const amount = value => typeof value === 'number' && value >= 0 && value < Infinity
const flag = value => typeof value === 'boolean'
const time = value => text(value) && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(value)
const oneOf =
  (...values) =>
  value =>
    values.includes(value)
const orNull = type => Object.assign((value, where) => value === null || type(value, where), {})

/** An object with these fields; others are dropped. */
const object = fields => (value, where) => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  for (const [name, type] of Object.entries(fields)) {
    if (type(value[name], `${where}.${name}`) !== true)
      throw new WrongInspection(`${where}.${name} is not what it should be`)
  }
  for (const name of Object.keys(value)) if (!Object.hasOwn(fields, name)) delete value[name]
  return true
}

const list = type => (value, where) => {
  if (!Array.isArray(value) || value.length > MOST_ITEMS) return false
  value.forEach((item, i) => {
    if (type(item, `${where}[${i}]`) !== true)
      throw new WrongInspection(`${where}[${i}] is not what it should be`)
  })
  return true
}

const resident = object({
  residentBytes: count,
  proportionalBytes: count,
  ownBytes: count,
  swappedBytes: count
})

const lastFault = object({
  address: orNull(count),
  byteOffset: count,
  operation: oneOf('read', 'write'),
  cause: text,
  outcome: text
})

const faults = {
  strayWrites: orNull(count),
  faults: orNull(count),
  unacknowledgedFaults: orNull(count),
  lastFault: orNull(lastFault)
}

const mapping = object({
  kind: oneOf('mapping', 'window', 'adopted', null),
  address: count,
  byteLength: count,
  access: oneOf('readonly', 'private', 'shared'),
  regionId: orNull(count),
  byteOffset: orNull(count),
  shownBytes: count,
  rest: oneOf('trap', 'zeros', null),
  strict: orNull(flag),
  ofThisThread: orNull(flag),
  ...faults,
  resident: orNull(resident)
})

const memory = object({
  id: count,
  base: count,
  byteLength: count,
  maximumByteLength: orNull(count),
  address: oneOf('i32', 'i64', null),
  shared: orNull(flag),
  guarded: orNull(flag),
  reservation: orNull(object({ start: address, end: address })),
  knownBy: oneOf('object', 'table', 'mappings', 'shape'),
  hidden: orNull(flag),
  mappings: list(mapping),
  resident: orNull(resident)
})

const backing = oneOf('memfd', 'file', null)

const region = object({
  id: count,
  name: text,
  state: oneOf('open', 'closed', 'elsewhere', 'unknown'),
  backing,
  path: orNull(text),
  device: orNull(text),
  inode: text,
  fileOffset: orNull(count),
  byteLength: orNull(count),
  heldBytes: orNull(count),
  writable: orNull(flag),
  sealed: orNull(flag),
  holders: orNull(object({ views: count, buffers: count, byteLength: count })),
  ...faults,
  resident: orNull(resident)
})

const snapshot = object({
  id: count,
  name: text,
  backing,
  device: text,
  inode: text,
  byteLength: count,
  heldBytes: count,
  keptMappings: count,
  memories: list(count),
  resident: orNull(resident)
})

const pool = object({
  id: count,
  of: oneOf('module', 'factory'),
  closed: flag,
  snapshotId: orNull(count),
  size: count,
  idle: count,
  busy: count,
  waiting: count,
  max: value => value === null || count(value),
  created: count,
  discarded: count,
  acquired: count,
  restored: count,
  restoreMicroseconds: object({ last: amount, mean: amount, max: amount }),
  lastFailure: orNull(text)
})

const run = object({ from: count, count, kind: oneOf('own', 'shared', 'swapped') })

const entry = object({
  start: count,
  end: count,
  access: value => text(value) && /^[r-][w-][x-][ps]$/.test(value),
  fileOffset: count,
  device: text,
  inode: text,
  path: text,
  residentBytes: orNull(count),
  proportionalBytes: orNull(count),
  ownBytes: orNull(count),
  swappedBytes: orNull(count),
  pages: value => value === undefined || orNull(list(run))(value, 'pages')
})

const inspection = object({
  format: oneOf('wasm-hostmap.inspection'),
  version: oneOf(1),
  takenAt: time,
  pid: count,
  threads: list(count),
  hostmap: text,
  runtime: text,
  pageBytes: value => count(value) && value >= 1024 && Number.isInteger(Math.log2(value)),
  memories: list(memory),
  regions: list(region),
  snapshots: list(snapshot),
  pools: list(pool),
  resident: orNull(resident),
  processMap: orNull(list(entry))
})

/** The same value, checked. Throws a WrongInspection with what is wrong in a sentence. */
function checked(value) {
  if (value?.format !== 'wasm-hostmap.inspection') {
    throw new WrongInspection('it is not what inspect() or `wasm-hostmap inspect --json` gives')
  }
  if (value.version !== 1) {
    throw new WrongInspection(
      `it has version ${JSON.stringify(value.version)} of the format, and this reads version 1; use the wasm-hostmap that made it`
    )
  }
  inspection(value, 'inspection')
  const { memories, regions, snapshots, processMap } = value
  const isIn = (id, all) => id === null || id < all.length
  const inOrder = all => all.every((it, i) => it.id === i)
  const follow = all =>
    all.every((it, i) => it.start < it.end && (i === 0 || it.start >= all[i - 1].end))
  const right =
    [memories, regions, snapshots, value.pools].every(inOrder) &&
    memories.every(it => it.mappings.every(one => isIn(one.regionId, regions))) &&
    snapshots.every(it => it.memories.every(id => isIn(id, memories))) &&
    value.pools.every(it => isIn(it.snapshotId, snapshots)) &&
    (processMap === null || follow(processMap))
  if (!right) throw new WrongInspection('its parts do not belong together')
  return value
}

module.exports = { WrongInspection, checked }
