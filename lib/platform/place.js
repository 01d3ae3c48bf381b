'use strict'

// Where the package's own files are. Each binary has a package of its own, which the main package
// names as an optional dependency, in exactly its own version: a package manager installs the one
// for its machine. A working copy has what it has built next to its package.json.

const {
  existsSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync
} = require('node:fs')
const { createRequire } = require('node:module')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { fileURLToPath } = require('node:url')

const { version: VERSION, optionalDependencies } = require('../../package.json')

// A bundle has this code in a file of its own, and a binary is looked for next to that. If it is an
// ES module it has no __filename, but V8 knows it. Bun's executables keep the name of the file that
// was bundled.
const isBunExecutable = globalThis.Bun?.main?.startsWith('/$bunfs/') === true
const THIS_FILE = isBunExecutable
  ? process.execPath
  : typeof __filename === 'string' && existsSync(__filename)
    ? __filename
    : ((typeof __filename === 'string' ? undefined : fileByStack()) ??
      path.resolve(process.argv[1] ?? 'bundle.js'))
const SOURCE_ROOT = path.join(path.dirname(THIS_FILE), '..', '..')
const IS_BUNDLED = !existsSync(path.join(SOURCE_ROOT, 'lib', 'platform', 'place.js'))
const PACKAGE_ROOT = IS_BUNDLED ? path.dirname(THIS_FILE) : SOURCE_ROOT

/** The file that this code is in, by its frame on the stack; undefined where that is no file. */
function fileByStack() {
  // As callers.js asks, which needs what is loaded from here.
  const asked = {}
  const before = Object.entries(Error).find(([name]) => name === 'prepareStackTrace')
  try {
    Error.prepareStackTrace = (error, [caller]) => caller?.getFileName()
    Error.captureStackTrace(asked, fileByStack)
    const name = asked.stack
    const file = name?.startsWith('file:') ? fileURLToPath(name) : name
    return file !== undefined && existsSync(file) ? path.resolve(file) : undefined
  } catch {
    // Error is frozen, say.
    return undefined
  } finally {
    if (before === undefined) Reflect.deleteProperty(Error, 'prepareStackTrace')
    else Reflect.set(Error, ...before)
  }
}

// Names are put in when the package is packed for a registry.
const IS_RELEASE = optionalDependencies !== undefined

// Node's own, in a bundle too: what bundlers put in its place knows no file that comes later.
const requireHere = createRequire(THIS_FILE)

const TARGETS = ['linux-x64-gnu', 'linux-x64-musl', 'linux-arm64-gnu', 'linux-arm64-musl']

/**
 * For tools that copy what a program needs (Next.js, Vercel, ncc): they read such calls, and copy
 * the files that are there. Nobody makes them. Bundlers leave paths alone: for the same files by
 * `require`, or `require.resolve`, they'd want a loader.
 */
function namedForTracers() {
  path.join(__dirname, '../../../@wasm-hostmap/linux-x64-gnu/package.json')
  path.join(__dirname, '../../../@wasm-hostmap/linux-x64-gnu/wasm-hostmap.linux-x64-gnu.node')
  path.join(__dirname, '../../../@wasm-hostmap/linux-x64-musl/package.json')
  path.join(__dirname, '../../../@wasm-hostmap/linux-x64-musl/wasm-hostmap.linux-x64-musl.node')
  path.join(__dirname, '../../../@wasm-hostmap/linux-arm64-gnu/package.json')
  path.join(__dirname, '../../../@wasm-hostmap/linux-arm64-gnu/wasm-hostmap.linux-arm64-gnu.node')
  path.join(__dirname, '../../../@wasm-hostmap/linux-arm64-musl/package.json')
  path.join(__dirname, '../../../@wasm-hostmap/linux-arm64-musl/wasm-hostmap.linux-arm64-musl.node')
}

const packageOf = target => `@wasm-hostmap/${target}`
const binaryName = target => `wasm-hostmap.${target}.node`

