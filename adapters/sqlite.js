'use strict'

// SQLite's own Wasm module, @sqlite.org/sqlite-wasm, over regions: by a VFS, or mapped into its
// memory for sqlite3_deserialize. Tried with 3.50.4 and 3.54.1.
//
// Leans on what sqlite3InitModule() resolves to: `vfs.installVfs`, `capi.sqlite3_vfs` and
// `capi.sqlite3_io_methods`, `oo1.DB` with its `onclose`, `wasm.memory`, `wasm.exports.malloc` and
// `free`, and 64-bit integers as BigInts. SQLite's xFetch would spare a copy, but the module is
// built without it (SQLITE_MAX_MMAP_SIZE=0).
//
// This file checks arguments and holds no state of SQLite's: that is in support/sqlite-*.js.

const fs = require('node:fs')
const { GuardedMemory } = require('../index.js')
const { makeError, unsupportedEngine } = require('./support/errors.js')
const { Image } = require('./support/sqlite-files.js')
const { installVfs } = require('./support/sqlite-vfs.js')

// KiB. A page that is not in SQLite's cache costs the copy of a page, and no system call; a cache
// that the processor's holds as well makes scans and joins faster than SQLite's 16 MiB.
const CACHE_KIB = 4096
const ACCESS = ['readonly', 'private']
const JOURNAL_MAGIC = Buffer.from('d9d505f920a163d7', 'hex')
const MAGIC = 'SQLite format 3\0'
// Bytes of the header: the versions of the format for writing and reading; 2 for WAL.
const FORMAT = 18
const LEGACY = 1
const WAL = 2

// The VFS of each module. SQLite keeps it as long as the module lives.
const installed = new WeakMap()
let images = 0

function openDatabase(sqlite3, region, options) {
  const mounted = mountDatabase(sqlite3, region, options)
  try {
    const db = mounted.open()
    // Once the connection is closed, the image goes.
    mounted.close()
    return db
  } catch (error) {
    mounted.close()
    throw error
  }
}

function mountDatabase(sqlite3, region, options) {
  checkModule(sqlite3)
  checkRegion(region)
  const { access } = readOptions(options, ['access'])
  const vfs = vfsOf(sqlite3)
  const fd = fileOf(region)
  let image
  try {
    checkJournals(region, fd)
    // All names are of this process, so that they stay apart in two copies of a module, too.
    image = new Image(region, `hostmap-${++images}.db`, access === 'private', fd)
  } catch (error) {
    if (fd !== null) fs.closeSync(fd)
    throw error
  }
  // SQLite has no WAL here: its index needs memory that connections share.
  if (image.isPrivate && image.size > FORMAT + 1) leaveWal(image)
  vfs.images.set(image.filename, image)
  return new MountedDatabase(sqlite3, vfs, image)
}

function vfsOf(sqlite3) {
  let vfs = installed.get(sqlite3)
  if (vfs === undefined) {
    vfs = installVfs(sqlite3)
    installed.set(sqlite3, vfs)
  }
  return vfs
}

/** A region that connections can open. See the declarations. */
class MountedDatabase {
  #sqlite3
  #vfs
  #image

  constructor(sqlite3, vfs, image) {
    this.#sqlite3 = sqlite3
    this.#vfs = vfs
    this.#image = image
  }

  get filename() {
    return this.#image.filename
  }

  get vfs() {
    return this.#vfs.name
  }

  get uri() {
    return `file:${this.#image.filename}?vfs=${this.#vfs.name}`
  }

  get access() {
    return this.#image.isPrivate ? 'private' : 'readonly'
  }

  get byteLength() {
    return this.#image.size
  }

  get connections() {
    return this.#image.open
  }

  get closed() {
    return this.#image.isReleased
  }

