'use strict'

// `wasm-hostmap inspect`, and processes that it looks at.

const { execFile, spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')

const MAIN = path.join(__dirname, '..', '..', 'cli', 'main.js')

/** The command: `{ status, stdout, stderr }`. */
function run(args, options = {}) {
  return new Promise(resolve => {
    const env = { ...process.env, NODE_OPTIONS: '', COLUMNS: '100', LC_ALL: 'C.UTF-8' }
    const spawning = { env, maxBuffer: 2 ** 26, ...options }
    execFile(
      process.execPath,
      [MAIN, 'inspect', '--timeout', '100', ...args],
      spawning,
      (error, stdout, stderr) => resolve({ status: error?.code ?? 0, stdout, stderr })
    )
  })
}

/** A process of support/inspected.js: what it says of itself, and how to end it. */
async function inspected(directory, ...args) {
  const file = path.join(__dirname, 'inspected.js')
  const folder = fs.mkdtempSync(path.join(directory.path, 'inspected-'))
  const child = spawn(process.execPath, [file, folder, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '' }
  })
  let said = ''
  for await (const chunk of child.stdout) {
    said += chunk
    if (said.endsWith('\n')) break
  }
  return {
    ...JSON.parse(said),
    child,
    async end() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.stdin.end()
      await once(child, 'exit')
    }
  }
}

module.exports = { MAIN, run, inspected }
