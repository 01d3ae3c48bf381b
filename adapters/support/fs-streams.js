'use strict'

// The open streams of Emscripten's FS: descriptors, positions and flags, what is in pipes, and the
// lines that terminals have not ended yet. Streams on host files keep their host descriptor.

const { makeError } = require('./errors.js')

const { hasOwn } = Object

/** Devices of Emscripten's terminals, /dev/tty and /dev/tty1, which stdin and stdout link to. */
const TERMINALS = [5, 6]

/**
 * Records what is open.
 *
 * @returns `{ check, closeOthers, restore }`: `check` throws where a stream can't come back;
 *   `closeOthers` closes host files of streams that were opened since, and returns the errors
 */
function recordStreams(FS) {
  const list = [...FS.streams]
  const records = list.filter(Boolean).map(recordStream)
  const own = new Set(list.filter(Boolean))
  const pipes = [...new Set(records.map(({ node }) => node?.pipe).filter(Boolean))].map(recordPipe)
  const terminals = findTerminals(FS).map(recordTerminal)
  return {
    check() {
      for (const record of records) checkHostFile(record)
    },
    closeOthers: () => closeOthers(FS, own),
    restore() {
      FS.streams.length = list.length
      list.forEach((stream, i) => {
        FS.streams[i] = stream
      })
      for (const record of records) restoreStream(record)
      for (const restorePipe of pipes) restorePipe()
      for (const restoreTerminal of terminals) restoreTerminal()
    }
  }
}

function recordStream(stream) {
  if (stream.node?.sock !== undefined) {
    throw makeError(
      'ERR_HOSTMAP_NOT_RESTORABLE',
      `descriptor ${stream.fd} is a socket, whose other end can't be brought back: close it first`
    )
  }
  const { ungotten, shared } = stream
  return {
    stream,
    node: stream.node,
    values: { ...stream },
    // Positions and flags are here, for all descriptors that were duplicated from one.
    shared: shared === undefined ? undefined : { ...shared },
    ungotten: Array.isArray(ungotten) ? [...ungotten] : undefined
  }
}

function restoreStream({ stream, values, shared, ungotten }) {
  putBack(stream, values)
  if (shared !== undefined) putBack(stream.shared, shared)
  if (ungotten !== undefined && !(stream.ungotten.length === 0 && ungotten.length === 0)) {
    stream.ungotten = [...ungotten]
  }
}

/** Makes an object have these properties and no others. */
function putBack(object, values) {
  const keys = Object.keys(values)
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i]
    const value = values[key]
    if (object[key] !== value || (value === undefined && !hasOwn(object, key))) object[key] = value
  }
  const now = Object.keys(object)
  if (now.length === keys.length) return
  for (const key of now) if (!hasOwn(values, key)) delete object[key]
}

/** A host file that was closed since is gone: its number may be another file's by now. */
function checkHostFile({ stream, values }) {
  if (values.nfd === undefined) return
  if (stream.fd !== null && stream.nfd === values.nfd) return
  throw makeError(
    'ERR_HOSTMAP_NOT_RESTORABLE',
    `the host file ${values.path} was open as descriptor ${values.fd} at the checkpoint, and was ` +
      'closed since: open it after the checkpoint, or keep it open'
  )
}

/**
 * Streams opened since are dropped. Where a close does more than that, it is called: NODEFS then
 * closes the host's file. Devices are not told: a terminal would print a line that never was.
 */
function closeOthers(FS, own) {
  const errors = []
  for (const stream of FS.streams) {
    if (!stream || own.has(stream)) continue
    const { node } = stream
    const isHere = node !== undefined && (FS.isChrdev(node.mode) || node.pipe !== undefined)
    if (!isHere) {
      try {
        stream.stream_ops?.close?.(stream)
      } catch (error) {
        errors.push(error)
      }
    }
    // As FS.close does: code that still has the stream can't close the descriptor a second time.
    stream.fd = null
  }
  return errors
}

function recordPipe(pipe) {
  const values = { ...pipe }
  const buckets = pipe.buckets.map(bucket => ({
    bucket,
    values: { ...bucket },
    bytes: bucket.buffer.slice(bucket.roffset, bucket.offset)
  }))
  return () => {
    putBack(pipe, values)
    pipe.buckets.length = 0
    for (const { bucket, values: kept, bytes } of buckets) {
      putBack(bucket, kept)
      bucket.buffer.set(bytes, kept.roffset)
      pipe.buckets.push(bucket)
    }
  }
}

/** Terminals are reached through their streams, and through what `open` does to a stream. */
function findTerminals(FS) {
  const terminals = new Set()
  const add = tty => {
    if (Array.isArray(tty?.input) && Array.isArray(tty.output)) terminals.add(tty)
  }
  for (const stream of FS.streams) add(stream?.tty)
  for (const major of TERMINALS) {
    const rdev = FS.makedev(major, 0)
    const ops = FS.getDevice(rdev)?.stream_ops
    if (ops?.open === undefined || ops.fsync === undefined) continue
    const probe = { node: { rdev } }
    ops.open(probe)
    add(probe.tty)
  }
  return [...terminals]
}

function recordTerminal(tty) {
  const input = [...tty.input]
  const output = [...tty.output]
  return () => {
    tty.input = [...input]
    tty.output = [...output]
  }
}

module.exports = { recordStreams, putBack }
