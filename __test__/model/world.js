'use strict'

// The model and the real things beside each other, and the comparison of the two.

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')
const hostmap = require('../..')
const { native } = require('../support/native')
const { hasMemory64 } = require('../support/wasm')
const { Thread } = require('./thread')
const { WASM_PAGE, ZEROS, REST, Backing, eachRunOf } = require('./model')
const { fdOf } = require('../support/procfs.js')

const { GuardedMemory, HostRegion, limits } = hostmap
const { pageSize: PAGE, wasm: WASM_LIMITS } = limits()

/** How often the process's own map is compared too, which takes longer than all the rest. */
const STEPS_PER_MAP = 16

/** Warnings of a kind that a thread gives. */
const MOST_WARNINGS = 100

/** After so long a warning that is not there will not come. */
const WARNINGS_LATE_MS = 10_000

class Difference extends Error {
  name = 'Difference'
}

/** A file's own descriptor is the test's: it writes and truncates by it. */
class File {
  constructor(file, bytes) {
    this.path = file
    fs.writeFileSync(file, bytes)
    this.fd = fs.openSync(file, 'r+')
    this.readonlyFd = fs.openSync(file, 'r')
    this.linked = true
    this.backing = new Backing(PAGE, 0, { memfd: false, inode: fs.fstatSync(this.fd).ino })
    this.backing.write(0, bytes)
  }

  unlink() {
    if (this.linked) fs.unlinkSync(this.path)
    this.linked = false
  }

  close() {
    this.unlink()
    fs.closeSync(this.fd)
    fs.closeSync(this.readonlyFd)
  }
}

// What outlives a run: a worker takes longer to start than a hundred steps.
const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'wasm-hostmap-model-'))
process.on('exit', () => fs.rmSync(directory, { recursive: true, force: true }))
let thread = null
let files = 0
let memories = 0
let mappings = 0
let sourceFile
let sinkFile

/** Bytes outside the reservation's middle, as the first layout of each kind shows them. */
const reservations = new Map()

class World {
  regions = []
  views = []
  files = []
  memories = []
  publications = []
  paged = []
  steps = 0
  /** All windows that this thread ever made, for what it is to be warned of. */
  windows = []
  /** Those that the worker made: this thread is warned of them when it has ended. */
  windowsOnThread = []

  /**
   * @param layoutEvery steps between two looks at all layouts, which protect read-only mappings
   *   again; 0: never
   */
  constructor({ layoutEvery, onDisk, injects = false, counts = {}, closely = false }) {
    this.stepsPerMap = closely ? 1 : STEPS_PER_MAP
    this.layoutEvery = layoutEvery
    this.injects = injects
    this.counts = counts
    // Both are file systems that people map files of, and their kernels' code differs.
    const memoryDirectory = '/dev/shm'
    this.directory =
      onDisk || !fs.existsSync(memoryDirectory)
        ? directory
        : (sharedDirectory ??= makeSharedDirectory())
  }

  newFile(bytes) {
    const file = new File(path.join(this.directory, `${++files}`), bytes)
    this.files.push(file)
    return file
  }

  /** The worker, or null. */
  get thread() {
    return thread
  }

  /** Made by the first that publishes. */
  namesDirectory = path.join(directory, 'names')

  /** The publication that has a name. */
  published(name) {
    return this.publications.find(other => other.name === name && other.current)
  }

  startThread() {
    thread ??= new Thread()
    return thread
  }

  /** Ends the worker. What it mapped stays, and is nobody's. */
  async endThread() {
    await thread?.end()
    thread = null
    for (const window of this.windowsOnThread.splice(0)) {
      window.maybeTold = new Set(window.warnings)
      this.windows.push(window)
    }
    for (const memory of this.memories) {
      memory.onThread = false
      for (const mapping of memory.model.mappings)
        if (mapping.thread === 'worker') mapping.thread = null
    }
  }

  newMemoryId() {
    return ++memories
  }

  newMappingId() {
    return ++mappings
  }

  /** A file to read from, and one to write to, that nobody maps. */
  sourceFile(bytes) {
    return (sourceFile ??= new File(path.join(directory, 'source'), bytes)).fd
  }

  sinkFile() {
    return (sinkFile ??= new File(path.join(directory, 'sink'), Buffer.alloc(0))).fd
  }

  /**
   * A call that protects what was unprotected, where the documentation leaves open whether another
   * did.
   */
  resync(memory) {
    if (memory.detached) return
    const { hidden, byFunction, buffer, guest } = memory
    // Its memory itself would tell the library more than it knows.
    GuardedMemory.from(hidden ? buffer : byFunction ? guest.memory.buffer : guest.memory)
    this.protect(memory)
  }

