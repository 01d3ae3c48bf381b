'use strict'

// The words for a native part that does not load: the likely cause, and what to do about it.

const { existsSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { elfArch, glibcNeeded } = require('./elf.js')
const { commandsOf, findLock, installedTargets, isMissingIn } = require('./installed.js')
const {
  ASSET,
  IS_BUNDLED,
  IS_RELEASE,
  PACKAGE_ROOT,
  VERSION,
  builtFile,
  isWorkingCopy,
  packageFolder,
  packageOf
} = require('./place.js')
const {
  BINARY_VARIABLE,
  allowed,
  glibcVersion,
  hostmapError,
  override,
  target
} = require('./platform.js')

// What Cargo.toml says, which is not there in an installed package.
const RUST_VERSION = '1.88'
const RUST = `Rust ${RUST_VERSION} or later (https://rustup.rs) and a C linker (gcc or clang)`

// A MODULE_NOT_FOUND error goes on with the stack of requires.
const firstLine = error => String(error?.message ?? error).split('\n', 1)[0]

const numbered = lines => lines.map((line, index) => `  ${index + 1}. ${line}\n`).join('')

const again = () =>
  isWorkingCopy()
    ? `Build it again: \`npm run build\`. That needs ${RUST}.`
    : 'Remove node_modules, and install again on this machine.'

// What leaves the package, with its subpaths, out of a bundle. docs/bundlers.md has the same lines.
const EXTERNAL = [
  ['esbuild', '--external:wasm-hostmap'],
  ['webpack', "externalsType: 'commonjs', externals: /^wasm-hostmap(\\/|$)/"],
  ['Vite', "ssr: { external: ['wasm-hostmap'] }"],
  ['Rollup', 'external: /^wasm-hostmap(\\/|$)/'],
  ['Next.js', "serverExternalPackages: ['wasm-hostmap']"],
  ['ncc', '--external wasm-hostmap']
]

/** The code is part of a bundle, whose bundler can't copy what it does not know of. */
function missingInBundle() {
  const lines = EXTERNAL.map(([name, line]) => `\n       ${name.padEnd(9)}${line}`).join('')
  return {
    cause: 'its code is part of a bundle, and its binary is not where it is looked for',
    fixes: [
      `Leave the package out of the bundle: mark it as external, and install it where the bundle runs.${lines}`,
      `Or put the binary, a file of the package ${packageOf(target())}, next to the bundle: ${builtFile(target())}`,
      `In a single executable application, make it the asset '${ASSET}'.`
    ]
  }
}

/** No binary is where one is looked for. */
function missing() {
  if (IS_BUNDLED) return missingInBundle()
  if (isWorkingCopy()) {
    return {
      cause: `this is a working copy, and it has not been built for ${target()}`,
      fixes: [`Build it: \`npm ci\`, or \`npm run build\` after that. It needs ${RUST}.`]
    }
  }
  if (!IS_RELEASE) {
    return {
      cause: 'it was installed from its repository, and was not built',
      fixes: [
        `Install it with scripts (without \`--ignore-scripts\`), on a machine with ${RUST}.`,
        'Or install a release, which brings a binary: `npm install wasm-hostmap`.'
      ]
    }
  }
  return missingPackage()
}

/** The package with the binary for this machine is not there, or not whole. */
function missingPackage() {
  const name = packageOf(target())
  const lock = allowed(findLock)
  const { again, fresh, relock, add, forTarget } = commandsOf(lock?.manager, target())
  if (packageFolder(target()) !== undefined) {
    return {
      cause: `the package ${name} is installed, but its binary is not in it`,
      fixes: [
        `Install it again: \`${fresh}\`.`,
        'If node_modules was copied here, let the copy have files that end in .node, too.'
      ]
    }
  }
  if (lock !== undefined && isMissingIn(lock, target())) {
    return {
      cause: `this is ${target()}, and ${lock.file} does not name ${name}: npm made it on another kind of machine, with node_modules there`,
      fixes: [
        `Make it again: \`${relock}\`. It then names the packages for all machines.`,
        `Or add what is missing: \`${add}\`.`
      ]
    }
  }
  const others = installedTargets()
  if (others.length > 0) {
    return {
      cause: `this is ${target()}, and what is installed is for ${others.join(' and ')}: node_modules was made for another machine or container`,
      fixes: [
        `Install on this machine, and don't copy or mount node_modules from elsewhere: \`${fresh}\`.`,
        forTarget
          ? `To install elsewhere for this machine: \`${forTarget}\`.`
          : `Or add what is missing: \`${add}\`.`
      ]
    }
  }
  return {
    cause: `${name}, which has the binary for this machine, is not installed: optional dependencies were left out, or node_modules comes from another system`,
    fixes: [
      `Install with optional dependencies: \`${again}\`, without \`--omit=optional\`, \`--no-optional\` and \`--ignore-optional\`.`,
      `Install on this machine, and don't copy or mount node_modules from elsewhere: \`${fresh}\`.`,
      `Or add it: \`${add}\`.`
    ]
  }
}

const REFUSED = /failed to map segment|Operation not permitted|Permission denied/

/**
 * A single executable application, whose binary could not become a file, or may not be executed as
 * one; undefined if the cause is another.
 */
function notUnpacked(file, error) {
  if (file !== undefined && !REFUSED.test(firstLine(error))) return undefined
  const folder = `the folder for temporary files, ${tmpdir()}`
  return {
    cause:
      file === undefined
        ? `the asset '${ASSET}' can't be written to ${folder}: ${firstLine(error)}`
        : `the system lets nothing in ${folder}, be executed`,
    fixes: [
      'Let TMPDIR name a folder that this process can write to, and that is not mounted with `noexec`.'
    ]
  }
}

/** What is wrong with the binary, in a sentence without its stop, and what to do about it. */
function diagnose(file, error, isAsset) {
  const unpacking = isAsset ? notUnpacked(file, error) : undefined
  if (unpacking !== undefined) return unpacking
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
      cause: `${BINARY_VARIABLE} names ${file}, which does not load: ${firstLine(error)}`,
      fixes: [`Unset ${BINARY_VARIABLE}, or let it name a build of wasm-hostmap.`]
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
  if (file === undefined || !existsSync(file)) return missing()
  if (REFUSED.test(firstLine(error))) {
    return {
      cause: 'the system does not let its binary be executed',
      fixes: [
        'Install the package on a file system that is not mounted with `noexec`.',
        'Let the user of this process read the binary.'
      ]
    }
  }
  if (/GLIBC_[\d.]+'? not found/.test(error?.message)) {
    const needed = glibcNeeded(file)
    return {
      cause: `its binary needs glibc ${needed} or later, and this machine has glibc ${glibcVersion()}`,
      fixes: [
        `Use a Linux distribution with glibc ${needed} or later, or one with musl.`,
        `Or build it on this machine, in a clone of its repository: \`npm ci\`. That needs ${RUST}.`
      ]
    }
  }
  const arch = elfArch(file)
  if (arch === null) return { cause: 'its binary is damaged', fixes: [again()] }
  if (arch !== process.arch) {
    return {
      cause: `its binary is for ${arch}, and this Node.js for ${process.arch}`,
      fixes: [again()]
    }
  }
  return { cause: firstLine(error), fixes: [again()] }
}

/**
 * The error for a native part that can't be loaded: the likely cause, and what to do, in order.
 * `file`: undefined if none was found. `isAsset`: it was to be unpacked.
 */
function loadFailed(file, error, { isAsset = false } = {}) {
  // Whatever can't be found out, there is a sentence for it.
  const { cause, fixes } = allowed(() => diagnose(file, error, isAsset)) ?? {
    cause: firstLine(error),
    fixes: [again()]
  }
  return hostmapError(
    'ERR_HOSTMAP_LOAD_FAILED',
    `wasm-hostmap can't be loaded: ${cause}.\n${numbered(fixes)}` +
      (file === undefined ? `The package: ${PACKAGE_ROOT}` : `The binary: ${file}`),
    error
  )
}

/** The error for a package with a binary that is not of the version of this one. */
function otherVersion(file, found) {
  const { add } = commandsOf(allowed(findLock)?.manager, target())
  return hostmapError(
    'ERR_HOSTMAP_TWO_VERSIONS',
    `wasm-hostmap can't be loaded: it is version ${VERSION}, and its binary, the package ${packageOf(target())}, is version ${found}.\n` +
      numbered([
        'Install again with optional dependencies: package managers then install the version that belongs to it.',
        `Or add that: \`${add}\`.`
      ]) +
      `The binary: ${file}`
  )
}

/**
 * The error for a process that has the native part of `loaded` and is asked to run that of
 * `wanted`: each `{ path, identity }`, the latter a version and, if it is known, a build.
 */
function twoVersions(loaded, wanted) {
  const name = ({ identity }) => {
    const [version, build] = identity.split(' ')
    return `${version}${build === undefined ? '' : `, build ${build}`}`
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

module.exports = { RUST, RUST_VERSION, loadFailed, otherVersion, twoVersions }
