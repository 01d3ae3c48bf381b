'use strict'

// The nodes of Emscripten's FS: files, folders, links, devices, pipes, and the nodes that mounted
// file systems keep in the same table. What a node holds is compared with what it held: an
// operation that somebody forgot to watch can't be missed.
//
// Contents of files are not copied here: support/file-arena.js has them.

const { types } = require('node:util')

const { makeError, unsupportedEngine } = require('./errors.js')
const { isInWasmMemory, makeArena } = require('./file-arena.js')

const { getPrototypeOf, setPrototypeOf } = Object

/** The properties that NodeRecord knows by name, which is ten times as fast as by key. */
const NAMED = new Set(
  (
    'parent mount mounted id name mode rdev node_ops stream_ops readMode writeMode name_next ' +
    'atime mtime ctime timestamp usedBytes contents link'
  ).split(' ')
)

/** What a node held. Nodes of one version of Emscripten have few shapes, so this is fast. */
class NodeRecord {
  constructor(node, keys) {
    this.node = node
    this.keys = keys
    this.parent = node.parent
    this.mount = node.mount
    this.mounted = node.mounted
    this.id = node.id
    this.name = node.name
    this.mode = node.mode
    this.rdev = node.rdev
    this.nodeOps = node.node_ops
    this.streamOps = node.stream_ops
    this.readMode = node.readMode
    this.writeMode = node.writeMode
    this.nameNext = node.name_next
    this.atime = node.atime
    this.mtime = node.mtime
    this.ctime = node.ctime
    /** The one time of Emscripten before 3.1.70. */
    this.timestamp = node.timestamp
    this.link = node.link
    // A lazy file computes its length.
    this.hasLength = Object.getOwnPropertyDescriptor(node, 'usedBytes')?.writable === true
    this.usedBytes = this.hasLength ? node.usedBytes : undefined
    this.contents = node.contents
    /** A folder's names and nodes, in their order; undefined for others. */
    this.names = undefined
    this.children = undefined
    /** Of a folder's object, from which it has no name. */
    this.prototype = undefined
    /** Properties that are not in NAMED: `[key, value, items]`, `items` of a Set. */
    this.others = keys.filter(key => !NAMED.has(key)).map(key => recordOther(node, key))
  }

  /** Whether the node is, or may be, elsewhere in the tree than it was. */
  isMoved() {
    return this.node.name !== this.name || this.node.parent !== this.parent
  }

  restore() {
    if (this.#isSame()) return
    const { node } = this
    this.#restoreKeys()
    if (node.parent !== this.parent) node.parent = this.parent
    if (node.mount !== this.mount) node.mount = this.mount
    if (node.mounted !== this.mounted) node.mounted = this.mounted
    if (node.id !== this.id) node.id = this.id
    if (node.name !== this.name) node.name = this.name
    if (node.mode !== this.mode) node.mode = this.mode
    if (node.rdev !== this.rdev) node.rdev = this.rdev
    if (node.node_ops !== this.nodeOps) node.node_ops = this.nodeOps
    if (node.stream_ops !== this.streamOps) node.stream_ops = this.streamOps
    if (node.readMode !== this.readMode) node.readMode = this.readMode
    if (node.writeMode !== this.writeMode) node.writeMode = this.writeMode
    if (node.name_next !== this.nameNext) node.name_next = this.nameNext
    if (node.atime !== this.atime) node.atime = this.atime
    if (node.mtime !== this.mtime) node.mtime = this.mtime
    if (node.ctime !== this.ctime) node.ctime = this.ctime
    if (node.timestamp !== this.timestamp) node.timestamp = this.timestamp
    if (node.link !== this.link) node.link = this.link
    if (this.hasLength && node.usedBytes !== this.usedBytes) node.usedBytes = this.usedBytes
    if (node.contents !== this.contents) node.contents = this.contents
    for (const [key, value, items] of this.others) {
      if (node[key] !== value) node[key] = value
      if (items !== undefined) refill(value, items)
    }
  }

  /**
   * Compares what operations of the FS change in a node that is there. A node gets its number, its
   * device, its mount and the target of a link when it is made.
   */
  #isSame() {
    const { node } = this
    return (
      node.mtime === this.mtime &&
      node.contents === this.contents &&
      node.name_next === this.nameNext &&
      node.name === this.name &&
      node.parent === this.parent &&
      node.mode === this.mode &&
      node.atime === this.atime &&
      node.ctime === this.ctime &&
      (this.mtime !== undefined || node.timestamp === this.timestamp) &&
      node.mounted === this.mounted &&
      node.node_ops === this.nodeOps &&
      node.stream_ops === this.streamOps &&
      (!this.hasLength || node.usedBytes === this.usedBytes) &&
      this.others.length === 0 &&
      hasKeys(node, this.keys)
    )
  }

