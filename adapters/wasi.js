'use strict'

// The JavaScript half of a program that runs under node:wasi: which descriptors are open. Their
// table is native, and neither node:wasi nor uvwasi below it can list it; so the functions that
// change it are watched, from before the instance is made.
//
// Leans on node:wasi: `wasiImport`, whose functions are own properties that can be replaced, and
// throw ERR_WASI_NOT_STARTED before the start; that a new table has no holes; and that
// fd_fdstat_set_rights refuses rights that a descriptor does not have, without a system call.

const fs = require('node:fs')
const { makeError, unsupportedEngine } = require('./support/errors.js')

// Of errno, as WASI has them.
const SUCCESS = 0
const BADF = 8
// Of `whence`.
const SET = 0

// What can be changed of an open file (F_SETFL), by the host's bits and by WASI's. uvwasi gives the
// host's, and takes WASI's.
const FLAGS = [
  [fs.constants.O_APPEND, 1],
  [fs.constants.O_NONBLOCK, 4]
]

// No descriptor has all rights.
const ALL_RIGHTS = 2n ** 64n - 1n

// What the calls write here, and what was here is put back.
const SCRATCH = 0
const SCRATCH_BYTES = 24

const FUNCTIONS = [
  'path_open',
  'fd_close',
  'fd_renumber',
  'fd_fdstat_get',
  'fd_fdstat_set_flags',
  'fd_fdstat_set_rights',
  'fd_seek',
  'fd_tell'
]

// By the WASI: what wasiState gave of it.
const states = new WeakMap()

function wasiState(wasi) {
  if (typeof wasi !== 'object' || wasi === null) {
    throw makeError(
      'ERR_INVALID_ARG_TYPE',
      `wasi must be a WASI of node:wasi, not ${wasi === null ? null : typeof wasi}`
    )
  }
  if (!states.has(wasi)) states.set(wasi, stateOf(wasi))
  return states.get(wasi)
}

function stateOf(wasi) {
  checkFresh(wasi)
  const descriptors = watch(wasi)
  const state = () => {
    const fields = fieldsOf(wasi)
    const restore = descriptors.keep()
    return () => {
      for (const [key, value] of fields) if (wasi[key] !== value) wasi[key] = value
      restore()
    }
  }
  return Object.assign(state, { close: () => descriptors.close() })
}

/** Throws unless it is node:wasi's, and no instance can have called it yet. */
function checkFresh({ wasiImport }) {
  const missing = FUNCTIONS.find(name => typeof wasiImport?.[name] !== 'function')
  let answer
  try {
    answer = missing ?? wasiImport.fd_fdstat_set_rights(0, ALL_RIGHTS, ALL_RIGHTS)
  } catch (error) {
    if (error.code === 'ERR_WASI_NOT_STARTED') return
    answer = error.message
  }
  if (typeof answer === 'number') {
    throw makeError(
      'ERR_HOSTMAP_NOT_RESTORABLE',
      'the WASI was started, so that nobody knows which descriptors its program has opened; call wasiState(wasi) before its instance is made, and in the same make'
    )
  }
  throw unsupportedEngine({
    engine: 'this WASI',
    missing: `is none of node:wasi (${answer})`,
    instead: 'pass what new WASI() of node:wasi gives'
  })
}

/** Whether it is started, the exit code, the instance: what start() and proc_exit set. */
const fieldsOf = wasi =>
  Reflect.ownKeys(wasi)
    .map(key => [key, Object.getOwnPropertyDescriptor(wasi, key)])
    .filter(([, { writable }]) => writable)
    .map(([key, { value }]) => [key, value])

/**
 * Replaces the functions that change the table of descriptors by ones that note what they did.
 *
 * The table is a Map of descriptors to tokens. A token is one open file: a descriptor that was
 * closed, and is another file now, has another one.
 */
