'use strict'

// allowInspect(): lets the user of this process, and root, ask this thread what inspect() says, by
// `npx wasm-hostmap inspect PID`. Nothing of it exists before it is called.
//
// Who may ask is decided by the file system: the socket is in a folder that is this user's alone.
// What is answered has addresses, sizes and names, and none of the bytes. Nothing is read from who
// asks, so there is nothing to parse.

const fs = require('node:fs')
const path = require('node:path')
const { randomBytes } = require('node:crypto')
const { threadId } = require('node:worker_threads')
const check = require('../support/arguments.js')
const read = require('../support/options.js')
const { makeError } = require('../support/errors.js')
const { usualDirectory } = require('../platform/user-folder.js')
const { inspect } = require('./inspect.js')

// What cli/inspect/ask.js looks for.
const SOCKET_NAME = /^wasm-hostmap-\d+-\d+-[0-9a-f]{16}\.sock$/
// The kernel's limit, less its NUL.
const MOST_SOCKET_BYTES = 107
// One that asks and does not read is let go of, and so are more at once than there is any use for.
const PATIENCE_MS = 10_000
const MOST_ASKING = 32
const MOST_STALE = 64
// A socket is made by one call and listens by another. Between them it looks like a stale one.
const YOUNG_MS = 60_000

async function allowInspect(options) {
  const given = read.allowInspect(options)
  const directory = path.resolve(
    check.optional(given.directory, check.path, 'options.directory') ?? usualDirectory()
  )
  const file = path.join(
    directory,
    `wasm-hostmap-${process.pid}-${threadId}-${randomBytes(8).toString('hex')}.sock`
  )
  if (Buffer.byteLength(file) > MOST_SOCKET_BYTES) {
    throw refused(
      directory,
      `${file} is longer than the ${MOST_SOCKET_BYTES} bytes that a socket's path may have`
    )
  }
  let isNew = false
  let server
  try {
    isNew = makeFolder(directory)
    checkOwn(directory)
    await removeStale(directory)
    server = await listen(file)
  } catch (error) {
    if (isNew) removeFolder(directory)
    throw error.code === 'ERR_HOSTMAP_OPEN_FAILED'
      ? error
      : refused(directory, error.message, error)
  }
  const atExit = () => removeSocket(file)
  process.on('exit', atExit)
  const close = () => {
    process.removeListener('exit', atExit)
    // It removes its file.
    server.close()
  }
  return { path: file, close, [Symbol.dispose]: close }
}

/** Who asks finds nobody there, where it can't be removed. */
function removeSocket(file) {
  try {
    fs.rmSync(file, { force: true })
  } catch {
    // The next one that is made there tries it again.
  }
}

/** One that another thread uses meanwhile is not empty, and stays. */
function removeFolder(directory) {
  try {
    fs.rmdirSync(directory)
  } catch {
    // The next call takes it as it is.
  }
}

/** False: it was there. */
function makeFolder(directory) {
  try {
    fs.mkdirSync(directory, { mode: 0o700 })
    return true
  } catch (error) {
    if (error.code !== 'EEXIST') throw error
    return false
  }
}

/** Proves that nobody else can enter the folder. */
function checkOwn(directory) {
  // Not through a link, which may be somebody else's.
  const found = fs.lstatSync(directory)
  if (!found.isDirectory()) throw refused(directory, 'it is no folder')
  if (found.uid !== process.geteuid())
    throw refused(directory, `it belongs to user ${found.uid}, and this is ${process.geteuid()}`)
  if ((found.mode & 0o077) !== 0) {
    const mode = (found.mode & 0o777).toString(8)
    throw refused(directory, `others may enter it (mode 0${mode}); chmod 0700 ends that`)
  }
  refuseReplaceable(directory)
}

/** A user who may rename a folder can put another into its place after it was looked at. */
function refuseReplaceable(directory) {
  let folder = fs.realpathSync(directory)
  while (folder !== '/') {
    folder = path.dirname(folder)
    const { mode } = fs.statSync(folder)
    if ((mode & 0o002) !== 0 && (mode & 0o1000) === 0)
      throw refused(directory, `anybody may rename what is in ${folder}; chmod +t ends that`)
  }
}

function refused(directory, why, cause) {
  return makeError(
    'ERR_HOSTMAP_OPEN_FAILED',
    `no socket can be made in ${directory}: ${why}. ` +
      'Give another folder by options.directory: one that only the user of this process can enter, and whose parent exists',
    cause === undefined ? undefined : { cause }
  )
}

function listen(file) {
  const net = require('node:net')
  return new Promise((resolve, reject) => {
    const server = net.createServer(answer)
    server.maxConnections = MOST_ASKING
    // For good: later ones are of connections that could not be accepted, and one that nobody heard
    // would end the process. Who asks may do so again.
    server.on('error', reject)
    // Without `exclusive`, a worker of node:cluster would have its primary listen.
    server.listen({ path: file, exclusive: true }, () => {
      // The process ends when it would without it.
      server.unref()
      resolve(server)
    })
  })
}

function answer(socket) {
  socket.unref()
  // Who asks may leave at any time.
  socket.on('error', () => socket.destroy())
  // In all: one that reads a byte now and then would be patient for ever.
  const end = setTimeout(() => socket.destroy(), PATIENCE_MS).unref()
  socket.on('close', () => clearTimeout(end))
  // What is sent is thrown away.
  socket.resume()
  socket.end(answerNow())
}

function answerNow() {
  try {
    // The map of the process is for who asks to read.
    return JSON.stringify(inspect({ processMap: false }))
  } catch (error) {
    return JSON.stringify({ error: { code: error.code ?? null, message: String(error.message) } })
  }
}

/**
 * Sockets of processes that ended without a word: nobody listens there. One that can't be looked at
 * or removed is in nobody's way.
 */
async function removeStale(directory) {
  const oldest = Date.now() - YOUNG_MS
  const old = namesIn(directory)
    .filter(name => SOCKET_NAME.test(name))
    .map(name => path.join(directory, name))
    .filter(file => changedAt(file) < oldest)
  await Promise.all(
    old.slice(0, MOST_STALE).map(async file => {
      if (!(await isListening(file).catch(() => true))) removeSocket(file)
    })
  )
}

function namesIn(directory) {
  try {
    return fs.readdirSync(directory)
  } catch {
    return []
  }
}

function changedAt(file) {
  try {
    return fs.lstatSync(file, { throwIfNoEntry: false })?.mtimeMs
  } catch {
    return undefined
  }
}

function isListening(file) {
  const net = require('node:net')
  return new Promise(resolve => {
    const socket = net.connect(file)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', error => resolve(error.code !== 'ECONNREFUSED'))
  })
}

module.exports = { allowInspect }
