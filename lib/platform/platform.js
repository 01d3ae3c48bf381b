'use strict'

// Where the package runs, and the words for the places where it does not.
// Loading (lib/platform/binding.js) and installing (scripts/install.cjs) both speak from here.

const { readFileSync, openSync, readSync, closeSync, readdirSync, existsSync } = require('node:fs')
const path = require('node:path')

const { version: VERSION } = require('../../package.json')

// A bundle has this code in a file of its own; the binary is looked for where its folder is.
const SOURCE_ROOT = path.join(__dirname, '..', '..')
const IS_BUNDLED = !existsSync(path.join(SOURCE_ROOT, 'lib', 'platform', 'platform.js'))
const PACKAGE_ROOT = IS_BUNDLED ? path.join(__dirname, '..') : SOURCE_ROOT
const BINARY_NAME = /^wasm-hostmap\.(?<target>linux-.+)\.node$/
const SUPPORTED = 'Linux on x64 or arm64, with glibc or musl, and Node.js 20 or later'
const OLDEST_NODE = 20
// What Cargo.toml says, which is not there where this is part of a bundle.
const RUST_VERSION = '1.88'

// e_machine of an ELF header, by Node's names.
const ELF_MACHINES = new Map([
  [62, 'x64'],
  [183, 'arm64'],
  [3, 'ia32'],
  [40, 'arm']
])

function hostmapError(code, message, cause) {
  const error = new Error(message, cause === undefined ? undefined : { cause })
  error.code = code
  return error
}

/** The error for a machine or a Node.js that the package can't run on, or null. */
function unsupported() {
  const { platform, arch, version } = process
  if (platform !== 'linux' || (arch !== 'x64' && arch !== 'arm64')) {
    return hostmapError(
      'ERR_HOSTMAP_UNSUPPORTED_PLATFORM',
      `wasm-hostmap does not run on ${platform} ${arch}. It runs on ${SUPPORTED}.` +
        (platform === 'linux'
          ? ''
          : ' A Linux container or virtual machine on this computer will do.')
    )
  }
  if (typeof WebAssembly === 'undefined') {
    return hostmapError(
      'ERR_HOSTMAP_UNSUPPORTED_PLATFORM',
      'wasm-hostmap needs WebAssembly, which this Node.js runs without (--jitless?)'
    )
  }
  if (Number.parseInt(process.versions.node, 10) < OLDEST_NODE) {
    return hostmapError(
      'ERR_HOSTMAP_LOAD_FAILED',
      `wasm-hostmap can't be loaded: this is Node.js ${version}.\n` +
        `  1. Use Node.js ${OLDEST_NODE} or later.\nIt runs on ${SUPPORTED}.`
    )
  }
  return null
}

/**
 * The C library of this process: `'gnu'` or `'musl'`. The process's own map tells it, and not what
 * else is installed: an Alpine image may well have an `ldd`, or a compatibility layer, of the other
 * kind.
 */
function libc() {
  const maps = allowed(() => readFileSync('/proc/self/maps', 'latin1'))
  if (maps !== undefined) return /\/libc(\.so\.6|-2\.\d+\.so)$/m.test(maps) ? 'gnu' : 'musl'
  // Node's permission model hides /proc. The report takes milliseconds, and is allowed.
  const report = allowed(() => process.report.getReport().header)
  if (report !== undefined) return report.glibcVersionRuntime ? 'gnu' : 'musl'
  // Deno may deny both. Then what was installed tells.
  return existsSync(pathOf('gnu')) || !existsSync(pathOf('musl')) ? 'gnu' : 'musl'
}

/** What a call gives; undefined where the runtime does not allow it, or has no such thing. */
function allowed(call) {
  try {
    return call()
  } catch {
    return undefined
  }
}

/** The version of the glibc that this process runs with; undefined if it is another C library. */
function glibcVersion() {
  return allowed(() => process.report.getReport().header.glibcVersionRuntime)
}

/** How this machine is called in the names of binaries, such as `linux-x64-gnu`. */
function target() {
  return `linux-${process.arch}-${libc()}`
}

const pathOf = libc => path.join(PACKAGE_ROOT, `wasm-hostmap.linux-${process.arch}-${libc}.node`)

/** Where the binary for this machine belongs. */
function binaryPath() {
  return pathOf(libc())
}

/**
 * The variable by which napi-rs packages take another build, such as one with the feature `inject`.
 */
function override() {
  return allowed(() => process.env.NAPI_RS_NATIVE_LIBRARY_PATH)
}

/**
 * Whether this is a working copy, whose `npm run build` has its tools, rather than an installed
 * package.
 */
function isWorkingCopy() {
  return existsSync(path.join(PACKAGE_ROOT, 'node_modules', '@napi-rs', 'cli'))
}

/** The processor that an ELF file is for, by Node's name, or null if it is no ELF file. */
function elfArch(file) {
  const header = Buffer.alloc(20)
  const fd = openSync(file, 'r')
  try {
    if (readSync(fd, header, 0, header.length, 0) < header.length) return null
  } finally {
    closeSync(fd)
  }
  if (header.readUInt32BE(0) !== 0x7f454c46) return null
  const machine = header.readUInt16LE(18)
  return ELF_MACHINES.get(machine) ?? `ELF machine ${machine}`
}

const build = () => {
  const command = isWorkingCopy() ? 'npm run build' : 'npm rebuild wasm-hostmap'
  return `Build it on this machine: \`${command}\`. That needs Rust ${RUST_VERSION} or later (https://rustup.rs) and a C linker (gcc or clang).`
}
const packed = () =>
  `Install a tarball that was packed on ${target()}: \`npm pack\` in a working copy there.`

