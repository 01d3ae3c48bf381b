'use strict'

// DuckDB-Wasm over regions: a DuckDBRuntime whose files are regions, and blocks of the module's own
// memory that are a region's pages.
//
// Leans on what @duckdb/duckdb-wasm has had since 1.29: the DuckDBRuntime interface of the blocking
// build, whose functions the package copies to globalThis.DUCKDB_RUNTIME when it instantiates; of
// the module `ccall`, `_malloc`, `_free` and HEAPU8; and the C functions that its own bindings call
// (duckdb_web_fail_with, duckdb_web_fs_get_file_info_by_id, duckdb_web_fs_register_file_buffer).
// Tested with 1.32.0. Nothing of the package is changed: who wants regions passes this runtime to
// it.

const { GuardedMemory, HostRegion } = require('../index.js')
const { makeError, unsupportedEngine } = require('./support/errors.js')
const { pageAllocator } = require('./support/aligned-malloc.js')
const { RegionFile } = require('./support/region-file.js')

// DuckDBDataProtocol.NODE_FS: of those that lead to the runtime, the one that reads and writes.
const NODE_FS = 1
// FileFlags
const WRITE = 2
const APPEND = 32
const NULL_IF_NOT_EXISTS = 128
// WebFileSystem::Read asks again for what was not there, at the same place, without end.
const MAX_EMPTY_READS = 100
// A database's headers: DuckDB writes one at the end of each checkpoint.
const HEADER_BYTES = 3 * 4096

/** The functions that a runtime must have to be passed on to. */
const RUNTIME = ['openFile', 'closeFile', 'readFile', 'writeFile', 'truncateFile', 'checkFile']
/** The openFile of each runtime that was made here. */
const ours = new WeakSet()
/** By module: the names that are regions, and the files that are open, by the engine's number. */
const states = new WeakMap()

const kind = value => (value === null ? 'null' : typeof value)

function stateOf(mod) {
  let state = states.get(mod)
  if (state === undefined) {
    state = { byName: new Map(), open: new Map() }
    states.set(mod, state)
  }
  return state
}

/** Makes DuckDB throw these words: a C++ exception, which passes the frames of its callers. */
function fail(mod, message) {
  mod.ccall('duckdb_web_fail_with', null, ['string'], [message])
}

/**
 * Calls a function that answers with a status, an address and a length. Where the last two are not
 * those of a text they are not set.
 */
function call(mod, name, types, values, { hasText = false } = {}) {
  const stack = mod.stackSave()
  const response = mod.stackAlloc(24)
  mod.ccall(name, null, ['number', ...types], [response, ...values])
  const [status, data, length] = mod.HEAPF64.subarray(response / 8, response / 8 + 3)
  mod.stackRestore(stack)
  const text = hasText || status !== 0 ? textAt(mod, data, length) : undefined
  mod.ccall('duckdb_web_clear_response', null, [], [])
  if (status !== 0) throw new Error(text)
  return text
}

const textAt = (mod, address, length) =>
  Buffer.from(mod.HEAPU8.subarray(address, address + length)).toString()

const baseOf = name => name.slice(name.lastIndexOf('/') + 1)

/** The entry of a name, or of the log that DuckDB writes beside a database, which is ours, too. */
function entryOf(state, name, flags = 0) {
  const entry = state.byName.get(name)
  if (entry !== undefined) return entry
  const of = name.endsWith('.wal') && state.byName.get(name.slice(0, -4))
  if (of) {
    if (of.access === 'private' && flags & WRITE) of.log ??= new RegionFile(null, 'private')
    return { name, access: of.access, file: of.log, madeAt: of.madeAt }
  }
  // COPY TO writes beside the file and then puts it in its place.
  const folder = name.slice(0, name.length - baseOf(name).length)
  if (!(flags & WRITE) || !baseOf(name).startsWith('tmp_')) return undefined
  return state.byName.get(folder + baseOf(name).slice(4))
}

/** What DuckDB gets of a file that it opens: its size, no buffer, and when it was written. */
function opened(mod, entry) {
  const answer = mod._malloc(24)
  mod.HEAPF64.set([entry.file.byteLength, 0, entry.madeAt], answer / 8)
  return answer
}

