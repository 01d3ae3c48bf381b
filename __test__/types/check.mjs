// Type-checks the consumer projects beside this file against the package's declarations, as users'
// compilers do:
//
//   node __test__/types/check.mjs [PACKAGE_DIRECTORY]
//
// Also that each subpath of the package has types, for ES modules and for CommonJS. The scripts of
// the documentation are checked by ../support/snippets/check.mjs.
//
// The package (by default this working copy) is put into a node_modules directory, so that
// `exports` is obeyed.

import { spawnSync } from 'node:child_process'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const HERE = import.meta.dirname ?? path.dirname(fileURLToPath(import.meta.url))
const ROOT = path.join(HERE, '..', '..')
const TSC = path.join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')
const PACKAGE_FILES = ['package.json', 'index.d.ts', 'index.d.mts', 'adapters']

const packageDirectory = path.resolve(process.argv[2] ?? ROOT)
const project = mkdtempSync(path.join(tmpdir(), 'wasm-hostmap-types-'))
let failed = 0

function check(name, consumer, ...options) {
  const started = performance.now()
  const { status } = spawnSync(process.execPath, [TSC, '--project', consumer, ...options], {
    cwd: project,
    stdio: ['ignore', 'inherit', 'inherit']
  })
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  console.log(`${status === 0 ? 'ok  ' : 'FAIL'} ${name} (${seconds} s)`)
  if (status !== 0) failed += 1
}

/** Writes a module that imports each subpath with types, and gives the project. */
function subpathProject(kind) {
  const { exports } = JSON.parse(readFileSync(path.join(packageDirectory, 'package.json'), 'utf8'))
  const subpaths = Object.keys(exports).filter(name => !name.endsWith('.json'))
  const name = `subpaths-${kind}`
  mkdirSync(path.join(project, name))
  for (const file of ['package.json', 'tsconfig.json'])
    cpSync(path.join(HERE, kind, file), path.join(project, name, file))
  const lines = subpaths.map((subpath, index) => {
    const from = `'wasm-hostmap${subpath.slice(1)}'`
    const line = kind === 'cjs' ? `each = require(${from})` : `* as each from ${from}`
    return `import ${line.replace('each', `each${index}`)}`
  })
  // A module without types would be `any`, which has every name.
  lines.push(...subpaths.map((_, index) => `// @ts-expect-error\neach${index}.noSuchName`))
  writeFileSync(path.join(project, name, 'subpaths.ts'), `${lines.join('\n')}\n`)
  return name
}

try {
  const installed = path.join(project, 'node_modules', 'wasm-hostmap')
  mkdirSync(installed, { recursive: true })
  for (const file of PACKAGE_FILES)
    cpSync(path.join(packageDirectory, file), path.join(installed, file), { recursive: true })
  for (const dependency of ['@types', 'undici-types']) {
    symlinkSync(
      path.join(ROOT, 'node_modules', dependency),
      path.join(project, 'node_modules', dependency)
    )
  }
  for (const consumer of ['cjs', 'esm']) {
    const directory = path.join(project, consumer)
    mkdirSync(directory)
    for (const file of readdirSync(path.join(HERE, consumer))) {
      if (!file.includes('.dom.'))
        cpSync(path.join(HERE, consumer, file), path.join(directory, file))
    }
    check(`${consumer}, nodenext, without lib dom`, consumer)
    check(`${consumer}, node16, without lib dom`, consumer, '--module', 'node16')
    cpSync(path.join(HERE, consumer), directory, { recursive: true })
    check(`${consumer}, nodenext, with lib dom`, consumer, '--lib', 'es2022,dom')
  }
  for (const kind of ['cjs', 'esm']) check(`subpaths, ${kind}`, subpathProject(kind))
} finally {
  rmSync(project, { recursive: true, force: true })
}
if (failed > 0) process.exitCode = 1
