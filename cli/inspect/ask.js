'use strict'

// Asks the threads of another process that have called allowInspect. Which sockets those are, the
// kernel tells: its list of Unix sockets, and which of them the process has open. So it does not
// matter what either process takes for the folder of such things.

const fs = require('node:fs')
const net = require('node:net')
const path = require('node:path')

// As lib/inspect/allow.js names them.
const SOCKET_NAME = /^wasm-hostmap-\d+-\d+-[0-9a-f]{16}\.sock$/
// The kernel's mark of a socket that listens.
const LISTENS = '00010000'
const MOST_SOCKET_BYTES = 107
const MOST_ANSWER_BYTES = 64 * 2 ** 20

/**
 * What the threads of a process say: `{ answers, notes }`. `answers` is not checked yet; `notes`
 * says of whom there is none.
 *
 * @param seconds how long to wait for them: a thread that computes answers when it is done
 */
async function askThreads(pid, seconds) {
  const answers = []
  const notes = []
  const users = usersOf(pid)
  const sockets = socketsOf(pid)
  const asked = await Promise.allSettled(
    sockets.map(async file => {
      const socket = reachable(pid, file)
      refuseStrangers(socket, users)
      return ask(socket, seconds)
    })
  )
  asked.forEach(({ status, value, reason }, i) => {
    const thread = `The thread of ${path.basename(sockets[i])}`
    if (status === 'rejected') notes.push(`${thread} did not answer: ${reason.message}`)
    else if (value?.error !== undefined)
      notes.push(`${thread} could not look: ${JSON.stringify(value.error?.message)}`)
    else answers.push(value)
  })
  return { answers, notes }
}

function socketsOf(pid) {
  try {
    const folder = `/proc/${pid}/fd`
    const open = new Set()
    for (const name of fs.readdirSync(folder)) {
      const inode = /^socket:\[(?<inode>\d+)\]$/.exec(linkOf(path.join(folder, name)))?.groups.inode
      if (inode !== undefined) open.add(inode)
    }
    return fs
      .readFileSync(`/proc/${pid}/net/unix`, 'utf8')
      .split('\n')
      .flatMap(line => {
        const [, , , flags, , , inode, ...rest] = line.trim().split(/ +/)
        const file = rest.join(' ')
        const isOne = flags === LISTENS && open.has(inode) && SOCKET_NAME.test(path.basename(file))
        return isOne && path.isAbsolute(file) ? [file] : []
      })
  } catch {
    return []
  }
}

/** The users that a process is, and root. */
function usersOf(pid) {
  let status = ''
  try {
    status = fs.readFileSync(`/proc/${pid}/status`, 'utf8')
  } catch {
    // It has ended: reading its map says so.
  }
  const ids = /^Uid:\s+(?<ids>[\d\s]+)$/m.exec(status)?.groups.ids ?? ''
  return new Set([0, ...ids.split(/\s+/).filter(Boolean).map(Number)])
}

/**
 * The kernel's list has names as they were given, with their line ends, so that any process can
 * write a line of it: such as one that has the inode of this process's socket, and the name of
 * another.
 */
function refuseStrangers(file, users) {
  const socket = fs.lstatSync(file)
  const folder = fs.lstatSync(path.dirname(file))
  const isTheirs = users.has(socket.uid) && users.has(folder.uid) && (folder.mode & 0o077) === 0
  if (!socket.isSocket() || !folder.isDirectory() || !isTheirs)
    throw new Error("its socket is where other users may put one, and so may be another's")
}

function linkOf(file) {
  try {
    return fs.readlinkSync(file)
  } catch {
    return ''
  }
}

/** The socket as this process reaches it: the other one may have another root, in a container. */
function reachable(pid, file) {
  const inside = `/proc/${pid}/root${file}`
  return Buffer.byteLength(inside) <= MOST_SOCKET_BYTES ? inside : file
}

function ask(file, seconds) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(file)
    const chunks = []
    let byteLength = 0
    const stop = why => {
      clearTimeout(timer)
      socket.destroy()
      reject(new Error(why))
    }
    const timer = setTimeout(
      () =>
        stop(`it has been busy for ${seconds} s, in a computation perhaps; --timeout waits longer`),
      seconds * 1000
    )
    socket.on('error', error => stop(error.message))
    socket.on('data', chunk => {
      byteLength += chunk.length
      if (byteLength > MOST_ANSWER_BYTES) stop('its answer is too long to be one')
      else chunks.push(chunk)
    })
    socket.on('end', () => {
      clearTimeout(timer)
      try {
        resolve(JSON.parse(Buffer.concat(chunks).toString()))
      } catch (error) {
        reject(error)
      }
    })
  })
}

module.exports = { askThreads }