function regionRuntime(base) {
  const missing = RUNTIME.find(name => typeof base?.[name] !== 'function')
  if (missing !== undefined) {
    throw unsupportedEngine({
      engine: '@duckdb/duckdb-wasm',
      missing: `gave a runtime without ${missing}`,
      instead: 'pass the NODE_RUNTIME of dist/duckdb-node-blocking.cjs'
    })
  }

  const openFile = (mod, fileId, flags) => {
    const state = stateOf(mod)
    const types = ['number', 'number']
    const info = call(mod, 'duckdb_web_fs_get_file_info_by_id', types, [fileId, 0], {
      hasText: true
    })
    const { dataUrl } = JSON.parse(info || '{}') ?? {}
    const entry = dataUrl ? entryOf(state, dataUrl, flags) : undefined
    if (entry === undefined) return base.openFile(mod, fileId, flags)
    if (flags & WRITE && entry.access === 'readonly') {
      const words =
        `"${entry.name}" is a region that is mounted for reading only: ATTACH it with (READ_ONLY), ` +
        "write to another file, or mount it with access: 'private'"
      return fail(mod, words)
    }
    if (entry.file === undefined) {
      return flags & NULL_IF_NOT_EXISTS ? 0 : fail(mod, `There is no file "${dataUrl}"`)
    }
    // WebFileSystem begins at position 0 all the same.
    const start = flags & APPEND ? entry.file.byteLength : 0
    const { file, madeAt } = entry
    state.open.set(fileId, { entry, file, name: dataUrl, madeAt, start, empty: 0 })
    return opened(mod, entry)
  }

  /** The open file of a number, or what the base runtime does with it. */
  const forOpen =
    (name, act) =>
    (mod, fileId, ...rest) => {
      const file = states.get(mod)?.open.get(fileId)
      if (file === undefined) return base[name]?.(mod, fileId, ...rest)
      let words
      try {
        return act(mod, file, ...rest)
      } catch (error) {
        words = `${file.name}: ${error.message}`
      }
      return fail(mod, words)
    }
  /** Whether a path is a region's, or what the base runtime does with it. */
  const forPath = (name, act) => (mod, address, length) => {
    const state = states.get(mod)
    const entry = state && entryOf(state, textAt(mod, address, length))
    return entry === undefined ? base[name]?.(mod, address, length) : act(state, entry)
  }

  const runtime = {
    ...base,
    openFile,
    closeFile(mod, fileId) {
      if (!states.get(mod)?.open.delete(fileId)) return base.closeFile(mod, fileId)
    },
    readFile: forOpen('readFile', (mod, file, address, count, position) => {
      const done = file.file.read(mod.HEAPU8.subarray(address, address + count), position)
      file.empty = done === 0 && count > 0 ? file.empty + 1 : 0
      if (file.empty > MAX_EMPTY_READS) {
        file.empty = 0
        throw new Error(`${count} bytes from ${position} on are past its end`)
      }
      return done
    }),
    writeFile: forOpen('writeFile', (mod, file, address, count, position) => {
      file.file.write(mod.HEAPU8.subarray(address, address + count), file.start + position)
      // The log is in the database now. WebFileSystem does not say that DuckDB removes it.
      if (position < HEADER_BYTES) file.entry.log?.truncate(0)
      return count
    }),
    truncateFile: forOpen('truncateFile', (_, file, size) => {
      file.file.truncate(size)
      file.start = Math.min(file.start, size)
    }),
    syncFile: forOpen('syncFile', () => {}),
    getLastFileModificationTime: forOpen('getLastFileModificationTime', (_, file) => file.madeAt),
    checkFile: forPath('checkFile', (_, entry) => entry.file !== undefined),
    // DuckDB itself finds the names that are registered.
    glob: forPath('glob', () => {}),
    removeFile: forPath('removeFile', () => {}),
    dropFile: forPath('dropFile', (state, entry) => void state.byName.delete(entry.name))
  }
  ours.add(openFile)
  return runtime
}

/** The module of a DuckDB instance; every function of it that is used here was looked for. */
function moduleOf(db) {
  const mod = db?.mod
  if (typeof db?.registerFileURL !== 'function' || typeof db.instantiate !== 'function') {
    const message =
      'The database must be what createDuckDB of the blocking build ' +
      `(dist/duckdb-node-blocking.cjs) resolves with, not ${kind(db)}; an AsyncDuckDB runs in a ` +
      'worker of its own, out of reach'
    throw makeError('ERR_INVALID_ARG_TYPE', message)
  }
  if (!mod) {
    const message =
      'The database has no instance yet: await db.instantiate() and call db.open() first'
    throw makeError('ERR_INVALID_ARG_VALUE', message)
  }
  const missing = ['ccall', '_malloc', '_free', 'stackAlloc', '_duckdb_web_fail_with'].find(
    name => typeof mod[name] !== 'function'
  )
  if (missing !== undefined || !(mod.HEAPU8 instanceof Uint8Array)) {
    throw unsupportedEngine({
      engine: '@duckdb/duckdb-wasm',
      missing: `has a module without ${missing ?? 'HEAPU8'}`,
      instead: 'versions from 1.29 on have it; 1.32.0 was tested'
    })
  }
  return mod
}

function checkRegion(region) {
  if (region instanceof HostRegion) return
  throw makeError('ERR_INVALID_ARG_TYPE', `The region must be a HostRegion, not ${kind(region)}`)
}

