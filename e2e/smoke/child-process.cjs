'use strict'
// Child processes of the smoke script, by whatever runtime this is.
const { spawn } = require('node:child_process')
const path = require('node:path')

/** What is called before the script. SMOKE_EXEC names another runtime: `deno run --allow-all`. */
function command() {
  const given = process.env.SMOKE_EXEC?.split(' ').filter(Boolean) ?? []
  if (given.length > 0) return given
  if (globalThis.Deno) return [process.execPath, 'run', '--allow-all']
  return globalThis.Bun ? [process.execPath] : [process.execPath, '--expose-gc', '--no-warnings']
}

/** Runs a file of this folder. Bounded, since a guest may hang. */
function run(file, args, { seconds, onLine, input }) {
  const [program, ...before] = command()
  const child = spawn(program, [...before, path.join(__dirname, file), ...args], {
    stdio: ['pipe', 'pipe', 'pipe']
  })
  let rest = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', text => {
    const lines = (rest + text).split('\n')
    rest = lines.pop()
    for (const line of lines) onLine?.(line)
  })
  child.stderr.setEncoding('utf8').on('data', text => (stderr = (stderr + text).slice(-4000)))
  child.stdin.on('error', () => {})
  child.stdin.end(input ?? '')
  return new Promise((resolve, reject) => {
    let timedOut = false
    const timer = setTimeout(() => {
      timedOut = true
      child.kill('SIGKILL')
    }, seconds * 1000)
    child.on('error', reject)
    child.on('close', (status, signal) => {
      clearTimeout(timer)
      resolve({ status, signal, stderr, timedOut })
    })
  })
}

const runChild = (g, token) => run('child.cjs', [g.directory, token], { seconds: 60 * slowness() })

/** How many times slower this machine is than one with the bounds in mind: an emulated one. */
const slowness = () => Number(process.env.SMOKE_SLOW || 1)

module.exports = { run, runChild, slowness }
