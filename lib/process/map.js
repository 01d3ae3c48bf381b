'use strict'

// The map of a process, as /proc tells it: which addresses are taken, by what, and how much of it
// is in memory. Reads text and makes objects; what they mean is said elsewhere.

const { readFileSync } = require('node:fs')

// `7f29-7f2b r--p 00000000 00:01 26   /memfd:data set (deleted)`; a name may hold anything.
const HEAD =
  /^(?<start>[0-9a-f]+)-(?<end>[0-9a-f]+) (?<access>[r-][w-][x-][ps]) (?<offset>[0-9a-f]+) (?<device>[0-9a-f]+:[0-9a-f]+) (?<inode>\d+) *(?<path>.*)$/s

// What a line of /proc/PID/smaps is called here. All are in KiB there.
const FIELDS = new Map([
  ['Rss', 'residentBytes'],
  ['Pss', 'proportionalBytes'],
  ['Anonymous', 'ownBytes'],
  ['Swap', 'swappedBytes']
])

const NOT_TOLD = Object.freeze({
  residentBytes: null,
  proportionalBytes: null,
  ownBytes: null,
  swappedBytes: null
})

/**
 * The entries of /proc/PID/maps or smaps, by address. Of maps, nothing is told of what is in
 * memory. What is at addresses that a number can't hold (the kernel's own page on x64) is left out.
 */
function parseMap(text) {
  const entries = []
  let entry
  for (const line of text.split('\n')) {
    const head = HEAD.exec(line)?.groups
    if (head === undefined) {
      addField(entry, line)
      continue
    }
    entry = {
      start: Number.parseInt(head.start, 16),
      end: Number.parseInt(head.end, 16),
      access: head.access,
      fileOffset: Number.parseInt(head.offset, 16),
      device: head.device,
      inode: head.inode,
      path: head.path,
      ...NOT_TOLD
    }
    if (Number.isSafeInteger(entry.end)) entries.push(entry)
  }
  return entries
}

function addField(entry, line) {
  const end = line.indexOf(':')
  const name = FIELDS.get(line.slice(0, end))
  if (entry === undefined || name === undefined) return
  const kib = Number.parseInt(line.slice(end + 1), 10)
  if (Number.isSafeInteger(kib)) entry[name] = kib * 1024
}

/**
 * The map of a process (`'self'` or its id), with what is in memory: the kernel walks its page
 * tables for that, some 20 ms for each GiB in pages of 4 KiB.
 */
function readMap(pid) {
  return parseMap(readFileSync(`/proc/${pid}/smaps`, 'utf8'))
}

/** A device as maps have it, from the decimal digits of a `st_dev`. */
function deviceText(digits) {
  const device = BigInt(digits)
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n)
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffffff00n)
  const hex = number => number.toString(16).padStart(2, '0')
  return `${hex(major)}:${hex(minor)}`
}

/** Whether anything may be read or written there. */
const isAccessible = ({ access }) => !access.startsWith('---')

/** The name of a memfd; undefined for anything else. A file's path begins with its root. */
function memfdName({ path, device }) {
  const name = /^\/memfd:(?<name>.*) \(deleted\)$/s.exec(path)?.groups.name
  // A file of that name, which was deleted too, is on a device of its own.
  return name !== undefined && device.startsWith('00:') ? name : undefined
}

module.exports = { parseMap, readMap, deviceText, isAccessible, memfdName }
