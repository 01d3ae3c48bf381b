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
const { mmapArguments } = require('./mmap-hook.js')

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
  /**
   * By node: `{ readonly, shared }`, the regions of a file as it is now, and `isApart`: whether C
   * has, or had, something else that it may write to the file from.
   */
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
      const copy = () => original.mmap(stream, ...given)
      if (asked === undefined || !this.#mounts.has(stream.node.mount)) return copy()
      const file = this.#fileOf(stream.node)
      const mappings = this.#mappingsOf(stream, asked, file)
      if (mappings !== undefined) return mappings.map(asked, copy)
      file.isApart ||= (asked.flags & MAP_PRIVATE) === 0
      return copy()
    }
    ops.msync = (stream, bytes, offset, length, flags) => {
      // Pages of the file itself: what was written is in it.
      const file = this.#files.get(stream.node)
      if (file?.shared?.mappings.isWhole && !file.isApart) return 0
      return original.msync(stream, bytes, offset, length, flags)
    }
  }

  #fileOf(node) {
    if (!this.#files.has(node)) this.#files.set(node, { isApart: false })
    return this.#files.get(node)
  }

  /** The mappings for what is asked of a stream; undefined where a copy must do. */
  #mappingsOf(stream, { prot, flags, position }, file) {
    if (typeof stream.nfd !== 'number') return undefined
    const writes = (prot & PROT_WRITE) !== 0 && (flags & MAP_PRIVATE) === 0
    const writable = (stream.flags & O_ACCMODE) === O_RDWR
    // One that may write serves both, so that they see each other's bytes.
    const kind = writable ? 'shared' : 'readonly'
    try {
      const { dev, ino, size, isFile } = this.#stat(stream.nfd)
      if (!isFile || size <= position) return undefined
      const known = file[kind]
      if (known?.dev === dev && known.ino === ino && known.size === size) return known.mappings
      if (writes && !writable) return undefined
      const region = HostRegion.fromFd(stream.nfd)
      const contents = new HostContents(region, kind)
      const mappings = new FileMappings(this.#module, contents, known?.mappings.taken)
      if (known?.mappings.isWhole === false) file.isApart = true
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
