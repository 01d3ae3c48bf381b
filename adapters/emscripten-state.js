'use strict'

// The JavaScript half of an Emscripten module: what its FS keeps outside of the memory. A
// checkpoint or a pool that brings back the memory needs it, or C's idea of open files and
// JavaScript's part.
//
// Leans on the FS of Emscripten that is exported (`-sEXPORTED_RUNTIME_METHODS=FS`): its nodes and
// their table, `streams`, `devices`, mounts, and on MEMFS, which replaces `node.contents` when a
// file grows and writes in place otherwise. Tried with the versions that docs/engines.md names.
// Nothing of the module is wrapped or replaced here, but for the arrays that hold files' bytes.

const { makeError, unsupportedEngine } = require('./support/errors.js')
const { recordNodes } = require('./support/fs-nodes.js')
const { putBack, recordStreams } = require('./support/fs-streams.js')

const ENGINE = 'this Emscripten module'

/** What of FS this file calls. */
const METHODS = ['getPath', 'isFile', 'isDir', 'isChrdev', 'makedev', 'getDevice']

function emscriptenState(Module) {
  if ((typeof Module !== 'object' && typeof Module !== 'function') || Module === null) {
    throw makeError(
      'ERR_INVALID_ARG_TYPE',
      `module must be what the Emscripten factory gave, not ${Module === null ? null : typeof Module}`
    )
  }
  const FS = knownFS(Module)
  return () => record(Module, FS)
}

/**
 * What a module exports by a name. Builds with assertions have getters for what they don't export,
 * which abort the module.
 */
function exported(Module, name) {
  return Object.getOwnPropertyDescriptor(Module, name)?.value
}

/** The module's FS, if it is one that this file knows. */
function knownFS(Module) {
  const FS = exported(Module, 'FS')
  if (typeof FS !== 'object' || FS === null) {
    throw unsupportedEngine({
      engine: ENGINE,
      missing: 'does not export its FS',
      instead:
        'build it with -sEXPORTED_RUNTIME_METHODS=FS; without files, a checkpoint of its memory ' +
        'is enough'
    })
  }
  if (!Array.isArray(FS.nameTable) || !Array.isArray(FS.streams) || !isNode(FS.root)) {
    throw unsupportedEngine({
      engine: ENGINE,
      missing: 'has an FS without nodes, as WASMFS is, which keeps its state out of reach',
      instead: 'build it without -sWASMFS'
    })
  }
  const method = METHODS.find(name => typeof FS[name] !== 'function')
  if (method !== undefined || typeof FS.nextInode !== 'number') {
    throw unsupportedEngine({
      engine: ENGINE,
      missing: `has an FS without ${method ?? 'nextInode'}`,
      instead: 'use a version of Emscripten that docs/engines.md names'
    })
  }
  if (FS.streams.some(stream => stream && !isNode(stream.node))) {
    throw unsupportedEngine({
      engine: ENGINE,
      missing: 'works on files of the host alone (-sNODERAWFS), which can not be brought back',
      instead: 'build it without -sNODERAWFS'
    })
  }
  return FS
}

const isNode = node => typeof node === 'object' && node !== null && typeof node.id === 'number'

function record(Module, FS) {
  // All that may refuse comes first: recordNodes gives the files other arrays.
  const streams = recordStreams(FS)
  const fields = recordFields(FS)
  const mounts = recordMounts(FS)
  const ENV = exported(Module, 'ENV')
  const environment = isObject(ENV) ? { ...ENV } : undefined
  const restoreNodes = recordNodes(FS)
  return () => {
    streams.check()
    const errors = streams.closeOthers()
    restoreNodes()
    fields()
    for (const restoreMount of mounts) restoreMount()
    streams.restore()
    if (environment !== undefined) putBack(ENV, environment)
    if (errors.length > 0) {
      throw makeError(
        'ERR_HOSTMAP_NOT_RESTORABLE',
        'all is back, but host files that were opened since the checkpoint could not be closed: ' +
          errors[0].message,
        { cause: errors[0] }
      )
    }
  }
}

const isObject = value => typeof value === 'object' && value !== null

/**
 * FS's own fields: current folder, next inode number, flags, devices, the table of names, and its
 * functions, which a script that reaches the FS may have replaced.
 */
function recordFields(FS) {
  const values = { ...FS }
  const counters = []
  for (const [key, value] of Object.entries(values)) {
    if (typeof value !== 'function' || key === 'ErrnoError') continue
    // FS.createDevice.major, FS.init.initialized: counters and flags of functions.
    const inside = Object.entries(value).filter(entry => !isObject(entry[1]))
    if (inside.length > 0) counters.push([value, Object.fromEntries(inside)])
  }
  const nameTable = [...FS.nameTable]
  const devices = { ...FS.devices }
  const operations = Object.values(devices).map(device => [device, { ...device }])
  return () => {
    putBack(FS, values)
    for (const [owner, kept] of counters) Object.assign(owner, kept)
    FS.nameTable.length = nameTable.length
    for (let i = 0; i < nameTable.length; i++) FS.nameTable[i] = nameTable[i]
    putBack(FS.devices, devices)
    for (const [device, kept] of operations) if (isObject(device)) putBack(device, kept)
  }
}

/** What is mounted where. What a mount shows of the host is the host's, and stays. */
function recordMounts(FS) {
  const mounts = [FS.root.mount]
  for (const mount of mounts) mounts.push(...mount.mounts)
  return mounts.map(mount => {
    const values = { ...mount }
    const inside = [...mount.mounts]
    return () => {
      putBack(mount, values)
      mount.mounts.length = 0
      mount.mounts.push(...inside)
    }
  })
}

module.exports = { emscriptenState }