function watch(wasi) {
  const { wasiImport, initialize } = wasi
  const native = { ...wasiImport }
  // The memory that node:wasi writes to, once there is one.
  let memory
  // Undefined until a call could change it.
  let table
  // What it was then.
  let initial
  let tokens = 0
  // How often the table was changed.
  let version = 0
  // Of tokens whose flags or rights a program has set: what they were before, and are.
  const stats = new Map()
  // Why nothing can be restored any more; undefined if it can.
  let failure

  const isThere = fd => native.fd_fdstat_set_rights(fd, ALL_RIGHTS, ALL_RIGHTS) !== BADF

  function look() {
    if (table !== undefined) return
    const found = new Map()
    for (let fd = 0; isThere(fd); fd++) found.set(fd, ++tokens)
    initial = new Map(found)
    table = found
  }

  /** Calls a function that writes to the scratch, and gives `read` a view of what it wrote. */
  function withScratch(call, read) {
    const { buffer } = memory
    if (buffer.byteLength < SCRATCH_BYTES) throw lost('the memory of the program has no bytes')
    const bytes = new Uint8Array(buffer, SCRATCH, SCRATCH_BYTES)
    const before = bytes.slice()
    try {
      return call() === SUCCESS ? read(new DataView(buffer, SCRATCH, SCRATCH_BYTES)) : undefined
    } finally {
      bytes.set(before)
    }
  }

  const statOf = fd =>
    withScratch(
      () => native.fd_fdstat_get(fd, SCRATCH),
      view => ({
        flags: wasiFlags(view.getUint16(2, true)),
        rights: `${view.getBigUint64(8, true)},${view.getBigUint64(16, true)}`
      })
    )

  const positionOf = fd =>
    withScratch(
      () => native.fd_tell(fd, SCRATCH),
      view => view.getBigUint64(0, true)
    )

  const seek = (fd, position) =>
    withScratch(
      () => native.fd_seek(fd, position, SET, SCRATCH),
      () => true
    )

  /** The host's: standard input and output, unless the program has put files in their place. */
  const isHosts = (fd, token) => fd < 3 && initial.get(fd) === token

  function changed() {
    version += 1
  }

  /** Watches a function that writes a new descriptor to the address in its last argument. */
  const opening = name =>
    replace(name, args => {
      const errno = native[name](...args)
      if (errno !== SUCCESS) return errno
      const fd = new DataView(memory.buffer).getUint32(args.at(-1) >>> 0, true)
      // Another thread of the program has written there, or the memory is another one.
      if (table.has(fd)) failure ??= lost(`a program has opened descriptor ${fd} twice`)
      table.set(fd, ++tokens)
      changed()
      return errno
    })

  /** Watches a function that sets flags or rights. */
  const setting = name =>
    replace(name, args => {
      const [fd] = args
      const token = table.get(fd)
      if (token !== undefined && !stats.has(token)) {
        const stat = statOf(fd)
        stats.set(token, { first: stat, now: stat })
      }
      const errno = native[name](...args)
      if (errno === SUCCESS && token !== undefined) stats.get(token).now = statOf(fd)
      return errno
    })

  function replace(name, call) {
    wasiImport[name] = (...args) => {
      look()
      return call(args)
    }
  }

  opening('path_open')
  if (typeof native.sock_accept === 'function') opening('sock_accept')
  replace('fd_close', args => {
    const errno = native.fd_close(...args)
    if (errno === SUCCESS) forget(args[0])
    return errno
  })
  replace('fd_renumber', args => {
    const errno = native.fd_renumber(...args)
    const [from, to] = args
    if (errno !== SUCCESS || from === to) return errno
    const token = table.get(from)
    forget(to)
    table.delete(from)
    table.set(to, token)
    return errno
  })
  setting('fd_fdstat_set_flags')
  setting('fd_fdstat_set_rights')

  /** It is closed, and nothing brings it back. */
  function forget(fd) {
    stats.delete(table.get(fd))
    table.delete(fd)
    changed()
  }

  for (const name of ['start', 'initialize', 'finalizeBindings']) {
    const before = wasi[name]
    if (typeof before !== 'function') continue
    const value = function (...args) {
      const [instance, options] = args
      const previous = memory
      memory = options?.memory ?? instance?.exports?.memory
      try {
        return Reflect.apply(before, this, args)
      } catch (error) {
        if (error?.code === 'ERR_WASI_ALREADY_STARTED') memory = previous
        throw error
      }
    }
    Object.defineProperty(wasi, name, { value, writable: true, configurable: true })
  }

  function keep() {
    if (failure !== undefined) throw failure
    if (memory !== undefined) look()
    const kept = {
      memory,
      // Undefined where the program has not been started: what it has at its start.
      table: table === undefined ? undefined : new Map(table),
      positions: [],
      stats: new Map([...stats].map(([token, { now }]) => [token, now])),
      version: table === undefined ? undefined : version
    }
    for (const [fd, token] of table ?? []) {
      if (isHosts(fd, token)) continue
      const position = positionOf(fd)
      if (position !== undefined) kept.positions.push([fd, position])
    }
    return () => {
      if (failure !== undefined) throw failure
      try {
        restore(kept)
      } catch (error) {
        // Nobody can use it any more, and no collection closes them.
        close()
        failure = error
        throw error
      }
    }
  }

  function restore(kept) {
    // No call since the start has changed anything.
    if (table !== undefined) {
      const wanted = kept.table ?? initial
      if (kept.version !== version) {
        checkOpen(wanted)
        closeOthers(wanted)
        kept.version = version
      }
      if (isThere(lowestFree(wanted))) {
        throw lost(
          'the program has opened descriptors by functions that are not watched: call wasiState(wasi) before its import object is made'
        )
      }
      for (const [fd, token] of stats.size > 0 ? wanted : []) restoreStat(fd, token, kept)
      for (const [fd, position] of kept.positions) {
        if (seek(fd, position) === undefined)
          throw lost(`descriptor ${fd} can't be put back to its position`)
      }
    }
    memory = kept.memory
  }

  function checkOpen(wanted) {
    for (const [fd, token] of wanted) {
      if (table.get(fd) === token) continue
      throw lost(`descriptor ${fd} was closed, or is another file now, and can't be opened again`)
    }
  }

  function closeOthers(wanted) {
    for (const fd of [...table.keys()]) {
      if (wanted.has(fd)) continue
      const errno = native.fd_close(fd)
      if (errno !== SUCCESS) throw lost(`descriptor ${fd} can't be closed (errno ${errno})`)
      forget(fd)
    }
  }

  function restoreStat(fd, token, kept) {
    const stat = stats.get(token)
    if (stat === undefined) return
    const wanted = kept.stats.get(token) ?? stat.first
    if (wanted.rights !== stat.now.rights)
      throw lost(`rights of descriptor ${fd} were taken away, which nobody can give back`)
    if (wanted.flags === stat.now.flags) return
    native.fd_fdstat_set_flags(fd, wanted.flags)
    stat.now = statOf(fd)
    if (stat.now.flags !== wanted.flags) throw lost(`flags of descriptor ${fd} can't be set back`)
  }

  /** Only what is started gives its descriptors away. */
  function startEmpty() {
    memory = new WebAssembly.Memory({ initial: 1 })
    Reflect.apply(initialize, wasi, [{ exports: { memory } }])
  }

  function close() {
    failure ??= makeError(
      'ERR_HOSTMAP_NOT_RESTORABLE',
      'the descriptors of the program were closed, by close()'
    )
    if (table === undefined && memory === undefined) startEmpty()
    look()
    for (const [fd, token] of table) {
      if (isHosts(fd, token)) continue
      native.fd_close(fd)
      forget(fd)
    }
  }

  return { keep, close }
}

function lowestFree(table) {
  let fd = 0
  while (table.has(fd)) fd++
  return fd
}

const wasiFlags = bits =>
  FLAGS.reduce((sum, [host, flag]) => ((bits & host) === host ? sum | flag : sum), 0)

const lost = why => makeError('ERR_HOSTMAP_NOT_RESTORABLE', why)

module.exports = { wasiState }
