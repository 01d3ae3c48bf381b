'use strict'

// The native part. Found by its path or by the one name that it can have for this machine: no other
// package's name is ever tried, so that nothing can be taken for a binary that is missing.
//
// Where another copy of this package was loaded before, its native part serves this one too: one
// mapping table and one signal handler for a process (src/js/copies.rs).

const path = require('node:path')
const { loadFailed, otherVersion, twoVersions } = require('./load-errors.js')
const {
  VERSION,
  binaryFile,
  loadAsset,
  requireHere,
  unpackAsset,
  versionOfPackage
} = require('./place.js')
const { unsupported, override, target } = require('./platform.js')

function load() {
  const refusal = unsupported()
  if (refusal) throw refusal

  const asset = override() ? undefined : unpack()
  const file = asset?.file ?? find()
  let native
  try {
    native = asset ? loadAsset(file) : requireHere(file)
  } catch (error) {
    throw loadFailed(file, error, { isAsset: asset !== undefined })
  } finally {
    asset?.done()
  }
  return shared(native, file)
}

/** The binary of a single executable application: see unpackAsset in place.js. */
function unpack() {
  try {
    return unpackAsset(() => target().endsWith('-gnu'))
  } catch (error) {
    throw loadFailed(undefined, error, { isAsset: true })
  }
}

/** The path of the binary to load. */
function find() {
  const other = override()
  if (other) return path.resolve(other)
  let file, version
  try {
    file = binaryFile(target())
    version = versionOfPackage(file, target())
  } catch (error) {
    throw loadFailed(file, error)
  }
  if (version !== undefined && version !== VERSION) throw otherVersion(file, version)
  return file
}

/** The native part of this process: this one, or that of the copy that was loaded first. */
function shared(native, file) {
  if (typeof native?.loadedCopies !== 'function') {
    throw loadFailed(file, new Error('it is not the native part of wasm-hostmap'))
  }
  const copies = native.loadedCopies()
  const own = copies.find(copy => copy.isOwn)
  // A file that was replaced while the process runs: the dynamic linker gives what it has by that
  // path.
  if (own.identity.split(' ', 1)[0] !== VERSION) {
    throw twoVersions(own, { path: file, identity: VERSION })
  }
  const [first] = copies
  if (first.identity !== own.identity) throw twoVersions(first, own)
  // Also where it is this one: another copy, or this one in another module cache, may have asked it
  // before in this thread.
  return native.exportsOfFirst()
}

module.exports = load()
