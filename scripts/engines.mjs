// Tests the adapters against the real engines, which engines/package.json pins.
//
//   npm run test:engines                     the quick tests, on this Node.js
//   npm run test:engines -- sqlite arrow     those of these files
//   npm run test:engines -- --slow           the slow tests too
//   npm run test:engines -- --node 24        on another Node.js: a major version, or a path
//   npm run test:engines -- --latest         against the newest versions, in a folder of their own
//
// Installs the engines if node_modules is not as the lock file says.

import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import Table from 'cli-table3'
import { isInstalled } from './installed.mjs'
import { RELEASES, nodeOf, versionOf } from './nodes.mjs'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const ENGINES = path.join(ROOT, 'engines')
const LATEST = path.join(ROOT, '.engines-latest')
const SELF = 'wasm-hostmap'
const NOT_COPIED = new Set(['node_modules', 'data', 'package.json', 'package-lock.json'])
// No test may hang for longer. A slow one makes and reads gigabytes.
const TIMEOUT_MS = 15 * 60_000

const readJson = (...file) => JSON.parse(fs.readFileSync(path.join(...file), 'utf8'))

const { values: options, positionals: names } = readArguments()

function readArguments() {
  try {
    return parseArgs({
      options: {
        latest: { type: 'boolean', default: false },
        slow: { type: 'boolean', default: false },
        node: { type: 'string' }
      },
      allowPositionals: true
    })
  } catch (error) {
    console.error(error.message)
    process.exit(2)
  }
}

/**
 * npm in a folder. Without scripts, since engines are files only. @sqlite.org/sqlite-wasm asks for
 * Node.js 22 and runs on 20. --prefix and not the working directory alone: npm may be running us,
 * and its environment names the package's own directory.
 */
function npm(directory, ...args) {
  const flags = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefix', directory]
  execFileSync('npm', [...args, ...flags], {
    cwd: directory,
    env: { ...process.env, npm_config_engine_strict: 'false' },
    stdio: ['ignore', 'ignore', 'inherit']
  })
}

/** Makes `import 'wasm-hostmap'` in a folder mean this working copy. */
function link(directory) {
  const place = path.join(directory, 'node_modules', SELF)
  if (fs.existsSync(place) && fs.realpathSync(place) === fs.realpathSync(ROOT)) return
  fs.rmSync(place, { recursive: true, force: true })
  fs.symlinkSync(path.relative(path.dirname(place), ROOT), place)
}

function install() {
  if (!isInstalled(ENGINES)) {
    console.log('Installing the engines into engines/node_modules')
    npm(ENGINES, 'ci')
  }
  link(ENGINES)
}

/**
 * The newest version of an engine: the one with the tag `latest`. Some registries give that tag to
 * no version with a hyphen, such as all of @sqlite.org/sqlite-wasm: where what we pin is younger,
 * it is the version that was published last.
 */
function newestOf(engine, pinned) {
  const answer = execFileSync('npm', ['view', engine, 'dist-tags.latest', 'time', '--json'])
  const { 'dist-tags.latest': latest, time } = JSON.parse(answer)
  const whenOf = version => Date.parse(time[version])
  if (whenOf(latest) >= whenOf(pinned)) return latest
  return Object.keys(time)
    .filter(version => /^\d/.test(version))
    .reduce((a, b) => (whenOf(b) > whenOf(a) ? b : a))
}

/** A copy of the bench with the newest version of each engine. */
function installLatest(engines) {
  console.log('Installing the newest engines into .engines-latest')
  fs.rmSync(LATEST, { recursive: true, force: true })
  fs.mkdirSync(LATEST)
  for (const name of fs.readdirSync(ENGINES).filter(each => !NOT_COPIED.has(each)))
    fs.cpSync(path.join(ENGINES, name), path.join(LATEST, name), { recursive: true })
  const { name, type } = readJson(ENGINES, 'package.json')
  const manifest = { name: `${name}-latest`, private: true, type }
  fs.writeFileSync(path.join(LATEST, 'package.json'), JSON.stringify(manifest))
  const newest = engines.map(([engine, pinned]) => `${engine}@${newestOf(engine, pinned)}`)
  npm(LATEST, 'install', '--save-exact', ...newest)
  link(LATEST)
}

