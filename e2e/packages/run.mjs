// The packages of a release, as users get them: published to a registry on loopback, and installed
// from there into empty projects, by each package manager, where no compiler is.
//
//   npm run test:packages
//   npm run test:packages -- --tarballs FOLDER   those of a folder; else what `pack:all` has packed
//   npm run test:packages -- --only PATTERN      the tests whose names match
//   npm run test:packages -- --times             nothing but the times
//
// Packs what is missing, with the time of a build. Ends with a table of times.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import Table from 'cli-table3'
import { isInstalled } from '../../scripts/installed.mjs'

const HERE = path.dirname(fileURLToPath(import.meta.url))
const ROOT = path.join(HERE, '..', '..')
const require = createRequire(import.meta.url)
const manifests = require('../../scripts/packages/manifests.cjs')
const { target: nameOfTarget } = require('../../lib/platform/platform.js')

// From an empty folder, with the registry on loopback and without a compiler.
const MOST_SECONDS = 10

const { values: options } = parseArgs({
  options: {
    tarballs: { type: 'string' },
    only: { type: 'string', default: '' },
    times: { type: 'boolean' }
  }
})

const work = fs.mkdtempSync(path.join(os.tmpdir(), 'wasm-hostmap-packages-'))
const { version } = JSON.parse(fs.readFileSync(path.join(ROOT, 'package.json'), 'utf8'))

// What the test itself is made of, which the lock file of this folder pins.
if (!isInstalled(HERE)) {
  execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--prefix', HERE], {
    cwd: HERE,
    stdio: ['ignore', 'ignore', 'inherit']
  })
}
const { MANAGERS, OLD_NPM } = await import('./managers.mjs')
const { muslNode, NotToBeHad } = await import('./musl-node.mjs')
const { startRegistry } = await import('./registry.mjs')

/** The folder of the five tarballs. */
function tarballs() {
  const folder = path.resolve(options.tarballs ?? path.join(ROOT, 'target/packages'))
  const find = () =>
    fs.existsSync(folder) ? fs.readdirSync(folder).filter(name => name.endsWith('.tgz')) : []
  if (find().length !== 5 && options.tarballs === undefined) {
    execFileSync('npm', ['run', '--silent', 'pack:all', '--', '--quick'], {
      cwd: ROOT,
      stdio: ['ignore', 'inherit', 'inherit']
    })
  }
  assert.equal(find().length, 5, `the tarballs in ${folder}`)
  return folder
}

const [, firstExample] = /^```js\n([^]*?)^```$/m.exec(
  fs.readFileSync(path.join(ROOT, 'README.md'), 'utf8')
)
const exampleOutput = /console\.log\(.*\) \/\/ (.*)$/m.exec(firstExample)[1]

let count = 0
/** An empty folder. */
const emptyFolder = name => {
  const folder = path.join(work, `${++count}-${name.replace(/\W+/g, '-')}`)
  fs.mkdirSync(folder)
  return folder
}

/**
 * What runs commands on a machine without Rust and a compiler: PATH has Node.js, a shell and what
 * the advice of errors uses, and the home directory and all caches are empty.
 */
function machine({
  node = process.execPath,
  npm = MANAGERS.npm.script,
  yarn = MANAGERS['yarn 1'].script,
  environment = {}
} = {}) {
  const home = emptyFolder('home')
  const bin = path.join(home, 'bin')
  fs.mkdirSync(bin)
  for (const command of ['sh', 'rm'])
    fs.symlinkSync(
      fs.realpathSync(execFileSync('which', [command]).toString().trim()),
      path.join(bin, command)
    )
  fs.symlinkSync(node, path.join(bin, 'node'))
  const scripts = { npm, pnpm: MANAGERS.pnpm.script, yarn }
  for (const [name, script] of Object.entries(scripts)) {
    fs.writeFileSync(path.join(bin, name), `#!/bin/sh\nexec node ${script} "$@"\n`, { mode: 0o755 })
  }
  const env = {
    PATH: bin,
    HOME: home,
    CI: 'true',
    npm_config_registry: registry.url,
    npm_config_audit: 'false',
    npm_config_fund: 'false',
    npm_config_update_notifier: 'false',
    YARN_CACHE_FOLDER: path.join(home, 'yarn'),
    ...environment
  }
  return {
    npm,
    libc: node === process.execPath ? nameOfTarget().split('-')[2] : 'musl',
    /** Runs a command in a project: what it printed, on both streams, and its status. */
    run(project, command, args) {
      try {
        const text = execFileSync(command, args, {
          cwd: project,
          env,
          encoding: 'utf8',
          stdio: ['ignore', 'pipe', 'pipe']
        })
        return { status: 0, text }
      } catch (error) {
        return { status: error.status ?? error.code, text: `${error.stdout}${error.stderr}` }
      }
    }
  }
}