  /** Takes away properties that were added, such as `listeners`, and brings back deleted ones. */
  #restoreKeys() {
    const keys = Object.keys(this.node)
    if (sameItems(keys, this.keys)) return
    for (const key of keys) if (!this.keys.includes(key)) delete this.node[key]
    for (const key of this.keys) if (!(key in this.node)) this.node[key] = undefined
  }

  /**
   * `readdir` gives names in the order of the properties, so that order goes back, too. Where no
   * node is new and none was moved, the same names have the same nodes.
   */
  restoreFolder(isMoved) {
    const { contents, names, children } = this
    // A file named `__proto__` becomes the prototype of its folder's object, and is found there.
    if (getPrototypeOf(contents) !== this.prototype) setPrototypeOf(contents, this.prototype)
    const now = Object.keys(contents)
    const isSame = sameItems(now, names)
    if (isSame && !(isMoved && names.some((name, i) => contents[name] !== children[i]))) return
    for (const name of now) delete contents[name]
    names.forEach((name, i) => {
      contents[name] = children[i]
    })
  }
}

function recordOther(node, key) {
  const value = node[key]
  return [key, value, types.isSet(value) ? [...value] : undefined]
}

function refill(set, items) {
  set.clear()
  for (const item of items) set.add(item)
}

/**
 * Whether an object has these properties, in this order. Unlike `Object.keys` this makes no list,
 * which matters for thousands of nodes. Properties that are inherited make it false.
 */
function hasKeys(object, keys) {
  let i = 0
  for (const key in object) if (key !== keys[i++]) return false
  return i === keys.length
}

function sameItems(one, other) {
  if (one.length !== other.length) return false
  for (let i = 0; i < one.length; i++) if (one[i] !== other[i]) return false
  return true
}

/**
 * Records all nodes, and moves the contents of files into an arena.
 *
 * @returns a function that brings them back
 */
function recordNodes(FS) {
  const records = [...allNodes(FS)].map(recordNode(FS))
  const files = records.filter(record => isKept(FS, record))
  // Files that wasm-hostmap/emscripten has mounted know what was written to them.
  const mounted = records.filter(isMounted).map(({ node }) => node.mountedFile.record())
  const arena = makeArena(files)
  // From here on nothing may fail: the engine reads and writes the arena.
  files.forEach((record, i) => {
    record.contents = arena.views[i]
    record.node.contents = arena.views[i]
  })
  const folders = records.filter(({ names }) => names !== undefined)
  const { nextInode } = FS
  let turn = nextTurn(FS)
  return () => {
    arena.restore()
    // Numbers grow as nodes are made, unless another checkpoint was restored in between.
    let isMoved = FS.nextInode !== nextInode || turns.get(FS) !== turn
    turn = nextTurn(FS)
    for (const record of records) {
      isMoved ||= record.isMoved()
      record.restore()
    }
    for (const restoreFile of mounted) restoreFile()
    for (const folder of folders) folder.restoreFolder(isMoved)
  }
}

/** How often a state of an FS was recorded or restored. */
const turns = new WeakMap()

function nextTurn(FS) {
  const turn = (turns.get(FS) ?? 0) + 1
  turns.set(FS, turn)
  return turn
}

function recordNode(FS) {
  // Nodes of one shape share their list of keys.
  const shapes = new Map()
  return node => {
    const own = Object.keys(node)
    const shape = own.join()
    if (!shapes.has(shape)) shapes.set(shape, own)
    const record = new NodeRecord(node, shapes.get(shape))
    if (FS.isDir(node.mode) && isFolder(node.contents)) {
      record.names = Object.keys(node.contents)
      record.children = Object.values(node.contents)
      record.prototype = getPrototypeOf(node.contents)
    }
    return record
  }
}

const isFolder = contents => typeof contents === 'object' && contents !== null

/**
 * Every node that a path, a stream or the table of names leads to. Files that are unlinked, but
 * open, are found by their streams only.
 */
function allNodes(FS) {
  const nodes = new Set()
  const add = node => {
    if (node !== undefined && node !== null) nodes.add(node)
  }
  add(FS.root)
  for (const first of FS.nameTable) {
    for (let node = first; node; node = node.name_next) add(node)
  }
  for (const stream of FS.streams) add(stream?.node)
  // A Set shows what is added to it while one goes through it.
  for (const node of nodes) {
    add(node.parent)
    add(node.mounted?.root)
    if (FS.isDir(node.mode) && isFolder(node.contents)) Object.values(node.contents).forEach(add)
  }
  return nodes
}

const isMounted = ({ node }) => typeof node.mountedFile?.record === 'function'

/** Whether the arena takes the contents of a file. Those of lazy files are never written. */
function isKept(FS, record) {
  const { node, contents } = record
  if (isMounted(record)) return false
  if (!FS.isFile(node.mode) || !isFolder(contents)) return false
  if (Array.isArray(contents)) {
    throw unsupportedEngine({
      engine: 'this Emscripten module',
      missing: `keeps the file ${FS.getPath(node)} as an array of numbers`,
      instead: 'build it with Emscripten 1.38.22 or later'
    })
  }
  if (!types.isTypedArray(contents) || contents.length === 0) return false
  if (contents.BYTES_PER_ELEMENT !== 1) {
    throw makeError(
      'ERR_HOSTMAP_NOT_RESTORABLE',
      `the file ${FS.getPath(node)} has a ${contents.constructor.name} for its contents (from ` +
        'writeFile with canOwn): write a Uint8Array'
    )
  }
  return !types.isSharedArrayBuffer(contents.buffer) && !isInWasmMemory(contents)
}

module.exports = { recordNodes }