function checkName(state, name) {
  if (typeof name !== 'string') {
    throw makeError('ERR_INVALID_ARG_TYPE', `The name must be a string, not ${kind(name)}`)
  }
  if (name === '' || name.includes('\0') || /\.(tmp|wal)$/.test(name)) {
    const message =
      `The name ${JSON.stringify(name)} can't be mounted: it must not be empty, and DuckDB keeps ` +
      'names that end in .tmp or .wal to itself'
    throw makeError('ERR_INVALID_ARG_VALUE', message)
  }
  if (state.byName.has(name)) {
    throw makeError('ERR_INVALID_ARG_VALUE', `"${name}" is mounted already: unmount it first`)
  }
}

function readOptions(options, known) {
  if (options === undefined) return {}
  if (options === null || typeof options !== 'object') {
    throw makeError('ERR_INVALID_ARG_TYPE', `The options must be an object, not ${kind(options)}`)
  }
  const values = { ...options }
  for (const name of Object.keys(values)) {
    if (known.includes(name)) continue
    const message = `There is no option ${name}; the options are ${known.join(', ')}`
    throw makeError('ERR_INVALID_ARG_VALUE', message)
  }
  return values
}

/** The engine gives up a name; what it says if the file is open becomes our error. */
function drop(db, name) {
  try {
    db.dropFile(name)
  } catch (cause) {
    const message =
      `"${name}" is in use: DETACH the database, or end the query that reads the file, and then ` +
      'unmount it'
    throw makeError('ERR_HOSTMAP_FILE_IN_USE', message, { cause })
  }
}

function mountFile(db, name, region, options) {
  const mod = moduleOf(db)
  checkRegion(region)
  const state = stateOf(mod)
  checkName(state, name)
  const { access = 'readonly' } = readOptions(options, ['access'])
  if (access !== 'readonly' && access !== 'private') {
    const given = typeof access === 'string' ? `'${access}'` : kind(access)
    const message = `The access must be 'readonly' or 'private', not ${given}`
    throw makeError('ERR_INVALID_ARG_VALUE', message)
  }
  // The package keeps one runtime for all instances of a thread: that of the last one.
  if (!ours.has(globalThis.DUCKDB_RUNTIME?.openFile)) {
    throw unsupportedEngine({
      engine: '@duckdb/duckdb-wasm',
      missing: 'reads its files through a runtime that knows no regions',
      instead:
        'pass regionRuntime(NODE_RUNTIME) to createDuckDB, for every instance of this thread: the ' +
        'runtime of the one that was instantiated last serves all of them'
    })
  }
  const file = new RegionFile(region, access)
  const entry = { name, access, file, madeAt: Date.now() / 1000 }
  state.byName.set(name, entry)
  // Past DuckDB's own buffer of pages, which would keep a second copy of what was read, and would
  // write to a log by the handle that it was read by.
  const names = access === 'private' ? [name, `${name}.wal`] : [name]
  const register = () => names.forEach(each => db.registerFileURL(each, each, NODE_FS, true))
  try {
    register()
  } catch (error) {
    state.byName.delete(name)
    throw error
  }
  const unmount = () => {
    if (state.byName.get(name) !== entry) return
    try {
      names.forEach(each => drop(db, each))
    } catch (error) {
      // The failed call gave up the name, which would end with the open file: take it back.
      state.byName.set(name, entry)
      register()
      throw error
    }
    state.byName.delete(name)
  }
  return handle(state, entry, region, unmount)
}

/** What the caller gets of a name. */
const handle = (state, entry, region, unmount) => ({
  name: entry.name,
  region,
  access: entry.access,
  get mounted() {
    return state.byName.get(entry.name) === entry
  },
  unmount,
  [Symbol.dispose]: unmount
})

function mapFile(db, name, region) {
  const mod = moduleOf(db)
  checkRegion(region)
  const state = stateOf(mod)
  checkName(state, name)
  const mapping = GuardedMemory.from(() => mod.HEAPU8.buffer).map(region, {
    access: 'private',
    allocator: pageAllocator(mod)
  })
  const types = ['string', 'number', 'number']
  try {
    const values = [name, mapping.address, mapping.byteLength]
    call(mod, 'duckdb_web_fs_register_file_buffer', types, values)
  } catch (error) {
    // DuckDB has freed the block.
    mapping.unmap()
    throw error
  }
  const unmount = () => {
    // Not if db.dropFile() has done it.
    if (state.byName.get(name) === entry) drop(db, name)
    state.byName.delete(name)
    // Its allocator may have written into the block, or given it out again: such pages stay.
    mapping.unmap()
  }
  const entry = { name, access: 'private' }
  state.byName.set(name, entry)
  return handle(state, entry, region, unmount)
}

module.exports = { regionRuntime, mountFile, mapFile }
