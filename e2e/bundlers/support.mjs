// A project that has installed the package, builds in it, and what the built programs say.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const HERE = path.dirname(fileURLToPath(import.meta.url))
export const ROOT = path.join(HERE, '..', '..')

const require = createRequire(import.meta.url)
const { TARGETS, mainManifest, platformManifest } = require('../../scripts/packages/manifests.cjs')
const { target } = require('../../lib/platform/platform.js')

export const TARGET = TARGETS.get(target())
const BUILT = path.join(ROOT, TARGET.binary)

// Bundlers are found from here upwards.
const WORK = path.join(HERE, '.work')
const made = []
process.on('exit', () => made.forEach(at => rmSync(at, { recursive: true, force: true })))

function folder(parent, name) {
  mkdirSync(parent, { recursive: true })
  const at = mkdtempSync(path.join(parent, `${name}-`))
  made.push(at)
  return at
}

/** A folder from which the package can not be found. */
export function elsewhere() {
  const at = folder(tmpdir(), 'hostmap-bundle')
  const places = createRequire(path.join(at, 'bundle.js')).resolve.paths('wasm-hostmap')
  const found = places.find(place => TRACES.some(name => existsSync(path.join(place, name))))
  if (found !== undefined) {
    throw new Error(`${found} has the package: remove it, or let TMPDIR name another folder`)
  }
  return at
}
const TRACES = ['wasm-hostmap', '@wasm-hostmap']

const json = value => `${JSON.stringify(value, null, 2)}\n`

/** What a package manager installs: the main package, and that of this machine. */
function install(at) {
  const main = path.join(at, 'node_modules', 'wasm-hostmap')
  const manifest = mainManifest()
  mkdirSync(main, { recursive: true })
  for (const name of manifest.files.filter(name => !/[!*]/.test(name))) {
    cpSync(path.join(ROOT, name), path.join(main, name), { recursive: true })
  }
  writeFileSync(path.join(main, 'package.json'), json(manifest))
  const binary = path.join(at, 'node_modules', TARGET.packageName)
  mkdirSync(binary, { recursive: true })
  cpSync(BUILT, path.join(binary, TARGET.binary))
  writeFileSync(path.join(binary, 'package.json'), json(platformManifest(TARGET)))
}

/** A project with these files, by name. */
export function project(name, files) {
  const at = folder(WORK, name)
  install(at)
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(at, file)), { recursive: true })
    writeFileSync(path.join(at, file), text)
  }
  return at
}

/** Puts the binary next to a bundle. */
export const putBinary = at => cpSync(BUILT, path.join(at, TARGET.binary))

// With these a program finds another package, or another binary.
const { NODE_PATH: _path, WASM_HOSTMAP_BINARY_PATH: _binary, ...environment } = process.env

/**
 * Runs a program to its end: `{ status, stdout, stderr }`. It writes to files: Node.js prints an
 * error that nobody caught below the line of the source, which in a minified bundle is all of it,
 * and drops what a pipe does not take at once.
 */
export async function run(program, args, { cwd, env = {} } = {}) {
  const at = folder(tmpdir(), 'hostmap-output')
  const files = ['stdout', 'stderr'].map(name => path.join(at, name))
  const outputs = files.map(file => openSync(file, 'w'))
  const child = spawn(program, args, {
    cwd,
    env: { ...environment, ...env },
    stdio: ['ignore', ...outputs],
    timeout: MOST_MS,
    killSignal: 'SIGKILL'
  })
  outputs.forEach(output => closeSync(output))
  const [status, signal] = await once(child, 'exit')
  const [stdout, stderr] = files.map(file => readFileSync(file, 'utf8'))
  return { status: status ?? signal, stdout, stderr }
}

/** Against what hangs: nothing here takes as long, however busy the machine is. */
export const MOST_MS = 15 * 60_000

export const runNode = (file, options) =>
  run(process.execPath, [file], { cwd: path.dirname(file), ...options })

/** The program that is built: it maps a file, uses a subpath, and says so. */
export const APP = `import { GuardedMemory, HostRegion } from 'wasm-hostmap'
import { emscripten } from 'wasm-hostmap/emscripten'

const guarded = new GuardedMemory({ initial: 1 })
const mapping = guarded.map(HostRegion.open('/proc/self/exe'))
const magic = new Uint8Array(guarded.buffer, mapping.address + 1, 3)
console.log(String.fromCharCode(...magic), typeof emscripten)
`

/** The last code block of this language in a section of docs/bundlers.md. */
export function recipe(section, language) {
  const page = readFileSync(path.join(ROOT, 'docs', 'bundlers.md'), 'utf8')
  const found = page.split(/^## /m).find(text => text.startsWith(`${section}\n`))
  if (found === undefined) throw new Error(`docs/bundlers.md has no section ${section}`)
  const blocks = [...found.matchAll(/^```(\w+)[^\n]*\n([^]*?)^```$/gm)].filter(
    ([, of]) => of === language
  )
  if (blocks.length !== 1) {
    throw new Error(`docs/bundlers.md: ${section} has ${blocks.length} blocks of ${language}`)
  }
  return blocks[0][2]
}
