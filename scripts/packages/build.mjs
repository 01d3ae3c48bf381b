// Builds the addon as a release has it, for any target, on any Linux machine with Rust and Python:
// Zig is the C compiler and the linker, and brings the C libraries.
//
//   npm run build:target                       all targets
//   npm run build:target -- linux-arm64-gnu    these
//
// The binaries are in target/packages/binaries/, and are checked: see check.mjs.

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { printTable } from './check.mjs'
import manifests from './manifests.cjs'

const { ROOT, TARGETS } = manifests
const REQUIREMENTS = path.join(ROOT, 'scripts/packages/requirements.txt')
const TOOLS = path.join(ROOT, 'target/packages/tools')

/** The folder of binaries. */
export const BINARIES = path.join(ROOT, 'target/packages/binaries')

const run = (command, args, options) =>
  execFileSync(command, args, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'], ...options })

/** The folder of the commands that requirements.txt names, which are installed if need be. */
export function tools() {
  const bin = path.join(TOOLS, 'bin')
  const wanted = fs.readFileSync(REQUIREMENTS, 'utf8')
  const done = path.join(TOOLS, 'installed.txt')
  if (fs.existsSync(done) && fs.readFileSync(done, 'utf8') === wanted) return bin
  fs.rmSync(TOOLS, { recursive: true, force: true })
  console.log('Installing cargo-zigbuild and Zig into target/packages/tools')
  run('python3', ['-m', 'venv', TOOLS])
  run(path.join(bin, 'pip'), ['install', '--quiet', '--requirement', REQUIREMENTS])
  fs.writeFileSync(done, wanted)
  return bin
}

// Less is inlined than by default, and no loop is unrolled or vectorised (libc copies bytes): so
// packages stay below a mebibyte. A call takes 2 to 9 % more instructions: docs/internals.md.
const SMALL = [
  '-C llvm-args=--inline-threshold=5',
  '-C llvm-args=--inlinecold-threshold=0',
  '-C llvm-args=--unroll-threshold=0',
  '-C no-vectorize-loops',
  '-C no-vectorize-slp'
].join(' ')
// Without this, musl targets have no shared libraries.
const SHARED = '-C target-feature=-crt-static'

/** The environment of a build: Zig in PATH, and what the target needs. */
function environment({ libc }) {
  const flags = [process.env.RUSTFLAGS, SMALL, libc === 'musl' && SHARED]
  return {
    ...process.env,
    PATH: [tools(), process.env.PATH].join(path.delimiter),
    RUSTFLAGS: flags.filter(Boolean).join(' ')
  }
}

/** Builds for a target. Gives the path of the binary. */
export function build(name) {
  const target = TARGETS.get(name)
  const env = environment(target)
  run('rustup', ['target', 'add', target.triple], { env, stdio: ['ignore', 'ignore', 'inherit'] })
  // Cargo says where it put the library: CARGO_TARGET_DIR and cargo's configuration can move it.
  const messages = run(
    'cargo',
    ['zigbuild', '--release', '--locked', '--lib', '--target', target.zigTriple].concat(
      '--message-format',
      'json-render-diagnostics'
    ),
    { env, stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8', maxBuffer: Infinity }
  )
  const library = messages
    .split('\n')
    .filter(line => line.startsWith('{'))
    .map(line => JSON.parse(line))
    .filter(
      ({ reason, target }) => reason === 'compiler-artifact' && target.kind.includes('cdylib')
    )
    .flatMap(({ filenames }) => filenames)
    .find(filename => filename.endsWith('.so'))
  const binary = path.join(BINARIES, target.binary)
  fs.mkdirSync(BINARIES, { recursive: true })
  // A rename, so that a process which runs with an earlier binary keeps that one whole.
  fs.copyFileSync(library, `${binary}.new`)
  fs.renameSync(`${binary}.new`, binary)
  return binary
}

/** The names of targets on the command line, or all. */
export function namesOf(args) {
  const unknown = args.filter(name => !TARGETS.has(name))
  if (unknown.length > 0) {
    console.error(
      `There is no target ${unknown.join(', ')}, only ${[...TARGETS.keys()].join(', ')}.`
    )
    process.exit(2)
  }
  return args.length > 0 ? args : [...TARGETS.keys()]
}

/** Builds for each target, says how long each took, and checks them. */
export function buildAll(names, options) {
  for (const name of names) {
    const started = performance.now()
    build(name)
    console.log(`${name}: built in ${((performance.now() - started) / 1000).toFixed()} s`)
  }
  return printTable(BINARIES, names, options)
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  if (!buildAll(namesOf(process.argv.slice(2)))) process.exitCode = 1
}
