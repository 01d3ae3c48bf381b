// Publishes the tarballs of a release: those with binaries first, so that the main package never
// names one that is not there. What the registry has already is left out, so that a release that
// ended in the middle can be published again.
//
//   node scripts/packages/publish.mjs FOLDER [OPTION OF NPM PUBLISH...]

import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'

const [folder, ...options] = process.argv.slice(2)
if (folder === undefined) {
  console.error('Usage: node scripts/packages/publish.mjs FOLDER [OPTION OF NPM PUBLISH...]')
  process.exit(2)
}

/** The package.json of a tarball. */
const manifestOf = tarball =>
  JSON.parse(execFileSync('tar', ['-xzOf', tarball, 'package/package.json'], { encoding: 'utf8' }))

/** What the registry has of a version: its integrity; undefined if there is no such version. */
function published({ name, version }, registry) {
  // Its error is what tells, also where npm runs this silently and hands that on.
  const args = ['view', `${name}@${version}`, 'dist.integrity', '--loglevel=error', ...registry]
  const { status, stdout, stderr } = spawnSync('npm', args, { encoding: 'utf8' })
  if (status === 0) return stdout.trim() || undefined
  if (/\bE404\b/.test(stderr)) return undefined
  throw new Error(stderr)
}

const registry = options.filter(option => option.startsWith('--registry='))
const packages = fs
  .readdirSync(folder)
  .filter(name => name.endsWith('.tgz'))
  .map(name => path.resolve(folder, name))
  .map(tarball => ({ tarball, manifest: manifestOf(tarball) }))
const isMain = ({ manifest }) => manifest.optionalDependencies !== undefined
packages.sort((a, b) => isMain(a) - isMain(b))
if (packages.filter(isMain).length !== 1 || packages.length !== 5) {
  console.error(`In ${folder} are ${packages.length} packages, and not the five of a release.`)
  process.exit(1)
}

for (const { tarball, manifest } of packages) {
  const label = `${manifest.name}@${manifest.version}`
  if (published(manifest, registry) !== undefined) {
    console.log(`${label} is published already`)
    continue
  }
  execFileSync('npm', ['publish', tarball, '--access', 'public', ...options], {
    stdio: ['ignore', 'inherit', 'inherit']
  })
  console.log(`${label} is published`)
}
