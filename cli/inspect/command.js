'use strict'

// `wasm-hostmap inspect`: what is where in a process, as a drawing, as data or as a page. It reads
// /proc and asks a socket; the native part is not loaded.

const fs = require('node:fs')
const path = require('node:path')
const { setTimeout: pause } = require('node:timers/promises')
const { askThreads } = require('./ask.js')
const { merged } = require('./merge.js')
const { CannotInspect, inspectOutside, pagesOf } = require('./outside.js')
const { pageOf } = require('./page/page.js')
const { printable } = require('./printable.js')
const { WrongInspection, checked } = require('./saved.js')
const { drawing } = require('./terminal.js')

const summary = 'what is where in a running process: memories, mappings, snapshots, pools'

const help = `Usage: npx wasm-hostmap inspect PID [--html FILE] [--json] [--watch]
       npx wasm-hostmap inspect --file STATE.json [--html FILE] [--json]

Draws what is where in the address space of a process of yours: WebAssembly memories and their
guards, the regions mapped into them, snapshots, and how much of each is in memory.

  --html FILE      writes a page that shows it to scale and zooms to single pages
  --json           prints it as data, as inspect() gives it
  --file FILE      draws data that was saved, by --json or by a program
  --watch          draws it again each second, until Ctrl-C
  --interval SECONDS   how long --watch waits between two drawings: 1, or another number
  --timeout SECONDS    how long to wait for threads that have called allowInspect(): 2
  --all            leaves no line out
  --ascii          draws with ASCII characters only

Mappings, windows, faults and pools of a process are known only if it has called allowInspect();
of others, what the kernel tells: docs/inspect.md says what that is.

Exit status: 0 if it was drawn, 1 if the process can't be looked at or the file is no inspection,
2 for wrong use.
`

const options = {
  html: { type: 'string' },
  json: { type: 'boolean' },
  file: { type: 'string' },
  watch: { type: 'boolean' },
  interval: { type: 'string' },
  timeout: { type: 'string' },
  all: { type: 'boolean' },
  ascii: { type: 'boolean' }
}

const FAILED = 1
const WRONG_USE = 2
const MOST_FILE_BYTES = 256 * 2 ** 20

async function run({ values, positionals }) {
  const problem = wrongUse(values, positionals)
  if (problem !== undefined) {
    process.stderr.write(`${printable(problem)}\n\n${help}`)
    return WRONG_USE
  }
  try {
    if (values.file !== undefined) await show(fromFile(values.file), values)
    else if (values.watch) await watch(Number(positionals[0]), values)
    else await show(await lookAt(Number(positionals[0]), values), values)
    return 0
  } catch (error) {
    if (!(error instanceof CannotInspect) && !(error instanceof WrongInspection)) throw error
    process.stderr.write(`${printable(error.message)}\n`)
    return FAILED
  }
}

function wrongUse({ file, watch, html, interval, timeout }, positionals) {
  if (file !== undefined) {
    if (positionals.length > 0) return 'inspect takes a process or --file, and not both.'
    return watch ? 'What was saved does not change: --watch needs a process.' : undefined
  }
  if (positionals.length === 0) return 'Which process? Give its id (PID).'
  const [pid] = positionals
  if (positionals.length > 1 || !/^[1-9]\d{0,9}$/.test(pid))
    return `inspect takes one process by its id, a number; received '${positionals.join(' ')}'.`
  if (watch && html !== undefined) return '--watch draws in the terminal: leave out --html.'
  for (const [name, given] of Object.entries({ interval, timeout })) {
    if (given !== undefined && !(Number(given) >= 0.1 && Number(given) <= 86_400))
      return `--${name} takes seconds, from 0.1 to 86400; received '${given}'.`
  }
  return undefined
}

/** What is known of a process: from /proc, and from those of its threads that have agreed to it. */
async function lookAt(pid, { timeout = '2' }) {
  const { answers, notes } = await askThreads(pid, Number(timeout))
  const right = answers.filter(answer => {
    try {
      checked(answer)
      return true
    } catch (error) {
      if (!(error instanceof WrongInspection)) throw error
      notes.push(`A thread of process ${pid} answered what is no inspection: ${error.message}.`)
      return false
    }
  })
  for (const note of notes) process.stderr.write(`${printable(note)}\n`)
  // After the answers, so that what they name is in the map.
  const outside = inspectOutside(pid)
  const pages = pagesOf(pid, outside.pageBytes)
  try {
    return merged(outside, right, pages)
  } finally {
    pages?.close()
  }
}

function fromFile(file) {
  let text
  try {
    if (fs.statSync(file).size > MOST_FILE_BYTES) {
      throw new WrongInspection(`${file} is too large to be an inspection.`)
    }
    text = fs.readFileSync(file, 'utf8')
  } catch (error) {
    if (error.code === undefined) throw error
    throw new CannotInspect(`${file} can't be read: ${error.message}`)
  }
  try {
    return checked(JSON.parse(text))
  } catch (error) {
    if (!(error instanceof WrongInspection) && !(error instanceof SyntaxError)) throw error
    throw new WrongInspection(`${file} can't be drawn: ${error.message}.`)
  }
}

async function show(inspection, { html, json, all, ascii }) {
  if (html !== undefined) {
    write(html, pageOf(inspection))
    if (!json) process.stdout.write(`${path.resolve(html)}\n`)
  }
  if (json) process.stdout.write(`${JSON.stringify(inspection)}\n`)
  else if (html === undefined) process.stdout.write(`${drawing(inspection, styleOf(all, ascii))}\n`)
}

function write(file, text) {
  try {
    // Addresses are not for strangers.
    fs.writeFileSync(file, text, { mode: 0o600 })
  } catch (error) {
    throw new CannotInspect(`${file} can't be written: ${error.message}`)
  }
}

function styleOf(all = false, ascii = false) {
  const { stdout, env } = process
  const locale = env.LC_ALL || env.LC_CTYPE || env.LANG || ''
  return {
    columns: stdout.columns ?? (Number.parseInt(env.COLUMNS ?? '', 10) || 100),
    colour: stdout.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb',
    unicode: !ascii && /utf-?8/i.test(locale),
    all
  }
}

const CLEAR = '\u001b[H\u001b[2J'

async function watch(pid, values) {
  const { interval = '1', json, all, ascii } = values
  const end = new AbortController()
  const stop = () => end.abort()
  process.once('SIGINT', stop)
  process.stdout.once('error', stop)
  const isTerminal = process.stdout.isTTY === true
  let drawn = 0
  while (!end.signal.aborted) {
    let found
    try {
      found = await lookAt(pid, values)
    } catch (error) {
      // That it ends is what is waited for, once it was there.
      if (drawn === 0 || !(error instanceof CannotInspect)) throw error
      process.stdout.write(`\n${error.message}\n`)
      return
    }
    if (isTerminal && !json) process.stdout.write(CLEAR)
    else if (drawn > 0 && !json) process.stdout.write('\n')
    await show(found, { json, all, ascii })
    drawn++
    await pause(Number(interval) * 1000, undefined, { signal: end.signal }).catch(() => {})
  }
}

module.exports = { summary, help, options, allowPositionals: true, run }
