'use strict'

// Where the package runs, and what this process runs on.

const { readFileSync } = require('node:fs')
const { TARGETS, hasBinary } = require('./place.js')

const SUPPORTED = 'Linux on x64 or arm64, with glibc or musl, and Node.js 20 or later'
const OLDEST_NODE = 20
const OLDEST_BUN = '1.4'

function hostmapError(code, message, cause) {
  const error = new Error(message, cause === undefined ? undefined : { cause })
  error.code = code
  return error
}

/** Whether a version is before one that is given as major and minor. */
function isBefore(version, oldest) {
  const [major, minor] = version.split('.', 2).map(Number)
  const [oldestMajor, oldestMinor] = oldest.split('.', 2).map(Number)
  return major < oldestMajor || (major === oldestMajor && minor < oldestMinor)
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
  const bun = process.versions.bun
  if (bun !== undefined && isBefore(bun, OLDEST_BUN)) {
    return hostmapError(
      'ERR_HOSTMAP_LOAD_FAILED',
      `wasm-hostmap can't be loaded: this is Bun ${bun}, which uses a memory's addresses for other things when it is collected.\n` +
        `  1. Use Bun ${OLDEST_BUN} or later, or Node.js.\nIt runs on ${SUPPORTED}.`
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
  // Deno knows what it was built for, and asks its user before it shows anything else.
  const built = globalThis.Deno?.build?.target
  if (built !== undefined) return /-musl/.test(built) ? 'musl' : 'gnu'
  const maps = allowed(() => readFileSync('/proc/self/maps', 'latin1'))
  // An update of the system takes the file away from processes that run.
  const glibc = /\/libc(\.so\.6|-2\.\d+\.so)( \(deleted\))?$/m
  if (maps !== undefined) return glibc.test(maps) ? 'gnu' : 'musl'
  // Node's permission model hides /proc. The report takes milliseconds, and is allowed.
  const report = allowed(() => process.report.getReport().header)
  if (report !== undefined) return report.glibcVersionRuntime ? 'gnu' : 'musl'
  // Then what was installed tells.
  return hasBinary(nameOf('gnu')) || !hasBinary(nameOf('musl')) ? 'gnu' : 'musl'
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

const nameOf = libc => `linux-${process.arch}-${libc}`

/** How this machine is called in the names of binaries, such as `linux-x64-gnu`. */
const target = () => nameOf(libc())

/**
 * Names another build, such as one with the feature `inject`. What napi-rs has for that
 * (NAPI_RS_NATIVE_LIBRARY_PATH) is read by all packages that are made with it: two of them in one
 * process would load the same file.
 */
const BINARY_VARIABLE = 'WASM_HOSTMAP_BINARY_PATH'

/** The path of another build, or undefined. */
function override() {
  return allowed(() => {
    // Else Deno would ask its user, where there is a terminal.
    const asked = { name: 'env', variable: BINARY_VARIABLE }
    const state = globalThis.Deno?.permissions?.querySync(asked).state ?? 'granted'
    return state === 'granted' ? process.env[BINARY_VARIABLE] : undefined
  })
}

module.exports = {
  OLDEST_NODE,
  TARGETS,
  hostmapError,
  unsupported,
  allowed,
  glibcVersion,
  target,
  BINARY_VARIABLE,
  override
}
