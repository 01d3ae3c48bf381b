'use strict'
// Runs a script under another runtime: what it prints as JSON, or the code of the error that it
// ends with.
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const PACKAGE = process.env.HOSTMAP_PACKAGE
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hostmap-runtime-'))
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))

/** Writes a script that calls a function of the package, by its source, and prints the result. */
function writeScript(script) {
  const file = path.join(folder, `${script.name || 'script'}.cjs`)
  fs.writeFileSync(
    file,
    `const report = error => ({ code: error.code, message: error.message })
     const answer = value => console.log(JSON.stringify(value))
     let hostmap
     try { hostmap = require(${JSON.stringify(PACKAGE)}) } catch (error) { answer({ load: report(error) }) }
     if (hostmap !== undefined) {
       const codeOf = call => { try { call() } catch (error) { return error.code } }
       Promise.resolve((${script})(hostmap, codeOf)).then(answer)
     }`
  )
  return file
}

/**
 * `script` is the source of a function of the package, which is called as soon as it is loaded.
 * `before` are the runtime's own arguments.
 */
function runUnder(before, script, environment = {}) {
  const file = writeScript(script)
  const { status, signal, stdout, stderr } = spawnSync(
    process.env.HOSTMAP_RUNTIME,
    [...before, file],
    { encoding: 'utf8', timeout: 60_000, env: { ...process.env, ...environment } }
  )
  if (status !== 0) throw new Error(`status ${status}, signal ${signal}\n${stdout}\n${stderr}`)
  return JSON.parse(stdout.trim().split('\n').at(-1))
}

module.exports = { runUnder, writeScript, folder }