// A MODULE_NOT_FOUND error goes on with the stack of requires.
const firstLine = error => String(error?.message ?? error).split('\n', 1)[0]

/** What is wrong with the binary, in a sentence without its stop, and what to do about it. */
function diagnose(file, error) {
  if (error?.name === 'NotCapable') {
    return {
      cause: `this Deno process is not permitted to: ${firstLine(error).replace(/, run again.*/, '')}`,
      fixes: [
        'Start Deno with `--allow-read --allow-ffi`: it takes the package and its binary to load them, and the binary is not in a sandbox.'
      ]
    }
  }
  if (override()) {
    return {
      cause: `NAPI_RS_NATIVE_LIBRARY_PATH names ${file}, which does not load: ${firstLine(error)}`,
      fixes: ['Unset NAPI_RS_NATIVE_LIBRARY_PATH, or let it name a build of wasm-hostmap.']
    }
  }
  if (error.code === 'ERR_DLOPEN_DISABLED') {
    return {
      cause: 'this Node.js process may not load native addons',
      fixes: [
        'Start Node.js with `--allow-addons`, if it is started with `--permission`.',
        'Start Node.js without `--no-addons`.'
      ]
    }
  }
  if (!existsSync(file) && IS_BUNDLED) {
    return {
      cause: 'its code is part of a bundle, and its binary is not where it is looked for',
      fixes: [
        'Leave the package out of the bundle: mark `wasm-hostmap` as external (esbuild: `--external:wasm-hostmap`).',
        'Or put the binary there, or let NAPI_RS_NATIVE_LIBRARY_PATH name it.'
      ]
    }
  }
  if (!existsSync(file)) {
    const others = readdirSync(PACKAGE_ROOT).flatMap(
      name => BINARY_NAME.exec(name)?.groups.target ?? []
    )
    if (others.length > 0) {
      return {
        cause: `this is ${target()}, and the package was installed with a binary for ${others.join(' and ')}`,
        fixes: [packed(), build()]
      }
    }
    return {
      cause: `there is no binary for ${target()}: the install script did not run, or did not succeed`,
      fixes: [build(), packed()]
    }
  }
  if (/failed to map segment|Operation not permitted|Permission denied/.test(firstLine(error))) {
    return {
      cause: 'the system does not let its binary be executed',
      fixes: [
        'Install the package on a file system that is not mounted with `noexec`.',
        'Let the user of this process read the binary.'
      ]
    }
  }
  const glibc = /GLIBC_(?<needed>\d+(\.\d+)+)'? not found/.exec(error?.message)
  if (glibc) {
    const { needed } = glibc.groups
    return {
      cause: `its binary needs glibc ${needed} or later, and this machine has glibc ${glibcVersion()}`,
      fixes: [build(), `Use a Linux distribution with glibc ${needed} or later.`]
    }
  }
  const arch = elfArch(file)
  if (arch === null)
    return { cause: 'its binary is damaged', fixes: ['Install the package again.', build()] }
  if (arch !== process.arch) {
    return {
      cause: `its binary is for ${arch}, and this Node.js for ${process.arch}`,
      fixes: [packed(), build()]
    }
  }
  return { cause: firstLine(error), fixes: [build(), packed()] }
}

/** The error for a binary that can't be loaded: the likely cause, and what to do, in order. */
function loadFailed(file, error) {
  // Whatever can't be found out, there is a sentence for it.
  const { cause, fixes } = allowed(() => diagnose(file, error)) ?? {
    cause: firstLine(error),
    fixes: [build(), packed()]
  }
  return hostmapError(
    'ERR_HOSTMAP_LOAD_FAILED',
    `wasm-hostmap can't be loaded: ${cause}.\n` +
      fixes.map((fix, index) => `  ${index + 1}. ${fix}\n`).join('') +
      `The binary: ${file}`,
    error
  )
}

/**
 * The error for a process that has the native part of `loaded` and is asked to run that of
 * `wanted`: each `{ path, identity }`, the latter a version and, if it is known, a build.
 */
function twoVersions(loaded, wanted) {
  const name = ({ identity }) => {
    const [version, build] = identity.split(' ')
    return `${version || 'an older version'}${build === undefined ? '' : `, build ${build}`}`
  }
  const isReplaced = loaded.path === wanted.path
  const sameVersion = loaded.identity.split(' ')[0] === wanted.identity.split(' ')[0]
  const fixes = isReplaced
    ? [
        'Start the process again, if the package was installed anew while it runs.',
        'Install the package again: its binary is of another version than its other files.'
      ]
    : sameVersion
      ? ['Install both from the same tarball, or build both from the same sources.']
      : [
          'Install one version for all: `npm ls wasm-hostmap` tells who wants which, and `npm dedupe` or `overrides` in package.json make them one.',
          'Run what needs the other version in a process of its own.'
        ]
  return hostmapError(
    'ERR_HOSTMAP_TWO_VERSIONS',
    `wasm-hostmap can't be loaded: there is one native part for a process, and two versions of it are here.\n` +
      `  This process runs ${name(loaded)}: ${loaded.path}\n` +
      `  What was loaded now is ${name(wanted)}: ${wanted.path}\n` +
      fixes
        .map((fix, index) => `  ${index + 1}. ${fix}\n`)
        .join('')
        .trimEnd()
  )
}

module.exports = {
  VERSION,
  PACKAGE_ROOT,
  OLDEST_NODE,
  unsupported,
  target,
  binaryPath,
  RUST_VERSION,
  override,
  isWorkingCopy,
  loadFailed,
  twoVersions
}
