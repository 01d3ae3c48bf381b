'use strict'

// The native part. Requires one file, by its path: no other package's name is ever tried, so that
// nothing can be taken for a binary that is missing.
//
// Where another copy of this package was loaded before, its native part serves this one too: one
// mapping table and one signal handler for a process (src/js/copies.rs).

const path = require('node:path')
const {
  VERSION,
  unsupported,
  override,
  binaryPath,
  loadFailed,
  twoVersions
} = require('./platform.js')

function load() {
  const refusal = unsupported()
  if (refusal) throw refusal

  const other = override()
  const file = other ? path.resolve(other) : binaryPath()
  let native
  try {
    native = require(file)
  } catch (error) {
    throw loadFailed(file, error)
  }
  return shared(native, file)
}

/** The native part of this process: this one, or that of the copy that was loaded first. */
function shared(native, file) {
  // A build from before there was such a thing has no such function, and no version to compare.
  const copies = native.loadedCopies?.() ?? [{ isOwn: true, identity: '', path: file }]
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
