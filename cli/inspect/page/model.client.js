// Runs in the page that page.js makes, in one scope with the files beside it. What there is: things
// with a range of addresses, in order, and words for them. Nothing here touches the page.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB']

function formatBytes(bytes) {
  let unit = 0
  while (bytes >= 1024 && unit < UNITS.length - 1) {
    bytes /= 1024
    unit++
  }
  return `${Number.isInteger(bytes) ? bytes : Number(bytes.toPrecision(3))} ${UNITS[unit]}`
}

const hex = number => `0x${number.toString(16)}`

const SPACE_BITS = 47

const KIND_WORDS = {
  memory: "a memory's own pages",
  reserved: 'reserved, not accessible',
  region: 'a region',
  snapshot: 'a snapshot',
  anonymous: 'heaps, buffers, threads',
  file: 'the program and its libraries',
  stack: 'the stack'
}

/** Which thing of a sorted list that does not overlap is the first to end after an address. */
function firstAfter(list, address) {
  let low = 0
  let high = list.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (list[middle].end <= address) low = middle + 1
    else high = middle
  }
  return low
}

class Model {
  constructor(data) {
    this.data = data
    this.pageBytes = data.pageBytes
    this.entries = (data.processMap ?? []).map((entry, i) => this.#entry(entry, data.kinds[i]))
    this.memories = data.memories.map(it => this.#memory(it))
    const top = [...this.entries, ...this.memories].reduce((most, it) => Math.max(most, it.end), 0)
    this.whole = { start: 0, end: Math.max(2 ** SPACE_BITS, 2 ** Math.ceil(Math.log2(top + 1))) }
    // What is drawn above the entries: memories with all that they reserve.
    this.reservations = this.memories.map(it => ({ ...it.reserved, thing: it }))
    this.mappings = this.memories.flatMap(it => it.children)
    this.others = [
      ...data.regions.map(it => this.#region(it)),
      ...data.snapshots.map(it => this.#snapshot(it)),
      ...data.pools.map(it => this.#pool(it))
    ]
  }

  #entry(entry, kind) {
    const isReserved = entry.access.startsWith('---') && entry.inode === '0'
    const { start, end, path } = entry
    const shown = kind === 'memory' && isReserved ? 'reserved' : kind
    return {
      type: 'entry',
      start,
      end,
      kind: isReserved && kind === 'anonymous' ? 'reserved' : shown,
      entry,
      name: path === '' ? KIND_WORDS[shown] : path,
      children: []
    }
  }

  #memory(memory) {
    const { id, base, byteLength, reservation } = memory
    const thing = {
      type: 'memory',
      start: base,
      end: base + byteLength,
      reserved: reservation ?? { start: base, end: base + byteLength },
      memory,
      name: `memory ${id}`,
      children: []
    }
    thing.children = memory.mappings.map(mapping => ({
      type: 'mapping',
      start: base + mapping.address,
      end: base + mapping.address + mapping.byteLength,
      mapping,
      parent: thing,
      region: this.data.regions[mapping.regionId],
      name:
        this.data.regions[mapping.regionId]?.name ??
        (mapping.kind === 'adopted' ? 'an adopted buffer' : 'a window that shows nothing'),
      children: []
    }))
    return thing
  }

  #region(region) {
    const places = this.#placesOf(region)
    return { type: 'region', region, name: region.name, places, children: [], ...places[0] }
  }

  #snapshot(snapshot) {
    const places = this.#placesOf(snapshot)
    return { type: 'snapshot', snapshot, name: snapshot.name, places, children: [], ...places[0] }
  }

  #pool(pool) {
    return { type: 'pool', pool, name: `pool ${pool.id} of a ${pool.of}`, children: [], places: [] }
  }