  /** After a call of this thread into the library about a memory. */
  protect({ model, hidden, known }) {
    model.protect(hidden ? known : undefined)
  }

  /** For the table of what was done how often. */
  count(name) {
    this.counts[name] = (this.counts[name] ?? 0) + 1
  }

  drop(memory) {
    this.memories.splice(this.memories.indexOf(memory), 1)
    for (const { window } of memory.model.mappings) {
      window.remove()
      // Until the memory is collected.
      if (window.sharing === 'shared') window.backing.maybeInUse = true
    }
  }

  async end({ failed }) {
    // What a run that failed was to be warned of, nobody can say, nor when it comes.
    countsWarnings &&= !failed
    this.windowsOnThread = []
    if (!failed) for (const memory of this.memories) this.compareLayout(memory)
    if (countsWarnings) await this.compareWarnings()
    const onThread = this.memories.some(({ onThread }) => onThread)
    if (onThread) await thread?.do('reset')
    for (const { real } of this.publications) real.close()
    for (const paged of this.paged) await paged.end()
    for (const { real } of this.regions) real?.close({ views: 'detach' })
    for (const file of this.files) file.close()
  }

  // The comparison.

  async compare() {
    this.steps++
    for (const memory of this.memories) this.compareMemory(memory)
    for (const view of this.views) this.compareView(view)
    for (const region of this.regions) this.compareRegion(region)
    for (const { name, real, current } of this.publications)
      same(`publication of ${name}: current`, real.current, current)
    for (const file of this.files) compareBacking(file.backing, file.fd, `file ${file.path}`)
    if (this.layoutEvery > 0 && this.steps % this.layoutEvery === 0) {
      for (const memory of this.memories) this.compareLayout(memory)
    }
    if (this.steps % this.stepsPerMap === 0) this.compareMap()
    for (const memory of this.memories)
      if (memory.onThread) await this.compareCountsOnThread(memory)
  }

  /** Once for each mapping and view, as long as there are not too many. */
  async compareWarnings() {
    for (const { warnings, maybeTold } of this.windows) {
      // Whether a worker was told in time, before it ended, nobody knows.
      for (const code of warnings) warned[code][maybeTold?.has(code) ? 'maybe' : 'expected']++
    }
    const differs = ({ expected, maybe, real }) =>
      real < Math.min(expected, MOST_WARNINGS) || real > Math.min(expected + maybe, MOST_WARNINGS)
    const all = Object.values(warned)
    // A thread of their own brings them: it may have to wait for a processor.
    const late = performance.now() + WARNINGS_LATE_MS
    while (all.some(differs) && performance.now() < late) await sleep(1)
    const show = key =>
      Object.entries(warned).map(([code, counts]) => `${counts[key]} times ${code}`)
    const [expected, real] = [show('expected'), show('real')]
    if (all.some(differs)) {
      throw new Difference(`The process was warned ${real}, and in the model ${expected}`)
    }
  }

  compareMemory(memory) {
    const { model, guest, guarded, hidden, known } = memory
    const what = `memory ${memory.id}`
    const { bytes } = guest
    same(`${what}: length of its buffer`, bytes.length, model.byteLength)
    if (guarded) same(`${what}: byteLength`, guarded.byteLength, hidden ? known : model.byteLength)
    model.eachRun(0, model.byteLength, (buffer, offset, address, length) =>
      sameBytes(what, bytes, address, buffer, offset, length)
    )
    for (const mapping of model.mappings) {
      if (mapping.real && !mapping.adopted) this.compareCounts(mapping, mapping.real, mapping.tally)
      if (mapping.real) same(`${mapping.name}: unmapped`, mapping.real.unmapped, false)
      if (mapping.real && mapping.shown) this.compareShown(mapping)
    }
  }

  /** What a window says that it shows. */
  compareShown({ name, real, shown, sources }) {
    same(`${name}: region`, real.region, shown.region?.ref.deref() ?? null)
    same(`${name}: byteOffset`, real.byteOffset, shown.byteOffset)
    same(`${name}: shownBytes`, real.shownBytes, shown.byteLength)
    for (const { real, position, start, pointer } of sources) {
      same(`${name}: position of a source`, real.position, position)
      same(`${name}: start of a source`, real.start, start)
      same(`${name}: pointer of a source`, real.pointer, pointer)
    }
  }

