'use strict'

// What /proc tells of another process: the same data as inspect() gives, with null for all that
// can't be known from outside. Nothing is asked of the process, which may be stopped.

const fs = require('node:fs')
const path = require('node:path')
const { version } = require('../../package.json')
const { regionRecord } = require('../../lib/process/region-record.js')
const { parseMap, deviceText, memfdName } = require('../../lib/process/map.js')
const { PageMap } = require('../../lib/process/pages.js')
const { memoriesIn } = require('./shapes.js')

// The descriptors of regions and snapshots begin there, or in the middle of what a process may have
// (src/sys/checked_fd.rs).
const HIGH_NUMBERS = 8192

/** An error that says what to do; the command prints its message and no stack. */
class CannotInspect extends Error {}

function inspectOutside(pid) {
  const text = smapsOf(pid)
  const processMap = parseMap(text)
  if (processMap.length === 0) {
    throw new CannotInspect(
      `Process ${pid} has no memory of its own: it is a thread of the kernel, or has ended and waits for its parent.`
    )
  }
  const kib = /^KernelPageSize: *(?<kib>\d+) kB$/m.exec(text)?.groups.kib
  const pageBytes = (kib === undefined ? 4 : Number(kib)) * 1024
  const files = new Files(openFiles(pid))
  const memories = memoriesIn(processMap).map((it, id) => memoryFrom(it, id, files))
  return {
    format: 'wasm-hostmap.inspection',
    version: 1,
    takenAt: new Date().toISOString(),
    pid,
    threads: [],
    hostmap: version,
    runtime: nameOf(pid),
    pageBytes,
    memories,
    regions: files.regions,
    snapshots: [],
    pools: [],
    resident: null,
    processMap
  }
}

function smapsOf(pid) {
  try {
    return fs.readFileSync(`/proc/${pid}/smaps`, 'utf8')
  } catch (error) {
    throw new CannotInspect(whyNot(pid, error))
  }
}

function whyNot(pid, error) {
  let owner
  try {
    owner = fs.statSync(`/proc/${pid}`).uid
  } catch {
    return `There is no process ${pid}: it has ended, or is in another container's PID namespace.`
  }
  if (error.code === 'ESRCH') return `Process ${pid} has just ended.`
  if (error.code !== 'EACCES' && error.code !== 'EPERM') {
    return `The map of process ${pid} can't be read: ${error.message}`
  }
  const user = process.geteuid()
  return owner === user
    ? `The kernel doesn't let user ${user} look at process ${pid}, which is the same user's: it may have more rights, or have changed its user. Run this as root.`
    : `Process ${pid} belongs to user ${owner}, and this is user ${user}: run this as user ${owner}, or as root.`
}

/** The name alone: a command line may hold secrets, and a drawing is shown to others. */
function nameOf(pid) {
  try {
    return fs.readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd()
  } catch {
    return 'a process'
  }
}

/** Descriptors with high numbers: what they are open on. Empty where it can't be told. */
function openFiles(pid) {
  const folder = `/proc/${pid}/fd`
  try {
    const limits = fs.readFileSync(`/proc/${pid}/limits`, 'utf8')
    const most = /^Max open files +(?<soft>\d+)/m.exec(limits)?.groups.soft
    const from = Math.min(HIGH_NUMBERS, most === undefined ? Infinity : Math.floor(most / 2))
    const high = fs.readdirSync(folder).filter(name => Number(name) >= from)
    return high.flatMap(name => openFile(path.join(folder, name)))
  } catch {
    return []
  }
}

function openFile(link) {
  try {
    const target = fs.readlinkSync(link)
    const status = fs.statSync(link, { bigint: true })
    if (!status.isFile()) return []
    const device = deviceText(status.dev)
    return [
      {
        path: target,
        name: memfdName({ path: target, device }),
        device,
        inode: String(status.ino),
        byteLength: Number(status.size),
        heldBytes: Number(status.blocks) * 512
      }
    ]
  } catch {
    return []
  }
}

/** The files that are a region's or a snapshot's, where that can be told. */
class Files {
  regions = []
  #byKey = new Map()

  constructor(open) {
    for (const file of open) this.#add(file, file)
  }

  idOf(entry) {
    const known = this.#byKey.get(keyOf(entry))
    return known ?? this.#add(entry, undefined)
  }

  #add(entry, file) {
    const key = keyOf(entry)
    const known = this.#byKey.get(key)
    if (known !== undefined) return known
    const memfd = memfdName(entry)
    const id = this.regions.length
    this.#byKey.set(key, id)
    const { device, inode } = entry
    const byteLength = file?.byteLength ?? null
    const isOf =
      memfd === undefined
        ? { name: path.basename(entry.path), backing: 'file', path: entry.path }
        : { name: memfd, backing: 'memfd', heldBytes: file?.heldBytes ?? null }
    this.regions.push(regionRecord({ id, device, inode, fileOffset: 0, byteLength, ...isOf }))
    return id
  }
}

const keyOf = ({ device, inode }) => `${device} ${inode}`

function memoryFrom({ base, byteLength, address, reservation, entries }, id, files) {
  return {
    id,
    base,
    byteLength,
    maximumByteLength: null,
    address,
    shared: null,
    guarded: true,
    reservation,
    knownBy: 'shape',
    hidden: null,
    mappings: mappingsIn(entries, base, files),
    resident: null
  }
}

/** Files in a memory. Zeros of /dev/zero are where mappings were. */
function mappingsIn(entries, base, files) {
  const mappings = []
  let last
  for (const entry of entries) {
    const { start, end, inode, fileOffset } = entry
    if (inode === '0' || entry.path === '/dev/zero') {
      last = undefined
      continue
    }
    const isMore =
      last !== undefined &&
      keyOf(last.entry) === keyOf(entry) &&
      last.entry.fileOffset + (start - last.entry.start) === fileOffset
    if (isMore) {
      // A page of it that was written to is an entry by itself.
      last.mapping.byteLength = end - base - last.mapping.address
      last.mapping.shownBytes = last.mapping.byteLength
      continue
    }
    const mapping = {
      kind: null,
      address: start - base,
      byteLength: end - start,
      access: accessOf(entry),
      regionId: files.idOf(entry),
      byteOffset: fileOffset,
      shownBytes: end - start,
      rest: null,
      strict: null,
      ofThisThread: null,
      strayWrites: null,
      faults: null,
      unacknowledgedFaults: null,
      lastFault: null,
      resident: null
    }
    mappings.push(mapping)
    last = { entry, mapping }
  }
  return mappings
}

function accessOf({ access }) {
  if (access.endsWith('s')) return 'shared'
  return access[1] === 'w' ? 'private' : 'readonly'
}

/** The PageMap of the process; undefined where its pages may not be looked at. */
function pagesOf(pid, pageBytes) {
  try {
    return new PageMap(pid, pageBytes)
  } catch {
    return undefined
  }
}

module.exports = { CannotInspect, inspectOutside, pagesOf }
