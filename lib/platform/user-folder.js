'use strict'

// The folder of this user in which processes meet.

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

/**
 * As systems have it: a folder that is this user's alone, and ends with their last session. The
 * variable may be another user's after `su` and `sudo`, name nothing in a container, and a folder
 * that others may write to in WSL.
 */
function usualDirectory() {
  const runtime = process.env.XDG_RUNTIME_DIR
  return isOwnFolder(runtime)
    ? path.join(runtime, 'wasm-hostmap')
    : path.join(os.tmpdir(), `wasm-hostmap-${process.geteuid()}`)
}

function isOwnFolder(folder) {
  if (!folder || !path.isAbsolute(folder)) return false
  try {
    const found = fs.statSync(folder)
    // Others that may write to it can put another folder into the place of the one in it.
    const isOwn = found.uid === process.geteuid() && (found.mode & 0o022) === 0
    return found.isDirectory() && isOwn
  } catch {
    return false
  }
}

module.exports = { usualDirectory }
