// What install-here.mjs needs: the packages, published to a registry, as its files; npm; and the
// README's first example. And the table that docs/platforms.md has of what it measured.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'

import { output, ROOT } from './cache.mjs'

/** What is installed beside ours, to compare with: one file, no dependencies. */
export const SMALL_PACKAGE = 'is-number@7.0.0'

/** How often all of it is done: in a guest it takes minutes. */
export const ROUNDS = { host: 5, qemu: 2 }

const E2E_PACKAGES = path.join(ROOT, 'e2e/packages')

/** The README's first example. */
function firstExample() {
  const text = fs.readFileSync(path.join(ROOT, 'README.md'), 'utf8')
  const [, code] = /```(?:js|mjs)\n([\s\S]*?)```/.exec(text) ?? []
  if (!code) throw new Error('README.md has no example')
  return code
}

/** Fills a folder for install-here.mjs. `packed` has the tarballs of `npm run pack:all`. */
export async function prepare(packed, folder) {
  if (!fs.existsSync(path.join(E2E_PACKAGES, 'node_modules/verdaccio'))) {
    const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefix', E2E_PACKAGES]
    execFileSync('npm', ['ci', ...options], { cwd: E2E_PACKAGES, stdio: 'inherit' })
  }
  const { startRegistry } = await import('../packages/registry.mjs')
  const small = output('npm', ['pack', '--silent', '--pack-destination', folder, SMALL_PACKAGE])
  const registry = await startRegistry(folder)
  try {
    const publish = path.join(ROOT, 'scripts/packages/publish.mjs')
    output(process.execPath, [publish, path.resolve(packed), ...registry.publishing])
    output('npm', ['publish', ...registry.publishing, path.join(folder, small.trim())])
  } finally {
    await registry.stop()
  }
  fs.writeFileSync(path.join(folder, 'first.mjs'), firstExample())
  // The same one everywhere.
  const modules = output('npm', ['root', '--global']).trim()
  fs.cpSync(path.join(modules, 'npm'), path.join(folder, 'npm'), { recursive: true })
}

const seconds = value => (value >= 10 ? `${Math.round(value)}` : value.toFixed(value < 1 ? 2 : 1))

/**
 * The table of what was measured, and what emulated machines' figures say of real ones. `table`
 * writes one in Markdown.
 */
export function installs(results, table) {
  const short = kernel => /^\d+\.\d+/.exec(kernel)[0]
  const isHost = ({ machine }) => machine === 'host'
  const place = result =>
    `${result.arch}, ${result.libc.split(' ')[0]}, ${short(result.kernel)}${isHost(result) ? '' : ', emulated'}`
  const sorted = [...results].sort(
    (a, b) => isHost(b) - isHost(a) || place(a).localeCompare(place(b), 'en', { numeric: true })
  )
  const head = [
    'Where',
    'Node',
    '`node -e 0`',
    'Small package',
    'Ours',
    'Example',
    'Ours and example'
  ]
  const lines = sorted.map(result => {
    const { node, small, install, example } = result.seconds
    const values = [node, small, install, example, install + example].map(seconds)
    return [place(result), result.version, ...values]
  })
  const estimates = sorted
    .filter(result => !isHost(result))
    .map(result => {
      const real = results.find(
        other => isHost(other) && other.version === result.version && other.libc.startsWith('glibc')
      )
      if (!real) return []
      const [its, here] = [result.seconds, real.seconds]
      const [starts, small] = [its.node / here.node, its.small / here.small]
      return [
        place(result),
        Math.round(starts),
        Math.round(small),
        seconds(its.install / small + its.example / starts),
        result.arch === real.arch ? seconds(here.install + here.example) : 'not measured'
      ]
    })
    .filter(line => line.length > 0)
  const estimateHead = [
    'Where',
    'A start takes, times',
    'A small package, times',
    'Estimate of both, seconds',
    'Measured here, seconds'
  ]
  return `${table(head, lines)}

The emulated processor is no measure of a user's, so this is told apart: how many times as long it
takes to start Node.js and to install the small package. Our install divided by the one for the
small package, and the example divided by the one for a start, is an estimate of what a real
processor would take that is as fast as the one here. It is no measurement. Where x64 is emulated,
what was measured without the emulator tells how far off such an estimate is.

${table(estimateHead, estimates)}`
}