  /** Where a file is mapped. */
  #placesOf({ device, inode }) {
    const isOf = ({ entry }) => entry.inode === inode && entry.device === device
    return this.entries.filter(isOf).map(({ start, end }) => ({ start, end }))
  }

  /**
   * What a range is in, from the whole space inwards. A thing that is in view with a little of what
   * is beside it counts.
   */
  chainOf(view) {
    const margin = (view.end - view.start) * 0.03
    const [start, end] = [view.start + margin, view.end - margin]
    const chain = []
    const holds = it => it !== undefined && it.start <= start && end <= it.end
    const reservation = this.reservations[firstAfter(this.reservations, start)]
    if (holds(reservation))
      chain.push({ ...reservation, name: `reservation of ${reservation.thing.name}` })
    const memory = reservation?.thing
    if (holds(memory)) chain.push(memory)
    const mapping = memory?.children[firstAfter(memory.children, start)]
    if (holds(mapping)) chain.push(mapping)
    const entry = this.entries[firstAfter(this.entries, start)]
    // What is one with a memory or mapping would be there twice.
    const isNew =
      holds(entry) && !chain.some(it => it.start === entry.start && it.end === entry.end)
    const last = chain.at(-1)
    const isInner = last === undefined || (last.start <= entry?.start && entry?.end <= last.end)
    if (isNew && isInner) chain.push(entry)
    if (view.end - view.start <= this.pageBytes)
      chain.push({ ...view, name: `page ${hex(view.start)}` })
    return chain
  }

  /** The innermost thing at an address. */
  thingAt(address) {
    const reservation = this.reservations[firstAfter(this.reservations, address)]
    const isIn = it => it !== undefined && it.start <= address && address < it.end
    if (isIn(reservation)) {
      const { children } = reservation.thing
      const mapping = children[firstAfter(children, address)]
      if (isIn(mapping)) return mapping
      if (isIn(reservation.thing)) return reservation.thing
    }
    const entry = this.entries[firstAfter(this.entries, address)]
    return isIn(entry) ? entry : undefined
  }

  /** All that is listed, in the order in which it is. */
  get listed() {
    const withMappings = it => [it, ...it.children]
    return [...this.memories.flatMap(withMappings), ...this.others, ...this.entries]
  }
}

/** How many bytes of `[start, end)` of an entry are in memory: `{ own, shared, swapped }`. */
function residentIn(entry, start, end, pageBytes) {
  const sum = { own: 0, shared: 0, swapped: 0 }
  const { pages, residentBytes, ownBytes, swappedBytes } = entry
  if (residentBytes === null) return null
  const bytes = entry.end - entry.start
  const isWhole = start <= entry.start && end >= entry.end
  if (isWhole || pages === undefined || pages === null) {
    // Where single pages are not known: as if they were spread evenly.
    const share = isWhole ? 1 : (end - start) / bytes
    sum.own = ownBytes * share
    sum.shared = Math.max(0, residentBytes - ownBytes) * share
    sum.swapped = swappedBytes * share
    return sum
  }
  const first = (start - entry.start) / pageBytes
  const last = (end - entry.start) / pageBytes
  let low = 0
  let high = pages.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (pages[middle].from + pages[middle].count <= first) low = middle + 1
    else high = middle
  }
  for (; low < pages.length && pages[low].from < last; low++) {
    const { from, count, kind } = pages[low]
    sum[kind] += (Math.min(from + count, last) - Math.max(from, first)) * pageBytes
  }
  return sum
}

const said = value => value !== null && value !== undefined

/** What is known of a thing: `[term, words]` each. */
function factsOf(thing, pageBytes) {
  const facts = []
  const add = (term, words) => {
    if (said(words)) facts.push([term, String(words)])
  }
  const yes = (term, value) => {
    if (said(value)) add(term, value ? 'yes' : 'no')
  }
  const resident = found => {
    if (!said(found)) return
    add('In memory', formatBytes(found.residentBytes))
    add('Its share (PSS)', formatBytes(found.proportionalBytes))
    add('Own pages', formatBytes(found.ownBytes))
    if (found.swappedBytes > 0) add('Swapped out', formatBytes(found.swappedBytes))
  }
  const faults = it => {
    add('Faults', it.faults)
    add('Stray writes', it.strayWrites)
    add('Not acknowledged', it.unacknowledgedFaults)
    if (said(it.lastFault)) {
      const { operation, byteOffset, cause, outcome } = it.lastFault
      add('Last fault', `${operation} at byte ${byteOffset}: ${cause}, ${outcome}`)
    }
  }
  if (thing.type !== 'pool' && said(thing.start)) {
    add('Addresses', `${hex(thing.start)} to ${hex(thing.end)}`)
    add(
      'Size',
      `${formatBytes(thing.end - thing.start)}, ${Math.ceil((thing.end - thing.start) / pageBytes)} host pages`
    )
  }
  FACTS[thing.type]?.(thing, { add, yes, resident, faults })
  return facts
}