  open() {
    const { filename, isPrivate, isReleased } = this.#image
    if (isReleased) {
      throw makeError('ERR_HOSTMAP_UNMOUNTED', `${filename} was closed: mount its region again`)
    }
    const { DB } = this.#sqlite3.oo1
    const db = new DB({ filename, flags: isPrivate ? 'w' : 'r', vfs: this.#vfs.name })
    try {
      // This reads the schema: what is no database is refused here, by SQLite.
      db.exec(`PRAGMA cache_size = -${CACHE_KIB}`)
    } catch (error) {
      db.close()
      throw error
    }
    return db
  }

  close() {
    if (this.#image.isReleased) return
    this.#image.isReleased = true
    if (this.#image.open === 0) this.#vfs.release(this.#image)
  }

  [Symbol.dispose]() {
    this.close()
  }
}

function deserialize(sqlite3, db, region, options) {
  checkModule(sqlite3)
  const { malloc, free } = sqlite3.wasm.exports
  if (typeof malloc !== 'function' || typeof free !== 'function') {
    throw unsupported(sqlite3, 'does not export malloc and free')
  }
  if (!(db instanceof sqlite3.oo1.DB) || !db.isOpen()) {
    throw wrongType('db', 'an open sqlite3.oo1.DB of this module', db)
  }
  checkRegion(region)
  const { access, schema } = readOptions(options, ['access', 'schema'])
  const fd = fileOf(region)
  try {
    checkJournals(region, fd)
  } finally {
    if (fd !== null) fs.closeSync(fd)
  }

  const { capi, wasm } = sqlite3
  const isWal = readHeader(region)?.[FORMAT] === WAL
  const mapping = GuardedMemory.from(wasm.memory).map(region, {
    allocator: { malloc, free },
    access: isWal ? 'private' : access
  })
  try {
    const { pointer, byteLength } = mapping
    if (isWal) wasm.heap8u().fill(LEGACY, pointer + FORMAT, pointer + FORMAT + 2)
    // SQLite does not free the block: it is no block of sqlite3_malloc, and begins at a page.
    const flags = access === 'readonly' ? capi.SQLITE_DESERIALIZE_READONLY : 0
    const size = byteLength
    db.checkRc(capi.sqlite3_deserialize(db.pointer, schema, pointer, size, size, flags))
  } catch (error) {
    mapping.unmap()
    throw error
  }
  unmapAfterClose(db, mapping)
  return mapping
}

/** SQLite reads the mapping until the connection is closed. */
function unmapAfterClose(db, mapping) {
  const { before, after } = db.onclose ?? {}
  db.onclose = {
    ...db.onclose,
    before,
    after(closed) {
      mapping.unmap()
      return after?.call(this, closed)
    }
  }
}

function checkModule(sqlite3) {
  if (typeof sqlite3 !== 'object' || sqlite3 === null || !sqlite3.capi || !sqlite3.wasm) {
    throw wrongType('sqlite3', 'what sqlite3InitModule() of SQLite resolves to', sqlite3)
  }
  const { capi, oo1, vfs, wasm } = sqlite3
  if (typeof vfs?.installVfs !== 'function' || !capi.sqlite3_io_methods || !oo1?.DB) {
    throw unsupported(sqlite3, 'has no vfs.installVfs with what it needs')
  }
  if (!wasm.bigIntEnabled) throw unsupported(sqlite3, 'is built without BigInts')
  if (capi.sqlite3_file?.structInfo.sizeof !== 4) throw unsupported(sqlite3, 'has 64-bit pointers')
}

function unsupported(sqlite3, missing) {
  return unsupportedEngine({
    engine: 'SQLite',
    version: sqlite3.version?.libVersion,
    missing,
    instead: 'use a version of @sqlite.org/sqlite-wasm that docs/engines.md names'
  })
}

function checkRegion(region) {
  const isRegion = typeof region?.bytes === 'function' && typeof region.duplicateFd === 'function'
  if (!isRegion) throw wrongType('region', 'a HostRegion', region)
}

function wrongType(name, expected, given) {
  const what = given === null ? 'null' : typeof given
  return makeError('ERR_INVALID_ARG_TYPE', `${name} must be ${expected}, not ${what}`)
}

function readOptions(options = {}, known) {
  if (typeof options !== 'object' || options === null)
    throw wrongType('options', 'an object', options)
  const unknown = Object.keys(options).find(name => !known.includes(name))
  if (unknown !== undefined) {
    const message = `there is no option '${unknown}': known are ${known.join(', ')}`
    throw makeError('ERR_INVALID_ARG_VALUE', message)
  }
  const { access = 'readonly', schema = 'main' } = options
  if (!ACCESS.includes(access)) {
    const given = typeof access === 'string' ? `'${access}'` : typeof access
    const message = `options.access must be 'readonly' or 'private', not ${given}`
    throw makeError('ERR_INVALID_ARG_VALUE', message)
  }
  if (typeof schema !== 'string') throw wrongType('options.schema', 'a string', schema)
  return { access, schema }
}

/** A descriptor of the region's file; null of a memfd, beside which no journals are. */
function fileOf(region) {
  if (region.backing === 'file') return region.duplicateFd()
  // A region that was closed is refused by this.
  region.bytes({ byteLength: 0 })
  return null
}

/** The first 100 bytes, if they are a database's header. */
function readHeader(region) {
  if (region.byteLength < 100) return null
  const header = region.bytes({ access: 'readonly', byteLength: 100 })
  return header.toString('latin1', 0, MAGIC.length) === MAGIC ? header : null
}

/**
 * A journal beside the file holds transactions that are not in the file, or what takes a half
 * written one back. A region has only what is in the file.
 */
function checkJournals(region, fd) {
  if (fd === null || readHeader(region) === null) return
  let path
  try {
    path = fs.readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    // Without /proc nobody knows what is beside it.
    return
  }
  const wal = lookAt(`${path}-wal`)
  if (wal?.isFile() && wal.size > 0) {
    throw makeError(
      'ERR_HOSTMAP_SQLITE_JOURNAL',
      `${path}-wal has ${wal.size} bytes, transactions that ${path} may lack: close its writers, ` +
        "or run 'PRAGMA wal_checkpoint(TRUNCATE)' on it"
    )
  }
  if (lookAt(`${path}-journal`)?.isFile() && startsWith(`${path}-journal`, JOURNAL_MAGIC)) {
    throw makeError(
      'ERR_HOSTMAP_SQLITE_JOURNAL',
      `${path}-journal belongs to a transaction that is not finished: open ${path} with the ` +
        'native SQLite once, which takes it back, or wait until its writer is done'
    )
  }
}

/** undefined where there is nothing, or where the name is too long for anything. */
function lookAt(path) {
  try {
    return fs.statSync(path, { throwIfNoEntry: false })
  } catch (error) {
    if (error.code === 'ENAMETOOLONG') return undefined
    throw error
  }
}

function startsWith(path, bytes) {
  let fd
  try {
    fd = fs.openSync(path)
  } catch (error) {
    if (error.code === 'ENOENT') return false
    throw error
  }
  try {
    const start = Buffer.alloc(bytes.length)
    fs.readSync(fd, start, 0, start.length, 0)
    return start.equals(bytes)
  } finally {
    fs.closeSync(fd)
  }
}

/** A private image of a database in WAL mode leaves that mode. */
function leaveWal(image) {
  const header = new Uint8Array(100)
  image.read(header, 0, header.length, 0)
  const isDatabase = Buffer.from(header.buffer).toString('latin1', 0, MAGIC.length) === MAGIC
  if (isDatabase && header[FORMAT] === WAL) image.write(Uint8Array.of(LEGACY, LEGACY), FORMAT)
}

module.exports = { openDatabase, mountDatabase, deserialize }
