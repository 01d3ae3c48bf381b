'use strict'

// The packages of a release: one for each target with a binary, and the main one, which names them.

const path = require('node:path')

const ROOT = path.join(__dirname, '..', '..')
const working = require('../../package.json')

// The oldest glibc that a binary may need: what the official builds of Node.js 20 need, too.
const OLDEST_GLIBC = '2.28'

/** By name: what Rust and Zig call it, and what package managers and ELF files call its parts. */
const TARGETS = new Map(
  [
    ['linux-x64-gnu', 'x86_64-unknown-linux-gnu', 'X86-64'],
    ['linux-x64-musl', 'x86_64-unknown-linux-musl', 'X86-64'],
    ['linux-arm64-gnu', 'aarch64-unknown-linux-gnu', 'AArch64'],
    ['linux-arm64-musl', 'aarch64-unknown-linux-musl', 'AArch64']
  ].map(([name, triple, machine]) => {
    const [os, cpu, abi] = name.split('-')
    const isGnu = abi === 'gnu'
    return [
      name,
      {
        name,
        triple,
        machine,
        os,
        cpu,
        libc: isGnu ? 'glibc' : 'musl',
        zigTriple: isGnu ? `${triple}.${OLDEST_GLIBC}` : triple,
        binary: `wasm-hostmap.${name}.node`,
        packageName: `@wasm-hostmap/${name}`
      }
    ]
  })
)

// What a registry shows of each.
const { version, license, engines } = working
const common = repository => ({
  ...(repository && { repository: { type: 'git', url: repository } })
})

/** The package.json of a target's package. */
function platformManifest({ name, binary, packageName, os, cpu, libc }, { repository } = {}) {
  return {
    name: packageName,
    version,
    description: `The native part of wasm-hostmap for ${name}`,
    license,
    ...common(repository),
    main: binary,
    files: [binary],
    engines,
    os: [os],
    cpu: [cpu],
    libc: [libc],
    // A file in an archive can't be loaded as a library.
    preferUnplugged: true,
    publishConfig: { access: 'public' }
  }
}

// Of a working copy only.
const NOT_PACKED = [
  'scripts',
  'napi',
  'jest',
  'prettier',
  'devDependencies',
  'overrides',
  'private'
]

/** The package.json of the main package: no binary, no script, and the names of those that have. */
function mainManifest({ repository } = {}) {
  const kept = Object.entries(working).filter(([key]) => !NOT_PACKED.includes(key))
  return {
    ...Object.fromEntries(kept),
    ...common(repository),
    files: working.files.filter(file => !file.endsWith('.node')),
    optionalDependencies: Object.fromEntries(
      [...TARGETS.values()].map(({ packageName }) => [packageName, version])
    ),
    publishConfig: { access: 'public' }
  }
}

module.exports = { ROOT, OLDEST_GLIBC, TARGETS, platformManifest, mainManifest }
