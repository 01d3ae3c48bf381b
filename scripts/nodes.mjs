// The releases of Node.js that the package is tested on, and where their binaries are. The binaries
// come from npm's `node` package and stay in .matrix/.

import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

// The one place for these versions.
export const RELEASES = new Map([
  ['20', '20.20.2'],
  ['22', '22.23.3'],
  ['24', '24.21.0'],
  ['26', '26.10.0']
])

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** The version of a Node.js, such as '20.20.2'. */
export const versionOf = node =>
  execFileSync(node, ['--version'], { encoding: 'utf8' }).trim().slice(1)

/** The path of the Node.js of a major version, which is installed if need be. */
export function nodeOf(major) {
  const release = RELEASES.get(major)
  if (process.versions.node === release) return process.execPath
  const directory = path.join(ROOT, '.matrix', major)
  const node = path.join(directory, 'node_modules', 'node', 'bin', 'node')
  if (!existsSync(node) || versionOf(node) !== release) {
    console.log(`Installing Node.js ${release} into .matrix/${major}`)
    mkdirSync(directory, { recursive: true })
    writeFileSync(path.join(directory, 'package.json'), '{ "private": true }\n')
    // --prefix and not the working directory: npm may be running us, and its environment names the
    // package's own directory.
    const options = [
      '--no-audit',
      '--no-fund',
      '--no-save',
      '--no-package-lock',
      '--prefix',
      directory
    ]
    execFileSync('npm', ['install', ...options, `node@${release}`], {
      cwd: directory,
      stdio: ['ignore', 'inherit', 'inherit']
    })
    if (versionOf(node) !== release)
      throw new Error(`${node} is Node.js ${versionOf(node)}, not ${release}`)
  }
  return node
}