/** The test files in a folder: those that are named, without the slow ones unless asked for. */
function testsIn(directory) {
  const all = fs.readdirSync(directory).filter(file => file.endsWith('.test.mjs'))
  const nameOf = file => file.replace(/([.]slow)?[.]test[.]mjs$/, '')
  const known = new Set(all.map(nameOf))
  const unknown = names.filter(name => !known.has(name))
  if (unknown.length > 0) {
    const there = [...known].sort().join(', ')
    throw new Error(`there are no tests called ${unknown.join(', ')}, but ${there}`)
  }
  const chosen = all
    .filter(file => names.length === 0 || names.includes(nameOf(file)))
    .filter(file => options.slow || !file.endsWith('.slow.test.mjs'))
  const left = names.filter(name => !chosen.some(file => nameOf(file) === name))
  if (left.length > 0) throw new Error(`${left.join(', ')}: slow, pass --slow`)
  return chosen.sort().map(file => path.join(directory, file))
}

/** Whether all tests of these files pass. */
function run(node, files) {
  const flags = ['--test', '--test-concurrency=1', `--test-timeout=${TIMEOUT_MS}`]
  const { status, error } = spawnSync(node, [...flags, '--test-reporter=spec', ...files], {
    cwd: path.dirname(path.dirname(files[0])),
    stdio: ['ignore', 'inherit', 'inherit']
  })
  if (error !== undefined) throw error
  return status === 0
}

/** What a file says, and the files that it imports by a path. */
function textOf(file, seen = new Set()) {
  if (seen.has(file) || !fs.existsSync(file)) return ''
  seen.add(file)
  const text = fs.readFileSync(file, 'utf8')
  const imported = [...text.matchAll(/'(\.{1,2}\/[^']+\.mjs)'/g)].map(match =>
    textOf(path.resolve(path.dirname(file), match[1]), seen)
  )
  return [text, ...imported].join('\n')
}

/** Runs the tests against the newest engines, one file after another. Whether all pass. */
function runLatest(node) {
  const pinned = readJson(ENGINES, 'package.json').dependencies
  const engines = Object.entries(pinned).filter(([name]) => name !== SELF)
  installLatest(engines)
  const newest = readJson(LATEST, 'package.json').dependencies
  const files = testsIn(path.join(LATEST, 'test')).map(file => {
    console.log(`\n${path.relative(ROOT, file)}`)
    return { name: path.basename(file), text: textOf(file), passed: run(node, [file]) }
  })

  const table = new Table({
    head: ['engine', 'pinned', 'newest', 'outcome'],
    style: { head: [], border: [] }
  })
  for (const [engine, version] of engines) {
    const own = files.filter(({ text }) => new RegExp(`['"]${engine}(['"]|/)`).test(text))
    const failed = own.filter(({ passed }) => !passed).map(({ name }) => name)
    const outcome = own.length === 0 ? 'no test names it' : 'passed'
    table.push([engine, version, newest[engine], failed.join(', ') || outcome])
  }
  console.log(`\nNode.js ${versionOf(node)}\n${table}`)
  const passed = files.every(file => file.passed)
  // What failed stays, to be looked at.
  if (passed) fs.rmSync(LATEST, { recursive: true, force: true })
  return passed
}

function main() {
  const files = testsIn(path.join(ENGINES, 'test'))
  const node = options.node === undefined ? process.execPath : nodeAt(options.node)
  install()
  const passed = options.latest ? runLatest(node) : run(node, files)
  if (!passed) process.exitCode = 1
}

function nodeAt(which) {
  if (RELEASES.has(which)) return nodeOf(which)
  const node = path.resolve(which)
  if (!fs.existsSync(node)) {
    const majors = [...RELEASES.keys()].join(', ')
    throw new Error(`--node takes ${majors}, or the path of a Node.js, not ${which}`)
  }
  return node
}

try {
  main()
} catch (error) {
  console.error(error.message)
  process.exitCode = 2
}
