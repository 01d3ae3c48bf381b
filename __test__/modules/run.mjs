// Random modules, and valid ones with random bytes changed: none ends the process, each error has a
// code, what V8 takes it takes after it was rewritten, and nothing takes more than 100 times as
// long as V8's compilation.

import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const require = createRequire(import.meta.url)
const { modulesIn } = require('./check.js')

const USAGE = `npm run test:modules -- [options]

  --count N       how many random modules, and as many mutations of them; default: 10000
  --seed N        the first one's number; default: by the clock, and printed
  --node PATH     the Node.js that runs the library; default: this one
  --keep          keeps the modules that failed, in the folder that is printed
  --help`

const { values: options } = parseArgs({
  options: {
    count: { type: 'string', default: '10000' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    node: { type: 'string', default: process.execPath },
    keep: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false }
  }
})

const BATCH = 500
const CHECK = fileURLToPath(new URL('check.js', import.meta.url))
const GENERATOR = fileURLToPath(new URL('../../tests/modules/', import.meta.url))
const TARGET = fileURLToPath(new URL('../../target/modules', import.meta.url))

if (options.help) console.log(USAGE)
else process.exitCode = await run(number('count', 1), number('seed', 0))

function number(name, least) {
  const text = options[name]
  if (/^\d{1,12}$/.test(text) && Number(text) >= least) return Number(text)
  throw new Error(`--${name} must be a whole number from ${least} on, not '${text}'`)
}

async function run(count, seed) {
  const folder = mkdtempSync(join(tmpdir(), 'hostmap-modules-'))
  console.log(`${count} modules and ${count} mutations, --seed ${seed}, ${options.node}`)
  const generator = build()
  const totals = { random: {}, mutated: {} }
  const failures = []
  try {
    for (let done = 0; done < count; done += BATCH) {
      const size = Math.min(BATCH, count - done)
      const file = join(folder, 'random')
      execFileSync(generator, [file, String(seed + done), String(size)], { stdio: 'inherit' })
      const mutated = join(folder, 'mutated')
      writeFileSync(mutated, mutate(file, seed + done))
      for (const [kind, batch] of [
        ['random', file],
        ['mutated', mutated]
      ]) {
        const found = await check(batch, folder)
        for (const [name, value] of Object.entries(found.totals))
          totals[kind][name] = (totals[kind][name] ?? 0) + value
        for (const { index, message } of found.failures) {
          failures.push(`${kind} module of seed ${seed + done + index}: ${message}`)
          if (options.keep) keep(batch, index, join(folder, `${kind}-${seed + done + index}.wasm`))
        }
      }
      if ((done / BATCH) % 4 === 3) console.log(`${done + size} done, ${failures.length} failures`)
    }
  } finally {
    if (options.keep) console.log(`kept in ${folder}`)
    else rmSync(folder, { recursive: true })
  }
  print(totals)
  for (const failure of failures.slice(0, 50)) console.log(failure)
  console.log(`${failures.length} failures`)
  return failures.length === 0 ? 0 : 1
}

function build() {
  const env = { ...process.env, CARGO_TARGET_DIR: TARGET }
  execFileSync('cargo', ['build', '--quiet', '--locked'], { cwd: GENERATOR, env, stdio: 'inherit' })
  return join(TARGET, 'debug/random-modules')
}

/**
 * What a file's modules do in a child process; in another one from the next module on, where one
 * ends it.
 */
async function check(file, folder) {
  const place = join(folder, 'place')
  const total = [...modulesIn(file)].length
  const found = { totals: {}, failures: [] }
  for (let from = 0; from < total;) {
    if (existsSync(place)) rmSync(place)
    const { stdout, stderr, end } = await inChild(file, place, from)
    if (end === null) {
      const { totals, failures } = JSON.parse(stdout.trim().split('\n').at(-1))
      for (const [name, value] of Object.entries(totals))
        found.totals[name] = (found.totals[name] ?? 0) + value
      found.failures.push(...failures)
      break
    }
    const index = existsSync(place) ? Number(readFileSync(place, 'latin1')) : from
    found.failures.push({ index, message: `ended the process ${end}\n${stderr.slice(-2000)}` })
    from = index + 1
  }
  return found
}

function inChild(file, place, from) {
  const child = spawn(options.node, ['--expose-gc', CHECK, file, place, String(from)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_OPTIONS: '' }
  })
  const text = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'])
    child[name].setEncoding('utf8').on('data', data => (text[name] += data))
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => {
      resolve({
        ...text,
        end: code === 0 ? null : signal === null ? `with code ${code}` : `by ${signal}`
      })
    })
  })
}

/** The same modules with one to five bytes changed, added or taken away. */
function mutate(file, seed) {
  const parts = []
  let index = 0
  for (const module of modulesIn(file)) {
    const random = mulberry32(seed + index++)
    const below = end => Math.floor(random() * end)
    let bytes = Buffer.from(module)
    // Most of them keep their length, or the end of a section would be in the way of all.
    const kinds = below(4) === 0 ? 3 : 1
    for (let edits = 1 + below(5) * below(2); edits > 0; edits--) {
      // The header stays, or else all of them would fail there.
      const at = Math.min(bytes.length, 8 + below(Math.max(1, bytes.length - 8)))
      const [head, tail] = [bytes.subarray(0, at), bytes.subarray(at)]
      const byte = Buffer.of(below(256))
      bytes = Buffer.concat(
        [
          [head, byte, tail.subarray(1)],
          [head, byte, tail],
          [head, tail.subarray(1)]
        ][below(kinds)]
      )
    }
    const length = Buffer.alloc(4)
    length.writeUInt32LE(bytes.length)
    parts.push(length, bytes)
  }
  return Buffer.concat(parts)
}

// The generator of that name.
function mulberry32(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

function keep(batch, index, path) {
  let at = 0
  for (const bytes of modulesIn(batch)) if (at++ === index) writeFileSync(path, bytes)
}

function print({ random, mutated }) {
  const names = [...new Set([...Object.keys(random), ...Object.keys(mutated)])].sort()
  const width = Math.max(...names.map(name => name.length))
  console.log(`\n${''.padEnd(width)}    random   mutated`)
  for (const name of names) {
    const cell = counts => String(counts[name] ?? 0).padStart(10)
    console.log(`${name.padEnd(width)}${cell(random)}${cell(mutated)}`)
  }
  console.log()
}
