// How long a user waits who installs the package and runs the README's first example, on the
// machine and the Node.js that this runs on: from a registry on loopback, without a compiler.
//
//   node install-here.mjs FOLDER ROUNDS
//
// FOLDER has what install.mjs puts there: storage/, npm/ and first.mjs. It gets times.json, in
// seconds: the best of so many rounds, since other processes only add. To tell the machine from the
// package, what else is measured is `node -e 0` and the install of a small package.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'

import { startRegistry } from '../packages/registry.mjs'
import { SMALL_PACKAGE } from './install.mjs'

const [folder, rounds] = process.argv.slice(2)
const example = fs.readFileSync(path.join(folder, 'first.mjs'), 'utf8')
const [, printed] = /console\.log\(.*\) \/\/ (.*)$/m.exec(example)
const npm = path.join(folder, 'npm/bin/npm-cli.js')
const work = fs.mkdtempSync(path.join(os.tmpdir(), 'hostmap-install-'))

/** Seconds that a command takes, by this Node.js; and what it prints. It must succeed. */
function timed(args, cwd, env) {
  const started = process.hrtime.bigint()
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd,
    env,
    encoding: 'utf8'
  })
  const seconds = Number(process.hrtime.bigint() - started) / 1e9
  assert.equal(status, 0, `${args.join(' ')}: ${stdout}${stderr}`)
  return { seconds, stdout: stdout.trim() }
}

/** A project without dependencies, and an environment whose caches are empty. */
function fresh(url) {
  const home = fs.mkdtempSync(path.join(work, 'home-'))
  const project = path.join(home, 'project')
  fs.mkdirSync(project)
  fs.writeFileSync(path.join(project, 'package.json'), '{ "private": true }\n')
  const env = {
    // npm's scripts start what is named node.
    PATH: path.dirname(process.execPath),
    HOME: home,
    CI: 'true',
    npm_config_registry: url,
    npm_config_audit: 'false',
    npm_config_fund: 'false',
    npm_config_update_notifier: 'false',
    ...(process.env.npm_config_libc && { npm_config_libc: process.env.npm_config_libc })
  }
  return { project, env }
}

function round(url) {
  const ours = fresh(url)
  const node = timed(['-e', '0'], ours.project, ours.env).seconds
  const install = timed([npm, 'install', 'wasm-hostmap'], ours.project, ours.env).seconds
  fs.writeFileSync(path.join(ours.project, 'first.mjs'), example)
  const ran = timed(['first.mjs'], ours.project, ours.env)
  assert.equal(ran.stdout, printed)
  // After ours: what npm and the registry do for the first time is not to be counted for us.
  const other = fresh(url)
  const small = timed([npm, 'install', SMALL_PACKAGE], other.project, other.env).seconds
  return { node, small, install, example: ran.seconds }
}

const registry = await startRegistry(folder)
try {
  const { project, env } = fresh(registry.url)
  // Read once, so that the files of Node.js and npm are in memory.
  timed([npm, '--version'], project, env)
  const all = []
  for (let at = 0; at < Number(rounds); at++) all.push(round(registry.url))
  const names = Object.keys(all[0])
  const best = name => Math.round(Math.min(...all.map(seconds => seconds[name])) * 1000) / 1000
  const seconds = Object.fromEntries(names.map(name => [name, best(name)]))
  const glibc = process.report.getReport().header.glibcVersionRuntime
  const result = {
    kernel: os.release(),
    arch: process.arch,
    libc: glibc ? `glibc ${glibc}` : 'musl',
    version: process.versions.node,
    rounds: Number(rounds),
    seconds
  }
  fs.writeFileSync(path.join(folder, 'times.json'), JSON.stringify(result))
  console.table(all)
} finally {
  await registry.stop()
  fs.rmSync(work, { recursive: true, force: true })
}