/** Where a build for a target is put: next to package.json. */
const builtFile = target => path.join(PACKAGE_ROOT, binaryName(target))

/**
 * The binary for a target: what was built, or that of its package, looked for from this file
 * upwards. No other package's name is ever tried. Throws if it is not there.
 */
function binaryFile(target) {
  const built = builtFile(target)
  return existsSync(built) ? built : requireHere.resolve(packageOf(target))
}

/** Whether there is a binary for a target. */
function hasBinary(target) {
  try {
    binaryFile(target)
    return true
  } catch {
    return false
  }
}

/** The folder of a target's package, whatever is in it; undefined if that is not installed. */
function packageFolder(target) {
  const [, name] = packageOf(target).split('/')
  const places = requireHere.resolve.paths?.('@wasm-hostmap/') ?? []
  return places
    .map(place => path.join(place, '@wasm-hostmap', name))
    .find(folder => existsSync(path.join(folder, 'package.json')))
}

/**
 * The version of the package that a binary is from; undefined for a build. Asked before it is
 * loaded: a binary stays in the process, and the first one serves all later copies.
 */
function versionOfPackage(file, target) {
  if (file === builtFile(target)) return undefined
  return JSON.parse(readFileSync(path.join(path.dirname(file), 'package.json'), 'utf8')).version
}

// The name of the binary in a single executable application, which `assets` of its configuration
// gives it.
const ASSET = 'wasm-hostmap.node'

/**
 * The binary that a single executable application carries, or undefined. The dynamic linker loads
 * files only, so it becomes one, which `done` removes: what is loaded needs it no more.
 *
 * @param isGlibc whether the dynamic linker knows by its path what it has loaded. Then all threads
 * share the first one's: each file stays in the process for good.
 */
function unpackAsset(isGlibc) {
  let bytes
  try {
    const sea = requireHere('node:sea')
    if (!sea.isSea()) return undefined
    bytes = sea.getRawAsset(ASSET)
  } catch {
    // No such module, or no such asset.
    return undefined
  }
  const loaded = isGlibc() ? loadedAsset() : undefined
  if (loaded !== undefined) return { file: loaded, done() {} }
  // The kernel names files without links.
  const folder = mkdtempSync(path.join(realpathSync(tmpdir()), FOLDER))
  const done = () => rmSync(folder, { recursive: true, force: true })
  const file = path.join(folder, ASSET)
  try {
    writeFileSync(file, Buffer.from(bytes), { mode: 0o500 })
  } catch (error) {
    done()
    throw error
  }
  return { file, done }
}

const FOLDER = 'wasm-hostmap-'

/** Where the file was that another thread has unpacked; undefined if there is none. */
function loadedAsset() {
  try {
    const maps = readFileSync('/proc/self/maps', 'utf8')
    return LOADED_ASSET.exec(maps)?.[1]
  } catch {
    return undefined
  }
}
// What is executed of it: a file that a program maps as data may have any name.
const LOADED_ASSET = new RegExp(
  `^[\\da-f]+-[\\da-f]+ r-xp [^/\\n]*(/.*/${FOLDER}\\w+/${ASSET}) \\(deleted\\)$`,
  'm'
)

/** Loads a file that need not be there any more, which `require` would look for. */
function loadAsset(file) {
  const loaded = { exports: {} }
  process.dlopen(loaded, file)
  return loaded.exports
}

/** Whether this is a working copy, which can be built, rather than an installed package. */
const isWorkingCopy = () => existsSync(path.join(PACKAGE_ROOT, 'Cargo.toml'))

module.exports = {
  VERSION,
  PACKAGE_ROOT,
  IS_BUNDLED,
  IS_RELEASE,
  TARGETS,
  namedForTracers,
  requireHere,
  packageOf,
  builtFile,
  binaryFile,
  hasBinary,
  ASSET,
  unpackAsset,
  loadAsset,
  packageFolder,
  versionOfPackage,
  isWorkingCopy
}