  compareView(view) {
    const { bytes, model, region } = view
    eachRunOf(model.window, model.skew, model.byteLength, (buffer, offset, skew, length) =>
      sameBytes(`view of ${region.name}`, bytes, skew - model.skew, buffer, offset, length)
    )
  }

  compareRegion(region) {
    const { real, backing, name } = region
    if (!real) return
    same(`${name}: closed`, real.closed, region.closed)
    same(`${name}: byteLength`, real.byteLength, region.byteLength)
    same(`${name}: sealed`, real.sealed, !region.closed && backing.sealed)
    same(`${name}: writable`, real.writable, !region.closed && region.opened && !backing.sealed)
    if (!region.closed) compareBacking(backing, fdOf(real), name)
    this.compareCounts(region, real, region.tally)
  }

  compareCounts(entry, real, tally) {
    if (!hasGuard) return
    const { name } = entry
    const { strayWrites, faults, lastFault } = real
    same(`${name}: strayWrites`, strayWrites, tally.strayWrites)
    same(`${name}: faults`, faults, tally.faults)
    this.compareLastFault(entry, lastFault, tally)
  }

  compareLastFault(entry, lastFault, tally) {
    const { happened } = tally
    if (happened.length > 0) {
      entry.last = happened.find(fault => fits(lastFault, entry, fault))
      if (!entry.last) {
        const shown = happened.map(({ window, ...fault }) => ({ ...fault, offset: window.offset }))
        throw new Difference(
          `${entry.name}: lastFault is ${JSON.stringify(lastFault)}, of ${JSON.stringify(shown.slice(-8))}`
        )
      }
      happened.length = 0
    }
    const { last } = entry
    const isAsBefore = last ? fits(lastFault, entry, last) : lastFault === null
    if (!isAsBefore)
      throw new Difference(`${entry.name}: lastFault is ${JSON.stringify(lastFault)}`)
  }

  async compareCountsOnThread(memory) {
    const mappings = memory.model.mappings.filter(
      ({ thread, tally }) => thread === 'worker' && tally.happened.length > 0
    )
    if (mappings.length === 0 || !hasGuard) return
    const counts = await thread.do('counts', { id: memory.id })
    for (const mapping of mappings) {
      const real = counts.find(found => found.mapping === mapping.id)
      if (!real) throw new Difference(`${mapping.name}: the worker has lost it`)
      this.compareCounts(mapping, real, mapping.tally)
    }
  }

  /** A call into the library: it protects what was unprotected. */
  compareLayout(memory) {
    const { guarded, detached } = memory
    if (!guarded || detached) return
    this.compareRanges(memory, guarded.layout().ranges, 'main')
    this.protect(memory)
  }

  async compareLayoutOnThread(memory) {
    const { ranges, error } = await thread.do('layout', { id: memory.id })
    if (error) throw new Difference(`layout in the worker: ${error.stack}`)
    this.compareRanges(memory, ranges, 'worker')
    memory.model.protect()
  }

  compareRanges(memory, ranges, from) {
    const expected = this.expectedRanges(memory, ranges, from)
    const show = ({ kind, start, end, access, region, byteOffset, windowBytes }) =>
      `${kind} ${start} ${end} ${access} ${region ? 'region' : '-'} ${byteOffset} ${windowBytes}`
    same(
      `layout of memory ${memory.id}`,
      ranges.map(show).join('\n'),
      expected.map(show).join('\n')
    )
    if (from === 'worker') return
    ranges.forEach(({ region, start }, i) => {
      if (region === null) return
      same(
        `layout of memory ${memory.id}: region at ${start}`,
        region === expected[i].region.deref(),
        true
      )
    })
  }

  expectedRanges(memory, real, from) {
    const { model, address, hidden, known } = memory
    const byteLength = hidden && from === 'main' ? known : model.byteLength
    const reservation = reservationOf(address, real)
    const most =
      (from === 'main' ? memory.knownMaximum : undefined) ?? WASM_LIMITS[MAX_PAGES[address]]
    const ranges = []
    const add = (
      kind,
      start,
      end,
      access,
      region = null,
      byteOffset = 0,
      windowBytes = undefined
    ) => {
      if (start < end) ranges.push({ kind, start, end, access, region, byteOffset, windowBytes })
    }
    add('guard', -reservation.below, 0, 'none')
    let at = 0
    for (const mapping of model.mappings) {
      const { start, end, access, thread, regionRef, byteOffset, window } = mapping
      const windowBytes = window.shownPages === undefined ? undefined : window.shownPages * PAGE
      add('linear', at, start, 'readwrite')
      const kind = mapping.adopted && thread === from ? 'adopted' : 'mapped'
      add(kind, start, end, access, thread === from ? regionRef : null, byteOffset, windowBytes)
      at = end
    }
    add('linear', at, byteLength, 'readwrite')
    const mayGrowTo = Math.max(byteLength, Math.min(most * WASM_PAGE, reservation.above))
    add('reserved', byteLength, mayGrowTo, 'none')
    add('guard', mayGrowTo, reservation.above, 'none')
    return ranges
  }

