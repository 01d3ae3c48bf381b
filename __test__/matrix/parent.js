'use strict'

// Runs cells in processes of their own, and goes on after each that dies.

const { spawn } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const CHILD = path.join(__dirname, 'child.js')
const FLAGS = {
  liftoff: ['--liftoff-only', '--no-opt', '--no-maglev', '--no-sparkplug'],
  turbofan: ['--no-liftoff', '--allow-natives-syntax'],
  trapless: ['--disable-wasm-trap-handler']
}

// Far more than the slowest cell takes on the slowest machine.
const HANGS_AFTER_MS = 60_000

/**
 * Starts one process on these cells, `[[index, cell], ...]`; gives how it ended, and what came of
 * the cells it got to.
 */
async function runProcess(node, { tier, thread }, cells, env) {
  const temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'wasm-hostmap-matrix-'))
  // A file takes every line at once, and keeps it when the process dies.
  const log = path.join(temporary, 'log')
  const output = fs.openSync(log, 'w')
  try {
    const child = spawn(node, ['--expose-gc', '--no-warnings', ...FLAGS[tier], CHILD], {
      env: { ...process.env, NODE_OPTIONS: '', ...env },
      stdio: ['pipe', output, 'pipe']
    })
    let errors = ''
    child.stderr.setEncoding('utf8').on('data', text => (errors = (errors + text).slice(-4000)))
    child.stdin.on('error', () => {})
    child.stdin.end(JSON.stringify({ temporary, thread, cells }))
    const { code, signal, hangs } = await endOf(child, () => fs.fstatSync(output).size)
    const { came, running, done } = readLog(log)
    const ended = hangs ? 'hangs' : `dies:${signal ?? `exit code ${code}`}`
    return { came, died: done && code === 0 ? null : { at: running, ended, errors } }
  } finally {
    fs.closeSync(output)
    fs.rmSync(temporary, { recursive: true })
  }
}

/** How a process ended. It is ended when this has not changed for long. */
function endOf(child, progress) {
  return new Promise((resolve, reject) => {
    let hangs = false
    let last = progress()
    const timer = setInterval(() => {
      const now = progress()
      if (now === last) hangs = child.kill('SIGKILL')
      last = now
    }, HANGS_AFTER_MS)
    child.on('error', error => {
      clearInterval(timer)
      reject(error)
    })
    child.on('close', (code, signal) => {
      clearInterval(timer)
      resolve({ code, signal, hangs })
    })
  })
}

/**
 * What child.js said: what came of which cell, which one was run last, and whether it got to the
 * end.
 */
function readLog(file) {
  const came = new Map()
  let running
  let done = false
  for (const line of fs.readFileSync(file, 'utf8').split('\n').slice(0, -1)) {
    const space = line.indexOf(' ')
    const what = line.slice(0, space)
    const value = JSON.parse(line.slice(space + 1))
    if (what === 'run') running = value
    else if (what === 'came') came.set(...value)
    else if (what === 'done') done = true
    else {
      const [index, problem] = value
      const result = came.get(index)
      result.problems = [...(result.problems ?? []), problem]
    }
  }
  return { came, running, done }
}

/**
 * Runs the cells of one tier and thread. A cell that ends its process is run once more, alone, to
 * be sure that it was it.
 */
async function runTogether(node, environment, cells, env, onCell) {
  let left = cells
  while (left.length > 0) {
    const { came, died } = await runProcess(node, environment, left, env)
    for (const [index, result] of came) onCell(index, result)
    if (died === null) break
    const { at, ended, errors } = died
    if (at === undefined)
      throw new Error(`${node} ended before the first cell: ${ended}\n${errors}`)
    const suspect = left.find(([index]) => index === at)
    if (came.has(at)) {
      // Between two cells, or at the end.
      const { outcome, problems = [] } = came.get(at)
      onCell(at, { outcome, problems: [...problems, `afterwards: ${ended}\n${errors}`] })
    } else {
      const again = await runProcess(node, environment, [suspect], env)
      const { outcome, problems = [] } =
        again.died === null ? again.came.get(at) : { outcome: again.died.ended }
      if (outcome === ended) onCell(at, { outcome })
      else onCell(at, { outcome, problems: [...problems, `after others: ${ended}\n${errors}`] })
    }
    left = left.filter(([index]) => !came.has(index) && index !== at)
  }
}

/**
 * Runs cells on a Node.js; gives a list of `{ outcome, problems? }`, as long as that of the cells.
 *
 * @param options.env for the processes
 * @param options.processes how many at a time
 * @param options.onProgress called with how many cells are done
 */
async function runCells(node, cells, { env = {}, processes = 2, onProgress } = {}) {
  const results = new Array(cells.length)
  let done = 0
  const groups = new Map()
  cells.forEach((cell, index) => {
    const key = `${cell.tier} ${cell.thread}`
    if (!groups.has(key))
      groups.set(key, { environment: { tier: cell.tier, thread: cell.thread }, cells: [] })
    groups.get(key).cells.push([index, cell])
  })
  const queue = [...groups.values()].flatMap(({ environment, cells }) =>
    slices(cells, 4000).map(slice => ({ environment, cells: slice }))
  )
  const work = async () => {
    for (let next; (next = queue.shift());) {
      await runTogether(node, next.environment, next.cells, env, (index, result) => {
        if (results[index] === undefined) onProgress?.(++done)
        results[index] = result
      })
    }
  }
  await Promise.all(Array.from({ length: processes }, work))
  return results
}

const slices = (list, length) =>
  Array.from({ length: Math.ceil(list.length / length) }, (_, i) =>
    list.slice(i * length, (i + 1) * length)
  )

module.exports = { runCells }
