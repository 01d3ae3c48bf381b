'use strict'

// Regions for modules that Emscripten built: mapped into blocks of their own allocator, and mounted
// as files of MEMFS whose bytes are the region, for stdio and for C's mmap().
//
// Leans on what the module shows: its memory (HEAPU8, wasmMemory), _malloc and _free, and its FS
// with MEMFS (support/memfs.js names the hooks). A mounted file is a node of MEMFS with
// `stream_ops` and `node_ops` of its own; nodes that are not mounted keep theirs. Only mapFiles
// replaces functions of the module: `mmap` and `msync` of its NODEFS. Tried with Emscripten 3.1.6
// to 6.0.5, and read in versions from 2.0 on: docs/engines.md.

const { HostRegion } = require('../index.js')
const { makeError } = require('./support/errors.js')
const { emscriptenState } = require('./emscripten-state.js')
const { FileContents } = require('./support/file-contents.js')
const { FileMappings } = require('./support/file-mappings.js')
const { hostFiles } = require('./support/host-files.js')
const { guardedMemoryOf, mustBeModule, mustBeReady } = require('./support/emscripten-module.js')
const { ownBlocks } = require('./support/engine-blocks.js')
const memfs = require('./support/memfs.js')
const { mmapArguments, copyingMmap } = require('./support/mmap-hook.js')

const { ERRNO, MAP_PRIVATE, callFS, filesOf, isLinked, makeFile, nodeAt, touch } = memfs

/** One host for each module. */
const HOSTS = new WeakMap()

const ACCESS = ['readonly', 'private', 'shared']

function emscripten(module) {
  mustBeModule(module)
  mustBeReady(module)
  let host = HOSTS.get(module)
  if (host === undefined) HOSTS.set(module, (host = new EmscriptenHost(module)))
  return host
}

class EmscriptenHost {
  #module
  /** The files that mountFile made and nobody unmounted. */
  #files = new Set()
  #hostFiles = null

  constructor(module) {
    this.#module = module
  }

