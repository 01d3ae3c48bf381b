'use strict'

// Emscripten's JavaScript file system: which one a module has, and how a file of MEMFS is made.
// What is leaned on is the same from 2.0 to 6.0: FS.lookupPath, FS.mknod, FS.unlink, FS.getPath and
// FS.ErrnoError, and nodes with `contents`, `usedBytes`, `node_ops` and `stream_ops`.

const { makeError, unsupportedEngine } = require('./errors.js')
const { ENGINE, mustBeReady, shown } = require('./emscripten-module.js')

/** WASI's numbers, which all versions from 1.39 on use. */
const ERRNO = {
  EACCES: 2,
  EBADF: 8,
  EEXIST: 20,
  EFBIG: 22,
  EINVAL: 28,
  EIO: 29,
  EISDIR: 31,
  ELOOP: 32,
  ENOENT: 44,
  ENOMEM: 48,
  ENOSPC: 51,
  ENOTDIR: 54,
  EPERM: 63,
  EROFS: 69
}
const NAMES = new Map(Object.entries(ERRNO).map(([name, number]) => [number, name]))

/** Linux's, as musl defines them. */
const S_IFREG = 0o100000
const PROT_WRITE = 2
const MAP_PRIVATE = 2

const METHODS = ['lookupPath', 'mknod', 'unlink', 'getPath', 'isFile', 'isDir', 'ErrnoError']

/** The module's FS, if it is one that files can be mounted in. */
function filesOf(module) {
  const FS = shown(module, 'FS')
  if (typeof FS !== 'object' || FS === null) {
    mustBeReady(module)
    throw unsupportedEngine({
      engine: ENGINE,
      missing: 'does not show its FS',
      instead:
        'build it with -sEXPORTED_RUNTIME_METHODS=FS (and -sFORCE_FILESYSTEM if it has none); ' +
        'map() works without it'
    })
  }
  if (!Array.isArray(FS.streams) || FS.root === undefined) {
    throw unsupportedEngine({
      engine: ENGINE,
      missing: 'has an FS without nodes and streams, as WASMFS has, which keeps files in Wasm',
      instead: 'build it without -sWASMFS; map() works with it'
    })
  }
  const missing = METHODS.filter(name => typeof FS[name] !== 'function')
  if (missing.length > 0) {
    throw unsupportedEngine({
      engine: ENGINE,
      missing: `has an FS without ${missing.join(', ')}`,
      instead: 'build it without --closure 1, which renames them, or with Emscripten 2.0 or later'
    })
  }
  return FS
}

/** Calls FS, and words what it refuses. */
function callFS(what, call) {
  try {
    return call()
  } catch (error) {
    if (error === null || typeof error !== 'object' || typeof error.errno !== 'number') throw error
    const name = NAMES.get(error.errno) ?? `errno ${error.errno}`
    throw makeError('ERR_HOSTMAP_ENGINE_REFUSED', `${what}: ${name}`, { cause: error })
  }
}

/** The node at a path, or undefined. */
function nodeAt(FS, path, follow = false) {
  try {
    return callFS(path, () => FS.lookupPath(path, { follow }).node)
  } catch (error) {
    if (error.cause?.errno === ERRNO.ENOENT) return undefined
    throw error
  }
}

/** Whether a directory is of MEMFS: its entries are in `contents`, and mknod makes files there. */
function isMemfsFolder(FS, node) {
  return (
    FS.isDir(node.mode) &&
    typeof node.contents === 'object' &&
    node.contents !== null &&
    typeof node.node_ops?.mknod === 'function'
  )
}

function isMemfsFile(node) {
  return 'contents' in node && 'usedBytes' in node && typeof node.stream_ops?.read === 'function'
}

/** Makes an empty file of MEMFS. Nothing is left behind if that fails. */
function makeFile(FS, path, permissions) {
  const slash = path.lastIndexOf('/')
  const folder = slash === 0 ? '/' : path.slice(0, slash)
  const parent = callFS(`The folder ${folder}`, () => FS.lookupPath(folder, { follow: true }).node)
  if (!isMemfsFolder(FS, parent)) {
    const missing = FS.isDir(parent.mode)
      ? `keeps ${folder} in another file system than MEMFS (NODEFS, NODERAWFS, WORKERFS)`
      : `has a file at ${folder}, where a folder should be`
    throw unsupportedEngine({
      engine: ENGINE,
      missing,
      instead: 'mount the file in a folder of MEMFS; files of NODEFS can be mapped by mapFiles()'
    })
  }
  const node = callFS(`The file ${path}`, () => FS.mknod(path, S_IFREG | permissions, 0))
  if (isMemfsFile(node)) return node
  FS.unlink(path)
  throw unsupportedEngine({
    engine: ENGINE,
    missing: 'has files without contents and usedBytes',
    instead: 'use Emscripten 2.0 or later'
  })
}

/** Whether a node still has its name: nobody unlinked it or renamed another file over it. */
function isLinked(node) {
  for (let at = node; at.parent !== at; at = at.parent) {
    if (at.parent?.contents?.[at.name] !== at) return false
  }
  return true
}

/** Sets the times of a node that was written: one in older versions, two in newer ones. */
function touch(node) {
  const now = Date.now()
  if ('mtime' in node) node.mtime = node.ctime = now
  else node.timestamp = now
}

module.exports = {
  ERRNO,
  MAP_PRIVATE,
  PROT_WRITE,
  callFS,
  filesOf,
  isLinked,
  makeFile,
  nodeAt,
  touch
}