  /**
   * By the kernel's account: what is in each reservation, with which rights, and that nothing
   * is open beyond.
   */
  compareMap() {
    if (this.memories.length === 0) return
    const lines = fs.readFileSync('/proc/self/maps', 'latin1').trimEnd().split('\n')
    for (const memory of this.memories) {
      const { model, address } = memory
      const reservation = reservations.get(address)
      if (!reservation) continue
      const base = native.baseOf(new Uint8Array(memory.guest.memory.buffer))
      const runs = []
      const add = (start, end, what) => {
        const last = runs.at(-1)
        if (last?.what === what && last.end === start) last.end = end
        else runs.push({ start, end, what })
      }
      for (const line of lines) {
        // Most lines are of no concern: they are passed over fast.
        const start = parseInt(line, 16)
        const end = parseInt(line.slice(line.indexOf('-') + 1), 16)
        const from = Math.max(start - base, -reservation.below)
        const to = Math.min(end - base, reservation.above)
        if (from >= to) continue
        const [, permissions, , , inode, name] = line.split(/ +/)
        add(from, to, `${permissions} ${inode === '0' || name === '/dev/zero' ? '-' : inode}`)
      }
      const real = runs.splice(0)
      add(-reservation.below, 0, '---p -')
      if (reservation.below === 0) runs.length = 0
      let at = 0
      for (const { start, end, window } of model.mappings) {
        if (at < start) add(at, start, 'rw-p -')
        for (let i = 0; i < window.pages; i++) {
          const from = start + i * PAGE
          add(from, from + PAGE, rightsOf(window, i))
        }
        at = end
      }
      if (at < model.byteLength) add(at, model.byteLength, 'rw-p -')
      add(model.byteLength, reservation.above, '---p -')
      const show = list => list.map(({ start, end, what }) => `${start}-${end} ${what}`).join('\n')
      same(`map of memory ${memory.id}`, show(real), show(runs))
    }
  }
}

/** Whether a fault that the library tells of is this one. */
function fits(real, entry, fault) {
  if (real === null) return false
  const { start, shown } = entry
  const { offset, shownRegion, first, last, write, either, cause, outcome } = fault
  const region = shown ? shownRegion : entry.region
  const skew = real.byteOffset - (offset - (region?.offset ?? 0))
  const isClosed = entry.regionClosed ?? entry.region?.closed
  const causes =
    cause !== 'missing'
      ? [cause]
      : shown
        ? causesNow(fault, shown, skew)
        : [causeOf(fault, skew, isClosed)]
  return (
    real.outcome === outcome &&
    (either || real.operation === (write ? 'write' : 'read')) &&
    skew >= first &&
    skew <= last &&
    real.address === (start === undefined ? null : start + skew) &&
    causes.includes(real.cause)
  )
}

/** The file's size tells why a page was missing, as it is now. */
function causeOf({ backing, offset }, skew, regionClosed) {
  const page = Math.floor((offset + skew) / PAGE) * PAGE
  return !regionClosed && !backing.isPresent(page) ? 'file-shrunk' : 'unavailable'
}

/**
 * The same for a window, which may have slid on: of a file that it does not show nobody looks at
 * the size.
 */
function causesNow(fault, { region }, skew) {
  if (region === null || region.backing !== fault.backing) return ['unavailable']
  const cause = causeOf(fault, skew, region.closed)
  // Which part of the file another region is of, nobody promises to know.
  return region === fault.shownRegion ? [cause] : [cause, 'unavailable', 'file-shrunk']
}

/** Without it, stray writes and missing pages end the process. */
const hasGuard = limits().faultGuard.handler !== 'none'

let countsWarnings = hasGuard
// Since the process started.
const warned = {
  HOSTMAP_STRAY_WRITE: { expected: 0, maybe: 0, real: 0 },
  HOSTMAP_MISSING_PAGE: { expected: 0, maybe: 0, real: 0 },
  HOSTMAP_PAST_END: { expected: 0, maybe: 0, real: 0 }
}
process.on('warning', ({ name, code }) => {
  if (name === 'HostmapWarning') warned[code].real++
})