  get memory() {
    return guardedMemoryOf(this.#module)
  }

  map(region, options = {}) {
    return this.memory.map(region, { ...options, allocator: ownBlocks(this.#module) })
  }

  mountFile(path, region, options = {}) {
    mustBePath(path)
    mustBeRegion(region, 'region')
    mustBeOptions(options)
    const contents = contentsOf(region, options)
    const FS = filesOf(this.#module)
    if (nodeAt(FS, path) !== undefined) {
      throw makeError('ERR_HOSTMAP_ENGINE_REFUSED', `The file ${path}: EEXIST, unlink it first`)
    }
    const file = new MountedFile(this.#module, FS, path, contents, () => this.#files.add(file))
    this.#files.add(file)
    return file
  }

  mountFolder(path, files, options = {}) {
    mustBePath(path)
    mustBeOptions(options)
    if (typeof files !== 'object' || files === null || files instanceof HostRegion) {
      throw makeError('ERR_INVALID_ARG_TYPE', 'files must be an object of names and regions')
    }
    const entries = Object.entries(files)
    for (const [name, region] of entries) {
      if (name === '' || name === '.' || name === '..' || /[/\0]/u.test(name)) {
        throw makeError('ERR_INVALID_ARG_VALUE', `files has '${name}', which is no file name`)
      }
      mustBeRegion(region, `files['${name}']`)
    }
    const FS = filesOf(this.#module)
    const made = nodeAt(FS, path, true) === undefined
    if (made) callFS(`The folder ${path}`, () => FS.mkdir(path, 0o777))
    const mounted = []
    try {
      for (const [name, region] of entries) {
        mounted.push(this.mountFile(`${path === '/' ? '' : path}/${name}`, region, options))
      }
    } catch (error) {
      for (const file of mounted) this.unmount(file)
      if (made) FS.rmdir(path)
      throw error
    }
    return mounted
  }

  mapFiles(path) {
    mustBePath(path)
    this.#hostFiles ??= hostFiles(this.#module, filesOf(this.#module))
    this.#hostFiles.add(path)
  }

  get files() {
    for (const file of this.#files) if (!file.mounted) this.#files.delete(file)
    return [...this.#files]
  }

  unmount(fileOrPath, options = {}) {
    const file =
      typeof fileOrPath === 'string'
        ? this.files.find(mounted => mounted.isAt(fileOrPath))
        : fileOrPath
    if (
      !(file instanceof MountedFile) ||
      (typeof fileOrPath !== 'string' && !file.isOf(this.#module))
    ) {
      const given = typeof fileOrPath === 'string' ? `'${fileOrPath}'` : typeof fileOrPath
      throw makeError('ERR_INVALID_ARG_VALUE', `file must be one that is mounted, not ${given}`)
    }
    file.unmount(options)
    this.#files.delete(file)
  }

  [Symbol.dispose]() {
    this.#hostFiles?.dispose()
    this.#hostFiles = null
    const errors = []
    for (const file of this.files) {
      try {
        this.unmount(file)
      } catch (error) {
        errors.push(error)
      }
    }
    if (errors.length > 0) throw errors[0]
  }
}

class MountedFile {
  #module
  #FS
  #node
  #contents
  #mappings

  /** `restored` is called when emscriptenState has brought the file back, unmounted or not. */
  constructor(module, FS, path, contents, restored) {
    this.#module = module
    this.#FS = FS
    this.#contents = contents
    const node = makeFile(FS, path, contents.access === 'readonly' ? 0o444 : 0o666)
    this.#node = node
    const original = node.stream_ops
    const copy = copyingMmap(original, node)
    this.#mappings = new FileMappings(module, contents)
    node.stream_ops = { ...original, ...this.#streamOps(original, copy) }
    node.node_ops = { ...node.node_ops, ...this.#nodeOps(node.node_ops) }
    // What emscriptenState calls in place of copying `contents`.
    node.mountedFile = { record: () => this.#record(restored) }
    this.#show()
  }

  /** What others read of a node: its size, and the Buffer over the region's part. */
  #show() {
    const { buffer, base, size } = this.#contents
    this.#node.contents = base < buffer.length ? buffer.subarray(0, base) : buffer
    this.#node.usedBytes = size
  }

  #record(restored) {
    const restore = this.#contents.record()
    return () => {
      restore()
      this.#show()
      restored()
    }
  }

  #fail(errno) {
    return new this.#FS.ErrnoError(errno)
  }

  #streamOps(original, copy) {
    const read = (stream, target, offset, length, position) => {
      const count = this.#contents.read(target, offset, length, position)
      if (count < 0) throw this.#fail(ERRNO.EIO)
      return count
    }
    const write = (stream, source, offset, length, position) => {
      if (length > 0) {
        const bytes = ArrayBuffer.isView(source)
          ? source.subarray(offset, offset + length)
          : Uint8Array.from(source.slice(offset, offset + length))
        this.#change(() => this.#contents.write(bytes, position))
        this.#mappings.written(position, position + length)
      }
      return length
    }
    const ops = { read, write }
    if (typeof original.allocate === 'function') {
      ops.allocate = (stream, offset, length) => {
        const size = Math.max(this.#contents.size, offset + length)
        this.#change(() => this.#contents.resize(size))
      }
    }
    if (typeof original.mmap === 'function') {
      ops.mmap = (stream, ...given) => {
        const asked = mmapArguments(given)
        if (asked === undefined) throw this.#fail(ERRNO.EINVAL)
        const { length, position } = asked
        return this.#mappings.map(asked, () => {
          if (this.#contents.isLost(position, length)) throw this.#fail(ERRNO.EIO)
          return copy(this.#contents.slice(position, length), length)
        })
      }
      ops.msync = (stream, bytes, offset, length, flags) => {
        if (flags & MAP_PRIVATE) return 0 // Older versions ask all the same.
        this.#mappings.sync(bytes.subarray(0, length), offset, (changed, at) =>
          this.#change(() => this.#contents.write(changed, at))
        )
        return 0
      }
    }
    return ops
  }

  #nodeOps(original) {
    return {
      setattr: (node, attributes) => {
        const { size, ...others } = attributes
        if (size !== undefined && size !== null) this.#change(() => this.#contents.resize(size))
        original.setattr(node, others)
      }
    }
  }

  /** Calls what changes the bytes or the size, and says to C what can't be. */
  #change(make) {
    if (this.#contents.access === 'readonly') throw this.#fail(ERRNO.EROFS)
    try {
      make()
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      throw this.#fail(this.#contents.access === 'shared' ? ERRNO.EFBIG : ERRNO.ENOSPC)
    }
    touch(this.#node)
    this.#show()
  }

  get path() {
    return this.#FS.getPath(this.#node)
  }
  get region() {
    return this.#contents.region
  }
  get access() {
    return this.#contents.access
  }
  get byteLength() {
    return this.#contents.size
  }
  get mounted() {
    return isLinked(this.#node)
  }
  /** How many mappings of it the adapter made for mmap(). */
  get mappings() {
    return this.#mappings.count
  }

  isOf(module) {
    return this.#module === module
  }
  isAt(path) {
    return nodeAt(this.#FS, path) === this.#node
  }

  unmount(options = {}) {
    mustBeObject(options)
    const { release = false } = options
    if (typeof release !== 'boolean') {
      throw makeError('ERR_INVALID_ARG_TYPE', 'options.release must be a boolean')
    }
    if (this.mounted) callFS(`The file ${this.path}`, () => this.#FS.unlink(this.path))
    if (release) this.#mappings.release()
  }

  [Symbol.dispose]() {
    this.unmount()
  }
}

function mustBePath(path) {
  if (typeof path !== 'string') {
    throw makeError('ERR_INVALID_ARG_TYPE', `path must be a string, not ${typeof path}`)
  }
  if (!path.startsWith('/') || path.includes('\0')) {
    throw makeError(
      'ERR_INVALID_ARG_VALUE',
      `path must be absolute in the module's file system, such as '/data/orders.bin', not '${path}'`
    )
  }
}

function mustBeRegion(region, name) {
  if (region instanceof HostRegion) return
  throw makeError('ERR_INVALID_ARG_TYPE', `${name} must be a HostRegion, not ${typeof region}`)
}

function mustBeObject(options) {
  if (typeof options === 'object' && options !== null) return
  const kind = options === null ? 'null' : typeof options
  throw makeError('ERR_INVALID_ARG_TYPE', `options must be an object, not ${kind}`)
}

/** What of the options of mountFile and mountFolder can be told without a region. */
function mustBeOptions(options) {
  mustBeObject(options)
  for (const name of Object.keys(options)) {
    if (!['access', 'byteOffset', 'byteLength'].includes(name)) {
      throw makeError(
        'ERR_INVALID_ARG_VALUE',
        `options has '${name}'; mountFile takes access, byteOffset and byteLength`
      )
    }
  }
  const { access = 'readonly', byteOffset = 0, byteLength = 0 } = options
  if (!ACCESS.includes(access)) {
    throw makeError('ERR_INVALID_ARG_VALUE', `options.access must be one of ${ACCESS.join(', ')}`)
  }
  for (const [name, value] of Object.entries({ byteOffset, byteLength })) {
    if (typeof value === 'number') continue
    throw makeError('ERR_INVALID_ARG_TYPE', `options.${name} must be a number, not ${typeof value}`)
  }
}

/** Makes what a file is to hold. The region is asked for its bytes, but FS is not touched yet. */
function contentsOf(region, options) {
  const {
    access = 'readonly',
    byteOffset = 0,
    byteLength = region.byteLength - byteOffset
  } = options
  for (const value of [byteOffset, byteLength]) {
    if (!Number.isInteger(value) || value < 0 || byteOffset + byteLength > region.byteLength) {
      throw makeError(
        'ERR_OUT_OF_RANGE',
        `options.byteOffset and byteLength must be in the ${region.byteLength} bytes of the region`
      )
    }
  }
  return new FileContents(region, byteOffset, byteLength, access)
}

module.exports = { emscripten, emscriptenState }
