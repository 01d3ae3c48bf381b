'use strict'

// C's mmap() for files of the host that Emscripten shows through NODEFS: mappings of the file's own
// pages in place of copies. A stream of NODEFS has the descriptor (`nfd`), which a region is made
// of.
//
// Replaces `mmap` and `msync` of the module's own NODEFS, which all its files share, for the
// folders that were added, and puts them back. Not the host's fs, and no other module.

const fs = require('node:fs')
const { HostRegion } = require('../../index.js')
const { unsupportedEngine } = require('./errors.js')
const { FileMappings } = require('./file-mappings.js')
const { ENGINE } = require('./emscripten-module.js')
const { callFS, PROT_WRITE, MAP_PRIVATE } = require('./memfs.js')
const { mmapArguments, copyingMmap } = require('./mmap-hook.js')

/** Linux's, as musl defines them. */
const O_ACCMODE = 3
const O_RDWR = 2

/** What FileMappings asks of a file: here all its bytes are the region's, and change under it. */
class HostContents {
  constructor(region, access) {
    this.region = region
    this.start = 0
    this.access = access
    this.base = this.size = region.byteLength
  }
  eachOwn() {}
}

class HostFiles {
  #module
  #FS
  #mounts = new Set()
  /** NODEFS's tables and what they had. */
  #replaced = new Map()
  /** By node: the regions of a file as it is now. */
  #files = new WeakMap()

  constructor(module, FS) {
    this.#module = module
    this.#FS = FS
  }

  /** Maps files below a folder, which NODEFS has mounted. */
  add(path) {
    const { node } = callFS(`The folder ${path}`, () => this.#FS.lookupPath(path, { follow: true }))
    const { mount } = node
    const ops = mount?.type?.stream_ops
    if (typeof ops?.open !== 'function' || typeof mount?.opts?.root !== 'string') {
      throw unsupportedEngine({
        engine: ENGINE,
        missing: `has no NODEFS at ${path}`,
        instead:
          'mount the folder with FS.mount(NODEFS, { root }, path), or mount its files by mountFile()'
      })
    }
    if (typeof ops.mmap !== 'function') {
      throw unsupportedEngine({
        engine: ENGINE,
        missing: 'has a NODEFS without mmap',
        instead: 'use Emscripten 2.0 or later'
      })
    }
    this.#mounts.add(mount)
    if (!this.#replaced.has(ops)) this.#replace(ops)
  }

  #replace(ops) {
    const original = { mmap: ops.mmap, msync: ops.msync }
    this.#replaced.set(ops, original)
    ops.mmap = (stream, ...given) => {
      const asked = mmapArguments(given)
      const mappings = asked && this.#mappingsOf(stream, asked, original)
      if (mappings === undefined) return original.mmap(stream, ...given)
      return mappings.map(asked.length, asked.position, asked.prot, asked.flags)
    }
    ops.msync = (stream, bytes, offset, length, flags) => {
      // Pages of the file itself: what was written is in it.
      if (this.#files.get(stream.node)?.shared?.mappings.isWhole) return 0
      return original.msync(stream, bytes, offset, length, flags)
    }
  }

  /** The mappings for what is asked of a stream; undefined where a copy must do. */
  #mappingsOf(stream, { prot, flags, position }, original) {
    if (!this.#mounts.has(stream.node.mount) || typeof stream.nfd !== 'number') return undefined
    const writes = (prot & PROT_WRITE) !== 0 && (flags & MAP_PRIVATE) === 0
    const writable = (stream.flags & O_ACCMODE) === O_RDWR
    // One that may write serves both, so that they see each other's bytes.
    const kind = writable ? 'shared' : 'readonly'
    try {
      const { dev, ino, size, isFile } = this.#stat(stream.nfd)
      if (!isFile || size <= position) return undefined
      const file = this.#files.get(stream.node) ?? {}
      this.#files.set(stream.node, file)
      const known = file[kind]
      if (known?.dev === dev && known.ino === ino && known.size === size) return known.mappings
      if (writes && !writable) return undefined
      const region = HostRegion.fromFd(stream.nfd)
      const copy = copyingMmap(original, stream.node)
      const fallback = (length, at) => {
        const bytes = Buffer.alloc(Math.max(0, Math.min(length, size - at)))
        const count = fs.readSync(stream.nfd, bytes, 0, bytes.length, at)
        return copy(bytes.subarray(0, count), length)
      }
      const contents = new HostContents(region, kind)
      const mappings = new FileMappings(this.#module, contents, fallback, known?.mappings.taken)
      file[kind] = { dev, ino, size, region, mappings }
      return mappings
    } catch {
      // The file is gone, or can't be mapped: a copy says so to C.
      return undefined
    }
  }

  #stat(fd) {
    const { dev, ino, size, mode } = fs.fstatSync(fd)
    return { dev, ino, size, isFile: (mode & 0o170000) === 0o100000 }
  }

  dispose() {
    for (const [ops, original] of this.#replaced) Object.assign(ops, original)
    this.#replaced.clear()
    this.#mounts.clear()
  }
}

function hostFiles(module, FS) {
  return new HostFiles(module, FS)
}

module.exports = { hostFiles }
