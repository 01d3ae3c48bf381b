'use strict'

// Arrow IPC over regions: tables and readers without a copy, and columns as pointers for kernels.
//
// Leans on apache-arrow's public face: `tableFromIPC`, `RecordBatchReader.from`, and the buffers of
// `Data` (`values`, `valueOffsets`, `nullBitmap`, `typeIds`, `variadicBuffers`, `children`,
// `dictionary`), as they are since 15.0; tested with 21.2.0. Nothing of the file is parsed here but
// its two magic strings and the footer's length: arrow takes a file without them for an empty
// table, or fails with words about its own insides.

const { HostRegion, Mapping } = require('../index.js')
const { makeError, unsupportedEngine } = require('./support/errors.js')

const MAGIC = 'ARROW1'
// The magic with its padding at the start; the footer's length (4 bytes) and the magic at the end.
const HEAD_BYTES = 8
const TAIL_BYTES = 10
const NULL = 1
const BOOL = 6

const kind = value => (value === null ? 'null' : typeof value)

function checkEngine(arrow) {
  const missing = ['tableFromIPC', 'RecordBatchReader'].find(
    name => typeof arrow?.[name] !== 'function'
  )
  if (missing === undefined) return
  throw unsupportedEngine({
    engine: 'apache-arrow',
    missing: `has no ${missing}`,
    instead: "pass the package's exports (import * as arrow from 'apache-arrow')"
  })
}

/**
 * The bytes of a region, or what a mapping shows. Those of a mapping are a view of its memory, so
 * that a table sees what the module writes there.
 */
function bytesOf(source, options) {
  if (source instanceof HostRegion) return source.bytes(options)
  if (source instanceof Mapping) {
    if (options !== undefined) {
      const message =
        'Options are for regions: a mapping shows the bytes and has the access that it was made with'
      throw makeError('ERR_INVALID_ARG_VALUE', message)
    }
    if (source.unmapped) throw makeError('ERR_INVALID_ARG_VALUE', 'The mapping was unmapped')
    return new Uint8Array(source.memory.buffer, source.address, source.byteLength)
  }
  const message = `The source must be a HostRegion or a Mapping, not ${kind(source)}`
  throw makeError('ERR_INVALID_ARG_TYPE', message)
}

const textAt = (bytes, start, end) => String.fromCharCode(...bytes.subarray(start, end))

/** Refuses a file whose end is missing or damaged; streams have no end that could be checked. */
function checkEnds(bytes) {
  const size = bytes.byteLength
  if (textAt(bytes, 0, MAGIC.length) !== MAGIC) return
  const fits = size >= HEAD_BYTES + TAIL_BYTES
  const end = fits ? textAt(bytes, size - MAGIC.length, size) : ''
  const { buffer, byteOffset } = bytes
  const footer = fits
    ? new DataView(buffer, byteOffset + size - TAIL_BYTES, 4).getInt32(0, true)
    : 0
  if (end === MAGIC && footer > 0 && footer <= size - HEAD_BYTES - TAIL_BYTES) return
  const message =
    `These ${size} bytes begin as an Arrow file, but have no footer at their end: the file was ` +
    'cut off or is still being written. Read what there is as a stream, from byte 8 on'
  throw makeError('ERR_HOSTMAP_NOT_ARROW', message)
}

/** Arrow gives a reader without a schema for bytes in which it finds no message. */
function checkSchema(reader, bytes) {
  if (reader.schema) return
  const message =
    `These ${bytes.byteLength} bytes are neither an Arrow IPC file nor a stream: they begin with ` +
    `neither "${MAGIC}" nor a message with a schema`
  throw makeError('ERR_HOSTMAP_NOT_ARROW', message)
}

function openArrow(arrow, source, options) {
  checkEngine(arrow)
  const bytes = bytesOf(source, options)
  checkEnds(bytes)
  const reader = arrow.RecordBatchReader.from(bytes).open()
  checkSchema(reader, bytes)
  return reader
}

function readTable(arrow, source, options) {
  return arrow.tableFromIPC(openArrow(arrow, source, options))
}

/** The address `byteLength` bytes after a pointer, which is a number or a BigInt. */
const advance = (pointer, byteLength) =>
  typeof pointer === 'bigint' ? pointer + BigInt(byteLength) : pointer + byteLength

/** Makes the addresses of a column's buffers; `where` names the column in errors. */
function chunkOf(mapping, data, where) {
  const at = (buffer, what, isNeeded = false) => {
    if (buffer === undefined || buffer === null) return null
    // A buffer that was detached, when the memory grew, is empty as well.
    if (buffer.byteLength === 0 && !(isNeeded && data.length > 0)) return null
    try {
      return mapping.pointerOf(buffer)
    } catch (cause) {
      // A memory that moved, say, is not about the column.
      if (cause?.code !== 'ERR_INVALID_ARG_VALUE' && cause?.code !== 'ERR_OUT_OF_RANGE') throw cause
      const message =
        `The ${what} of ${where} (${data.type}) are not in the mapping: read the table from the ` +
        "mapping's region, or again from the mapping if the memory has grown. Arrow copies what " +
        'is compressed, or does not start at a multiple of 8 bytes'
      throw makeError('ERR_INVALID_ARG_VALUE', message, { cause })
    }
  }
  // Slices of bitmaps begin at a bit. Arrow has cut all other buffers to the slice already.
  const bits = data.offset % 8
  const bitmap = (buffer, what) => {
    const pointer = at(buffer, what)
    return pointer === null ? null : advance(pointer, Math.floor(data.offset / 8))
  }
  const isBool = data.typeId === BOOL
  return {
    type: String(data.type),
    typeId: data.typeId,
    length: data.length,
    // Arrow has -1 for a slice of Null.
    nullCount: data.typeId === NULL ? data.length : data.nullCount,
    values: isBool
      ? bitmap(data.values, 'values')
      : at(data.values, 'values', data.valueOffsets === undefined),
    byteLength: data.values?.byteLength ?? 0,
    valueOffsets: at(data.valueOffsets, 'offsets', true),
    typeIds: at(data.typeIds, 'type ids'),
    validity: data.nullCount === 0 ? null : bitmap(data.nullBitmap, 'validity bits'),
    bitOffset: bits,
    buffers: (data.variadicBuffers ?? []).map(buffer => at(buffer, 'buffers')),
    children: data.children.map((child, index) => {
      const name = data.type.children?.[index]?.name ?? index
      return chunkOf(mapping, child, `${where}, child ${name}`)
    }),
    dictionary: data.dictionary
      ? data.dictionary.data.map(part => chunkOf(mapping, part, `the dictionary of ${where}`))
      : null
  }
}

function pointersOf(mapping, column) {
  if (!(mapping instanceof Mapping)) {
    const message = `The mapping must be a Mapping, not ${kind(mapping)}`
    throw makeError('ERR_INVALID_ARG_TYPE', message)
  }
  // A Vector and a Table have chunks; a Data is one.
  const chunks = Array.isArray(column?.data) ? column.data : [column]
  if (!chunks.every(data => data?.type && Array.isArray(data.children))) {
    const message = `The column must be an Arrow Vector, Data or Table, not ${kind(column)}`
    throw makeError('ERR_INVALID_ARG_TYPE', message)
  }
  return chunks.map((data, index) => chunkOf(mapping, data, `chunk ${index}`))
}

module.exports = { openArrow, pointersOf, readTable }
