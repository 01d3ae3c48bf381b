'use strict'

// What the header of an ELF file says of the machine that it needs, for the words of a failed load.

const { readFileSync } = require('node:fs')

const MAGIC = 0x7f454c46
const CLASS_64 = 2
const HEADER_BYTES = 64
const SHT_GNU_VERNEED = 0x6ffffffe

// e_machine, by Node's names.
const MACHINES = new Map([
  [62, 'x64'],
  [183, 'arm64'],
  [3, 'ia32'],
  [40, 'arm']
])

/** The processor that an ELF file is for, by Node's name, or null if it is no ELF file. */
function elfArch(file) {
  const bytes = readFileSync(file)
  if (bytes.length < HEADER_BYTES || bytes.readUInt32BE(0) !== MAGIC) return null
  const machine = bytes.readUInt16LE(18)
  return MACHINES.get(machine) ?? `ELF machine ${machine}`
}

/**
 * The newest glibc that a library asks for, such as '2.28'; undefined if it asks for none. The
 * dynamic linker's own message names the first version that it misses, which need not be it.
 */
function glibcNeeded(file) {
  const versions = symbolVersions(readFileSync(file)).flatMap(
    name => /^GLIBC_(\d+(?:\.\d+)+)$/.exec(name)?.[1] ?? []
  )
  return versions.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1)
}

/** The names in .gnu.version_r of a 64-bit, little-endian library: what it needs of others. */
function symbolVersions(bytes) {
  if (bytes.readUInt32BE(0) !== MAGIC || bytes[4] !== CLASS_64) return []
  const sections = readSections(bytes)
  const needs = sections.find(({ type }) => type === SHT_GNU_VERNEED)
  if (needs === undefined) return []
  const strings = sections[needs.link].offset
  const stringAt = offset => {
    const start = strings + offset
    return bytes.toString('latin1', start, bytes.indexOf(0, start))
  }

  // Elf64_Verneed, of each library, leads to its list of Elf64_Vernaux.
  const names = []
  for (let need = needs.offset, left = needs.info; left > 0; left--) {
    let aux = need + bytes.readUInt32LE(need + 8)
    for (let count = bytes.readUInt16LE(need + 2); count > 0; count--) {
      names.push(stringAt(bytes.readUInt32LE(aux + 8)))
      aux += bytes.readUInt32LE(aux + 12)
    }
    need += bytes.readUInt32LE(need + 12)
  }
  return names
}

function readSections(bytes) {
  const table = Number(bytes.readBigUInt64LE(40))
  const entryBytes = bytes.readUInt16LE(58)
  return Array.from({ length: bytes.readUInt16LE(60) }, (_, index) => {
    const at = table + index * entryBytes
    return {
      type: bytes.readUInt32LE(at + 4),
      offset: Number(bytes.readBigUInt64LE(at + 24)),
      link: bytes.readUInt32LE(at + 40),
      info: bytes.readUInt32LE(at + 44)
    }
  })
}

module.exports = { elfArch, glibcNeeded }