/** An empty project of a package manager's. */
function emptyProject(name) {
  const project = emptyFolder(name)
  const files = {
    'package.json': JSON.stringify({ name: 'project', private: true }),
    'hello.mjs': firstExample,
    ...MANAGERS[name]?.files?.(registry.url)
  }
  for (const [file, text] of Object.entries(files)) fs.writeFileSync(path.join(project, file), text)
  return project
}

/** Runs a package manager, which must succeed. */
function manage(on, project, name, args) {
  const script = name === 'npm' ? on.npm : MANAGERS[name].script
  const { status, text } = on.run(project, 'node', [script, ...args])
  assert.equal(status, 0, text)
}

/** Runs the first example of the README. */
function runExample(on, project, name = 'npm') {
  const { script, run } = MANAGERS[name]
  const args = run ? [script, ...run, 'hello.mjs'] : ['hello.mjs']
  return on.run(project, 'node', args)
}

function assertExample(on, project, name) {
  const { status, text } = runExample(on, project, name)
  assert.equal(status, 0, text)
  assert.equal(text.trim(), exampleOutput)
}

/** Loading fails, with a message that has these parts, and its first advice mends it. */
function assertMended(on, project, name, parts) {
  const { status, text } = runExample(on, project, name)
  assert.equal(status, 1, text)
  for (const part of [/ERR_HOSTMAP_LOAD_FAILED/, ...parts]) assert.match(text, part)
  const [, command] = /^ {2}1\. [^`]*`([^`]+)`/m.exec(text)
  const mended = on.run(project, 'sh', ['-c', command])
  assert.equal(mended.status, 0, `${command}\n${mended.text}`)
  assertExample(on, project, name)
  return command
}

/** The targets whose packages are in a project, wherever its package manager has put them. */
function installedTargets(project) {
  const found = new Set()
  for (const file of fs.readdirSync(project, { recursive: true })) {
    const name = /wasm-hostmap\.(linux-[\w-]+)\.node$/.exec(file)?.[1]
    if (name !== undefined) found.add(name)
  }
  return [...found].sort()
}

/** The targets that a package manager installs on a machine. */
const expectedTargets = (on, { ignoresLibc } = {}) =>
  [...manifests.TARGETS.keys()]
    .filter(name => name.startsWith(`linux-${process.arch}-`))
    .filter(name => ignoresLibc || name.endsWith(on.libc))
    .sort()

/** Publishes as a release does. Gives what that prints. */
const publish = () =>
  execFileSync(
    process.execPath,
    [path.join(ROOT, 'scripts/packages/publish.mjs'), packages, ...registry.publishing],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }
  )

const packages = tarballs()
const registry = await startRegistry(path.join(work, 'registry'))
after(async () => {
  await registry.stop()
  fs.rmSync(work, { recursive: true, force: true })
  printTimes()
})

const published = publish()

const check = (name, body, more = {}) => {
  const isLeftOut = !new RegExp(options.only).test(name) || (options.times && !more.isTimed)
  if (!isLeftOut) test(name, body)
}

const times = []

/** Installs into an empty project and runs the example, with the time of both. */
function tryIn(on, name, label) {
  const project = emptyProject(name)
  const started = performance.now()
  manage(on, project, name, [...MANAGERS[name].add, 'wasm-hostmap'])
  const installed = performance.now()
  assertExample(on, project, name)
  const seconds = [installed - started, performance.now() - installed].map(ms => ms / 1000)
  times.push([label, ...seconds])
  assert.deepEqual(installedTargets(project), expectedTargets(on, MANAGERS[name]))
  return project
}

check('publishes packages with binaries first, and nothing twice', () => {
  const names = [...published.matchAll(/^(\S+)@\S+ is published$/gm)].map(([, name]) => name)
  assert.equal(names.length, 5, published)
  assert.equal(names.at(-1), 'wasm-hostmap')
  const again = publish()
  for (const name of names)
    assert.match(again, new RegExp(`^${name}@\\S+ is published already$`, 'm'))
})

for (const name of Object.keys(MANAGERS)) {
  check(
    `${name} installs the one package for this machine, and the example runs`,
    () => {
      const on = machine()
      for (const command of ['cargo', 'cc', 'gcc', 'ld'])
        assert.equal(on.run(work, command, ['--version']).status, 'ENOENT', command)
      tryIn(on, name, `${name}, ${on.libc}`)
    },
    { isTimed: true }
  )
}

check(
  'npm installs the one package for musl, and the example runs',
  async t => {
    let found
    try {
      found = muslNode()
    } catch (error) {
      if (!(error instanceof NotToBeHad)) throw error
      t.skip(error.message)
      return
    }
    // npm believes /usr/bin/ldd, which is of this machine's own C library.
    const on = machine({ ...found, environment: { npm_config_libc: 'musl' } })
    tryIn(on, 'npm', 'npm, musl')
    await t.test('and what was installed for glibc says so, and what to do', () => {
      const project = emptyProject('npm')
      manage(on, project, 'npm', ['install', '--libc=glibc', 'wasm-hostmap'])
      const parts = [/this is linux-x64-musl, and what is installed is for linux-x64-gnu/]
      assertMended(on, project, 'npm', parts)
    })
    await t.test('and elsewhere it can be installed for musl', () => {
      const project = emptyProject('npm')
      const args = ['install', '--os=linux', '--cpu=x64', '--libc=musl', 'wasm-hostmap']
      manage(machine(), project, 'npm', args)
      assertExample(on, project, 'npm')
    })
  },
  { isTimed: true }
)

check('an installed package works by require and by import, with its command and types', () => {
  const on = machine()
  const project = emptyProject('npm')
  manage(on, project, 'npm', ['install', 'wasm-hostmap'])
  const identity = `import { createRequire } from 'node:module'
    import assert from 'node:assert'
    const require = createRequire(import.meta.url)
    const subpaths = Object.keys(require('wasm-hostmap/package.json').exports)
    for (const subpath of subpaths.filter(name => !name.endsWith('.json'))) {
      const from = 'wasm-hostmap' + subpath.slice(1)
      const [imported, required] = [await import(from), require(from)]
      assert(Object.keys(required).length > 0, from)
      for (const name of Object.keys(required)) assert.equal(imported[name], required[name])
    }`
  fs.writeFileSync(path.join(project, 'identity.mjs'), identity)
  const { status, text } = on.run(project, 'node', ['identity.mjs'])
  assert.equal(status, 0, text)
  const command = path.join(project, 'node_modules/.bin/wasm-hostmap')
  assert.equal(on.run(project, 'node', [command, '--version']).text.trim(), version)
  const installed = path.join(project, 'node_modules/wasm-hostmap')
  execFileSync(process.execPath, [path.join(ROOT, '__test__/types/check.mjs'), installed], {
    stdio: ['ignore', 'ignore', 'inherit']
  })
  const { scripts, optionalDependencies } = JSON.parse(
    fs.readFileSync(path.join(installed, 'package.json'), 'utf8')
  )
  assert.equal(scripts, undefined)
  assert.deepEqual(new Set(Object.values(optionalDependencies)), new Set([version]))
})

for (const [name, { withoutScripts }] of Object.entries(MANAGERS)) {
  check(`${name} without scripts installs what works`, () => {
    const on = machine()
    const project = emptyProject(name)
    manage(on, project, name, [...withoutScripts, 'wasm-hostmap'])
    assertExample(on, project, name)
  })
}

for (const [name, { withoutOptional }] of Object.entries(MANAGERS)) {
  if (withoutOptional === undefined) continue
  check(`${name} without optional dependencies: the error says so, and its advice mends it`, () => {
    const on = machine()
    const project = emptyProject(name)
    manage(on, project, name, [...withoutOptional, 'wasm-hostmap'])
    assert.deepEqual(installedTargets(project), [])
    assertMended(on, project, name, [
      /@wasm-hostmap\/linux-\w+-\w+, which has the binary for this machine, is not installed/,
      /optional dependencies were left out/
    ])
  })
}

const elsewhere = ['--os=darwin', '--cpu=arm64']

check('npm with a lock file that was made elsewhere, and whole, installs what works', () => {
  const on = machine()
  const project = emptyProject('npm')
  manage(on, project, 'npm', ['install', ...elsewhere, 'wasm-hostmap'])
  fs.rmSync(path.join(project, 'node_modules'), { recursive: true })
  manage(on, project, 'npm', ['ci'])
  assertExample(on, project, 'npm')
})

check(
  'npm with a lock file that lacks packages: the error says so, and its advice mends it',
  () => {
    const on = machine({ npm: OLD_NPM })
    const project = emptyProject('npm')
    manage(on, project, 'npm', ['install', ...elsewhere, 'wasm-hostmap'])
    // A defect of npm's until 11: a lock file that is made where node_modules is already there has
    // only what is in it.
    fs.rmSync(path.join(project, 'package-lock.json'))
    manage(on, project, 'npm', ['install', ...elsewhere])
    const lock = fs.readFileSync(path.join(project, 'package-lock.json'), 'utf8')
    assert.doesNotMatch(lock, /node_modules\/@wasm-hostmap/)
    fs.rmSync(path.join(project, 'node_modules'), { recursive: true })
    manage(on, project, 'npm', ['ci'])
    assert.deepEqual(installedTargets(project), [])
    assertMended(on, project, 'npm', [
      /this is linux-\S+, and \S+package-lock\.json does not name @wasm-hostmap\/linux-/
    ])
  }
)

check('node_modules from another processor: the error says so, and its advice mends it', () => {
  const on = machine()
  const project = emptyProject('npm')
  const cpu = process.arch === 'x64' ? 'arm64' : 'x64'
  manage(on, project, 'npm', ['install', `--cpu=${cpu}`, 'wasm-hostmap'])
  assertMended(on, project, 'npm', [
    new RegExp(
      `what is installed is for linux-${cpu}-${on.libc}: node_modules was made for another`
    )
  ])
})

for (const [name, { filesFor, files }] of Object.entries(MANAGERS)) {
  if (filesFor === undefined) continue
  check(`${name} for another processor: the error says so, and its advice mends it`, () => {
    const on = machine({ yarn: MANAGERS[name].script })
    const project = emptyProject(name)
    const cpu = process.arch === 'x64' ? 'arm64' : 'x64'
    const put = settings => {
      for (const [file, text] of Object.entries(settings))
        fs.writeFileSync(path.join(project, file), text)
    }
    put(filesFor(cpu, registry.url))
    manage(on, project, name, [...MANAGERS[name].add, 'wasm-hostmap'])
    const { 'yarn.lock': _, ...settings } = files(registry.url)
    put(settings)
    // Plug and Play has no folder that could be looked at.
    const installed = name.endsWith('Play')
      ? 'is not installed'
      : `what is installed is for linux-${cpu}-${on.libc}`
    assertMended(on, project, name, [new RegExp(installed)])
  })
}

function printTimes() {
  if (times.length === 0) return
  const table = new Table({
    head: ['seconds', 'install', 'example', 'both', `under ${MOST_SECONDS}`],
    colAligns: ['left', 'right', 'right', 'right', 'left'],
    style: { head: [], border: [] }
  })
  for (const [label, install, example] of times) {
    const both = install + example
    table.push([
      label,
      install.toFixed(1),
      example.toFixed(1),
      both.toFixed(1),
      both < MOST_SECONDS ? 'yes' : 'no'
    ])
  }
  console.log(String(table))
}
