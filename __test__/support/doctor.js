'use strict'

// `wasm-hostmap doctor`, as a shell runs it.

const { execFile } = require('node:child_process')
const path = require('node:path')
const manifest = require('../../package.json')

const main = path.join(__dirname, '..', '..', manifest.bin['wasm-hostmap'])

/** The command in a temporary folder, which is its temporary folder too. */
function doctorIn(directory) {
  /** Runs the command, as a shell would: `{ status, stdout, stderr }`. */
  function run(args, { flags = [], ulimit, env = {}, entry = main, cwd = directory.path } = {}) {
    const node = [process.execPath, ...flags, entry, ...args]
    const [file, ...rest] = ulimit
      ? ['/bin/sh', '-c', `ulimit ${ulimit} && exec "$0" "$@"`, ...node]
      : node
    const spawning = {
      cwd,
      maxBuffer: 2 ** 24,
      env: { ...process.env, NODE_OPTIONS: '', TMPDIR: directory.path, ...env }
    }
    return new Promise(resolve => {
      execFile(file, rest, spawning, (error, stdout, stderr) => {
        resolve({ status: error === null ? 0 : (error.code ?? error.signal), stdout, stderr })
      })
    })
  }

  /** What doctor finds: the report, with a function that gives a finding by its id. */
  async function doctor(options) {
    const { status, stdout, stderr } = await run(['doctor', '--json'], options)
    if (!stdout.startsWith('{')) throw new Error(`doctor ended with ${status}:\n${stderr}`)
    const report = JSON.parse(stdout)
    const find = id => report.findings.find(finding => finding.id === id)
    const bad = report.findings
      .filter(({ verdict }) => verdict === 'missing' || verdict === 'slower')
      .map(({ id }) => id)
    return { status, report, find, bad }
  }

  return { run, doctor }
}

module.exports = { doctorIn }
