'use strict'

// Processes with a build of the native part whose system calls can be told to fail.

const { execFileSync, spawnSync } = require('node:child_process')
const path = require('node:path')
const inject = require('../model/inject.cjs')
const { nativePath } = require('./native')

const root = path.join(__dirname, '../..')
const hasCargo = spawnSync('cargo', ['--version']).status === 0

let addon
/** Before the first `inChild`. May take minutes. */
function build() {
  addon ??= inject.build()
}

/** Runs a function in a process that has the build; gives what it gives. */
function inChild(main) {
  const source = `
    const hostmap = require(${JSON.stringify(root)})
    const native = require(${JSON.stringify(nativePath())})
    const fs = require('node:fs')
    const EIO = 5, ENOMEM = 12, EACCES = 13
    // Installs the fault guard, whose own calls are not the ones that are to fail.
    hostmap.limits()
    const files = () => fs.readdirSync('/proc/self/fd').length
    const mapped = () => fs.readFileSync('/proc/self/maps', 'latin1').split('\\n').filter(line => line.includes('/memfd:')).length
    /** What the call gives or throws when this system call fails. */
    function failing(syscall, before, errno, call) {
      native.injectFailure(syscall, before, errno)
      let error = null
      try { call() } catch (caught) { error = caught }
      const went = !native.forgetFailures()
      return { went, code: error?.code, errno: error?.errno, syscall: error?.syscall }
    }
    Promise.resolve((${main})()).then(result => console.log(JSON.stringify(result)))`
  const stdout = execFileSync(process.execPath, ['-e', source], {
    cwd: root,
    env: { ...process.env, WASM_HOSTMAP_BINARY_PATH: addon },
    encoding: 'utf8'
  })
  return JSON.parse(stdout)
}

module.exports = { build, hasCargo, inChild }
