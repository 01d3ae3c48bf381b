// Packs the package and uses the tarball as somebody does who has neither Rust nor a compiler:
// installs it into empty projects, offline, with a PATH that holds little more than Node.js and
// npm.
//
//   node scripts/tarball.mjs [--no-build] [--tarball FILE] [--all-targets]
//
// --no-build leaves out the last part, the build from the tarball's own sources, which takes the
// time of a release build. --tarball tries one that is there already. --all-targets wants it to
// hold a binary for each target, and not only for this machine.

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const require = createRequire(import.meta.url)
const { target } = require('../lib/platform/platform.js')

const { values: options } = parseArgs({
  options: {
    'no-build': { type: 'boolean' },
    tarball: { type: 'string' },
    'all-targets': { type: 'boolean' }
  }
})
const work = fs.mkdtempSync(path.join(os.tmpdir(), 'wasm-hostmap-tarball-'))

// What the tarball holds besides src/, lib/ and adapters/, so that nothing comes along unnoticed.
const TOP_LEVEL = new Set([
  'ARCHITECTURE.md',
  'docs/engines.md',
  'docs/faults.md',
  'docs/internals.md',
  'docs/limits.md',
  'docs/performance.md',
  'Cargo.lock',
  'Cargo.toml',
  'LICENSE',
  'README.md',
  'build.rs',
  'guest/Cargo.lock',
  'guest/Cargo.toml',
  'guest/README.md',
  'guest/hostmap.h',
  'guest/hostmap.rs',
  'guest/lib.rs',
  'index.d.mts',
  'index.d.ts',
  'index.js',
  'index.mjs',
  'package.json',
  'scripts/install.cjs',
  ...binaries()
])

/** The files of the binaries that the tarball has. */
function binaries() {
  const targets = options['all-targets']
    ? ['x64', 'arm64'].flatMap(arch => ['gnu', 'musl'].map(libc => `linux-${arch}-${libc}`))
    : [target()]
  return targets.map(each => `wasm-hostmap.${each}.node`)
}

// The module that both consumers run: loads the 32-bit word at an address.
const READER = `(module
  (import "env" "memory" (memory 1))
  (func (export "load") (param i32) (result i32) local.get 0 i32.load))`

const CONSUMER_BODY = `
  const guarded = new GuardedMemory({ initial: 1 })
  const region = HostRegion.copyFrom(Uint32Array.of(0xc0ffee))
  const mapping = guarded.map(region)
  const compiled = new WebAssembly.Module(require('node:fs').readFileSync('reader.wasm'))
  const { load } = new WebAssembly.Instance(compiled, { env: { memory: guarded.memory } }).exports
  if (load(mapping.pointer) !== 0xc0ffee) throw new Error('the module read ' + load(mapping.pointer))
  mapping.unmap()
  if (load(mapping.pointer) !== 0) throw new Error('the region is still there')
  region.close()
`

const CONSUMERS = {
  'consumer.cjs': `const { GuardedMemory, HostRegion } = require('wasm-hostmap')\n${CONSUMER_BODY}`,
  'consumer.mjs': `import { createRequire } from 'node:module'
import { GuardedMemory, HostRegion } from 'wasm-hostmap'
const require = createRequire(import.meta.url)
${CONSUMER_BODY}`,
  'identity.mjs': `import { createRequire } from 'node:module'
const require = createRequire(import.meta.url)
const subpaths = Object.keys(require('wasm-hostmap/package.json').exports)
for (const subpath of subpaths.filter(name => !name.endsWith('.json'))) {
  const from = 'wasm-hostmap' + subpath.slice(1)
  const [imported, required] = [await import(from), require(from)]
  const names = Object.keys(required)
  const other = names.find(name => imported[name] !== required[name])
  if (other) throw new Error(from + ': ' + other + ' is not the same by require and by import')
  if (names.length === 0) throw new Error(from + ' exports nothing')
}`
}

function step(name, body) {
  const started = performance.now()
  body()
  console.log(`ok   ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)`)
}

/** A directory with nothing but these commands, to be the PATH. */
function commands(name, ...names) {
  const directory = path.join(work, name)
  fs.mkdirSync(directory)
  for (const command of names) {
    const found = process.env.PATH.split(path.delimiter)
      .map(entry => path.join(entry, command))
      .find(file => fs.existsSync(file))
    assert(found, `${command} is not in PATH`)
    fs.symlinkSync(fs.realpathSync(found), path.join(directory, command))
  }
  fs.symlinkSync(process.execPath, path.join(directory, 'node'))
  return directory
}

/**
 * The environment of a machine without Rust: another home directory, and no more commands than npm
 * itself needs.
 */
