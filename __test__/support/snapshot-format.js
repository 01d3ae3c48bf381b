'use strict'

// Snapshots' files, written anew by what their format says (src/snapshot/format.rs), to forge some.

const fs = require('node:fs')

const SECTIONS_AT = 64
const SECTION_BYTES = 24
const NAMES = ['memory', 'metadata', 'state']

/** All that a descriptor holds. */
function bytesOf(fd) {
  const bytes = Buffer.alloc(fs.fstatSync(fd).size)
  fs.readSync(fd, bytes, 0, bytes.length, 0)
  return bytes
}

/** Where the parts of a snapshot's bytes are. */
function partsOf(bytes) {
  const number = at => Number(bytes.readBigUInt64LE(at))
  const section = index => {
    const at = SECTIONS_AT + index * SECTION_BYTES
    return { offset: number(at + 8), length: number(at + 16) }
  }
  const [memory, metadata, state] = [0, 1, 2].map(section)
  return {
    dataOffset: memory.offset,
    byteLength: memory.length,
    tailAt: metadata.offset,
    metadataBytes: metadata.length,
    stateBytes: state.length
  }
}

/**
 * A snapshot's bytes with other descriptions. Both may be bytes, too. Its checksum and
 * authentication code stay as they are.
 */
function forge(bytes, metadata, state) {
  const { tailAt, dataOffset, byteLength } = partsOf(bytes)
  const encoded = [metadata, state].map(it =>
    it === undefined || Buffer.isBuffer(it) ? it : encode(it)
  )
  const [first, second = Buffer.alloc(0)] = encoded
  const forged = Buffer.concat([bytes.subarray(0, tailAt), first, second])
  const sections = [
    [dataOffset, byteLength],
    [tailAt, first.length],
    [tailAt + first.length, second.length]
  ]
  forged.fill(0, SECTIONS_AT, 256)
  sections.forEach(([offset, length], index) => {
    if (length === 0) return
    const at = SECTIONS_AT + index * SECTION_BYTES
    forged.write(NAMES[index], at, 'latin1')
    forged.writeBigUInt64LE(BigInt(offset), at + 8)
    forged.writeBigUInt64LE(BigInt(length), at + 16)
  })
  return forged
}

// MessagePack, what the format uses of it, in its shortest form.

function encode(value) {
  const parts = []
  const head = (short, most, code, count) => {
    if (count < most) return parts.push(Buffer.from([short | count]))
    const [size, bytes] =
      count < 256 && code[0] ? [code[0], 1] : count < 65536 ? [code[1], 2] : [code[2], 4]
    const head = Buffer.alloc(1 + bytes, size)
    head.writeUIntBE(count, 1, bytes)
    return parts.push(head)
  }
  const number = value => {
    if (Number.isInteger(value) && value >= 0 && value < 2 ** 32)
      return head(0, 128, [0xcc, 0xcd, 0xce], value)
    if (Number.isInteger(value) && value >= -32 && value < 0)
      return parts.push(Buffer.from([256 + value]))
    const wide = Buffer.alloc(9, Number.isInteger(value) ? 0xcf : 0xcb)
    if (!Number.isInteger(value)) wide.writeDoubleBE(value, 1)
    else if (value < 0) wide.writeBigInt64BE(BigInt(value), 1)
    else wide.writeBigUInt64BE(BigInt(value), 1)
    return parts.push(wide)
  }
  const put = value => {
    if (value === null) parts.push(Buffer.from([0xc0]))
    else if (typeof value === 'boolean') parts.push(Buffer.from([value ? 0xc3 : 0xc2]))
    else if (typeof value === 'number') number(value)
    else if (typeof value === 'string') {
      const text = Buffer.from(value)
      head(0xa0, 32, [0xd9, 0xda, 0xdb], text.length)
      parts.push(text)
    } else if (Array.isArray(value)) {
      head(0x90, 16, [0, 0xdc, 0xdd], value.length)
      value.forEach(put)
    } else {
      const entries = Object.entries(value)
      head(0x80, 16, [0, 0xde, 0xdf], entries.length)
      for (const entry of entries) entry.forEach(put)
    }
  }
  put(value)
  return Buffer.concat(parts)
}

function decode(bytes) {
  let at = 0
  const take = count => bytes.subarray(at, (at += count))
  const count = width => take(width).readUIntBE(0, width)
  const list = length => Array.from({ length }, value)
  const map = length => Object.fromEntries(Array.from({ length }, () => [value(), value()]))
  const text = length => take(length).toString()
  function value() {
    const type = count(1)
    if (type < 0x80) return type
    if (type < 0x90) return map(type & 15)
    if (type < 0xa0) return list(type & 15)
    if (type < 0xc0) return text(type & 31)
    switch (type) {
      case 0xc0:
        return null
      case 0xc2:
      case 0xc3:
        return type === 0xc3
      case 0xcb:
        return take(8).readDoubleBE()
      case 0xcc:
      case 0xcd:
      case 0xce:
        return count(2 ** (type - 0xcc))
      case 0xcf:
        return Number(take(8).readBigUInt64BE())
      case 0xd9:
      case 0xda:
      case 0xdb:
        return text(count(2 ** (type - 0xd9)))
      case 0xdc:
      case 0xdd:
        return list(count(2 * (type - 0xdb)))
      case 0xde:
      case 0xdf:
        return map(count(2 * (type - 0xdd)))
    }
    throw new Error(`a type that snapshots don't use: ${type}`)
  }
  return value()
}

module.exports = { bytesOf, partsOf, forge, encode, decode }
