'use strict'

// A build of the native part whose system calls can be told to fail.

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

const root = path.join(__dirname, '../..')
const target = path.join(root, 'target/inject')

/** Builds it, if there is anything new, and gives its path. */
function build() {
  execFileSync('cargo', ['build', '--locked', '--features', 'inject', '--target-dir', target], {
    cwd: root,
    stdio: 'pipe'
  })
  const built = path.join(target, 'debug/libwasm_hostmap.so')
  // Under a name of its own for each build, since a process may have the last one loaded: what is
  // written over is not.
  const addon = path.join(target, `model-${fs.statSync(built).mtimeMs.toString(36)}.node`)
  if (!fs.existsSync(addon)) {
    fs.copyFileSync(built, `${addon}.${process.pid}`)
    fs.renameSync(`${addon}.${process.pid}`, addon)
  }
  return addon
}

module.exports = { build }
