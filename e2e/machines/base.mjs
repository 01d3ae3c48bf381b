// What a guest's files are: a base system of Debian 11, whose glibc (2.31) is old, and Node.js.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'

import { RELEASES } from '../../scripts/nodes.mjs'
import { unpack } from './apt.mjs'
import { CACHE, kept } from './cache.mjs'
import { ARCHES } from './kernels.mjs'

/** The release whose C library guests have. */
const SUITE = 'bullseye'

/** What Node.js, a shell script and our tests need. Node.js 26 needs libatomic1 on arm64. */
const PACKAGES = [
  'base-files',
  'bash',
  'coreutils',
  'dash',
  'debianutils',
  'findutils',
  'grep',
  'hostname',
  'libacl1',
  'libatomic1',
  'libattr1',
  'libc-bin',
  'libc6',
  'libcrypt1',
  'libgcc-s1',
  'libgmp10',
  'liblz4-1',
  'liblzma5',
  'libpcre2-8-0',
  'libpcre3',
  'libprocps8',
  'libselinux1',
  'libsmartcols1',
  'libsystemd0',
  'libstdc++6',
  'libtinfo6',
  'libudev1',
  'libuuid1',
  'procps',
  'sed',
  'tar',
  'util-linux',
  'libgcrypt20',
  'libgpg-error0',
  'libmount1',
  'libblkid1',
  'libncurses6',
  'libncursesw6',
  'libcap2',
  'libzstd1',
  'zlib1g'
]

/** The folder of the base system. */
export const base = archName =>
  kept(`base-${SUITE}-${archName}`, into => {
    // As on every Debian since 12: /bin is /usr/bin.
    for (const place of ['bin', 'sbin', 'lib', 'lib64']) {
      fs.mkdirSync(path.join(into, 'usr', place), { recursive: true })
      fs.symlinkSync(`usr/${place}`, path.join(into, place))
    }
    unpack(SUITE, ARCHES[archName].debian, PACKAGES, into)
    fs.mkdirSync(path.join(into, 'root'), { recursive: true })
    fs.writeFileSync(path.join(into, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n')
    fs.writeFileSync(path.join(into, 'etc/group'), 'root:x:0:\n')
    fs.writeFileSync(path.join(into, 'etc/hosts'), '127.0.0.1 localhost guest\n::1 localhost\n')
    if (!fs.existsSync(path.join(into, 'bin/sh'))) fs.symlinkSync('dash', path.join(into, 'bin/sh'))
  })

/**
 * The folder that guests have as /opt: node20/, node22/ and so on, each with bin/node, from npm's
 * package `node`, whose binaries are Node.js's own.
 */
export function nodes(archName, majors) {
  const folder = path.join(CACHE, `opt-${archName}`)
  for (const major of majors) {
    const release = RELEASES.get(major)
    const name = `opt-${archName}/node${major}`
    const marker = path.join(folder, `node${major}`, `version-${release}`)
    if (fs.existsSync(path.join(folder, `node${major}`)) && !fs.existsSync(marker)) {
      fs.rmSync(path.join(folder, `node${major}`), { recursive: true })
    }
    kept(name, into => {
      fs.mkdirSync(path.join(into, 'bin'))
      install([`node-linux-${ARCHES[archName].node}@${release}`], archName, prefix => {
        const binary = path.join(
          prefix,
          `node_modules/node-linux-${ARCHES[archName].node}/bin/node`
        )
        fs.copyFileSync(binary, path.join(into, 'bin/node'))
      })
      fs.chmodSync(path.join(into, 'bin/node'), 0o755)
      fs.writeFileSync(path.join(into, `version-${release}`), '')
    })
  }
  return folder
}

/** Installs packages of npm for another processor, and hands over their folder. */
export function install(packages, archName, use) {
  const prefix = fs.mkdtempSync(path.join(CACHE, 'npm-'))
  try {
    fs.writeFileSync(path.join(prefix, 'package.json'), '{ "private": true }\n')
    const options = ['--no-audit', '--no-fund', '--no-package-lock', '--ignore-scripts', '--force']
    const target = ['--os', 'linux', '--cpu', ARCHES[archName].node, '--libc', 'glibc']
    execFileSync('npm', ['install', ...options, ...target, '--prefix', prefix, ...packages], {
      stdio: ['ignore', 'ignore', 'pipe']
    })
    use(prefix)
  } finally {
    fs.rmSync(prefix, { recursive: true })
  }
}
