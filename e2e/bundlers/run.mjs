// Builds and runs what docs/bundlers.md says: npm run test:bundlers [-- NAME] [--nodes 20,22,24,26]
//
// NAME is `bundlers`, `next` or `sea`: one of the tests here. --nodes: which Node.js make single
// executables, instead of the one that runs this. The bundlers are npm packages, pinned in this
// folder; the package is installed into projects from this checkout, with the addon that it has
// built.
import { execFileSync, spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { isInstalled } from '../../scripts/installed.mjs'

const HERE = path.dirname(fileURLToPath(import.meta.url))
const { values, positionals } = parseArgs({
  options: { nodes: { type: 'string' } },
  allowPositionals: true
})

if (!isInstalled(HERE)) {
  // esbuild's install script checks its program only.
  execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--ignore-scripts'], {
    cwd: HERE,
    stdio: 'inherit'
  })
}

const tests = readdirSync(HERE).filter(
  name =>
    name.endsWith('.test.mjs') &&
    (positionals.length === 0 || positionals.includes(name.replace('.test.mjs', '')))
)
if (tests.length === 0) throw new Error(`no such test: ${positionals.join(', ')}`)
const { status } = spawnSync(
  process.execPath,
  ['--test', '--test-reporter=spec', ...tests.map(name => path.join(HERE, name))],
  {
    env: { ...process.env, ...(values.nodes && { HOSTMAP_NODES: values.nodes }) },
    stdio: 'inherit'
  }
)
process.exitCode = status ?? 1
