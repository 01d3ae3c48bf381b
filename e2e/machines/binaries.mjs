// What runs in guests and is built here: the addon, the tests of the core, and kernel.c.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'

import { install } from './base.mjs'
import { BINARIES, build, tools } from '../../scripts/packages/build.mjs'
import { CACHE, kept, output, ROOT } from './cache.mjs'
import { ARCHES } from './kernels.mjs'

const require = createRequire(import.meta.url)
const { TARGETS } = require('../../scripts/packages/manifests.cjs')

/** The addon as it is published, for glibc 2.28 and later (`gnu`) or for musl. */
export function binary(arch, libc = 'gnu') {
  const target = `linux-${arch}-${libc}`
  const folder = process.env.WASM_HOSTMAP_BINARIES
  if (folder) return path.resolve(folder, TARGETS.get(target).binary)
  return build(target)
}

/** An environment with Zig in PATH, where a build for a target has installed it. */
const withZig = () => {
  const bin = path.resolve(BINARIES, '../tools/bin')
  return { ...process.env, PATH: [bin, process.env.PATH].join(path.delimiter) }
}

/** The compiler of Zig, which compiles C for each processor, or the machine's own for its own. */
function compiler(arch) {
  if (spawnSync('python-zig', ['version'], { env: withZig() }).status === 0) {
    return ['python-zig', 'cc', '-target', `${ARCHES[arch].rust}-linux-gnu.2.28`]
  }
  // A guest's glibc is older than this machine's.
  if (arch === process.arch) return ['cc', '-static']
  const cross = `${ARCHES[arch].rust}-linux-gnu-gcc`
  if (spawnSync(cross, ['--version']).status === 0) return [cross, '-static']
  return null
}

/** kernel.c, built for a processor; null where nothing here compiles for it. */
export function kernelProgram(arch) {
  const found = compiler(arch)
  if (!found) return null
  const source = path.join(ROOT, 'e2e/machines/kernel.c')
  const digest = createHash('sha256').update(fs.readFileSync(source)).digest('hex').slice(0, 12)
  const folder = kept(`kernel-${arch}-${digest}`, into => {
    const [program, ...args] = found
    output(program, [...args, '-O1', '-o', path.join(into, 'kernel'), source], { env: withZig() })
  })
  return path.join(folder, 'kernel')
}

/**
 * The tests of the core, as cargo builds them for glibc 2.28: a folder with plain/ and inject/,
 * which has those that make system calls fail.
 */
export function coreTests(arch) {
  const { triple, zigTriple } = TARGETS.get(`linux-${arch}-gnu`)
  tools()
  output('rustup', ['target', 'add', triple])
  const folder = path.join(CACHE, `core-${arch}`)
  fs.rmSync(folder, { recursive: true, force: true })
  for (const [name, features] of [
    ['plain', []],
    ['inject', ['--features', 'inject']]
  ]) {
    const into = path.join(folder, name)
    fs.mkdirSync(into, { recursive: true })
    const command = ['test', '--no-run', '--locked', '--no-default-features', ...features]
    const text = output(
      'cargo-zigbuild',
      [...command, '--target', zigTriple, '--message-format', 'json'],
      {
        env: withZig(),
        cwd: ROOT,
        stdio: ['ignore', 'pipe', 'inherit']
      }
    )
    for (const line of text.split('\n').filter(Boolean)) {
      const { executable, target } = JSON.parse(line)
      if (executable) fs.copyFileSync(executable, path.join(into, target.name))
    }
  }
  return folder
}

/** What jest needs of another processor's: its resolver is native. A folder of such packages. */
export function resolverOf(arch) {
  if (arch === process.arch) return null
  const { version } = require('unrs-resolver/package.json')
  const name = `resolver-binding-linux-${arch}-gnu`
  return kept(`unrs-${version}-${arch}`, into => {
    install([`@unrs/${name}@${version}`], arch, prefix => {
      fs.cpSync(path.join(prefix, 'node_modules/@unrs', name), path.join(into, name), {
        recursive: true
      })
    })
  })
}