const turn = () => new Promise(resolve => setImmediate(resolve))
const delay = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

/** Files that the model opens once, and keeps. */
const isKept = file => file === sourceFile?.path || file === sinkFile?.path

/**
 * What the descriptors of the process are of: memfds and files of the model. A worker has others of
 * its own.
 */
function openFiles() {
  const links = fs.readdirSync('/proc/self/fd').map(fd => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      return '' // That of the directory's own reader, or one that another thread closed.
    }
  })
  return links.filter(link => isOfModel(link) && !isKept(link)).map(link => `open: ${link}`)
}

const isOfModel = text => text.includes('/memfd:') || text.includes('wasm-hostmap-model-')

/**
 * When a world has ended: once all is collected, nothing of it is there any more. Without
 * `--expose-gc` nobody can say.
 */
async function expectNothingLeft() {
  if (typeof globalThis.gc !== 'function') return
  const left = () => [
    ...fs.readFileSync('/proc/self/maps', 'latin1').split('\n').filter(isOfModel),
    ...openFiles()
  ]
  let found
  const collected = async () => {
    globalThis.gc()
    await thread?.do('collect')
    await turn()
    found = left()
    return found.length === 0
  }
  for (let round = 0; round < 10; round++) if (await collected()) return
  // What a paged region had goes when its provider's thread has ended, whenever that is.
  for (let round = 0; round < 1000 && found.some(line => line.includes('memfd:words')); round++) {
    await delay(20)
    if (await collected()) return
  }
  throw new Difference(`What was collected is there still:\n${found.join('\n')}`)
}

let sharedDirectory
function makeSharedDirectory() {
  const made = fs.mkdtempSync('/dev/shm/wasm-hostmap-model-')
  process.on('exit', () => fs.rmSync(made, { recursive: true, force: true }))
  return made
}

const MAX_PAGES = { i32: 'maxPages32', i64: 'maxPages64' }
const RESERVATION = { i32: 'reservationBytes32', i64: 'reservationBytes64' }

function reservationOf(address, ranges) {
  if (!reservations.has(address)) {
    const [below, above] = [-Math.min(0, ranges[0].start), ranges.at(-1).end]
    same('bytes reserved', below + above, WASM_LIMITS[RESERVATION[address]])
    reservations.set(address, { below, above })
  }
  return reservations.get(address)
}

function rightsOf(window, index) {
  if (window.state[index] === REST) {
    if (window.isHidden(index)) return '---p -'
    return `r${window.rest === 'zeros' && window.isProtected(index) ? '-' : 'w'}-p -`
  }
  if (window.isAdopted) return 'rw-p -'
  const shared = window.sharing === 'shared' && window.state[index] !== ZEROS
  const writable = window.sharing !== 'readonly' || window.bare[index] === 1
  const inode = window.state[index] === ZEROS ? '-' : window.backing.inode
  return `r${writable ? 'w' : '-'}-${shared ? 's' : 'p'} ${inode}`
}

function same(what, real, expected) {
  if (!Object.is(real, expected))
    throw new Difference(`${what} is\n${real}\nand in the model\n${expected}`)
}

function sameBytes(what, real, at, buffer, offset, length) {
  if (real.compare(buffer, offset, offset + length, at, at + length) === 0) return
  let i = 0
  while (real[at + i] === buffer[offset + i]) i++
  const show = (bytes, from) =>
    bytes.subarray(from, from + Math.min(16, length - i)).toString('hex')
  throw new Difference(
    `${what} at ${at + i} (page ${Math.floor((at + i) / PAGE)}) is ${show(real, at + i)}, and in the model ${show(buffer, offset + i)}`
  )
}

let scratch = Buffer.alloc(0)

/** The bytes of a file or memfd, as a descriptor reads them. */
function compareBacking(backing, fd, what) {
  if (scratch.length < backing.size + 1) scratch = Buffer.alloc(backing.size + 65536)
  const length = fs.readSync(fd, scratch, 0, backing.size + 1, 0)
  same(`${what}: size`, length, backing.size)
  sameBytes(what, scratch, 0, backing.bytes, 0, backing.size)
}

module.exports = {
  PAGE,
  World,
  expectNothingLeft,
  Difference,
  GuardedMemory,
  HostRegion,
  native,
  hasGuard,
  hasMemory64,
  same
}