function bareEnvironment(PATH) {
  const HOME = path.join(work, 'home')
  fs.mkdirSync(HOME, { recursive: true })
  return { PATH, HOME, CI: 'true' }
}

function emptyProject(name) {
  const project = path.join(work, name)
  fs.mkdirSync(project)
  fs.writeFileSync(path.join(project, 'package.json'), JSON.stringify({ name, private: true }))
  return project
}

function runConsumers(project, env) {
  fs.copyFileSync(path.join(work, 'reader.wasm'), path.join(project, 'reader.wasm'))
  for (const [file, source] of Object.entries(CONSUMERS)) {
    fs.writeFileSync(path.join(project, file), source)
    execFileSync('node', [file], { cwd: project, env, stdio: ['ignore', 'inherit', 'inherit'] })
  }
}

/** The tarball as it would be on a machine of another kind: without the binary. */
function withoutBinary(tarball) {
  const unpacked = path.join(work, 'unpacked')
  fs.mkdirSync(unpacked)
  execFileSync('tar', ['-xzf', tarball, '-C', unpacked])
  fs.rmSync(path.join(unpacked, 'package', `wasm-hostmap.${target()}.node`))
  const result = path.join(work, 'without-binary.tgz')
  execFileSync('tar', ['-czf', result, '-C', unpacked, 'package'])
  return result
}

const npmInstall = (tarball, ...more) => [
  'install',
  '--offline',
  '--no-audit',
  '--no-fund',
  tarball,
  ...more
]

async function main() {
  const { default: initWabt } = await import('wabt')
  const wabt = await initWabt()
  fs.writeFileSync(
    path.join(work, 'reader.wasm'),
    wabt.parseWat('reader.wat', READER).toBinary({}).buffer
  )

  let tarball = options.tarball && path.resolve(options.tarball)
  if (!tarball) {
    step('npm pack', () => {
      execFileSync('npm', ['pack', '--pack-destination', work], { cwd: ROOT, stdio: 'ignore' })
      tarball = path.join(
        work,
        fs.readdirSync(work).find(name => name.endsWith('.tgz'))
      )
    })
  }

  step('the tarball holds only what it needs', () => {
    const files = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' })
      .split('\n')
      .filter(Boolean)
      .map(name => name.replace(/^package\//, ''))
    const unexpected = files.filter(
      name =>
        !TOP_LEVEL.has(name) &&
        !/^(src\/.+\.rs|(lib|adapters)\/.+\.m?js|adapters\/.+\.d\.ts)$/.test(name)
    )
    assert.deepEqual(unexpected, [], 'unexpected files')
    // README.md, LICENSE, ARCHITECTURE.md and docs are for people; without any of the others the
    // package does not work.
    const missing = [...TOP_LEVEL].filter(
      name => !/\.md$|^LICENSE$/.test(name) && !files.includes(name)
    )
    assert.deepEqual(missing, [], 'missing files')
    console.log(
      `     ${files.length} files, ${(fs.statSync(tarball).size / 1024).toFixed()} KiB packed`
    )
  })

  const env = bareEnvironment(commands('bin', 'npm', 'sh'))
  for (const command of ['cargo', 'rustc', 'cc', 'gcc', 'clang', 'ld', 'make']) {
    assert.equal(
      spawnSync(command, ['--version'], { env }).error?.code,
      'ENOENT',
      `${command} can be found`
    )
  }

  const project = emptyProject('with-binary')
  step('installs without Rust and a compiler', () => {
    execFileSync('npm', npmInstall(tarball), {
      cwd: project,
      env,
      stdio: ['ignore', 'ignore', 'inherit']
    })
  })
  step('works by require and by import, one instance behind both', () => runConsumers(project, env))
  step('its types are right', () => {
    const installed = path.join(project, 'node_modules', 'wasm-hostmap')
    execFileSync(process.execPath, [path.join(ROOT, '__test__/types/check.mjs'), installed], {
      stdio: ['ignore', 'ignore', 'inherit']
    })
  })

  const foreign = withoutBinary(tarball)
  step('without its binary and without Rust, says what to do', () => {
    const { status, stderr } = spawnSync('npm', npmInstall(foreign), {
      cwd: emptyProject('without-rust'),
      env,
      encoding: 'utf8'
    })
    assert.notEqual(status, 0)
    assert.match(stderr, /rustup\.rs/)
    assert.match(stderr, /npm pack/)
  })
  if (!options['no-build']) {
    const built = emptyProject('with-rust')
    step('without its binary, builds it from the sources in the tarball', () => {
      execFileSync('npm', npmInstall(foreign), {
        cwd: built,
        stdio: ['ignore', 'ignore', 'inherit']
      })
      runConsumers(built, env)
    })
  }
}

try {
  await main()
} finally {
  fs.rmSync(work, { recursive: true, force: true })
}
