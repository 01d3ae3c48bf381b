'use strict'

// Tests that need a process of their own: other flags, other limits, a clean address space, or the
// risk of its end.

const { execFile } = require('node:child_process')
const path = require('node:path')

// Node prints the package's own warnings, which tests look at themselves. Nothing else is expected.
const EXPECTED =
  /^\(node:\d+\) \[HOSTMAP_\w+\] HostmapWarning: .*\n|^\(Use `.*--trace-warnings .*\)\n/gm

const MAIN = path.join(__dirname, 'child-main.js')

// In milliseconds, less than jest gives a test: what hangs must not keep a core for all others.
const TIMEOUT = 170_000

/**
 * Runs `body` in another Node process and gives what it returns, through JSON. The function is sent
 * as text, so it sees nothing of the file it is in; its one parameter has what child-main.js
 * gives. What it writes to stderr fails the test, but for the package's warnings.
 *
 * @param options.flags for node, such as `--expose-gc`
 * @param options.ulimit for the shell's `ulimit`, such as `-n 64`
 * @param options.args any JSON, given to the body as `args`
 * @param options.main another file in the place of child-main.js
 * @param options.mayWrite a RegExp for what else may be on stderr
 */
function inChild(body, options = {}) {
  const { flags = [], ulimit, args = null, env = {}, main = MAIN, mayWrite = '' } = options
  const node = [process.execPath, ...flags, main, String(body), JSON.stringify(args)]
  const [file, ...rest] = ulimit
    ? ['/bin/sh', '-c', `ulimit ${ulimit} && exec "$0" "$@"`, ...node]
    : node
  return new Promise((resolve, reject) => {
    const spawning = {
      maxBuffer: 2 ** 26,
      timeout: TIMEOUT,
      killSignal: 'SIGKILL',
      env: { ...process.env, NODE_OPTIONS: '', ...env }
    }
    execFile(file, rest, spawning, (error, stdout, stderr) => {
      const line = stdout.slice(stdout.lastIndexOf('\n', stdout.length - 2) + 1)
      const fail = what => reject(new Error(`The child process ${what}.\n${stderr.slice(-4000)}`))
      if (error?.signal) fail(`ended by ${error.signal}`)
      else if (error) fail(`ended with code ${error.code}`)
      // Nothing was left that could have called back.
      else if (line.trim() === '') fail('ended with code 0 and no result')
      else if (stderr.replace(EXPECTED, '').replace(mayWrite, '').trim() !== '')
        fail('wrote to stderr')
      else resolve(JSON.parse(line))
    })
  })
}

module.exports = { inChild }
