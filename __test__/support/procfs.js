'use strict'

// What the kernel says about this process: the tests' own witness, apart from the library's.

const fs = require('node:fs')

/** The process's mappings, in order of address. Addresses have 47 bits, so numbers hold them. */
function processMap() {
  const lines = fs.readFileSync('/proc/self/maps', 'latin1').trimEnd().split('\n')
  return lines.map(line => {
    const [, start, end, permissions, offset, , inode, name] =
      /^([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) (\S+) (\d+)\s*(.*)$/.exec(line)
    return {
      start: parseInt(start, 16),
      end: parseInt(end, 16),
      permissions,
      offset: parseInt(offset, 16),
      inode: Number(inode),
      name
    }
  })
}

/** The lines of the process's map that are of files and memfds, as the kernel writes them. */
function linesOfFiles() {
  const text = fs.readFileSync('/proc/self/maps', 'latin1')
  return text.match(/^[0-9a-f]+-[0-9a-f]+ \S+ [0-9a-f]+ \S+ [1-9].*$/gm) ?? []
}

const descriptors = new WeakMap()
const collected = new FinalizationRegistry(fd => fs.closeSync(fd))

/** A descriptor of a region or snapshot for the tests' own use, open as long as that is. */
function fdOf(owner) {
  if (descriptors.has(owner)) return descriptors.get(owner)
  const fd = owner.duplicateFd()
  descriptors.set(owner, fd)
  collected.register(owner, fd, owner)
  const { close } = owner
  Object.defineProperty(owner, 'close', {
    configurable: true,
    value(...args) {
      if (descriptors.delete(owner)) fs.closeSync(fd)
      collected.unregister(owner)
      return close.apply(owner, args)
    }
  })
  return fd
}

/** The mappings of a region, or of the file or memfd behind a descriptor. */
function mappingsOf(owner) {
  if (typeof owner !== 'number') {
    const fd = owner.duplicateFd()
    try {
      return mappingsOf(fd)
    } finally {
      fs.closeSync(fd)
    }
  }
  const { ino } = fs.fstatSync(owner)
  return processMap().filter(mapping => mapping.inode === ino)
}

/** The mappings whose file name contains this: `/memfd:NAME`, or a path. */
function mappingsNamed(name) {
  return processMap().filter(mapping => mapping.name.includes(name))
}

/** What each open descriptor stands for, by number. */
function openFiles() {
  const files = {}
  for (const fd of fs.readdirSync('/proc/self/fd')) {
    try {
      files[fd] = fs.readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      // The descriptor of readdir itself, closed by now.
    }
  }
  return files
}

/** How many descriptors stand for something whose name contains this. */
function countOpen(name) {
  return Object.values(openFiles()).filter(file => file.includes(name)).length
}

/** One field of a /proc file in `Name: 123 kB` lines, in bytes. */
function field(file, name) {
  const [, kibibytes] = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(
    fs.readFileSync(file, 'latin1')
  )
  return Number(kibibytes) * 1024
}

/** A field of the sums over all mappings, in bytes: `Pss`, `Private_Dirty`, ... */
const smapsRollup = name => field('/proc/self/smaps_rollup', name)

/** A field of the process's status, in bytes: `VmSize`, `VmRSS`, ... */
const status = name => field('/proc/self/status', name)

/**
 * The kernel's flags (`dd`: not in core dumps, `wr`: writable, ...) of each mapping whose name
 * contains this.
 */
function flagsOfMappingsNamed(name) {
  const found = []
  let wanted = false
  for (const line of fs.readFileSync('/proc/self/smaps', 'latin1').split('\n')) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) wanted = line.includes(name)
    else if (wanted && line.startsWith('VmFlags:')) found.push(line.slice(8).trim().split(' '))
  }
  return found
}

module.exports = {
  processMap,
  linesOfFiles,
  fdOf,
  mappingsOf,
  mappingsNamed,
  openFiles,
  countOpen,
  smapsRollup,
  status,
  flagsOfMappingsNamed
}
