'use strict'

// Tests that need a process of their own: other flags, other limits, a clean address space, or the
// risk of its end.

const { execFile } = require('node:child_process')
const path = require('node:path')

const MAIN = path.join(__dirname, 'child-main.js')

/**
 * Runs `body` in another Node process and gives what it returns, through JSON. The function is sent
 * as text, so it sees nothing of the file it stands in; its one parameter has what child-main.js
 * gives.
 *
 * @param options.flags for node, such as `--expose-gc`
 * @param options.ulimit for the shell's `ulimit`, such as `-n 64`
 * @param options.args any JSON, given to the body as `args`
 * @param options.main another file in the place of child-main.js
 */
function inChild(body, { flags = [], ulimit, args = null, env = {}, main = MAIN } = {}) {
  const node = [process.execPath, ...flags, main, String(body), JSON.stringify(args)]
  const [file, ...rest] = ulimit
    ? ['/bin/sh', '-c', `ulimit ${ulimit} && exec "$0" "$@"`, ...node]
    : node
  return new Promise((resolve, reject) => {
    const options = { maxBuffer: 2 ** 26, env: { ...process.env, NODE_OPTIONS: '', ...env } }
    execFile(file, rest, options, (error, stdout, stderr) => {
      const line = stdout.slice(stdout.lastIndexOf('\n', stdout.length - 2) + 1)
      // Without one, nothing was left that could have called back.
      if (!error && line.trim() !== '') return resolve(JSON.parse(line))
      const end = error?.signal
        ? `by ${error.signal}`
        : `with code ${error?.code ?? '0 and no result'}`
      reject(new Error(`The child process ended ${end}.\n${stderr.slice(-4000)}`))
    })
  })
}

module.exports = { inChild }
