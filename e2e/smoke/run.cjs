'use strict'
// The smoke script: whether the package works here, on this kernel and this runtime.
//
//   node e2e/smoke/run.cjs [PACKAGE] [--json FILE] [--only TEXT] [--require guard,traps] [--costs]
//
// It needs node: built-ins alone. PACKAGE is a folder; without it, the `wasm-hostmap` that the
// current folder has installed, or this checkout. It prints a line a part and ends with 1 if one
// failed. A part that ends its process fails, and the others go on in another one: there are few
// processes, because they take seconds to start in an emulated machine.
//
// --only TEXT     the parts whose names contain it
// --require LIST  what this platform must have: without it, parts are left out, and this fails
// --costs         also measures what calls cost here, for the table of fallbacks
//
// SMOKE_SLOW=20 multiplies all bounds. SMOKE_EXEC is what starts a script: `deno run --allow-all`.
// SMOKE_DIR is where files are made. HOSTMAP_KERNEL is a build of ../machines/kernel.c, which tells
// what the kernel has.
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const { run, slowness } = require('./child-process.cjs')
const { names } = require('./parts.cjs')
const kernel = require('./kernel.cjs')

function options(argv) {
  const given = { package: null, json: null, only: '', require: [], costs: false }
  for (let at = 0; at < argv.length; at++) {
    const name = argv[at]
    if (name === '--costs') given.costs = true
    else if (name === '--json') given.json = argv[++at]
    else if (name === '--only') given.only = argv[++at]
    else if (name === '--require') given.require = argv[++at].split(',').filter(Boolean)
    else if (name.startsWith('-'))
      throw new Error(`${name} is not an option: see the head of this file`)
    else given.package = path.resolve(name)
  }
  given.package ??= packageHere()
  return given
}

/** The installed package of the current folder, or this checkout. */
function packageHere() {
  try {
    return path.dirname(require.resolve('wasm-hostmap/package.json', { paths: [process.cwd()] }))
  } catch {
    return path.resolve(__dirname, '../..')
  }
}

function runtime() {
  if (globalThis.Deno) return { name: 'deno', version: globalThis.Deno.version.deno }
  if (globalThis.Bun) return { name: 'bun', version: globalThis.Bun.version }
  return { name: 'node', version: process.versions.node }
}

/** The C library of this process, `glibc 2.36` or `musl`. */
function libc() {
  // Deno reports a version that is not this machine's.
  const version = !globalThis.Deno && process.report?.getReport?.().header?.glibcVersionRuntime
  if (version) return `glibc ${version}`
  const maps = fs.readFileSync('/proc/self/maps', 'utf8')
  if (/ld-musl|libc\.musl/.test(maps)) return 'musl'
  return /libc(-[\d.]+)?\.so/.test(maps) ? 'glibc' : 'unknown'
}

/** Runs the parts, in as few processes as their crashes allow. */
async function runParts(given, wanted) {
  const results = []
  let limits = null
  let loadMilliseconds = null
  let left = wanted
  while (left.length > 0) {
    let current = null
    let begun = Date.now()
    const onLine = line => {
      if (!line.startsWith('@@')) return
      const said = JSON.parse(line.slice(2))
      if (said.limits) {
        limits ??= said.limits
        loadMilliseconds ??= Math.round(said.loadMilliseconds)
      } else if (said.begin) {
        current = said.begin
        begun = Date.now()
      } else {
        current = null
        results.push(said)
        show(said)
      }
    }
    const { status, signal, stderr, timedOut } = await run('parts.cjs', [given.package, ...left], {
      seconds: (60 + 5 * left.length) * slowness(),
      onLine
    })
    const before = left.length
    left = left.slice(left.findIndex(name => !results.some(({ end }) => end === name)))
    if (results.length === wanted.length) break
    // A process that ended between parts is as wrong as one that ended in a part.
    const end = current ?? left[0]
    const how = timedOut ? 'took too long' : `ended the process: ${signal ?? `status ${status}`}`
    const failed = {
      end,
      outcome: 'FAILED',
      note: `${how}\n${stderr}`,
      milliseconds: Date.now() - begun
    }
    results.push(failed)
    show(failed)
    left = left.slice(1)
    if (left.length >= before) throw new Error('the list of parts must get shorter')
    // Nothing came: the package does not even load.
    if (!limits) break
  }
  return { results, limits, loadMilliseconds }
}

function show({ end, outcome, note, milliseconds }) {
  const text =
    note === null || note === undefined
      ? ''
      : typeof note === 'string'
        ? note
        : JSON.stringify(note)
  const said =
    outcome === 'FAILED' ? `\n    ${text.replaceAll('\n', '\n    ')}` : ` ${text.slice(0, 160)}`
  console.log(`${outcome.padEnd(8)} ${String(milliseconds).padStart(6)} ms  ${end}${said}`)
}

async function main() {
  const given = options(process.argv.slice(2))
  const { name, version } = runtime()
  const about = {
    kernel: os.release(),
    arch: process.arch,
    libc: libc(),
    runtime: name,
    version,
    v8: process.versions.v8 ?? null,
    package: JSON.parse(fs.readFileSync(path.join(given.package, 'package.json'), 'utf8')).version
  }
  console.log(`# ${name} ${version}, ${about.arch}, kernel ${about.kernel}, ${about.libc}`)
  const started = Date.now()
  const wanted = names.filter(part => part.includes(given.only))
  const { results, limits, loadMilliseconds } = await runParts(given, wanted)
  const count = outcome => results.filter(result => result.outcome === outcome).length
  const missing = given.require.filter(need => !has(limits, need))
  for (const need of missing) console.log(`FAILED   --require: this platform has no ${need}`)
  const seconds = Math.round((Date.now() - started) / 100) / 10
  const [features, costs] = askKernel(given)
  const all = {
    ...about,
    pageBytes: limits?.pageSize ?? null,
    faultGuard: limits?.faultGuard ?? null,
    trapHandler: limits?.wasm.trapHandler ?? null,
    passed: count('passed'),
    leftOut: results
      .filter(({ outcome }) => outcome === 'left out')
      .map(({ end, note }) => ({ part: end, why: note })),
    failed: results
      .filter(({ outcome }) => outcome === 'FAILED')
      .map(({ end, note }) => ({ part: end, why: note })),
    missing,
    loadMilliseconds,
    seconds,
    features,
    costs
  }
  if (given.json) fs.writeFileSync(given.json, `${JSON.stringify(all, null, 2)}\n`)
  console.log(
    `${all.passed} passed, ${all.leftOut.length} left out, ${all.failed.length} failed, ${seconds} s`
  )
  const complete = results.length === wanted.length && wanted.length > 0
  process.exitCode = all.failed.length > 0 || missing.length > 0 || !complete ? 1 : 0
}

/** What the kernel has, and what it costs; nothing where the program that tells doesn't run. */
function askKernel(given) {
  try {
    return [kernel.features(), given.costs ? kernel.costs(given.package) : null]
  } catch (error) {
    console.log(`HOSTMAP_KERNEL: ${error.message}`)
    return [null, null]
  }
}

/** Whether this platform has what --require names. */
function has(limits, need) {
  if (need === 'guard') return Boolean(limits) && limits.faultGuard.handler !== 'none'
  if (need === 'traps') return Boolean(limits?.faultGuard.traps)
  if (need === 'memory64') return (limits?.wasm.maxPages64 ?? 0) > 0
  throw new Error(`--require ${need}: guard, traps or memory64`)
}

main()
