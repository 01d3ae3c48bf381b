'use strict'

// Where Pyodide's standard streams go. `setStdin`, `setStdout` and `setStderr` give a device other
// operations, which later opens of it get; and the operations that Pyodide makes of a `batched`
// function or of `stdin` keep a part of a line.
//
// Leans on the devices of /dev/stdin, /dev/stdout and /dev/stderr, whose `open` gives the stream
// its operations as `devops`.

const { makeError } = require('./errors.js')
const { putBack } = require('./fs-streams.js')

const STREAMS = [
  ['/dev/stdin', 'setStdin'],
  ['/dev/stdout', 'setStdout'],
  ['/dev/stderr', 'setStderr']
]

/**
 * Records them.
 *
 * @returns a function that brings them back, to be called before the streams of the FS
 */
function recordStdio(pyodide) {
  const { FS } = pyodide
  const devices = STREAMS.map(([path, setter]) => deviceAt(FS, path, pyodide[setter])).filter(
    ({ operations }) => operations !== undefined
  )
  const restores = devices.map(({ operations }) => recordLines(operations))
  return () => {
    const changed = devices.filter(device => operationsOf(FS, device.rdev) !== device.operations)
    if (changed.length > 0) bringBack(FS, changed)
    for (const restoreLines of restores) restoreLines()
  }
}

function deviceAt(FS, path, set) {
  const rdev = FS.analyzePath(path).object?.rdev
  return { path, rdev, set, operations: operationsOf(FS, rdev) }
}

/** What an open of a device would get; undefined if it is none of these devices. */
function operationsOf(FS, rdev) {
  const open = rdev ? FS.getDevice(rdev)?.stream_ops?.open : undefined
  if (open === undefined) return undefined
  const probe = { node: { rdev } }
  try {
    open(probe)
  } catch {
    return undefined
  }
  return probe.devops
}

function bringBack(FS, changed) {
  // A setter opens all three again, and drops what is there: it may be a file of the host, which
  // has to be closed.
  const streams = [0, 1, 2].map(fd => FS.streams[fd])
  for (const { set, operations } of changed) {
    try {
      set(operations)
    } catch {
      // They are set before the devices are opened, which may be gone.
    }
  }
  streams.forEach((stream, fd) => {
    FS.streams[fd] = stream
  })
  for (const { path, rdev, operations } of changed) {
    if (operationsOf(FS, rdev) === operations) continue
    throw makeError(
      'ERR_HOSTMAP_NOT_RESTORABLE',
      `${path} has other handlers than at the checkpoint, and does not take back what it had`
    )
  }
}

/** Parts of lines, which Pyodide keeps; what objects of the caller's keep is the caller's. */
function recordLines(operations) {
  const isWriter = Array.isArray(operations.output) && typeof operations.out === 'function'
  const isReader = typeof operations.infunc === 'function' && 'insertEOF' in operations
  if (!isWriter && !isReader) return () => {}
  const values = { ...operations }
  const output = isWriter ? [...operations.output] : undefined
  return () => {
    putBack(operations, values)
    if (output !== undefined) operations.output = [...output]
  }
}

module.exports = { recordStdio }
