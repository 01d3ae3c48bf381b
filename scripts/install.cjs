'use strict'

// Runs after `npm install`, in three situations:
//
// 1. In a working copy: builds the addon.
// 2. As a dependency, with a binary for this machine in the tarball: sees that it loads, and is
//    done.
// 3. As a dependency, without one: builds the addon from the sources in the tarball, if Rust is
//    there.
//
// Uses nothing but Node.js: the dependencies of a working copy are not there in situations 2 and 3.

const { spawnSync } = require('node:child_process')
const { copyFileSync, renameSync, rmSync } = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const {
  PACKAGE_ROOT,
  unsupported,
  target,
  binaryPath,
  RUST_VERSION,
  isWorkingCopy
} = require('../lib/platform/platform.js')

function fail(message) {
  process.stderr.write(`\n${message}\n\n`)
  process.exit(1)
}

/**
 * The environment for a build: rustup's directory is searched too, which a shell that is still open
 * does not know yet.
 */
function buildEnvironment() {
  const cargoBin = path.join(process.env.CARGO_HOME || path.join(os.homedir(), '.cargo'), 'bin')
  const env = {
    ...process.env,
    PATH: [process.env.PATH, cargoBin].filter(Boolean).join(path.delimiter)
  }
  if (target().endsWith('-musl')) {
    // A musl toolchain links libc into what it builds unless told otherwise, and then can't build a
    // shared library.
    env.RUSTFLAGS = [process.env.RUSTFLAGS, '-C target-feature=-crt-static']
      .filter(Boolean)
      .join(' ')
  }
  return env
}

function rustRequirement() {
  return `Rust ${RUST_VERSION} or later and a C linker (gcc or clang)`
}

const HOW_TO_GET_RUST =
  "https://rustup.rs, or `curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh`"

/** Compares two versions, such as `1.88` and `1.100.2`, number by number. */
function isOlder(version, wanted) {
  return version.localeCompare(wanted, 'en', { numeric: true }) < 0
}

/** What is wrong with this machine's Rust, or null. */
function rustProblem(env) {
  const cargo = spawnSync('cargo', ['--version'], { cwd: PACKAGE_ROOT, env, encoding: 'utf8' })
  if (cargo.error || cargo.status !== 0)
    return 'Rust was not found on this machine (there is no `cargo`).'
  const version = /^cargo (\S+)/.exec(cargo.stdout)?.[1] ?? 'of unknown version'
  if (isOlder(version, RUST_VERSION))
    return `The Rust on this machine is ${version}, which is too old.`
  return null
}

function buildWorkingCopy() {
  const env = buildEnvironment()
  const problem = rustProblem(env)
  if (problem) {
    fail(
      `${problem} Building wasm-hostmap takes ${rustRequirement()}.\n` +
        `Get Rust from ${HOW_TO_GET_RUST}, and run \`npm install\` again.`
    )
  }
  const build = spawnSync('npm', ['run', 'build'], { cwd: PACKAGE_ROOT, env, stdio: 'inherit' })
  if (build.status !== 0)
    fail('wasm-hostmap could not be built: `npm run build` failed, see above.')
}

/** Builds from the sources in the tarball and puts the library where it is loaded from. */
function buildDependency(loadError) {
  const env = buildEnvironment()
  const problem = rustProblem(env)
  if (problem) {
    const [reason] = loadError.cause.message.split('\n', 1)
    fail(
      `wasm-hostmap brings no binary that loads on ${target()}: ${reason}\n${problem} Either of these will do:\n` +
        `  1. Install ${rustRequirement()}, and run the installation again: wasm-hostmap is built then.\n` +
        `     Get Rust from ${HOW_TO_GET_RUST}.\n` +
        `  2. Install a tarball of wasm-hostmap that was packed on ${target()}: \`npm pack\` in a working copy there.`
    )
  }
  // Cargo says where it put the library: CARGO_TARGET_DIR and cargo's configuration can move it.
  const cargo = spawnSync(
    'cargo',
    ['build', '--release', '--locked', '--lib', '--message-format', 'json-render-diagnostics'],
    {
      cwd: PACKAGE_ROOT,
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
      encoding: 'utf8',
      maxBuffer: Infinity
    }
  )
  const library = cargo.stdout
    .split('\n')
    .filter(line => line.startsWith('{'))
    .map(line => JSON.parse(line))
    .filter(
      message => message.reason === 'compiler-artifact' && message.target.kind.includes('cdylib')
    )
    .flatMap(message => message.filenames)
    .find(filename => filename.endsWith('.so'))
  if (cargo.status !== 0 || !library)
    fail('wasm-hostmap could not be built: cargo failed, see above.')

  // A rename, so that a process which runs with an earlier binary keeps that one whole.
  const binary = binaryPath()
  const incoming = `${binary}.${process.pid}`
  copyFileSync(library, incoming)
  renameSync(incoming, binary)
  rmSync(path.join(PACKAGE_ROOT, 'target'), { recursive: true, force: true })
}

function main() {
  const refusal = unsupported()
  if (refusal) fail(refusal.message)
  if (isWorkingCopy()) return buildWorkingCopy()

  // What counts is the package's own binary.
  delete process.env.NAPI_RS_NATIVE_LIBRARY_PATH
  try {
    require('../lib/platform/binding.js')
  } catch (loadError) {
    buildDependency(loadError)
    try {
      require('../lib/platform/binding.js')
    } catch (error) {
      fail(error.message)
    }
  }
}

main()