const FACTS = {
  memory({ memory, reserved }, { add, yes, resident }) {
    add('Address type', memory.address ?? 'not known from outside')
    add(
      'May grow to',
      said(memory.maximumByteLength) ? formatBytes(memory.maximumByteLength) : null
    )
    add(
      'Reservation',
      `${hex(reserved.start)} to ${hex(reserved.end)}, ${formatBytes(reserved.end - reserved.start)}`
    )
    yes('Guarded', memory.guarded)
    yes('Shared', memory.shared)
    add('Known by', KNOWN_BY[memory.knownBy])
    add('Mappings and windows', memory.mappings.length)
    resident(memory.resident)
  },
  mapping({ mapping, region }, { add, yes, resident, faults }) {
    add('Kind', mapping.kind ?? 'mapping or window: not known from outside')
    add('Address in the memory', hex(mapping.address))
    add('Access', mapping.access)
    add('Region', region?.name)
    add('From byte', said(mapping.byteOffset) ? hex(mapping.byteOffset) : null)
    if (mapping.kind === 'window') {
      add('Shows', formatBytes(mapping.shownBytes))
      add('Past that', mapping.rest)
    }
    yes('Strict', mapping.strict)
    faults(mapping)
    resident(mapping.resident)
  },
  region({ region, places }, { add, yes, resident, faults }) {
    add('Bytes', said(region.byteLength) ? formatBytes(region.byteLength) : null)
    add('Kind', region.backing)
    add('Path', region.path)
    add('State', region.state === 'elsewhere' ? 'of another thread' : region.state)
    yes('Writable', region.writable)
    yes('Sealed', region.sealed)
    add('Holds', said(region.heldBytes) ? formatBytes(region.heldBytes) : null)
    if (said(region.holders)) {
      add('Views and Buffers', `${region.holders.views} and ${region.holders.buffers}`)
    }
    add('Mapped at', places.length === 0 ? 'no address' : `${places.length} places`)
    faults(region)
    resident(region.resident)
  },
  snapshot({ snapshot, places }, { add, resident }) {
    add('Of a memory of', formatBytes(snapshot.byteLength))
    add('Holds', formatBytes(snapshot.heldBytes))
    add('Kind', snapshot.backing)
    add('Mappings kept', snapshot.keptMappings)
    add(
      'Shown by',
      snapshot.memories.length === 0 ? 'no memory' : `memory ${snapshot.memories.join(', ')}`
    )
    add('Mapped at', places.length === 0 ? 'no address' : `${places.length} places`)
    resident(snapshot.resident)
  },
  pool({ pool }, { add }) {
    add('Instances', `${pool.size} of at most ${pool.max ?? 'any number'}`)
    add('Busy, idle, waiting', `${pool.busy}, ${pool.idle}, ${pool.waiting}`)
    add('Created, discarded', `${pool.created}, ${pool.discarded}`)
    add('Restores', `${pool.restored}, ${pool.restoreMicroseconds.mean.toFixed(1)} us each`)
    add('Snapshot', pool.snapshotId)
    add('Last failure', pool.lastFailure)
  },
  entry({ entry, kind }, { add, resident }) {
    add('What it is', KIND_WORDS[kind])
    add('Path', entry.path === '' ? null : entry.path)
    add('Access', entry.access)
    if (entry.inode !== '0') add('From byte', hex(entry.fileOffset))
    if (said(entry.residentBytes)) resident(entry)
  }
}

const KNOWN_BY = {
  object: 'an object of a thread that said so',
  table: "the process's mapping table; its object is another thread's",
  mappings: "the process's mapping table; no object stands for it",
  shape: 'its shape in the map, seen from outside'
}
