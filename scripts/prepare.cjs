'use strict'

// Builds the addon. npm runs this in a clone: after `npm ci` and `npm install`, before `npm pack`,
// and where a project installs the package from its repository. Packages from a registry bring the
// addon, and no script.

const { spawnSync } = require('node:child_process')
const os = require('node:os')
const path = require('node:path')
const { PACKAGE_ROOT } = require('../lib/platform/place.js')
const { RUST, RUST_VERSION } = require('../lib/platform/load-errors.js')
const { unsupported, target } = require('../lib/platform/platform.js')

const HOW_TO_GET_RUST =
  "https://rustup.rs, or `curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh`"

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

const refusal = unsupported()
if (refusal) fail(refusal.message)

const env = buildEnvironment()
const problem = rustProblem(env)
if (problem) {
  fail(
    `${problem} Building wasm-hostmap takes ${RUST}.\n` +
      `  1. Get Rust from ${HOW_TO_GET_RUST}, and run the installation again.\n` +
      '  2. Or install a release, which brings a binary: `npm install wasm-hostmap`.'
  )
}
const build = spawnSync('npm', ['run', 'build'], { cwd: PACKAGE_ROOT, env, stdio: 'inherit' })
if (build.status !== 0) fail('wasm-hostmap could not be built: `npm run build` failed, see above.')
